"""What a plan costs on a machine at bound sizes, stage by stage, and what binds each stage.

The emitted composite is one graph with one node per stage: a node waits for those whose results it reads, engines work
at the same time (simulate.py). No node is cut into slices here, because nothing that is emitted cuts one; what the
graph compiler may do on top is another question (slices.py). A buffer between stages that fits half the SRAM stays
there (assumption); anything else goes through HBM once per stage that touches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import prod

from tpcgen.machine import Machine
from tpcgen.machine.dma import copy, copy_seconds, traffic_seconds
from tpcgen.machine.mme import Matmul, mme_cost
from tpcgen.machine.model import GATHER_ROW
from tpcgen.machine.tpc import TpcCost, tpc_time
from tpcgen.partition.plan import Buffer, CopyStage, MmeStage, MoveStage, Plan, Stage, TpcStage
from tpcgen.partition.simulate import Node, Span, busy, makespan, overlap, simulate
from tpcgen.program.ir import Equation, Expr, Read, Role, walk
from tpcgen.program.sizes import Binding, Value, evaluate
from tpcgen.rewrite.copies import Blocks, Merged, Repeated, Slice
from tpcgen.rewrite.gather_operands import through_table

TpcCostFunction = Callable[[TpcStage, Machine, Mapping[str, Value]], TpcCost]


@dataclass(frozen=True, slots=True)
class StagePrice:
    """`seconds` of the stage when nothing else runs, launch included, of which `engine_seconds` without memory and
    launch. `bound`: "MME compute", "MME rollup", "MME input read", "TPC slots", "TPC loads and stores", "HBM", "SRAM",
    "DMA", "launch", "view" or "nothing". `traffic`: bytes read and written, `hbm` those of HBM. `formula` says where
    the time comes from, `known_by` how that is known.
    """

    name: str
    engine: str
    shapes: str
    seconds: float
    bound: str
    macs: int
    traffic: int
    formula: str
    engine_seconds: float = 0.0
    hbm: int = 0
    known_by: str = "assumption"


@dataclass(frozen=True, slots=True)
class PlanPrice:
    """`seconds` from the start of the first stage to the end of the last, engines overlapping as `spans` say (one per
    stage). `peak`: the most bytes alive at once, inputs and outputs included; `fits`: whether HBM holds them.
    """

    label: str
    stages: tuple[StagePrice, ...]
    seconds: float
    macs: int
    traffic: int
    peak: int
    fits: bool
    spans: tuple[Span, ...] = ()

    @property
    def serial(self) -> float:
        """Seconds if no two stages ran at the same time."""
        return sum(s.seconds for s in self.stages)

    @property
    def busy(self) -> dict[str, float]:
        """Seconds each engine is held."""
        return busy(self.spans)

    @property
    def overlap(self) -> float:
        """Seconds during which more than one engine is held."""
        return overlap(self.spans)


def price(plan: Plan, machine: Machine, binding: Binding, tpc_cost: TpcCostFunction) -> PlanPrice:
    """The price of a plan; `tpc_cost` says what a TPC stage issues (from its kernel, or `estimate`)."""
    pricer = _Pricer(plan, machine, binding.values, tpc_cost)
    stages = tuple(pricer.stage(s) for s in plan.stages)
    spans = simulate(nodes(stages, machine, waits(plan)), machine.memory.hbm_rate)
    peak = pricer.peak()
    return PlanPrice(
        label=plan.label,
        stages=stages,
        seconds=makespan(spans),
        macs=sum(s.macs for s in stages),
        traffic=sum(s.traffic for s in stages),
        peak=peak,
        fits=peak <= machine.memory.hbm_bytes,
        spans=spans,
    )


def stage_price(plan: Plan, position: int, machine: Machine, binding: Binding, tpc_cost: TpcCostFunction) -> StagePrice:
    """That of one stage of a plan, as in its price."""
    return _Pricer(plan, machine, binding.values, tpc_cost).stage(plan.stages[position])


def nodes(stages: Sequence[StagePrice], machine: Machine, after: Sequence[tuple[int, ...]]) -> list[Node]:
    """A node per stage. What a stage takes beyond its engine and HBM is its launch."""
    made: list[Node] = []
    for s, before in zip(stages, after, strict=True):
        alone = max(s.engine_seconds, s.hbm / machine.memory.hbm_rate)
        made.append(Node(s.name, s.engine, s.engine_seconds, max(s.seconds - alone, 0.0), s.hbm, before))
    return made


def gathered(stage: TpcStage) -> list[Read]:
    """Reads of a stage whose rows a table names."""
    sides = [s for e in stage.program.body if isinstance(e, Equation) for s in (e.value, e.domain) if s is not None]
    return [x for s in sides for x in walk(s) if isinstance(x, Read) and through_table(x)]


def waits(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """Per stage, the stages whose results it reads."""
    writer = {name: position for position, stage in enumerate(plan.stages) for name in written(stage)}
    return tuple(
        tuple(sorted({writer[name] for name in touched(stage) if name in writer} - {position}))
        for position, stage in enumerate(plan.stages)
    )


def written(stage: Stage) -> tuple[str, ...]:
    """Buffers a stage writes."""
    match stage:
        case MmeStage():
            return (stage.out.buffer,)
        case TpcStage():
            return tuple(t.name for t in stage.program.outputs)
        case MoveStage():
            return (stage.target,)
        case CopyStage():
            return (stage.copy.target,)


def matmul_of(plan: Plan, stage: MmeStage, values: Mapping[str, Value]) -> Matmul:
    """What the MME is asked for at bound sizes."""
    extents = {f.name: int(evaluate(f.extent, values)) for f in stage.factors}
    batch, m, n, k = (prod(extents[f] for f in group) for group in (stage.batch, stage.m, stage.n, stage.k))
    lhs, rhs, out = (plan.buffer(o.buffer) for o in (stage.lhs, stage.rhs, stage.out))
    return Matmul(
        batch,
        m,
        n,
        k,
        lhs.dtype,
        out.dtype,
        lhs_common_last=bool(set(stage.lhs.axes[lhs.order[-1]]) & set(stage.k)),
        rhs_common_last=bool(set(stage.rhs.axes[rhs.order[-1]]) & set(stage.k)),
    )


def touched(stage: Stage) -> tuple[str, ...]:
    """Buffers a stage reads, then those it writes."""
    match stage:
        case MmeStage():
            return tuple(dict.fromkeys((stage.lhs.buffer, stage.rhs.buffer, stage.out.buffer)))
        case TpcStage():
            return tuple(t.name for t in (*stage.program.inputs, *stage.program.outputs))
        case MoveStage():
            return (stage.source, stage.target)
        case CopyStage():
            return tuple(dict.fromkeys((*(p.source for p in stage.copy.pieces), stage.copy.target)))


@dataclass(frozen=True)
class _Pricer:
    plan: Plan
    machine: Machine
    values: Mapping[str, Value]
    tpc_cost: TpcCostFunction
    shapes: dict[str, list[int]] = field(default_factory=dict[str, "list[int]"])
    """Of the buffers asked for so far, in memory order."""

    def stage(self, stage: Stage) -> StagePrice:
        if not any(self._bytes(self.plan.buffer(name)) for name in written(stage)):
            return self._nothing(stage)
        match stage:
            case MmeStage():
                return self._mme(stage)
            case TpcStage():
                return self._tpc(stage)
            case MoveStage():
                return self._copied(stage, stage.target)
            case CopyStage() if self._is_view(stage):
                return self._view(stage)
            case CopyStage():
                return self._copied(stage, stage.copy.target)

    def peak(self) -> int:
        """Inputs and outputs live all along, a buffer in between from its first to its last stage."""
        uses: dict[str, list[int]] = {}
        for position, stage in enumerate(self.plan.stages):
            for name in touched(stage):
                uses.setdefault(name, []).append(position)
        always, change = 0, [0] * (len(self.plan.stages) + 1)
        for b in self.plan.buffers:
            if b.role is not Role.INTERMEDIATE:
                always += self._bytes(b)
            elif b.name in uses:
                change[uses[b.name][0]] += self._bytes(b)
                change[uses[b.name][-1] + 1] -= self._bytes(b)
        return always + max(accumulate(change))

    def _mme(self, stage: MmeStage) -> StagePrice:
        m = matmul_of(self.plan, stage, self.values)
        cost = mme_cost(self.machine, m)
        shapes = f"{m.batch} x ({m.m} x {m.k}) * ({m.k} x {m.n})"
        macs = m.batch * m.m * m.n * m.k
        engine = StagePrice(stage.name, "MME", shapes, cost.seconds, f"MME {cost.bound}", macs, 0, cost.formula)
        return self._with_memory(stage, replace(engine, known_by="vendor formula"))

    def _tpc(self, stage: TpcStage) -> StagePrice:
        cost = self.tpc_cost(stage, self.machine, self.values)
        time = tpc_time(self.machine, cost)
        sides = (stage.program.inputs, stage.program.outputs)
        shapes = " -> ".join(self._described([t.name for t in side]) for side in sides)
        engine = StagePrice(stage.name, "TPC", shapes, time.seconds, time.bound, 0, 0, time.formula)
        return self._with_gathers(stage, self._with_memory(stage, replace(engine, known_by=cost.known_by)))

    def _with_gathers(self, stage: TpcStage, priced: StagePrice) -> StagePrice:
        """A row that a table names is an access of its own: a short one moves as much as a long one."""
        gathers = [g for g in gathered(stage) if not self._stays(self.plan.buffer(g.tensor))]
        short = min((self._row_bytes(g) for g in gathers), default=GATHER_ROW)
        if not 0 < short < GATHER_ROW:
            return priced
        moved = sum(self._bytes(self.plan.buffer(t.name)) for t in stage.program.outputs) // short * GATHER_ROW
        seconds = traffic_seconds(self.machine, moved, 0) + self.machine.tpc.launch_seconds
        if seconds <= priced.seconds:
            return priced
        formula = f"{moved} bytes of HBM: rows of {short} bytes, {GATHER_ROW} moved for each"
        return replace(priced, seconds=seconds, bound=f"gather of {short} B rows", formula=formula)

    def _row_bytes(self, g: Read) -> int:
        buffer = self.plan.buffer(g.tensor)
        return self._shape(buffer)[-1] * buffer.dtype.size

    def _copied(self, stage: MoveStage | CopyStage, target: str) -> StagePrice:
        """Every element of the target is read once and written once."""
        payload = self._bytes(self.plan.buffer(target))
        work = copy(self.machine, payload)
        shapes = " -> ".join(self._described(names) for names in (touched(stage)[:-1], (target,)))
        return StagePrice(
            stage.name,
            "DMA",
            shapes,
            copy_seconds(self.machine, payload),
            "DMA",
            0,
            2 * payload,
            f"{payload} bytes copied",
            work.seconds,
            work.hbm,
            "vendor formula",
        )

    def _nothing(self, stage: Stage) -> StagePrice:
        """A stage without an element to write is not launched."""
        engine = "MME" if isinstance(stage, MmeStage) else "TPC" if isinstance(stage, TpcStage) else "DMA"
        shapes = self._described(written(stage))
        return StagePrice(stage.name, engine, shapes, 0.0, "nothing", 0, 0, "nothing to write", known_by="proof")

    def _view(self, stage: CopyStage) -> StagePrice:
        shapes = " -> ".join(self._described((name,)) for name in touched(stage))
        return StagePrice(
            stage.name, "DMA", shapes, 0.0, "view", 0, 0, "the same bytes under another shape", known_by="proof"
        )

    def _is_view(self, stage: CopyStage) -> bool:
        """Whether the target is a run of the source's bytes in the same order at these sizes."""
        piece = stage.copy.pieces[0]
        orders = [self.plan.buffer(name).order for name in touched(stage)]
        if len(stage.copy.pieces) > 1 or any(order != tuple(range(len(order))) for order in orders):
            return False
        made = [i for a in piece.axes for i in ((a.outer, a.inner) if isinstance(a, Blocks) else (a.index,))]
        if tuple(made) != stage.copy.indices:
            return False
        sizes = self._shape(self.plan.buffer(piece.source))
        extents = dict(zip(made, self._shape(self.plan.buffer(stage.copy.target)), strict=True))
        axis = 0
        outer = 1  # elements of the target's axes before this one: a part of an axis is one run where it is one
        for a in piece.axes:
            match a:
                case Slice():
                    start, own = self._value(a.start), extents[a.index]
                    part = outer == 1 and start >= 0 and start + own <= sizes[axis]
                    same = (start == 0 and sizes[axis] == own) or part
                case Blocks():
                    own = extents[a.outer] * extents[a.inner]
                    whole = a.step * extents[a.outer] == sizes[axis] and a.step == extents[a.inner]
                    same = self._value(a.start) == 0 and whole
                case Merged():
                    own = extents[a.index]
                    same = sizes[axis] * sizes[axis + 1] == own
                case Repeated():
                    own, same = extents[a.index], a.times == 1
            if not same:
                return False
            outer *= own
            axis += 2 if isinstance(a, Merged) else 1
        return True

    def _value(self, e: Expr) -> int:
        return int(evaluate(e, self.values))

    def _described(self, names: Sequence[str]) -> str:
        return ", ".join(f"{name} {self._sizes(name)}" for name in names)

    def _with_memory(self, stage: MmeStage | TpcStage, engine: StagePrice) -> StagePrice:
        """Engine time against memory time, plus the launch."""
        buffers = [self.plan.buffer(name) for name in touched(stage)]
        sram = sum(self._bytes(b) for b in buffers if self._stays(b))
        hbm = sum(self._bytes(b) for b in buffers) - sram
        from_hbm, from_sram = traffic_seconds(self.machine, hbm, 0), traffic_seconds(self.machine, 0, sram)
        launch = self.machine.tpc.launch_seconds
        seconds = max(engine.seconds, from_hbm, from_sram)
        bound, formula = engine.bound, engine.formula
        if seconds > engine.seconds:
            bound = "HBM" if from_hbm >= from_sram else "SRAM"
            formula = f"{hbm} bytes of HBM, {sram} of SRAM"
        return replace(
            engine,
            seconds=seconds + launch,
            bound=bound if seconds > launch else "launch",
            traffic=hbm + sram,
            formula=formula,
            engine_seconds=max(engine.seconds, from_sram),
            hbm=hbm,
        )

    def _stays(self, b: Buffer) -> bool:
        return b.role is Role.INTERMEDIATE and self._bytes(b) <= self.machine.memory.sram_bytes // 2

    def _bytes(self, b: Buffer) -> int:
        return prod(self._shape(b)) * b.dtype.size

    def _shape(self, b: Buffer) -> list[int]:
        if b.name not in self.shapes:
            self.shapes[b.name] = [int(evaluate(b.shape[axis], self.values)) for axis in b.order]
        return self.shapes[b.name]

    def _sizes(self, name: str) -> str:
        b = self.plan.buffer(name)
        return f"{b.dtype}[{', '.join(map(str, self._shape(b)))}]"
