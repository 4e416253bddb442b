"""Presence, rule by rule: language.md, the section of that name and its thirteen sharper points.

Absence is made with `where`, and shown with `default(.., -99)` or as a stored 0. Expected values are written out.
"""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.interpreter import InterpreterError

NAN = np.nan
A = np.array([2, 3, 5, 7], np.float32)
B = np.array([11, 13, 17, 19], np.float32)
HAS_A = np.array([1, 1, 0, 0], np.int32)
HAS_B = np.array([1, 0, 1, 0], np.int32)
"""Both present, a alone, b alone, neither."""

HEAD = """op t(a: f32[N], b: f32[N], p: i32[N], r: i32[N]) -> y: f32[N] {
    A[i] = a[i] where p[i] > 0
    B[i] = b[i] where r[i] > 0
"""


def of_two(evaluate, expression, **changed):
    inputs = {"a": A, "b": B, "p": HAS_A, "r": HAS_B} | changed
    return evaluate(f"{HEAD} y[i] = {expression} }}", **inputs)["y"]


# The bullets


@pytest.mark.parametrize(
    "expression, value",
    [
        ("A[i] * B[i]", 22),
        ("B[i] / A[i]", 5.5),
        ("min(A[i], B[i])", 2),
        ("max(A[i], B[i])", 11),
        ("clamp(1, A[i], B[i])", 2),
        ("select(A[i] < B[i], 4, 5)", 4),
        ("select(A[i] == B[i], 4, 5)", 5),
        ("exp(A[i] * B[i] / 22 * 0)", 1),
    ],
)
def test_strict_functions_are_absent_where_an_argument_is(evaluate, expression, value):
    np.testing.assert_array_equal(of_two(evaluate, f"default({expression}, -99)"), [value, -99, -99, -99])


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("A[i] + B[i]", [13, 3, 17, 0]),
        ("A[i] - B[i]", [-9, 3, -17, 0]),
        ("B[i] - A[i]", [9, -3, 17, 0]),
        ("A[i] + A[i]", [4, 6, 0, 0]),
        ("A[i] - 1", [1, 2, -1, -1]),
        ("(A[i] + B[i]) * A[i]", [26, 9, 0, 0]),
        ("-(A[i] + B[i]) / B[i]", [-13 / 11, 0, -1, 0]),
    ],
)
def test_sums_and_differences_take_the_present_operand(evaluate, expression, expected):
    np.testing.assert_allclose(of_two(evaluate, expression), expected, rtol=1e-15)


@pytest.mark.parametrize(
    "kind, some, none",
    [
        ("sum", 5, -99),
        ("max", 3, -99),
        ("min", 2, -99),
        ("logsumexp", 3 + np.log1p(np.exp(-1)), -99),
    ],
)
def test_reductions_skip_absent_points_and_over_none_are_absent(evaluate, kind, some, none):
    assert of_two(evaluate, f"default({kind}[i](A[i]), -99)")[0] == pytest.approx(some)
    assert of_two(evaluate, f"default({kind}[i](A[i]), -99)", p=np.zeros(4, np.int32))[0] == none


def test_a_reduction_over_an_empty_range_is_absent(evaluate):
    for kind in ("sum", "max", "min", "logsumexp"):
        text = f"op t(x: f32[M, N]) -> y: f32[M] {{ y[m] = default({kind}[n](x[m,n]), -99) }}"
        np.testing.assert_array_equal(evaluate(text, x=np.zeros((3, 0), np.float32))["y"], [-99] * 3)


def test_a_domain_that_reads_an_absent_value_is_false_there(evaluate):
    np.testing.assert_array_equal(
        of_two(evaluate, "default(sum[j where A[j] < 100 and b[j] > 0](b[j]) * A[i], -99)"), [48, 72, -99, -99]
    )
    np.testing.assert_array_equal(of_two(evaluate, "b[i] where A[i] < 3"), [11, 0, 0, 0])


def test_default_takes_the_second_where_the_first_is_absent(evaluate):
    np.testing.assert_array_equal(of_two(evaluate, "default(A[i], B[i])"), [2, 3, 17, 0])
    np.testing.assert_array_equal(of_two(evaluate, "default(default(A[i], B[i]), -99)"), [2, 3, 17, -99])


