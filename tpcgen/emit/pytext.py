"""Expressions of sizes and attributes as Python text, and names that are safe as Python identifiers."""

from __future__ import annotations

import builtins
import keyword

from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Binary, Call, Cast, Expr, Literal, Size, Unary, type_of

# Names that the emitted module defines or imports, or that its functions use beside the spec's names.
_MODULE = (
    "torch math Path StageLibrary hpu_stages check_attribute check_device check_dtype check_shape contiguous "
    "mme_matmul axis_window axis_blocks require artifact_root differentiable reference NAMESPACE op dtypes outputs "
    "Optional Sequence output_mask"
)
_TAKEN = (
    frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins)) | frozenset(_MODULE.split())
)

_PREC = {"or": 1, "and": 2, "not": 3, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6}
_COMPARISON = 4
_NEGATION = 7
_ATOM = 8

TORCH_DTYPE = {
    DType.F32: "torch.float32",
    DType.BF16: "torch.bfloat16",
    DType.F16: "torch.float16",
    DType.F8_143: "torch.float8_e4m3fn",
    DType.F8_152: "torch.float8_e5m2",
    DType.I32: "torch.int32",
    DType.I16: "torch.int16",
    DType.I8: "torch.int8",
    DType.U8: "torch.uint8",
    DType.BOOL: "torch.bool",
}


def identifier(name: str) -> str:
    """`name` as a Python identifier that hides no keyword, builtin or name of the module; different for each name."""
    return f"{name}_" if name in _TAKEN or name.startswith("_") or name.endswith("_") else name


def expression(e: Expr) -> str:
    """Python text of an expression of sizes and attributes. ValueError where it reads a tensor or an index."""
    return _print(e, 0)


def _print(e: Expr, outer: int) -> str:
    match e:
        case Literal():
            return repr(e.value) if abs(e.value) != float("inf") else "math.inf"
        case Size() | Attr():
            return identifier(e.name)
        case Unary(operator="not"):
            return _wrap(f"not {_print(e.operand, _PREC['not'])}", _PREC["not"], outer)
        case Unary():
            return _wrap(f"-{_print(e.operand, _NEGATION)}", _NEGATION, outer)
        case Binary():
            own = _PREC.get(e.operator, _COMPARISON)
            text = f"{_print(e.left, own)} {e.operator} {_print(e.right, own + 1)}"
            return _wrap(text, own, outer)
        case Cast() if e.dtype.is_float:
            return _print(e.operand, outer)
        case Cast():
            return f"int({_print(e.operand, 0)})"
        case Call():
            return _call(e)
        case _:
            raise ValueError(f"not an expression of sizes and attributes: {e}")


def _call(e: Call) -> str:
    arguments = [_print(a, 0) for a in e.arguments]
    match e.function:
        case "min" | "max" | "abs":
            return f"{e.function}({', '.join(arguments)})"
        case "clamp":
            x, low, high = arguments
            return f"min(max({x}, {low}), {high})"
        case "floor" | "exp" | "log" | "sqrt" | "tanh" | "sin" | "cos" | "erf":
            return f"math.{e.function}({arguments[0]})"
        case "rsqrt":
            return f"(1.0 / math.sqrt({arguments[0]}))"
        case "recip":
            return f"(1.0 / ({arguments[0]}))"
        case "exp2":
            return f"(2.0 ** ({arguments[0]}))"
        case "select":
            return f"({arguments[1]} if {arguments[0]} else {arguments[2]})"
        case other:
            raise ValueError(f"{other} has no value outside a kernel (argument type {type_of(e.arguments[0])})")


def _wrap(text: str, own: int, outer: int) -> str:
    return f"({text})" if own < outer else text
