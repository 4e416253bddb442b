"""docs/language.md, "What the language text leaves open, and what tpcgen does": one test or more for every point."""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from tpcgen.diagnostics import DiagnosticError
from tpcgen.interpreter import InterpreterError
from tpcgen.program import load_text
from tpcgen.program.dtypes import DType

DOCUMENT = Path(__file__).parents[2] / "docs" / "language.md"
X = np.array([1, 2, 3, 4], np.float32)
NAN, INF = np.nan, np.inf


def op(body, parameters="x: f32[N]", outputs="y: f32[N]"):
    return f"op f({parameters}) -> {outputs} {{ {body} }}"


def refused(text):
    with pytest.raises(DiagnosticError) as caught:
        load_text(text)
    return [d.id for d in caught.value.diagnostics]


def test_every_point_has_a_test_and_every_test_a_point():
    section = DOCUMENT.read_text().split("## What the language text leaves open")[1].split("\n## ")[0]
    points = {int(n) for n in re.findall(r"^(\d+)\. ", section, re.MULTILINE)}
    tested = {int(m[1]) for name in globals() if (m := re.match(r"test_(\d+)_", name))}
    assert points == tested == set(range(1, len(points) + 1))


# Indices and axes


def test_1_an_intermediate_reaches_from_0_to_the_end_of_its_index(evaluate):
    body = "index i in 2 .. N  index j in 0 .. N  a[i] = x[i]  y[j] = default(a[j], -1)"
    np.testing.assert_array_equal(evaluate(op(body), x=X)["y"], [-1, -1, 3, 4])
    body = "index i in 0 .. N + 2  index j in 0 .. N  a[i] = i where i > 2  y[j] = default(a[j + 2], -1)"
    np.testing.assert_array_equal(evaluate(op(body), x=X)["y"], [-1, 3, 4, 5])


def test_2_points_of_the_left_side_outside_the_tensor_do_not_exist(evaluate):
    body = "index i in 0 .. N + 2  y[i] = x[i]"
    np.testing.assert_array_equal(evaluate(op(body), x=X)["y"], X)
    body = "index i in 0 - 2 .. N  a[i] = x[i]  index j in 0 .. N  y[j] = a[j]"
    np.testing.assert_array_equal(evaluate(op(body), x=X)["y"], X)


def test_3_a_size_may_be_0_and_a_range_empty(evaluate):
    none = np.zeros(0, np.float32)
    found = evaluate(
        op("y[i] = x[i]  s[] = sum[i](x[i])  t[] = default(s[], 7)", outputs="y: f32[N], s: f32[], t: f32[]"), x=none
    )
    assert found["y"].shape == (0,) and found["s"] == 0 and found["t"] == 7
    scan = "scan t in N .. 0 { state s[]: f32 = 3  s[] := s[] + x[t] }  y[] = s[]"
    assert evaluate(op(scan, outputs="y: f32[]"), x=X)["y"] == 3


def test_4_an_index_inside_a_reduction_hides_the_outer_one(evaluate):
    np.testing.assert_array_equal(evaluate(op("y[k] = x[k] - sum[k](x[k])"), x=X)["y"], X - 10)
    y = evaluate(op("y[k] = softmax[k](x[k]) * x[k]"), x=X)["y"]
    np.testing.assert_allclose(y, np.exp(X - 4.0) / np.exp(X - 4.0).sum() * X, rtol=1e-6)


# Types


def test_5_without_annotation_integers_are_i32_truths_bool_and_the_rest_f32():
    text = op(
        "a[i] = i + 1  b[i] = x[i] > 2  c[i] = a[i] / 2  d[i] = i where i < 2  d[i] = 0.5 where i >= 2  y[i] = c[i]"
    )
    kinds = {t.name: t.dtype for t in load_text(text).program("f").tensors}
    assert (kinds["a"], kinds["b"], kinds["c"], kinds["d"]) == (DType.I32, DType.BOOL, DType.F32, DType.F32)
    scan = op("scan t in 0 .. N { state s[] = 0  s[] := s[] + x[t]  y[t] = s[] }")
    (state,) = (t for t in load_text(scan).program("f").tensors if t.name == "s")
    assert state.dtype is DType.F32


