"""Why a plan: per stage engine, shapes, work, time with its formula, what binds it; totals, what else there was, the
schedule to pin it. Everything is the cost model's: nothing here was measured on Gaudi.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tpcgen.diagnostics import file_label
from tpcgen.kernel.cycles import stage_cost
from tpcgen.kernel.ir import Kernel
from tpcgen.machine import Machine
from tpcgen.machine.mme import choices
from tpcgen.partition.choose import Choice
from tpcgen.partition.plan import MmeStage, MoveStage, Stage, TpcStage
from tpcgen.partition.price import StagePrice, TpcCostFunction, matmul_of
from tpcgen.partition.simulate import Span
from tpcgen.partition.slices import Sliced, pipelined
from tpcgen.partition.table import duration, size
from tpcgen.program import ir
from tpcgen.program.print import statement
from tpcgen.program.sizes import Binding
from tpcgen.report import cards
from tpcgen.report.cards import Shared
from tpcgen.report.formulas import time_lines
from tpcgen.report.tables import bindings, table
from tpcgen.report.tiles import NotDrawableError, Tiles, tiles

_CLOSE = 0.01
"""An MME choice that gains less is not worth a line."""

_NOTHING = "engine   nothing to do: "


@dataclass(frozen=True)
class StageReport:
    """`equations`: text with the line of the spec. `time`: formula and value lines. `instead`: other ways to run it.

    `tiles`: of its domain where two indices and the sizes decide it, `undrawn` why not. `code`: the kernel's TPC-C.
    """

    price: StagePrice
    span: Span
    equations: tuple[str, ...]
    time: tuple[str, ...]
    instead: tuple[str, ...]
    tiles: Tiles | None
    undrawn: str
    code: str


@dataclass(frozen=True)
class Explanation:
    """One op at one choice of dtypes and one binding; `shared` where it is one card's part of it."""

    op: str
    dtype: str
    device: str
    machine: Machine
    binding: Binding
    choice: Choice
    sliced: Sliced | None
    stages: tuple[StageReport, ...]
    schedule: tuple[str, ...]
    spec: str
    shared: Shared | None = None


def explain(
    op: str,
    dtype: str,
    device: str,
    machine: Machine,
    binding: Binding,
    choice: Choice,
    kernels: Sequence[tuple[Kernel, str]],
    spec: str,
    tpc_cost: TpcCostFunction = stage_cost,
) -> Explanation:
    """`kernels`: IR and text of each TPC stage, in order; `spec`: the file's text; `tpc_cost`: as the choice had it."""
    plan, values = choice.plan, binding.values
    made = iter(kernels)
    stages: list[StageReport] = []
    for stage, price, span in zip(plan.stages, choice.price.stages, choice.price.spans, strict=True):
        kernel, code = next(made) if isinstance(stage, TpcStage) else (None, "")
        cost = tpc_cost(stage, machine, values) if isinstance(stage, TpcStage) else None
        formulas = tuple(time_lines(plan, stage, machine, values, kernel, cost)) if price.seconds else ()
        time = formulas or (_NOTHING + price.formula,)
        drawn, undrawn = _tiles(stage, values)
        instead = _instead(choice, stage, machine, binding)
        stages.append(StageReport(price, span, _equations(stage), time, instead, drawn, undrawn, code))
    sliced = pipelined(plan, machine, binding, tpc_cost)
    return Explanation(op, dtype, device, machine, binding, choice, sliced, tuple(stages), plan.pins, spec)


def _equations(stage: Stage) -> tuple[str, ...]:
    if isinstance(stage, MoveStage):
        return (f"{stage.target} = {stage.source}, in another memory order",)
    lines: list[str] = []
    for s in stage.program.body:
        first, *others = statement(s, stage.program).splitlines()
        place = f"  # {file_label(s.span.file)}:{s.span.line}" if s.span.line else ""
        lines += [f"{first}{place}", *others]
    return tuple(lines)


def _tiles(stage: Stage, values: Mapping[str, int | float]) -> tuple[Tiles | None, str]:
    if not isinstance(stage, TpcStage):
        return None, ""
    reductions = [x for e in stage.program.body if isinstance(e, ir.Equation) for x in ir.walk(e.value)]
    restricted = [x for x in reductions if isinstance(x, ir.Reduce) and x.domain is not None]
    if not restricted:
        return None, ""
    try:
        return tiles(stage.program, restricted[0], values), ""
    except NotDrawableError as problem:
        return None, str(problem)


def _instead(choice: Choice, stage: Stage, machine: Machine, binding: Binding) -> tuple[str, ...]:
    """Ways to ask the MME that would take another time, engine alone."""
    if not isinstance(stage, MmeStage):
        return ()
    matmul = matmul_of(choice.plan, stage, binding.values)
    own = next(s.engine_seconds for s in choice.price.stages if s.name == stage.name)
    found = [(name, cost.seconds) for name, _, cost in choices(machine, matmul)]
    return tuple(f"{name} {duration(s)}" for name, s in found if abs(s - own) > _CLOSE * own)


def to_text(explanations: Sequence[Explanation]) -> str:
    return "\n".join("\n".join(_lines(e)) for e in explanations)


