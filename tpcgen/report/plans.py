"""The plan table of an operator: what runs on which engine, how long the cost model thinks it takes, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpcgen.emit.artifact import Artifact, Variant
from tpcgen.machine.model import GATHER_ROW
from tpcgen.partition.baseline import FUSED, PLAIN
from tpcgen.partition.choose import Choice
from tpcgen.partition.table import duration
from tpcgen.partition.table import table as plan_table
from tpcgen.report.tables import bindings, table

_REJECTED_SHOWN = 4
_BASELINES = {
    PLAIN: "baseline: the same equations as torch ops under hpu_backend, scores in the inputs' dtype",
    FUSED: "baseline: the vendor's fused kernel, scores in the inputs' dtype",
}


def to_text(artifact: Artifact, choices: Sequence[Sequence[Choice]]) -> str:
    """One table per dtype and plan, then what was rejected. `choices` per variant: one for each of its tuned sizes.

    Times are the model's: nothing here was measured on Gaudi.
    """
    plans = zip(artifact.variants, choices, strict=True)
    return "\n".join("\n".join(_plan(artifact, variant, chosen)) for variant, chosen in plans)


def _plan(artifact: Artifact, variant: Variant, choices: Sequence[Choice]) -> Iterator[str]:
    title = f"{variant.op} {variant.dtype} on {artifact.target}"
    if not choices:
        yield f"{title}: {variant.plan.label}"
        yield "No sizes to tune for are known: this plan was not compared with others.\n"
        return
    yield f"{title} at {bindings(variant.tuned[0])}: {variant.plan.label}"
    yield ""
    yield from _choice(choices[0])
    if len(choices) > 1:
        also = zip(variant.tuned[1:], choices[1:], strict=True)
        rows = [(bindings(values), duration(choice.price.seconds)) for values, choice in also]
        yield table(("also chosen at", "predicted"), rows, frozenset({"predicted"}))
    alike = next(own for own in artifact.alike() if variant in own)
    if len(alike) > 1 and variant is alike[-1]:
        yield "All other sizes take this plan.\n"
    yield "Times are predictions of the cost model; nothing was measured on Gaudi.\n"


def _choice(choice: Choice) -> Iterator[str]:
    rows = plan_table(choice.price)
    yield table(rows.header, [*rows.rows, rows.total], frozenset({"predicted"}))
    others = [
        (label, f"{'> ' * bounded}{duration(seconds)}", "rejected")
        for label, seconds, bounded in choice.others[:_REJECTED_SHOWN]
    ]
    others += [(b.label, duration(b.seconds), _BASELINES[b.label]) for b in choice.baselines]
    yield table(("instead", "predicted", ""), others, frozenset({"predicted"}))
    for s in choice.price.stages:
        if s.bound.startswith("gather of") and int(s.bound.split()[2]) < GATHER_ROW:
            yield (
                f"note: {s.name} reads rows of {s.bound.split()[2]} bytes by a table, {GATHER_ROW} moved for each: "
                "gathers of short rows were measured at a quarter of the rate of long ones (T14)\n"
            )
    if choice.better_baseline is not None:
        better = choice.better_baseline.label
        yield f"warning: by these predictions {better} is faster than this plan: prefer it where its rounding will do\n"
