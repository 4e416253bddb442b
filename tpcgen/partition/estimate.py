"""A slot-bound estimate of a TPC stage from its program, where no kernel schedule is at hand.

Counts the operations of each output's expression per vector of 64 lanes, at the rate the real compiler reaches with
enough vectors in flight (machine/tpc.py); rows that a softmax keeps are assumed to fit local memory. Every point of the
index space is counted: skipping absent blocks is the kernel's own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, prod

from tpcgen.machine import Machine
from tpcgen.machine.tpc import CONVERT, FUNCTIONS, LANE_REDUCTION, SIMPLE, TpcCost, Words
from tpcgen.partition.plan import TpcStage
from tpcgen.program import affine, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import Value, evaluate
from tpcgen.rewrite.band import find_band
from tpcgen.rewrite.diagonal import Band
from tpcgen.rewrite.split_contractions import matmul_of

LANES = 64
"""f32 lanes of a vector: arithmetic is in f32 whatever the storage dtype."""


def estimate(stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> TpcCost:
    """`values` binds every size and attribute of the op."""
    counter = _Counter(stage, values)
    bundles = sum(counter.bundles(s) for s in stage.program.body) * counter.visited()[1]
    accesses = sum(
        counter.accesses(t, machine.tpc.vector_bytes) for t in (*stage.program.inputs, *stage.program.outputs)
    )
    return TpcCost(bundles, accesses, counter.members(), "slot estimate")


def at_least(stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> TpcCost:
    """What no kernel of the stage can do without: one bundle and one access per vector of its outputs; of attention as
    a whole, one bundle per two vectors of products.
    """
    counter = _Counter(stage, values)
    stored = sum(counter.accesses(t, machine.tpc.vector_bytes) for t in stage.program.outputs)
    products = sum(counter.products(s) for s in stage.program.body) / 2 * counter.visited()[0] if stage.tile else 0.0
    return TpcCost(max(stored, products), stored, counter.members(), "lower bound")


@dataclass(frozen=True)
class _Counter:
    stage: TpcStage
    values: Mapping[str, Value]
    extents: dict[str, int] = field(default_factory=dict[str, int])
    """Of the indices asked for so far."""

    def extent(self, index: str) -> int:
        if index not in self.extents:
            r = self.stage.program.range_of(index)
            self.extents[index] = max(int(evaluate(r.high, self.values)) - int(evaluate(r.low, self.values)), 0)
        return self.extents[index]

    def members(self) -> int:
        """Index-space members: one per row, one per vector of rows where the lane is a row."""
        match self.stage.program.body[-1 if self.stage.tile else 0]:
            case ir.Equation() as first:
                rows = [i for i in first.indices if not _binds(first, i)]
            case ir.Scan() as scan:
                rows = [i for i in scan.states[0].indices if not any(_binds(s, i) for s in scan.body)]
        return prod(ceil(self.extent(i) / LANES) if i == self.stage.lane else self.extent(i) for i in rows)

    def visited(self) -> tuple[float, float]:
        """Shares of the points of an attention's square: those of rows whose band is inside of it, and about those that
        blocks of two vectors of queries visit. 1 for any other stage.
        """
        band = find_band(self.stage.program) if self.stage.tile else None
        if not isinstance(band, Band) or band.low is None or band.high is None:
            return 1.0, 1.0
        low, high = (int(evaluate(affine.expression(side), self.values)) for side in (band.low, band.high))
        rows, columns, width = self.extent(band.q), self.extent(band.k), max(high - low + 1, 0)
        inside = max(min(rows - 1, columns - 1 - high) - max(0, -low) + 1, 0)
        return inside * width / max(rows * columns, 1), min((width + 2 * LANES) / max(columns, 1), 1.0)

    def products(self, s: ir.Statement) -> float:
        """Vectors of products that a statement adds up, where it is a contraction."""
        found = matmul_of(s, self.stage.program) if isinstance(s, ir.Equation) else None
        return (
            0.0
            if found is None
            else self.vectors(frozenset({*found.batch, *found.rows, *found.columns, *found.summed}))
        )

    def vectors(self, indices: frozenset[str]) -> float:
        """Vectors it takes to visit all points of some indices once."""
        return prod(ceil(self.extent(i) / LANES) if i == self.stage.lane else self.extent(i) for i in indices)

    def accesses(self, tensor: ir.Tensor, vector_bytes: int) -> float:
        shape = [int(evaluate(e, self.values)) for e in tensor.shape] or [1]
        return prod(shape[:-1]) * ceil(shape[-1] * tensor.dtype.size / vector_bytes)

    def bundles(self, s: ir.Statement) -> float:
        """Of an output or of a scan: a slot holds one operation a cycle, so the busiest slot decides."""
        match s:
            case ir.Equation():
                dtype = self.stage.program.tensor(s.target).dtype
                return self._stored(s.value, s.domain, frozenset(s.indices), dtype)
            case ir.Scan():
                return sum(self._step(x, s.index) for x in s.body)

    def _step(self, x: ir.Equation | ir.Update, index: str) -> float:
        name = x.target if isinstance(x, ir.Equation) else x.state
        return self._stored(x.value, x.domain, frozenset({*x.indices, index}), self.stage.program.tensor(name).dtype)

    def _stored(self, value: ir.Expr, domain: ir.Expr | None, indices: frozenset[str], dtype: DType) -> float:
        words = _Words()
        self._visit(value, indices, words, {})
        points = self.vectors(indices)
        if domain is not None:
            self._visit(domain, indices, words, {})
            words.add(SIMPLE, points)
        if dtype in (DType.BF16, DType.F16):
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
                if e.dtype in (DType.BF16, DType.F16):
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


def _binds(e: ir.Equation | ir.Update, index: str) -> bool:
    sides = [s for s in (e.value, e.domain) if s is not None]
    return any(isinstance(x, ir.Reduce) and index in x.indices for s in sides for x in ir.walk(s))
