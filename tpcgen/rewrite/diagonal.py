"""Where a reduction lies along the diagonal of queries and keys: what its domain says of `k - q`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.print import expression as text
from tpcgen.rewrite.edit import conjunction, conjuncts, definitions
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.support import Supports, UndeterminedError, at_least_zero


@dataclass(frozen=True, slots=True)
class Band:
    """`low <= k - q <= high` at every point of a reduction over `k` for each `q`; no indices in the bounds.

    A side that nothing bounds is None. `tensor` is what the reduction is part of. `first`: every `q` reaches the points
    with `k < first` as well; then there is a `high` and no `low`.
    """

    q: str
    k: str
    low: Polynomial | None
    high: Polynomial | None
    tensor: str
    first: Polynomial | None = None

    @property
    def conditions(self) -> tuple[Polynomial, ...]:
        """The bounds as polynomials that are at least 0."""
        k_minus_q = difference(self.k, self.q)
        if self.first is not None and self.high is not None:
            last = affine.add(affine.polynomial(ir.Index(self.q)), self.high)
            return (_at_most_either(self.k, last, affine.subtract(self.first, affine.constant(1))),)
        low = () if self.low is None else (affine.subtract(k_minus_q, self.low),)
        high = () if self.high is None else (affine.subtract(self.high, k_minus_q),)
        return (*low, *high)


def bands(program: ir.Program) -> Iterator[tuple[ir.Reduce, Band]]:
    """Every reduction with a bound on one side or both, in text order."""
    for d in definitions(program):
        for e in _reductions(d.equation):
            for (q, k), (low, high) in _bounds(e, d.equation, program).items():
                yield e, Band(q, k, low, high, d.tensor.name)
            for q, k, high, first in _behind_first(e, d.equation):
                yield e, Band(q, k, None, high, d.tensor.name, first)


def either_or(program: ir.Program) -> Refused | None:
    """Why a reduction over `k` whose domain is an `or` that ties it to a query has no bound."""
    for d in definitions(program):
        for e in _reductions(d.equation):
            for c in conjuncts(e.domain):
                names = ir.free_indices(c)
                if isinstance(c, ir.Binary) and c.operator == "or" and names & {*e.indices} and names - {*e.indices}:
                    return Refused(f"`{text(c)}` is no band: each side of the `or` adds points of its own", e.span)
    return None


def support_of(e: ir.Reduce, program: ir.Program) -> list[Polynomial]:
    """What holds at every point a reduction visits, as polynomials that are at least 0; conditions on data left out."""
    try:
        where = conjunction([e.domain, Supports(program).of(e.body).where])
    except UndeterminedError:
        where = e.domain
    either = [_at_most_either(k, a, b) for k, a, b in _unions(where)]
    return [*(p for c in conjuncts(where) for p in at_least_zero(c) or []), *either]


def difference(k: str, q: str) -> Polynomial:
    return affine.subtract(affine.polynomial(ir.Index(k)), affine.polynomial(ir.Index(q)))


def has_indices(p: Polynomial) -> bool:
    """Whether a polynomial depends on the point, by an index or by data."""
    return any(ir.free_indices(atom) or isinstance(atom, ir.Read) for atom in affine.atoms(p))


def _unions(where: ir.Expr | None) -> Iterator[tuple[str, Polynomial, Polynomial]]:
    """(k, a, b) for each condition `k <= a or k <= b`; a depends on the point if one does."""
    for c in conjuncts(where):
        if not (isinstance(c, ir.Binary) and c.operator == "or"):
            continue
        sides = [at_least_zero(side) or [] for side in (c.left, c.right)]
        for k in sorted(ir.free_indices(c)):
            if all(len(s) == 1 and affine.coefficient_of(s[0], k) == -1 for s in sides):
                a, b = (affine.add(s[0], affine.polynomial(ir.Index(k))) for s in sides)
                yield (k, a, b) if has_indices(a) else (k, b, a)


def _at_most_either(k: str, a: Polynomial, b: Polynomial) -> Polynomial:
    """max(a, b) - k, at least 0 where k <= a or k <= b."""
    greatest = ir.Call("max", (affine.expression(a), affine.expression(b)))
    return affine.subtract(affine.polynomial(greatest), affine.polynomial(ir.Index(k)))


def _behind_first(e: ir.Reduce, around: ir.Equation) -> Iterator[tuple[str, str, Polynomial, Polynomial]]:
    """(q, k, high, first) for each condition `k - q <= high or k < first`."""
    found = [x for x in _unions(e.domain) if x[0] in e.indices]
    for k, a, b in found:
        for q in around.indices:
            high = affine.subtract(a, affine.polynomial(ir.Index(q)))
            if q != k and not has_indices(high) and not has_indices(b):
                yield q, k, high, affine.add(b, affine.constant(1))


def _reductions(e: ir.Equation) -> Iterator[ir.Reduce]:
    return (x for side in (e.value, e.domain) if side is not None for x in ir.walk(side) if isinstance(x, ir.Reduce))


Sides = tuple[Polynomial | None, Polynomial | None]


def _bounds(e: ir.Reduce, around: ir.Equation, program: ir.Program) -> dict[tuple[str, str], Sides]:
    """Per (q, k): the least and the greatest k - q, where the reduction's support says one."""
    result: dict[tuple[str, str], Sides] = {}
    for p in support_of(e, program):
        names = {x for atom in affine.atoms(p) for x in ir.free_indices(atom)}
        for k in names & set(e.indices):
            for q in names & set(around.indices) - {k}:
                rest = affine.subtract(p, difference(k, q))
                other = affine.add(p, difference(k, q))
                low, high = result.get((q, k), (None, None))
                if names == {q, k} and not has_indices(rest):
                    result[q, k] = (affine.scale(rest, -1), high)
                elif names == {q, k} and not has_indices(other):
                    result[q, k] = (low, other)
    return result
