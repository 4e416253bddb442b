"""Checks that a program is well formed. Runs after every rewrite: a failure is a bug of the rewrite."""

from __future__ import annotations

from tpcgen.program import ir


class MalformedProgram(Exception):
    """A rewrite broke the program: never the user's fault."""


def verify(program: ir.Program) -> ir.Program:
    """The program itself. MalformedProgram for an undeclared or twice declared name, a wrong number of indices, a read
    above the definition, a free index that the left side lacks, or an output without an equation. Scans pass unseen.
    """
    _unique([t.name for t in program.tensors] + [*program.sizes] + [a.name for a in program.attributes])
    _unique([i.name for i in program.indices])
    readable = {t.name for t in program.inputs}
    for statement in program.body:
        if isinstance(statement, ir.Scan):
            return program
        _equation(program, statement, readable)
        if all(s is statement or _target(s) != statement.target for s in program.body[program.body.index(statement) :]):
            readable.add(statement.target)
    undefined = [t.name for t in program.tensors if t.name not in readable and t.role is not ir.Role.STATE]
    _require(not undefined, f"no equation defines {undefined}")
    return program


def _equation(program: ir.Program, equation: ir.Equation, readable: set[str]) -> None:
    tensor = _tensor(program, equation.target)
    _require(tensor.role is not ir.Role.INPUT, f"{equation.target} is an input")
    _require(len(tensor.shape) == len(equation.indices), f"{equation.target} has rank {len(tensor.shape)}")
    _unique(list(equation.indices))
    left = frozenset(equation.indices)
    for part in (equation.value, equation.domain):
        if part is None:
            continue
        free = ir.free_indices(part) - left
        _require(not free, f"{equation.target}: {sorted(free)} are free on the right side only")
        for e in ir.walk(part):
            _node(program, e, readable)


def _node(program: ir.Program, e: ir.Expr, readable: set[str]) -> None:
    match e:
        case ir.Read():
            tensor = _tensor(program, e.tensor)
            _require(e.tensor in readable, f"{e.tensor} is read above its definition")
            _require(len(e.indices) == len(tensor.shape), f"{e.tensor} has rank {len(tensor.shape)}")
            _require(e.dtype is tensor.dtype, f"{e.tensor} is {tensor.dtype}, read as {e.dtype}")
        case ir.Index():
            _require(any(i.name == e.name for i in program.indices), f"index {e.name} has no range")
        case ir.Reduce():
            for name in e.indices:
                _require(any(i.name == name for i in program.indices), f"index {name} has no range")
        case ir.Size():
            _require(e.name in program.sizes, f"{e.name} is no size")
        case ir.Attr():
            _require(any(a.name == e.name for a in program.attributes), f"{e.name} is no attribute")
        case _:
            return


def _tensor(program: ir.Program, name: str) -> ir.Tensor:
    _require(any(t.name == name for t in program.tensors), f"{name} is not declared")
    return program.tensor(name)


def _target(statement: ir.Statement) -> str | None:
    return statement.target if isinstance(statement, ir.Equation) else None


def _unique(names: list[str]) -> None:
    _require(len(set(names)) == len(names), f"declared twice: {sorted(n for n in names if names.count(n) > 1)}")


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise MalformedProgram(problem)
