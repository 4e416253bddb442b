"""Values of size expressions once sizes and attributes are bound; simplification and equality while they are not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from tpcgen.diagnostics import NOWHERE, Diagnostics, Label, Span
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.hints import did_you_mean
from tpcgen.program.ir import (
    Attr,
    Attribute,
    Binary,
    Call,
    Cast,
    Expr,
    Index,
    Literal,
    Program,
    Size,
    Tensor,
    Unary,
    type_of,
    walk,
)
from tpcgen.program.print import expression as text

Value = int | float

I32_MIN, I32_MAX = -(2**31), 2**31 - 1


class EvaluationError(ValueError):
    """A size expression without a value: a division by zero, an overflow of i32, a root of a negative number."""

    def __init__(self, message: str, span: Span) -> None:
        super().__init__(message)
        self.span = span


@dataclass(frozen=True)
class Binding:
    """A program with every size and attribute bound; `values` maps their names to numbers."""

    program: Program
    values: Mapping[str, Value]

    def value(self, e: Expr) -> Value:
        """The value of an expression of sizes and attributes. EvaluationError when it has none."""
        return evaluate(e, self.values)

    def shape(self, tensor: Tensor | str) -> tuple[int, ...]:
        """Extents of a tensor of the program, in elements. KeyError for an unknown name."""
        t = self.program.tensor(tensor) if isinstance(tensor, str) else tensor
        return tuple(int(self.value(e)) for e in t.shape)

    def elements(self) -> int:
        """Those of all tensors of the program together."""
        return sum(prod(self.shape(t)) for t in self.program.tensors)


def equal(a: Expr, b: Expr) -> bool:
    """Whether two extents are provably equal for all sizes."""
    return affine.equal(a, b)


def simplify(e: Expr) -> Expr:
    """Normal form of an integer expression of sizes; real expressions are returned as they are."""
    return affine.normal(e) if type_of(e) is DType.I32 else e


def bind(program: Program, sizes_and_attrs: Mapping[str, Value]) -> Binding:
    """Bind every size and attribute; defaults are filled in, contracts that read no tensor are checked.

    DiagnosticError names what is missing, unknown, of the wrong kind, or the contract that is violated.
    """
    found = Diagnostics()
    values = _given(program, sizes_and_attrs, found)
    found.raise_if_errors()
    for attribute in program.attributes:
        _fill_default(attribute, values, found)
    found.raise_if_errors()
    _check_shapes(program, values, found)
    _check_contracts(program, values, found)
    found.raise_if_errors()
    return Binding(program, values)


def bind_shapes(program: Program, shapes: Mapping[str, tuple[int, ...]], attrs: Mapping[str, Value]) -> Binding:
    """Bind sizes from the shapes of actual inputs (`shapes`: input name to extents), attributes from `attrs`.

    DiagnosticError for a missing or unknown input, a wrong rank, a size with two extents, an extent that differs
    from its expression, and everything `bind` checks.
    """
    found = Diagnostics()
    _check_ranks(program, shapes, found)
    found.raise_if_errors()
    sizes = _sizes_from(program, shapes, found)
    for name in attrs:
        if name in sizes:
            found.error("E312", f"{name} is a size, given by the inputs' shapes", program.span)
    found.raise_if_errors()
    binding = bind(program, {**attrs, **sizes})
    for tensor in program.inputs:
        for axis, (e, actual) in enumerate(zip(tensor.shape, shapes[tensor.name], strict=True)):
            expected = binding.value(e)
            if expected != actual:
                found.error(
                    "E315",
                    f"axis {axis} of {tensor.name} has extent {actual}, but {text(e)} is {expected}",
                    e.span,
                    f"expected shape {list(binding.shape(tensor))}",
                )
    found.raise_if_errors()
    return binding


def evaluate(e: Expr, values: Mapping[str, Value]) -> Value:
    """The value of an expression of literals, sizes, attributes and indices with the given values.

    EvaluationError when it has none; KeyError for a name without a value; TypeError if it reads tensors.
    """
    match e:
        case Literal():
            return e.value
        case Index() | Size() | Attr():
            return values[e.name]
        case Unary(operator="not"):
            return not evaluate(e.operand, values)
        case Unary():
            return _fit(-evaluate(e.operand, values), e)
        case Binary(operator="and"):
            return bool(evaluate(e.left, values)) and bool(evaluate(e.right, values))
        case Binary(operator="or"):
            return bool(evaluate(e.left, values)) or bool(evaluate(e.right, values))
        case Binary():
            return _binary(e, evaluate(e.left, values), evaluate(e.right, values))
        case Call(function="select"):
            condition, then, otherwise = e.arguments
            return evaluate(then if evaluate(condition, values) else otherwise, values)
        case Call():
            return _call(e, [evaluate(a, values) for a in e.arguments])
        case Cast():
            return _cast(e, evaluate(e.operand, values))
        case _:
            raise TypeError(f"not an expression of sizes: {text(e)}")


def _binary(e: Binary, a: Value, b: Value) -> Value:
    match e.operator:
        case "+":
            return _fit(a + b, e)
        case "-":
            return _fit(a - b, e)
        case "*":
            return _fit(a * b, e)
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case ">=":
            return a >= b
        case "==":
            return a == b
        case "!=":
            return a != b
        case _:
            if b == 0:
                raise EvaluationError(f"division by zero: {text(e.right)} is 0 in {text(e)}", e.span)
            if e.operator == "/":
                return a / b
            return _fit(a // b, e) if e.operator == "//" else a % b


def _fit(value: Value, e: Expr) -> Value:
    if isinstance(value, int) and not I32_MIN <= value <= I32_MAX:
        raise EvaluationError(f"{text(e)} is {value}, which does not fit i32", e.span)
    return value


def _rsqrt(x: float) -> float:
    return 1 / math.sqrt(x)


def _gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


_FUNCTIONS: Mapping[str, Callable[[float], float]] = {
    "exp": math.exp,
    "exp2": lambda x: math.pow(2.0, x),
    "log": math.log,
    "sqrt": math.sqrt,
    "rsqrt": _rsqrt,
    "recip": lambda x: 1 / x,
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "erf": math.erf,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: max(x, 0.0),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "softplus": _softplus,
    "sin": math.sin,
    "cos": math.cos,
    "floor": lambda x: float(math.floor(x)),
}


def _call(e: Call, arguments: list[Value]) -> Value:
    match e.function:
        case "abs":
            return _fit(abs(arguments[0]), e)
        case "min":
            return min(arguments)
        case "max":
            return max(arguments)
        case "clamp":
            return min(max(arguments[0], arguments[1]), arguments[2])
        case "default":
            return arguments[0]
        case _:
            pass
    try:
        return _FUNCTIONS[e.function](arguments[0])
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise EvaluationError(f"{text(e)} has no value", e.span) from error


def _cast(e: Cast, value: Value) -> Value:
    if e.dtype is DType.BOOL:
        return value != 0
    if e.dtype.is_float:
        with np.errstate(over="ignore"):
            return float(np.asarray(value, np.float64).astype(e.dtype.numpy).astype(np.float64))
    if not math.isfinite(value):
        raise EvaluationError(f"{text(e)} has no value: {text(e.operand)} is {value}", e.span)
    bounds = np.iinfo(e.dtype.numpy)
    if not bounds.min <= int(value) <= bounds.max:
        raise EvaluationError(f"{text(e.operand)} is {int(value)}, which does not fit {e.dtype}", e.span)
    return int(value)


def _given(program: Program, given: Mapping[str, Value], found: Diagnostics) -> dict[str, Value]:
    kinds = dict.fromkeys(program.sizes, DType.I32) | {a.name: a.type for a in program.attributes}
    values: dict[str, Value] = {}
    for name, value in given.items():
        if name not in kinds:
            hint = (
                did_you_mean(name, kinds) or f"{program.name} has {', '.join(kinds) or 'neither sizes nor attributes'}"
            )
            found.error("E312", f"{program.name} has no size or attribute {name}", program.span, hint)
            continue
        problem = _wrong_value(value, kinds[name], name in program.sizes)
        if problem:
            found.error("E313", f"{name} = {value} {problem}", program.span)
            continue
        values[name] = int(value) if kinds[name] is DType.I32 else float(value)
    for name in program.sizes:
        if name not in given:
            found.error("E311", f"the size {name} of {program.name} is not given", program.span, f"bind it: {name}=...")
    return values


def _wrong_value(value: object, kind: DType, is_size: bool) -> str:
    """Empty when the value will do."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return "is not a number"
    if kind is DType.F32:
        return ""
    if isinstance(value, float | np.floating):
        return "is not an integer"
    if is_size and value < 0:
        return "is negative"
    return "" if I32_MIN <= value <= I32_MAX else "does not fit i32"


