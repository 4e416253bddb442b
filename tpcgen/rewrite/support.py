"""Where values are present: supports of tensors and expressions, and their projections.

A support is a predicate (a boolean expression) or None for "everywhere". `Supports.of` also makes absence explicit: it
returns an expression that needs no notion of absence wherever its support holds, under two conventions that a lowering
keeps: a buffer holds 0 where its tensor is absent, and a softmax is 0 outside its domain, a sum over nothing is 0.

Extents are taken to be at least 1: an op with an empty extent launches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Generic, TypeVar, cast

from tpcgen.diagnostics import NOWHERE, Span
from tpcgen.program import affine, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import substitute, with_children
from tpcgen.rewrite.edit import conjunction, conjuncts

Item = TypeVar("Item")
ZERO = ir.Literal(0.0, DType.F32)
_KEEP_ZERO = frozenset({"tanh", "erf", "gelu", "silu", "relu", "elu", "sin", "abs", "sqrt", "floor"})
"""Functions f with f(0) = 0."""


class UndeterminedError(Exception):
    """A support that the compiler cannot write as a predicate; `span` is the construct."""

    def __init__(self, e: ir.Expr, why: str) -> None:
        super().__init__(why)
        self.expr = e


@dataclass(frozen=True, slots=True)
class Presence:
    """`value` is right where `where` holds (None: everywhere); if `zero`, it is 0 where it does not hold."""

    value: ir.Expr
    where: ir.Expr | None
    zero: bool


@dataclass(frozen=True, slots=True)
class Supports:
    """Presence of expressions over the tensors of a program.

    Reads of tensors in `inlined` become the right sides of their equations, which then must have no free name that a
    reduction around the read binds. `given` holds wherever the expressions are evaluated.
    """

    program: ir.Program
    inlined: Mapping[str, ir.Equation] | None = None
    given: ir.Expr | None = None

    def of(self, e: ir.Expr) -> Presence:
        """UndeterminedError for a three-valued `or` of partial values and the like."""
        match e:
            case ir.Literal() | ir.Index() | ir.Size() | ir.Attr():
                return Presence(e, None, False)
            case ir.Read():
                return self._read(e)
            case ir.Unary(operator="-") | ir.Cast():
                inner = self.of(e.operand)
                return Presence(with_children(e, [inner.value]), inner.where, inner.zero)
            case ir.Unary():
                return self._strict(e)
            case ir.Binary(operator="and" | "or"):
                return self._logical(e)
            case ir.Binary(operator="*"):
                return self._product(e)
            case ir.Binary(operator="/"):
                return self._quotient(e)
            case ir.Binary(operator="+" | "-"):
                return self._sum(e)
            case ir.Binary():
                return self._strict(e)
            case ir.Call(function="select"):
                return self._select(e)
            case ir.Call(function="default"):
                return self._default(e)
            case ir.Call():
                return self._strict(e)
            case ir.Reduce():
                return self._reduce(e)

    def domain(self, domain: ir.Expr | None) -> ir.Expr | None:
        """A domain with absence made explicit: false where it reads something absent."""
        parts = [self.of(c) for c in conjuncts(domain)]
        return conjunction(x for p in parts for x in (p.where, p.value))

    def _read(self, e: ir.Read) -> Presence:
        if self.inlined is not None and e.tensor in self.inlined:
            equation = self.inlined[e.tensor]
            values = dict(zip(equation.indices, e.indices, strict=True))
            if equation.domain is None:
                return self.of(substitute(equation.value, values))
            domain = self.domain(substitute(equation.domain, values))
            inner = self._where(domain).of(substitute(equation.value, values))
            return Presence(inner.value, conjunction([domain, inner.where]), False)
        defined = [s for s in self.program.body if isinstance(s, ir.Equation) and s.target == e.tensor]
        pieces = [self._covered(equation, e) for equation in defined]
        known = [p for p in pieces if p is not None]
        if len(known) < len(pieces) or not known:
            return Presence(e, None, False)
        return Presence(e, reduce(lambda a, b: ir.Binary("or", a, b), known), True)

    def _covered(self, equation: ir.Equation, read: ir.Read) -> ir.Expr | None:
        """Where an equation makes what is read present; None for everywhere."""
        where = _present(Same(equation), Same(self.program))
        moved = {i: at for i, at in zip(equation.indices, read.indices, strict=True) if at != ir.Index(i)}
        return _simplified(substitute(where, moved), self.program) if where is not None and moved else where

    def _where(self, condition: ir.Expr | None) -> Supports:
        return replace(self, given=conjunction([self.given, condition]))

    def _product(self, e: ir.Binary) -> Presence:
        """An absent factor leaves the other unvisited: 0 only if that is finite whatever the data."""
        a, b = self.of(e.left), self.of(e.right)
        zero = (a.zero and _finite(b.value)) or (b.zero and _finite(a.value))
        return Presence(with_children(e, [a.value, b.value]), conjunction([a.where, b.where]), zero)

    def _quotient(self, e: ir.Binary) -> Presence:
        a, b = self.of(e.left), self.of(e.right)
        zero = a.zero and b.where is None and _finite(b.value)
        return Presence(with_children(e, [a.value, b.value]), conjunction([a.where, b.where]), zero)

    def _sum(self, e: ir.Binary) -> Presence:
        a, b = self.of(e.left), self.of(e.right)
        if a.where != b.where:
            a, b = self._known(a), self._known(b)
        if a.where == b.where:
            return Presence(with_children(e, [a.value, b.value]), a.where, a.zero and b.zero)
        value = with_children(e, [_zeroed(a), _zeroed(b)])
        where = None if a.where is None or b.where is None else ir.Binary("or", a.where, b.where)
        return Presence(value, where, where is not None)

    def _known(self, p: Presence) -> Presence:
        """Present everywhere, if what is given says so."""
        implied = p.where is not None and self.given is not None and implies(self.given, p.where, self.program)
        return Presence(p.value, None, False) if implied else p

    def _strict(self, e: ir.Expr) -> Presence:
        parts = [self.of(c) for c in ir.children(e)]
        zero = isinstance(e, ir.Call) and e.function in _KEEP_ZERO and parts[0].zero
        return Presence(with_children(e, [p.value for p in parts]), conjunction(p.where for p in parts), zero)

    def _logical(self, e: ir.Binary) -> Presence:
        a, b = self.of(e.left), self.of(e.right)
        if a.where is not None or b.where is not None:
            raise UndeterminedError(e, f"`{e.operator}` of values that may be absent")
        return Presence(with_children(e, [a.value, b.value]), None, False)

    def _select(self, e: ir.Call) -> Presence:
        condition, then, otherwise = (self.of(a) for a in e.arguments)
        value = with_children(e, [condition.value, then.value, otherwise.value])
        chosen: ir.Expr = condition.value
        then = self._where(chosen)._known(then)
        otherwise = self._where(ir.Unary("not", chosen))._known(otherwise)
        if then.where is None and otherwise.where is None:
            return Presence(value, condition.where, False)
        holds = conjunction([chosen, then.where])
        fails = conjunction([ir.Unary("not", chosen), otherwise.where])
        assert holds is not None and fails is not None
        zero = all(p.zero or p.where is None for p in (then, otherwise)) and condition.where is None
        return Presence(value, conjunction([condition.where, ir.Binary("or", holds, fails)]), zero)

    def _default(self, e: ir.Call) -> Presence:
        x, v = (self.of(a) for a in e.arguments)
        if x.where is None:
            return x
        value = ir.Call("select", (x.where, x.value, v.value), span=e.span)
        where = None if v.where is None else ir.Binary("or", x.where, v.where)
        return Presence(value, where, v.zero)

    def _reduce(self, e: ir.Reduce) -> Presence:
        body = self._where(e.domain).of(e.body)
        sink = self.of(e.sink) if e.sink is not None else None
        logit = _sink_logit(sink) if sink is not None else None
        support = conjunction([self.domain(e.domain), body.where])
        domain = self.domain(e.domain) if e.kind == "sum" and body.zero else support
        parts = [x for x in (domain, logit) if x is not None] + [body.value]
        value = _reduction(e, domain, logit, body.value, parts)
        match e.kind:
            case "softmax" | "rank":
                return Presence(value, support, True)
            case "any" | "all":
                return Presence(value, None, False)
            case "logsumexp" if sink is not None:
                some = exists(support, e.indices, self.program)
                where = None if some is None or sink.where is None else ir.Binary("or", some, sink.where)
                return Presence(value, where, False)
            case _:
                return Presence(value, exists(support, e.indices, self.program), e.kind == "sum")


class Same(Generic[Item]):
    """A key that only the very same object equals: equal ones may come from other lines of source."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.item is cast("Same[Item]", other).item

    def __hash__(self) -> int:
        return hash(self.item)


