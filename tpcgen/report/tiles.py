"""The points a domain keeps, in tiles: full, partial, empty. By intervals first, by points where they leave doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tpcgen.program import ir
from tpcgen.program.sizes import Value, evaluate

TILE = 128
"""Points of a side: lanes of a bf16 vector, and half the side of a Gaudi 2 MME tile."""
MOST_POINTS = 4096
"""Tiles looked at point by point; what is left over counts as partial."""

_Numbers = NDArray[np.float64]
_Interval = tuple[_Numbers, _Numbers]
_Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles of TILE x TILE points of (`row`, `column`). `classes` per tile: 0 empty, 1 partial, 2 full.

    `points` is how many points the domain has, -1 where some tile was not counted.
    """

    row: str
    column: str
    rows: int
    columns: int
    classes: NDArray[np.int8]
    points: int

    @property
    def full(self) -> int:
        return int(np.count_nonzero(self.classes == 2))

    @property
    def partial(self) -> int:
        return int(np.count_nonzero(self.classes == 1))

    @property
    def empty(self) -> int:
        return int(np.count_nonzero(self.classes == 0))

    def picture(self) -> list[str]:
        """A character per tile: # full, + partial, . empty."""
        return ["".join(".+#"[c] for c in line) for line in self.classes]


class NotDrawableError(ValueError):
    """A domain that two indices and the sizes do not decide; the message says why."""


def tiles(program: ir.Program, reduce: ir.Reduce, values: Mapping[str, Value]) -> Tiles:
    """The tiles of a reduction's domain over its own index and the one other index it depends on.

    NotDrawableError where it reads tensors or depends on more indices.
    """
    if reduce.domain is None or len(reduce.indices) != 1:
        raise NotDrawableError("no domain over one index")
    domain = reduce.domain
    if any(isinstance(e, ir.Read) for e in ir.walk(domain)):
        raise NotDrawableError("the domain reads tensors: known when it runs")
    column = reduce.indices[0]
    others = sorted(ir.free_indices(domain) - {column})
    if len(others) != 1:
        raise NotDrawableError(f"the domain depends on {' and '.join(others) or 'one index alone'}")
    return _classify(program, domain, others[0], column, values)


def _classify(program: ir.Program, domain: ir.Expr, row: str, column: str, values: Mapping[str, Value]) -> Tiles:
    low, high = zip(*(_range(program, i, values) for i in (row, column)), strict=True)
    rows, columns = max(high[0] - low[0], 0), max(high[1] - low[1], 0)
    down, across = _sides(rows), _sides(columns)
    constants = {name: _constant(float(v)) for name, v in values.items()}

    def truth(q: _Interval, k: _Interval) -> tuple[_Bools, _Bools]:
        return _truth(domain, constants | {row: (q[0][:, None], q[1][:, None]), column: (k[0][None], k[1][None])})

    sure, possible = truth(_bounds(down, low[0]), _bounds(across, low[1]))
    shape = (len(down), len(across))
    classes = np.where(np.broadcast_to(sure, shape), 2, np.where(np.broadcast_to(possible, shape), 1, 0))
    area = np.array([n for _, n in down], int)[:, None] * np.array([n for _, n in across], int)
    points = int(area[classes == 2].sum())
    doubtful = [(int(r), int(c)) for r, c in np.argwhere(classes == 1)]
    for r, c in doubtful[:MOST_POINTS]:
        q, k = (
            np.arange(n, dtype=np.float64) + at + first for (at, n), first in ((down[r], low[0]), (across[c], low[1]))
        )
        count = int(np.count_nonzero(np.broadcast_to(truth((q, q), (k, k))[0], (down[r][1], across[c][1]))))
        points += count
        classes[r, c] = 0 if count == 0 else (2 if count == area[r, c] else 1)
    counted = points if len(doubtful) <= MOST_POINTS else -1
    return Tiles(row, column, rows, columns, classes.astype(np.int8), counted)