def _fill_default(attribute: Attribute, values: dict[str, Value], found: Diagnostics) -> None:
    if attribute.name in values:
        return
    if attribute.default is None:
        found.error("E311", f"the attribute {attribute.name} is not given and has no default", attribute.span)
        return
    if any(isinstance(e, Attr) and e.name not in values for e in walk(attribute.default)):
        return
    try:
        value = evaluate(attribute.default, values)
    except EvaluationError as error:
        found.error("E316", str(error), error.span)
        return
    values[attribute.name] = int(value) if attribute.type is DType.I32 else float(value)


def _check_shapes(program: Program, values: Mapping[str, Value], found: Diagnostics) -> None:
    extents = [(e, f"the extent of axis {i} of {t.name}") for t in program.tensors for i, e in enumerate(t.shape)]
    for e, what in extents:
        try:
            value = evaluate(e, values)
        except EvaluationError as error:
            found.error("E316", str(error), error.span if error.span != NOWHERE else e.span)
            continue
        if value < 0:
            found.error("E317", f"{what}, {text(e)}, is {value}", e.span, f"with {_state(e, values)}")
    for r in program.indices:
        for e in (r.low, r.high):
            try:
                evaluate(e, values)
            except EvaluationError as error:
                found.error("E316", str(error), error.span if error.span != NOWHERE else r.span)