@lru_cache(maxsize=1024)
def _present(equation: Same[ir.Equation], program: Same[ir.Program]) -> ir.Expr | None:
    """Where an equation makes its target present, in its own indices; None for everywhere."""
    domain = equation.item.domain
    value = Supports(program.item, given=domain).of(equation.item.value)
    return conjunction([domain, value.where])


def exists(where: ir.Expr | None, indices: Iterable[str], program: ir.Program) -> ir.Expr | None:
    """Whether some values of `indices`, within their ranges, satisfy a predicate; None where that always holds.

    Exact: conditions linear in an index with factor 1 or -1 are eliminated over the integers, each side of an `or` by
    itself; others stay as `any`.
    """
    for index in indices:
        where = _without(where, index, program)
    return where


def facts(program: ir.Program) -> affine.Facts:
    """What holds of every index, size and attribute of a program: ranges, and contracts that read no tensor."""
    return _facts(program.indices, program.contracts)


@lru_cache(maxsize=64)
def _facts(indices: tuple[ir.IndexRange, ...], contracts: tuple[ir.Contract, ...]) -> affine.Facts:
    """Programs that a rewrite makes of each other mostly have the same of both."""
    known: list[affine.Polynomial] = []
    for r in indices:
        index = affine.polynomial(ir.Index(r.name))
        known.append(affine.subtract(index, affine.polynomial(r.low)))
        known.append(_minus_one(affine.subtract(affine.polynomial(r.high), index)))
        known += _below_quotient(r)
        known += _above_arguments(r.high)
        known += [_minus_one(affine.subtract(affine.polynomial(b), index)) for b in _upper_bounds(r.high)]
    for contract in contracts:
        if contract.on_values or contract.indices:
            continue
        for condition in conjuncts(contract.condition):
            known += at_least_zero(condition) or []
    return affine.Facts(known)


