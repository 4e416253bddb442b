"""Lines of C: indentation, wrapping at 120 columns, integer expressions, constants."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np

from tpcgen.program import affine
from tpcgen.program.ir import Attr, Binary, Call, Expr, Index, Literal, Size, Unary

_INDENT = "    "
_WIDTH = 120
_PRECEDENCE = {"+": 10, "-": 10, "*": 20, "//": 20, "%": 20}
FLOOR_DIVISION = "floor_div"
REMAINDER = "remainder_of"
DIVISIONS = {
    FLOOR_DIVISION: """\
inline int floor_div(int a, int b)
{
    const int quotient = a / b;
    return quotient - ((quotient * b != a) & ((a < 0) != (b < 0)));
}
""",
    REMAINDER: """\
inline int remainder_of(int a, int b)
{
    return (int)((unsigned)a % (unsigned)b);
}
""",
}
"""Divisions as functions of the kernel's text. The open compiler breaks on a signed `%` by a variable ("Cannot select:
sdivrem"), also on one it makes itself of `a - a / b * b`: these are forms of it that it takes.
"""
MINUS_INFINITY = "MINUS_INFINITY"


class Lines:
    """Text under construction; blocks are indented by what is between `open` and `close`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def add(self, text: str) -> None:
        """A line; what is too long goes on in the next one, indented twice."""
        pad = _INDENT * self.depth
        if len(pad) + len(text) <= _WIDTH or text.startswith("//"):
            self.lines.append(pad + text if text else "")
            return
        further = pad + _INDENT * 2
        self.lines += textwrap.wrap(text, _WIDTH, initial_indent=pad, subsequent_indent=further, break_on_hyphens=False)

    def blank(self) -> None:
        """An empty line, unless a block starts here or one is there already."""
        if self.lines and self.lines[-1] and not self.lines[-1].endswith("{"):
            self.lines.append("")

    def open(self, head: str) -> None:
        self.add(f"{head} {{")
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.add("}")

    def listing(self, head: str, items: Sequence[str], tail: str) -> None:
        """head item, item, ... tail; continued lines are indented twice."""
        pad = _INDENT * self.depth
        line = pad + head + ", ".join(items) + tail
        if len(line) <= _WIDTH:
            self.lines.append(line)
            return
        current = pad + head
        for n, item in enumerate(items):
            piece = item + (", " if n + 1 < len(items) else tail)
            if len((current + piece).rstrip()) > _WIDTH and n > 0:
                self.lines.append(current.rstrip())
                current = pad + _INDENT * 2
            current += piece
        self.lines.append(current)


def number(value: float | int) -> str:
    """A C constant. Infinities and NaN by their bits: TPC-C has no names for them."""
    if isinstance(value, int):
        return f"0x{value:X}" if value > 0xFFFF else str(value)
    if math.isnan(value):
        return "as_float(0x7FFFFFFF)"
    if math.isinf(value):
        return "as_float(0x7F800000)" if value > 0 else MINUS_INFINITY
    if value.is_integer() and abs(value) < 1 << 24:
        return f"{value:.1f}f"
    return f"{np.float32(value)!s}f"


def integer(e: Expr) -> str:
    """C text of an integer expression of kernel variables; `//` and `%` round down, for any sign."""
    return _text(e, 0)


def uses_division(e: Expr, function: str) -> bool:
    """Whether the text calls this function of `DIVISIONS`."""
    return f"{function}(" in integer(e)


def _text(e: Expr, outer: int) -> str:
    """Parenthesised where it binds weaker than its surroundings."""
    match e:
        case Literal():
            return str(e.value) if int(e.value) >= 0 or outer < 20 else f"({e.value})"
        case Index() | Size() | Attr():
            return e.name
        case Unary(operator="-"):
            return f"-{_text(e.operand, 30)}"
        case Call(function="min" | "max"):
            a, b = (_text(x, 0) for x in e.arguments)
            return f"s_i32_{e.function}({a}, {b})"
        case Binary(operator="*") if (masked := _rounded_down(e)) is not None:
            inner, step = masked
            return _paren(f"{_text(inner, 20)} & -{step}", 5, outer)
        case Binary(operator="//") if (shift := _power_of_two(e.right)) is not None:
            return _paren(f"{_text(e.left, 20)} >> {shift}", 7, outer)
        case Binary(operator="//" | "%") if not (_nonnegative(e.left) and _positive(e.right)):
            quotient = f"{FLOOR_DIVISION}({_text(e.left, 0)}, {_text(e.right, 0)})"
            if e.operator == "//":
                return quotient
            return _paren(f"{_text(e.left, 10)} - {quotient} * {_text(e.right, 21)}", 10, outer)
        case Binary(operator="%") if not isinstance(e.right, Literal):
            return f"{REMAINDER}({_text(e.left, 0)}, {_text(e.right, 0)})"
        case Binary(operator="+" | "-" | "*" | "//" | "%"):
            mine = _PRECEDENCE[e.operator]
            operator = "/" if e.operator == "//" else e.operator
            bound = e.operator in ("-", "//", "%") or (e.operator == "*" and _starts_with_quotient(e.right))
            right = mine + 1 if bound else mine
            return _paren(f"{_text(e.left, mine)} {operator} {_text(e.right, right)}", mine, outer)
        case _:
            raise TypeError(f"not an integer expression of a kernel: {e}")


def _paren(text: str, mine: int, outer: int) -> str:
    return f"({text})" if mine < outer else text


def _starts_with_quotient(e: Expr) -> bool:
    """x * (q / y) is not x * q / y: integers round down in between."""
    match e:
        case Binary(operator="//" | "%"):
            return True
        case Binary(operator="*"):
            return _starts_with_quotient(e.left)
        case _:
            return False


def _power_of_two(e: Expr) -> int | None:
    if isinstance(e, Literal) and int(e.value) > 0 and int(e.value) & (int(e.value) - 1) == 0:
        return int(e.value).bit_length() - 1
    return None


def _rounded_down(e: Binary) -> tuple[Expr, int] | None:
    """(x, 64) for x // 64 * 64 in either order."""
    for a, b in ((e.left, e.right), (e.right, e.left)):
        if _power_of_two(a) is None or not isinstance(b, Binary) or b.operator != "//" or b.right != a:
            continue
        assert isinstance(a, Literal)
        return b.left, int(a.value)
    return None


def _nonnegative(e: Expr) -> bool:
    """Whether all terms of the normal form are: coordinates start at 0 and sizes at 1."""
    return all(c >= 0 and all(_is_count(a) for a in m) for m, c in affine.polynomial(e).items())


def _is_count(atom: Expr) -> bool:
    match atom:
        case Index() | Size():
            return True
        case Binary(operator="//" | "%"):
            return _nonnegative(atom.left) and _positive(atom.right)
        case _:
            return False


def _positive(e: Expr) -> bool:
    """A divisor is not 0 by contract, so not negative is enough; an attribute used as one is a size by another name."""
    return all(c >= 0 and all(_is_count(a) or isinstance(a, Attr) for a in m) for m, c in affine.polynomial(e).items())
