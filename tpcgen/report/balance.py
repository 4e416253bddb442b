"""How an attribute divides the work between the engines: a table, a plot of lines, what is best."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from tpcgen.partition.balance import Balance, Balanced, Point
from tpcgen.partition.table import duration
from tpcgen.report.tables import bindings, table

_WIDTH = 64
"""Columns of the plot."""


def to_text(found: Sequence[Balanced]) -> str:
    """Per op, dtype and sizes. Times are the model's."""
    return "\n".join("\n".join(_lines(x)) + "\n" for x in found)


def to_json(found: Sequence[Balanced]) -> str:
    """{"balances": [{"op", "dtype", "device", "sizes", "attribute", "range", "best", "even", ...}]}; times in s."""
    return json.dumps({"balances": [_data(x) for x in found]}, indent=2) + "\n"


def _data(x: Balanced) -> dict[str, object]:
    b = x.balance
    return {
        "op": x.op,
        "dtype": x.dtype,
        "device": x.device,
        "sizes": dict(x.values),
        "attribute": b.attribute,
        "range": [b.low, b.high],
        "best": b.best.value,
        "even": b.even.value,
        "gformer": b.gformer.value if b.gformer is not None else None,
        "loss": b.loss,
        "plans": {"priced": b.plans, "known": b.known},
        "points": [asdict(p) for p in b.points],
    }


def _lines(x: Balanced) -> Iterator[str]:
    b = x.balance
    yield f"{x.op} {x.dtype} on {x.device} at {bindings(x.values)}: {b.attribute} from {b.low} to {b.high}"
    yield ""
    yield table(_header(b), [_row(b, p) for p in b.points], frozenset(_header(b)[:-1])).rstrip("\n")
    yield ""
    yield from _plot(b)
    yield ""
    yield from _words(b)


def _header(b: Balance) -> tuple[str, ...]:
    apart = ("first on TPC", "second on MME") if b.gformer is not None else ()
    return (b.attribute, "MME", "TPC", "DMA", "makespan", *apart, "")


def _row(b: Balance, p: Point) -> tuple[str, ...]:
    apart: tuple[str, ...] = ()
    if b.gformer is not None:
        apart = (duration(p.rule[0]), duration(p.rule[1])) if p.rule is not None else ("", "")
    marks = [name for name, q in (("best", b.best), ("even", b.even), ("GFormer", b.gformer)) if q is p]
    marks += [] if p.fits else ["does not fit HBM"]
    times = tuple(duration(t) for t in (p.mme, p.tpc, p.dma, p.seconds))
    return (str(p.value), *times, *apart, ", ".join(marks))


def _plot(b: Balance) -> Iterator[str]:
    """A line per value: M, T where MME and TPC are, = where both, | at the makespan."""
    longest = max(p.seconds for p in b.points) or 1.0
    width = max(len(str(p.value)) for p in b.points)
    for p in b.points:
        cells = [" "] * (_WIDTH + 1)
        mme, tpc, end = (round(t / longest * _WIDTH) for t in (p.mme, p.tpc, p.seconds))
        cells[end] = "|"
        cells[mme] = "M"
        cells[tpc] = "=" if mme == tpc else "T"
        yield f"{p.value:>{width}} {''.join(cells)}".rstrip()
    yield f"{'':{width}} 0{duration(longest):>{_WIDTH}}"
    yield f"{'':{width}} M: MME held, T: TPCs held, =: both as long, |: makespan"


def _words(b: Balance) -> Iterator[str]:
    best, even, rule = b.best, b.even, b.gformer
    yield f"fastest: {b.attribute} = {best.value}, {duration(best.seconds)}, {best.label}"
    yield f"MME and TPCs most equally held: {b.attribute} = {even.value}, {duration(even.seconds)}{_slower(b, even)}"
    if rule is not None and rule.rule is not None:
        yield (
            f"GFormer's rule (arXiv 2412.19829: the first piece on the TPCs alone as long as the second on the MME): "
            f"{b.attribute} = {rule.value}, {duration(rule.rule[0])} and {duration(rule.rule[1])}; "
            f"the best plan takes {duration(rule.seconds)} there{_slower(b, rule)}"
        )
    tried = f"{len(b.points)} of {b.high - b.low + 1} values, {b.plans} of {b.known} plans at each"
    if b.bound is None:
        yield f"{tried}: the fastest of them by the model"
    else:
        share = f"{100 * (b.loss - 1):.1f}%"
        yield f"{tried}: at most {share} from the best if stage times change one way between two values"


def _slower(b: Balance, p: Point) -> str:
    return "" if p is b.best else f", {100 * (p.seconds / b.best.seconds - 1):.1f}% more than the fastest"
