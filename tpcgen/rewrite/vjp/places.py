"""Sums terms into the elements of the tensor that was read: the adjoint of a read, a gather written as a sum.

A read `X[f(i)]` at the points i of a term gives element x the sum of the term over the points with f(i) = x:

* an axis read at an index alone takes that index's place;
* an axis that is linear in an index, or its quotient or remainder by a number, is solved for that index; one that puts
  blocks of c one after the other, `c * n + i`, for both;
* an axis read through a table of integers, `X[t[j]]`, is summed over j first, and then over `j where t[j] == x`: no
  scatter, so that the order of the sum does not depend on who is first;
* what is none of these stays a condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tpcgen.diagnostics import Diagnostic, DiagnosticError
from tpcgen.program import affine, ir
from tpcgen.program.contractions import round_operands
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.program.substitute import rewrite, substitute
from tpcgen.rewrite.edit import conjunction, integer
from tpcgen.rewrite.vjp.draft import Draft
from tpcgen.rewrite.vjp.terms import Term, product

Axis = tuple[ir.Expr, str]
"""Where an axis is read, and the index of the gradient along it."""


@dataclass(frozen=True, slots=True)
class Summed:
    """`value` where `where` holds, a condition on the gradient's own indices."""

    value: ir.Expr
    where: ir.Expr | None


