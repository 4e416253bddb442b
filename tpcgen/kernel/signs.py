"""A sign that a choice changes goes to the factor that fewer points have: select(c, -a, b) * s, as in turned positions,
is select(c, a, b) * select(c, -s, s), whose second factor is made once for all points that share s. Both are the same
number: a product is rounded alike for either sign.
"""

from __future__ import annotations

from tpcgen.program.ir import Binary, Call, Expr, Read, Unary, free_indices
from tpcgen.program.substitute import rewrite


def signs_shared(e: Expr) -> Expr:
    """The same value."""
    return rewrite(e, _shared)


def _shared(e: Expr) -> Expr:
    match e:
        case Binary(operator="*", left=Call(function="select") as chosen, right=Read() as factor):
            return _product(chosen, factor) or e
        case Binary(operator="*", left=Read() as factor, right=Call(function="select") as chosen):
            return _product(chosen, factor) or e
        case _:
            return e


def _product(chosen: Call, factor: Read) -> Expr | None:
    condition, then, otherwise = chosen.arguments
    if not free_indices(factor) | free_indices(condition) < free_indices(chosen):
        return None
    negative = Unary("-", factor)
    match then, otherwise:
        case Unary(operator="-", operand=a), b if not isinstance(b, Unary):
            signed = Call("select", (condition, negative, factor))
        case b, Unary(operator="-", operand=a) if not isinstance(b, Unary):
            signed = Call("select", (condition, factor, negative))
            return Binary("*", Call("select", (condition, b, a)), signed)
        case _:
            return None
    return Binary("*", Call("select", (condition, a, b)), signed)
