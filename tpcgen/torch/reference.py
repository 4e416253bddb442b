"""The reference of an emitted operator: its mathematics by the interpreter in float64, forward and gradient.

Every emitted package imports this: the interpreter and the parser are imported by the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from tpcgen.torch.arrays import array, tensor

if TYPE_CHECKING:
    from tpcgen.program.ir import Program

Result = torch.Tensor | tuple[torch.Tensor, ...]

_torch: Any = torch  # parts of torch that pyright knows without types


def reference(path: Path, op: str, *, gradient: str | None = None, wrt: Sequence[str] = ()) -> Callable[..., Result]:
    """The op `op` of the spec `path` as a function of CPU tensors, computed in float64 without rounding.

    It takes what the emitted operator takes, real tensors in any dtype, and returns float64 (integer outputs in their
    own dtype). With a `gradient`, another op of the spec, it is differentiable once, with respect to the inputs `wrt`.
    Raises what the interpreter raises.
    """

    @cache
    def programs() -> tuple[Program, Program | None]:
        from tpcgen.program import load

        module = load(path)
        return module.program(op), module.program(gradient) if gradient is not None else None

    class Reference(_torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, attributes: Mapping[str, int | float], *inputs: torch.Tensor) -> Result:
            forward, _ = programs()
            ctx.save_for_backward(*inputs)
            ctx.attributes = attributes
            found = _run(forward, inputs, attributes)
            ctx.mark_non_differentiable(*(x for x in found if not x.is_floating_point()))
            first, *others = found
            return found if others else first

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            forward, backward = programs()
            if backward is None:
                raise RuntimeError(f"{op}: no gradient was compiled; the spec needs a line `vjp NAME wrt ..`")
            given = [c for c, t in zip(cotangents, forward.outputs, strict=True) if t.dtype.is_float]
            inputs: tuple[torch.Tensor, ...] = ctx.saved_tensors
            found = _run(backward, (*inputs, *given), ctx.attributes)
            dtypes = {t.name: x.dtype for t, x in zip(forward.inputs, inputs, strict=True)}
            made = {name: x.to(dtypes[name]) for name, x in zip(wrt, found, strict=True)}
            return None, *(made.get(t.name) for t in forward.inputs)

    def call(*given: Any, **named: Any) -> Result:
        forward, _ = programs()
        values = _signature(forward).bind(*given, **named).arguments
        attributes = {a.name: values[a.name] for a in forward.attributes if values.get(a.name) is not None}
        found: Result = Reference.apply(attributes, *(values[t.name] for t in forward.inputs))
        return found

    return call


def _signature(program: Program) -> Signature:
    """Inputs and attributes in order; attributes may be left out: the interpreter knows their defaults."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    inputs = [Parameter(t.name, kind) for t in program.inputs]
    return Signature([*inputs, *(Parameter(a.name, kind, default=None) for a in program.attributes)])


def _run(
    program: Program, inputs: Sequence[torch.Tensor], attributes: Mapping[str, int | float]
) -> tuple[torch.Tensor, ...]:
    from tpcgen.interpreter import run

    arrays = {t.name: array(_widened(x.detach()).contiguous()) for t, x in zip(program.inputs, inputs, strict=True)}
    found = run(program, arrays, attributes)
    return tuple(tensor(found[t.name]) for t in program.outputs)


def _widened(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x
