"""Evaluation of expressions over a frame of named axes, and of tensors, on demand, over a box of their indices.

An expression over a frame of n axes is a `Value` of rank n. A reduction adds its indices as new last axes, in which
they hide outer axes of the same name. An intermediate is computed when it is read, over the box that the reading
frame needs, so that whoever evaluates an output block by block never holds more than one block of anything.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tpcgen.diagnostics import Diagnostic
from tpcgen.interpreter import functions, reduce, scan, value
from tpcgen.interpreter.frame import Axis, Box, Frame, Span, position
from tpcgen.interpreter.value import Array, FaultTable, Value
from tpcgen.program import ir, sizes
from tpcgen.program.dtypes import DType

Mode = Literal["exact", "device"]


class TooLargeError(Exception):
    """An array of that many elements, more than allowed, would be needed: ask for a smaller block."""

    def __init__(self, elements: int) -> None:
        self.elements = elements
        super().__init__(elements)


@dataclass
class Evaluator:
    """One run of a program: every size and attribute bound, every input given, fitting the program.

    `stored` holds the tensors that scans define: complete once the scan is over, and as far as it has come before.
    exact: float64, no rounding. device: float32 arithmetic, rounded where the program stores or casts.
    Arrays of more than `limit` elements raise TooLargeError, except inside `unbounded()`.
    """

    binding: sizes.Binding
    inputs: Mapping[str, Array]
    mode: Mode
    limit: int
    faults: FaultTable = field(default_factory=FaultTable, init=False)
    _bounded: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.real = np.dtype(np.float64 if self.mode == "exact" else np.float32)
        self.program = self.binding.program
        self._tensors = {t.name: t for t in self.program.tensors}
        self._equations: dict[str, list[ir.Equation]] = {}
        self._scans: dict[str, list[ir.Scan]] = {}
        self._defined_times: Counter[str] = Counter()
        for statement in self.program.body:
            match statement:
                case ir.Equation():
                    self._equations.setdefault(statement.target, []).append(statement)
                    self._defined_times[statement.target] += 1
                case ir.Scan():
                    for name in scan.defined_by(statement):
                        self._scans.setdefault(name, []).append(statement)
                    self._defined_times.update(s.target for s in statement.body if isinstance(s, ir.Equation))
        value_of = self.binding.value
        self._ranges = {r.name: (int(value_of(r.low)), int(value_of(r.high))) for r in self.program.indices}
        self._shapes = {t.name: self.binding.shape(t) for t in self.program.tensors}
        self.stored: dict[str, Value] = {}
        self._recent: OrderedDict[tuple[str, Box], Value] = OrderedDict()
        self._recent_bytes = 0

    def dtype_of(self, tensor: str) -> DType:
        return self._tensors[tensor].dtype

    def shape_of(self, tensor: str) -> tuple[int, ...]:
        return self._shapes[tensor]

    def range_of(self, index: str) -> Span:
        return self._ranges[index]

    def equations_of(self, tensor: str) -> list[ir.Equation]:
        """Those outside scans."""
        return self._equations.get(tensor, [])

    def is_piecewise(self, tensor: str) -> bool:
        """Defined by several equations, in scans or outside."""
        return self._defined_times[tensor] > 1

    # Tensors

    def box(self, tensor: str, box: Box) -> Value:
        """The tensor over a box inside its shape, axes in its order; extents may be 1 where it is constant."""
        if tensor in self.inputs:
            return Value(self.inputs[tensor][(..., *(slice(low, high) for low, high in box))])
        while tensor in self._scans:
            self._run_scan(self._scans[tensor][0])
        if tensor in self.stored:
            return self._defined(tensor, box, _cut(self.stored[tensor], box, self._shapes[tensor]))
        found = self._recent.get((tensor, box))
        if found is None:
            found = self._defined(tensor, box, None)
            self._remember((tensor, box), found)
        return found

    def _run_scan(self, statement: ir.Scan) -> None:
        """What it defines may be read, as far as it has come, while it runs."""
        names = scan.defined_by(statement)
        others = {name: [s for s in self._scans.pop(name) if s is not statement] for name in names}
        scan.run(self, statement)
        self._scans.update({name: scans for name, scans in others.items() if scans})

    def _defined(self, tensor: str, box: Box, result: Value | None) -> Value:
        """By its equations outside scans, and those inside."""
        for equation in self.equations_of(tensor):
            part = self.equation(equation, box, ())
            result = part if result is None else value.merge(result, part)
        assert result is not None
        return result

    def equation(self, equation: ir.Equation, box: Box, outer: Frame) -> Value:
        """One equation over a box of its target, absent outside its domain; `outer` are axes of one value around it."""
        ranges = [self._ranges[name] for name in equation.indices]
        inside = [(max(a, low), min(b, high)) for (a, b), (low, high) in zip(box, ranges, strict=True)]
        axes = tuple(Axis(name, *span) for name, span in zip(equation.indices, inside, strict=True))
        frame = outer + axes
        result = self.where(equation.value, equation.domain, frame)
        result = self.round(result, self.dtype_of(equation.target))
        result = result.map(lambda a: np.reshape(a, a.shape[len(outer) :]))
        return result if tuple(inside) == box else _embed(result, inside, box)

    def where(self, e: ir.Expr, domain: ir.Expr | None, frame: Frame) -> Value:
        """An expression under a domain."""
        held = None if domain is None else self.evaluate(domain, frame)
        return value.restrict(self.evaluate(e, frame), held)

    def _remember(self, key: tuple[str, Box], found: Value) -> None:
        self._recent[key] = found
        self._recent_bytes += found.nbytes
        while self._recent_bytes > _RECENT_BYTES and len(self._recent) > 1:
            _, old = self._recent.popitem(last=False)
            self._recent_bytes -= old.nbytes

    # Expressions

    def evaluate(self, e: ir.Expr, frame: Frame) -> Value:
        match e:
            case ir.Literal():
                return self._constant(e.value, e.type, frame)
            case ir.Index():
                return self._index(e.name, frame)
            case ir.Size():
                return self._constant(self.binding.values[e.name], DType.I32, frame)
            case ir.Attr():
                return self._constant(self.binding.values[e.name], e.type, frame)
            case ir.Read():
                return self._read(e, frame)
            case ir.Unary(operator="not"):
                return value.negation(self.evaluate(e.operand, frame))
            case ir.Unary():
                operand = self.evaluate(e.operand, frame)
                return operand.with_data(-operand.data)
            case ir.Binary():
                return self._binary(e, frame)
            case ir.Call():
                return self._call(e, frame)
            case ir.Cast():
                return self.round(self.evaluate(e.operand, frame), e.dtype)
            case ir.Reduce():
                return self._reduce(e, frame)

    def _constant(self, x: int | float | bool, kind: DType, frame: Frame) -> Value:
        return Value(np.full((1,) * len(frame), x, self.kind(kind)))

    def _index(self, name: str, frame: Frame) -> Value:
        at = position(name, frame)
        axis = frame[at]
        shape = [1] * len(frame)
        shape[at] = axis.size
        return Value(np.reshape(np.arange(axis.low, axis.low + axis.size, dtype=np.int32), shape))

    def kind(self, dtype: DType) -> np.dtype[np.generic]:
        """What values of a dtype are computed in."""
        if dtype.is_float:
            return self.real
        return np.dtype(np.bool_ if dtype is DType.BOOL else np.int32)

    def _as(self, v: Value, kind: DType) -> Value:
        return v if v.data.dtype == self.kind(kind) else v.with_data(v.data.astype(self.kind(kind)))

    def round(self, v: Value, dtype: DType) -> Value:
        """The value as it reads back after being stored as `dtype`."""
        if dtype.is_float:
            v = self._as(v, DType.F32)
            if self.mode == "exact" or dtype is DType.F32:
                return v
            return v.with_data(v.data.astype(dtype.numpy).astype(self.real))
        if dtype is DType.BOOL:
            return v.with_data(v.data != 0)
        return v.with_data(_to_integer(v.data, dtype))

    def _binary(self, e: ir.Binary, frame: Frame) -> Value:
        a, b = self.evaluate(e.left, frame), self.evaluate(e.right, frame)
        self._room(np.broadcast_shapes(a.shape, b.shape))
        if e.operator == "and":
            return value.conjunction(a, b)
        if e.operator == "or":
            return value.disjunction(a, b)
        kind = DType.F32 if e.operator == "/" else _joined(ir.type_of(e.left), ir.type_of(e.right))
        a, b = self._as(a, kind), self._as(b, kind)
        match e.operator:
            case "+":
                return value.union(a, b, np.add, _same)
            case "-":
                return value.union(a, b, np.subtract, np.negative)
            case "*":
                return value.product(a.data * b.data, a, b)
            case "/":
                return value.strict(a.data / b.data, (a, b))
            case "//" | "%" if not kind.is_float:
                return self._divide(e, a, b)
            case "//":
                return value.strict(np.floor_divide(a.data, b.data), (a, b))
            case "%":
                return value.strict(np.mod(a.data, b.data), (a, b))
            case _:
                return value.strict(_COMPARE[e.operator](a.data, b.data), (a, b))

    def _divide(self, e: ir.Binary, a: Value, b: Value) -> Value:
        zero = b.data == 0
        divisor = np.where(zero, np.int32(1), b.data)
        result = value.strict((np.floor_divide if e.operator == "//" else np.mod)(a.data, divisor), (a, b))
        bad = zero if result.present is None else zero & result.present
        if not bad.any():
            return result
        message, hint = f"integer division by zero: the right side of `{e.operator}` is 0", "write a domain"
        numbers = self.faults.mark(bad, lambda _: Diagnostic("E352", message, e.span, hint))
        return _add_faults(result, bad, numbers)

    def _call(self, e: ir.Call, frame: Frame) -> Value:
        arguments = [self.evaluate(a, frame) for a in e.arguments]
        self._room(np.broadcast_shapes(*(a.shape for a in arguments)))
        kind = ir.type_of(e)
        match e.function:
            case "select":
                return value.select(arguments[0], self._as(arguments[1], kind), self._as(arguments[2], kind))
            case "default":
                return value.default(self._as(arguments[0], kind), self._as(arguments[1], kind))
            case f if f in functions.JOINED:
                arguments = [self._as(a, kind) for a in arguments]
                return value.strict(functions.JOINED[f](*(a.data for a in arguments)), arguments)
            case f:
                x = self._as(arguments[0], DType.F32)
                return x.with_data(functions.REAL[f](x.data))

    # Reads

    def _read(self, e: ir.Read, frame: Frame) -> Value:
        plain = self._plain_box(e, frame)
        if plain is not None:
            positions, box = plain
            part = self.box(e.tensor, box).map(lambda a: _lay_out(a, positions, len(frame)))
            self._room(part.shape)
            return self._loaded(part, e.dtype)
        return self._loaded(self._gather(e, frame), e.dtype)

    def _loaded(self, part: Value, dtype: DType) -> Value:
        kind = self.kind(dtype)
        return part if part.data.dtype == kind else part.with_data(part.data.astype(kind))

    def _plain_box(self, e: ir.Read, frame: Frame) -> tuple[list[int], Box] | None:
        """Frame positions and box, when every index stands alone, is distinct, and stays inside the tensor."""
        positions: list[int] = []
        box: list[Span] = []
        for index, extent in zip(e.indices, self._shapes[e.tensor], strict=True):
            if not isinstance(index, ir.Index):
                return None
            at = position(index.name, frame)
            axis = frame[at]
            if at in positions or axis.low < 0 or axis.high > extent:
                return None
            positions.append(at)
            box.append((axis.low, axis.low + axis.size))
        return positions, tuple(box)

    def _gather(self, e: ir.Read, frame: Frame) -> Value:
        where = [self.evaluate(i, frame) for i in e.indices]
        shape = np.broadcast_shapes(*(w.shape for w in where))
        self._room(shape)
        extents = self._shapes[e.tensor]
        inside = [(w.data >= 0) & (w.data < n) for w, n in zip(where, extents, strict=True)]
        box = tuple(_reach(w, ok) for w, ok in zip(where, inside, strict=True))
        index = value.strict(np.zeros(shape, np.bool_), where)
        bad = ~np.broadcast_to(functools.reduce(np.logical_and, inside), shape)
        if index.present is not None:
            bad &= index.present
        if all(low < high for low, high in box):
            at = tuple(
                np.minimum(np.maximum(w.data - low, 0), high - low - 1)
                for w, (low, high) in zip(where, box, strict=True)
            )
            full = tuple(high - low for low, high in box)
            part = self.box(e.tensor, box).map(lambda a: np.broadcast_to(a, full)[at])
        else:
            part = Value(np.zeros(shape, self.kind(e.dtype)), np.zeros((1,) * len(frame), np.bool_))
        if not bad.any():
            return value.strict(part.data, (part, index))
        numbers = self.faults.mark(bad, lambda at: self._outside(e, frame, where, at))
        return _add_faults(value.restrict(part, Value(~bad, index.present, index.fault)), bad, numbers)

    def _outside(self, e: ir.Read, frame: Frame, where: list[Value], at: tuple[int, ...]) -> Diagnostic:
        point = [int(np.broadcast_to(w.data, _grow(w.data.shape, at))[at]) for w in where]
        place = ", ".join(f"{a.name} = {a.low + i}" for a, i in zip(frame, at, strict=True) if a.size > 1 or i or a.low)
        shape = ", ".join(str(n) for n in self._shapes[e.tensor])
        message = f"read of {e.tensor}{point} is outside its shape [{shape}]" + (f", at {place}" if place else "")
        return Diagnostic("E351", message, e.span, "write a domain that excludes the point, or a contract on the index")

    # Reductions

    def _reduce(self, e: ir.Reduce, frame: Frame) -> Value:
        added = tuple(Axis(name, *self._ranges[name]) for name in e.indices)
        inner = frame + added
        extents = tuple(a.size for a in added)
        domain = None if e.domain is None else self.evaluate(e.domain, inner)
        sink = self._sink(e, frame)
        if e.kind == "sum":
            factors = [self._as(self.evaluate(f, inner), ir.type_of(e.body)) for f in factors_of(e.body)]
            return reduce.total(factors, domain, extents, self._room)
        body = value.restrict(self.evaluate(e.body, inner), domain)
        match e.kind:
            case "max" | "min":
                return reduce.extreme(body, extents, e.kind == "max", self._room)
            case "any" | "all":
                return reduce.quantified(body, extents, e.kind == "all", self._room)
            case "logsumexp":
                return reduce.logsumexp(self._as(body, DType.F32), sink, extents, self._room)
            case "softmax":
                rows = reduce.softmax(self._as(body, DType.F32), sink, extents, self._room)
            case _:
                rows = reduce.rank(body, extents, self._room)
        return rows.map(lambda a: _keep(a, frame, added))

    def _sink(self, e: ir.Reduce, frame: Frame) -> Value | None:
        if e.sink is None:
            return None
        sink = self._as(self.evaluate(e.sink, frame), DType.F32)
        return sink.map(lambda a: np.reshape(a, a.shape + (1,) * len(e.indices)))

    def _room(self, shape: tuple[int, ...]) -> None:
        if self._bounded and math.prod(shape) > self.limit:
            raise TooLargeError(math.prod(shape))

    @contextmanager
    def unbounded(self) -> Generator[None]:
        """For what cannot be made smaller."""
        before, self._bounded = self._bounded, False
        try:
            yield
        finally:
            self._bounded = before


_RECENT_BYTES = 1 << 27
"""How much of recently computed boxes is kept for other readers."""

_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


def _joined(a: DType, b: DType) -> DType:
    return a if a is b else DType.F32


def _same(a: Array) -> Array:
    return a


def factors_of(e: ir.Expr) -> list[ir.Expr]:
    match e:
        case ir.Binary(operator="*"):
            return factors_of(e.left) + factors_of(e.right)
        case _:
            return [e]


def _to_integer(data: Array, dtype: DType) -> Array:
    """Towards zero, saturating at the ends of the dtype; NaN becomes 0."""
    limits = np.iinfo(dtype.numpy)
    if data.dtype == np.bool_:
        return data.astype(np.int32)
    if np.issubdtype(data.dtype, np.floating):
        data = np.trunc(np.where(np.isnan(data), 0, data).astype(np.float64))
    return np.minimum(np.maximum(data, limits.min), limits.max).astype(np.int32)


def _cut(v: Value, box: Box, shape: tuple[int, ...]) -> Value:
    """A box of a whole tensor; axes along which the tensor is stored as constant stay so."""

    def cut(a: Array) -> Array:
        return a[(..., *(slice(*s) if m == n else slice(None) for s, m, n in zip(box, a.shape, shape, strict=True)))]

    return v.map(cut)


def _embed(v: Value, inside: list[Span], box: Box) -> Value:
    """A value over a smaller box in a larger one, absent outside."""
    full = tuple(high - low for low, high in box)
    part = tuple(max(0, high - low) for low, high in inside)
    at = tuple(slice(a - low, max(a, b) - low) for (a, b), (low, _) in zip(inside, box, strict=True))

    def embed(a: Array) -> Array:
        whole = np.zeros(full, a.dtype)
        if all(part):
            whole[at] = np.broadcast_to(a, part)
        return whole

    present = np.ones((1,) * v.data.ndim, np.bool_) if v.present is None else v.present
    return Value(v.data, present, v.fault).map(embed)


def _lay_out(a: Array, positions: list[int], rank: int) -> Array:
    """Axis i of a tensor to frame position positions[i]; extent 1 elsewhere."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    shape = [1] * rank
    for axis, at in enumerate(positions):
        shape[at] = a.shape[axis]
    return np.reshape(np.transpose(a, order), shape)


