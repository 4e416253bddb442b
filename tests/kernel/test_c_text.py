"""Integer expressions as C text: the text means what the expression does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcgen.kernel.c_text import integer
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Expr, Index, Literal, Size

VALUES = {"q": 17, "k": 5, "X": 3, "Y": 7}
leaves = st.sampled_from([Index("q"), Index("k"), Size("X"), Size("Y"), Literal(2, DType.I32), Literal(64, DType.I32)])
divisors = st.sampled_from([Size("X"), Size("Y"), Literal(3, DType.I32), Literal(64, DType.I32)])


def _larger(part: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.one_of(
        st.builds(Binary, st.sampled_from(["+", "*"]), part, part),
        st.builds(Binary, st.sampled_from(["//", "%"]), part, divisors),
    )


def meaning(e: Expr) -> int:
    match e:
        case Literal():
            return int(e.value)
        case Index() | Size():
            return VALUES[e.name]
        case Binary():
            a, b = meaning(e.left), meaning(e.right)
            return (
                {"+": a + b, "*": a * b}[e.operator] if e.operator in "+*" else a // b if e.operator == "//" else a % b
            )
    raise TypeError(e)


def value(text: str) -> int:
    """Of C text without signs: `/` of what is not negative rounds down, and precedences are those of Python's `//`."""
    return eval(
        text.replace(" / ", " // "),
        {**VALUES, "s_i32_min": min, "floor_div": lambda a, b: a // b, "remainder_of": lambda a, b: a % b},
    )


@settings(max_examples=500, deadline=None)
@given(st.recursive(leaves, _larger, max_leaves=8))
def test_the_text_has_the_value_of_the_expression(e: Expr) -> None:
    assert value(integer(e)) == meaning(e)


@pytest.mark.parametrize("operator", ["//", "%"])
def test_a_quotient_is_a_factor_of_its_own(operator: str) -> None:
    quotient = Binary(operator, Index("q"), Size("X"))
    factor = Binary("*", Literal(2, DType.I32), Size("X"))
    assert value(integer(Binary("*", factor, quotient))) == meaning(Binary("*", factor, quotient))
    nested = Binary("*", factor, Binary("*", quotient, Size("Y")))
    assert value(integer(nested)) == meaning(nested)
