"""Integer expressions as polynomials over indices, sizes, attributes and opaque terms; a small prover of inequalities.

A `Polynomial` maps a product of atoms to its integer coefficient. An atom is an index, a size, an attribute or a term
the algebra does not see through (`//`, `%`, a read, a call), itself in normal form. Two integer expressions with equal
polynomials are equal wherever both are defined.

The prover knows that sizes are at least 1: what it proves need not hold for empty tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from math import gcd

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
    free_indices,
    type_of,
)

Monomial = tuple[Expr, ...]
Polynomial = Mapping[Monomial, int]
FrozenPolynomial = frozenset[tuple[Monomial, int]]

_MAX_TERMS = 256
"""A product with more terms than this is left opaque: normal forms stay small whatever the input."""


@lru_cache(maxsize=8192)
def polynomial(e: Expr) -> Polynomial:
    """Normal form of an i32 expression. Callers must not change the result."""
    match e:
        case Literal():
            return constant(int(e.value))
        case Index() | Size() | Attr():
            return {(e,): 1}
        case Unary(operator="-"):
            return scale(polynomial(e.operand), -1)
        case Binary(operator="+"):
            return add(polynomial(e.left), polynomial(e.right))
        case Binary(operator="-"):
            return subtract(polynomial(e.left), polynomial(e.right))
        case Binary(operator="*"):
            product = multiply(polynomial(e.left), polynomial(e.right))
            return product if product is not None else {(e,): 1}
        case Binary(operator="//" | "%"):
            return _divide(e.operator, polynomial(e.left), polynomial(e.right))
        case _:
            return {(_canonical(e),): 1}


def constant(value: int) -> Polynomial:
    return {(): value} if value else {}


def add(a: Polynomial, b: Polynomial) -> Polynomial:
    result = dict(a)
    for monomial, coefficient in b.items():
        total = result.get(monomial, 0) + coefficient
        if total:
            result[monomial] = total
        else:
            del result[monomial]
    return result


def scale(a: Polynomial, factor: int) -> Polynomial:
    if factor == 1:
        return a
    return {m: c * factor for m, c in a.items()} if factor else {}


def subtract(a: Polynomial, b: Polynomial) -> Polynomial:
    result = dict(a)
    for monomial, coefficient in b.items():
        total = result.get(monomial, 0) - coefficient
        if total:
            result[monomial] = total
        else:
            del result[monomial]
    return result


def multiply(a: Polynomial, b: Polynomial) -> Polynomial | None:
    """None when the product has too many terms to be of use."""
    if len(a) * len(b) > _MAX_TERMS:
        return None
    result: Polynomial = {}
    for m, c in a.items():
        for n, d in b.items():
            result = add(result, {tuple(sorted(m + n, key=_key)): c * d})
    return result


def as_constant(a: Polynomial) -> int | None:
    """The value of a polynomial without atoms."""
    if not a:
        return 0
    return a[()] if len(a) == 1 and () in a else None


def freeze(a: Polynomial) -> FrozenPolynomial:
    return frozenset(a.items())


def atoms(a: Polynomial) -> frozenset[Expr]:
    return frozenset(atom for monomial in a for atom in monomial)


@lru_cache(maxsize=8192)
def normal(e: Expr) -> Expr:
    """An i32 expression in normal form."""
    return expression(polynomial(e))


def expression(a: Polynomial) -> Expr:
    """An expression with this normal form, the same for equal polynomials: positive terms first."""
    ordered = sorted(a.items(), key=lambda item: (item[1] < 0, not item[0], [_key(x) for x in item[0]]))
    result: Expr | None = None
    for monomial, coefficient in ordered:
        term = _term(monomial, abs(coefficient))
        if result is None:
            result = term if coefficient > 0 else _negative(term)
        else:
            result = Binary("+" if coefficient > 0 else "-", result, term)
    return result if result is not None else Literal(0, DType.I32)


def blocks(length: Polynomial, size: int) -> Expr:
    """How many blocks of `size` cover a length: its quotient, rounded up."""
    return Binary("//", expression(add(length, constant(size - 1))), Literal(size, DType.I32))


def equal(a: Expr, b: Expr) -> bool:
    """Whether two integer expressions are provably equal."""
    return a == b or not subtract(polynomial(a), polynomial(b))


def coefficient_of(a: Polynomial, index: str) -> int | None:
    """The integer factor of an index, 0 where it does not occur; None where it occurs in any other way."""
    factor = 0
    for monomial, c in a.items():
        if monomial == (Index(index),):
            factor = c
        elif any(index in free_indices(atom) for atom in monomial):
            return None
    return factor


class Facts:
    """Polynomials known to be at least 0.

    What is known of an index, its range, holds where it has a value: a range may be empty for some sizes. So only facts
    about the indices of the goal take part in a proof, and of those that the facts of `extended` are about.
    """

    def __init__(self, facts: Iterable[Polynomial] = (), known: Facts | None = None) -> None:
        """`facts`, beside those of `known`."""
        self._known = known
        self._about: dict[Monomial, list[_Fact]] = {}
        """The facts in which a product occurs, with its coefficient."""
        own: set[str] = set()
        for fact in map(tighten, facts):
            if as_constant(fact) is None:
                indices = _indices(fact)
                own |= indices
                for monomial, coefficient in fact.items():
                    self._about.setdefault(monomial, []).append((coefficient, fact, indices))
        self._present: frozenset[str] = frozenset() if known is None else known._present | own
        """Indices that have a value."""
        self._failed: dict[tuple[FrozenPolynomial, frozenset[str]], int] = {}
        """Goals that were not proven with facts about some indices, with the depth looked to."""

    def extended(self, facts: Iterable[Polynomial]) -> Facts:
        """These facts and others, of points that there are."""
        return Facts(facts, self)

    def prove(self, goal: Polynomial, depth: int = 6) -> bool:
        """True only if goal >= 0 follows over the integers; False says nothing."""
        return self._prove(goal, depth, self._present | _indices(goal))

    def _with(self, monomial: Monomial) -> Iterator[_Fact]:
        if self._known is not None:
            yield from self._known._with(monomial)
        yield from self._about.get(monomial, ())

    def _prove(self, goal: Polynomial, depth: int, present: frozenset[str]) -> bool:
        goal = tighten(goal)
        value = as_constant(goal)
        if value is not None:
            return value >= 0
        key = freeze(goal), present
        if depth <= self._failed.get(key, 0):
            return False
        proven = self._follows(goal, depth, present)
        if not proven:
            self._failed[key] = depth
        return proven

    def _follows(self, goal: Polynomial, depth: int, present: frozenset[str]) -> bool:
        pivot = min((m for m in goal if m), key=_difficulty)
        factor = goal[pivot]
        for other, fact, indices in self._with(pivot):
            if other * factor > 0 and indices <= present:
                rest = subtract(scale(goal, abs(other)), scale(fact, abs(factor)))
                if self._prove(rest, depth - 1, present):
                    return True
        if factor > 0 and all(isinstance(atom, Size) for atom in pivot):
            return self._prove(subtract(goal, {pivot: factor, (): -factor}), depth - 1, present)
        return False


_Fact = tuple[int, Polynomial, frozenset[str]]


def _indices(p: Polynomial) -> frozenset[str]:
    return frozenset[str]().union(*(free_indices(atom) for atom in atoms(p)))


def tighten(a: Polynomial) -> Polynomial:
    """The same inequality `a >= 0` over the integers, divided by the common factor of its coefficients."""
    if any(m and (c == 1 or c == -1) for m, c in a.items()):
        return a
    common = gcd(*(c for m, c in a.items() if m))
    if common <= 1:
        return a
    result = {m: c // common for m, c in a.items() if m}
    floor = a.get((), 0) // common
    if floor:
        result[()] = floor
    return result


def _divide(operator: str, a: Polynomial, b: Polynomial) -> Polynomial:
    divisor = as_constant(b)
    numerator = as_constant(a)
    if divisor is not None and numerator is not None and divisor != 0:
        return constant(numerator // divisor if operator == "//" else numerator % divisor)
    exact = _exact_quotient(a, b)
    if exact is not None:
        return exact if operator == "//" else {}
    return {(Binary(operator, expression(a), expression(b)),): 1}


def _exact_quotient(a: Polynomial, b: Polynomial) -> Polynomial | None:
    """a / b where b is one term that divides every term of a."""
    if len(b) != 1:
        return None
    ((divisor, factor),) = b.items()
    quotient: dict[Monomial, int] = {}
    for monomial, coefficient in a.items():
        rest = list(monomial)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if coefficient % factor:
            return None
        quotient[tuple(rest)] = coefficient // factor
    return quotient


def _canonical(e: Expr) -> Expr:
    match e:
        case Read():
            return Read(e.tensor, tuple(map(normal, e.indices)), e.dtype)
        case Call(function="abs" | "clamp" | "select"):
            return Call(e.function, tuple(canonical(a) for a in e.arguments))
        case Call(function="min" | "max"):
            return Call(e.function, tuple(sorted((canonical(a) for a in e.arguments), key=_key)))
        case _:
            return e


def canonical(e: Expr) -> Expr:
    """Integer parts in normal form; anything else as it is."""
    return normal(e) if type_of(e) is DType.I32 else _canonical_real(e)


def _canonical_real(e: Expr) -> Expr:
    match e:
        case Read():
            return _canonical(e)
        case Unary():
            return Unary(e.operator, canonical(e.operand))
        case Binary():
            return Binary(e.operator, canonical(e.left), canonical(e.right))
        case Call():
            return Call(e.function, tuple(canonical(a) for a in e.arguments))
        case Cast():
            return Cast(e.dtype, canonical(e.operand))
        case Reduce():
            domain = canonical(e.domain) if e.domain is not None else None
            sink = canonical(e.sink) if e.sink is not None else None
            return Reduce(e.kind, e.indices, domain, sink, canonical(e.body))
        case _:
            return e


def _term(monomial: Monomial, coefficient: int) -> Expr:
    if not monomial:
        return Literal(coefficient, DType.I32)
    result: Expr | None = Literal(coefficient, DType.I32) if coefficient != 1 else None
    for atom in monomial:
        result = atom if result is None else Binary("*", result, atom)
    assert result is not None
    return result


def _negative(term: Expr) -> Expr:
    if isinstance(term, Literal):
        return Literal(-term.value, term.type)
    return Unary("-", term)


@lru_cache(maxsize=8192)
def _difficulty(monomial: Monomial) -> tuple[int, list[str]]:
    """Sizes are the easiest to bound, so they come last."""
    return (1 if all(isinstance(atom, Size) for atom in monomial) else 0, [_key(a) for a in monomial])


def _key(atom: Expr) -> str:
    match atom:
        case Index():
            return "0" + atom.name
        case Attr():
            return "1" + atom.name
        case Size():
            return "2" + atom.name
        case _:
            return "3" + repr(atom)