def test_a_fully_masked_row_stores_zero_and_never_nan(evaluate):
    text = "op t(x: f32[M, N], n: i32[M]) -> y: f32[M, N] { y[m,k] = softmax[k where k < n[m]](x[m,k]) }"
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    y = evaluate(text, x=x, n=np.array([0, 2], np.int32))["y"]
    e = np.exp([-1.0, 0.0])
    np.testing.assert_allclose(y, [[0, 0, 0], [*(e / e.sum()), 0]], rtol=1e-15)


# Only visited points exist

GATHER = "op t(x: f32[N], at: i32[M], on: i32[M]) -> y: f32[M] { y[m] = "
X = np.array([1, NAN, 3], np.float32)
AT = np.array([0, 7, -1, 1, 2], np.int32)
ON = np.array([1, 0, 0, 0, 1], np.int32)


@pytest.mark.parametrize(
    "expression",
    [
        "x[at[m]] where on[m] > 0",
        "select(on[m] > 0, x[at[m]], 0)",
        "default(W[m], x[0]) * 0 + select(on[m] > 0, x[at[m]], 0)",
        "x[at[m]] * V[m]",
        "V[m] * x[at[m]]",
        "2 * (V[m] * (x[at[m]] * x[at[m]])) - V[m] * x[at[m]] * x[at[m]]",
        "sum[n where on[m] > 0 and n == at[m]](x[n])",
        "sum[n where n == 0](V[m] * x[at[m]] * x[n])",
        "default(U[m], x[at[m]])",
    ],
)
def test_what_nobody_visits_has_no_effect(evaluate, expression):
    extra = "W[m] = 1 where on[m] < 0  V[m] = 1 where on[m] > 0  U[m] = 0 where on[m] == 0"
    text = f"op t(x: f32[N], at: i32[M], on: i32[M]) -> y: f32[M] {{ {extra} y[m] = {expression} }}"
    y = evaluate(text, x=X, at=AT, on=ON)["y"]
    square = "x[at[m]] * x[at[m]]" in expression
    np.testing.assert_array_equal(y, [1, 0, 0, 0, 9 if square else 3])


@pytest.mark.parametrize(
    "expression",
    [
        "x[at[m]]",
        "x[at[m]] + V[m]",
        "max(x[at[m]], 0)",
        "select(on[m] > 0, 0, x[at[m]])",
        "select(x[at[m]] > 0, 0, 1)",
        "default(V[m], x[at[m]])",
        "default(x[at[m]], 0)",
        "sum[n](x[at[m]] * x[n])",
        "V[m] where x[at[m]] > 0",
    ],
)
def test_a_visited_read_outside_its_tensor_is_an_error(evaluate, expression):
    text = f"op t(x: f32[N], at: i32[M], on: i32[M]) -> y: f32[M] {{ V[m] = 1 where on[m] > 0  y[m] = {expression} }}"
    with pytest.raises(InterpreterError) as caught:
        evaluate(text, x=X, at=AT, on=ON)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.id == "E351"
    assert "x[7]" in diagnostic.message and "m = 1" in diagnostic.message and "[3]" in diagnostic.message
    assert diagnostic.span.line == 1 and text[diagnostic.span.column - 1 :].startswith("x[at[m]]")


def test_an_intermediate_is_an_error_only_where_it_is_read(evaluate):
    text = """op t(x: f32[N], at: i32[M], on: i32[M]) -> y: f32[M] {
        X[m] = x[at[m]] * 2
        Y[m] = X[m] + 1
        y[m] = Y[m] where on[m] > 0
    }"""
    np.testing.assert_array_equal(evaluate(text, x=X, at=AT, on=ON)["y"], [3, 0, 0, 0, 7])


