"""The plan table of an artifact: stage, engine, shapes."""

from __future__ import annotations

from collections.abc import Iterator

from tpcgen.emit.artifact import Artifact
from tpcgen.partition.plan import MmeStage, MoveStage, Plan, Stage, TpcStage
from tpcgen.partition.print import buffer_shape
from tpcgen.report.tables import table


def to_text(artifact: Artifact) -> str:
    """One table per dtype."""
    return "\n".join(_plan(v.dtype, v.plan) for v in artifact.variants)


def _plan(dtype: str, plan: Plan) -> str:
    rows = [_row(plan, stage) for stage in plan.stages]
    title = f"{plan.program.name} {dtype} on {plan.target}, plan: {plan.label}"
    return f"{title}\n\n{table(('stage', 'engine', 'computes'), rows)}"


def _row(plan: Plan, stage: Stage) -> tuple[str, str, str]:
    match stage:
        case MmeStage():
            inputs, outputs, engine = (stage.lhs.buffer, stage.rhs.buffer), (stage.out.buffer,), "MME"
        case TpcStage():
            inputs = tuple(t.name for t in stage.program.inputs)
            outputs, engine = tuple(t.name for t in stage.program.outputs), "TPC"
        case MoveStage():
            inputs, outputs, engine = (stage.source,), (stage.target,), "move"
    return stage.name, engine, f"{_buffers(plan, inputs)} -> {_buffers(plan, outputs)}"


def _buffers(plan: Plan, names: tuple[str, ...]) -> str:
    return ", ".join(_shapes(plan, names))


def _shapes(plan: Plan, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        yield f"{name} {buffer_shape(plan.buffer(name))}"
