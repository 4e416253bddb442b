"""Expressions of sizes and attributes as C++ text over sizes.h: Int, double, bool, as `sizes.evaluate` has them."""

from __future__ import annotations

import math

from tpcgen.emit.names import plain
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Binary, Call, Cast, Expr, Literal, Size, Unary, type_of

C_TYPE = {DType.I32: "Int", DType.F32: "double", DType.BOOL: "bool"}

_TO_SAME_TYPE = {"min": "min_of", "max": "max_of", "clamp": "clamp_to", "abs": "magnitude"}
_REAL = {
    **{name: f"std::{name}" for name in ("tanh", "erf")},
    **{name: f"{name}_of" for name in ("exp", "exp2", "log", "sqrt", "sin", "cos", "floor")},
    **{name: name for name in ("gelu", "silu", "relu", "elu", "softplus", "sigmoid")},
    "rsqrt": "rsqrt",
    "recip": "recip",
}


def field(name: str) -> str:
    """The member of `Values` that holds a size or an attribute; the prefix keeps it apart from keywords and macros."""
    return f"v_{plain(name)}"


def expression(e: Expr, type: DType | None = None) -> str:
    """C++ text over `v`, a `Values`, of the given type. ValueError where it reads a tensor or an index."""
    return _text(e) if type is None else _as(e, type)


def _text(e: Expr) -> str:
    match e:
        case Literal():
            return _literal(e)
        case Size() | Attr():
            return f"v.{field(e.name)}"
        case Unary(operator="not"):
            return f"!{_text(e.operand)}"
        case Unary():
            return f"(-{_text(e.operand)})"
        case Binary():
            return _binary(e)
        case Call():
            return _call(e)
        case Cast():
            return _cast(e)
        case _:
            raise ValueError(f"not an expression of sizes and attributes: {e}")


def _literal(e: Literal) -> str:
    if isinstance(e.value, bool):
        return "true" if e.value else "false"
    if e.type is DType.I32:
        return f"Int({int(e.value)})"
    if math.isinf(e.value):
        return "(-HUGE_VAL)" if e.value < 0 else "HUGE_VAL"
    return f"({float(e.value)!r})" if e.value < 0 else repr(float(e.value))


def _as(e: Expr, type: DType) -> str:
    text = _text(e)
    return text if type_of(e) is type else f"{C_TYPE[type]}({text})"


def _binary(e: Binary) -> str:
    left, right = e.left, e.right
    match e.operator:
        case "and" | "or":
            return f"({_text(left)} {'&&' if e.operator == 'and' else '||'} {_text(right)})"
        case "/":
            return f"divide({_as(left, DType.F32)}, {_as(right, DType.F32)})"
        case "//":
            return f"floor_div({_text(left)}, {_text(right)})"
        case "%":
            return f"floor_mod({_text(left)}, {_text(right)})"
        case op if type_of(left) is not type_of(right):
            return f"({_as(left, DType.F32)} {op} {_as(right, DType.F32)})"
        case op:
            return f"({_text(left)} {op} {_text(right)})"


def _call(e: Call) -> str:
    own = type_of(e)
    match e.function:
        case "select":
            condition, yes, no = e.arguments
            return f"({_text(condition)} ? {_as(yes, own)} : {_as(no, own)})"
        case "default":
            return _as(e.arguments[0], own)
        case name if name in _TO_SAME_TYPE:
            return f"{_TO_SAME_TYPE[name]}({', '.join(_as(a, own) for a in e.arguments)})"
        case name if name in _REAL:
            return f"{_REAL[name]}({', '.join(_as(a, DType.F32) for a in e.arguments)})"
        case name:
            raise ValueError(f"no C++ for the function {name}")


def _cast(e: Cast) -> str:
    match e.dtype:
        case DType.F32:
            return f"double(float({_as(e.operand, DType.F32)}))"
        case DType.BF16:
            return f"round_to_bf16({_as(e.operand, DType.F32)})"
        case DType.I32:
            return f"truncate({_as(e.operand, DType.F32)})" if type_of(e.operand) is DType.F32 else _text(e.operand)
        case DType.BOOL:
            return f"({_as(e.operand, DType.F32)} != 0)"
        case _:
            raise ValueError(f"no C++ for a cast to {e.dtype} among sizes")
