"""Tables as plain text: the same bytes on a terminal, in a file and in a golden test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> str:
    """Columns two spaces apart; those whose heading is in `right` are aligned to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(header, cells, widths, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *map(line, rows)]) + "\n"


def number(value: float) -> str:
    """Three significant digits, with an exponent where that is shorter."""
    return "nan" if value != value else f"{value:.3g}"


def bindings(values: Mapping[str, int | float]) -> str:
    """`B=1 H=12`."""
    return " ".join(f"{name}={value}" for name, value in values.items())