@dataclass(frozen=True, slots=True)
class _Solution:
    """Loops as expressions of the gradient's indices and of `loops`, new ones, under `conditions`. `used`: axes beside
    the one it was found for that it makes plain too.
    """

    values: Mapping[str, ir.Expr]
    loops: tuple[str, ...] = ()
    conditions: tuple[ir.Expr | None, ...] = ()
    used: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Places:
    draft: Draft
    name: str
    """Of the gradient: partial sums are called after it."""

    def summed(self, term: Term, axes: Sequence[Axis]) -> Summed:
        """The sum of a term over the points that read each element."""
        rest = [axis for axis in axes if not self._alone(axis, term)]
        table = next((axis for axis in rest if self._table(axis[0], term) is not None), None)
        if table is not None:
            return self._through_table(term, axes, table)
        term, axes = self._contracted_first(term, axes, bool(rest))
        return self.total(self._solved(term, axes))

    def _alone(self, axis: Axis, term: Term) -> bool:
        return isinstance(axis[0], ir.Index) and axis[0].name in term.loops

    # --- tables -------------------------------------------------------------------------------------------------------

    def _table(self, place: ir.Expr, term: Term) -> ir.Read | None:
        """The read of a table of integers that an axis depends on the term's points by."""
        if isinstance(place, ir.Read) and ir.free_indices(place) & {*term.loops}:
            return place
        return None

    def _through_table(self, term: Term, axes: Sequence[Axis], table: Axis) -> Summed:
        read = self._table(table[0], term)
        assert read is not None
        others = [axis for axis in axes if axis is not table]
        known = {place: target for place, target in others if self._alone((place, target), term)}
        own: list[Axis] = []
        for place, extent in zip(read.indices, self.draft.program.tensor(read.tensor).shape, strict=True):
            taken = {t for _, t in (*axes, *own)}
            if place in known:  # an axis of the gradient too
                own.append((place, known[place]))
            elif isinstance(place, ir.Index) and self.draft.runs_over(place.name, extent) and place.name not in taken:
                own.append((place, place.name))
            else:
                own.append((place, self.draft.index(f"{read.tensor}_{len(own)}", extent)))
        together = tuple(dict.fromkeys((*own, *others)))
        indices = tuple(t for _, t in together)
        part = self.draft.tensor(f"{self.name}_{read.tensor}", indices)
        found = self.summed(term, together)
        gathered = self.draft.define(part, indices, found.value, found.where)
        at = ir.Read(read.tensor, tuple(ir.Index(t) for _, t in own), read.dtype)
        same = ir.Binary("==", at, ir.Index(table[1]))
        loops = tuple(axis[1] for axis in own if axis not in others)
        return self.total(Term(loops, (gathered,), where=(same,)))

    # --- indices ------------------------------------------------------------------------------------------------------

    def _contracted_first(self, term: Term, axes: Sequence[Axis], moved: bool) -> tuple[Term, Sequence[Axis]]:
        """A product is summed at the indices that are read, before those are solved: a matmul of what is stored."""
        kept = frozenset[str]().union(*(ir.free_indices(p) for p, _ in axes)) & {*term.loops}
        over = {*term.loops} - kept
        factors = [f for f in term.factors if ir.free_indices(f) & over]
        if not moved or len(factors) < 2:
            return term, axes
        along = [i for place, _ in axes for i in self.draft.ordered(ir.free_indices(place) & kept)]
        indices = tuple(dict.fromkeys(along))  # as the tensor that was read has them
        part = self.draft.tensor(f"{self.name}_part", indices)
        found = self.total(Term(tuple(over), term.factors, term.divisors, term.where, term.negative))
        return Term(indices, (self.draft.define(part, indices, found.value, found.where),)), axes

    def _solved(self, term: Term, axes: Sequence[Axis]) -> Term:
        """The term as a function of the gradient's indices; the loops it still has are summed over."""
        values: dict[str, ir.Expr] = {}
        ranges: list[ir.Expr | None] = []
        rest: list[Axis] = []
        for place, target in axes:
            if isinstance(place, ir.Index) and place.name in term.loops and place.name not in values:
                values[place.name] = ir.Index(target)
                ranges.append(self.draft.in_range(place.name, ir.Index(target)))
            else:
                rest.append((place, target))
        targets = {t for _, t in axes}
        new = {i: self.draft.like(i) for i in term.loops if i not in values and i in targets}
        values |= {i: ir.Index(n) for i, n in new.items()}
        rest = [(self._moved(p, values), t) for p, t in rest]
        term = self._at(term, values).along(tuple(new.values())).only(conjunction(ranges))
        while rest:
            term, rest = self._solve_one(term, rest)
        return term

    def _solve_one(self, term: Term, rest: list[Axis]) -> tuple[Term, list[Axis]]:
        for axis in rest:
            others = [a for a in rest if a is not axis]
            found = self._digits(axis, term) or next(self._solutions(axis, others, term), None)
            if found is None:
                continue
            left = [(self._moved(p, found.values), t) for p, t in others if (p, t) not in found.used]
            inside = conjunction(self.draft.in_range(i, v) for i, v in found.values.items())
            return self._at(term.only(conjunction(found.conditions)), found.values).along(found.loops).only(
                inside
            ), left
        (place, target), *others = rest
        return term.only(ir.Binary("==", place, ir.Index(target))), others

    def _solutions(self, axis: Axis, others: list[Axis], term: Term) -> Iterator[_Solution]:
        for index in self.draft.ordered(term.loops):
            found = self._pair(index, axis, others) or self._value(index, axis)
            if found is not None:
                yield found

    def _digits(self, axis: Axis, term: Term) -> _Solution | None:
        """`c * n + i` with i over 0 .. c is read: n and i are its quotient and its remainder by c."""
        place, target = affine.polynomial(axis[0]), ir.Index(axis[1])
        for i in self.draft.ordered(term.loops):
            for n in self.draft.ordered(term.loops):
                c = affine.coefficient_of(place, n) or 0
                block = affine.add(affine.scale(affine.polynomial(ir.Index(n)), c), affine.polynomial(ir.Index(i)))
                if c > 1 and place == block and self.draft.runs_over(i, integer(c)):
                    quotient, remainder = (ir.Binary(operator, target, integer(c)) for operator in ("//", "%"))
                    return _Solution({n: quotient, i: remainder})
        return None

    def _pair(self, index: str, axis: Axis, others: list[Axis]) -> _Solution | None:
        """i // n and i % n are both read: i is one times n plus the other."""
        for operator, partner in (("//", "%"), ("%", "//")):
            divisor = _divided(axis[0], operator, index)
            if divisor is None:
                continue
            for other in others:
                if _divided(other[0], partner, index) == divisor:
                    quotient, remainder = (axis, other) if operator == "//" else (other, axis)
                    whole = ir.Binary("*", ir.Index(quotient[1]), divisor)
                    return _Solution({index: ir.Binary("+", whole, ir.Index(remainder[1]))}, used=(other,))
        return None

    def _value(self, index: str, axis: Axis) -> _Solution | None:
        """The index as an expression of the gradient's, of new indices to sum over, under conditions."""
        place, target = axis[0], ir.Index(axis[1])
        r = self.draft.indices[index]
        divisor = _divided(place, "//", index)
        if divisor is not None:
            step = self.draft.index(f"{index}_r", divisor)
            return _Solution({index: ir.Binary("+", ir.Binary("*", target, divisor), ir.Index(step))}, (step,))
        divisor = _divided(place, "%", index)
        if divisor is not None:
            above = ir.Binary("-", ir.Binary("+", r.high, divisor), integer(1))
            step = self.draft.index(f"{index}_n", ir.Binary("//", above, divisor))
            inside = ir.Binary("<", target, divisor)
            value = ir.Binary("+", ir.Binary("*", ir.Index(step), divisor), target)
            return _Solution({index: value}, (step,), (inside,))
        polynomial = affine.polynomial(place)
        factor = affine.coefficient_of(polynomial, index)
        if not factor:
            return None
        alone = affine.scale(affine.polynomial(ir.Index(index)), factor)
        left = affine.subtract(affine.polynomial(target), affine.subtract(polynomial, alone))
        if abs(factor) == 1:
            return _Solution({index: affine.expression(affine.scale(left, factor))})
        whole = affine.expression(left if factor > 0 else affine.scale(left, -1))
        divisor = integer(abs(factor))
        divides = ir.Binary("==", ir.Binary("%", whole, divisor), integer(0))
        return _Solution({index: ir.Binary("//", whole, divisor)}, conditions=(divides,))

    def _at(self, term: Term, values: Mapping[str, ir.Expr]) -> Term:
        """The term with values put in for some of its loops, which are loops no more."""
        loops = tuple(i for i in term.loops if i not in values)
        factors = tuple(self._moved(e, values) for e in term.factors)
        divisors = tuple(self._moved(e, values) for e in term.divisors)
        return Term(loops, factors, divisors, tuple(self._moved(e, values) for e in term.where), term.negative)

    def _moved(self, e: ir.Expr, values: Mapping[str, ir.Expr]) -> ir.Expr:
        """An expression with values for indices; what its reductions bind is called otherwise than those values."""
        coming = frozenset[str]().union(*(ir.free_indices(v) for v in values.values()))
        try:
            return substitute(rewrite(e, lambda x: self._apart(x, coming)), values)
        except ValueError as problem:
            message = f"the gradient needs {text(e)} at other indices, which cannot be written: {problem}"
            hint = "give the reduction that keeps its indices an equation of its own"
            raise DiagnosticError((Diagnostic("E413", message, e.span, hint),)) from problem

    def _apart(self, e: ir.Expr, names: frozenset[str]) -> ir.Expr:
        if not isinstance(e, ir.Reduce) or e.kind in ir.KEEPS_INDICES or not names & {*e.indices}:
            return e
        new = {i: self.draft.like(i) for i in e.indices if i in names}
        to: dict[str, ir.Expr] = {i: ir.Index(n) for i, n in new.items()}
        domain = substitute(e.domain, to) if e.domain is not None else None
        indices = tuple(new.get(i, i) for i in e.indices)
        return ir.Reduce(e.kind, indices, domain, e.sink, substitute(e.body, to), span=e.span)

    # --- sums ---------------------------------------------------------------------------------------------------------

    def total(self, term: Term) -> Summed:
        """The sum over all loops of a term."""
        term = self._rows_first(self._paired(term))
        loops = {*term.loops}
        if not loops:
            return Summed(product(term.factors, term.divisors, term.negative), conjunction(term.where))
        inner = tuple(f for f in term.factors if ir.free_indices(f) & loops)
        inner_divisors = tuple(d for d in term.divisors if ir.free_indices(d) & loops)
        body = product(inner, inner_divisors, False)
        reduce = ir.Reduce("sum", self.draft.ordered(loops), conjunction(term.where), None, body)
        outer = tuple(f for f in term.factors if f not in inner)
        outer_divisors = tuple(d for d in term.divisors if d not in inner_divisors)
        total = round_operands(reduce, self._has_written_dtype)
        return Summed(product((*outer, total), outer_divisors, term.negative), None)

    def _paired(self, term: Term) -> Term:
        """Of three factors or more, two that alone have an index are summed over it first: matmuls, two by two."""
        while True:
            loops = {*term.loops}
            factors = [f for f in term.factors if ir.free_indices(f) & loops]
            found = next((i for i in self.draft.ordered(loops) if self._pairs(i, term, factors)), None)
            if len(factors) < 3 or found is None:
                return term
            two = tuple(f for f in factors if found in ir.free_indices(f))
            both = ir.free_indices(two[0]) | ir.free_indices(two[1])
            elsewhere = frozenset[str]().union(
                *(ir.free_indices(e) for e in (*term.factors, *term.divisors) if e not in two)
            )
            over = {i for i in both & loops if i not in elsewhere and self._inside(i, term, both)}
            term = self._part_first(term, two, over)

    def _rows_first(self, term: Term) -> Term:
        """A long sum of what has one value at each of its points, first along the last axes of what is read: as many
        sums as there are rows, of which each is a member of the index space, and then those.
        """
        loops = {*term.loops}
        factors = [f for f in term.factors if ir.free_indices(f) & loops]
        points = [ir.free_indices(f) for f in factors]
        along = next((axes for f in factors if len(axes := _axes(f, loops)) == len(loops)), ())
        if len(along) < 3 or any(p != points[0] for p in points):
            return term
        over = {*along[len(along) - len(along) // 2 :]}
        if not all(self._inside(i, term, points[0]) for i in over):
            return term
        return self._part_first(term, tuple(factors), over)

    def _part_first(self, term: Term, factors: tuple[ir.Expr, ...], over: set[str]) -> Term:
        """The term with factors summed over loops that they alone have, as a tensor of its own."""
        inside = tuple(c for c in term.where if ir.free_indices(c) & over)
        kept = self.draft.ordered(frozenset[str]().union(*map(ir.free_indices, factors)) - over)
        part = self.draft.tensor(f"{self.name}_part", kept)
        summed = self.total(Term(tuple(over), factors, where=inside))
        read = self.draft.define(part, kept, summed.value, summed.where)
        rest = tuple(f for f in term.factors if f not in factors)
        where = tuple(c for c in term.where if c not in inside)
        return Term(tuple({*term.loops} - over), (*rest, read), term.divisors, where, term.negative)

    def _pairs(self, index: str, term: Term, factors: Sequence[ir.Expr]) -> bool:
        with_it = [f for f in factors if index in ir.free_indices(f)]
        if len(with_it) != 2 or any(index in ir.free_indices(d) for d in term.divisors):
            return False
        return self._inside(index, term, ir.free_indices(with_it[0]) | ir.free_indices(with_it[1]))

    def _inside(self, index: str, term: Term, both: frozenset[str]) -> bool:
        """Whether conditions on an index speak of no other indices than two factors have."""
        return all(ir.free_indices(c) <= both for c in term.where if index in ir.free_indices(c))

    def _has_written_dtype(self, e: ir.Read) -> bool:
        tensors = {t.name for t in (*self.draft.program.inputs, *self.draft.cotangents)}
        return e.tensor in tensors or (e.dtype is not DType.F32 and e.dtype.is_float)


def _axes(e: ir.Expr, loops: set[str]) -> tuple[str, ...]:
    """Loops that a tensor is read at, in the order of its axes."""
    places = e.indices if isinstance(e, ir.Read) else ()
    return tuple(i.name for i in places if isinstance(i, ir.Index) and i.name in loops)


def _divided(place: ir.Expr, operator: str, index: str) -> ir.Expr | None:
    """n of `index // n`, or of `index % n`; None where a place is something else."""
    match place:
        case ir.Binary(left=ir.Index(name=name)) if place.operator == operator and name == index:
            return place.right if not ir.free_indices(place.right) and not _reads(place.right) else None
        case _:
            return None


def _reads(e: ir.Expr) -> bool:
    return any(isinstance(x, ir.Read) for x in ir.walk(e))
