"""Which tensors and expressions a gradient passes: what depends on an input by real arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

from tpcgen.program import ir
from tpcgen.program.dtypes import DType


def varied(program: ir.Program, inputs: Iterable[str]) -> frozenset[str]:
    """Tensors that depend on some of the inputs; states and tensors of scans included."""
    found = set(inputs)
    for statement in program.body:
        if isinstance(statement, ir.Equation):
            found |= {statement.target} if depends(statement.value, found) else set()
            continue
        for _ in statement.body:
            found |= {s.state for s in statement.states if depends(s.initial, found)}
            for s in statement.body:
                target = s.target if isinstance(s, ir.Equation) else s.state
                found |= {target} if depends(s.value, found) else set()
    return frozenset(found)


def depends(e: ir.Expr, on: Iterable[str]) -> bool:
    """Whether a change of one of the tensors changes a real value smoothly: conditions, indices and integers do not."""
    return any(x.tensor in on for x in passed(e))


def passed(e: ir.Expr) -> Iterable[ir.Read]:
    """The reads that a cotangent of an expression reaches."""
    if ir.type_of(e) is not DType.F32:
        return
    match e:
        case ir.Read():
            yield e
        case ir.Call(function="floor"):
            return
        case ir.Call(function="select"):
            for branch in e.arguments[1:]:
                yield from passed(branch)
        case ir.Reduce():
            for part in (e.body, e.sink):
                if part is not None:
                    yield from passed(part)
        case _:
            for child in ir.children(e):
                yield from passed(child)
