"""What an emitted package calls: argument checks, the MME's matmul, and TPC stages on the host device.

On HPU only the checks and `mme_matmul` are used; the stages come from the compiled extension.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from tpcgen.torch.stages import StageLibrary

__all__ = [
    "StageLibrary",
    "artifact_root",
    "axis_blocks",
    "axis_window",
    "check_attribute",
    "check_device",
    "check_dtype",
    "check_shape",
    "contiguous",
    "differentiable",
    "mme_matmul",
    "require",
]

# triton_op warns when Triton is missing; only its tracing is used here, which needs no Triton.
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)

_Choice = TypeVar("_Choice")
_I32 = torch.iinfo(torch.int32)


def artifact_root(package: Path) -> Path:
    """The folder of the artifact that the package file belongs to: the package's own in a wheel, else the one above."""
    folder = package.resolve().parent
    return folder if (folder / "manifest.json").is_file() else folder.parent


def mme_matmul(lhs: torch.Tensor, rhs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(batch, m, k) x (batch, k, n) -> (batch, m, n), accumulated in f32, stored as `dtype`.

    The CPU multiplies the operands as f32; on HPU the graph compiler folds the conversion into the MME's output
    (decisions.md 1, an assumption of the register).
    """
    if lhs.device.type == "cpu":
        return torch.matmul(lhs.float(), rhs.float()).to(dtype)
    if lhs.dtype != rhs.dtype:
        lhs, rhs = lhs.float(), rhs.float()
    return torch.matmul(lhs, rhs).to(dtype)


def axis_window(x: torch.Tensor, axis: int, start: int, length: int) -> torch.Tensor:
    """Elements `start` to `start + length` of an axis, 0 where the tensor has none. A view where it has all."""
    size = x.shape[axis]
    low, high = min(max(start, 0), size), min(max(start + length, 0), size)
    inside = x.narrow(axis, low, high - low)
    if high - low == length:
        return inside
    front = min(max(-start, 0), length)
    pads = [0, 0] * (x.dim() - 1 - axis) + [front, length - front - (high - low)]
    return torch.nn.functional.pad(inside, pads)


def axis_blocks(x: torch.Tensor, axis: int, start: int, count: int, step: int, length: int) -> torch.Tensor:
    """`count` windows of `length` elements of an axis, `step` apart, the first at `start`: a new axis after it."""
    if not count:
        return x.new_zeros(*x.shape[:axis], 0, length, *x.shape[axis + 1 :])
    whole = axis_window(x, axis, start, (count - 1) * step + length)
    return whole.unfold(axis, length, step).movedim(-1, axis + 1)


def differentiable(
    op: Any,
    backward: Any,
    *,
    tensors: int,
    wrt: tuple[int, ...],
    outputs: tuple[int, ...],
    saved: tuple[int, ...] = (),
) -> None:
    """Make `backward` the gradient of the custom op `op`: it takes the `tensors` inputs of `op`, its outputs `saved`,
    the cotangents of its real `outputs`, its attributes, then for each input of `wrt` whether its gradient is wanted,
    and returns a gradient for each, of any shape where it is not. Other inputs get none, nor do the outputs `saved`
    have one.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        kept = [output[i] for i in saved]
        ctx.mark_non_differentiable(*kept)
        ctx.save_for_backward(*inputs[:tensors], *kept)
        ctx.attributes = inputs[tensors:]

    def run(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted = [bool(ctx.needs_input_grad[i]) for i in wrt]
        made: dict[int, torch.Tensor] = {}
        if any(wanted):
            given = [cotangents[i].contiguous() for i in outputs]
            found: torch.Tensor | tuple[torch.Tensor, ...] = backward(
                *ctx.saved_tensors, *given, *ctx.attributes, wanted
            )
            results = (found,) if isinstance(found, torch.Tensor) else found
            made = {i: x for i, x, asked in zip(wrt, results, wanted, strict=True) if asked}
        return tuple(made.get(i) for i in range(tensors + len(ctx.attributes)))

    op.register_autograd(run, setup_context=keep)


def check_dtype(op: str, tensors: Mapping[str, object], variants: Mapping[tuple[torch.dtype, ...], _Choice]) -> _Choice:
    """The variant for the dtypes of `tensors`. TypeError names the dtypes there are."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(tensor).__name__}")
    given = tuple(tensor.dtype for tensor in tensors.values() if isinstance(tensor, torch.Tensor))
    if given not in variants:
        what = f"{', '.join(tensors)} {'has dtype' if len(tensors) == 1 else 'have dtypes'} {_dtypes(given)}"
        raise TypeError(f"{op}: {what}; this operator is compiled for {' or '.join(map(_dtypes, variants))}")
    return variants[given]


def check_device(op: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """ValueError unless all tensors are on the device of the first."""
    first, device = next((name, tensor.device) for name, tensor in tensors.items())
    for name, tensor in tensors.items():
        if tensor.device != device:
            raise ValueError(
                f"{op}: {name} is on {tensor.device}, {first} on {device}: all inputs must be on one device"
            )


def contiguous(op: str, name: str, tensor: object, rank: int, dtype: torch.dtype) -> torch.Tensor:
    """The tensor, contiguous, after checking rank and dtype. int64 becomes int32 when every value fits."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dim() != rank:
        raise ValueError(f"{op}: {name} must have {rank} dims, got shape {tuple(tensor.shape)}")
    if tensor.dtype == torch.int64 and dtype == torch.int32:
        tensor = _narrowed(op, name, tensor)
    if tensor.dtype != dtype:
        raise TypeError(f"{op}: {name} must be {_dtypes([dtype])}, got {_dtypes([tensor.dtype])}")
    return tensor.contiguous()


def _narrowed(op: str, name: str, tensor: torch.Tensor) -> torch.Tensor:
    # A data-dependent check would break a compiled graph; eager calls have it.
    if not torch.compiler.is_compiling() and tensor.numel():
        low, high = int(tensor.min()), int(tensor.max())
        if low < _I32.min or high > _I32.max:
            raise ValueError(f"{op}: {name} holds {low if low < _I32.min else high}, which does not fit in int32")
    return tensor.to(torch.int32)


def check_shape(op: str, name: str, tensor: torch.Tensor, shape: tuple[int, ...], written: str) -> None:
    """ValueError unless the tensor has that shape; `written` is the shape in the spec's words."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{op}: {name}: expected [{written}] = {shape}, got {tuple(tensor.shape)}")


def check_attribute(op: str, name: str, value: object, kind: type[int] | type[float]) -> None:
    """TypeError unless it is a number of that kind, ValueError for an integer that a kernel's i32 does not hold."""
    allowed = (int, torch.SymInt) if kind is int else (int, float, torch.SymInt, torch.SymFloat)
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be {'an int' if kind is int else 'a float'}, got {value!r}")
    if kind is int and not _I32.min <= value <= _I32.max:
        raise ValueError(f"{op}: {name} = {value} does not fit in int32")


def require(holds: Callable[[], bool], op: str, contract: str, values: Mapping[str, int | float]) -> None:
    """ValueError naming the contract of the spec that the caller broke; one without a value (x % 0) is broken."""
    try:
        kept = holds()
    except ArithmeticError:
        kept = False
    if not kept:
        given = ", ".join(f"{name} = {value}" for name, value in values.items())
        raise ValueError(f"{op}: needs {contract}, got {given}")


def _dtypes(dtypes: Iterable[torch.dtype]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)