def test_6_integers_wrap_around_and_small_ones_are_computed_as_i32(evaluate):
    n = np.array([2**31 - 1, -(2**31)], np.int32)
    np.testing.assert_array_equal(evaluate(op("y[i] = n[i] * 2 + 3", "n: i32[N]", "y: i32[N]"), n=n)["y"], [1, 3])
    u = np.array([200, 255], np.uint8)
    np.testing.assert_array_equal(evaluate(op("y[i] = u[i] + u[i]", "u: u8[N]", "y: i32[N]"), u=u)["y"], [400, 510])


def test_7_casts_and_stores_to_integers_truncate_and_saturate(evaluate):
    x = np.array([2.9, -2.9, 300, -300, NAN], np.float32)
    y = evaluate(op("y[i] = i8(x[i])", outputs="y: i32[N]"), x=x)["y"]
    np.testing.assert_array_equal(y, [2, -2, 127, -128, 0])
    n = np.array([5, 300, -300], np.int32)
    np.testing.assert_array_equal(evaluate(op("y[i] = n[i]", "n: i32[N]", "y: i8[N]"), n=n)["y"], [5, 127, -128])


def test_8_an_integer_divided_by_0_is_an_error_a_real_is_infinite(evaluate):
    n = np.array([1, 0, 4], np.int32)
    with pytest.raises(InterpreterError) as caught:
        evaluate(op("y[i] = 6 // n[i]", "n: i32[N]", "y: i32[N]"), n=n)
    assert caught.value.diagnostics[0].id == "E352"
    y = evaluate(op("y[i] = 6 // n[i] where n[i] != 0", "n: i32[N]", "y: i32[N]"), n=n)["y"]
    np.testing.assert_array_equal(y, [6, 0, 1])
    x = np.array([0, -2, -0.0], np.float32)
    np.testing.assert_array_equal(evaluate(op("y[i] = 1 / x[i]"), x=x)["y"], [INF, -0.5, -INF])


def test_9_an_integer_beside_a_real_becomes_f32(evaluate):
    n = np.array([2**24 + 1], np.int32)
    text = op("y[i] = select(n[i] == 16777216.0, 1, 0)", "n: i32[N]")
    assert evaluate(text, n=n)["y"] == 0
    assert evaluate(text, n=n, mode="device")["y"] == 1


def test_10_literals_fit_i32_and_f32():
    assert refused(op("y[i] = x[i] * 2147483648")) == ["E123"]
    assert refused(op("y[i] = x[i] * 1e39")) == ["E123"]
    load_text(op("y[i] = x[i] * 2147483647 + 3.4e38 - inf"))


def test_11_f8_143_has_infinities(evaluate):
    x = np.array([240, 1000, -1000], np.float32)
    y = evaluate(op("y[i] = f8_143(x[i])"), x=x, mode="device")["y"]
    np.testing.assert_array_equal(y, [240, INF, -INF])


# Functions


def test_12_comparisons_with_nan_are_false_but_unequal_is_true(evaluate):
    x = np.array([NAN], np.float32)
    for operator, holds in (("<", 0), ("<=", 0), (">", 0), (">=", 0), ("==", 0), ("!=", 1)):
        assert evaluate(op(f"y[i] = select(x[i] {operator} x[i], 1, 0)"), x=x)["y"] == holds
    for e in ("min(x[i], 1)", "max(1, x[i])", "clamp(x[i], 0, 1)", "relu(x[i])", "abs(x[i])"):
        assert np.isnan(evaluate(op(f"y[i] = {e}"), x=x)["y"]).all(), e


