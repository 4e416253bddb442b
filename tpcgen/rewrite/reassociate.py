"""Products of three tensors, summed the other way round.

    A[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d])
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / sum[k](A[b,h,q,k])

is, with what depends on k summed first and no square of scores,

    U[b,h,d,e] = sum[k](K[b,h,k,d] * V[b,h,k,e])
    Z[b,h,d] = sum[k](K[b,h,k,d])
    O[b,h,q,e] = sum[d](Q[b,h,q,d] * U[b,h,d,e]) / sum[d](Q[b,h,q,d] * Z[b,h,d])

A may be a sum of products of which each factor sees q or k (gradients are), times and by whatever does not see k. Its
readers are sums over one of its indices; conditions go with what is summed first, so that one which ties q to k
(causal) is none of these: rewrite/chunk.py has those. Every such A of the text is gone in the result: the two
projections of a latent (MLA) are taken into the queries and out of the values together. Whether that is less work is
for the prices.

The sums made first have the dtype that A has where it is multiplied: they round as often as the text does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames, rewrite, substitute
from tpcgen.program.verify import verify
from tpcgen.rewrite.edit import (
    MAX_AXES,
    Definition,
    Part,
    conjunction,
    conjuncts,
    intermediate,
    mentioned,
    names_in_use,
    parts_of,
    product,
    reads_of,
    rebuilt,
    steps_of,
)
from tpcgen.rewrite.outcome import Refused, RefusedError


@dataclass(frozen=True, slots=True)
class _Term:
    """`sum[indices](product of factors) / product of divisors`, negative or not."""

    indices: tuple[str, ...]
    factors: tuple[ir.Expr, ...]
    divisors: tuple[ir.Expr, ...]
    negative: bool


def reassociate(program: ir.Program) -> ir.Program | Refused:
    """The program without the tensors that are only summed; Refused where there is none."""
    found = _first(program)
    if isinstance(found, Refused):
        return found
    for name in [t.name for t in program.tensors]:
        program = _attempt(program, name) or program
    return verify(program)


def reassociated_index(program: ir.Program) -> str | Refused:
    """The index over which `reassociate` sums first."""
    found = _first(program)
    return found if isinstance(found, Refused) else found.indices[0]


def _first(program: ir.Program) -> ir.Reduce | Refused:
    """The first sum that can be made first, or why there is none."""
    why = Refused("no sum of products is summed again: nothing to reassociate", program.span)
    for d in _candidates(program):
        try:
            rewriter = _Rewriter(program, d)
            rewriter.run()
        except RefusedError as problem:
            why = problem.reason
        else:
            return rewriter.readers[0]
    return why


def _attempt(program: ir.Program, name: str) -> ir.Program | None:
    for d in _candidates(program):
        if d.tensor.name == name:
            try:
                return _Rewriter(program, d).run()
            except RefusedError:
                return None
    return None


def _candidates(program: ir.Program) -> Iterator[Definition]:
    """Intermediates that one equation defines as a sum of products, and that sums read."""
    parts = parts_of(program)
    made = [p for p in parts if isinstance(p, Definition)]
    targets = [d.tensor.name for d in made]
    summed = {
        r.tensor
        for s in steps_of(parts)
        for side in (s.initial if isinstance(s, ir.StateInit) else s.value,)
        for e in ir.walk(side)
        if isinstance(e, ir.Reduce) and e.kind == "sum"
        for r in ir.walk(e)
        if isinstance(r, ir.Read)
    }
    for d in made:
        terms = _terms(d.equation.value)
        products = terms is not None and any(t.indices and len(t.factors) > 1 for t in terms)
        alone = d.tensor.role is ir.Role.INTERMEDIATE and targets.count(d.tensor.name) == 1
        if products and alone and d.tensor.name in summed:
            yield d


class _Rewriter:
    """One tensor's readers, each a sum of sums made first."""

    def __init__(self, program: ir.Program, target: Definition) -> None:
        self.program, self.target = program, target
        self.name = target.tensor.name
        terms = _terms(target.equation.value)
        assert terms is not None
        self.terms = terms
        self.names: FreshNames = names_in_use(program)
        self.new_indices: list[ir.IndexRange] = []
        self.readers: list[ir.Reduce] = []
        self.made: list[Definition] = []

    def run(self) -> ir.Program:
        result: list[Part] = []
        for part in parts_of(self.program):
            if part is self.target or (isinstance(part, Definition) and part.equation is self.target.equation):
                continue
            if not isinstance(part, Definition):
                self._require_none(part)
                result.append(part)
                continue
            self.made = []
            value = rewrite(part.equation.value, lambda e, d=part: self._reader(e, d))
            made = Definition(part.tensor, replace(part.equation, value=value))
            self._require_none(made)
            result += [*self.made, made]
        return rebuilt(self.program, result, self.new_indices)

    def _require_none(self, part: Part) -> None:
        for step in steps_of([part]):
            for read in reads_of(step):
                if read.tensor == self.name:
                    raise RefusedError(f"{self.name} is read outside a sum over one of its indices", read)

    def _reader(self, e: ir.Expr, d: Definition) -> ir.Expr:
        if not isinstance(e, ir.Reduce) or e.kind != "sum" or len(e.indices) != 1 or self.name not in mentioned(e.body):
            return e
        (s,) = e.indices
        whole = _product_of(e.body)
        if whole is None or s in frozenset[str]().union(*map(ir.free_indices, whole.divisors)):
            raise RefusedError(f"{self.name} is not one factor of the sum over {s}", e)
        mine = [f for f in whole.factors if self.name in mentioned(f)]
        read = mine[0].operand if isinstance(mine[0], ir.Cast) else mine[0]
        if len(mine) != 1 or not isinstance(read, ir.Read) or read.indices.count(ir.Index(s)) != 1:
            raise RefusedError(f"{self.name} is not one factor of the sum over {s}", e)
        self.readers.append(e)
        rounded = mine[0].dtype if isinstance(mine[0], ir.Cast) else self.target.tensor.dtype
        others = tuple(f for f in whole.factors if f is not mine[0])
        result: ir.Expr | None = None
        for term in self.terms:
            found = self._summed_first(self._at(term, read, e, d), others, e, read, rounded)
            result = found if result is None else ir.Binary("+", result, found, span=e.span)
        assert result is not None
        for divisor in whole.divisors:
            result = ir.Binary("/", result, divisor, span=e.span)
        return ir.Unary("-", result, span=e.span) if whole.negative else result

    def _at(self, term: _Term, read: ir.Read, e: ir.Reduce, d: Definition) -> _Term:
        """The term where it is read; its own sums over indices of their own."""
        taken = {*d.equation.indices, *e.indices, *(x for r in ir.walk(e) for x in ir.free_indices(r))}
        own = dict[str, ir.Expr]()
        for index in term.indices:
            if index in taken:
                name = self.names.fresh(index)
                self.new_indices.append(replace(self.program.range_of(index), name=name))
                own[index] = ir.Index(name)
        at = dict(zip(self.target.equation.indices, read.indices, strict=True)) | own
        renamed = tuple(x.name if isinstance(x := own.get(i), ir.Index) else i for i in term.indices)
        factors, divisors = (tuple(substitute(f, at) for f in fs) for fs in (term.factors, term.divisors))
        return _Term(renamed, factors, divisors, term.negative)

    def _summed_first(
        self, term: _Term, others: Sequence[ir.Expr], e: ir.Reduce, read: ir.Read, rounded: DType
    ) -> ir.Expr:
        (s,) = e.indices
        if any(s in ir.free_indices(x) for x in term.divisors):
            raise RefusedError(f"{self.name} is divided by what {s} moves", e)
        first = [f for f in (*term.factors, *others) if s in ir.free_indices(f)]
        last = [f for f in term.factors if s not in ir.free_indices(f)]
        around = [f for f in others if s not in ir.free_indices(f)]
        at = dict(zip(self.target.equation.indices, read.indices, strict=True))
        condition = self.target.equation.domain
        domain = conjunction([substitute(condition, at) if condition is not None else None, e.domain])
        seen = frozenset[str]().union(*map(ir.free_indices, first))
        for c in conjuncts(domain):
            if not ir.free_indices(c) <= seen | {s}:
                raise RefusedError(f"a condition ties {s} to {', '.join(sorted(ir.free_indices(c) - seen - {s}))}", c)
        rows = (frozenset[str]().union(*map(ir.free_indices, read.indices))) - {s}
        if rows and rows <= seen:
            raise RefusedError(f"what depends on {s} has all the other indices of {self.name} too", e)
        value = ir.Reduce("sum", (s,), domain, None, product(first), span=e.span)
        earlier = self._define(value, rounded)
        summed: ir.Expr = product([*last, earlier])
        if term.indices:
            summed = ir.Reduce("sum", term.indices, None, None, summed, span=e.span)
        for divisor in term.divisors:
            summed = ir.Binary("/", summed, divisor, span=e.span)
        summed = product([*around, summed])
        return ir.Unary("-", summed, span=e.span) if term.negative else summed

    def _define(self, value: ir.Reduce, dtype: DType) -> ir.Read:
        """A read of the sum, made once."""
        known = next((m for m in self.made if m.equation.value == value and m.tensor.dtype is dtype), None)
        if known is None:
            free = ir.free_indices(value)
            ranges = (*self.program.indices, *self.new_indices)
            indices = tuple(r.name for r in ranges if r.name in free)
            if len(indices) > MAX_AXES:
                raise RefusedError(f"what is summed first has {len(indices)} axes, at most {MAX_AXES} fit", value)
            name = self.names.fresh(f"{self.name}_first")
            widened = replace(self.program, indices=ranges)
            tensor = intermediate(widened, name, indices, dtype, value)
            known = Definition(tensor, ir.Equation(name, indices, value, None, span=value.span))
            self.made.append(known)
        own = tuple(ir.Index(i) for i in known.equation.indices)
        return ir.Read(known.tensor.name, own, dtype, span=value.span)


