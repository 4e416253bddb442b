"""The baseline to beat: the same mathematics as plain torch ops under hpu_backend.

The graph compiler runs each matmul on the MME with results in the operands' dtype, fuses chains of element-wise ops
into one kernel, and has tuned kernels for softmax and reductions; every op reads and writes its tensors. Scores are
bf16 there for bf16 inputs: faster, but outside tpcgen's numeric contract (decisions.md 1). Where the program is plain
or causal attention the vendor's FusedSDPA takes over on machines that have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil, prod

from tpcgen.machine import Machine
from tpcgen.machine.dma import traffic_seconds
from tpcgen.machine.mme import Matmul, mme_cost
from tpcgen.machine.tpc import TpcCost, tpc_time
from tpcgen.partition.plan import MmeStage, Plan, Stage, TpcStage
from tpcgen.partition.price import PlanPrice, StagePrice, nodes, waits
from tpcgen.partition.simulate import makespan, simulate
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import Binding, Value, evaluate
from tpcgen.rewrite.edit import conjuncts
from tpcgen.rewrite.split_contractions import matmul_of

SOFTMAX_WORDS = {DType.BF16: 58.0, DType.F32: 58.0}
"""Bundles per vector of HCK's tuned row softmax with rows of 2048, library-grade (gaudi.md section 3)."""

FUSED = "FusedSDPA"
PLAIN = "plain torch ops"


def baselines(plan: Plan, machine: Machine, binding: Binding) -> tuple[PlanPrice, ...]:
    """What the vendor's stack would run for the same program, from the stages of one of our plans."""
    found = [_plain(plan, machine, binding.values)]
    if machine.fused_sdpa and _is_attention(plan):
        found.append(_fused(plan, machine, binding.values))
    return tuple(found)


def _plain(plan: Plan, machine: Machine, values: Mapping[str, Value]) -> PlanPrice:
    stages: list[StagePrice] = []
    after: list[tuple[int, ...]] = []
    last: list[tuple[int, ...]] = []
    for stage, before in zip(plan.stages, waits(plan), strict=True):
        first = tuple(sorted({position for b in before for position in last[b]}))
        last.append(first)
        for made in _nodes(plan, stage, machine, values):
            after.append(last[-1])
            last[-1] = (len(stages),)
            stages.append(made)
    return _total(PLAIN, stages, after, plan, machine, values)


def _nodes(plan: Plan, stage: Stage, machine: Machine, values: Mapping[str, Value]) -> list[StagePrice]:
    """A stage as torch ops, one after the other; the graph compiler has layouts of its own, so moves are none."""
    match stage:
        case MmeStage():
            return [_matmul(plan, stage, machine, values)]
        case TpcStage():
            return _kernels(plan, stage, machine, values)
        case _:
            return []


def _matmul(plan: Plan, stage: MmeStage, machine: Machine, values: Mapping[str, Value]) -> StagePrice:
    return _product(stage.name, _loops(stage, values), plan.buffer(stage.lhs.buffer).dtype, machine)


def _product(name: str, loops: tuple[int, int, int, int], dtype: DType, machine: Machine) -> StagePrice:
    """`loops`: batch, rows, columns, terms."""
    batch, m, n, k = loops
    cost = mme_cost(machine, Matmul(batch, m, n, k, dtype, dtype))
    traffic = batch * (m * k + k * n + m * n) * dtype.size
    memory = traffic_seconds(machine, traffic, 0)
    bound = "HBM" if memory > cost.seconds else f"MME {cost.bound}"
    seconds = max(memory, cost.seconds) + machine.tpc.launch_seconds
    return StagePrice(
        name,
        "MME",
        f"{batch} x ({m} x {k}) * ({k} x {n})",
        seconds,
        bound,
        batch * m * n * k,
        traffic,
        cost.formula,
        cost.seconds,
        traffic,
        "vendor formula",
    )


