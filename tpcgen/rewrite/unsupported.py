"""Says which constructs of a program the compiler cannot lower yet: one diagnostic each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tpcgen.diagnostics import Diagnostics
from tpcgen.program import ir
from tpcgen.program.contractions import match_contraction
from tpcgen.program.dtypes import DType

_LOWERED = frozenset({DType.F32, DType.BF16, DType.I32})
_MAX_AXES = 5
"""Rank of tensors on the TPC (gaudi.md, section 1)."""


def report_unsupported(program: ir.Program, found: Diagnostics) -> None:
    """E401 scan, E402 several equations of one tensor, E403 gather, E404 rank, E408 dtype, E409 rank of a tensor, E410
    an entry of `schedule` that no plan keeps.
    """
    defined: dict[str, ir.Equation] = {}
    for statement in program.body:
        if isinstance(statement, ir.Scan):
            found.error("E401", "scan is not lowered yet: this recurrence has no kernel", statement.span)
            continue
        if statement.target in defined:
            message = f"piecewise definitions are not lowered yet: {statement.target} has several equations"
            found.error("E402", message, defined[statement.target].span)
            continue
        defined[statement.target] = statement
        for e in _expressions(statement):
            _expression(e, found)
    for tensor in program.tensors:
        if tensor.role is not ir.Role.STATE:
            _tensor(tensor, found)
    for pin in program.pins:
        _pin(pin, defined, program, found)


def _pin(pin: ir.Pin, defined: Mapping[str, ir.Equation], program: ir.Program, found: Diagnostics) -> None:
    match pin.verb, pin.words:
        case "place", (name, engine) if name in defined:
            reductions = [e for e in _expressions(defined[name]) if isinstance(e, ir.Reduce)]
            multiplies = any(match_contraction(e, program) is not None for e in reductions)
            if engine == "tpc" and multiplies:
                found.error("E410", f"a contraction on the TPC is not lowered yet: {name} has one", pin.span)
            elif engine == "mme" and not multiplies:
                hint = "the MME runs sums of products of two tensors only"
                found.error("E410", f"{name} has no contraction, so nothing of it runs on the MME", pin.span, hint)
        case _:
            found.error("E410", f"`{pin.verb}` is not lowered yet: the compiler chooses it alone", pin.span)


def _expressions(equation: ir.Equation) -> Iterator[ir.Expr]:
    for side in (equation.value, equation.domain):
        if side is not None:
            yield from ir.walk(side)


def _expression(e: ir.Expr, found: Diagnostics) -> None:
    match e:
        case ir.Read() if any(isinstance(x, ir.Read) for i in e.indices for x in ir.walk(i)):
            message = f"gather is not lowered yet: an index of {e.tensor} is read from a tensor"
            found.error("E403", message, e.span)
        case ir.Reduce(kind="rank"):
            found.error("E404", "rank is not lowered yet", e.span)
        case _:
            return


def _tensor(tensor: ir.Tensor, found: Diagnostics) -> None:
    if tensor.dtype not in _LOWERED:
        found.error("E408", f"{tensor.dtype} is not lowered yet: {tensor.name} holds it", tensor.span)
    if len(tensor.shape) > _MAX_AXES:
        message = f"tensors of more than {_MAX_AXES} axes are not lowered yet: {tensor.name} has {len(tensor.shape)}"
        found.error("E409", message, tensor.span)
