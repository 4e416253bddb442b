"""Writes a sum of two values that are never present together as two pieces.

    dQ[b,h,q,d] = X[b,h,q,d] + Y[b,h,q,d]       # X is absent where h >= Hs, Y where h < Hs

adds nothing anywhere: where one operand is absent the sum is the other. So it becomes

    dQ[b,h,q,d] = X[b,h,q,d] where h < Hs
    dQ[b,h,q,d] = Y[b,h,q,d] where h >= Hs

which split_pieces.py computes apart. Gradients of inputs that two pieces of an op read are such sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tpcgen.program import ir
from tpcgen.program.domains import NEGATED
from tpcgen.rewrite.edit import Definition, conjunction, parts_of, rebuilt
from tpcgen.rewrite.support import Supports, UndeterminedError, implies

_ORDERS = ("<", "<=", ">", ">=")


def part_sums(program: ir.Program) -> ir.Program:
    """The same points, values and outputs, with a piece for each such operand."""
    made = [x for p in parts_of(program) for x in (_pieces(p, program) if isinstance(p, Definition) else (p,))]
    return rebuilt(program, made)


def _pieces(d: Definition, program: ir.Program) -> Iterator[Definition]:
    value = d.equation.value
    where = _divided(value, d.equation.indices, program) if _is_sum(value) else None
    if where is None or not isinstance(value, ir.Binary):
        yield d
        return
    right = value.right if value.operator == "+" else _negated(value.right)
    for part, condition in ((value.left, where), (right, _opposite(where))):
        e = replace(d.equation, value=part, domain=conjunction([d.equation.domain, condition]))
        yield from _pieces(replace(d, equation=e), program)


def _divided(e: ir.Expr, indices: tuple[str, ...], program: ir.Program) -> ir.Binary | None:
    """A comparison that holds wherever the left operand is present, and nowhere where the right one is."""
    supports = Supports(program)
    try:
        left, right = (supports.of(x).where for x in ir.children(e))
    except UndeterminedError:
        return None
    if left is None or right is None:
        return None
    for c in dict.fromkeys((*ir.walk(left), *ir.walk(right))):
        if isinstance(c, ir.Binary) and _divides(c, indices):
            for one, other in ((c, _opposite(c)), (_opposite(c), c)):
                if _holds(one, left, program) and _holds(other, right, program):
                    return one
    return None


def _divides(c: ir.Binary, indices: tuple[str, ...]) -> bool:
    """Whether it compares an index of the left side with what sizes and attributes say."""
    plain = not any(isinstance(x, ir.Read | ir.Reduce) for x in ir.walk(c))
    return c.operator in _ORDERS and plain and len(ir.free_indices(c)) == 1 and ir.free_indices(c) <= {*indices}


def _holds(wanted: ir.Expr, where: ir.Expr, program: ir.Program) -> bool:
    if isinstance(where, ir.Binary) and where.operator == "or":
        return all(_holds(wanted, x, program) for x in (where.left, where.right))
    return implies(where, wanted, program)


def _opposite(c: ir.Binary) -> ir.Binary:
    return replace(c, operator=NEGATED[c.operator])


def _is_sum(e: ir.Expr) -> bool:
    return isinstance(e, ir.Binary) and e.operator in ("+", "-")


def _negated(e: ir.Expr) -> ir.Expr:
    """-e, written so that a sum stays one."""
    match e:
        case ir.Unary(operator="-"):
            return e.operand
        case ir.Binary(operator="+" | "-"):
            return ir.Binary("-" if e.operator == "+" else "+", _negated(e.left), e.right, span=e.span)
        case _:
            return ir.Unary("-", e, span=e.span)
