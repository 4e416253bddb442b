"""A slot-bound estimate of a TPC stage from its program, where no kernel schedule is at hand.

Counts the operations of each output's expression per vector of 64 lanes, at the rate the real compiler reaches with
enough vectors in flight (machine/tpc.py); rows that a softmax keeps are assumed to fit local memory. Every point of the
index space is counted: skipping absent blocks is the kernel's own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from tpcgen.machine import Machine
from tpcgen.machine.tpc import CONVERT, FUNCTIONS, LANE_REDUCTION, SIMPLE, TpcCost, Words
from tpcgen.partition.plan import TpcStage
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import Value, evaluate

LANES = 64
"""f32 lanes of a vector: arithmetic is in f32 whatever the storage dtype."""


def estimate(stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> TpcCost:
    """`values` binds every size and attribute of the op."""
    counter = _Counter(stage, values)
    bundles = sum(counter.equation(e) for e in stage.program.body if isinstance(e, ir.Equation))
    accesses = sum(
        counter.accesses(t, machine.tpc.vector_bytes) for t in (*stage.program.inputs, *stage.program.outputs)
    )
    return TpcCost(bundles, accesses, counter.members(), "slot estimate")


@dataclass(frozen=True)
class _Counter:
    stage: TpcStage
    values: Mapping[str, Value]

    def extent(self, index: str) -> int:
        r = self.stage.program.range_of(index)
        return max(int(evaluate(r.high, self.values)) - int(evaluate(r.low, self.values)), 0)

    def members(self) -> int:
        """Index-space members: one per row, one per vector of rows where the lane is a row."""
        first = self.stage.program.body[0]
        assert isinstance(first, ir.Equation)
        rows = [i for i in first.indices if not _binds(first, i)]
        return prod(ceil(self.extent(i) / LANES) if i == self.stage.lane else self.extent(i) for i in rows)

    def vectors(self, indices: frozenset[str]) -> float:
        """Vectors it takes to visit all points of some indices once."""
        return prod(ceil(self.extent(i) / LANES) if i == self.stage.lane else self.extent(i) for i in indices)

    def accesses(self, tensor: ir.Tensor, vector_bytes: int) -> float:
        shape = [int(evaluate(e, self.values)) for e in tensor.shape] or [1]
        return prod(shape[:-1]) * ceil(shape[-1] * tensor.dtype.size / vector_bytes)

    def equation(self, e: ir.Equation) -> float:
        """Bundles of one output: a slot holds one operation a cycle, so the busiest slot decides."""
        words = _Words()
        self._visit(e.value, frozenset(e.indices), words, {})
        if e.domain is not None:
            self._visit(e.domain, frozenset(e.indices), words, {})
            words.add(SIMPLE, self.vectors(frozenset(e.indices)))
        target = self.stage.program.tensor(e.target)
        points = self.vectors(frozenset(e.indices))
        if target.dtype is DType.BF16:
            words.add(CONVERT, points)
        return max(words.vpu, words.load, points)

    def _visit(self, e: ir.Expr, around: frozenset[str], words: _Words, seen: dict[ir.Expr, None]) -> None:
        """Adds what evaluating `e` at every point of the indices it depends on costs, each subexpression once."""
        if e in seen:
            return
        seen[e] = None
        if isinstance(e, ir.Reduce):
            self._reduce(e, around, words, seen)
            return
        for child in ir.children(e):
            self._visit(child, around, words, seen)
        count = self.vectors(ir.free_indices(e))
        match e:
            case ir.Read():
                words.add(Words(0, 1), count)
                if e.dtype is DType.BF16:
                    words.add(CONVERT, count)
            case ir.Binary(operator="/"):
                words.add(FUNCTIONS["/"], count)
            case ir.Call():
                words.add(FUNCTIONS.get(e.function, SIMPLE), count)
            case ir.Binary() | ir.Unary() | ir.Cast() if ir.free_indices(e):
                words.add(SIMPLE, count)
            case _:
                return

    def _reduce(self, e: ir.Reduce, around: frozenset[str], words: _Words, seen: dict[ir.Expr, None]) -> None:
        for child in ir.children(e):
            self._visit(child, around | set(e.indices), words, seen)
        points = self.vectors(ir.free_indices(e) | set(e.indices))
        outer = ir.free_indices(e) - set(e.indices)
        rows = self.vectors(outer)
        across = self.stage.lane in e.indices
        passes = 1
        if e.domain is not None:
            words.add(SIMPLE, points)
        if e.kind in ("softmax", "logsumexp"):
            words.add(SIMPLE, 3 * points)
            words.add(FUNCTIONS["exp"], points)
            words.add(FUNCTIONS["recip"], rows)
            passes = 2
        else:
            words.add(SIMPLE, points)
        if e.kind == "softmax":
            words.add(SIMPLE, points)
        if across:
            words.add(LANE_REDUCTION, passes * rows)


@dataclass
class _Words:
    vpu: float = 0
    load: float = 0

    def add(self, words: Words, times: float) -> None:
        self.vpu += words.vpu * times
        self.load += words.load * times


def _binds(e: ir.Equation, index: str) -> bool:
    sides = [s for s in (e.value, e.domain) if s is not None]
    return any(isinstance(x, ir.Reduce) and index in x.indices for s in sides for x in ir.walk(s))
