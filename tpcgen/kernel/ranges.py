"""Where the program bounds the scores of a softmax, the exponential of one minus its row's maximum needs no guard
against exponents that do not fit, or a cheaper one.

What is never further below the maximum than exponents reach needs none. A bf16 score is raised to a bf16 threshold, 128
lanes to an operation: the threshold lies within `_REACH` of the maximum although bf16 rounds it, as the bound says how
coarse bf16 is there. What is raised weighs e^-72 at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tpcgen.kernel.functions import AT_LEAST, EXP_IN_REACH, EXP_NONPOSITIVE, LOWEST
from tpcgen.kernel.presence import conjuncts
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Cast, Expr, Index, Literal, Program, Read, Reduce, Unary
from tpcgen.program.substitute import rewrite

_COARSEST = 16.0
"""Most by which neighbours in bf16 may differ where the threshold is."""


@dataclass(frozen=True, slots=True)
class Range:
    """low <= x <= high."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))


def guards_of_ranges(e: Expr, program: Program) -> Expr:
    """The same value, an expression that presence.py has made explicit, in a program that promises what its contracts
    say.
    """
    known = _promised(program)
    return rewrite(e, lambda x: _guarded(x, known)) if known else e


def _guarded(e: Expr, known: Mapping[str, Range]) -> Expr:
    match e:
        case Call(function, (Binary("-", x, Reduce(body=body) as greatest),)) if (
            function == EXP_NONPOSITIVE and body == x
        ):
            found = _range(x, known)
            if found is None:
                return e
            if found.high - found.low <= -LOWEST:
                return Call(EXP_IN_REACH, e.arguments, span=e.span)
            return _raised(e, x, greatest, found) or e
        case _:
            return e


def _raised(e: Call, x: Expr, greatest: Reduce, found: Range) -> Expr | None:
    if not isinstance(x, Read) or x.dtype is not DType.BF16:
        return None
    apart = 2.0 ** (math.floor(math.log2(found.largest - LOWEST)) - 7)
    if apart > _COARSEST:
        return None
    threshold = Cast(DType.BF16, Binary("-", greatest, Literal(-LOWEST - apart / 2, DType.F32)))
    raised = Call(AT_LEAST, (x, threshold))
    return Call(EXP_IN_REACH, (Binary("-", raised, greatest),), span=e.span)


def _range(e: Expr, known: Mapping[str, Range]) -> Range | None:
    match e:
        case Read():
            return known.get(e.tensor)
        case Unary("-"):
            x = _range(e.operand, known)
            return None if x is None else Range(-x.high, -x.low)
        case _:
            return None


def _promised(program: Program) -> dict[str, Range]:
    """Of tensors every element of which the contracts bound from both sides by literals."""
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for part in (p for c in program.contracts for p in conjuncts(c.condition)):
        match part:
            case Binary("<=" | "<", Read() as read, bound) | Binary(">=" | ">", bound, Read() as read):
                _learn(highs, read, bound, program)
            case Binary("<=" | "<", bound, Read() as read) | Binary(">=" | ">", Read() as read, bound):
                _learn(lows, read, bound, program)
            case _:
                pass
    return {name: Range(lows[name], highs[name]) for name in lows.keys() & highs.keys()}


def _learn(bounds: dict[str, float], read: Read, bound: Expr, program: Program) -> None:
    match bound:
        case Literal():
            value = float(bound.value)
        case Unary("-", Literal() as positive):
            value = -float(positive.value)
        case _:
            return
    if _is_whole(read, program) and math.isfinite(value):
        bounds[read.tensor] = value


def _is_whole(read: Read, program: Program) -> bool:
    """Whether it is every element of the tensor: an index of its own along each axis, from end to end."""
    axes = zip(read.indices, program.tensor(read.tensor).shape, strict=True)
    return len({*read.indices}) == len(read.indices) and all(_runs_over(i, extent, program) for i, extent in axes)


def _runs_over(i: Expr, extent: Expr, program: Program) -> bool:
    if not isinstance(i, Index):
        return False
    r = program.range_of(i.name)
    return affine.equal(r.low, Literal(0, DType.I32)) and affine.equal(r.high, extent)