def _sides(extent: int) -> list[tuple[int, int]]:
    """(first point, number of points) of each tile along an axis."""
    return [(at, min(TILE, extent - at)) for at in range(0, extent, TILE)]


def _bounds(sides: list[tuple[int, int]], first: int) -> _Interval:
    return np.array([at + first for at, _ in sides], float), np.array([at + n - 1 + first for at, n in sides], float)


def _constant(value: float) -> _Interval:
    held = np.full((1, 1), value)
    return held, held


def _range(program: ir.Program, index: str, values: Mapping[str, Value]) -> tuple[int, int]:
    r = program.range_of(index)
    return int(evaluate(r.low, values)), int(evaluate(r.high, values))


def _truth(e: ir.Expr, scope: Mapping[str, _Interval]) -> tuple[_Bools, _Bools]:
    """(true everywhere, true somewhere perhaps)."""
    match e:
        case ir.Binary(operator="and"):
            (a, b), (c, d) = _truth(e.left, scope), _truth(e.right, scope)
            return a & c, b & d
        case ir.Binary(operator="or"):
            (a, b), (c, d) = _truth(e.left, scope), _truth(e.right, scope)
            return a | c, b | d
        case ir.Unary(operator="not"):
            sure, possible = _truth(e.operand, scope)
            return ~possible, ~sure
        case ir.Binary() if e.operator in ir.COMPARISONS:
            return _compare(e.operator, _interval(e.left, scope), _interval(e.right, scope))
        case _:
            raise NotDrawableError("the domain is no comparison of indices and sizes")


def _compare(operator: str, left: _Interval, right: _Interval) -> tuple[_Bools, _Bools]:
    (a, b), (c, d) = left, right
    match operator:
        case "<":
            return b < c, a < d
        case "<=":
            return b <= c, a <= d
        case ">":
            return a > d, b > c
        case ">=":
            return a >= d, b >= c
        case "==":
            return (a == b) & (c == d) & (a == c), (a <= d) & (c <= b)
        case _:
            same, may = _compare("==", left, right)
            return ~may, ~same


def _interval(e: ir.Expr, scope: Mapping[str, _Interval]) -> _Interval:
    match e:
        case ir.Literal():
            return _constant(float(e.value))
        case ir.Index() | ir.Size() | ir.Attr():
            return scope[e.name]
        case ir.Unary(operator="-"):
            low, high = _interval(e.operand, scope)
            return -high, -low
        case ir.Binary():
            return _arithmetic(e.operator, _interval(e.left, scope), _interval(e.right, scope))
        case ir.Call(function="min" | "max", arguments=(first, second)):
            pick = np.minimum if e.function == "min" else np.maximum
            (a, b), (c, d) = _interval(first, scope), _interval(second, scope)
            return pick(a, c), pick(b, d)
        case ir.Call(function="abs", arguments=(only,)):
            low, high = _interval(only, scope)
            sides = np.abs(low), np.abs(high)
            return np.where((low <= 0) & (high >= 0), 0.0, np.minimum(*sides)), np.maximum(*sides)
        case _:
            raise NotDrawableError("the domain has more than arithmetic of indices and sizes")


def _arithmetic(operator: str, left: _Interval, right: _Interval) -> _Interval:
    (a, b), (c, d) = left, right
    match operator:
        case "+":
            return a + c, b + d
        case "-":
            return a - d, b - c
        case "*":
            corners = np.stack(np.broadcast_arrays(a * c, a * d, b * c, b * d))
            return corners.min(0), corners.max(0)
        case "//" if bool(np.all(c == d)) and bool(np.all(c > 0)):
            return np.floor(a / c), np.floor(b / c)
        case "%" if bool(np.all(c == d)) and bool(np.all(c > 0)):
            whole = np.floor(a / c) == np.floor(b / c)
            return np.where(whole, np.mod(a, c), 0.0), np.where(whole, np.mod(b, c), c - 1)
        case _:
            raise NotDrawableError(f"the domain has {operator} of indices")
