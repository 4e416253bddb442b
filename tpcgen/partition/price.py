"""What a plan costs on a machine at bound sizes, stage by stage, and what binds each stage.

Stages run one after the other. A buffer between stages that fits half the SRAM stays there; anything else goes through
HBM once per stage that touches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from tpcgen.machine import Machine
from tpcgen.machine.dma import copy_seconds, traffic_seconds
from tpcgen.machine.mme import Matmul, mme_cost
from tpcgen.machine.tpc import TpcCost, tpc_time
from tpcgen.partition.plan import Buffer, MmeStage, MoveStage, Plan, Stage, TpcStage
from tpcgen.program.ir import Role
from tpcgen.program.sizes import Binding, Value, evaluate

TpcCostFunction = Callable[[TpcStage, Machine, Mapping[str, Value]], TpcCost]


@dataclass(frozen=True, slots=True)
class StagePrice:
    """`seconds` includes the launch. `bound`: "MME compute", "MME rollup", "MME input read", "TPC slots", "TPC loads
    and stores", "HBM", "SRAM", "DMA" or "launch". `traffic`: bytes read and written. `formula` says where the engine's
    time comes from.
    """

    name: str
    engine: str
    shapes: str
    seconds: float
    bound: str
    macs: int
    traffic: int
    formula: str


@dataclass(frozen=True, slots=True)
class PlanPrice:
    """`peak` is the most bytes alive at once, inputs and outputs included; `fits`: whether HBM holds them."""

    label: str
    stages: tuple[StagePrice, ...]
    seconds: float
    macs: int
    traffic: int
    peak: int
    fits: bool


def price(plan: Plan, machine: Machine, binding: Binding, tpc_cost: TpcCostFunction) -> PlanPrice:
    """The price of a plan; `tpc_cost` says what a TPC stage issues (from its kernel, or `estimate`)."""
    pricer = _Pricer(plan, machine, binding.values, tpc_cost)
    stages = tuple(pricer.stage(s) for s in plan.stages)
    peak = pricer.peak()
    return PlanPrice(
        label=plan.label,
        stages=stages,
        seconds=sum(s.seconds for s in stages),
        macs=sum(s.macs for s in stages),
        traffic=sum(s.traffic for s in stages),
        peak=peak,
        fits=peak <= machine.memory.hbm_bytes,
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


@dataclass(frozen=True)
class _Pricer:
    plan: Plan
    machine: Machine
    values: Mapping[str, Value]
    tpc_cost: TpcCostFunction

    def stage(self, stage: Stage) -> StagePrice:
        match stage:
            case MmeStage():
                return self._mme(stage)
            case TpcStage():
                return self._tpc(stage)
            case MoveStage():
                return self._move(stage)

    def peak(self) -> int:
        """Inputs and outputs live all along, a buffer in between from its first to its last stage."""
        stages = [set(touched(s)) for s in self.plan.stages]
        best = 0
        for now in range(max(len(stages), 1)):
            alive = 0
            for b in self.plan.buffers:
                uses = [i for i, names in enumerate(stages) if b.name in names]
                if b.role is not Role.INTERMEDIATE or (uses and uses[0] <= now <= uses[-1]):
                    alive += self._bytes(b)
            best = max(best, alive)
        return best

    def _mme(self, stage: MmeStage) -> StagePrice:
        batch, m, n, k = (self._product(stage, names) for names in (stage.batch, stage.m, stage.n, stage.k))
        lhs, rhs, out = (self.plan.buffer(o.buffer) for o in (stage.lhs, stage.rhs, stage.out))
        matmul = Matmul(
            batch,
            m,
            n,
            k,
            lhs.dtype,
            out.dtype,
            lhs_common_last=bool(set(stage.lhs.axes[lhs.order[-1]]) & set(stage.k)),
            rhs_common_last=bool(set(stage.rhs.axes[rhs.order[-1]]) & set(stage.k)),
        )
        cost = mme_cost(self.machine, matmul)
        shapes = f"{batch} x ({m} x {k}) * ({k} x {n})"
        return self._price(stage, "MME", shapes, cost.seconds, f"MME {cost.bound}", batch * m * n * k, cost.formula)

    def _tpc(self, stage: TpcStage) -> StagePrice:
        time = tpc_time(self.machine, self.tpc_cost(stage, self.machine, self.values))
        shapes = " -> ".join(
            ", ".join(f"{t.name} {self._sizes(t.name)}" for t in side)
            for side in (stage.program.inputs, stage.program.outputs)
        )
        return self._price(stage, "TPC", shapes, time.seconds, time.bound, 0, time.formula)

    def _move(self, stage: MoveStage) -> StagePrice:
        payload = self._bytes(self.plan.buffer(stage.source))
        seconds = copy_seconds(self.machine, payload)
        shapes = f"{stage.source} {self._sizes(stage.source)} -> {stage.target} {self._sizes(stage.target)}"
        return StagePrice(stage.name, "DMA", shapes, seconds, "DMA", 0, 2 * payload, f"{payload} bytes copied")

    def _price(
        self, stage: MmeStage | TpcStage, engine: str, shapes: str, seconds: float, bound: str, macs: int, formula: str
    ) -> StagePrice:
        """Engine time against memory time, plus the launch."""
        buffers = [self.plan.buffer(name) for name in touched(stage)]
        resident = [b for b in buffers if self._stays(b)]
        sram = sum(self._bytes(b) for b in resident)
        hbm = sum(self._bytes(b) for b in buffers) - sram
        memory = traffic_seconds(self.machine, hbm, sram)
        if memory > seconds:
            seconds = memory
            bound = "HBM" if memory == traffic_seconds(self.machine, hbm, 0) else "SRAM"
            formula = f"{hbm} bytes of HBM, {sram} of SRAM"
        launch = self.machine.tpc.launch_seconds
        return StagePrice(
            stage.name,
            engine,
            shapes,
            seconds + launch,
            bound if seconds > launch else "launch",
            macs,
            hbm + sram,
            formula,
        )

    def _stays(self, b: Buffer) -> bool:
        return b.role is Role.INTERMEDIATE and self._bytes(b) <= self.machine.memory.sram_bytes // 2

    def _bytes(self, b: Buffer) -> int:
        return prod(self._shape(b)) * b.dtype.size

    def _shape(self, b: Buffer) -> list[int]:
        return [int(evaluate(b.shape[axis], self.values)) for axis in b.order]

    def _sizes(self, name: str) -> str:
        b = self.plan.buffer(name)
        return f"{b.dtype}[{', '.join(map(str, self._shape(b)))}]"

    def _product(self, stage: MmeStage, names: tuple[str, ...]) -> int:
        extents = {f.name: f.extent for f in stage.factors}
        return prod(int(evaluate(extents[name], self.values)) for name in names)
