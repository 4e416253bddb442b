"""Gives searches in the domain of an equation a tensor of their own.

    V_m[b,h,k,e] = V[b,h,k,e] where any[q where k <= q and doc[b,q] == doc[b,k]](true)

becomes

    V_m_any[b,k]: i32 = select(any[q where k <= q and doc[b,q] == doc[b,k]](true), 1, 0)
    V_m[b,h,k,e] = V[b,h,k,e] where V_m_any[b,k] != 0

which searches once per b and k, and can do so for a vector of keys at once: with e along the lanes every element of V
would wait for a search of one key.
"""

from __future__ import annotations

from dataclasses import replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    conjunction,
    conjuncts,
    intermediate,
    names_in_use,
    parts_of,
    rebuilt,
)

NO, YES = ir.Literal(0, DType.I32), ir.Literal(1, DType.I32)


def search_once(program: ir.Program) -> ir.Program:
    names = names_in_use(program)
    made: dict[ir.Expr, Definition] = {}
    result: list[Part] = []
    for part in parts_of(program):
        if not isinstance(part, Definition) or not any(map(_searches, conjuncts(part.equation.domain))):
            result.append(part)
            continue
        domain: list[ir.Expr] = []
        for condition in conjuncts(part.equation.domain):
            if not _searches(condition):
                domain.append(condition)
                continue
            if condition not in made:
                made[condition] = _apart(program, part, condition, names)
                result.append(made[condition])
            domain.append(_found(made[condition]))
        result.append(replace(part, equation=replace(part.equation, domain=conjunction(domain))))
    return rebuilt(program, result)


def _searches(condition: ir.Expr) -> bool:
    return isinstance(condition, ir.Reduce) and condition.kind in ("any", "all")


def _apart(program: ir.Program, part: Definition, condition: ir.Expr, names: FreshNames) -> Definition:
    indices = tuple(i for i in part.equation.indices if i in ir.free_indices(condition))
    name = names.fresh(f"{part.tensor.name}_any")
    tensor = intermediate(program, name, indices, DType.I32, condition)
    value = ir.Call("select", (condition, YES, NO), span=condition.span)
    return Definition(tensor, ir.Equation(name, indices, value, None, span=condition.span))


def _found(search: Definition) -> ir.Expr:
    e = search.equation
    read = ir.Read(e.target, tuple(ir.Index(i) for i in e.indices), DType.I32, span=e.span)
    return ir.Binary("!=", read, NO, span=e.span)
