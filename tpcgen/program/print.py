"""Program -> text of the language. Parsing and resolving the text gives an equal program."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    COMPARISONS,
    Attr,
    Attribute,
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
    Role,
    Size,
    Statement,
    Tensor,
    Unary,
    Update,
)

_LEVELS = {
    "or": 1,
    "and": 2,
    "not": 3,
    **dict.fromkeys(COMPARISONS, 4),
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "//": 6,
    "%": 6,
}
_SIGNED = 7
_ATOM = 8


def program(p: Program) -> str:
    """The program as one op, every intermediate with its dtype and every index with its range written out."""
    parameters = [_tensor(t) for t in p.inputs] + [_attribute(a) for a in p.attributes]
    lines = [f"op {p.name}({', '.join(parameters)})", f"    -> {', '.join(_tensor(t) for t in p.outputs)}"]
    if p.contracts:
        lines.append("    where " + ",\n        ".join(expression(c.condition) for c in p.contracts))
    lines.append("{")
    lines += [f"    index {r.name} in {expression(r.low)} .. {expression(r.high)}" for r in p.indices]
    for statement in p.body:
        lines += _statement(statement, p)
    if p.pins:
        lines.append(f"    schedule {{ {' '.join(' '.join((pin.verb, *pin.words)) + ';' for pin in p.pins)} }}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def expression(e: Expr) -> str:
    """One line, with no more parentheses than needed."""
    return _print(e, 0)


def real(value: float) -> str:
    """A real literal that parses back to the same value, or `inf`."""
    if math.isinf(value):
        return "inf"
    text = repr(value)
    return text if "." in text or "e" in text else text + ".0"


def _tensor(t: Tensor) -> str:
    return f"{t.name}: {t.dtype}[{', '.join(expression(e) for e in t.shape)}]"


def _attribute(a: Attribute) -> str:
    default = f" = {expression(a.default)}" if a.default is not None else ""
    return f"{a.name}: {'int' if a.type is DType.I32 else 'f32'}{default}"


def _statement(s: Statement, p: Program) -> Iterable[str]:
    if isinstance(s, Equation):
        yield f"    {equation(s, p)}"
        return
    r = p.range_of(s.index)
    yield f"    scan {s.index} in {expression(r.low)} .. {expression(r.high)}{' reverse' if s.reverse else ''} {{"
    for init in s.states:
        target = f"{init.state}[{', '.join(init.indices)}]: {p.tensor(init.state).dtype}"
        yield f"        state {target} = {expression(init.initial)}"
    for step in s.body:
        if isinstance(step, Update):
            yield f"        {step.state}[{', '.join(step.indices)}] := {expression(step.value)}{_where(step.domain)}"
        else:
            yield f"        {equation(step, p)}"
    yield "    }"


def statement(s: Statement, p: Program) -> str:
    """An equation on one line, a scan on several."""
    return "\n".join(line.removeprefix("    ") for line in _statement(s, p))


def equation(e: Equation, p: Program) -> str:
    """`S[q, k]: f32 = value where domain`, on one line."""
    tensor = p.tensor(e.target)
    annotation = "" if tensor.role is Role.OUTPUT else f": {tensor.dtype}"
    return f"{e.target}[{', '.join(e.indices)}]{annotation} = {expression(e.value)}{_where(e.domain)}"


def _where(domain: Expr | None) -> str:
    return f" where {expression(domain)}" if domain is not None else ""


def _print(e: Expr, level: int) -> str:
    own, text = _pieces(e)
    return f"({text})" if own < level else text


def _pieces(e: Expr) -> tuple[int, str]:
    match e:
        case Literal():
            return _literal(e)
        case Index() | Size() | Attr():
            return _ATOM, e.name
        case Read():
            return _ATOM, f"{e.tensor}[{_list(e.indices)}]"
        case Unary(operator="not"):
            return _LEVELS["not"], f"not {_print(e.operand, _LEVELS['not'])}"
        case Unary():
            return _SIGNED, _minus(e.operand)
        case Binary():
            own = _LEVELS[e.operator]
            left = own + 1 if e.operator in COMPARISONS else own
            return own, f"{_print(e.left, left)} {e.operator} {_print(e.right, own + 1)}"
        case Call():
            return _ATOM, f"{e.function}({_list(e.arguments)})"
        case Cast():
            return _ATOM, f"{e.dtype}({_print(e.operand, 0)})"
        case Reduce():
            inside = ", ".join(e.indices) + _where(e.domain)
            if e.sink is not None:
                inside += f" sink {_print(e.sink, 0)}"
            return _ATOM, f"{e.kind}[{inside}]({_print(e.body, 0)})"


def _literal(e: Literal) -> tuple[int, str]:
    if isinstance(e.value, bool):
        return _LEVELS["=="], "0 == 0" if e.value else "0 != 0"
    text = real(abs(float(e.value))) if e.type is DType.F32 else str(abs(e.value))
    negative = math.copysign(1, e.value) < 0
    return (_SIGNED, f"-{text}") if negative else (_ATOM, text)


def _minus(operand: Expr) -> str:
    """`-(1)` keeps a minus of a literal apart from a negative literal only in the reader's eye: both resolve alike."""
    return f"-{_print(operand, _SIGNED)}"


def _list(es: tuple[Expr, ...]) -> str:
    return ", ".join(_print(e, 0) for e in es)
