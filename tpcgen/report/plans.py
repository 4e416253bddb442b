"""The plan table of an operator: what runs on which engine, how long the cost model thinks it takes, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tpcgen.partition.choose import Choice
from tpcgen.partition.table import duration
from tpcgen.partition.table import table as plan_table
from tpcgen.report.tables import bindings, table

_REJECTED_SHOWN = 4


def to_text(op: str, dtypes: Sequence[str], choices: Sequence[Choice], tuned: Mapping[str, int | float]) -> str:
    """One table per dtype, then what was rejected. Times are the model's: nothing here was measured on Gaudi."""
    return "\n".join("\n".join(_plan(op, dtype, choice, tuned)) for dtype, choice in zip(dtypes, choices, strict=True))


def _plan(op: str, dtype: str, choice: Choice, tuned: Mapping[str, int | float]) -> Iterator[str]:
    rows = plan_table(choice.price)
    yield f"{op} {dtype} on {choice.plan.target} at {bindings(tuned)}: {choice.plan.label}"
    yield ""
    yield table(rows.header, [*rows.rows, rows.total], frozenset({"predicted"}))
    for label, price in choice.rejected[:_REJECTED_SHOWN]:
        yield f"rejected: {label}, {duration(price.seconds)}"
    for baseline in choice.baselines:
        yield f"baseline: {baseline.label}, {duration(baseline.seconds)}"
    if choice.better_baseline is not None:
        yield f"warning: in the model {choice.better_baseline.label} is faster than this plan"
    yield "predicted by the cost model; not measured on hardware\n"