def _terms(e: ir.Expr) -> tuple[_Term, ...] | None:
    """The products that an expression adds up; None where it is none."""
    match e:
        case ir.Binary(operator="+" | "-"):
            left, right = _terms(e.left), _terms(e.right)
            if left is None or right is None:
                return None
            negated = e.operator == "-"
            return (*left, *(replace(t, negative=t.negative != negated) for t in right))
        case ir.Unary(operator="-"):
            inner = _terms(e.operand)
            return None if inner is None else tuple(replace(t, negative=not t.negative) for t in inner)
        case _:
            term = _product_of(e)
            return None if term is None else (term,)


def _product_of(e: ir.Expr) -> _Term | None:
    """An expression as one term; None where it holds two sums."""
    match e:
        case ir.Unary(operator="-"):
            inner = _product_of(e.operand)
            return None if inner is None else replace(inner, negative=not inner.negative)
        case ir.Binary(operator="*"):
            left, right = _product_of(e.left), _product_of(e.right)
            if left is None or right is None or (left.indices and right.indices):
                return None
            factors, divisors = (*left.factors, *right.factors), (*left.divisors, *right.divisors)
            return _Term((*left.indices, *right.indices), factors, divisors, left.negative != right.negative)
        case ir.Binary(operator="/"):
            numerator = _product_of(e.left)
            return None if numerator is None else replace(numerator, divisors=(*numerator.divisors, e.right))
        case ir.Reduce(kind="sum", domain=None):
            body = _product_of(e.body)
            if body is None or body.indices or body.divisors:
                return None
            return replace(body, indices=e.indices)
        case _:
            return _Term((), (e,), (), False)