def _below_quotient(r: ir.IndexRange) -> list[affine.Polynomial]:
    """n < (N + 63) // 64 says 64 * n <= N - 1."""
    match r.high:
        case ir.Binary(operator="//", left=left, right=ir.Literal(value=int(divisor))) if divisor > 0:
            multiple = affine.scale(affine.polynomial(ir.Index(r.name)), divisor)
            room = affine.subtract(affine.polynomial(left), affine.constant(divisor))
            return [affine.subtract(room, multiple)]
        case _:
            return []


def _upper_bounds(high: ir.Expr) -> list[ir.Expr]:
    """What an index below `high` is below too, as it is not below 0: a and b, of max(min(a, b), 0)."""
    match high:
        case ir.Call(function="min"):
            return [x for a in high.arguments for x in (a, *_upper_bounds(a))]
        case ir.Call(function="max", arguments=(a, ir.Literal(value=0))):
            return [a, *_upper_bounds(a)]
        case _:
            return []


def _above_arguments(e: ir.Expr) -> list[affine.Polynomial]:
    """max(a, b) is at least a and at least b."""
    found = [x for x in ir.walk(e) if isinstance(x, ir.Call) and x.function == "max"]
    return [affine.subtract(affine.polynomial(x), affine.polynomial(a)) for x in found for a in x.arguments]


def _without(where: ir.Expr | None, index: str, program: ir.Program) -> ir.Expr | None:
    parts = conjuncts(where)
    kept = [c for c in parts if index not in ir.free_indices(c)]
    bound = [c for c in parts if index in ir.free_indices(c)]
    if not bound:
        return conjunction(kept)
    either = next((c for c in bound if isinstance(c, ir.Binary) and c.operator == "or"), None)
    if either is not None:
        others = [c for c in parts if c is not either]
        some = [_without(conjunction([*others, side]), index, program) for side in (either.left, either.right)]
        return None if some[0] is None or some[1] is None else ir.Binary("or", some[0], some[1])
    goals = _some_value(index, [p for c in bound for p in at_least_zero(c) or [None]], program)
    if goals is None:
        return conjunction([*kept, ir.Reduce("any", (index,), conjunction(bound), None, ir.Literal(True, DType.BOOL))])
    given = tuple(_terms(p) for c in kept for p in at_least_zero(c) or [])
    return conjunction([*kept, *_independent(tuple(map(_terms, goals)), given, program.indices, program.contracts)])