def test_nan_in_what_nobody_visits_stays_out_of_a_contraction(evaluate):
    text = """op t(p: f32[Q, K], v: f32[K, E], n: i32[Q]) -> y: f32[Q, E] {
        P[q,k] = p[q,k] where k < n[q]
        y[q,e] = sum[k](P[q,k] * v[k,e])
    }"""
    rng = np.random.default_rng(0)
    p, v = rng.standard_normal((3, 6)).astype("f4"), rng.standard_normal((6, 4)).astype("f4")
    n = np.array([2, 0, 4], np.int32)
    clean = np.array([p[q, : n[q]].astype("f8") @ v[: n[q]].astype("f8") for q in range(3)])
    v[4:] = NAN
    np.testing.assert_allclose(evaluate(text, p=p, v=v, n=n)["y"], clean, rtol=1e-14)
    v[3, 2] = NAN
    y = evaluate(text, p=p, v=v, n=n)["y"]
    clean[2, 2] = NAN
    np.testing.assert_allclose(y, clean, rtol=1e-14)
    v[3, 2] = np.inf
    clean[2, 2] = np.inf * np.sign(p[2, 3])
    np.testing.assert_allclose(evaluate(text, p=p, v=v, n=n)["y"], clean, rtol=1e-14)


# The sharper points


def test_1_a_union_reaches_sums_products_and_outputs(evaluate):
    """That it reaches nothing else is for the resolver to refuse (tests/invalid)."""
    assert of_two(evaluate, "sum[j](A[j] + B[j])")[0] == 13 + 3 + 17
    np.testing.assert_array_equal(of_two(evaluate, "(A[i] - B[i]) * 2"), [-18, 6, -34, 0])


def test_2_any_and_all_are_never_absent(evaluate):
    text = """op t(x: f32[M, N], n: i32[M]) -> y: f32[M], z: f32[M] {
        y[m] = select(any[k where k < n[m]](x[m,k] > 0), 1, 2)
        z[m] = select(all[k where k < n[m]](x[m,k] > 0), 1, 2)
    }"""
    x = np.array([[1, -1], [1, -1], [1, -1], [-1, -1]], np.float32)
    found = evaluate(text, x=x, n=np.array([0, 1, 2, 2], np.int32))
    np.testing.assert_array_equal(found["y"], [2, 1, 1, 2])
    np.testing.assert_array_equal(found["z"], [1, 1, 2, 2])


def test_2_any_and_all_skip_absent_points(evaluate):
    np.testing.assert_array_equal(of_two(evaluate, "select(all[i](A[i] < 4), 1, 2)"), [1] * 4)
    np.testing.assert_array_equal(of_two(evaluate, "select(any[i](A[i] > 4), 1, 2)"), [2] * 4)


TRUTHS = {"T": "1 > 0", "F": "1 < 0", "U": "A[2] > 0", "X": "a[99 * p[0]] > 0"}
"""True, false, absent, and an error when visited."""


