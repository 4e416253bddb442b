"""Sums made first: the same values as the text, whatever sizes are, by the interpreter; what is refused, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.interpreter import run
from tpcgen.interpreter.compare import judge
from tpcgen.interpreter.inputs import draw
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import ir, load, load_text, sizes
from tpcgen.program import print as text
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.reassociate import reassociate, reassociated_index
from tpcgen.rewrite.vjp import differentiable_inputs, vjp

STD = Path(__file__).parents[2] / "std"
ODD = [(1, 1), (7, 1), (1, 65), (63, 7), (33, 129), (0, 5), (5, 0)]
SOURCE = """
op f(Q: f32[B, H, M, D], K: f32[B, G, N, D], V: f32[B, G, N, E], w: f32[B, N], r: f32[B, H, M], ok: i32[B, N],
     T: f32[B, M, E]) -> O: f32[B, H, M, E]
    where H % G == 0
{{
    A[b,h,q,k] = {scores}
    O[b,h,q,e] = {result}
    {schedule}
}}
"""
DOT = "sum[d](Q[b,h,q,d] * K[b,h // (H // G),k,d])"
SUM = "sum[k{where}](A[b,h,q,k] * V[b,h // (H // G),k,e])"
FORMS = {
    "plain": (DOT, SUM),
    "scaled": (f"rsqrt(D) * {DOT}", SUM),
    "inside": ("sum[d](Q[b,h,q,d] * K[b,h // (H // G),k,d] * w[b,k])", SUM),
    "weighted": (f"{DOT} * w[b,k] * r[b,h,q]", SUM),
    "divided": (f"-({DOT} / (1 + abs(r[b,h,q])))", SUM),
    "normalised": (DOT, SUM + " / sum[k{where}](A[b,h,q,k])"),
    "added": (f"{DOT} - r[b,h,q] + w[b,k]", SUM),
    "around": (DOT, "sum[k{where}](r[b,h,q] * A[b,h,q,k] * V[b,h // (H // G),k,e] * w[b,k]) / (1 + abs(T[b,q,e]))"),
    "masked": (DOT + " where ok[b,k] > 0", SUM),
    "head": (DOT, SUM.replace("{where}", " where k < G")),
    "twice": (DOT, SUM + " + sum[k{where}](A[b,h,q,k] * T[b,q,e])"),
}
VALUES = {"B": 2, "H": 4, "G": 2, "D": 3, "E": 5}


def program_of(scores=DOT, result=SUM, schedule="", outputs="-> O:"):
    spec = SOURCE.format(scores=scores, result=result.replace("{where}", ""), schedule=schedule)
    return load_text(spec.replace("-> O:", outputs)).program("f")


def first(program):
    made = reassociate(program)
    assert isinstance(made, ir.Program), made
    return made


def same(program, made, values, seed=0):
    bound = sizes.bind(program, values)
    inputs = draw(program, bound, np.random.default_rng(seed), "normal")
    wide = {t.name: inputs[t.name].astype(np.float64) if t.dtype.is_float else inputs[t.name] for t in program.inputs}
    for name, expected in run(program, wide, {}).items():
        got = run(made, wide, {})[name]
        scale = np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=1e-300)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.parametrize("m, n", ODD)
@pytest.mark.parametrize("name", FORMS)
def test_sums_made_first_are_the_sums_of_the_text(name, m, n):
    if n == 0 and name == "normalised":
        pytest.skip("0 / 0")
    program = program_of(*FORMS[name])
    made = first(program)
    same(program, made, {**VALUES, "M": m, "N": n})
    assert load_text(text.program(made)).program("f") == made
    assert all({"q", "k"} - set(s.indices) for s in made.body if isinstance(s, ir.Equation))
    normalise(made)


@pytest.mark.parametrize(
    "scores, result, why",
    [
        (f"{DOT} where k <= q", SUM, "a condition ties k to q"),
        (DOT, SUM.replace("{where}", " where k <= q"), "a condition ties k to q"),
        (f"exp({DOT})", SUM, "no sum of products is summed again"),
        (DOT, "sum[k](exp(A[b,h,q,k]) * V[b,h // (H // G),k,e])", "not one factor of the sum over k"),
        (DOT, "sum[k](A[b,h,q,k] * A[b,h,q,k] * V[b,h // (H // G),k,e])", "not one factor of the sum over k"),
        (DOT, SUM + " * max[k](A[b,h,q,k])", "read outside a sum"),
        (f"{DOT} / (1 + abs(w[b,k]))", SUM, "divided by what k moves"),
    ],
)
def test_what_is_refused_says_why(scores, result, why):
    program = program_of(scores, result)
    made = reassociate(program)
    assert isinstance(made, Refused)
    assert why in made.reason
    assert reassociated_index(program) == made


def test_an_output_is_kept():
    assert isinstance(reassociate(program_of(outputs="-> A: f32[B, H, M, N], O:")), Refused)


@pytest.mark.parametrize("op, name", [("mla", "mla_absorbed"), ("mla_absorbed", "mla")])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("m, n", [(1, 7), (17, 33), (63, 65)])
def test_either_text_of_mla_becomes_the_other(op, name, dtype, m, n):
    module = load(str(STD / "mla.dsl"))
    program, other = (module.program(x, T=dtype) for x in (op, name))
    values = {"B": 1, "H": 3, "M": m, "N": n, "D": 24, "E": 20, "F": 8, "L": 40}
    made = first(program)
    same(program, made, values)
    inputs = draw(program, sizes.bind(program, values), np.random.default_rng(1), "normal")
    truth, device = run(program, inputs, {})["O"], run(program, inputs, {}, mode="device")["O"]
    verdict = judge(run(made, inputs, {}, mode="device")["O"], truth, device)
    assert verdict.passed, verdict.reason
    np.testing.assert_allclose(run(other, inputs, {})["O"], truth, rtol=1e-6, atol=1e-6)


def test_prices_decide():
    """MLA decodes in the latent and prefills with keys; linear attention over all keys never makes a square."""
    mla = load(str(STD / "mla.dsl"))
    large = {"B": 1, "H": 16, "N": 4096, "L": 512, "F": 64, "D": 128, "E": 128}
    for op, m, wanted in (
        ("mla", 1, True),
        ("mla", 4096, False),
        ("mla_absorbed", 1, False),
        ("mla_absorbed", 4096, True),
    ):
        program = mla.program(op, T="bf16")
        label = choose(program, "gaudi2", sizes.bind(program, {**large, "M": m})).plan.label
        assert label.startswith("sums first") == wanted, (op, m)
    program = load(str(STD / "linear.dsl")).program("linear_bidirectional", T="bf16")
    choice = choose(
        program, "gaudi2", sizes.bind(program, {"B": 1, "H": 8, "M": 131072, "N": 131072, "D": 64, "E": 64})
    )
    assert choice.plan.label.startswith("sums first")
    assert choice.price.peak < 2**31


def test_pins():
    assert all(
        "sums k first;" in p.pins for p in enumerate_plans(program_of(schedule="schedule { sums k first; }"), "gaudi2")
    )
    assert all(
        p.label[:4] != "sums" for p in enumerate_plans(program_of(schedule="schedule { sums k whole; }"), "gaudi2")
    )
    with pytest.raises(DiagnosticError, match="sums takes first or whole, not last"):
        program_of(schedule="schedule { sums k last; }")
    with pytest.raises(DiagnosticError, match="no alternative has `sums q first`"):
        enumerate_plans(program_of(schedule="schedule { sums q first; }"), "gaudi2")


def test_gradients_of_linear_attention_make_no_square():
    program = load(str(STD / "linear.dsl")).program("linear_bidirectional", T="f32")
    gradient = vjp(program, differentiable_inputs(program))
    made = first(gradient)
    same(gradient, made, {"B": 1, "H": 2, "M": 7, "N": 9, "D": 3, "E": 5})
    assert not [s for s in made.body if isinstance(s, ir.Equation) and {"q", "k"} <= set(s.indices)]