def _some_value(
    index: str, conditions: Sequence[affine.Polynomial | None], program: ir.Program
) -> list[affine.Polynomial] | None:
    """What must be at least 0 for some value of an index to make all conditions so; None where that is not known.

    Where all of them bound the index on one side, what a factor of 64 makes of it is no matter: its last value on the
    other side is as good as any.
    """
    r = program.range_of(index)
    alone, low, high = affine.polynomial(ir.Index(index)), affine.polynomial(r.low), affine.polynomial(r.high)
    lows, highs = [low], [_minus_one(high)]
    bounds: list[tuple[int, affine.Polynomial]] = []
    for p in conditions:
        factor = affine.coefficient_of(p, index) if p is not None else None
        if p is None or factor is None:
            return None
        if abs(factor) == 1 or not facts(program).prove(p):
            bounds.append((factor, p))
    if all(abs(f) == 1 for f, _ in bounds):
        lows += [affine.subtract(alone, p) for f, p in bounds if f > 0]
        highs += [affine.add(alone, p) for f, p in bounds if f < 0]
        return [affine.subtract(h, lo) for lo in lows for h in highs]
    sides = {f > 0 for f, _ in bounds}
    if len(sides) > 1:
        return None
    value = affine.subtract(_minus_one(high) if True in sides else low, alone)
    return [affine.subtract(_minus_one(high), low), *(affine.add(p, affine.scale(value, f)) for f, p in bounds)]


@lru_cache(maxsize=1024)
def implies(given: ir.Expr | None, wanted: ir.Expr | None, program: ir.Program) -> bool:
    """Whether `wanted` provably holds wherever `given` does; False says nothing."""
    assumed = [p for c in conjuncts(given) for p in at_least_zero(c) or []]
    known = facts(program).extended(assumed)
    stated = set(conjuncts(given))
    for condition in conjuncts(wanted):
        parts = at_least_zero(condition)
        proved = parts is not None and all(known.prove(p) for p in parts)
        if condition not in stated and not proved and not _witnessed(given, condition, program):
            return False
    return True


def _witnessed(given: ir.Expr | None, condition: ir.Expr, program: ir.Program) -> bool:
    """Whether the condition says that some q is as the one at hand: `any[q where k <= q](true)` given `k <= q`."""
    match condition:
        case ir.Reduce(kind="any", body=ir.Literal(value=True)):
            return implies(given, condition.domain, program)
        case _:
            return False


def _simplified(where: ir.Expr, program: ir.Program) -> ir.Expr | None:
    """A condition without what always holds; `x % 64 + 64 * (x // 64)` in it is x."""
    kept: list[ir.Expr] = []
    for condition in conjuncts(where):
        polynomials = at_least_zero(condition)
        joined = [_without_remainders(p) for p in polynomials or []]
        if polynomials is None:
            kept.append(condition)
        elif joined != polynomials:
            kept += [comparison(p) for p in joined if not facts(program).prove(p)]
        elif not all(facts(program).prove(p) for p in joined):
            kept.append(condition)
    return conjunction(kept)


def _without_remainders(p: affine.Polynomial) -> affine.Polynomial:
    for monomial, factor in p.items():
        match monomial:
            case (ir.Binary(operator="%", left=left, right=ir.Literal() as divisor),):
                multiple = affine.scale(affine.polynomial(ir.Binary("//", left, divisor)), int(divisor.value))
                difference = affine.subtract(affine.subtract(affine.polynomial(left), multiple), {monomial: 1})
                return _without_remainders(affine.add(p, affine.scale(difference, factor)))
            case _:
                pass
    return p


_Terms = tuple[tuple[affine.Monomial, int], ...]


def _terms(p: affine.Polynomial) -> _Terms:
    return tuple(p.items())


@lru_cache(maxsize=4096)
def _independent(
    goals: tuple[_Terms, ...],
    given: tuple[_Terms, ...],
    indices: tuple[ir.IndexRange, ...],
    contracts: tuple[ir.Contract, ...],
) -> tuple[ir.Expr, ...]:
    """The goals (polynomials to be >= 0) that neither facts nor other goals imply; those without indices first.
    Alternatives of an op ask for the same ones.
    """
    known = _facts(indices, contracts).extended(map(dict, given))
    open_goals = [g for g in map(dict, goals) if not known.prove(g)]
    open_goals.sort(key=lambda g: any(ir.free_indices(atom) for atom in affine.atoms(g)))
    kept: list[affine.Polynomial] = []
    for goal in open_goals:
        if not known.extended(kept).prove(goal):
            kept.append(goal)
    needed = [g for i, g in enumerate(kept) if not known.extended(kept[i + 1 :]).prove(g)]
    return tuple(map(_non_negative, needed))


