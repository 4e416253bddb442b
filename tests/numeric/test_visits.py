"""Which elements of the inputs a run visits: what is filled with NaN to see that nobody looks."""

from __future__ import annotations

import numpy as np

from tpcgen.interpreter.evaluate import Evaluator
from tpcgen.interpreter.visits import visited
from tpcgen.program import sizes


def masks(program, extents, **inputs):
    return visited(Evaluator(sizes.bind(program, extents), inputs, "exact", 1 << 62))


def test_where_both_factors_are_absent_what_says_so_is_visited(load):
    text = """op t(x: f32[N], at: i32[N]) -> y: f32[N] {
        a[n] = x[n] where at[n] > 0
        y[n] = a[n] * a[n]
    }"""
    x, at = np.ones(3, np.float32), np.array([0, 1, 0], np.int32)
    found = masks(load(text), {"N": 3}, x=x, at=at)
    np.testing.assert_array_equal(found["at"], [True] * 3)
    np.testing.assert_array_equal(found["x"], [False, True, False])


def test_values_that_meet_absent_weights_only_are_not_visited(load):
    text = """op t(s: f32[M, N], v: f32[N], n: i32[M]) -> y: f32[M] {
        P[m,k] = softmax[k where k < n[m]](s[m,k])
        y[m] = sum[k](v[k] * P[m,k])
    }"""
    n = np.array([1, 3, 0], np.int32)
    found = masks(load(text), {"M": 3, "N": 5}, s=np.ones((3, 5), np.float32), v=np.ones(5, np.float32), n=n)
    np.testing.assert_array_equal(found["v"], [True] * 3 + [False] * 2)
    np.testing.assert_array_equal(found["s"], np.arange(5) < n[:, None])
    assert found["n"].all()
