"""Plan -> text: stable, for `--emit plan` and golden tests."""

from __future__ import annotations

from collections.abc import Iterator

from tpcgen.partition.plan import Buffer, CopyStage, MmeStage, MoveStage, Operand, Plan, Stage, TpcStage
from tpcgen.program import ir
from tpcgen.program import print as text


def plan(p: Plan) -> str:
    """Buffers in memory order (slowest axis first), then stages in execution order."""
    lines = [f"plan {p.program.name} for {p.target}: {p.label}", ""]
    lines += [f"  {_buffer(b)}" for b in p.buffers]
    for stage in p.stages:
        lines += ["", *_stage(p, stage)]
    if p.notes:
        lines += ["", *(f"note: {note}" for note in p.notes)]
    return "\n".join(lines) + "\n"


def buffer_shape(b: Buffer) -> str:
    """`f32[B, H, M, N]`, axes in memory order."""
    return f"{b.dtype}[{', '.join(text.expression(b.shape[a]) for a in b.order)}]"


def _buffer(b: Buffer) -> str:
    order = "" if b.order == tuple(range(len(b.order))) else f"  # axes {', '.join(map(str, b.order))}"
    return f"{b.role.value} {b.name}: {buffer_shape(b)}{order}"


def _stage(p: Plan, stage: Stage) -> Iterator[str]:
    match stage:
        case MmeStage():
            yield f"mme {stage.name}"
            groups = {"batch": stage.batch, "m": stage.m, "n": stage.n, "k": stage.k}
            yield "  " + "; ".join(f"{name} ({', '.join(factors)})" for name, factors in groups.items())
            extents = ", ".join(f"{f.name} = {text.expression(f.extent)}" for f in stage.factors)
            yield f"  where {extents}"
            sides = " * ".join(_operand(p, o) for o in (stage.lhs, stage.rhs))
            yield f"  {_operand(p, stage.out)} = {sides}"
            yield from _equations(stage.program)
        case TpcStage():
            yield f"tpc {stage.name}, lanes along {stage.lane}" if stage.lane else f"tpc {stage.name}"
            for t in (*stage.program.inputs, *stage.program.outputs):
                yield f"  {t.role.value} {t.name}: {t.dtype}[{', '.join(text.expression(e) for e in t.shape)}]"
            for a in stage.program.attributes:
                yield f"  scalar {a.name}: {'int' if a.type.is_integer else 'f32'}"
            yield from _equations(stage.program)
        case MoveStage():
            yield f"move {stage.name}"
            yield f"  {stage.target} = {stage.source}"
        case CopyStage():
            yield f"move {stage.name}"
            yield from _equations(stage.program)


def _operand(p: Plan, o: Operand) -> str:
    axes = [o.axes[a] for a in p.buffer(o.buffer).order]
    return f"{o.buffer}[{', '.join(a[0] if len(a) == 1 else '(' + ' '.join(a) + ')' for a in axes)}]"


def _equations(program: ir.Program) -> Iterator[str]:
    for s in program.body:
        yield from (f"  {line}" for line in text.statement(s, program).splitlines())