def at_least_zero(condition: ir.Expr) -> list[affine.Polynomial] | None:
    """The condition as polynomials that must be >= 0; None where it is not a comparison of integers, or is `!=`."""
    if not isinstance(condition, ir.Binary) or condition.operator not in ir.COMPARISONS or condition.operator == "!=":
        return None
    if {ir.type_of(condition.left), ir.type_of(condition.right)} != {DType.I32}:
        return None
    match condition:
        case (
            ir.Binary(operator="<" | "<=" as operator, left=ir.Call(function="abs", arguments=(x,)), right=most)
            | ir.Binary(operator=">" | ">=" as operator, left=most, right=ir.Call(function="abs", arguments=(x,)))
        ):
            room = affine.polynomial(most) if "=" in operator else _minus_one(affine.polynomial(most))
            return [affine.subtract(room, affine.polynomial(x)), affine.add(room, affine.polynomial(x))]
        case _:
            pass
    a, b = affine.polynomial(condition.left), affine.polynomial(condition.right)
    match condition.operator:
        case "<=":
            return [affine.subtract(b, a)]
        case "<":
            return [_minus_one(affine.subtract(b, a))]
        case ">=":
            return [affine.subtract(a, b)]
        case ">":
            return [_minus_one(affine.subtract(a, b))]
        case _:
            return [affine.subtract(a, b), affine.subtract(b, a)]


def comparison(p: affine.Polynomial, span: Span = NOWHERE) -> ir.Expr:
    """`p >= 0` as a comparison of positive terms: `i <= j` for `64*n + j - (64*n + i)`."""
    more = {m: c for m, c in p.items() if c > 0}
    less = {m: -c for m, c in p.items() if c < 0}
    return ir.Binary("<=", affine.expression(less), affine.expression(more), span=span)


def bound_of(p: affine.Polynomial, index: str) -> tuple[int, ir.Expr] | None:
    """`p >= 0` as a bound of an index: (1, b) for `index >= b`, (-1, b) for `index < b`, b of sizes and attributes."""
    factor = affine.coefficient_of(p, index)
    if factor not in (1, -1):
        return None
    alone = affine.polynomial(ir.Index(index))
    bound = affine.subtract(alone, p) if factor == 1 else affine.add(affine.add(p, alone), affine.constant(1))
    parts = [x for atom in affine.atoms(bound) for x in ir.walk(atom)]
    return None if any(isinstance(x, ir.Index | ir.Read) for x in parts) else (factor, affine.expression(bound))


def _minus_one(p: affine.Polynomial) -> affine.Polynomial:
    return affine.subtract(p, affine.constant(1))


def _non_negative(p: affine.Polynomial) -> ir.Expr:
    return ir.Binary(">=", affine.expression(p), ir.Literal(0, DType.I32))


def _zeroed(p: Presence) -> ir.Expr:
    if p.where is None or p.zero:
        return p.value
    return ir.Call("select", (p.where, p.value, ZERO))


def _sink_logit(sink: Presence) -> ir.Expr:
    """An absent sink adds nothing, as a logit of -inf does."""
    if sink.where is None:
        return sink.value
    return ir.Call("select", (sink.where, sink.value, ir.Literal(-float("inf"), DType.F32)))


def _finite(e: ir.Expr) -> bool:
    """Finite whatever the data: made of literals, sizes, indices and integer attributes."""
    if any(isinstance(x, ir.Read | ir.Reduce) for x in ir.walk(e)):
        return False
    return not any(isinstance(x, ir.Attr) and x.type is DType.F32 for x in ir.walk(e))


def _reduction(
    e: ir.Reduce, domain: ir.Expr | None, sink: ir.Expr | None, body: ir.Expr, parts: list[ir.Expr]
) -> ir.Reduce:
    old = ir.children(e)
    if len(old) == len(parts) and all(a is b for a, b in zip(old, parts, strict=True)):
        return e
    return ir.Reduce(e.kind, e.indices, domain, sink, body, span=e.span)
