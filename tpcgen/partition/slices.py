"""What a plan would take if the graph compiler cut its nodes into slices and pipelined them through SRAM.

An assumption, never the price of a plan: tpcgen emits one node per stage. The vendor's graph compiler bundles MME and
TPC nodes, slices them along outer axes and keeps the slices in SRAM (IG3 synapse graph_compiler/brain); 65 % of the TPC
time of a published gated delta rule graph overlaps other engines (1Cat csrc/flashqla_hpu RESULTS). Whether it does so
for a graph of ours, only a device can say. `pipelined` gives what there is to gain if it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from math import ceil, prod

from tpcgen.machine import Machine
from tpcgen.machine.dma import copy
from tpcgen.machine.mme import mme_cost
from tpcgen.machine.tpc import TpcCost, tpc_time
from tpcgen.partition.groups import bound
from tpcgen.partition.plan import Buffer, CopyStage, MmeStage, MoveStage, Plan, Stage, TpcStage
from tpcgen.partition.price import TpcCostFunction, matmul_of, touched, waits, written
from tpcgen.partition.simulate import DeadlockError, Node, Span, busy, makespan, overlap, simulate
from tpcgen.program import ir
from tpcgen.program.sizes import Binding, Value, evaluate

COUNTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of slices tried."""


@dataclass(frozen=True, slots=True)
class Sliced:
    """`count` equal slices of every stage with so many along its outer axes; `names` of the nodes, `hbm` in bytes."""

    count: int
    names: tuple[str, ...]
    spans: tuple[Span, ...]
    hbm: int

    @property
    def seconds(self) -> float:
        return makespan(self.spans)

    @property
    def busy(self) -> dict[str, float]:
        return busy(self.spans)

    @property
    def overlap(self) -> float:
        return overlap(self.spans)


def pipelined(plan: Plan, machine: Machine, binding: Binding, tpc_cost: TpcCostFunction) -> Sliced | None:
    """The fastest of `COUNTS`, None where no stage can be cut or the cuts wait for each other."""
    costs = {s.name: tpc_cost(s, machine, binding.values) for s in plan.stages if isinstance(s, TpcStage)}
    found = [_Cut(plan, machine, binding.values, costs, count).run() for count in COUNTS]
    return min((s for s in found if s is not None), key=lambda s: s.seconds, default=None)