def _lines(x: Explanation) -> Iterator[str]:
    price = x.choice.price
    yield f"{x.op} {x.dtype} on {x.device} at {bindings(x.binding.values)}: {price.label}"
    yield f"{duration(price.seconds)} by the cost model; nothing was measured on Gaudi"
    for number, stage in enumerate(x.stages, 1):
        yield ""
        yield from _stage(number, stage, x)
    yield ""
    yield from totals(x)
    yield sliced_line(x)
    yield ""
    if x.shared is not None:
        yield from cards.lines(x.shared, x.binding.values, price.seconds, x.machine)
        yield ""
    yield from others(x)
    yield ""
    yield "schedule that keeps this plan, to paste into the op:"
    yield f"    {schedule(x)}"
    yield ""


def _stage(number: int, s: StageReport, x: Explanation) -> Iterator[str]:
    p = s.price
    when = f"{duration(s.span.start)} to {duration(s.span.end)}"
    yield f"{number}. {p.name} on the {p.engine}, {when}, bound by {p.bound}"
    for line in s.equations:
        yield f"     {line}"
    yield f"     {p.shapes}"
    yield f"     {work(p)}"
    if s.tiles is not None:
        yield f"     {tile_line(s.tiles)}"
    if s.undrawn:
        yield f"     tiles: {s.undrawn}"
    for line in s.time:
        yield f"     {line}"
    launch = max(p.seconds - max(p.engine_seconds, p.hbm / x.machine.memory.hbm_rate), 0.0)
    yield f"     {duration(p.seconds)} when it runs alone, {duration(launch)} of them launch; known by {p.known_by}"
    if s.instead:
        yield f"     otherwise: {', '.join(s.instead)}"


def work(p: StagePrice) -> str:
    """`805,306,368 MACs, 51 MiB read and written, 48 MiB of them in HBM`."""
    macs = f"{p.macs:,} MACs, " if p.engine == "MME" else ""
    return f"{macs}{size(p.traffic)} read and written, {size(min(p.hbm, p.traffic))} of them in HBM"


def tile_line(t: Tiles) -> str:
    """What of the domain's tiles a kernel visits; the MME computes all of them."""
    share = "" if t.points < 0 or not t.rows * t.columns else f", {t.points / (t.rows * t.columns):.1%} of the points"
    return (
        f"tiles of 128 x 128 over ({t.row}, {t.column}): {t.full} full, {t.partial} partial, {t.empty} skipped{share}; "
        "the MME skips none"
    )


def totals(x: Explanation) -> Iterator[str]:
    """How long, what is held, what is moved."""
    p = x.choice.price
    held = ", ".join(f"{e} {duration(s)} ({s / p.seconds:.1%})" for e, s in p.busy.items()) if p.seconds else ""
    overlap = f"engines overlap {duration(p.overlap)}; one after the other {duration(p.serial)}"
    yield f"total {duration(p.seconds)}; held: {held}; {overlap}"
    limit = size(x.machine.memory.hbm_bytes)
    fits = "" if p.fits else ": does not fit"
    hbm = sum(s.hbm for s in p.stages)
    yield f"{p.macs:,} MACs, {size(p.traffic)} moved, {size(hbm)} of it in HBM; peak {size(p.peak)} of {limit}{fits}"


def sliced_line(x: Explanation) -> str:
    """What the graph compiler might gain."""
    if x.sliced is None:
        return "no outer axis along which the graph compiler could slice the stages"
    s = x.sliced
    return (
        f"if the graph compiler pipelines the graph in {s.count} slices: {duration(s.seconds)}, engines overlap "
        f"{duration(s.overlap)}, {size(s.hbm)} in HBM (assumption: tpcgen emits whole stages)"
    )


def others(x: Explanation) -> Iterator[str]:
    """What was rejected and what the vendor's stack would run instead."""
    rows = [
        (label, f"{'> ' * bounded}{duration(seconds)}", f"{'> ' * bounded}{_against(seconds, x)}", "rejected")
        for label, seconds, bounded in x.choice.others
    ]
    rows += [(b.label, duration(b.seconds), _against(b.seconds, x), "baseline") for b in x.choice.baselines]
    if rows:
        yield table(("instead", "predicted", "against", ""), rows, frozenset({"predicted", "against"})).rstrip("\n")
    for label, problem in x.choice.impossible:
        yield f"not lowered yet: {label} ({problem.id}: {problem.message})"
    for family, refusal in x.choice.refused:
        line = f" ({file_label(refusal.span.file)}:{refusal.span.line})" if refusal.span.line else ""
        yield f"no {family}: {refusal.reason}{line}"
    if x.choice.unpriced:
        count, loss = len(x.choice.unpriced), x.choice.loss
        bound = "none of them can be faster" if loss == 1 else f"one of them may be up to {loss:.2f} times faster"
        yield f"{count} of these {'was' if count == 1 else 'were'} bounded from below only (>): {bound}"
    better = x.choice.better_baseline
    if better is not None:
        yield f"warning: {better.label} is faster than this plan by these predictions"


def _against(seconds: float, x: Explanation) -> str:
    return f"x {seconds / x.choice.price.seconds:.2f}" if x.choice.price.seconds else "-"


def schedule(x: Explanation) -> str:
    """The block for the op's text."""
    return f"schedule {{ {' '.join(x.schedule)} }}"
