"""Chunked recurrences: the same values as step by step, by the interpreter, whatever gates and sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.std.library import VARIANTS
from tpcgen.interpreter import run
from tpcgen.interpreter.compare import judge
from tpcgen.program import ir, load, load_text, sizes
from tpcgen.program import print as text
from tpcgen.rewrite.alternatives import alternatives
from tpcgen.rewrite.chunk import chunk
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.vjp import vjp

EXAMPLES = Path(__file__).parents[2] / "examples"

SCAN = """
op f(Q: {T}[B, H, N, D], K: {T}[B, H, N, D], V: {T}[B, H, N, E], g: f32[B, H, N], gamma: f32[H], S0: f32[B, H, D, E])
    -> O: {T}[B, H, N, E]
{{
    scan t in 0 .. N {{
        state S[b,h,d,e]: f32 = {first}
        {body}
    }}
}}
"""
UPDATE = "S[b,h,d,e] := {gate}S[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]"
OUTPUT = "O[b,h,t,e] = sum[d](Q[b,h,t,d] * S[b,h,d,e])"
GATES = {
    "none": "",
    "constant": "0.9 * ",
    "per_head": "gamma[h] * ",
    "per_step": "g[b,h,t] * ",
    "product": "gamma[h] * g[b,h,t] * ",
}


def scan(gate: str, *, after: bool = True, first: str = "0", dtype: str = "f32") -> ir.Program:
    steps = [UPDATE.format(gate=GATES[gate]), OUTPUT]
    body = "\n        ".join(steps if after else steps[::-1])
    return load_text(SCAN.format(T=dtype, first=first, body=body)).program("f")


def inputs_of(program, values, gate=(0.3, 1.0), seed=0):
    rng = np.random.default_rng(seed)
    bound = sizes.bind(program, values)
    made = {t.name: rng.standard_normal(bound.shape(t)).astype(t.dtype.numpy) for t in program.inputs}
    for name in ("g", "gamma"):
        if name in made:
            made[name] = rng.uniform(*gate, made[name].shape).astype(np.float32)
    return made


def chunked(program, size):
    made = chunk(program, size)
    assert isinstance(made, ir.Program), made
    return made


def same(program, made, inputs):
    before, after = run(program, inputs, {})["O"], run(made, inputs, {})["O"]
    scale = np.abs(before).max(initial=1e-300)
    np.testing.assert_allclose(after, before, rtol=1e-11, atol=1e-12 * scale)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("n, size", [(1, 8), (7, 8), (8, 8), (9, 8), (65, 64), (40, 4)])
def test_chunks_compute_what_the_steps_do(gate, after, n, size):
    program = scan(gate, after=after)
    made = chunked(program, size)
    same(program, made, inputs_of(program, {"B": 1, "H": 2, "N": n, "D": 3, "E": 5}))
    assert load_text(text.program(made)).program("f") == made
    normalise(made)


def test_a_state_that_does_not_start_at_zero():
    program = scan("per_step", first="S0[b,h,d,e]")
    same(program, chunked(program, 4), inputs_of(program, {"B": 2, "H": 1, "N": 11, "D": 3, "E": 2}))


@pytest.mark.parametrize("name", ["linear", "gated_linear"])
@pytest.mark.parametrize("n", [1, 7, 63, 64, 65, 129])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_examples_keep_the_pass_rule(name, n, dtype):
    module = load(str(EXAMPLES / f"{name}.dsl"))
    program = module.program(name, T=dtype)
    made = chunked(program, 16)
    inputs = inputs_of(program, {"B": 1, "H": 2, "N": n, "D": 9, "E": 7})
    same(program, made, inputs)
    truth, device = run(program, inputs, {})["O"], run(program, inputs, {}, mode="device")["O"]
    verdict = judge(run(made, inputs, {}, mode="device")["O"], truth, device)
    assert verdict.passed, verdict.reason


@settings(max_examples=30, deadline=None)
@given(
    low=st.sampled_from([0.0, 1e-30, 1e-3, 0.9, 1.0]),
    n=st.integers(1, 40),
    size=st.sampled_from([1, 2, 8, 16]),
    seed=st.integers(0, 99),
)
def test_strong_and_mixed_decays(low, n, size, seed):
    """Gates from 1e-30 on, and 0: what has decayed is 0, never NaN."""
    program = scan("per_step")
    inputs = inputs_of(program, {"B": 1, "H": 1, "N": n, "D": 2, "E": 2}, seed=seed)
    rng = np.random.default_rng(seed)
    inputs["g"] = np.where(rng.random(inputs["g"].shape) < 0.5, np.float32(low), inputs["g"])
    made = chunked(program, size)
    same(program, made, inputs)
    truth, got = run(program, inputs, {})["O"], run(made, inputs, {}, mode="device")["O"]
    assert np.abs(got - truth).max() <= 1e-6 * max(np.abs(truth).max(), 1.0)


def test_the_size_of_the_program_does_not_depend_on_the_length():
    made = normalise(chunked(scan("per_step"), 64))
    names = {x.name for t in made.tensors for e in t.shape for x in ir.walk(e) if isinstance(x, ir.Size)}
    assert names == {"B", "H", "N", "D", "E"}
    assert all(len(t.shape) <= 5 for t in made.tensors)


@pytest.mark.parametrize(
    "body, why",
    [
        (
            "S[b,h,d,e] := g[b,h,t] * S[b,h,d,e] + K[b,h,t,d] + V[b,h,t,e]",
            "is not its old value, times a gate, plus one",
        ),
        ("S[b,h,d,e] := K[b,h,t,d] * S[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]", "the gate of S differs along d"),
        ("S[b,h,d,e] := S[b,h,d,e] + S0[b,h,d,e]", "what is added to S is no outer product"),
    ],
)
def test_what_is_no_chunk_says_so(body, why):
    program = load_text(SCAN.format(T="f32", first="0", body=body + "\n        " + OUTPUT)).program("f")
    found = chunk(program)
    assert isinstance(found, Refused)
    assert why in found.reason


@pytest.mark.parametrize(
    "text_of, why",
    [
        ("where k <= q + 1", "kept where another condition than k <= q holds"),
        ("where k <= q and k > 2", "kept where another condition than k <= q holds"),
    ],
)
def test_another_domain_of_the_square(text_of, why):
    source = (EXAMPLES / "linear.dsl").read_text().replace("where k <= q", text_of)
    found = chunk(load_text(source).program("linear", T="f32"))
    assert isinstance(found, Refused)
    assert why in found.reason


def test_a_sum_of_sums_keeps_the_square():
    source = (EXAMPLES / "linear.dsl").read_text()
    head = source.split("O[b,h,q,e] =", 1)[0]
    twice = head + "Y[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])\n    O[b,h,q,e] = sum[k](A[b,h,q,k] * Y[b,h,k,e])\n}\n"
    found = chunk(load_text(twice).program("linear", T="f32"))
    assert isinstance(found, Refused)
    assert found.reason == "Y is made of one sum and part of another"


@pytest.mark.full
def test_decays_of_1e_30_over_65536_steps():
    program = scan("per_step")
    inputs = inputs_of(program, {"B": 1, "H": 1, "N": 65536, "D": 2, "E": 2})
    rng = np.random.default_rng(1)
    inputs["g"] = np.where(rng.random(inputs["g"].shape) < 0.1, np.float32(1e-30), inputs["g"])
    made = chunked(program, 64)
    truth, device = run(program, inputs, {})["O"], run(program, inputs, {}, mode="device")["O"]
    got = run(made, inputs, {}, mode="device")["O"]
    assert np.isfinite(got).all()
    np.testing.assert_allclose(run(made, inputs, {})["O"], truth, rtol=1e-9, atol=1e-12)
    assert np.abs(got - truth).max() <= 4 * np.abs(device - truth).max()


SQUARE = """
op f(Q: f32[B, H, N, D], K: f32[B, H, N, D], V: f32[B, H, N, E], g: f32[H], w: f32[B, N], r: f32[B, H, N])
    -> O: f32[B, H, N, E]
{{
    A[b,h,q,k] = {scores} where k <= q
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / (1 + abs(sum[k](A[b,h,q,k])))
}}
"""
DOT = "sum[d](Q[b,h,q,d] * K[b,h,k,d])"
FACTORS = {
    "scale": f"-rsqrt(D) * {DOT} / 3",
    "of a key": f"{DOT} * w[b,k]",
    "of a query": f"{DOT} / (1 + abs(r[b,h,q]))",
    "constant decay": f"{DOT} * exp(log(g[h]) * (q - k))",
    "decay the other way round": f"r[b,h,q] * exp(g[h] * (k - q) / 4) * {DOT}",
    "decay and all": f"{DOT} * w[b,k] * exp((q - k) * log(g[h])) * rsqrt(D) * r[b,h,q]",
}


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("n, size", [(1, 8), (7, 8), (9, 4), (65, 16)])
def test_factors_of_causal_scores(name, n, size):
    program = load_text(SQUARE.format(scores=FACTORS[name])).program("f")
    made = chunked(program, size)
    inputs = inputs_of(program, {"B": 2, "H": 2, "N": n, "D": 3, "E": 5})
    inputs["g"] = np.float32([0.9, 0.3])
    same(program, made, inputs)
    assert load_text(text.program(made)).program("f") == made
    assert not [e for e in made.body if isinstance(e, ir.Equation) and {"q", "k"} <= set(e.indices)]


@pytest.mark.parametrize(
    "scores, why",
    [
        (f"{DOT} * exp(g[h] * (q - 2 * k))", "multiplied by exp(g[h] * (q - 2 * k)), which sees both q and k"),
        (f"{DOT} * exp(r[b,h,q] * (q - k))", "which sees both q and k"),
        (f"{DOT} * exp(g[h] * (k - q)) * exp(k - q)", "A decays twice"),
        (f"{DOT} * abs(r[b,h,q] - w[b,k])", "which sees both q and k"),
    ],
)
def test_factors_that_make_no_chunks(scores, why):
    found = chunk(load_text(SQUARE.format(scores=scores)).program("f"))
    assert isinstance(found, Refused)
    assert why in found.reason


def test_a_gradient_of_decays_keeps_the_square():
    program = load_text(SQUARE.format(scores=FACTORS["constant decay"])).program("f")
    found = chunk(vjp(program, ("Q", "K", "V")))
    assert isinstance(found, Refused)
    assert "decays and is summed over q" in found.reason


GRADIENTS = {
    "sum": "O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])",
    "quotient": "O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / (4 + sum[k](A[b,h,q,k]))",
    "named": """Y[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])
        Z[b,h,q] = 1 / (4 + sum[k](A[b,h,q,k]))
        O[b,h,q,e] = Y[b,h,q,e] * Z[b,h,q]""",
}


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("n", [1, 4, 7, 9])
def test_chunks_of_a_gradient_compute_what_it_says(name, n):
    """Sums over the queries of each key run from the last chunk; a row's sum adds a term to the scores' cotangent."""
    gradient = gradient_of(GRADIENTS[name])
    values = {"B": 2, "H": 2, "N": n, "D": 3, "E": 2}
    made = chunked(gradient, 4)
    arrays = inputs_of(gradient, values)
    before, after = (run(p, arrays, {}) for p in (gradient, made))
    for output in before:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-5, atol=1e-5)
    assert load_text(text.program(made)).program("f_vjp") == made


def test_a_chunked_gradient_has_no_square():
    normal = normalise(chunked(gradient_of(GRADIENTS["quotient"]), 64))
    bound = sizes.bind(normal, {"B": 1, "H": 1, "N": 131072, "D": 64, "E": 64}).values
    inner = [t for t in normal.tensors if t.role is ir.Role.INTERMEDIATE]
    assert max(np.prod([sizes.evaluate(e, bound) for e in t.shape]) for t in inner) <= 131072 * 64


def gradient_of(output):
    source = f"""op f(Q: f32[B, H, N, D], K: f32[B, H, N, D], V: f32[B, H, N, E]) -> O: f32[B, H, N, E]
    {{
        A[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d]) where k <= q
        {output}
    }}"""
    return vjp(load_text(source).program("f"), ("Q", "K", "V"))


def test_heads_in_bands_leave_the_others_to_chunks():
    """GFormer's: the scores of windows in blocks are kept under conditions too, but not those of chunks."""
    program = VARIANTS["gformer"].program("f32")
    labels = {a.label for a in alternatives(program).programs}
    assert {"bands of 64, chunks of 64", "bands of 128, chunks of 128"} <= labels
