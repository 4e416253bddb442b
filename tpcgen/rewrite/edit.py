"""Putting a program together again after its equations changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames


@dataclass(frozen=True, slots=True)
class Definition:
    """An equation and the tensor it defines."""

    tensor: ir.Tensor
    equation: ir.Equation


def definitions(program: ir.Program) -> tuple[Definition, ...]:
    """The program's equations with their tensors, in text order. TypeError when it has a scan."""
    found: list[Definition] = []
    for statement in program.body:
        if not isinstance(statement, ir.Equation):
            raise TypeError("scans have no definitions")
        found.append(Definition(program.tensor(statement.target), statement))
    return tuple(found)


def rebuilt(program: ir.Program, parts: Sequence[Definition], new_indices: Iterable[ir.IndexRange] = ()) -> ir.Program:
    """The program with these equations; tensors nobody defines any more are gone, declarations follow the text."""
    made = [p.tensor for p in parts if p.tensor.role is ir.Role.INTERMEDIATE]
    return replace(
        program,
        tensors=(*program.inputs, *program.outputs, *made),
        indices=(*program.indices, *new_indices),
        body=tuple(p.equation for p in parts),
    )


def names_in_use(program: ir.Program) -> FreshNames:
    """Names that a new tensor or index of the program must not have."""
    names = FreshNames()
    names.reserve(program.sizes)
    names.reserve(a.name for a in program.attributes)
    names.reserve(t.name for t in program.tensors)
    names.reserve(i.name for i in program.indices)
    return names


def intermediate(program: ir.Program, name: str, indices: Sequence[str], dtype: DType, like: ir.Node) -> ir.Tensor:
    """An intermediate whose axes are the ranges of `indices`."""
    shape = tuple(program.range_of(i).high for i in indices)
    return ir.Tensor(name, shape, dtype, ir.Role.INTERMEDIATE, span=like.span)


def conjunction(parts: Iterable[ir.Expr | None]) -> ir.Expr | None:
    """`and` of the parts that are there, each once; None when there is none."""
    result: ir.Expr | None = None
    for part in dict.fromkeys(c for p in parts if p is not None for c in conjuncts(p)):
        result = part if result is None else ir.Binary("and", result, part, span=result.span)
    return result


def conjuncts(e: ir.Expr | None) -> tuple[ir.Expr, ...]:
    """The operands of nested `and`s, left to right."""
    match e:
        case None:
            return ()
        case ir.Binary(operator="and"):
            return (*conjuncts(e.left), *conjuncts(e.right))
        case _:
            return (e,)
