"""Scans against loops written out."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.interpreter import InterpreterError

RNG = np.random.default_rng(2)
LENGTHS = [0, 1, 7, 65]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("reverse", ["", " reverse"])
def test_steps_go_up_or_down_and_the_state_outlives_them(evaluate, n, reverse):
    x = RNG.standard_normal((2, n)).astype("f4")
    text = f"""op t(x: f32[B, N]) -> y: f32[B, N], last: f32[B] {{
        scan t in 0 .. N{reverse} {{
            state S[b]: f32 = 3
            y[b,t] = S[b]
            S[b] := 0.5 * S[b] + x[b,t]
        }}
        last[b] = S[b]
    }}"""
    found = evaluate(text, x=x)
    for b in range(2):
        state = 3.0
        for t in range(n - 1, -1, -1) if reverse else range(n):
            assert found["y"][b, t] == state
            state = 0.5 * state + float(x[b, t])
        assert found["last"][b] == state


def test_a_scan_over_part_of_an_axis_leaves_the_rest_absent(evaluate):
    text = """op t(x: f32[N]) -> y: f32[N] {
        scan t in 2 .. N {
            state S[]: f32 = 0
            S[] := S[] + x[t]
            Y[t] = S[]
        }
        y[i] = default(Y[i], -99)
    }"""
    np.testing.assert_array_equal(evaluate(text, x=np.arange(6, dtype="f4"))["y"], [-99, -99, 2, 5, 9, 14])


def test_statements_run_in_text_order_on_states_of_both_kinds(evaluate):
    x = RNG.standard_normal((9, 4)).astype("f4")
    text = """op t(x: f32[N, D]) -> y: f32[N, D], z: f32[N] {
        scan t in 0 .. N {
            state A[d]: f32 = 0
            state B[d,f]: f32 = 1
            T[d] = A[d] + x[t,d]
            A[d] := T[d] - 0.25 * sum[f](B[d,f])
            B[d,f] := 0.5 * B[d,f] + T[d] * x[t,f]
            y[t,d] = A[d] + sum[f](B[d,f] * x[t,f])
            z[t] = sum[d](y[t,d])
        }
    }"""
    found = evaluate(text, x=x)
    a, b = np.zeros(4), np.ones((4, 4))
    for t, row in enumerate(x.astype("f8")):
        temporary = a + row
        a = temporary - 0.25 * b.sum(1)
        b = 0.5 * b + np.outer(temporary, row)
        np.testing.assert_allclose(found["y"][t], a + b @ row, rtol=1e-13)
        np.testing.assert_allclose(found["z"][t], (a + b @ row).sum(), rtol=1e-13)


def test_a_state_rounds_to_its_dtype_at_every_step_in_device_mode(evaluate):
    x = RNG.uniform(0.1, 1, 65).astype("f4")
    text = """op t(x: f32[N]) -> y: f32[N] {
        scan t in 0 .. N {
            state S[]: bf16 = 0
            S[] := S[] + x[t]
            y[t] = S[]
        }
    }"""
    np.testing.assert_allclose(evaluate(text, x=x)["y"], np.cumsum(x.astype("f8")), rtol=1e-14)
    state, expected = np.float32(0), []
    for step in x:
        state = np.float32((state + step).astype(ml_dtypes.bfloat16))
        expected.append(state)
    np.testing.assert_array_equal(evaluate(text, x=x, mode="device")["y"], expected)


def test_an_update_under_a_domain_touches_its_points_only(evaluate):
    x = RNG.standard_normal((7, 3)).astype("f4")
    text = """op t(x: f32[N, D]) -> y: f32[N, D] {
        scan t in 0 .. N {
            state S[d]: f32 = 0
            S[d] := S[d] + x[t,d] where (t + d) % 3 != 0
            y[t,d] = S[d] where d > 0
        }
    }"""
    t, d = np.indices(x.shape)
    expected = np.cumsum(np.where((t + d) % 3 != 0, x.astype("f8"), 0), 0)
    expected[:, 0] = 0
    np.testing.assert_allclose(evaluate(text, x=x)["y"], expected, rtol=1e-13)


def test_intermediates_outside_are_read_by_the_scan_and_the_scan_by_later_equations(evaluate):
    x = RNG.standard_normal((9, 4)).astype("f4")
    text = """op t(x: f32[N, D]) -> y: f32[N, D], z: f32[D] {
        K[i,d] = exp(x[i,d])
        scan t in 0 .. N {
            state S[d]: f32 = 0
            S[d] := S[d] + K[t,d]
            Y[t,d] = K[t,d] / S[d]
        }
        y[i,d] = Y[N - 1 - i, d]
        z[d] = log(S[d]) + max[i](Y[i,d])
    }"""
    k = np.exp(x.astype("f8"))
    running = np.cumsum(k, 0)
    found = evaluate(text, x=x)
    np.testing.assert_allclose(found["y"], (k / running)[::-1], rtol=1e-13)
    np.testing.assert_allclose(found["z"], np.log(running[-1]) + (k / running).max(0), rtol=1e-13)


def test_piecewise_temporaries_and_their_overlap(evaluate):
    text = """op t(x: f32[N], n: i32[]) -> y: f32[N] {{
        scan t in 0 .. N {{
            state S[]: f32 = 0
            T[d] = x[t] where d < n[]
            T[d] = -x[t] where d >= {0}
            S[] := S[] + sum[d](T[d] * x[d])
            y[t] = S[]
        }}
    }}"""
    x = np.arange(1, 5, dtype="f4")
    weights = np.array([1, 1, -1, -1])
    expected = np.cumsum(x * (weights @ x))
    np.testing.assert_array_equal(evaluate(text.format("2"), x=x, n=np.array(2, "i4"))["y"], expected)
    with pytest.raises(InterpreterError) as caught:
        evaluate(text.format("1"), x=x, n=np.array(2, "i4"))
    assert caught.value.diagnostics[0].id == "E353"


def test_equations_inside_and_outside_scans_share_a_tensor(evaluate):
    text = """op t(x: f32[N]) -> y: f32[N] {{
        scan t in 0 .. N {{
            state S[]: f32 = 0
            S[] := S[] + x[t]
            y[t] = S[] where t < 2
        }}
        y[i] = -x[i] where i >= {0}
    }}"""
    x = np.arange(1, 5, dtype="f4")
    np.testing.assert_array_equal(evaluate(text.format("2"), x=x)["y"], [1, 3, -3, -4])
    with pytest.raises(DiagnosticError):
        evaluate(text.format("1"), x=x)


def test_a_fault_in_a_state_is_an_error_where_it_is_visited(evaluate):
    text = """op t(x: f32[N], at: i32[N], last: i32[]) -> y: f32[N] {
        scan t in 0 .. N {
            state S[]: f32 = 0
            S[] := S[] + x[at[t]]
            Y[t] = S[]
        }
        y[i] = Y[i] where i < last[]
    }"""
    x = np.arange(1, 5, dtype="f4")
    at = np.array([1, 0, 99, 0], "i4")
    np.testing.assert_array_equal(evaluate(text, x=x, at=at, last=np.array(2, "i4"))["y"], [2, 3, 0, 0])
    with pytest.raises(InterpreterError) as caught:
        evaluate(text, x=x, at=at, last=np.array(4, "i4"))
    assert caught.value.diagnostics[0].id == "E351"
    assert "x[99]" in caught.value.diagnostics[0].message


def test_a_long_scan_is_quick_enough(evaluate):
    x = RNG.standard_normal((1, 4096, 16)).astype("f4")
    text = """op t(x: f32[B, N, D]) -> y: f32[B, N, D] {
        scan t in 0 .. N {
            state S[b,d]: f32 = 0
            S[b,d] := 0.5 * S[b,d] + x[b,t,d]
            y[b,t,d] = S[b,d]
        }
    }"""
    y = evaluate(text, x=x)["y"]
    assert y[0, 1, 3] == 0.5 * float(x[0, 0, 3]) + float(x[0, 1, 3])
