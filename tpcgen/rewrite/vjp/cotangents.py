"""The cotangent of an expression, handed down to the reads in it: one term for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import substitute
from tpcgen.rewrite.edit import conjunction
from tpcgen.rewrite.support import Supports
from tpcgen.rewrite.vjp.derivatives import derivative, real, shares
from tpcgen.rewrite.vjp.draft import Draft
from tpcgen.rewrite.vjp.paths import depends
from tpcgen.rewrite.vjp.terms import Term

Contribution = tuple[ir.Read, Term]


@dataclass(frozen=True)
class Cotangents:
    """`varied`: tensors that a gradient is wanted of, or that lead to one."""

    draft: Draft
    varied: frozenset[str]

    def equation(self, e: ir.Equation, cotangent: ir.Read, where: ir.Expr | None) -> Iterator[Contribution]:
        """What an equation hands down; `where`: a condition on its cotangent, which may be present elsewhere too."""
        term = Term(e.indices, (cotangent,)).only(where)
        if not isinstance(e.value, ir.Reduce):
            yield from self.handed(e.value, term)
            return
        own = ir.Read(e.target, tuple(ir.Index(i) for i in e.indices), self.draft.program.tensor(e.target).dtype)
        match e.value.kind:
            case "softmax":
                yield from self._softmax(e, e.value, own, term)
            case "logsumexp":
                yield from self._logsumexp(e.value, own, term)
            case "max" | "min":
                yield from self._extremum(e, e.value, own, term)
            case _:
                yield from self.handed(e.value, term)

    def handed(self, e: ir.Expr, term: Term) -> Iterator[Contribution]:
        """Terms for the reads in an expression whose cotangent is a term."""
        if not depends(e, self.varied):
            return
        match e:
            case ir.Read():
                yield e, term
            case ir.Unary():
                yield from self.handed(e.operand, term.negated())
            case ir.Cast():
                yield from self.handed(e.operand, term)
            case ir.Binary(operator="+"):
                yield from self.handed(e.left, term)
                yield from self.handed(e.right, term)
            case ir.Binary(operator="-"):
                yield from self.handed(e.left, term)
                yield from self.handed(e.right, term.negated())
            case ir.Binary(operator="*"):
                yield from self.handed(e.left, term.times(e.right))
                yield from self.handed(e.right, term.times(e.left))
            case ir.Binary(operator="/"):
                yield from self.handed(e.left, term.over(e.right))
                yield from self.handed(e.right, term.negated().times(e.left).over(e.right).over(e.right))
            case ir.Call():
                yield from self._call(e, term)
            case ir.Reduce(kind="sum"):
                reduce = self._apart(e, term)
                yield from self.handed(reduce.body, term.along(reduce.indices).only(reduce.domain))
            case _:
                raise AssertionError(f"primal.py leaves no {e}")

    def _call(self, e: ir.Call, term: Term) -> Iterator[Contribution]:
        match e.function, e.arguments:
            case "select", (condition, then, otherwise):
                yield from self.handed(then, term.only(condition))
                yield from self.handed(otherwise, term.only(ir.Unary("not", condition)))
            case "default", (x, otherwise):
                present = Supports(self.draft.program).of(x).where
                yield from self.handed(x, term)
                if present is not None:
                    yield from self.handed(otherwise, term.only(ir.Unary("not", self._decided(present))))
            case "clamp", (x, low, high):
                below, above = ir.Binary("<", x, low), ir.Binary(">", x, high)
                within = conjunction([ir.Binary("<=", low, x), ir.Binary("<=", x, high)])
                yield from self.handed(x, term.only(within))
                yield from self.handed(low, term.only(below))
                yield from self.handed(high, term.only(above))
            case ("min" | "max") as function, (first, second, *more):
                if more:
                    yield from self._call(ir.Call(function, (ir.Call(function, (first, second)), *more)), term)
                    return
                of_first, of_second = shares(function, first, second)
                yield from self.handed(first, term.times(of_first))
                yield from self.handed(second, term.times(of_second))
            case function, (x,):
                slope = derivative(function, x)
                if slope is not None:
                    yield from self.handed(x, term.times(slope))
            case _:
                raise AssertionError(f"no derivative of {e.function}")

    def _decided(self, condition: ir.Expr) -> ir.Expr:
        """False, not absent, where a condition reads what may be absent."""
        given = {t.name for t in self.draft.program.inputs}
        if all(x.tensor in given for x in ir.walk(condition) if isinstance(x, ir.Read)):
            return condition
        return ir.Call("default", (condition, ir.Literal(False, DType.BOOL)))

    def _softmax(self, e: ir.Equation, r: ir.Reduce, own: ir.Read, term: Term) -> Iterator[Contribution]:
        """dx = p * (dp - sum(p * dp)); of the sink -p_sink * sum(p * dp), where p_sink = exp(sink - logsumexp)."""
        rows = tuple(i for i in e.indices if i not in r.indices)
        (cotangent,) = term.factors
        weighted = ir.Reduce("sum", r.indices, None, None, ir.Binary("*", own, cotangent))
        mean = self.draft.define(self.draft.tensor(f"{e.target}_mean", rows), rows, weighted)
        inner = Term(e.indices, (own, ir.Binary("-", cotangent, mean)))
        yield from self.handed(r.body, inner)
        if r.sink is None or not depends(r.sink, self.varied):
            return
        whole = ir.Reduce("logsumexp", r.indices, r.domain, r.sink, r.body)
        total = self.draft.define(self.draft.tensor(f"{e.target}_total", rows), rows, whole)
        weight = ir.Call("exp", (ir.Binary("-", r.sink, total),))
        yield from self.handed(r.sink, Term(rows, (weight, mean), negative=True))

    def _logsumexp(self, r: ir.Reduce, own: ir.Read, term: Term) -> Iterator[Contribution]:
        apart = self._apart(r, term)
        weight = ir.Call("exp", (ir.Binary("-", apart.body, own),))
        yield from self.handed(apart.body, term.along(apart.indices).only(apart.domain).times(weight))
        if r.sink is not None:
            yield from self.handed(r.sink, term.times(ir.Call("exp", (ir.Binary("-", r.sink, own),))))

    def _extremum(self, e: ir.Equation, r: ir.Reduce, own: ir.Read, term: Term) -> Iterator[Contribution]:
        """Shared evenly by the points that attain it, as in torch.amax."""
        apart = self._apart(r, term)
        attains = ir.Binary(">=" if r.kind == "max" else "<=", apart.body, own)
        ones = ir.Reduce("sum", apart.indices, conjunction([apart.domain, attains]), None, real(1.0))
        ties = self.draft.define(self.draft.tensor(f"{e.target}_ties", e.indices), e.indices, ones)
        inner = term.along(apart.indices).only(apart.domain).only(attains).over(ties)
        yield from self.handed(apart.body, inner)

    def _apart(self, r: ir.Reduce, term: Term) -> ir.Reduce:
        """The reduction with indices that are none of the term's."""
        new = {i: self.draft.like(i) for i in r.indices if i in term.loops}
        if not new:
            return r
        to: dict[str, ir.Expr] = {i: ir.Index(n) for i, n in new.items()}
        domain = substitute(r.domain, to) if r.domain is not None else None
        indices = tuple(new.get(i, i) for i in r.indices)
        return ir.Reduce(r.kind, indices, domain, r.sink, substitute(r.body, to), span=r.span)
