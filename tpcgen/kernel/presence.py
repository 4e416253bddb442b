"""Presence made explicit: an expression of the language becomes a value and the condition under which it exists.

After this pass only sum, max, min and `ROW_MAX` reductions are left, each with a domain that says where its body is
present; softmax and logsumexp are spelled out, select and default are ordinary choices.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpcgen.diagnostics import Diagnostic, DiagnosticError
from tpcgen.kernel.functions import EXP_NONPOSITIVE, EXP_SCALED, LOG_AT_LEAST_ONE, RECIP_POSITIVE, SIGMOID_SLOPE
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    COMPARISONS,
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
    walk,
)

ROW_MAX = "row max"
"""The maximum that a softmax subtracts: anything where a visited logit is NaN (the sum becomes NaN by itself)."""

ZERO = Literal(0.0, DType.F32)
ONE = Literal(1.0, DType.F32)


@dataclass(frozen=True, slots=True)
class Present:
    """`value` may be anything where `where` is false; None: present everywhere."""

    value: Expr
    where: Expr | None


def both(a: Expr | None, b: Expr | None) -> Expr | None:
    """Conjunction of conditions, None for true."""
    if a is None or a == b:
        return b
    return a if b is None else Binary("and", a, b)


def either(a: Expr | None, b: Expr | None) -> Expr | None:
    if a is None or b is None or a == b:
        return a if a == b else None
    return Binary("or", a, b)


Given = frozenset[Expr]
"""Conditions that hold wherever an expression is evaluated."""


def explicit(e: Expr, given: Given = frozenset()) -> Present:
    """DiagnosticError E420 for a reduction that is not lowered."""
    match e:
        case Literal() | Index() | Size() | Attr() | Read():
            return Present(e, None)
        case Unary() | Cast():
            inner = explicit(e.operand, given)
            rebuilt = Unary(e.operator, inner.value, span=e.span) if isinstance(e, Unary) else None
            return Present(rebuilt or Cast(e.dtype, inner.value, span=e.span), inner.where)  # type: ignore[union-attr]
        case Binary(operator="+" | "-"):
            return _sum_of_partial(e, given)
        case Binary(operator="and" | "or"):
            return Present(Binary(e.operator, _certain(e.left), _certain(e.right), span=e.span), None)
        case Binary():
            a, b = explicit(e.left, given), explicit(e.right, given)
            return Present(Binary(e.operator, a.value, b.value, span=e.span), both(a.where, b.where))
        case Call(function="select"):
            return _select(e, given)
        case Call(function="default"):
            return _default(e, given)
        case Call(function="exp", arguments=(Binary(operator="-") as below,)) if _is_below_greatest(below, given):
            return Present(_partial_weight(e, below), None)
        case Call():
            parts = [explicit(a, given) for a in e.arguments]
            where: Expr | None = None
            for part in parts:
                where = both(where, part.where)
            return Present(_in_one(Call(e.function, tuple(p.value for p in parts), span=e.span)), where)
        case Reduce():
            return _reduce(e, given)


def _in_one(e: Call) -> Call:
    """The same by one function of the kernel where there is one."""
    match e:
        case Call(
            function="recip",
            arguments=(
                Binary(
                    operator="+",
                    left=Binary(operator="+", left=Literal(value=2.0), right=Call(function="exp", arguments=(x,))),
                    right=Call(function="exp", arguments=(Unary(operator="-", operand=y),)),
                ),
            ),
        ) if x == y:
            return Call(SIGMOID_SLOPE, (x,), span=e.span)
        case _:
            return e


def _certain(condition: Expr) -> Expr:
    """A condition that is false where it is absent, as a domain reads it."""
    p = explicit(condition)
    return p.value if p.where is None else Binary("and", p.where, p.value)


def domain(condition: Expr | None) -> Expr | None:
    """The domain of an equation or a reduction, None for everywhere."""
    return None if condition is None else _certain(condition)


def _otherwise(p: Present, absent: Expr) -> Expr:
    return p.value if p.where is None else Call("select", (p.where, p.value, absent))


def _sum_of_partial(e: Binary, given: Given) -> Present:
    a, b = explicit(e.left, given), explicit(e.right, given)
    if a.where == b.where:
        return Present(Binary(e.operator, a.value, b.value, span=e.span), a.where)
    return Present(Binary(e.operator, _otherwise(a, ZERO), _otherwise(b, ZERO), span=e.span), either(a.where, b.where))


def _select(e: Call, given: Given) -> Present:
    condition, then, otherwise = (explicit(a, given) for a in e.arguments)
    value = Call("select", (condition.value, then.value, otherwise.value), span=e.span)
    if then.where == otherwise.where:
        return Present(value, both(condition.where, then.where))
    chosen = Binary(
        "or",
        both(condition.value, then.where) or condition.value,
        both(Unary("not", condition.value), otherwise.where) or condition.value,
    )
    return Present(value, both(condition.where, chosen))


def _default(e: Call, given: Given) -> Present:
    x, fallback = (explicit(a, given) for a in e.arguments)
    if x.where is None:
        return x
    return Present(Call("select", (x.where, x.value, fallback.value), span=e.span), either(x.where, fallback.where))


def any_point(indices: tuple[str, ...], where: Expr | None) -> Expr | None:
    """Whether a domain has a point, as a maximum that is -inf over none; None for a domain that is everywhere."""
    if where is None:
        return None
    return Binary(">", Reduce("max", indices, where, None, ONE), ZERO)


def _reduce(e: Reduce, given: Given) -> Present:
    match e.kind:
        case "sum" | "max" | "min":
            body = explicit(e.body, given | {*conjuncts(e.domain)})
            where = both(domain(e.domain), body.where)
            return Present(_scaled(e, where, body.value), any_point(e.indices, where))
        case "softmax" | "logsumexp":
            return _softmax(e)
        case "any" | "all":
            inner = _certain(e.body)
            point = Unary("not", inner) if e.kind == "all" else inner
            found = any_point(e.indices, both(domain(e.domain), point))
            assert found is not None
            return Present(Unary("not", found) if e.kind == "all" else found, None)
        case _:
            raise DiagnosticError(
                (
                    Diagnostic(
                        "E420",
                        f"{e.kind} is not lowered to the TPC yet",
                        e.span,
                        "softmax, logsumexp, sum, max, min, any and all are",
                    ),
                )
            )


def _scaled(e: Reduce, where: Expr | None, body: Expr) -> Expr:
    """A maximum or minimum of c x as c times that of x, so that all that ask for it share one pass over x."""
    factor, rest = positive_factor(body, frozenset(e.indices)) if e.kind != "sum" else (None, body)
    value = Reduce(e.kind, e.indices, where, None, rest, span=e.span)
    return value if factor is None else Binary("*", factor, value, span=e.span)


def _is_below_greatest(e: Binary, given: Given) -> bool:
    """Whether `e` is x - max(m, a literal), m the greatest x of a domain that the point is in: 0 at most, and present.

    So are the weights of a partial softmax (rewrite/merge_parts.py).
    """
    match e.right:
        case Call(function="max", arguments=(Reduce(kind="max", body=body, domain=where), Literal())):
            return body == e.left and {*conjuncts(where)} <= given and explicit(body, given).where is None
        case _:
            return False


def _partial_weight(e: Call, below: Binary) -> Expr:
    assert isinstance(below.right, Call)
    greatest, lowest = below.right.arguments
    assert isinstance(greatest, Reduce)
    body, where = explicit(below.left).value, domain(greatest.domain)
    factor, scaled = positive_factor(body, frozenset(greatest.indices))
    largest = Call("max", (Reduce("max", greatest.indices, where, None, scaled, span=greatest.span), lowest))
    difference = Binary("-", scaled, largest)
    if factor is None:
        return Call(EXP_NONPOSITIVE, (difference,), span=e.span)
    return Call(EXP_SCALED, (difference, factor), span=e.span)


def _softmax(e: Reduce) -> Present:
    """exp(x - m) / (sum exp(x - m) + exp(sink - m)), m the maximum of the visited x and the sink."""
    body = explicit(e.body)
    where = both(domain(e.domain), body.where)
    factor, scaled = positive_factor(body.value, frozenset(e.indices))
    largest: Expr = Reduce(ROW_MAX, e.indices, where, None, scaled, span=e.span)
    in_scores = largest
    if factor is not None:
        largest = Binary("*", factor, largest)
    sink = explicit(e.sink) if e.sink is not None else None
    logit = None if sink is None else _otherwise(sink, Literal(-float("inf"), DType.F32))
    if logit is not None:
        largest = Call("max", (largest, logit))
    weight = Call(EXP_NONPOSITIVE, (Binary("-", body.value, largest),), span=e.span)
    if factor is not None and logit is None:
        weight = Call(EXP_SCALED, (Binary("-", scaled, in_scores), factor), span=e.span)
    total: Expr = Reduce("sum", e.indices, where, None, weight, span=e.span)
    if logit is not None:
        total = Binary("+", total, Call(EXP_NONPOSITIVE, (Binary("-", logit, largest),)))
    if e.kind == "softmax":
        return Present(Binary("*", weight, Call(RECIP_POSITIVE, (total,)), span=e.span), where)
    point = any_point(e.indices, where)
    if sink is not None:
        point = either(point, sink.where)
    return Present(Binary("+", largest, Call(LOG_AT_LEAST_ONE, (total,)), span=e.span), point)


def positive_factor(e: Expr, bound: frozenset[str]) -> tuple[Expr | None, Expr]:
    """(c, x) for c x, c > 0 the same at all points: rounding is monotone, so the maximum of c x is c times x's."""
    if isinstance(e, Binary) and e.operator == "*":
        for factor, rest in ((e.left, e.right), (e.right, e.left)):
            if _is_positive(factor) and not free_indices(factor) & bound:
                return factor, rest
    return None, e


def _is_positive(e: Expr) -> bool:
    match e:
        case Literal():
            return e.value > 0
        case Call(function="rsqrt"):
            return True
        case Binary(operator="*" | "/"):
            return _is_positive(e.left) and _is_positive(e.right)
        case _:
            return False


def conjuncts(condition: Expr | None) -> tuple[Expr, ...]:
    """The parts of a conjunction, in order."""
    match condition:
        case None:
            return ()
        case Binary(operator="and"):
            return conjuncts(condition.left) + conjuncts(condition.right)
        case _:
            return (condition,)


def reads_index(e: Expr, index: str) -> bool:
    return index in free_indices(e)


def is_comparison(e: Expr) -> bool:
    return isinstance(e, Binary) and e.operator in COMPARISONS


def bound_by_reductions(e: Expr) -> frozenset[str]:
    """Names of indices that some reduction of the expression binds."""
    return frozenset(i for x in walk(e) if isinstance(x, Reduce) for i in x.indices)
