"""A schedule as a trace for ui.perfetto.dev: one process per op and dtype, a lane per engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tpcgen.partition.simulate import ENGINES, Span
from tpcgen.report.explain import Explanation


def to_json(explanations: Sequence[Explanation]) -> str:
    """Chrome trace events; times in microseconds. Assumed slices of the graph compiler are processes of their own."""
    events = list(_events(explanations))
    return json.dumps({"displayTimeUnit": "ns", "traceEvents": events}, indent=1) + "\n"


def _events(explanations: Sequence[Explanation]) -> Iterator[dict[str, object]]:
    process = 0
    for x in explanations:
        process += 1
        yield from _process(process, f"{x.op} {x.dtype} on {x.device}: predicted")
        for s in x.stages:
            arguments: dict[str, object] = {
                "shapes": s.price.shapes,
                "bound by": s.price.bound,
                "known by": s.price.known_by,
                "MACs": s.price.macs,
                "bytes": s.price.traffic,
                "HBM bytes": s.price.hbm,
                "formula": s.price.formula,
            }
            yield _slice(process, s.price.name, s.span, arguments)
        if x.sliced is not None:
            process += 1
            yield from _process(process, f"{x.op} {x.dtype}: if the graph compiler cut {x.sliced.count} slices")
            for name, span in zip(x.sliced.names, x.sliced.spans, strict=True):
                yield _slice(process, name, span, {"known by": "assumption"})


def _process(process: int, name: str) -> Iterator[dict[str, object]]:
    yield {"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}}
    for lane, engine in enumerate(ENGINES, 1):
        yield {"ph": "M", "pid": process, "tid": lane, "name": "thread_name", "args": {"name": engine}}
        yield {"ph": "M", "pid": process, "tid": lane, "name": "thread_sort_index", "args": {"sort_index": lane}}


def _slice(process: int, name: str, span: Span, arguments: dict[str, object]) -> dict[str, object]:
    return {
        "ph": "X",
        "pid": process,
        "tid": ENGINES.index(span.engine) + 1,
        "name": name,
        "ts": round(span.start * 1e6, 6),
        "dur": round((span.end - span.start) * 1e6, 6),
        "args": arguments,
    }
