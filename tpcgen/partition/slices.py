"""What a plan would take if the graph compiler cut its nodes into slices and pipelined them through SRAM.

An assumption, never the price of a plan: tpcgen emits one node per stage. The vendor's graph compiler bundles MME and
TPC nodes, slices them along outer axes and keeps the slices in SRAM (IG3 synapse graph_compiler/brain); 65 % of the TPC
time of a published gated delta rule graph overlaps other engines (1Cat csrc/flashqla_hpu RESULTS). Whether it does so
for a graph of ours, only a device can say. `pipelined` gives what there is to gain if it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, gcd, prod

from tpcgen.machine import Machine
from tpcgen.machine.dma import copy
from tpcgen.machine.mme import mme_cost
from tpcgen.machine.tpc import TpcCost, tpc_time
from tpcgen.partition.groups import bound
from tpcgen.partition.plan import Buffer, MmeStage, Operand, Plan, Stage, TpcStage
from tpcgen.partition.price import TpcCostFunction, matmul_of, touched, waits, written
from tpcgen.partition.simulate import Node, Span, busy, makespan, overlap, simulate
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
    """The fastest of `COUNTS`, None where no stage can be cut."""
    costs = {s.name: tpc_cost(s, machine, binding.values) for s in plan.stages if isinstance(s, TpcStage)}
    cutter = _Cutter(plan, machine, binding.values, costs)
    found = [s for s in (cutter.cut(count) for count in COUNTS) if s is not None]
    return min(found, key=lambda s: s.seconds, default=None)


@dataclass(frozen=True)
class _Cutter:
    plan: Plan
    machine: Machine
    values: Mapping[str, Value]
    costs: Mapping[str, TpcCost]

    def cut(self, count: int) -> Sliced | None:
        """Tasks in the order of slices, then of stages: what an engine prefers when several are ready."""
        stages = self.plan.stages
        parts = [count if self._cuts(s) % count == 0 else 1 for s in stages]
        if all(p == 1 for p in parts):
            return None
        tasks = sorted((i, s) for s, p in enumerate(parts) for i in range(p))
        place = {task: position for position, task in enumerate(tasks)}
        before = waits(self.plan)
        pieces = [
            [self._node(s, p, first, count) for first in (True, False)] for s, p in zip(stages, parts, strict=True)
        ]
        aligned = {(w, s): self._aligned(w, s, parts) for s, b in enumerate(before) for w in b}
        nodes: list[Node] = []
        for i, s in tasks:
            after: set[int] = set()
            for w in before[s]:
                after |= {place[j, w] for j in ([i] if aligned[w, s] else range(parts[w]))}
            for reader in range(len(stages)):
                if i >= 2 and aligned.get((s, reader)):
                    after.add(place[i - 2, reader])
            name = f"{stages[s].name}.{i}" if parts[s] > 1 else stages[s].name
            nodes.append(replace(pieces[s][i > 0], name=name, after=tuple(sorted(after))))
        spans = simulate(nodes, self.machine.memory.hbm_rate)
        return Sliced(count, tuple(n.name for n in nodes), spans, round(sum(n.hbm for n in nodes)))

    def _aligned(self, producer: int, consumer: int, parts: list[int]) -> bool:
        """Slice i of the consumer needs slice i of the producer only."""
        stages = self.plan.stages
        if parts[producer] == 1 or parts[producer] != parts[consumer]:
            return False
        between = set(written(stages[producer])) & set(touched(stages[consumer]))
        return all(
            self._outer(stage, name) % parts[producer] == 0
            for name in between
            for stage in (stages[producer], stages[consumer])
        )

    def _cuts(self, stage: Stage) -> int:
        """How many pieces a stage falls into along the slowest axes of what it writes."""
        return gcd(*(self._outer(stage, name) for name in written(stage)))

    def _outer(self, stage: Stage, name: str) -> int:
        """Product of the slowest axes of a buffer that the stage works on one by one; a move copies any part."""
        buffer = self.plan.buffer(name)
        match stage:
            case MmeStage():
                operand = next(o for o in (stage.out, stage.lhs, stage.rhs) if o.buffer == name)
                loose = [_all_in(operand, axis, stage.batch) for axis in buffer.order]
            case TpcStage():
                loose = _row_axes(stage.program, name)
            case _:
                loose = [True] * (len(buffer.order) - 1)
        run = next((n for n, ok in enumerate(loose) if not ok), len(loose))
        return prod(self._extent(buffer, axis) for axis in buffer.order[:run])

    def _extent(self, buffer: Buffer, axis: int) -> int:
        return int(evaluate(buffer.shape[axis], self.values))

    def _node(self, stage: Stage, parts: int, first: bool, count: int) -> Node:
        launch = self.machine.tpc.launch_seconds
        hbm, sram = self._traffic(stage, parts, first, count)
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
            case _:
                work = copy(self.machine, ceil(self._bytes(self.plan.buffer(stage.source)) / parts))
                return Node(stage.name, "DMA", work.seconds, work.least, work.hbm)

    def _traffic(self, stage: Stage, parts: int, first: bool, count: int) -> tuple[float, float]:
        """HBM and SRAM bytes of a slice. What is not cut along with the stage is read again unless SRAM can hold it."""
        hbm = sram = 0.0
        for name in touched(stage):
            buffer = self.plan.buffer(name)
            size = self._bytes(buffer)
            cut = parts > 1 and self._outer(stage, name) % parts == 0
            share = size / parts if cut else size
            if self._stays(buffer, count):
                sram += share
            elif cut or first or size > self.machine.memory.sram_bytes // 2:
                hbm += share
            else:
                sram += share
        return hbm, sram

    def _stays(self, buffer: Buffer, count: int) -> bool:
        """Between stages that are both cut along it, two slices must fit half the SRAM; else the whole buffer."""
        if buffer.role is not ir.Role.INTERMEDIATE:
            return False
        users = [s for s in self.plan.stages if buffer.name in touched(s)]
        cut = all(self._outer(s, buffer.name) % count == 0 == self._cuts(s) % count for s in users)
        alive = 2 * self._bytes(buffer) / count if cut else self._bytes(buffer)
        return alive <= self.machine.memory.sram_bytes // 2

    def _bytes(self, buffer: Buffer) -> int:
        return prod(self._extent(buffer, axis) for axis in buffer.order) * buffer.dtype.size


def _all_in(operand: Operand, axis: int, factors: tuple[str, ...]) -> bool:
    return set(operand.axes[axis]) <= set(factors)


def _row_axes(program: ir.Program, name: str) -> list[bool]:
    """Per axis of a tensor, whether every equation has a row of its own there."""
    equations = [e for e in program.body if isinstance(e, ir.Equation)]
    rows = frozenset(equations[0].indices).intersection(*(frozenset(e.indices) - bound(e) for e in equations))
    accesses = [tuple(ir.Index(i) for i in e.indices) for e in equations if e.target == name]
    sides = [s for e in equations for s in (e.value, e.domain) if s is not None]
    accesses += [x.indices for s in sides for x in ir.walk(s) if isinstance(x, ir.Read) and x.tensor == name]
    axes = len(program.tensor(name).shape)
    return [all(_is_row(a[axis], rows) for a in accesses) for axis in range(axes)]


def _is_row(e: ir.Expr, rows: frozenset[str]) -> bool:
    return isinstance(e, ir.Index) and e.name in rows