def _kernels(plan: Plan, stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> list[StagePrice]:
    """One fused element-wise kernel if there is anything but a reduction, and one kernel per reduction. Products that a
    stage of ours computes with its softmax are matmuls there.
    """
    equations = [e for e in stage.program.body if isinstance(e, ir.Equation)]
    dtype = _storage(plan)
    kernels = [
        k for s in stage.program.body if isinstance(s, ir.Scan) for k in _steps(s, stage, dtype, machine, values)
    ]
    for e in equations:
        product = matmul_of(e, stage.program) if stage.tile else None
        if product is not None:
            sides = (product.batch, product.rows, product.columns, product.summed)
            batch, m, n, k = (prod(_extent(stage.program, i, values) for i in side) for side in sides)
            kernels.append(_product(e.target.lower(), (batch, m, n, k), dtype, machine))
            continue
        reduces = [x for x in ir.walk(e.value) if isinstance(x, ir.Reduce)]
        bodies = [x.body for x in reduces] if reduces else [e.value]
        if any(not isinstance(b, ir.Read) for b in bodies) or any(x.domain is not None for x in reduces):
            kernels.append(_pass(f"{stage.name}: element-wise", e, bodies, 2.0, dtype, stage, machine, values))
        for x in reduces:
            words = SOFTMAX_WORDS[DType.BF16] if x.kind in ("softmax", "logsumexp") else 17.0
            kernels.append(_pass(f"{stage.name}: {x.kind}", e, [x.body], words, dtype, stage, machine, values))
    return kernels


def _steps(
    scan: ir.Scan, stage: TpcStage, dtype: DType, machine: Machine, values: Mapping[str, Value]
) -> Iterator[StagePrice]:
    """A Python loop over the steps: each statement a kernel of its own that reads and writes what it works on.

    All steps of a statement are one price: the graph of a long loop is as long.
    """
    count = _extent(stage.program, scan.index, values)
    for s in scan.body:
        name = s.target if isinstance(s, ir.Equation) else s.state
        made = ir.Equation(name, s.indices, s.value, s.domain)
        inner = [x for x in ir.walk(s.value) if isinstance(x, ir.Reduce)]
        bodies = [x.body for x in inner] or [s.value]
        once = _pass(f"{stage.name}: {name}", made, bodies, 2.0, dtype, stage, machine, values)
        points = max(_extent(stage.program, scan.index, values) if scan.index in _free(made) else 1, 1)
        each = once.seconds / points if points > 1 else once.seconds
        seconds = count * max(each, machine.tpc.launch_seconds)
        yield replace(
            once, seconds=seconds, engine_seconds=seconds, bound="launch", formula=f"{count} steps, {once.formula}"
        )


def _free(e: ir.Equation) -> frozenset[str]:
    return ir.free_indices(e.value) | set(e.indices)


def _pass(
    name: str,
    e: ir.Equation,
    bodies: list[ir.Expr],
    words: float,
    dtype: DType,
    stage: TpcStage,
    machine: Machine,
    values: Mapping[str, Value],
) -> StagePrice:
    indices = set(e.indices).union(*(ir.free_indices(b) for b in bodies))
    elements = prod(_extent(stage.program, i, values) for i in indices)
    vectors = ceil(elements * dtype.size / machine.tpc.vector_bytes)
    members = max(vectors // 16, 1)
    time = tpc_time(machine, TpcCost(words * vectors, 2 * vectors, members, "vendor kernel, bundles counted"))
    traffic = 2 * elements * dtype.size
    memory = traffic_seconds(machine, traffic, 0)
    bound = "HBM" if memory > time.seconds else time.bound
    seconds = max(memory, time.seconds) + machine.tpc.launch_seconds
    shapes = f"{elements} x {dtype}"
    known_by = "bundles of the vendor's published kernels"
    return StagePrice(name, "TPC", shapes, seconds, bound, 0, traffic, time.formula, time.seconds, traffic, known_by)


def _is_attention(plan: Plan) -> bool:
    """matmul, softmax of scaled scores with no domain or a causal one, matmul; no sink, no bias."""
    match _without_moves(plan):
        case [MmeStage() as scores, TpcStage() as middle, MmeStage()]:
            pass
        case _:
            return False
    statements = middle.program.body
    if len(statements) != 1 or not isinstance(statements[0], ir.Equation):
        return False
    value = statements[0].value
    if not isinstance(value, ir.Reduce) or value.kind != "softmax" or value.sink is not None:
        return False
    reads = [x.tensor for x in ir.walk(value) if isinstance(x, ir.Read)]
    alone = reads == [scores.out.buffer] and ir.free_indices(value.body) == frozenset(statements[0].indices)
    return alone and len(conjuncts(value.domain)) <= 1 and not _has_bias(value.body)


def _has_bias(e: ir.Expr) -> bool:
    return any(isinstance(x, ir.Binary) and x.operator in "+-" and ir.free_indices(x) for x in ir.walk(e))


def _fused(plan: Plan, machine: Machine, values: Mapping[str, Value]) -> PlanPrice:
    """MME time of both matmuls over the whole square, results in the operands' dtype, nothing stored between them.

    Published timing T6 (causal, Gaudi 2) is 1 % from that: the vendor skips the masked half at about half the rate.
    """
    stages = [s for s in plan.stages if isinstance(s, MmeStage)]
    dtype = plan.buffer(stages[0].lhs.buffer).dtype
    costs = [mme_cost(machine, Matmul(*_loops(s, values), dtype, dtype)) for s in stages]
    io = [b for b in plan.buffers if b.role is not ir.Role.INTERMEDIATE]
    traffic = sum(prod(int(evaluate(e, values)) for e in b.shape) * b.dtype.size for b in io)
    memory = traffic_seconds(machine, traffic, 0)
    engine = sum(c.seconds for c in costs)
    macs = sum(prod(_loops(s, values)) for s in stages)
    bound = "HBM" if memory > engine else f"MME {costs[0].bound}"
    formula = " + ".join(c.formula for c in costs)
    seconds = max(memory, engine) + machine.tpc.launch_seconds
    known_by = "vendor formula over the whole square (assumption)"
    stage = StagePrice(
        "sdpa", "MME", "fused attention", seconds, bound, macs, traffic, formula, engine, traffic, known_by
    )
    spans = simulate(nodes((stage,), machine, ((),)), machine.memory.hbm_rate)
    return PlanPrice(FUSED, (stage,), seconds, macs, traffic, traffic, traffic <= machine.memory.hbm_bytes, spans)


def _total(
    label: str,
    stages: list[StagePrice],
    after: list[tuple[int, ...]],
    plan: Plan,
    machine: Machine,
    values: Mapping[str, Value],
) -> PlanPrice:
    io = [b for b in plan.buffers if b.role is not ir.Role.INTERMEDIATE]
    held = sum(prod(int(evaluate(e, values)) for e in b.shape) * b.dtype.size for b in io)
    peak = held + max((s.traffic for s in stages if s.engine == "TPC"), default=0)
    macs, traffic = sum(s.macs for s in stages), sum(s.traffic for s in stages)
    spans = simulate(nodes(stages, machine, after), machine.memory.hbm_rate)
    fits = peak <= machine.memory.hbm_bytes
    return PlanPrice(label, tuple(stages), makespan(spans), macs, traffic, peak, fits, spans)


def _storage(plan: Plan) -> DType:
    """The dtype torch ops compute in: that of the op's float inputs."""
    floats = [b.dtype for b in plan.buffers if b.role is ir.Role.INPUT and b.dtype.is_float]
    return floats[0] if floats else DType.F32


def _without_moves(plan: Plan) -> list[Stage]:
    return [s for s in plan.stages if isinstance(s, MmeStage | TpcStage)]


def _loops(stage: MmeStage, values: Mapping[str, Value]) -> tuple[int, int, int, int]:
    extents = {f.name: int(evaluate(f.extent, values)) for f in stage.factors}
    batch, m, n, k = (prod(extents[name] for name in names) for names in (stage.batch, stage.m, stage.n, stage.k))
    return batch, m, n, k


def _extent(program: ir.Program, index: str, values: Mapping[str, Value]) -> int:
    r = program.range_of(index)
    return max(int(evaluate(r.high, values)) - int(evaluate(r.low, values)), 0)