def _check_contracts(program: Program, values: Mapping[str, Value], found: Diagnostics) -> None:
    for contract in program.contracts:
        if contract.on_values:
            continue
        try:
            holds = evaluate(contract.condition, values)
        except EvaluationError as error:
            found.error("E316", str(error), error.span if error.span != NOWHERE else contract.span)
            continue
        if not holds:
            message = f"the contract {text(contract.condition)} of {program.name} is violated"
            found.error("E310", message, contract.span, f"with {_state(contract.condition, values)}")


def _state(e: Expr, values: Mapping[str, Value]) -> str:
    names = dict.fromkeys(x.name for x in walk(e) if isinstance(x, Size | Attr))
    return ", ".join(f"{name} = {values[name]}" for name in names) or "any sizes"


def _check_ranks(program: Program, shapes: Mapping[str, tuple[int, ...]], found: Diagnostics) -> None:
    inputs = {t.name: t for t in program.inputs}
    for name in shapes:
        if name not in inputs:
            hint = did_you_mean(name, inputs) or f"its inputs are {', '.join(inputs)}"
            found.error("E312", f"{program.name} has no input {name}", program.span, hint)
    for name, tensor in inputs.items():
        if name not in shapes:
            found.error("E311", f"the input {name} of {program.name} is not given", tensor.span)
        elif len(shapes[name]) != len(tensor.shape):
            expected = ", ".join(text(e) for e in tensor.shape)
            message = f"{name} has {len(shapes[name])} axes, expected {len(tensor.shape)}: [{expected}]"
            found.error("E314", message, tensor.span, f"its shape is {list(shapes[name])}")


def _sizes_from(program: Program, shapes: Mapping[str, tuple[int, ...]], found: Diagnostics) -> dict[str, Value]:
    sizes: dict[str, Value] = {}
    places: dict[str, tuple[str, Span]] = {}
    for tensor in program.inputs:
        for axis, (e, actual) in enumerate(zip(tensor.shape, shapes[tensor.name], strict=True)):
            if not isinstance(e, Size):
                continue
            place = f"axis {axis} of {tensor.name}"
            if e.name not in sizes:
                sizes[e.name], places[e.name] = actual, (place, e.span)
            elif sizes[e.name] != actual:
                other, span = places[e.name]
                message = f"{e.name} is {sizes[e.name]} on {other} and {actual} on {place}"
                found.error("E315", message, e.span, labels=(Label(span, f"{sizes[e.name]} here"),))
    return sizes
