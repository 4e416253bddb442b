"""Boolean expressions as cases: a disjunction of conjunctions of integer inequalities and opaque literals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tpcgen.program import affine
from tpcgen.program.affine import Facts, Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import COMPARISONS, Binary, Expr, Index, IndexRange, Literal, Unary, type_of

MAX_CASES = 64


@dataclass(frozen=True)
class AtLeastZero:
    """An integer inequality: the polynomial is >= 0."""

    terms: affine.FrozenPolynomial

    @property
    def polynomial(self) -> Polynomial:
        return dict(self.terms)


@dataclass(frozen=True)
class Opaque:
    """A condition the algebra does not see through, or (`holds` False) its negation."""

    condition: Expr
    holds: bool


Term = AtLeastZero | Opaque
Case = frozenset[Term]


def cases(e: Expr, positive: bool = True) -> list[Case] | None:
    """The cases in which `e` is true (`positive`) or false, nothing in it being absent; None if there are too many."""
    match e:
        case Literal():
            return [frozenset()] if bool(e.value) is positive else []
        case Unary(operator="not"):
            return cases(e.operand, not positive)
        case Binary(operator="and" | "or"):
            left, right = cases(e.left, positive), cases(e.right, positive)
            if left is None or right is None:
                return None
            if (e.operator == "and") is positive:
                return conjunction(left, right)
            return _limited([*left, *(c for c in right if c not in left)])
        case Binary() if e.operator in COMPARISONS and type_of(e.left) is type_of(e.right) is DType.I32:
            return _comparison(e, positive)
        case Binary(operator=">" | ">="):
            flipped = "<" if e.operator == ">" else "<="
            return [frozenset({Opaque(affine.canonical(Binary(flipped, e.right, e.left)), positive)})]
        case _:
            return [frozenset({Opaque(affine.canonical(e), positive)})]


def conjunction(left: list[Case], right: list[Case]) -> list[Case] | None:
    return _limited([a | b for a in left for b in right])


def at_least_zero(a: Polynomial) -> AtLeastZero:
    return AtLeastZero(affine.freeze(affine.tighten(a)))


def inequalities(case: Iterable[Term]) -> list[Polynomial]:
    return [t.polynomial for t in case if isinstance(t, AtLeastZero)]


def range_facts(ranges: Iterable[IndexRange]) -> list[Polynomial]:
    """low <= index < high of every range."""
    facts: list[Polynomial] = []
    for r in ranges:
        index = affine.polynomial(Index(r.name))
        facts.append(affine.subtract(index, affine.polynomial(r.low)))
        facts.append(_less(index, affine.polynomial(r.high)))
    return facts


def contradicts(case: Case, facts: Facts) -> bool:
    """Whether the terms of a case provably cannot hold together. False says nothing."""
    if any(isinstance(t, Opaque) and _opposite(t) & case for t in case):
        return True
    known = inequalities(case)
    all_facts = facts.extended(known)
    return any(all_facts.prove(affine.subtract(affine.constant(-1), p), depth=4) for p in known)


def implies(case: Case, term: Term, facts: Facts) -> bool:
    """Whether a term provably follows from a case and the facts."""
    if term in case:
        return True
    if isinstance(term, Opaque):
        return False
    return facts.extended(inequalities(case)).prove(term.polynomial)


def _opposite(t: Opaque) -> frozenset[Term]:
    """Literals that cannot hold together with this one, NaN or not."""
    result: set[Term] = {Opaque(t.condition, not t.holds)}
    if t.holds and isinstance(t.condition, Binary) and t.condition.operator in ("<", "<="):
        left, right = t.condition.left, t.condition.right
        result.add(Opaque(Binary("<", right, left), True))
        if t.condition.operator == "<":
            result |= {Opaque(Binary("<=", right, left), True), Opaque(Binary("==", left, right), True)}
            result.add(Opaque(Binary("==", right, left), True))
    return frozenset(result)


def _comparison(e: Binary, positive: bool) -> list[Case]:
    a, b = affine.polynomial(e.left), affine.polynomial(e.right)
    operator = e.operator if positive else NEGATED[e.operator]
    match operator:
        case "<":
            return _case(_less(a, b))
        case "<=":
            return _case(affine.subtract(b, a))
        case ">":
            return _case(_less(b, a))
        case ">=":
            return _case(affine.subtract(a, b))
        case "==":
            return _case(affine.subtract(a, b), affine.subtract(b, a))
        case _:
            return [*_case(_less(a, b)), *_case(_less(b, a))]


NEGATED = {"<": ">=", ">=": "<", "<=": ">", ">": "<=", "==": "!=", "!=": "=="}
"""The comparison of integers that holds where another one does not."""


def _less(a: Polynomial, b: Polynomial) -> Polynomial:
    return affine.add(affine.subtract(b, a), affine.constant(-1))


def _case(*inequalities: Polynomial) -> list[Case]:
    terms: set[Term] = set()
    for a in inequalities:
        value = affine.as_constant(a)
        if value is None:
            terms.add(at_least_zero(a))
        elif value < 0:
            return []
    return [frozenset(terms)]


def _limited(found: list[Case]) -> list[Case] | None:
    return found if len(found) <= MAX_CASES else None
