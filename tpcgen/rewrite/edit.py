"""Putting a program together again after its equations changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Union

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames, rewrite

ONE = ir.Literal(1.0, DType.F32)
MAX_AXES = 5
"""Rank of tensors on the TPC (gaudi.md, section 1)."""


@dataclass(frozen=True, slots=True)
class Definition:
    """An equation and the tensor it defines."""

    tensor: ir.Tensor
    equation: ir.Equation


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A scan and every tensor it defines: states, what outlives it, temporaries of a step."""

    tensors: tuple[ir.Tensor, ...]
    scan: ir.Scan


Part = Union[Definition, Recurrence]
Step = Union[ir.Equation, ir.Update, ir.StateInit]
"""What defines a value: an equation, in a scan or not, a state's first value, or its next."""


def parts_of(program: ir.Program) -> tuple[Part, ...]:
    """The program's statements with their tensors, in text order."""
    return tuple(_part(program, s) for s in program.body)


def definitions(program: ir.Program) -> tuple[Definition, ...]:
    """The program's equations outside scans with their tensors, in text order."""
    return tuple(p for p in parts_of(program) if isinstance(p, Definition))


def steps_of(parts: Iterable[Part]) -> Iterator[Step]:
    """Every step of the parts, in text order."""
    for part in parts:
        if isinstance(part, Definition):
            yield part.equation
        else:
            yield from (*part.scan.states, *part.scan.body)


def sides_of(step: Step) -> tuple[ir.Expr, ...]:
    """The value of a step and its domain, where it has one."""
    sides = (step.initial,) if isinstance(step, ir.StateInit) else (step.value, step.domain)
    return tuple(s for s in sides if s is not None)


def name_of(step: Step) -> str:
    """The tensor or state that a step defines."""
    return step.target if isinstance(step, ir.Equation) else step.state


def reads_of(step: Step) -> list[ir.Read]:
    """All reads of a step's sides."""
    return [x for side in sides_of(step) for x in ir.walk(side) if isinstance(x, ir.Read)]


def _part(program: ir.Program, statement: ir.Statement) -> Part:
    match statement:
        case ir.Equation():
            return Definition(program.tensor(statement.target), statement)
        case ir.Scan():
            names = [s.state for s in statement.states]
            names += [s.target for s in statement.body if isinstance(s, ir.Equation)]
            return Recurrence(tuple(program.tensor(n) for n in dict.fromkeys(names)), statement)


def depth_first(parts: Sequence[Part]) -> list[Part]:
    """The parts, each as late as its first reader allows: what one of them reads may be gone before what the next one
    reads is there.
    """
    makers: dict[str, list[Part]] = {}
    for p in parts:
        for name in writes(statement_of(p)):
            makers.setdefault(name, []).append(p)
    position = {id(p): n for n, p in enumerate(parts)}
    read = frozenset[str]().union(*(reads(statement_of(p)) for p in parts))
    made: dict[int, Part] = {}

    def make(p: Part) -> None:
        if id(p) in made:
            return
        before = [m for name in reads(statement_of(p)) for m in makers.get(name, ())]
        for m in sorted(before, key=lambda m: position[id(m)]):
            make(m)
        made[id(p)] = p

    for p in parts:
        if not writes(statement_of(p)) & read:
            make(p)
    return list(made.values())


def statement_of(part: Part) -> ir.Statement:
    """The statement without its tensors."""
    return part.scan if isinstance(part, Recurrence) else part.equation


def rebuilt(program: ir.Program, parts: Sequence[Part], new_indices: Iterable[ir.IndexRange] = ()) -> ir.Program:
    """The program with these statements; tensors nobody defines any more are gone, declarations follow the text."""
    made = dict.fromkeys(
        t
        for p in parts
        for t in (p.tensors if isinstance(p, Recurrence) else (p.tensor,))
        if t.role in (ir.Role.INTERMEDIATE, ir.Role.STATE)
    )
    return replace(
        program,
        tensors=(*program.inputs, *program.outputs, *made),
        indices=(*program.indices, *new_indices),
        body=tuple(map(statement_of, parts)),
    )


@lru_cache(maxsize=4096)
def reads(statement: ir.Statement) -> frozenset[str]:
    """Names of the tensors a statement reads from outside itself."""
    match statement:
        case ir.Equation():
            sides = [e for e in (statement.value, statement.domain) if e is not None]
            own = frozenset[str]()
        case ir.Scan():
            sides = [s.initial for s in statement.states]
            sides += [e for s in statement.body for e in (s.value, s.domain) if e is not None]
            own = writes(statement) | {s.state for s in statement.states}
    return frozenset(e.tensor for side in sides for e in ir.walk(side) if isinstance(e, ir.Read)) - own


@lru_cache(maxsize=4096)
def writes(statement: ir.Statement) -> frozenset[str]:
    """Names of the tensors a statement defines; those of a scan include its states and the temporaries of a step."""
    match statement:
        case ir.Equation():
            return frozenset({statement.target})
        case ir.Scan():
            inside = {s.target for s in statement.body if isinstance(s, ir.Equation)}
            return frozenset(inside | {s.state for s in statement.states})


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


def integer(value: int) -> ir.Literal:
    """A literal of sizes and indices, which are i32."""
    return ir.Literal(value, DType.I32)


def product(factors: Iterable[ir.Expr]) -> ir.Expr:
    """The factors multiplied left to right; `ONE` when there is none."""
    result: ir.Expr | None = None
    for f in factors:
        result = f if result is None else ir.Binary("*", result, f, span=f.span)
    return ONE if result is None else result


def mentioned(e: ir.Expr) -> frozenset[str]:
    """Names of the tensors that an expression reads."""
    return frozenset(x.tensor for x in ir.walk(e) if isinstance(x, ir.Read))


def reading(e: ir.Expr, names: Mapping[str, str]) -> ir.Expr:
    """The expression with tensors read under other names."""
    return rewrite(
        e, lambda x: replace(x, tensor=names[x.tensor]) if isinstance(x, ir.Read) and x.tensor in names else x
    )
