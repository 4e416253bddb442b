"""Gradients by vjp against central differences: the library, the examples, single rules, random programs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.random_specs import attributes, specs
from tests.std.library import VARIANTS, Variant
from tests.vjp.differences import compare, widened
from tpcgen.interpreter import run
from tpcgen.interpreter.inputs import draw
from tpcgen.program import ir, load, load_text
from tpcgen.rewrite.vjp import differentiable_inputs, vjp

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.dsl"))
ODD = {"B": 1, "H": 3, "N": 13, "M": 7, "D": 5, "E": 3, "W": 4, "left": 3, "right": 2, "R": 4, "F": 2, "L": 6}


def gradient_of(program: ir.Program) -> ir.Program:
    return vjp(program, differentiable_inputs(program))


@cache
def of_variant(variant: Variant) -> tuple[ir.Program, ir.Program]:
    program = variant.program("f32")
    return program, gradient_of(program)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_a_variant_of_the_library(variant: Variant) -> None:
    program, gradient = of_variant(variant)
    for number, values in enumerate(variant.checks()):
        compare(program, gradient, values, number)


@pytest.mark.parametrize("name", ["causal", "window", "window_sink", "linear", "alibi", "performer", "mla_absorbed"])
def test_a_variant_at_small_odd_sizes(name: str) -> None:
    program, gradient = of_variant(VARIANTS[name])
    known = {*program.sizes, *(a.name for a in program.attributes)}
    for n in (7, 13):
        compare(program, gradient, {k: v for k, v in (ODD | {"N": n}).items() if k in known}, n)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda f: f.stem)
def test_an_example(file: Path) -> None:
    module = load(file)
    for op in module.ops:
        program = module.program(op)
        wanted = {*program.sizes, *(a.name for a in program.attributes)}
        for values in (c.values for c in module.checks if op in c.ops):
            compare(program, gradient_of(program), {k: v for k, v in values.items() if k in wanted})


RULES = {
    "product and quotient": "y[i] = x[i] * z[i] / (2.0 + z[i] * z[i]) - -x[i]",
    "twice the same": "y[i] = sum[j](x[i] * x[j] * z[j])",
    "functions": "y[i] = exp(x[i]) + exp2(z[i]) + tanh(x[i]) + sigmoid(z[i]) + erf(x[i]) + sin(z[i]) + cos(x[i])",
    "bent": "y[i] = gelu(x[i]) + silu(z[i]) + relu(x[i]) + elu(z[i]) + softplus(x[i]) + abs(z[i]) * floor(x[i])",
    "positive": "y[i] = log(1.0 + x[i] * x[i]) + sqrt(1.0 + abs(z[i]))\n"
    " + rsqrt(2.0 + sin(x[i])) + recip(3.0 + z[i] * z[i])",
    "extrema": "y[i] = min(x[i], z[i], 0.5) + max(z[i], x[i]) + clamp(x[i] + z[i], z[i] - 1.0, abs(x[i]))",
    "reductions": "y[i] = x[i] * max[j](x[j] * z[j]) + min[j where j <= i](z[j]) + logsumexp[j sink z[i]](x[j] + z[i])",
    "softmax": "y[i] = sum[j](softmax[j where j <= i](x[i] * x[j])) * z[i] + x[i]",
    "softmax with sink": "p[i,j] = softmax[j where j < i sink z[i]](x[i] * z[j])\n y[i] = sum[j](p[i,j] * x[j])",
    "softmax that is seen in part": "p[i,j] = softmax[j where j <= i](x[i] * z[j]) where i < j + 3 and z[j] > 0\n"
    " y[i] = sum[j](p[i,j] * x[j])",
    "select": "y[i] = select(i % 2 == 0, sqrt(abs(x[i])), select(z[i] > 0, x[i] * z[i], 1.0))",
    "default": "a[i] = x[i] * z[i] where i > 2\n"
    " y[i] = default(a[i], sin(x[i])) + default(sum[j where j > i](x[j]), z[i])",
    "default of a condition": "a[i] = z[i] where z[i] > 0\n b[i] = x[i] where a[i] > 1 or x[i] > 0\n"
    " y[i] = default(b[i], sin(z[i]))",
    "pieces": "a[i] = x[i] * z[i] where i < 3\n a[i] = sin(x[i]) where i > 4\n y[i] = a[i] * a[i]",
    "shifts": "y[i] = x[i + 1] * z[i] + z[N - 1 - i] where i < N - 1",
    "a diagonal": "a[i,j] = x[i] * z[j] * z[j]\n y[i] = a[i,i]",
    "a condition that reduces": "index j2 in 0 .. N\n a[j2] = x[j2]\n b[j] = z[j] * a[j]\n"
    " y[i] = x[i] * z[N - 1 - i] + b[i] where any[j, j2](t[j] == i + j2)",
    "a condition on ranks": "r[i] = rank[i](x[i])\n y[i] = x[N - 1 - i] * 2.0 where r[i] < 3",
    "quotients": "y[i] = x[i // 2] * z[i % 3] + z[i // 3 * 2]",
    "strides": "index h in 0 .. N // 2\n a[h] = x[2 * h] * z[h]\n y[i] = sum[h](a[h] * x[2 * h + 1]) * z[i]",
    "tables": "y[i] = x[t[i]] * z[i] + z[t[t[i]]]",
    "absent sums": "a[i] = x[i] where i < 3\n b[i] = z[i] where i > 1\n y[i] = (a[i] + b[i]) * x[i] - b[i]",
    "nested sums": "y[i] = tanh(sum[j](x[j] * sum[k where k <= j](z[k] * x[i])))",
    "casts": "y[i] = f32(i32(4.0 * x[i])) * z[i] + x[i]",
    "three factors": "y[i] = sum[j, k](cos(x[i] * z[j]) * sin(x[j] + z[k]) * x[k])",
    "reread": "a[i] = x[i] * z[i]\n y[i] = sin(a[i])\n s[] = sum[i](y[i] * a[i])",
}


SCANS = {
    "last value": "scan t in 0 .. N {\n state s[]: f32 = z[0]\n s[] := x[t] * s[] + z[t]\n }\n y[i] = s[] * x[i]",
    "delta rule": "scan t in 0 .. N {\n state S[i,j]: f32 = x[i] * z[j]\n"
    " u[i]: f32 = sum[j](S[i,j] * z[j]) * x[t]\n S[i,j] := S[i,j] - 0.1 * u[i] * x[j]\n"
    " y[t] = sum[i](S[i,t] * x[i])\n}",
    "two states": "scan t in 0 .. N reverse {\n state a[]: f32 = 1\n state b[]: f32 = x[0]\n a[] := a[] * x[t] + b[]\n"
    " b[] := b[] * 0.5 + a[] where z[t] > 0\n y[t] = tanh(a[]) * b[] * z[t]\n}",
    "forgotten": "scan t in 0 .. N {\n state s[]: f32 = x[0]\n y[t] = s[] * s[]\n"
    " s[] := z[t] * x[t] where t % 2 == 0\n}",
    "absent gate": "g[i] = x[i] where i > 2\n scan t in 0 .. N {\n state s[]: f32 = z[1]\n s[] := g[t] * s[] + z[t]\n"
    " y[t] = s[] * x[t]\n}",
    "after it": "scan t in 0 .. N {\n state s[]: f32 = 0\n state n[]: f32 = 1\n s[] := s[] + x[t]\n"
    " n[] := n[] + z[t] * z[t]\n"
    " a[t] = s[] / n[]\n b[t] = a[t] * sin(x[N - 1 - t])\n}\n y[i] = a[i] * b[N - 1 - i]",
    "bent": "scan t in 0 .. N {\n state s[i]: f32 = 0\n s[i] := 0.5 * s[i] + x[t] * z[i]\n"
    " p[j]: f32 = softmax[j](s[j])\n y[t] = sum[j](p[j] * s[j]) / (1.0 + abs(sum[j](s[j] * x[j])))\n}",
    "selected": "scan t in 0 .. N {\n state s[i]: f32 = x[i]\n s[i] := select(i <= t, s[i] * z[t], s[i] + x[t])\n"
    " y[t] = sum[i](s[i])\n}",
    "windows": "scan t in 0 .. N {\n state s[i]: f32 = 0\n s[i] := z[t] * s[i] + x[i] where i <= t\n"
    " y[t] = sum[i where i >= t - 2](s[i] * z[i])\n}",
}


@pytest.mark.parametrize("rule", SCANS)
@pytest.mark.parametrize("n", [1, 7])
def test_a_scan(rule: str, n: int) -> None:
    head = "op f(x: f32[N], z: f32[N]) -> y: f32[N]\n{\n index i in 0 .. N\n index j in 0 .. N\n"
    program = load_text(f"{head} {SCANS[rule]}\n}}\n").program("f")
    compare(program, vjp(program, ["x", "z"]), {"N": n}, n)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [7, 13])
def test_a_rule(rule: str, n: int) -> None:
    s = ", s: f32[]" if "s[]" in RULES[rule] else ""
    head = f"op f(x: f32[N], z: f32[N], t: i32[N]) -> y: f32[N]{s}\n where 0 <= t[i] < N\n{{\n index i in 0 .. N"
    declared = "index j in 0 .. N\n index k in 0 .. N"
    program = load_text(f"{head}\n {declared}\n {RULES[rule]}\n}}\n").program("f")
    compare(program, vjp(program, ["x", "z"]), {"N": n}, n)


def gradients(text: str, inputs: dict[str, object], wrt: list[str], cotangent: object) -> dict[str, np.ndarray]:
    program = load_text(text).program("f")
    given = {k: np.array(v, np.int32 if np.array(v).dtype.kind == "i" else np.float64) for k, v in inputs.items()}
    return run(vjp(program, wrt), {**given, f"d{program.outputs[0].name}": np.array(cotangent, np.float64)}, {})


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "silu", "softplus", "elu", "erf", "gelu"])
def test_a_derivative_that_is_next_to_0_has_its_digits_in_f32(function: str) -> None:
    x = np.array([0.0, 0.1, 1.0, 3.0, 4.5, 6.0, 8.0]).astype(np.float32)
    x = np.concatenate([x, -x])
    program = load_text(f"op f(x: f32[N]) -> y: f32[N] {{\n y[i] = {function}(x[i])\n}}\n").program("f")
    gradient = vjp(program, ["x"])
    given = {"x": x, "dy": np.ones_like(x)}
    exact, rounded = (run(gradient, given, {}, mode=mode)["dx"] for mode in ("exact", "device"))
    np.testing.assert_allclose(rounded, exact, rtol=1e-5, atol=0)


def test_ties_share_evenly() -> None:
    found = gradients("op f(x: f32[N]) -> y: f32[] {\n y[] = max[i](x[i])\n}\n", {"x": [1.0, 3.0, 3.0]}, ["x"], 4.0)
    assert found["dx"].tolist() == [0, 2, 2]


def test_one_element_read_often_gets_the_sum() -> None:
    text = "op f(x: f32[M, D], t: i32[N]) -> y: f32[N, D] {\n y[i,d] = x[t[i], d] where t[i] >= 0\n}\n"
    inputs = {"x": np.zeros((3, 2)), "t": [2, 0, 2, -1]}
    found = gradients(text, inputs, ["x"], [[1, 2], [3, 4], [5, 6], [7, 8]])
    assert found["dx"].tolist() == [[3, 4], [0, 0], [6, 8]]


def test_what_is_not_visited_passes_nothing_on() -> None:
    text = "op f(x: f32[N], z: f32[N]) -> y: f32[N] {\n y[i] = select(x[i] > 0, log(x[i]), z[i] * 2)\n}\n"
    inputs = {"x": [0.0, 2.0, -1.0], "z": [1.0, np.inf, np.nan]}
    found = gradients(text, inputs, ["x", "z"], [1, 1, 0])
    assert found["dx"].tolist() == [0, 0.5, 0]
    assert found["dz"].tolist() == [2, 0, 0]


def test_an_output_smaller_than_the_range_of_its_index() -> None:
    text = "op f(x: f32[N]) -> y: f32[N // 2] {\n index i in 0 .. N\n y[i] = softmax[i](x[i])\n}\n"
    program = load_text(text).program("f")
    compare(program, vjp(program, ["x"]), {"N": 7})


def test_an_input_that_is_not_read_has_gradient_0() -> None:
    text = "op f(x: f32[N], z: f32[M, N]) -> y: f32[N] {\n y[i] = x[i]\n}\n"
    found = gradients(text, {"x": [1.0], "z": [[3.0], [4.0]]}, ["z"], [1.0])
    assert found["dz"].tolist() == [[0], [0]]


def test_rows_without_keys_give_0_and_stale_elements_do_nothing() -> None:
    program, gradient = of_variant(VARIANTS["paged_decode"])
    values = dict(VARIANTS["paged_decode"].checks()[0])
    inputs = widened(program, draw(program, values, np.random.default_rng(1), "stale"))
    inputs["len"][0] = 0
    found = run(gradient, {**inputs, "dO": np.ones((values["B"], values["H"], values["E"]))}, {})
    assert (found["dQ"][0] == 0).all()
    assert all(np.isfinite(x).all() for x in found.values())


def test_logits_of_1e5_give_finite_gradients() -> None:
    program, gradient = of_variant(VARIANTS["window_sink"])
    values = dict(VARIANTS["window_sink"].checks()[0])
    inputs = widened(program, draw(program, values, np.random.default_rng(1), "large"))
    cotangent = np.ones(run(program, inputs, {"W": values["W"]})["O"].shape)
    found = run(gradient, {**inputs, "dO": cotangent}, {"W": values["W"]})
    assert all(np.isfinite(x).all() for x in found.values())


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(specs())
def test_random_programs(drawn) -> None:
    check_random(drawn)


@pytest.mark.full
@settings(max_examples=2000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(specs())
def test_many_more_random_programs(drawn) -> None:
    check_random(drawn)


def check_random(drawn) -> None:
    text, values = drawn
    program = load_text(text).program("f")
    known = attributes([a.name for a in program.attributes])
    compare(program, gradient_of(program), {**values, **known})