def _keep(a: Array, frame: Frame, added: Frame) -> Array:
    """Last axes, that hid frame axes of the same names, put back in their place and cut to their range."""
    order = list(range(len(frame)))
    for i, axis in enumerate(added):
        order[position(axis.name, frame)] = len(frame) + i
    hidden = [i for i in range(a.ndim) if i not in order]
    a = np.transpose(a, order + hidden)
    a = np.reshape(a, a.shape[: len(frame)])
    for axis in added:
        at = position(axis.name, frame)
        if a.shape[at] != 1 or axis.size == 1:
            cut = [slice(None)] * len(frame)
            cut[at] = slice(frame[at].low - axis.low, frame[at].low - axis.low + frame[at].size)
            a = a[tuple(cut)]
    return a


def _reach(where: Value, inside: Array) -> Span:
    """The least range that holds every index that is present and inside the tensor."""
    if where.present is not None:
        inside = inside & where.present
    found = np.broadcast_to(where.data, inside.shape)[inside]
    return (int(found.min()), int(found.max()) + 1) if found.size else (0, 0)


def _add_faults(v: Value, bad: Array, numbers: Array) -> Value:
    fault = value.worst([v.fault, numbers])
    return Value(v.data, ~bad if v.present is None else v.present & ~bad, fault)


def _grow(shape: tuple[int, ...], at: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(n, i + 1) for n, i in zip(shape, at, strict=True))
