"""The equations of a program in eager PyTorch, at its inputs' dtypes: what a user would have without a compiler.

Dense, unblocked and for comparison only: values keep the dtype that torch gives them, rounding where torch rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from tpcgen.host.launch import Array
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    Attr,
    Binary,
    Call,
    Cast,
    Equation,
    Expr,
    Index,
    Literal,
    Program,
    Read,
    Reduce,
    Size,
    Unary,
    free_indices,
)
from tpcgen.program.sizes import Binding
from tpcgen.torch.arrays import tensor

_DTYPE = {
    DType.F32: torch.float32,
    DType.BF16: torch.bfloat16,
    DType.F16: torch.float16,
    DType.I32: torch.int32,
    DType.I16: torch.int16,
    DType.I8: torch.int8,
    DType.U8: torch.uint8,
    DType.BOOL: torch.bool,
}

# Above this many elements in one value the comparison is not worth its memory.
_LARGEST = 1 << 27


class _CannotError(Exception):
    """The program has something this comparison does not do."""


def evaluate(program: Program, binding: Binding, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs as float64 arrays; empty when the program has constructs that are not compared: a scan, a rank."""
    try:
        with torch.no_grad():
            return _Evaluation(program, binding, {n: tensor(a) for n, a in inputs.items()}).outputs()
    except _CannotError:
        return {}


@dataclass(frozen=True)
class _Value:
    """A tensor whose axes are named indices, in the order of the program's indices."""

    data: torch.Tensor
    axes: tuple[str, ...]


