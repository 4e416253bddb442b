"""Recognises contractions.

A contraction is `sum[r..](product)` where, after flattening `*`, `/` by something independent of r and unary minus,
and hoisting the factors independent of r, exactly two factors remain, each real and dependent on r, and at least one
has a free index (outside r) that the other lacks. On the same free indices, it is an elementwise product and a sum.

Where exactly one operand has a written dtype and it is a float narrower than f32, the other is rounded to it
(decisions.md 1): `round_operand` says which. A written dtype is that of a read of an input, an output or an annotated
tensor, or of a cast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Cast, Expr, Program, Read, Reduce, Unary, free_indices, type_of


@dataclass(frozen=True)
class Contraction:
    """sum over `summed` of left * right, times `hoisted`, divided by `divisors`, negated if `negative`.

    `left` comes first in the text. Index tuples are in the program's order of indices: `batch` is free in both
    operands, `rows` in `left` alone, `columns` in `right` alone; `summed` is as written. `domain` is the reduction's.
    """

    left: Expr
    right: Expr
    summed: tuple[str, ...]
    batch: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    domain: Expr | None
    hoisted: tuple[Expr, ...]
    divisors: tuple[Expr, ...]
    negative: bool


def match_contraction(reduce: Reduce, program: Program) -> Contraction | None:
    """The contraction a reduction is, or None."""
    if reduce.kind != "sum":
        return None
    factors = _factors(reduce)
    operands = _operands(factors, reduce.indices)
    if operands is None:
        return None
    left, right = operands
    summed = frozenset(reduce.indices)
    in_left, in_right = free_indices(left) - summed, free_indices(right) - summed
    order = [r.name for r in program.indices]

    def ordered(names: frozenset[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=order.index))

    return Contraction(
        left=left,
        right=right,
        summed=reduce.indices,
        batch=ordered(in_left & in_right),
        rows=ordered(in_left - in_right),
        columns=ordered(in_right - in_left),
        domain=reduce.domain,
        hoisted=tuple(f for f in factors.times if not free_indices(f) & summed),
        divisors=factors.divisors,
        negative=factors.negative,
    )


def round_operands(reduce: Reduce, has_written_dtype: Callable[[Read], bool]) -> Reduce:
    """The reduction with the operand whose dtype is not written cast to its partner's (decisions.md 1)."""
    if reduce.kind != "sum":
        return reduce
    operands = _operands(_factors(reduce), reduce.indices)
    if operands is None:
        return reduce
    left, right = operands
    written_left, written_right = _written(left, has_written_dtype), _written(right, has_written_dtype)
    if (written_left is None) == (written_right is None):
        return reduce
    other, dtype = (right, written_left) if written_left is not None else (left, written_right)
    assert dtype is not None
    if dtype is DType.F32 or not dtype.is_float:
        return reduce
    body = _wrap(reduce.body, other, dtype)
    return Reduce(reduce.kind, reduce.indices, reduce.domain, reduce.sink, body, span=reduce.span)


@dataclass
class _Factors:
    times: list[Expr]
    divisors: tuple[Expr, ...]
    negative: bool


def _factors(reduce: Reduce) -> _Factors:
    summed = frozenset(reduce.indices)
    times: list[Expr] = []
    divisors: list[Expr] = []
    negative = False
    stack = [reduce.body]
    while stack:
        e = stack.pop()
        match e:
            case Binary(operator="*"):
                stack += [e.right, e.left]
            case Binary(operator="/") if not free_indices(e.right) & summed:
                divisors.append(e.right)
                stack.append(e.left)
            case Unary(operator="-"):
                negative = not negative
                stack.append(e.operand)
            case _:
                times.append(e)
    return _Factors(times, tuple(divisors), negative)


def _operands(factors: _Factors, indices: tuple[str, ...]) -> tuple[Expr, Expr] | None:
    summed = frozenset(indices)
    dependent = [f for f in factors.times if free_indices(f) & summed]
    if len(dependent) != 2 or any(type_of(f) is not DType.F32 for f in dependent):
        return None
    left, right = dependent
    if free_indices(left) - summed == free_indices(right) - summed:
        return None
    return left, right


def _written(e: Expr, has_written_dtype: Callable[[Read], bool]) -> DType | None:
    if isinstance(e, Cast):
        return e.dtype
    return e.dtype if isinstance(e, Read) and has_written_dtype(e) else None


def _wrap(e: Expr, operand: Expr, dtype: DType) -> Expr:
    """Casts the one factor that is `operand` itself (by identity: an equal factor elsewhere is another operand)."""
    if e is operand:
        return Cast(dtype, e, span=e.span)
    match e:
        case Binary(operator="*" | "/"):
            left, right = _wrap(e.left, operand, dtype), _wrap(e.right, operand, dtype)
            return e if left is e.left and right is e.right else Binary(e.operator, left, right, span=e.span)
        case Unary(operator="-"):
            inner = _wrap(e.operand, operand, dtype)
            return e if inner is e.operand else Unary("-", inner, span=e.span)
        case _:
            return e
