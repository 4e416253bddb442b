"""What types each kind of expression takes: one rule per node, shared by the resolver and the verifier."""

from __future__ import annotations

from typing import NamedTuple

from tpcgen.program.dtypes import DType
from tpcgen.program.ir import COMPARISONS, Binary, Call, Cast, Expr, Read, Reduce, Unary, type_of

NAMES = {DType.I32: "an integer", DType.F32: "a real", DType.BOOL: "a boolean"}

ARITIES = {
    **dict.fromkeys(("exp", "exp2", "log", "sqrt", "rsqrt", "recip", "tanh", "sigmoid", "erf", "gelu", "silu"), 1),
    **dict.fromkeys(("relu", "elu", "softplus", "sin", "cos", "abs", "floor"), 1),
    **dict.fromkeys(("min", "max", "default"), 2),
    **dict.fromkeys(("clamp", "select"), 3),
}
"""Arguments of each built-in function; `min` and `max` take more as well."""

VARIADIC = frozenset({"min", "max"})
TAKES_SINK = frozenset({"softmax", "logsumexp"})
_EITHER_TYPE = frozenset({"select", "default"})


class Problem(NamedTuple):
    """`culprit` is the node or the operand at fault."""

    culprit: Expr
    message: str
    hint: str = ""


def problem(e: Expr) -> Problem | None:
    """What is wrong with the types at this node, its children taken to be right."""
    match e:
        case Read():
            return next((p for i in e.indices if (p := _index(e, i))), None)
        case Unary(operator="not"):
            return _boolean(e.operand, "`not`")
        case Unary():
            return _number(e.operand, "`-`")
        case Binary():
            return _binary(e)
        case Call():
            return _call(e)
        case Reduce():
            return _reduce(e)
        case _:
            return None


def storable(value: DType, dtype: DType) -> bool:
    """Whether a tensor can hold a value of type I32, F32 or BOOL: integers go into floats too, reals only there."""
    if value is DType.BOOL or dtype is DType.BOOL:
        return value is dtype
    return dtype.is_float or value is DType.I32


def _index(read: Read, index: Expr) -> Problem | None:
    kind = type_of(index)
    if kind is DType.I32:
        return None
    hint = "cast it: i32(...)" if kind is DType.F32 else ""
    return Problem(index, f"an index of {read.tensor} must be an integer, this is {NAMES[kind]}", hint)


def _boolean(e: Expr, where: str) -> Problem | None:
    kind = type_of(e)
    if kind is DType.BOOL:
        return None
    return Problem(e, f"{where} takes a boolean, this is {NAMES[kind]}", "compare it, for instance with `!= 0`")


def _number(e: Expr, where: str) -> Problem | None:
    if type_of(e) is not DType.BOOL:
        return None
    return Problem(e, f"{where} takes a number, this is a boolean", "use select(condition, a, b) or a cast")


def _integer(e: Expr, where: str) -> Problem | None:
    kind = type_of(e)
    if kind is DType.I32:
        return None
    hint = "`/` is the real division, floor(x / y) its floor" if kind is DType.F32 else ""
    return Problem(e, f"{where} takes integers, this is {NAMES[kind]}", hint)


def _binary(e: Binary) -> Problem | None:
    where = f"`{e.operator}`"
    if e.operator in ("and", "or"):
        return _boolean(e.left, where) or _boolean(e.right, where)
    if e.operator in ("//", "%"):
        return _integer(e.left, where) or _integer(e.right, where)
    if e.operator in COMPARISONS and DType.BOOL in (type_of(e.left), type_of(e.right)):
        return _comparison_of_booleans(e)
    return _number(e.left, where) or _number(e.right, where)


def _comparison_of_booleans(e: Binary) -> Problem | None:
    if e.operator in ("==", "!=") and type_of(e.left) is type_of(e.right):
        return None
    if type_of(e.left) is type_of(e.right):
        return Problem(e, f"booleans have no order: `{e.operator}` takes numbers", "use and, or, not, == or !=")
    return Problem(e, f"`{e.operator}` cannot compare {NAMES[type_of(e.left)]} with {NAMES[type_of(e.right)]}")


def _call(e: Call) -> Problem | None:
    where = e.function
    if e.function == "select":
        condition = _boolean(e.arguments[0], "the condition of select")
        return condition or _same_kind(e, e.arguments[1], e.arguments[2])
    if e.function in _EITHER_TYPE:
        return _same_kind(e, e.arguments[0], e.arguments[1])
    return next((p for a in e.arguments if (p := _number(a, where))), None)


def _same_kind(e: Call, a: Expr, b: Expr) -> Problem | None:
    if (type_of(a) is DType.BOOL) == (type_of(b) is DType.BOOL):
        return None
    return Problem(e, f"{e.function} mixes {NAMES[type_of(a)]} and {NAMES[type_of(b)]}")


def _reduce(e: Reduce) -> Problem | None:
    if e.domain is not None and (p := _boolean(e.domain, "`where`")):
        return p
    if e.sink is not None and (p := _number(e.sink, "`sink`")):
        return p
    if e.kind in ("any", "all"):
        return _boolean(e.body, e.kind)
    return _number(e.body, e.kind)


def is_identity_cast(e: Cast) -> bool:
    """`f32(x)` of a real: it marks a written dtype for the resolver and computes nothing."""
    return e.dtype is DType.F32 and type_of(e.operand) is DType.F32
