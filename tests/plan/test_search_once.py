"""Searches for whoever visits an operand's row, and places that tables give: once, never again for each weight."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plan.test_band import inputs_of, same
from tests.std.library import VARIANTS
from tpcgen.interpreter import run
from tpcgen.program import ir, load_text
from tpcgen.program import print as text
from tpcgen.program.ir import walk
from tpcgen.rewrite.count_ranks import count_ranks
from tpcgen.rewrite.edit import sides_of
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.search_once import search_once

SPEC = """
op f(Q: f32[B, H, N, D], K: f32[B, H, N, D], V: f32[B, H, N, E], doc: i32[B, N]) -> O: f32[B, H, N, E]
{
    S[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q and doc[b,q] == doc[b,k] and doc[b,k] > 0](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}
"""


def searches(equation: ir.Equation) -> int:
    return sum(isinstance(x, ir.Reduce) and x.kind == "any" for side in sides_of(equation) for x in walk(side))


def test_one_search_for_all_heads_and_none_for_the_weights():
    program = normalise(load_text(SPEC).program("f"))
    found = {e.target: searches(e) for e in program.body if isinstance(e, ir.Equation)}
    assert found == {"S": 0, "P": 0, "V_m_any": 1, "V_m": 0, "O": 0}
    assert program.tensor("V_m_any").shape == (ir.Size("B"), ir.Size("N"))


@pytest.mark.parametrize("n", [1, 7, 65])
def test_the_same_values(n):
    program = load_text(SPEC).program("f")
    same(program, normalise(program), {"B": 2, "H": 2, "N": n, "D": 3, "E": 2})


@pytest.mark.parametrize("n", [1, 7, 65])
def test_searches_of_either_kind_in_any_domain(n):
    """Two equations share a search; one over no index at hand is a scalar."""
    program = load_text(
        "op f(x: f32[M, N], y: f32[N]) -> A: f32[M, N], C: f32[N], D: f32[M, N]\n{\n"
        "    A[q,k] = x[q,k] where any[r where r <= k](y[r] > 0.5) and x[q,k] > 0\n"
        "    C[k] = y[k] where any[r where r <= k](y[r] > 0.5)\n"
        "    D[q,k] = x[q,k] where all[r where r >= k](y[r] > -1.0) and any[r](y[r] < 0)\n}\n"
    ).program("f")
    made = search_once(program)
    assert sum(map(searches, made.body)) == 2  # and one `all`
    rng = np.random.default_rng(n)
    inputs = {"x": rng.normal(size=(3, n)), "y": rng.normal(size=n)}
    before, after = run(program, inputs, {}), run(made, inputs, {})
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert load_text(text.program(made)).program("f") == made


LISTS = """
op f(Q: f32[H, N, D], K: f32[H, N, D], V: f32[H, N, E], list: i32[H, N // BS, R], BS: int) -> O: f32[H, N // BS, BS, E]
    where BS >= 1, -1 <= list[h,i,r] < N // BS
{
    index i in 0 .. N // BS
    index u in 0 .. BS
    index j in 0 .. R * BS
    key[h,i,j] = list[h,i,j // BS] * BS + j % BS
    S[h,i,u,j] = sum[d](Q[h,i * BS + u,d] * K[h,key[h,i,j],d])
    P[h,i,u,j] = softmax[j where key[h,i,j] >= 0](S[h,i,u,j])
    O[h,i,u,e] = sum[j](P[h,i,u,j] * V[h,key[h,i,j],e])
}
"""


@pytest.mark.parametrize(("blocks", "size"), [(1, 1), (3, 7), (5, 13)])
def test_places_that_a_table_gives_are_found_once(blocks, size):
    """Not again for each row that is gathered and each weight."""
    program = load_text(LISTS).program("f")
    made = normalise(program)
    assert [e.target for e in made.body] == ["key", "K_g", "Q_op", "S", "P", "V_g", "O"]
    divided = [e.target for e in made.body if any(isinstance(x, ir.Binary) and x.operator == "//" for x in parts(e))]
    assert divided == ["key"]
    values = {"H": 2, "N": blocks * size, "D": 3, "E": 2, "R": 2, "BS": size}
    inputs = inputs_of(program, values)
    inputs["list"] = np.random.default_rng(0).integers(-1, blocks, inputs["list"].shape, np.int32)
    before, after = (run(p, inputs, {"BS": size})["O"] for p in (program, made))
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)


def parts(equation: ir.Equation) -> list[ir.Expr]:
    return [x for side in sides_of(equation) for x in walk(side)]


def test_a_rank_that_conditions_compare_is_counted_once():
    """Not in the softmax, and again at every key for whoever visits it."""
    made = normalise(count_ranks(VARIANTS["topk"].program("f32")))
    counts = [e.target for e in made.body if any(isinstance(x, ir.Reduce) and x.kind == "sum" for x in parts(e))]
    assert counts == ["S_dot", "rank", "O"]
    readers = [e.target for e in made.body if any(isinstance(x, ir.Read) and x.tensor == "rank" for x in parts(e))]
    assert readers == ["A", "V_m_any"]
