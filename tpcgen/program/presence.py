"""Where values are present, and what follows: sums of differently masked operands, outputs that would store 0.

The support of an expression is a boolean expression, or None for everywhere. It is compared under the domains around
the expression: `S + bias` under `where k <= q` is fine although S is absent elsewhere.
Extents are taken to be at least 1.

Casts pass a mixed sum on: they keep absence as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tpcgen.diagnostics import Diagnostics, Label
from tpcgen.program import affine, domains, ir
from tpcgen.program.disjoint import size_facts
from tpcgen.program.domains import Case
from tpcgen.program.print import expression as text
from tpcgen.program.projection import condition, project
from tpcgen.program.substitute import substitute

_STORES_ZERO = frozenset({"logsumexp", "max", "min"})


@dataclass(frozen=True)
class _Seen:
    """`where`: the support; `mixed`: the sum of differently supported operands the value comes from."""

    where: ir.Expr | None = None
    mixed: ir.Binary | None = None


@dataclass(frozen=True)
class _Stored:
    """One equation as its readers see it: present at `where` over `indices`."""

    indices: tuple[str, ...]
    where: ir.Expr | None


def check_presence(program: ir.Program, found: Diagnostics) -> None:
    """E303 (language.md, sharper 1); W103, W105, W106."""
    _Presence(program, found).check()


@dataclass
class _Presence:
    program: ir.Program
    found: Diagnostics
    stored: dict[str, list[_Stored]] = field(default_factory=dict[str, "list[_Stored]"])
    mixed: dict[str, ir.Binary] = field(default_factory=dict[str, ir.Binary])
    counts: set[str] = field(default_factory=set[str])
    fed: dict[str, ir.Reduce] = field(default_factory=dict[str, ir.Reduce])
    facts: affine.Facts = field(default_factory=affine.Facts)

    def check(self) -> None:
        ranges = domains.range_facts(self.program.indices)
        self.facts = affine.Facts([*ranges, *size_facts(self.program)])
        for statement in self.program.body:
            if isinstance(statement, ir.Equation):
                self._equation(statement)
                continue
            for init in statement.states:
                seen = self._see(init.initial, ())
                unknown = _unknown_presence(init.state, init.indices, self.program)
                self.stored[init.state] = [_Stored(init.indices, None if seen.where is None else unknown)]
            for step in statement.body:
                if isinstance(step, ir.Equation):
                    self._equation(step)
                else:
                    self._in_domain(step.value, step.domain)

    def _in_domain(self, value: ir.Expr, domain: ir.Expr | None) -> tuple[_Seen, ir.Expr | None, tuple[ir.Expr, ...]]:
        """What is seen of a value, where it is stored, and the domain around it."""
        context = (domain,) if domain is not None else ()
        if domain is not None:
            self._consumed(domain, (), "a domain")
        seen = self._see(value, context)
        return seen, _both(domain, seen.where), context

    def _equation(self, e: ir.Equation) -> None:
        seen, where, context = self._in_domain(e.value, e.domain)
        self.stored.setdefault(e.target, []).append(_Stored(e.indices, self._settled(where, ())))
        if seen.mixed is not None:
            self.mixed[e.target] = seen.mixed
        if e.domain is None and _is_count(e.value) and where is not None:
            self.counts.add(e.target)
        fed = self._fed_by(e.value, context)
        if fed is None:
            return
        self.fed[e.target] = fed
        if self.program.tensor(e.target).role is ir.Role.OUTPUT:
            message = f"{e.target} stores 0 where the {fed.kind} is over no point"
            label = Label(fed.span, "not provably over any point") if fed.span != e.span else None
            hint = "write default(..., value) to say what it stores there"
            self.found.warning("W106", message, e.span, hint, (label,) if label is not None else ())

    # Supports

    def _see(self, e: ir.Expr, context: tuple[ir.Expr, ...]) -> _Seen:
        match e:
            case ir.Literal() | ir.Index() | ir.Size() | ir.Attr():
                return _Seen()
            case ir.Read():
                return self._read(e, context)
            case ir.Unary(operator="-") | ir.Cast():
                return self._see(e.operand, context)
            case ir.Binary(operator="+" | "-"):
                return self._sum(e, context)
            case ir.Binary(operator="*" | "/"):
                return self._product(e, context)
            case ir.Binary() if e.operator in ir.COMPARISONS:
                self._counts(e, context)
                return self._strict(e, context, f"`{e.operator}`")
            case ir.Binary() | ir.Unary():
                return self._strict(e, context, f"`{e.operator}`")
            case ir.Call(function="select"):
                return self._select(e, context)
            case ir.Call(function="default"):
                wheres = [self._consumed(a, context, "default") for a in e.arguments]
                return _Seen(self._either(wheres[0], wheres[1], context))
            case ir.Call():
                return self._strict(e, context, e.function)
            case ir.Reduce():
                return self._reduce(e, context)

    def _consumed(self, e: ir.Expr, context: tuple[ir.Expr, ...], consumer: str) -> ir.Expr | None:
        """The support of an operand that a mixed sum must not reach."""
        seen = self._see(e, context)
        if seen.mixed is not None:
            self._report(seen.mixed, e, context, consumer)
        return seen.where

    def _strict(self, e: ir.Expr, context: tuple[ir.Expr, ...], consumer: str) -> _Seen:
        where: ir.Expr | None = None
        for child in ir.children(e):
            where = _both(where, self._consumed(child, context, consumer))
        return _Seen(where)

    def _read(self, e: ir.Read, context: tuple[ir.Expr, ...]) -> _Seen:
        where: ir.Expr | None = None
        for i in e.indices:
            where = _both(where, self._consumed(i, context, f"an index of {e.tensor}"))
        return _Seen(_both(where, self._support(e)), self.mixed.get(e.tensor))

    def _support(self, e: ir.Read) -> ir.Expr | None:
        result: ir.Expr | None = None
        for number, stored in enumerate(self.stored.get(e.tensor, [])):
            if stored.where is None:
                return None
            try:
                where = substitute(stored.where, dict(zip(stored.indices, e.indices, strict=True)))
            except ValueError:
                return ir.Binary("==", e, e)
            result = where if number == 0 else ir.Binary("or", result, where) if result is not None else where
        return result

    def _sum(self, e: ir.Binary, context: tuple[ir.Expr, ...]) -> _Seen:
        left, right = self._see(e.left, context), self._see(e.right, context)
        mixed = left.mixed or right.mixed
        if left.where == right.where:
            return _Seen(left.where, mixed)
        if self._same(left.where, right.where, context):
            return _Seen(left.where if left.where is not None else None, mixed)
        return _Seen(self._either(left.where, right.where, context), mixed or e)

    def _product(self, e: ir.Binary, context: tuple[ir.Expr, ...]) -> _Seen:
        """A factor is visited where the other is present: P * (dP - mean) is not mixed where P has both."""
        left, right = self._see(e.left, context), self._see(e.right, context)
        if left.mixed is not None and right.where is not None:
            left = self._see(e.left, (*context, right.where))
        if right.mixed is not None and left.where is not None:
            right = self._see(e.right, (*context, left.where))
        return _Seen(_both(left.where, right.where), left.mixed or right.mixed)

    def _select(self, e: ir.Call, context: tuple[ir.Expr, ...]) -> _Seen:
        asked, then, otherwise = e.arguments
        where = self._consumed(asked, context, "select")
        then_where = self._consumed(then, (*context, asked), "select")
        other_where = self._consumed(otherwise, (*context, ir.Unary("not", asked)), "select")
        if then_where == other_where:
            return _Seen(_both(where, then_where))
        chosen = _both(asked, then_where)
        other = _both(ir.Unary("not", asked), other_where)
        assert chosen is not None and other is not None
        return _Seen(_both(where, ir.Binary("or", chosen, other)))

    def _reduce(self, e: ir.Reduce, context: tuple[ir.Expr, ...]) -> _Seen:
        outside = context
        if e.kind not in ir.KEEPS_INDICES:
            outside = tuple(c for c in context if not ir.free_indices(c) & set(e.indices))
        if e.domain is not None:
            self._consumed(e.domain, outside, "a domain")
        sink = self._consumed(e.sink, outside, "a sink") if e.sink is not None else None
        inside = (*outside, e.domain) if e.domain is not None else outside
        if e.kind == "sum":
            body = self._see(e.body, inside)
        else:
            body = _Seen(self._consumed(e.body, inside, e.kind))
        self._written_twice(e, body.where)
        where = _both(e.domain, body.where)
        if e.kind in ("any", "all"):
            return _Seen()
        if e.kind in ir.KEEPS_INDICES:
            return _Seen(where)
        where = self._somewhere(e, where, outside)
        if e.kind == "logsumexp" and e.sink is not None:
            where = self._either(where, sink, outside)
        return _Seen(where, body.mixed)

    def _somewhere(self, e: ir.Reduce, where: ir.Expr | None, context: tuple[ir.Expr, ...]) -> ir.Expr | None:
        """The condition that a reduction is over at least one point."""
        if where is None:
            return None
        unknown = ir.Reduce("any", e.indices, None, None, where)
        cases = domains.cases(where)
        if cases is None:
            return unknown
        facts = self._facts(context)
        ranges = [self.program.range_of(i) for i in e.indices]
        projected = [project(case, ranges, facts) for case in cases]
        known = [p for p in projected if p is not None]
        if any(not p for p in known):
            return None
        return condition(known) if len(known) == len(projected) else unknown

    # Comparing supports

    def _facts(self, context: tuple[ir.Expr, ...]) -> affine.Facts:
        facts: list[affine.Polynomial] = []
        for c in context:
            cases = domains.cases(c)
            if cases is not None and len(cases) == 1:
                facts += domains.inequalities(cases[0])
        return self.facts.extended(facts) if facts else self.facts

    def _settled(self, where: ir.Expr | None, context: tuple[ir.Expr, ...]) -> ir.Expr | None:
        """None if the support is provably everywhere within the context."""
        return None if where is None or self._same(where, None, context) else where

    def _either(self, a: ir.Expr | None, b: ir.Expr | None, context: tuple[ir.Expr, ...]) -> ir.Expr | None:
        if a is None or b is None:
            return None
        return a if a == b else self._settled(ir.Binary("or", a, b), context)

    def _same(self, a: ir.Expr | None, b: ir.Expr | None, context: tuple[ir.Expr, ...]) -> bool:
        """Whether two supports are provably the same within the context."""
        around = self._around(context)
        left, right = _cases(a), _cases(b)
        if around is None or left is None or right is None:
            return a == b
        return all(self._within(c, left, right) and self._within(c, right, left) for c in around)

    def _around(self, context: tuple[ir.Expr, ...]) -> list[Case] | None:
        around: list[Case] = [frozenset()]
        for c in context:
            cases = domains.cases(c)
            both = domains.conjunction(around, cases) if cases is not None else None
            if both is None:
                return None
            around = both
        return around

    def _within(self, around: Case, inner: list[Case], outer: list[Case]) -> bool:
        for case in inner:
            whole = around | case
            if domains.contradicts(whole, self.facts):
                continue
            if not any(self._implies(whole, o) for o in outer):
                return self._cover(whole, outer)
        return True

    def _implies(self, whole: Case, case: Case) -> bool:
        return all(domains.implies(whole, t, self.facts) or self._witnessed(whole, t) for t in case)

    def _witnessed(self, whole: Case, term: domains.Term) -> bool:
        """Whether a case shows a point for an `any`: doc[q] == doc[k] does for any[j](doc[q] == doc[j])."""
        if not isinstance(term, domains.Opaque) or not term.holds:
            return False
        e = term.condition
        if not isinstance(e, ir.Reduce) or e.kind != "any" or len(e.indices) != 1:
            return False
        (reduced,) = e.indices
        body = e.body if e.domain is None else ir.Binary("and", e.domain, e.body)
        return any(self._shown(whole, body, reduced, ir.Index(r.name)) for r in self.program.indices)

    def _shown(self, whole: Case, body: ir.Expr, reduced: str, at: ir.Index) -> bool:
        """Whether `at` is in the range of the index and the case implies the body there."""
        own = self.program.range_of(reduced)
        inside = ir.Binary("and", ir.Binary("<=", own.low, at), ir.Binary("<", at, own.high))
        try:
            claim = ir.Binary("and", inside, substitute(body, {reduced: at}))
        except ValueError:
            return False
        return any(self._implies(whole, case) for case in domains.cases(claim) or [])

    def _cover(self, case: Case, outer: list[Case]) -> bool:
        """Whether the cases of `outer` cover `case` together: no point of it is in the complement of all of them."""
        left: list[Case] = [case]
        for o in outer:
            both = domains.conjunction(left, [c for t in o for c in _complement(t)])
            if both is None:
                return False
            left = [c for c in both if not domains.contradicts(c, self.facts)]
        return not left

    # Reports

    def _report(self, mixed: ir.Binary, operand: ir.Expr, context: tuple[ir.Expr, ...], consumer: str) -> None:
        left, right = self._see(mixed.left, context), self._see(mixed.right, context)
        labels = (
            Label(mixed.span, f"the left side is present {_named(left.where)}, the right side {_named(right.where)}"),
        )
        message = f"a `{mixed.operator}` of differently masked operands reaches {consumer}, which would un-mask them"
        hint = "say what is meant: `where` on the equation, or default(x, 0) on the masked operand"
        self.found.error("E303", message, operand.span, hint, labels)

    def _written_twice(self, e: ir.Reduce, body: ir.Expr | None) -> None:
        if e.domain is None or body is None:
            return
        domain, inner = domains.cases(e.domain), domains.cases(body)
        if domain is None or inner is None or len(domain) != 1 or len(inner) != 1 or not domain[0]:
            return
        if domain[0] <= inner[0]:
            hint = "what is reduced is absent elsewhere already, and reductions skip absent points"
            self.found.warning("W103", f"the domain of this {e.kind} is written twice", e.domain.span, hint)

    def _counts(self, e: ir.Binary, context: tuple[ir.Expr, ...]) -> None:
        for operand in (e.left, e.right):
            for x in _undefaulted(operand):
                count = isinstance(x, ir.Reduce) and _is_count(x) and self._see(x, context).where is not None
                if count or (isinstance(x, ir.Read) and x.tensor in self.counts):
                    hint = "write default(..., 0): a count over no point is absent, and a comparison with it false"
                    self.found.warning("W105", "the comparison reads a count that may be absent", x.span, hint)

    def _fed_by(self, e: ir.Expr, context: tuple[ir.Expr, ...]) -> ir.Reduce | None:
        """The logsumexp, max or min without provably full support that a value is made of, through + - * / alone."""
        match e:
            case ir.Reduce() if e.kind in _STORES_ZERO:
                where = self._see(e, context).where
                return None if self._settled(where, context) is None else e
            case ir.Binary(operator="+" | "-" | "*" | "/"):
                return self._fed_by(e.left, context) or self._fed_by(e.right, context)
            case ir.Unary(operator="-") | ir.Cast():
                return self._fed_by(e.operand, context)
            case ir.Read():
                fed = self.fed.get(e.tensor)
                return fed if fed is not None and self._settled(self._support(e), context) is not None else None
            case _:
                return None


def _both(a: ir.Expr | None, b: ir.Expr | None) -> ir.Expr | None:
    if a is None or b is None:
        return b if a is None else a
    return a if a == b else ir.Binary("and", a, b)


def _cases(where: ir.Expr | None) -> list[Case] | None:
    return [frozenset()] if where is None else domains.cases(where)


def _complement(term: domains.Term) -> list[Case]:
    if isinstance(term, domains.Opaque):
        return [frozenset({domains.Opaque(term.condition, not term.holds)})]
    negated = affine.subtract(affine.constant(-1), term.polynomial)
    return [frozenset({domains.at_least_zero(negated)})]


def _unknown_presence(state: str, indices: tuple[str, ...], program: ir.Program) -> ir.Expr:
    read = ir.Read(state, tuple(ir.Index(i) for i in indices), program.tensor(state).dtype)
    return ir.Binary("==", read, read)


def _is_count(e: ir.Expr) -> bool:
    return isinstance(e, ir.Reduce) and e.kind == "sum" and isinstance(e.body, ir.Literal)


def _undefaulted(e: ir.Expr) -> list[ir.Expr]:
    """The expression and what is below it, not looking into `default`, reductions' insides and indices."""
    if isinstance(e, ir.Call) and e.function == "default":
        return []
    if isinstance(e, ir.Reduce | ir.Read):
        return [e]
    return [e, *(x for c in ir.children(e) for x in _undefaulted(c))]


def _named(where: ir.Expr | None) -> str:
    return "everywhere" if where is None else f"where {text(where)}"
