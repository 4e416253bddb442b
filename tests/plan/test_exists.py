"""Whether some value of an index satisfies a condition, against trying all of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tpcgen.program import affine, ir, load_text
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text_of
from tpcgen.rewrite.edit import conjunction
from tpcgen.rewrite.support import exists, facts

TEXT = """op blocks(x: f32[N]) -> y: f32[(N + 3) // 4, 4]
{
    y[n,i] = x[4 * n + i] where 4 * n + i < N
}
"""
PROGRAM = load_text(TEXT).program("blocks")
FACTORS = st.sampled_from((-4, -3, -1, 1, 3, 4))
BOUNDS = st.tuples(FACTORS, st.integers(-1, 1), st.integers(-9, 9), st.sampled_from((-1, 0, 1)))


def condition(n: int, i: int, constant: int, size: int) -> ir.Expr:
    """n * `n` + i * `i` + size * N + constant >= 0."""
    terms = ((n, ir.Index("n")), (i, ir.Index("i")), (size, ir.Size("N")))
    total = affine.constant(constant)
    for factor, e in terms:
        total = affine.add(total, affine.scale(affine.polynomial(e), factor))
    return ir.Binary(">=", affine.expression(total), ir.Literal(0, DType.I32))


def holds(e: ir.Expr | None, **values: int) -> bool:
    return e is None or bool(eval(text_of(e), {"max": max, "min": min}, values))


@settings(max_examples=300, deadline=None)
@given(bounds=st.lists(BOUNDS, min_size=1, max_size=3))
def test_as_trying_all(bounds: list[tuple[int, int, int, int]]) -> None:
    where = conjunction(condition(*b) for b in bounds)
    found = exists(where, ["n"], PROGRAM)
    if found is not None and any(isinstance(e, ir.Reduce) for e in ir.walk(found)):
        assert any(b[0] not in (-1, 1) for b in bounds)
        return
    for size in (1, 3, 4, 5, 9):
        for i in range(4):
            some = any(holds(where, n=n, i=i, N=size) for n in range((size + 3) // 4))
            assert holds(found, i=i, N=size) == some, (bounds, size, i)


def test_a_factor_is_no_matter_where_all_bound_one_side() -> None:
    inside = ir.Binary(
        "<",
        affine.expression(
            affine.add(affine.scale(affine.polynomial(ir.Index("n")), 4), affine.polynomial(ir.Index("i")))
        ),
        ir.Size("N"),
    )
    found = exists(inside, ["n"], PROGRAM)
    assert found is not None and not any(isinstance(e, ir.Reduce) for e in ir.walk(found))
    assert [holds(found, i=i, N=3) for i in range(4)] == [True, True, True, False]


def test_a_range_may_be_empty() -> None:
    """That there is a k says nothing where another index, or none, is looked at."""
    text = """op part(x: f32[N], C: int) -> y: f32[N]
{
    index k in 0 .. max(N - C, 0)
    y[n] = default(sum[k](x[k]), 1.0)
}
"""
    program = load_text(text).program("part")
    size, k = affine.polynomial(ir.Size("N")), affine.polynomial(ir.Index("k"))
    room = affine.subtract(affine.subtract(size, affine.polynomial(ir.Attr("C", DType.I32))), affine.constant(1))
    known = facts(program)
    assert not known.prove(room)
    assert known.prove(affine.subtract(room, k))
    assert known.extended([k]).prove(room)
    assert text_of(exists(ir.Binary(">=", ir.Index("k"), ir.Literal(0, DType.I32)), ["k"], program)) == (
        "max(N - C, 0) - 1 >= 0"
    )