@dataclass(frozen=True)
class _Cut:
    """A plan in `count` slices along the outermost loops of each stage."""

    plan: Plan
    machine: Machine
    values: Mapping[str, Value]
    costs: Mapping[str, TpcCost]
    count: int

    def run(self) -> Sliced | None:
        """Tasks in the order of slices, then of stages: what an engine prefers when several are ready."""
        stages = self.plan.stages
        if not any(map(self._cut, range(len(stages)))):
            return None
        tasks = sorted((i, s) for s in range(len(stages)) for i in range(self._parts(s)))
        place = {task: position for position, task in enumerate(tasks)}
        pieces = [[self._node(s, first) for first in (True, False)] for s in range(len(stages))]
        nodes: list[Node] = []
        for i, s in tasks:
            after = {place[j, w] for w in self._before[s] for j in self._needed(w, s, i)}
            if i >= 2:
                after |= {place[i - 2, reader] for reader in self._pacing[s]}
            name = f"{stages[s].name}.{i}" if self._cut(s) else stages[s].name
            nodes.append(replace(pieces[s][i > 0], name=name, after=tuple(sorted(after))))
        try:
            spans = simulate(nodes, self.machine.memory.hbm_rate)
        except DeadlockError:
            return None  # with two slices held, a stage that needs another one whole waits for itself
        return Sliced(self.count, tuple(n.name for n in nodes), spans, round(sum(n.hbm for n in nodes)))

    def _parts(self, s: int) -> int:
        return self.count if self._cut(s) else 1

    def _needed(self, producer: int, consumer: int, i: int) -> range:
        """Slices of a producer that slice i of a consumer waits for."""
        return range(i, i + 1) if self._aligned[producer, consumer] else range(self._parts(producer))

    @cached_property
    def _before(self) -> tuple[tuple[int, ...], ...]:
        return waits(self.plan)

    @cached_property
    def _aligned(self) -> Mapping[tuple[int, int], bool]:
        """Of each producer and consumer: whether slice i of the one needs slice i of the other only."""
        found: dict[tuple[int, int], bool] = {}
        for consumer, before in enumerate(self._before):
            for producer in before:
                between = set(written(self.plan.stages[producer])) & set(touched(self.plan.stages[consumer]))
                found[producer, consumer] = all(self._along(s, b) for b in between for s in (producer, consumer))
        return found

    @cached_property
    def _pacing(self) -> tuple[frozenset[int], ...]:
        """Per stage the readers that must be done with slice i - 2 before it makes slice i: two are held in SRAM."""
        return tuple(
            frozenset(r for b in written(stage) if self._flows(b) and not self._fits(b, 1) for r in self._readers(b))
            for stage in self.plan.stages
        )

    def _readers(self, buffer: str) -> list[int]:
        stages = self.plan.stages
        return [s for s, stage in enumerate(stages) if buffer in touched(stage) and buffer not in written(stage)]

    def _flows(self, buffer: str) -> bool:
        """Slices of it pass from stage to stage: every way from its writer to a reader goes slice by slice."""
        writer = next((s for s, stage in enumerate(self.plan.stages) if buffer in written(stage)), None)
        readers = self._readers(buffer)
        return writer is not None and bool(readers) and all(self._slicewise(writer, r) for r in readers)

    def _slicewise(self, source: int, target: int) -> bool:
        """Every path between two stages that touch has only aligned steps."""
        return all(
            self._aligned[w, target] and (w == source or self._slicewise(source, w))
            for w in self._before[target]
            if w == source or self._reaches(source, w)
        )

    def _reaches(self, source: int, target: int) -> bool:
        return any(w == source or self._reaches(source, w) for w in self._before[target])

    def _cut(self, s: int) -> bool:
        return self._loops(s) is not None

    @cached_property
    def _own_loops(self) -> tuple[tuple[str, ...] | None, ...]:
        """The loops that each stage is cut along: the same for all it writes, None where it stays whole."""
        found: list[tuple[str, ...] | None] = []
        for s, stage in enumerate(self.plan.stages):
            runs = {self._prefix(s, b) for b in written(stage)}
            found.append(runs.pop() if len(runs) == 1 else None)
        return tuple(found)

    def _loops(self, s: int) -> tuple[str, ...] | None:
        return self._own_loops[s]

    def _along(self, s: int, buffer: str) -> bool:
        """A slice of the stage touches the same slice of the buffer."""
        return self._loops(s) is not None and self._prefix(s, buffer) == self._loops(s)

    def _prefix(self, s: int, name: str) -> tuple[str, ...] | None:
        """The slowest loops of a buffer that `count` divides, None where the stage does not run them apart."""
        total = 1
        loops: list[str] = []
        for loop, extent in self._outer(self.plan.stages[s], name):
            total *= extent
            loops += [loop] if extent > 1 else []
            if total % self.count == 0:
                return tuple(loops)
        return None

    def _outer(self, stage: Stage, name: str) -> list[tuple[str, int]]:
        """Loops of a buffer from the slowest on as far as the stage works on one after the other, with extents."""
        buffer = self.plan.buffer(name)
        match stage:
            case MmeStage():
                operand = next(o for o in (stage.out, stage.lhs, stage.rhs) if o.buffer == name)
                extents = {f.name: int(evaluate(f.extent, self.values)) for f in stage.factors}
                loops = [(f, extents[f]) for axis in buffer.order for f in operand.axes[axis]]
                apart = frozenset(stage.batch)
            case TpcStage():
                names = _row_axes(stage.program, name)
                loops = [(n, self._extent(buffer, a)) for n, a in zip(names, buffer.order, strict=True)]
                apart = frozenset(n for n in names if n)
            case CopyStage():
                return []  # its pieces lie along any axis
            case MoveStage():
                loops = [(str(axis), self._extent(buffer, axis)) for axis in buffer.order[:-1]]
                apart = frozenset(n for n, _ in loops)
        return list(takewhile(lambda loop: loop[0] in apart, loops))

    def _extent(self, buffer: Buffer, axis: int) -> int:
        return int(evaluate(buffer.shape[axis], self.values))

    def _node(self, s: int, first: bool) -> Node:
        stage, parts = self.plan.stages[s], self._parts(s)
        launch = self.machine.tpc.launch_seconds
        hbm, sram = self._traffic(s, first)
        local = sram / self.machine.memory.sram_rate
        match stage:
            case MmeStage():
                whole = matmul_of(self.plan, stage, self.values)
                part = replace(whole, batch=ceil(whole.batch / parts))
                return Node(stage.name, "MME", max(mme_cost(self.machine, part).seconds, local), launch, hbm)
            case TpcStage():
                cost = self.costs[stage.name]
                part = TpcCost(cost.bundles / parts, cost.accesses / parts, ceil(cost.members / parts), cost.known_by)
                return Node(stage.name, "TPC", max(tpc_time(self.machine, part).seconds, local), launch, hbm)
            case MoveStage() | CopyStage():
                work = copy(self.machine, ceil(self._bytes(touched(stage)[-1]) / parts))
                return Node(stage.name, "DMA", work.seconds, work.least, work.hbm)

    def _traffic(self, s: int, first: bool) -> tuple[float, float]:
        """HBM and SRAM bytes of a slice. What is not cut along with the stage is read again unless SRAM can hold it."""
        hbm = sram = 0.0
        for name in touched(self.plan.stages[s]):
            cut = self._along(s, name)
            share = self._bytes(name) / (self.count if cut else 1)
            if self._stays(name) or not (cut or first or not self._fits(name, 1)):
                sram += share
            else:
                hbm += share
        return hbm, sram

    def _stays(self, name: str) -> bool:
        """In SRAM between stages: as a whole, or two slices at a time."""
        if self.plan.buffer(name).role is not ir.Role.INTERMEDIATE:
            return False
        return self._fits(name, 1) or (self._flows(name) and self._fits(name, self.count / 2))

    def _fits(self, name: str, parts: float) -> bool:
        """A part of a buffer takes no more than half the SRAM."""
        return self._bytes(name) / parts <= self.machine.memory.sram_bytes // 2

    def _bytes(self, name: str) -> int:
        buffer = self.plan.buffer(name)
        return prod(self._extent(buffer, axis) for axis in buffer.order) * buffer.dtype.size


def _row_axes(program: ir.Program, name: str) -> list[str]:
    """Per axis of a tensor, the row that every equation has there; "" where it is no row, or not the same."""
    equations = [e for e in program.body if isinstance(e, ir.Equation)]
    if not equations:
        return [""] * len(program.tensor(name).shape)  # a scan's steps depend on each other
    rows = frozenset(equations[0].indices).intersection(*(frozenset(e.indices) - bound(e) for e in equations))
    accesses = [tuple(ir.Index(i) for i in e.indices) for e in equations if e.target == name]
    sides = [s for e in equations for s in (e.value, e.domain) if s is not None]
    accesses += [x.indices for s in sides for x in ir.walk(s) if isinstance(x, ir.Read) and x.tensor == name]
    return [_row({a[axis] for a in accesses}, rows) for axis in range(len(program.tensor(name).shape))]


def _row(seen: set[ir.Expr], rows: frozenset[str]) -> str:
    names = {e.name if isinstance(e, ir.Index) and e.name in rows else "" for e in seen}
    return names.pop() if len(names) == 1 else ""
