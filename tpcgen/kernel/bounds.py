"""Bounds of a loop from the affine part of its domain.

A loop runs over one index for a bundle of points: the lanes of a vector, the rows in flight. A bound that differs from
point to point gives two numbers: where the first point may start and where all have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpcgen.kernel.presence import conjuncts
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    Attr,
    Binary,
    Call,
    Cast,
    Expr,
    Index,
    Literal,
    Read,
    Reduce,
    Size,
    Unary,
    children,
    free_indices,
    type_of,
)
from tpcgen.program.substitute import substitute


@dataclass(frozen=True, slots=True)
class Bounds:
    """Half-open interval of an index for a bundle of points.

    Some point is inside from `begin` on, all are from `all_begin` on, all still are up to `all_end`, some up to `end`.
    `mask` holds the conjuncts to test where not all points are inside; `everywhere` those that must always be tested.
    """

    begin: Expr
    all_begin: Expr
    all_end: Expr
    end: Expr
    mask: tuple[Expr, ...]
    everywhere: tuple[Expr, ...]

    @property
    def varies_low(self) -> bool:
        return self.begin != self.all_begin

    @property
    def varies_high(self) -> bool:
        return self.end != self.all_end


def integer(value: int) -> Expr:
    return Literal(value, DType.I32)


def plus(a: Expr, b: Expr | int) -> Expr:
    """The sum in normal form."""
    other = b if not isinstance(b, int) else integer(b)
    return affine.expression(affine.polynomial(Binary("+", a, other)))


def largest(values: list[Expr]) -> Expr:
    return _extreme("max", values)


def smallest(values: list[Expr]) -> Expr:
    return _extreme("min", values)


def _extreme(function: str, values: list[Expr]) -> Expr:
    distinct = list(dict.fromkeys(affine.expression(affine.polynomial(v)) for v in values))
    result = distinct[0]
    for v in distinct[1:]:
        if isinstance(result, Literal) and isinstance(v, Literal):
            pick = max if function == "max" else min
            result = integer(int(pick(result.value, v.value)))
        else:
            result = Call(function, (result, v))
    return result


def bounds(domain: Expr | None, index: str, low: Expr, high: Expr, varying: Mapping[str, int]) -> Bounds:
    """`varying`: indices that take a run of values in the bundle, with the length of the run."""
    begins, ends = [(low, low)], [(high, high)]
    mask: list[Expr] = []
    everywhere: list[Expr] = []
    for condition in conjuncts(domain):
        limit = _limit(condition, index)
        if limit is None:
            everywhere.append(condition)
            continue
        is_low, value = limit
        span = _span(value, varying)
        if span is None:
            everywhere.append(condition)
            continue
        (begins if is_low else ends).append(span)
        mask.append(condition)
    begin = largest([b[0] for b in begins])
    return Bounds(
        begin,
        largest([b[1] for b in begins]),
        smallest([e[0] for e in ends]),
        smallest([e[1] for e in ends]),
        tuple(mask),
        tuple(everywhere),
    )


def _limit(condition: Expr, index: str) -> tuple[bool, Expr] | None:
    """(True, l) for index >= l, (False, h) for index < h."""
    if not isinstance(condition, Binary) or condition.operator not in ("<", "<=", ">", ">="):
        return None
    if type_of(condition.left) is not DType.I32 or type_of(condition.right) is not DType.I32:
        return None
    if not all(_is_integer_algebra(e) for e in (condition.left, condition.right)):
        return None
    difference = affine.polynomial(Binary("-", condition.left, condition.right))
    factor = affine.coefficient_of(difference, index)
    if factor not in (1, -1):
        return None
    rest = affine.expression(affine.subtract(difference, {(Index(index),): factor}))
    operator = condition.operator
    if factor == -1:
        operator = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}[operator]
    else:
        rest = affine.expression(affine.polynomial(Unary("-", rest)))
    match operator:
        case "<":
            return False, rest
        case "<=":
            return False, plus(rest, 1)
        case ">":
            return True, plus(rest, 1)
        case _:
            return True, rest


def _is_integer_algebra(e: Expr) -> bool:
    match e:
        case Literal() | Index() | Size() | Attr():
            return type_of(e) is DType.I32
        case Read():
            return all(_is_integer_algebra(i) for i in e.indices)
        case Cast() | Reduce():
            return False
        case _:
            return all(_is_integer_algebra(c) for c in children(e))


def _span(value: Expr, varying: Mapping[str, int]) -> tuple[Expr, Expr] | None:
    """Least and greatest value over the bundle, None where it is not affine in what varies."""
    least, greatest = value, value
    poly = affine.polynomial(value)
    for index in sorted(free_indices(value) & set(varying)):
        factor = affine.coefficient_of(poly, index)
        if factor is None:
            return None
        last: Mapping[str, Expr] = {index: plus(Index(index), varying[index] - 1)}
        if factor > 0:
            greatest = substitute(greatest, last)
        else:
            least = substitute(least, last)
    simplify = affine.expression
    return simplify(affine.polynomial(least)), simplify(affine.polynomial(greatest))