@pytest.mark.parametrize(
    "operator, table",
    [
        ("and", {"TT": "T", "TF": "F", "TU": "U", "FF": "F", "FU": "F", "UU": "U", "FX": "F", "TX": "X", "UX": "X"}),
        ("or", {"TT": "T", "TF": "T", "TU": "T", "FF": "F", "FU": "U", "UU": "U", "TX": "T", "FX": "X", "UX": "X"}),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_2_and_or_are_three_valued_in_any_order(evaluate, operator, table, swapped):
    for (left, right), result in table.items():
        if swapped:
            left, right = right, left
        expression = f"default(select(({TRUTHS[left]}) {operator} ({TRUTHS[right]}), 1, 0), -99)"
        if result == "X":
            with pytest.raises(InterpreterError):
                of_two(evaluate, expression)
        else:
            assert of_two(evaluate, expression)[0] == {"T": 1, "F": 0, "U": -99}[result], (left, right)


def test_2_not_of_absent_is_absent_and_a_domain_is_false_there(evaluate):
    np.testing.assert_array_equal(of_two(evaluate, "default(select(not (A[i] > 2), 1, 0), -99)"), [1, 0, -99, -99])
    np.testing.assert_array_equal(of_two(evaluate, "b[i] where not (A[i] > 2)"), [11, 0, 0, 0])


def test_2_a_decided_point_of_any_leaves_the_others_unvisited(evaluate):
    text = "op t(x: f32[N], at: i32[N]) -> y: f32[] { y[] = select(any[n](x[at[n]] > 2), 1, 0) }"
    x = np.array([1, 3, 2], np.float32)
    assert evaluate(text, x=x, at=np.array([9, 1, 0], np.int32))["y"] == 1
    with pytest.raises(InterpreterError):
        evaluate(text, x=x, at=np.array([9, 0, 0], np.int32))
    text = text.replace("any", "all")
    assert evaluate(text, x=x, at=np.array([9, 0, 1], np.int32))["y"] == 0
    with pytest.raises(InterpreterError):
        evaluate(text, x=x, at=np.array([9, 1, 1], np.int32))


def test_3_select_is_absent_where_its_condition_or_chosen_branch_is(evaluate):
    np.testing.assert_array_equal(of_two(evaluate, "default(select(A[i] > 2, 1, 5), -99)"), [5, 1, -99, -99])
    np.testing.assert_array_equal(of_two(evaluate, "default(select(i < 2, A[i], B[i]), -99)"), [2, 3, 17, -99])
    np.testing.assert_array_equal(of_two(evaluate, "default(select(i >= 2, A[i], B[i]), -99)"), [11, -99, -99, -99])


def test_4_only_outputs_of_the_outermost_op_store_zero(evaluate):
    text = """
    op inner(x: f32[N], p: i32[N]) -> y: f32[N] { y[i] = x[i] where p[i] > 0 }
    op outer(x: f32[N], p: i32[N]) -> y: f32[N], z: bf16[N], w: f32[N] {
        Y = inner(x, p)
        y[i] = default(Y[i], -99)
        z[i] = x[i] where p[i] > 0
        w[i] = default(z[i], -99)
    }"""
    found = evaluate(text, x=A, p=HAS_A)
    np.testing.assert_array_equal(found["y"], [2, 3, -99, -99])
    np.testing.assert_array_equal(found["z"], [2, 3, 0, 0])
    np.testing.assert_array_equal(found["w"], [2, 3, -99, -99])


def test_4_an_annotated_intermediate_stays_partial(evaluate):
    text = f"{HEAD} C[i]: bf16 = A[i] * 1 y[i] = default(C[i], -99) }}"
    found = evaluate(text, a=A, b=B, p=HAS_A, r=HAS_B, mode="device")
    np.testing.assert_array_equal(found["y"], [2, 3, -99, -99])


def test_4_a_read_at_an_absent_index_is_absent(evaluate):
    text = """op t(x: f32[N], at: i32[M], on: i32[M]) -> y: f32[M] {
        I[m]: i32 = at[m] where on[m] > 0
        y[m] = default(x[I[m]], -99)
    }"""
    np.testing.assert_array_equal(evaluate(text, x=X, at=AT, on=ON)["y"], [1, -99, -99, -99, 3])


def test_5_points_no_equation_covers_are_absent(evaluate):
    text = """op t(x: f32[N]) -> y: f32[N] {
        Y[i] = x[i] where i < 1
        Y[i] = 2 * x[i] where i >= 2
        y[i] = default(Y[i], -99)
    }"""
    np.testing.assert_array_equal(evaluate(text, x=A)["y"], [2, -99, 10, 14])


def test_5_equations_that_overlap_at_run_time_are_an_error_even_unvisited(evaluate):
    text = """op t(x: f32[N], n: i32[]) -> y: f32[N] {
        Y[i] = x[i] where i < n[]
        Y[i] = 2 * x[i] where i >= 2
        y[i] = Y[i] where i > 100
    }"""
    np.testing.assert_array_equal(evaluate(text, x=A, n=np.array(2, np.int32))["y"], [0] * 4)
    with pytest.raises(InterpreterError) as caught:
        evaluate(text, x=A, n=np.array(3, np.int32))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.id == "E353" and "Y[2]" in diagnostic.message


LSE = """op t(x: f32[M, N], s: f32[M], n: i32[M], on: i32[M]) -> L: f32[M], P: f32[M, N] {
    S[m] = s[m] where on[m] > 0
    p[m,k] = softmax[k where k < n[m] sink S[m]](x[m,k])
    L[m] = default(logsumexp[k where k < n[m] sink S[m]](x[m,k]), -99)
    P[m,k] = default(p[m,k], -99)
}"""


def test_6_sinks(evaluate):
    x = np.array([[1, 2, 3]] * 4, np.float32)
    s = np.array([0.5, 0.5, 0.5, 0.5], np.float32)
    found = evaluate(LSE, x=x, s=s, n=np.array([2, 2, 0, 0], np.int32), on=np.array([1, 0, 1, 0], np.int32))
    with_sink = np.exp([1, 2, 0.5]).sum()
    without = np.exp([1.0, 2.0]).sum()
    np.testing.assert_allclose(found["L"], [np.log(with_sink), np.log(without), 0.5, -99], rtol=1e-15)
    weights = np.exp([1.0, 2.0])
    np.testing.assert_allclose(found["P"][0], [*(weights / with_sink), -99], rtol=1e-15)
    np.testing.assert_allclose(found["P"][1], [*(weights / without), -99], rtol=1e-15)
    np.testing.assert_array_equal(found["P"][2:], np.full((2, 3), -99))


def test_7_rank_skips_absent_points_and_puts_nan_last(evaluate):
    text = """op t(x: f32[M, N], p: i32[M, N]) -> y: i32[M, N] {
        X[m,k] = x[m,k] where p[m,k] > 0
        y[m,k] = default(rank[k](X[m,k]), -99)
    }"""
    x = np.array([[3, NAN, 5, 3, 9, -np.inf]], np.float32)
    p = np.array([[1, 1, 1, 1, 0, 1]], np.int32)
    np.testing.assert_array_equal(evaluate(text, x=x, p=p)["y"], [[1, 4, 0, 2, -99, 3]])


@pytest.mark.parametrize("kind", ["max", "min"])
def test_7_max_and_min_of_a_visited_nan_are_nan(evaluate, kind):
    text = f"op t(x: f32[M, N], n: i32[M]) -> y: f32[M] {{ y[m] = {kind}[k where k < n[m]](x[m,k]) }}"
    x = np.array([[1, NAN, 3]] * 2, np.float32)
    np.testing.assert_array_equal(evaluate(text, x=x, n=np.array([1, 3], np.int32))["y"], [1, NAN])


def test_8_a_scan_update_may_carry_where_and_keeps_the_state_where_it_is_absent(evaluate):
    text = """op t(x: f32[N], p: i32[N], r: i32[N]) -> y: f32[N], z: f32[N], last: f32[] {
        X[i] = x[i] where p[i] > 0
        scan t in 0 .. N {
            state S[]: f32 = 0
            state R[]: f32 = 0
            S[] := 2 * S[] + 1 where r[t] > 0
            R[] := X[t]
            y[t] = S[]
            z[t] = R[]
        }
        last[] = S[]
    }"""
    found = evaluate(text, x=A, p=np.array([0, 1, 0, 1], np.int32), r=np.array([1, 0, 1, 1], np.int32))
    np.testing.assert_array_equal(found["y"], [1, 1, 3, 7])
    np.testing.assert_array_equal(found["z"], [0, 3, 3, 7])
    assert found["last"] == 7


def test_8_a_state_may_start_absent(evaluate):
    text = """op t(x: f32[N], p: i32[N]) -> y: f32[N] {
        X[i] = x[i] where p[i] > 0
        scan t in 0 .. N {
            state S[]: f32 = X[0]
            S[] := S[] + X[t]
            y[t] = S[]
        }
    }"""
    found = evaluate(text, x=A, p=np.array([0, 1, 0, 1], np.int32))
    np.testing.assert_array_equal(found["y"], [0, 3, 3, 10])


def test_10_a_softmax_visits_its_own_domain_only(evaluate):
    text = """op t(x: f32[N], at: i32[N], n: i32[]) -> y: f32[N] {
        S[k] = x[at[k]]
        P[k] = softmax[k where k < n[]](S[k])
        y[k] = P[k] * S[k]
    }"""
    x = np.array([1, 1, 1], np.float32)
    y = evaluate(text, x=x, at=np.array([0, 1, 99], np.int32), n=np.array(2, np.int32))["y"]
    np.testing.assert_array_equal(y, [0.5, 0.5, 0])
    with pytest.raises(InterpreterError):
        evaluate(text, x=x, at=np.array([0, 1, 99], np.int32), n=np.array(3, np.int32))


def test_11_contracts_on_values_are_checked_on_request(evaluate):
    text = "op t(x: f32[N], n: i32[M]) -> y: f32[M] where n[m] < N { y[m] = x[n[m]] where n[m] < N }"
    x, n = np.ones(3, np.float32), np.array([0, 2, 3], np.int32)
    np.testing.assert_array_equal(evaluate(text, x=x, n=n)["y"], [1, 1, 0])
    with pytest.raises(InterpreterError) as caught:
        evaluate(text, x=x, n=n, check_values=True)
    assert caught.value.diagnostics[0].id == "E354" and "m = 2" in caught.value.diagnostics[0].message
    evaluate(text, x=x, n=n[:2], check_values=True)


def test_11_a_contract_on_sizes_is_always_checked(evaluate):
    text = "op t(x: f32[M], z: f32[N]) -> y: f32[M] where M <= N { y[m] = x[m] + sum[n](z[n]) }"
    evaluate(text, x=np.ones(2, np.float32), z=np.ones(3, np.float32))
    with pytest.raises(DiagnosticError):
        evaluate(text, x=np.ones(4, np.float32), z=np.ones(3, np.float32))


def test_11_a_contract_with_free_indices_is_silent_where_its_reads_leave_the_tensor(evaluate):
    text = "op t(cu: i32[C]) -> y: f32[C] where cu[c] <= cu[c + 1] { y[c] = cu[c] }"
    evaluate(text, cu=np.array([0, 2, 2, 5], np.int32), check_values=True)
    with pytest.raises(InterpreterError):
        evaluate(text, cu=np.array([0, 2, 1, 5], np.int32), check_values=True)


def test_12_inf_is_a_literal_and_params_are_constants(evaluate):
    text = """param half: f32 = 0.5
    op t(x: f32[N]) -> y: f32[N] { y[i] = max[j where j < 0](x[j]) + half * min(x[i], inf) }"""
    np.testing.assert_array_equal(evaluate(text, x=A)["y"], A / 2)
    text = "op t(x: f32[N]) -> y: f32[N] { y[i] = select(i < 2, -inf, x[i]) }"
    np.testing.assert_array_equal(evaluate(text, x=A)["y"], [-np.inf, -np.inf, 5, 7])


def test_13_a_count_over_none_is_absent(evaluate):
    text = """op t(x: f32[N], n: i32[M]) -> y: f32[M], z: f32[M] {
        index k in 0 .. N
        C[m] = sum[k where k < n[m]](1)
        y[m] = default(C[m], -99)
        z[m] = default(C[m], 0)
    }"""
    found = evaluate(text, x=A, n=np.array([0, 3, 9], np.int32))
    np.testing.assert_array_equal(found["y"], [-99, 3, 4])
    np.testing.assert_array_equal(found["z"], [0, 3, 4])


# Visited NaN and infinities (decisions.md 11)


@pytest.mark.parametrize(
    "logits, sink, is_nan",
    [
        ([1, NAN, 2], None, True),
        ([1, np.inf, 2], None, True),
        ([-np.inf] * 3, None, True),
        ([-np.inf, 1, 2], None, False),
        ([-np.inf] * 3, 0.0, False),
        ([1, 2, 3], NAN, True),
        ([1, 2, 3], np.inf, True),
        ([1, 2, 3], -np.inf, False),
    ],
)
@pytest.mark.parametrize("mode", ["exact", "device"])
def test_a_visited_nan_or_inf_or_a_row_of_minus_inf_gives_a_nan_row(evaluate, mode, logits, sink, is_nan):
    x = np.array([logits, [1, 2, 3]], np.float32)
    has = np.array([int(sink is not None), 0], np.int32)
    s = np.array([0.0 if sink is None else sink, NAN], np.float32)
    found = evaluate(LSE, x=x, s=s, n=np.array([3, 3], np.int32), on=has, mode=mode)
    assert np.isnan(found["P"][0]).all() == is_nan
    assert np.isnan(found["L"][0]) == is_nan
    assert np.isfinite(found["P"][1]).all() and np.isfinite(found["L"][1])
    if not is_nan:
        weights = np.exp(np.array(logits, "f8"))
        total = weights.sum() + (0 if sink is None else np.exp(sink))
        np.testing.assert_allclose(found["P"][0], weights / total, rtol=1e-6)
