"""Where a stage's time comes from, as formulas in the op's sizes beside their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tpcgen.kernel.ir import Kernel
from tpcgen.machine import Machine
from tpcgen.machine.mme import least_step, mme_cost
from tpcgen.machine.tpc import TpcCost
from tpcgen.partition.plan import Buffer, CopyStage, MmeStage, MoveStage, Plan, Stage, TpcStage
from tpcgen.partition.price import matmul_of, touched
from tpcgen.partition.table import duration
from tpcgen.program import ir
from tpcgen.program.print import expression
from tpcgen.program.sizes import Value, evaluate


def time_lines(
    plan: Plan, stage: Stage, machine: Machine, values: Mapping[str, Value], kernel: Kernel | None, cost: TpcCost | None
) -> list[str]:
    """Engine time, then what memory would take, each in sizes, then in numbers. `kernel` and `cost` for TPC stages."""
    match stage:
        case MmeStage():
            lines = _mme(plan, stage, machine, values)
        case TpcStage():
            assert kernel is not None and cost is not None
            lines = _tpc(kernel, cost, machine, values)
        case MoveStage() | CopyStage():
            rate = _rate(machine.memory.dma_rate)
            target = plan.buffer(touched(stage)[-1])
            lines = [f"engine   {_bytes(target)} / {rate} + {duration(machine.memory.dma_seconds)}"]
    return [*lines, *_memory(plan, stage, machine, values)]


def _mme(plan: Plan, stage: MmeStage, machine: Machine, values: Mapping[str, Value]) -> list[str]:
    shape = matmul_of(plan, stage, values)
    cost = mme_cost(machine, shape)
    extents = {f.name: f.extent for f in stage.factors}
    batch, m, n, k = (product(extents[f] for f in group) for group in (stage.batch, stage.m, stage.n, stage.k))
    per_element = machine.mme.cycles_per_element[shape.inputs]
    cycles = k if per_element == 1 else f"{per_element:g} * {k}"
    floor = least_step(machine.mme, shape)
    t = cost.tile
    steps = f"ceil({n} / {t.width}) * ceil({m} / {t.height}) * {_ceil(batch, t.gemms)}"
    ports = " + port term" if t.port_constrained else ""
    clock = f"{machine.mme.clock_hz / 1e9:g} GHz"
    if cost.bound == "input read":
        numbers = f"{round(cost.cycles):,} cycles = {duration(cost.seconds)}, {cost.utilisation:.0%} of the peak"
        return [
            f"engine   reading operands whose rows are not aligned at {clock}, tile {t.name}",
            f"       = {numbers}",
        ]
    return [
        f"engine   {steps} * max({cycles}, {floor}){ports} cycles at {clock}, tile {t.name}",
        f"       = {cost.formula} = {round(cost.cycles):,} cycles = {duration(cost.seconds)}, "
        f"{cost.utilisation:.0%} of the peak",
    ]


def _tpc(kernel: Kernel, cost: TpcCost, machine: Machine, values: Mapping[str, Value]) -> list[str]:
    tpc = machine.tpc
    members = product(d.extent for d in kernel.index_space)
    share = -(-max(cost.members, 1) // tpc.engines)
    bundles, accesses = (total / max(cost.members, 1) for total in (cost.bundles, cost.accesses))
    seconds = share * max(bundles, tpc.access_cycles * accesses) / tpc.clock_hz
    clock = f"{tpc.clock_hz / 1e9:g} GHz"
    each = f"max(bundles, {tpc.access_cycles:g} * accesses) a member"
    numbers = f"max({_count(bundles)}, {tpc.access_cycles:g} * {_count(accesses)})"
    return [
        f"engine   {_ceil(members, tpc.engines)} members a TPC * {each} at {clock}",
        f"       = {share:,} * {numbers} cycles = {duration(seconds)}; means over {cost.members:,} members",
    ]


def _count(x: float) -> str:
    """A mean, to half a percent or better."""
    return f"{x:,.0f}" if x >= 1000 else f"{x:.2f}"


def _memory(plan: Plan, stage: Stage, machine: Machine, values: Mapping[str, Value]) -> list[str]:
    buffers = [plan.buffer(name) for name in touched(stage)]
    half = machine.memory.sram_bytes // 2
    lines: list[str] = []
    for name, rate, inside in (("HBM", machine.memory.hbm_rate, False), ("SRAM", machine.memory.sram_rate, True)):
        own = [b for b in buffers if (b.role is ir.Role.INTERMEDIATE and size_of(b, values) <= half) is inside]
        if not own or (isinstance(stage, MoveStage | CopyStage) and inside):
            continue
        own = buffers if isinstance(stage, MoveStage | CopyStage) else own
        total = sum(size_of(b, values) for b in own)
        lines.append(f"{name:<8} ({' + '.join(map(_bytes, own))}) bytes / {_rate(rate)}")
        lines.append(f"       = {total:,} bytes = {duration(total / rate)}")
    return lines


def size_of(b: Buffer, values: Mapping[str, Value]) -> int:
    """Bytes of a buffer."""
    total = b.dtype.size
    for e in b.shape:
        total *= int(evaluate(e, values))
    return total


def product(extents: Iterable[ir.Expr]) -> str:
    """`B * H`; 1 for none."""
    return " * ".join(_factor(e) for e in extents if not _is_one(e)) or "1"


def _is_one(e: ir.Expr) -> bool:
    return isinstance(e, ir.Literal) and e.value == 1


def _factor(e: ir.Expr) -> str:
    text = expression(e)
    return f"({text})" if isinstance(e, ir.Binary) else text


def _ceil(product: str, by: int) -> str:
    return product if by == 1 else f"ceil({product} / {by})"


def _bytes(b: Buffer) -> str:
    return f"{b.dtype.size} * {product(b.shape)}" if b.shape else str(b.dtype.size)


def _rate(bytes_a_second: float) -> str:
    return f"{bytes_a_second / 1e9:,.0f} GB/s"