def test_13_gelu_is_exact_and_elu_and_softplus_have_parameter_1(evaluate):
    x = np.array([-3, -0.5, 0.25, 2], np.float32)
    x8 = x.astype("f8")
    np.testing.assert_allclose(
        evaluate(op("y[i] = gelu(x[i])"), x=x)["y"],
        x8 * (1 + torch.special.erf(torch.from_numpy(x8 / 2**0.5)).numpy()) / 2,
        rtol=1e-12,
    )
    np.testing.assert_allclose(evaluate(op("y[i] = elu(x[i])"), x=x)["y"], np.where(x8 > 0, x8, np.exp(x8) - 1))
    np.testing.assert_allclose(evaluate(op("y[i] = softplus(x[i])"), x=x)["y"], np.log(1 + np.exp(x8)))


def test_14_rank_takes_zeros_of_both_signs_for_equal_and_ties_in_the_order_of_the_indices(evaluate):
    x = np.array([[0.0, -0.0], [1.0, 0.0]], np.float32)
    text = op("y[u,v] = rank[u, v](x[u,v])", "x: f32[U, V]", "y: i32[U, V]")
    np.testing.assert_array_equal(evaluate(text, x=x)["y"], [[1, 2], [0, 3]])


# Softmax


def test_15_nan_and_infinite_logits(evaluate):
    text = op("y[m,k] = softmax[k where k < n[m]](x[m,k])", "x: f32[M, N], n: i32[M]", "y: f32[M, N]")
    x = np.array([[1, NAN], [1, INF], [-INF, -INF], [-INF, 1], [NAN, 1]], np.float32)
    y = evaluate(text, x=x, n=np.array([2, 2, 2, 2, 0], np.int32))["y"]
    assert np.isnan(y[:3]).all()
    np.testing.assert_array_equal(y[3:], [[0, 1], [0, 0]])


def test_16_a_sink_of_minus_infinity_weighs_nothing_and_one_of_nan_spoils_the_row(evaluate):
    text = op("y[k] = softmax[k sink s[]](x[k])", "x: f32[N], s: f32[]")
    x = np.zeros(4, np.float32)
    np.testing.assert_array_equal(evaluate(text, x=x, s=np.array(-INF, "f4"))["y"], [0.25] * 4)
    assert np.isnan(evaluate(text, x=x, s=np.array(NAN, "f4"))["y"]).all()


# Presence


def test_17_casts_pass_on_a_sum_of_differently_masked_operands():
    text = "a[i] = x[i] where i < 2  y[i] = {}(a[i] + x[i])"
    load_text(op(text.format("f32")))
    load_text(op(text.format("bf16")))
    assert refused(op(text.format("exp"))) == ["E303"]


def test_18_presence_is_compared_under_the_domain_around_it():
    load_text(op("a[i] = x[i] where i < 2  y[i] = exp(a[i] + x[i]) where i < 2"))
    load_text(op("a[i] = x[i] where i < 2  y[i] = exp(a[i] + x[i]) where i < 1"))
    assert refused(op("a[i] = x[i] where i < 2  y[i] = exp(a[i] + x[i]) where i < 3")) == ["E303"]


def test_18_and_at_the_points_that_the_other_factor_has():
    text = "a[i] = x[i] where i < 2  b[i] = x[i] where i < {}  y[i] = exp({})"
    load_text(op(text.format(2, "b[i] * (a[i] + x[i])")))
    load_text(op(text.format(1, "(a[i] + x[i]) / b[i]")))
    assert refused(op(text.format(3, "b[i] * (a[i] + x[i])"))) == ["E303"]
    assert refused(op(text.format(2, "b[i] + (a[i] + x[i])"))) == ["E303"]


def test_19_the_domain_of_a_sum_is_visited_though_a_factor_is_absent(evaluate):
    body = "a[k] = x[k] where k < 0  y[i] = sum[k where n[n[k]] > 0](a[k])"
    with pytest.raises(InterpreterError) as caught:
        evaluate(op(body, "x: f32[N], n: i32[N]"), x=X, n=np.array([1, 2, 99, 0], np.int32))
    assert caught.value.diagnostics[0].id == "E351"


def test_20_what_nobody_reads_is_not_computed(evaluate):
    np.testing.assert_array_equal(evaluate(op("a[i] = x[i + 7]  y[i] = x[i]"), x=X)["y"], X)


