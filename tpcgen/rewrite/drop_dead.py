"""Drops intermediates that no output needs."""

from __future__ import annotations

from tpcgen.program import ir
from tpcgen.rewrite.edit import definitions, rebuilt


def drop_dead(program: ir.Program) -> ir.Program:
    parts = definitions(program)
    needed: set[str] = set()
    kept = list[int]()
    for position in reversed(range(len(parts))):
        part = parts[position]
        if part.tensor.role is ir.Role.INTERMEDIATE and part.tensor.name not in needed:
            continue
        kept.append(position)
        needed |= reads(part.equation)
    return rebuilt(program, [parts[i] for i in reversed(kept)])


def reads(equation: ir.Equation) -> frozenset[str]:
    """Names of the tensors an equation reads."""
    sides = [e for e in (equation.value, equation.domain) if e is not None]
    return frozenset(e.tensor for side in sides for e in ir.walk(side) if isinstance(e, ir.Read))
