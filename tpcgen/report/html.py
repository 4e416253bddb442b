"""An explanation as one HTML page that needs nothing else: timeline, tile pictures, tables, kernels beside the spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jinja2

from tpcgen.partition.simulate import ENGINES, Span
from tpcgen.partition.table import duration, size
from tpcgen.report.explain import Explanation, StageReport, others, schedule, sliced_line, tile_line, totals, work
from tpcgen.report.tables import bindings
from tpcgen.report.tiles import Tiles

WIDTH = 960
"""Width of a timeline, in user units; its lanes are `LANE` high."""
LANE = 34
LABEL = 56
CELLS = 64
"""Most cells of a side of a tile picture; larger ones are drawn coarser."""

_FOLDER = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with what a reader sees when pointing at it; `label` where there is room for it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """Rectangles of a drawing `width` by `height`, and texts (x, y, text)."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    texts: tuple[tuple[float, float, str], ...]


def to_html(explanations: Sequence[Explanation]) -> str:
    """The page. Everything that comes from the spec is escaped; nothing is loaded from anywhere."""
    operators = [
        {
            "x": x,
            "title": f"{x.op} {x.dtype} on {x.device} at {bindings(x.binding.values)}",
            "seconds": duration(x.choice.price.seconds),
            "timeline": timeline([s.price.name for s in x.stages], [s.span for s in x.stages]),
            "sliced": timeline(x.sliced.names, x.sliced.spans) if x.sliced is not None else None,
            "sliced_line": sliced_line(x),
            "rows": [_row(s) for s in x.stages],
            "stages": [_stage(s) for s in x.stages],
            "totals": list(totals(x)),
            "others": "\n".join(others(x)),
            "schedule": schedule(x),
            "spec": list(enumerate(x.spec.splitlines(), 1)),
        }
        for x in explanations
    ]
    return environment().get_template("report/explain.html.j2").render(operators=operators)


def timeline(names: Sequence[str], spans: Sequence[Span]) -> Picture:
    """A lane per engine; boxes in proportion to time."""
    end = max((s.end for s in spans), default=0.0) or 1.0
    scale = (WIDTH - LABEL) / end
    boxes = tuple(
        Box(
            LABEL + s.start * scale,
            LANE * ENGINES.index(s.engine) + 3,
            max((s.end - s.start) * scale, 0.5),
            LANE - 6,
            s.engine.lower(),
            f"{name}: {duration(s.start)} to {duration(s.end)}",
            name if (s.end - s.start) * scale > 7 * len(name) else "",
        )
        for name, s in zip(names, spans, strict=True)
    )
    lanes = [(4.0, LANE * (n + 0.65), engine) for n, engine in enumerate(ENGINES)]
    ticks = [(LABEL + (WIDTH - LABEL - 50) * n / 4, LANE * 3 + 14.0, duration(end * n / 4)) for n in range(5)]
    return Picture(WIDTH, LANE * 3 + 20, boxes, (*lanes, *ticks))


def tile_picture(t: Tiles) -> Picture:
    """A cell per tile, or per block of tiles where there are too many; rows downward, columns to the right."""
    step = max(-(-max(t.classes.shape, default=1) // CELLS), 1)
    cell = max(4, 256 // max(-(-max(t.classes.shape, default=1) // step), 1))
    return Picture(
        cell * -(-t.classes.shape[1] // step), cell * -(-t.classes.shape[0] // step), tuple(_cells(t, step, cell)), ()
    )


def _cells(t: Tiles, step: int, cell: int) -> Iterator[Box]:
    rows, columns = t.classes.shape
    for r in range(0, rows, step):
        for c in range(0, columns, step):
            part = t.classes[r : r + step, c : c + step]
            low, high = int(part.min()), int(part.max())
            kind = ("empty", "partial", "full")[low if low == high else 1]
            place = f"{t.row} {r * 128}.., {t.column} {c * 128}..: {kind}"
            yield Box(cell * (c // step), cell * (r // step), cell - 1, cell - 1, kind, place)


def _row(s: StageReport) -> tuple[str, ...]:
    p = s.price
    return (
        p.name,
        p.engine,
        p.shapes,
        duration(s.span.start),
        duration(p.seconds),
        p.bound,
        f"{p.macs:,}" if p.macs else "",
        size(p.traffic),
        p.known_by,
    )


def _stage(s: StageReport) -> dict[str, object]:
    return {
        "name": s.price.name,
        "engine": s.price.engine,
        "equations": "\n".join(s.equations),
        "time": "\n".join([work(s.price), *s.time]),
        "instead": ", ".join(s.instead),
        "tiles": tile_picture(s.tiles) if s.tiles is not None else None,
        "tile_line": tile_line(s.tiles) if s.tiles is not None else s.undrawn,
        "code": s.code,
    }


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Of the reports: values are escaped, undefined names are errors."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
