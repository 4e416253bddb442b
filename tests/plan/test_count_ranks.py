"""Ranks by counting: what the interpreter's sort says, ties, zeros of both signs, NaN and absent points included."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernel.examples import kernels_of
from tpcgen.interpreter import run
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import ir, load_text
from tpcgen.rewrite.count_ranks import count_ranks

CASES = {
    "plain": "y[u,v] = rank[v](x[u,v])",
    "both": "y[u,v] = rank[u, v](x[u,v])",
    "on a domain": "y[u,v] = default(rank[v where v <= u](x[u,v]), -1)",
    "of what may be absent": "a[u,v] = x[u,v] where v != u\n y[u,v] = default(rank[v](a[u,v]), -1)",
    "of an expression": "y[u,v] = rank[u](abs(x[u,v]) - v) + 1",
    "of integers": "y[u,v] = rank[v](t[u,v] // 3)",
    "in a condition": "y[u,v] = i32(sum[w where rank[w](x[u,w]) < 2](1.0 * w))",
    "of a rank": "y[u,v] = rank[v](rank[v](x[u,v]))",
}
VALUES = np.array([[1, 1, -0.0, 0.0, np.nan], [np.inf, -np.inf, np.nan, np.nan, 5], [3, 2, 1, 2, 3]], np.float32)


def program(case: str) -> ir.Program:
    text = f"op f(x: f32[U, V], t: i32[U, V]) -> y: i32[U, V] {{ {CASES[case]} }}"
    return load_text(text).program("f")


def inputs(u: int, v: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(u * 1000 + v)
    x = rng.choice(VALUES.ravel(), (u, v)) if (u, v) != VALUES.shape else VALUES
    return {"x": x.astype(np.float32), "t": rng.integers(-9, 9, (u, v)).astype(np.int32)}


@pytest.mark.parametrize("case", CASES)
def test_counting_is_ranking(case: str) -> None:
    p = program(case)
    made = count_ranks(p)
    assert not any(isinstance(x, ir.Reduce) and x.kind == "rank" for e in made.body for x in ir.walk(e.value))
    for u, v in ((3, 5), (0, 4), (1, 1), (7, 65)):
        np.testing.assert_array_equal(run(made, inputs(u, v), {})["y"], run(p, inputs(u, v), {})["y"])


SUM_IN_A_SUM = """op f(S: f32[M, N]) -> A: f32[M, N] {
    r[q,k] = sum[j](select(S[q,j] > S[q,k] or (S[q,j] == S[q,k] and j < k), 1.0, 0.0))
    A[q,k] = softmax[k where r[q,k] < 8](S[q,k])
}"""


def test_registers_of_a_sum_inside_of_a_sum_have_names_of_their_own() -> None:
    for plan in enumerate_plans(load_text(SUM_IN_A_SUM).program("f"), "gaudi2"):
        kernels_of(plan, "f32")