def test_21_absent_points_of_boolean_and_integer_outputs_store_false_and_0(evaluate):
    text = op("b[i] = x[i] > 0 where i < 1  n[i] = 7 where i < 1", outputs="b: bool[N], n: i32[N]")
    found = evaluate(text, x=X)
    np.testing.assert_array_equal(found["b"], [True, False, False, False])
    np.testing.assert_array_equal(found["n"], [7, 0, 0, 0])


# Ops, files, contracts


def test_22_dtype_variables_of_an_applied_op_follow_its_arguments(evaluate):
    text = """
    dtype T in bf16, f32
    op g(x: T[N]) -> y: T[N] { y[i] = x[i] / 3 }
    op f(x: f32[N], z: bf16[N]) -> y: f32[N], w: bf16[N] { A = g(x)  B = g(z)  y[i] = A[i]  w[i] = B[i] }
    """
    third = np.float32(1) / np.float32(3)
    found = evaluate(text, x=np.ones(1, "f4"), z=np.ones(1, ml_dtypes.bfloat16), mode="device")
    assert found["y"] == third
    assert found["w"] == np.float32(third).astype(ml_dtypes.bfloat16)


def test_23_defines_reach_params_of_used_files_and_attributes_of_the_files_own_ops(tmp_path):
    from tpcgen.program import load

    (tmp_path / "a.dsl").write_text("param p: f32 = 1\nop g(x: f32[N], W: int = 2) -> y: f32[N] { y[i] = p * x[i] }\n")
    (tmp_path / "b.dsl").write_text('use "a.dsl"\nop f(x: f32[N], W: int = 3) -> y: f32[N] { y = g(x) }\n')
    module = load(tmp_path / "b.dsl", params={"p": 5, "W": 9})
    program = module.program("f")
    assert [a.default.value for a in program.attributes] == [9]
    assert "5" in str(program.body)
    with pytest.raises(DiagnosticError):
        load(tmp_path / "b.dsl", params={"q": 5})


def test_24_what_a_file_uses_are_its_ops_and_fns(tmp_path):
    from tpcgen.program import load

    items = ["param p: f32 = 2", "fn twice(v) = p * v", "op g(x: f32[N]) -> y: f32[N] { y[i] = twice(x[i]) }"]
    (tmp_path / "a.dsl").write_text("\n".join([*items, "check c { N = 2 }"]))
    used = 'use "a.dsl"\nop f(x: f32[N]) -> y: f32[N] {{ A = g(x)  y[i] = {} }}\n'
    (tmp_path / "b.dsl").write_text(used.format("twice(A[i])"))
    module = load(tmp_path / "b.dsl")
    assert list(module.ops) == ["f"]
    assert not module.checks
    (tmp_path / "b.dsl").write_text(used.format("p * A[i]"))
    with pytest.raises(DiagnosticError) as caught:
        load(tmp_path / "b.dsl")
    assert caught.value.diagnostics[0].id == "E201"


def test_25_a_contract_speaks_of_the_points_at_which_all_it_reads_is_inside(evaluate):
    text = "op f(n: i32[N]) -> y: i32[N] where n[i] < n[i + 1] { y[i] = n[i] }"
    evaluate(text, n=np.array([1, 2, 5], np.int32), check_values=True)
    with pytest.raises(InterpreterError):
        evaluate(text, n=np.array([1, 2, 2], np.int32), check_values=True)


def test_26_limits():
    load_text(op("y[i] = " + "(" * 300 + "x[i]" + ")" * 300))
    assert refused(op("y[i] = " + "exp(" * 101 + "x[i]" + ")" * 101)) == ["E124"]
    assert refused("#" * 200_001) == ["E125"]
    lines = [f"a{k}[i] = x[i]" for k in range(1000)]
    load_text(op("\n".join([*lines[1:], "y[i] = x[i]"])))
    assert refused(op("\n".join([*lines, "y[i] = x[i]"]))) == ["E233"]
    assert len(refused("fn f(x) = )\n" * 100)) == 20
