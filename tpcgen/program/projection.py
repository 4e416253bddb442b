"""Cases without some of their indices: is there a value of the index such that the case holds?"""

from __future__ import annotations

from collections.abc import Sequence

from tpcgen.program import affine, domains
from tpcgen.program.affine import Facts, Polynomial
from tpcgen.program.domains import Case, Opaque
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Expr, Index, IndexRange, Literal, Unary, free_indices


def project(case: Case, ranges: Sequence[IndexRange], facts: Facts) -> Case | None:
    """The condition under which the case holds for some value of every index of `ranges`, without those indices.

    Fourier-Motzkin elimination, exact over the integers where the index has the factor 1 or -1 in every inequality it
    occurs in; None where it has not, or where an opaque term uses it. Terms that `facts` prove are left out.
    """
    left = case
    for r in ranges:
        eliminated = _eliminate(left, r, facts)
        if eliminated is None:
            return None
        left = eliminated
    return frozenset(t for t in left if not domains.implies(frozenset(), t, facts))


def condition(cases: Sequence[Case]) -> Expr | None:
    """The cases as a boolean expression; None where it is true."""
    result: Expr | None = None
    for case in cases:
        whole: Expr | None = None
        for term in sorted((_term(t) for t in case), key=repr):
            whole = term if whole is None else Binary("and", whole, term)
        if whole is None:
            return None
        result = whole if result is None else Binary("or", result, whole)
    return result if result is not None else Literal(False, DType.BOOL)


def _eliminate(case: Case, r: IndexRange, facts: Facts) -> Case | None:
    lower: list[Polynomial] = []
    upper: list[Polynomial] = []
    rest: set[domains.Term] = set()
    index = affine.polynomial(Index(r.name))
    for inequality in [*domains.range_facts([r]), *domains.inequalities(case)]:
        factor = affine.coefficient_of(inequality, r.name)
        if factor is None or abs(factor) > 1:
            return None
        if factor == 1:
            lower.append(affine.subtract(index, inequality))
        elif factor == -1:
            upper.append(affine.add(index, inequality))
        else:
            rest.add(domains.at_least_zero(inequality))
    opaque = [t for t in case if isinstance(t, Opaque)]
    if any(r.name in free_indices(t.condition) for t in opaque):
        return None
    for low in lower:
        for high in upper:
            gap = affine.subtract(high, low)
            if not facts.prove(gap):
                rest.add(domains.at_least_zero(gap))
    return frozenset({*rest, *opaque})


def _term(term: domains.Term) -> Expr:
    if isinstance(term, Opaque):
        return term.condition if term.holds else _negated(term.condition)
    positive = {m: c for m, c in term.terms if c > 0}
    negative = {m: -c for m, c in term.terms if c < 0}
    return Binary("<=", affine.expression(negative), affine.expression(positive))


def _negated(e: Expr) -> Expr:
    return Unary("not", e)
