"""Says which constructs of a program the compiler cannot lower yet: one diagnostic each, with every place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tpcgen.diagnostics import Diagnostics, Label
from tpcgen.program import ir
from tpcgen.program.contractions import match_contraction
from tpcgen.program.dtypes import DType
from tpcgen.rewrite.edit import MAX_AXES, parts_of, sides_of, steps_of

_LOWERED = frozenset({DType.F32, DType.BF16, DType.F16, DType.I32})


def report_unsupported(program: ir.Program, found: Diagnostics) -> None:
    """E404 rank, E408 dtype, E409 rank of a tensor."""
    expressions = [e for step in steps_of(parts_of(program)) for side in sides_of(step) for e in ir.walk(side)]
    ranks = [e for e in expressions if isinstance(e, ir.Reduce) and e.kind == "rank"]
    _construct("E404", "this rank is not lowered yet", ranks, found)
    for tensor in program.tensors:
        if tensor.role is not ir.Role.STATE:
            _tensor(tensor, found)


def lacks(target: str, dtype: DType) -> bool:
    """Whether the target's vector unit has no instructions for a dtype that other targets have (toolchain.md 1.1)."""
    return target == "gaudi" and dtype is DType.F16


def report_missing(program: ir.Program, target: str, found: Diagnostics) -> None:
    """E408: a dtype that the target lacks."""
    for tensor in program.tensors:
        if lacks(target, tensor.dtype):
            hint = "compile for gaudi2 or gaudi3, or with bf16"
            found.error("E408", f"{target} has no {tensor.dtype}: {tensor.name} holds it", tensor.span, hint)


def report_pins(program: ir.Program, found: Diagnostics) -> None:
    """E410: entries of `schedule` that no plan keeps, as far as that shows without plans."""
    defined = {s.target: s for s in reversed(program.body) if isinstance(s, ir.Equation)}
    for pin in program.pins:
        _pin(pin, defined, program, found)


def _pin(pin: ir.Pin, defined: Mapping[str, ir.Equation], program: ir.Program, found: Diagnostics) -> None:
    match pin.verb, pin.words:
        case "place", (name, engine) if name in defined:
            reductions = [e for e in _expressions(defined[name]) if isinstance(e, ir.Reduce)]
            multiplies = any(match_contraction(e, program) is not None for e in reductions)
            if engine == "mme" and not multiplies:
                hint = "the MME runs sums of products of two tensors only"
                found.error("E410", f"{name} has no contraction, so nothing of it runs on the MME", pin.span, hint)
        case "lane" | "tile" | "chunk" | "steps" | "merge" | "sums" | "fuse" | "save", _:
            return  # whether a plan can keep it shows when there are plans, or gradients
        case _:
            found.error("E410", f"`{pin.verb}` is not lowered yet: the compiler chooses it alone", pin.span)


def _expressions(equation: ir.Equation) -> Iterator[ir.Expr]:
    for side in (equation.value, equation.domain):
        if side is not None:
            yield from ir.walk(side)


def _construct(id: str, message: str, places: Sequence[ir.Expr | ir.Statement], found: Diagnostics) -> None:
    if places:
        first, *others = dict.fromkeys(p.span for p in places)
        found.error(id, message, first, labels=tuple(Label(span, "and here") for span in others))


def _tensor(tensor: ir.Tensor, found: Diagnostics) -> None:
    if tensor.dtype not in _LOWERED:
        found.error("E408", f"{tensor.dtype} is not lowered yet: {tensor.name} holds it", tensor.span)
    if len(tensor.shape) > MAX_AXES:
        message = f"tensors of more than {MAX_AXES} axes are not lowered yet: {tensor.name} has {len(tensor.shape)}"
        found.error("E409", message, tensor.span)
