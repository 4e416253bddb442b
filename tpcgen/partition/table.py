"""Rows of the plan table that the command line shows."""

from __future__ import annotations

from dataclasses import dataclass

from tpcgen.partition.price import PlanPrice

HEADER = ("stage", "engine", "shapes", "start", "predicted", "bound by")


@dataclass(frozen=True, slots=True)
class PlanTable:
    """Text cells, one row per stage, then the total."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...]


def table(price: PlanPrice) -> PlanTable:
    """`start` is when a stage starts, `predicted` what it takes alone; the total is when the last one ends."""
    rows = tuple(
        (s.name, s.engine, s.shapes, duration(span.start), duration(s.seconds), s.bound)
        for s, span in zip(price.stages, price.spans, strict=True)
    )
    overlap = f"engines overlap {duration(price.overlap)}" if price.overlap > 0 else "no overlap of engines"
    peak = f"peak {size(price.peak)}" + ("" if price.fits else ", more than HBM holds")
    return PlanTable(HEADER, rows, ("total", "", price.label, "", duration(price.seconds), f"{overlap}; {peak}"))


def duration(seconds: float) -> str:
    """Three significant digits, in the unit that suits: `12.3 us`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        rounded = float(f"{seconds / scale:.3g}")
        if rounded >= 1:
            return f"{rounded:g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def size(count: int) -> str:
    """Bytes in binary units: `1.5 GiB`."""
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"
