"""Bounds of a loop from the affine part of its domain.

A loop runs over one index for a bundle of points: the lanes of a vector, the rows in flight. A bound that differs from
point to point gives two numbers: where the first point may start and where all have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpcgen.kernel.inside import is_count
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
    return affine.normal(Binary("+", a, other))


def largest(values: list[Expr]) -> Expr:
    return _extreme("max", values)


def smallest(values: list[Expr]) -> Expr:
    return _extreme("min", values)


def _extreme(function: str, values: list[Expr]) -> Expr:
    distinct = list(dict.fromkeys(map(affine.normal, values)))
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
        spans = [_interval(p, index, low, high, varying) for p in _about(condition, index)]
        known = [span for span in spans if span is not None]
        if not known or len(known) < len(spans):
            everywhere.append(condition)
            continue
        for is_low, span in known:
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


def _about(condition: Expr, index: str) -> list[affine.Polynomial]:
    """As `_at_most_zero`; of two bounds of the index on one side of which either may hold, the one farther out."""
    match condition:
        case Binary(operator="or", left=left, right=right):
            return _farther(_about(left, index), _about(right, index), index)
        case _:
            return _at_most_zero(condition)


def _farther(a: list[affine.Polynomial], b: list[affine.Polynomial], index: str) -> list[affine.Polynomial]:
    limits = [_limit(p, index) for p in (*a, *b)]
    if len(a) != 1 or len(b) != 1 or None in limits:
        return []
    (first_low, first), (second_low, second) = (x for x in limits if x is not None)
    if first_low != second_low:
        return []
    at = affine.polynomial(Index(index))
    if first_low:
        return [affine.subtract(affine.polynomial(smallest([first, second])), at)]
    last = affine.subtract(affine.polynomial(largest([first, second])), affine.constant(1))
    return [affine.subtract(at, last)]


def _at_most_zero(condition: Expr) -> list[affine.Polynomial]:
    """Polynomials that are all at most 0 where the condition holds, and nowhere else; empty where there are none."""
    if not isinstance(condition, Binary) or condition.operator not in ("<", "<=", ">", ">=", "=="):
        return []
    if type_of(condition.left) is not DType.I32 or type_of(condition.right) is not DType.I32:
        return []
    if not all(_is_integer_algebra(e) for e in (condition.left, condition.right)):
        return []
    difference = affine.polynomial(Binary("-", condition.left, condition.right))
    opposite, one = affine.scale(difference, -1), affine.constant(1)
    match condition.operator:
        case "<":
            return [affine.add(difference, one)]
        case "<=":
            return [difference]
        case ">":
            return [affine.add(opposite, one)]
        case ">=":
            return [opposite]
        case _:
            return [difference, opposite]


def _interval(
    p: affine.Polynomial, index: str, low: Expr, high: Expr, varying: Mapping[str, int]
) -> tuple[bool, tuple[Expr, Expr]] | None:
    """The end of the index's interval that p <= 0 sets, at its least and at its greatest over the bundle."""
    if not any(index in free_indices(atom) for atom in affine.atoms(p)):
        span = _span(_expression(p), varying)
        return None if span is None else (False, (_gate(span[1], low, high), _gate(span[0], low, high)))
    limit = _limit(p, index)
    if limit is None:
        return None
    is_low, value = limit
    span = _span(value, varying)
    return None if span is None else (is_low, span)


def _gate(p: Expr, low: Expr, high: Expr) -> Expr:
    """An end of the range low .. high that leaves all of it where p <= 0, nothing where not."""
    is_open = smallest([largest([plus(Unary("-", p), 1), integer(0)]), integer(1)])
    return plus(low, Binary("*", plus(high, Unary("-", low)), is_open))


def _limit(p: affine.Polynomial, index: str) -> tuple[bool, Expr] | None:
    """(True, l) for index >= l, (False, h) for index < h: what p <= 0 says of an index in one term, alone or
    in a quotient by a count.
    """
    own = {m: c for m, c in p.items() if any(index in free_indices(atom) for atom in m)}
    if len(own) != 1:
        return None
    ((monomial, factor),) = own.items()
    if len(monomial) != 1:
        return None
    room = affine.scale(affine.subtract(p, own), -1)
    most = _divided(room, abs(factor))  # term <= most for a positive factor, -term <= most for a negative one
    limit = most if factor > 0 else affine.scale(most, -1)
    match monomial[0]:
        case Index():
            above = affine.add(limit, affine.constant(1))
            return (False, _expression(above)) if factor > 0 else (True, _expression(limit))
        case Binary(operator="//", left=left, right=right) if is_count(right):
            divisor = affine.polynomial(right)
            scaled = affine.multiply(limit, divisor)
            if scaled is None:
                return None
            if factor < 0:
                return _limit(affine.subtract(scaled, affine.polynomial(left)), index)
            last = affine.subtract(affine.add(scaled, divisor), affine.constant(1))
            return _limit(affine.subtract(affine.polynomial(left), last), index)
        case _:
            return None


def _divided(p: affine.Polynomial, by: int) -> affine.Polynomial:
    return p if by == 1 else affine.polynomial(Binary("//", _expression(p), integer(by)))


def _expression(p: affine.Polynomial) -> Expr:
    return affine.expression(p)


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
    """Least and greatest value over the bundle, None where it does not go one way in what varies."""
    least, greatest = value, value
    for index in sorted(free_indices(value) & set(varying)):
        way = direction(value, index)
        if way is None:
            return None
        last: Mapping[str, Expr] = {index: plus(Index(index), varying[index] - 1)}
        if way > 0:
            greatest = substitute(greatest, last)
        else:
            least = substitute(least, last)
    return affine.normal(least), affine.normal(greatest)


def direction(e: Expr, index: str) -> int | None:
    """1 where an integer expression never falls as the index grows, -1 where it never rises, 0 where it does not depend
    on it, None for anything else.
    """
    ways: set[int | None] = set()
    for monomial, factor in affine.polynomial(e).items():
        own = [atom for atom in monomial if index in free_indices(atom)]
        if not own:
            continue
        others = [atom for atom in monomial if atom not in own]
        way = _atom_direction(own[0], index) if len(own) == 1 and all(map(is_count, others)) else None
        ways.add(way if way is None or factor > 0 else -way)
    ways.discard(0)
    if not ways:
        return 0
    return ways.pop() if len(ways) == 1 else None


def _atom_direction(atom: Expr, index: str) -> int | None:
    match atom:
        case Index():
            return 1
        case Binary(operator="//", left=left, right=right) if is_count(right):
            return direction(left, index)
        case Call(function="min" | "max", arguments=arguments):
            ways = {direction(a, index) for a in arguments} - {0}
            return ways.pop() if len(ways) == 1 else None
        case _:
            return None