@dataclass
class _Evaluation:
    program: Program
    binding: Binding
    tensors: dict[str, torch.Tensor]

    def outputs(self) -> dict[str, Array]:
        for statement in self.program.body:
            if not isinstance(statement, Equation) or statement.target in self.tensors:
                raise _CannotError
            self.tensors[statement.target] = self._equation(statement)
        return {t.name: self.tensors[t.name].double().numpy() for t in self.program.outputs}

    def _equation(self, e: Equation) -> torch.Tensor:
        value = self._spread(self.value(e.value), e.indices)
        if e.domain is not None:
            value = torch.where(
                self._spread(self.value(e.domain), e.indices), value, torch.zeros((), dtype=value.dtype)
            )
        tensor = self.program.tensor(e.target)
        full = value.expand(self.binding.shape(tensor))
        return full.to(_DTYPE[tensor.dtype]) if tensor.role.value == "output" else full

    def value(self, e: Expr) -> _Value:
        match e:
            case Literal():
                return _Value(torch.tensor(e.value), ())
            case Size() | Attr():
                return _Value(torch.tensor(self.binding.values[e.name]), ())
            case Index():
                r = self.program.range_of(e.name)
                low, high = int(self.binding.value(r.low)), int(self.binding.value(r.high))
                return _Value(torch.arange(low, high), (e.name,))
            case Read():
                return self._read(e)
            case Unary():
                value = self.value(e.operand)
                return _Value(~value.data if e.operator == "not" else -value.data, value.axes)
            case Binary():
                return self._together(_BINARY[e.operator], e.left, e.right)
            case Call():
                if e.function not in _FUNCTIONS:
                    raise _CannotError
                return self._together(_FUNCTIONS[e.function], *e.arguments)
            case Cast():
                value = self.value(e.operand)
                return _Value(value.data.to(_DTYPE[e.dtype]), value.axes)
            case Reduce():
                return self._reduce(e)

    def _read(self, e: Read) -> _Value:
        data = self.tensors[e.tensor]
        names = [i.name for i in e.indices if isinstance(i, Index)]
        if len(names) == len(e.indices) == len(set(names)):
            order = sorted(range(len(names)), key=lambda axis: self._rank(names[axis]))
            return _Value(data.permute(order), tuple(names[axis] for axis in order))
        axes = self._ordered(frozenset[str]().union(*(free_indices(i) for i in e.indices)))
        places = tuple(self._spread(self.value(i), axes).long() for i in e.indices)
        for place, extent in zip(places, data.shape, strict=True):
            if place.numel() and not 0 <= int(place.min()) <= int(place.max()) < extent:
                raise _CannotError
        return _Value(data[places], axes)

    def _reduce(self, e: Reduce) -> _Value:
        if e.kind == "sum" and e.domain is None and (product := self._contraction(e)) is not None:
            return product
        involved = frozenset(e.indices) | free_indices(e.body)
        involved |= free_indices(e.domain) if e.domain is not None else frozenset()
        axes = self._ordered(involved)
        body = self._spread(self.value(e.body), axes).expand(self._extents(axes))
        where = None if e.domain is None else self._spread(self.value(e.domain), axes).expand(body.shape)
        dims = [axes.index(i) for i in e.indices]
        match e.kind:
            case "softmax":
                return self._softmax(e, body, where, axes, dims)
            case "sum":
                kept = body if where is None else torch.where(where, body, torch.zeros((), dtype=body.dtype))
                return self._dropped(kept.sum(dims), axes, dims)
            case "max" | "min" if body.numel():
                worst = -math.inf if e.kind == "max" else math.inf
                kept = body if where is None else torch.where(where, body, torch.tensor(worst, dtype=body.dtype))
                return self._dropped(kept.amax(dims) if e.kind == "max" else kept.amin(dims), axes, dims)
            case _:
                raise _CannotError

    def _softmax(
        self, e: Reduce, body: torch.Tensor, where: torch.Tensor | None, axes: tuple[str, ...], dims: list[int]
    ) -> _Value:
        if len(dims) != 1:
            raise _CannotError
        scores = body.movedim(dims[0], -1)
        if where is not None:
            scores = scores.masked_fill(~where.movedim(dims[0], -1), -math.inf)
        length = scores.shape[-1]
        if e.sink is not None:
            outer = tuple(a for a in axes if a not in e.indices)
            sink = self._spread(self.value(e.sink), outer).unsqueeze(-1).to(scores.dtype)
            scores = torch.cat([scores, sink.expand(*scores.shape[:-1], 1)], -1)
        weights = torch.softmax(scores, -1)[..., :length].nan_to_num(0.0)
        return _Value(weights.movedim(-1, dims[0]), axes)

    def _contraction(self, e: Reduce) -> _Value | None:
        """sum[k](a * b) as one einsum, where both factors are tensors of named axes."""
        if not (isinstance(e.body, Binary) and e.body.operator == "*"):
            return None
        left, right = self.value(e.body.left), self.value(e.body.right)
        if not left.data.is_floating_point() or not right.data.is_floating_point():
            return None
        dtype = torch.promote_types(left.data.dtype, right.data.dtype)
        names = self._ordered(frozenset(left.axes) | frozenset(right.axes))
        if not set(e.indices) <= set(names):
            return None
        letter = {name: chr(ord("a") + i) for i, name in enumerate(names)}
        kept = tuple(n for n in names if n not in e.indices)
        sides = ("".join(letter[a] for a in axes) for axes in (left.axes, right.axes, kept))
        spec = "{},{}->{}".format(*sides)
        return _Value(torch.einsum(spec, left.data.to(dtype), right.data.to(dtype)), kept)

    def _together(self, function: Callable[..., torch.Tensor], *operands: Expr) -> _Value:
        values = [self.value(o) for o in operands]
        axes = self._ordered(frozenset[str]().union(*(v.axes for v in values)))
        if math.prod(self._extents(axes)) > _LARGEST:
            raise _CannotError
        return _Value(function(*(self._spread(v, axes) for v in values)), axes)

    def _dropped(self, data: torch.Tensor, axes: tuple[str, ...], dims: list[int]) -> _Value:
        return _Value(data, tuple(a for d, a in enumerate(axes) if d not in dims))

    def _spread(self, value: _Value, axes: tuple[str, ...]) -> torch.Tensor:
        """The value with all of `axes`, in that order, of extent 1 where it does not depend on them."""
        own = sorted(value.axes, key=axes.index)
        data = value.data.permute([value.axes.index(a) for a in own])
        index: tuple[Any, ...] = tuple(slice(None) if a in own else None for a in axes)
        return data[index]

    def _ordered(self, names: frozenset[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=self._rank))

    def _rank(self, name: str) -> int:
        return next(i for i, r in enumerate(self.program.indices) if r.name == name)

    def _extents(self, axes: tuple[str, ...]) -> list[int]:
        ranges = [self.program.range_of(a) for a in axes]
        return [max(0, int(self.binding.value(r.high)) - int(self.binding.value(r.low))) for r in ranges]


def _select(condition: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    return torch.where(condition, yes, no)


def _clamp(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(x, low), high)


_BINARY: Mapping[str, Callable[..., torch.Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "//": torch.floor_divide,
    "%": torch.remainder,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
    "==": torch.eq,
    "!=": torch.ne,
    "and": torch.logical_and,
    "or": torch.logical_or,
}

_FUNCTIONS: Mapping[str, Callable[..., torch.Tensor]] = {
    **{name: getattr(torch, name) for name in ("exp", "exp2", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin")},
    "cos": torch.cos,
    "abs": torch.abs,
    "floor": torch.floor,
    "recip": torch.reciprocal,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "elu": torch.nn.functional.elu,
    "softplus": torch.nn.functional.softplus,
    "min": lambda *x: reduce(torch.minimum, x),
    "max": lambda *x: reduce(torch.maximum, x),
    "clamp": _clamp,
    "select": _select,
}
