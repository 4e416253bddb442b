"""Bands as blocks: the same values as the text, by the interpreter, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpcgen.interpreter import run
from tpcgen.program import ir, load_text, sizes
from tpcgen.program import print as text
from tpcgen.rewrite.band import band
from tpcgen.rewrite.edit import conjuncts
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.vjp import differentiable_inputs, vjp

ATTENTION = """
op f(Q: bf16[B, H, M, D],
     K: bf16[B, {heads}, N, D], V: bf16[B, {heads}, N, E]{inputs}, W: int = 3) -> O: bf16[B, H, M, E]
    where M <= N{contract}
{{
    S[b,h,q,k] = {score}
    P[b,h,q,k] = softmax[k where {domain}{sink}](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,{head},k,e])
}}
"""
SCORE = "rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,{head},k,d])"
WINDOW = "q + N - M - W < k <= q + N - M"

VARIANTS = {
    "window": {"domain": WINDOW},
    "symmetric": {"domain": "q - W < k < q + W"},
    "absolute": {"domain": "abs(q - k) < W and -W < q - k < W"},
    "ahead": {"domain": "q < k <= q + W"},
    "sink": {"domain": WINDOW, "inputs": ", snk: f32[H]", "sink": " sink snk[h]"},
    "alibi": {"domain": WINDOW, "inputs": ", slope: f32[H]", "score": SCORE + " + slope[h] * (k - q)"},
    "soft_cap": {"domain": WINDOW, "score": "30 * tanh(" + SCORE + " / 30)"},
    "bias": {"domain": WINDOW, "inputs": ", bias: f32[H, M, N]", "score": SCORE + " + bias[h,q,k]"},
    "documents": {
        "domain": WINDOW + " and doc[b,q + N - M] == doc[b,k]",
        "inputs": ", doc: i32[B, N]",
    },
    "grouped": {"domain": WINDOW, "heads": "G", "head": "h // (H // G)", "contract": ", H % G == 0"},
}


def source(heads="H", head="h", inputs="", contract="", score=SCORE, domain=WINDOW, sink=""):
    filled = score.format(head=head)
    return ATTENTION.format(
        heads=heads, head=head, inputs=inputs, contract=contract, score=filled, domain=domain, sink=sink
    )


def inputs_of(program, values, seed=0, large=False):
    rng = np.random.default_rng(seed)
    bound = sizes.bind(program, values)
    made = {}
    for t in program.inputs:
        shape = bound.shape(t)
        made[t.name] = (
            rng.integers(0, 3, shape).astype(np.int32)
            if t.dtype.is_integer
            else (rng.standard_normal(shape) * (1e3 if large and t.name in "QK" else 1)).astype(t.dtype.numpy)
        )
    return made


def banded(program, tile):
    made = band(program, tile)
    assert isinstance(made, ir.Program), made
    return made


def same(program, made, values, **kind):
    arrays = inputs_of(program, values, **kind)
    attributes = {a.name: values[a.name] for a in program.attributes}
    before = run(program, arrays, attributes)
    after = run(made, arrays, attributes)
    for output in before:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("m, n, w", [(1, 1, 1), (7, 9, 3), (9, 9, 20), (16, 17, 1), (5, 33, 4)])
def test_blocks_compute_what_the_text_says(name, m, n, w):
    program = load_text(source(**VARIANTS[name])).program("f")
    made = banded(program, 4)
    values = {"B": 2, "H": 4, "G": 2, "M": m, "N": n, "D": 3, "E": 2, "W": w}
    own = {*program.sizes, "W"}
    same(program, made, {k: v for k, v in values.items() if k in own})
    assert load_text(text.program(made)).program("f") == made


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("m, n, w", [(7, 9, 3), (9, 9, 20), (5, 33, 4)])
def test_blocks_of_a_gradient_compute_what_it_says(name, m, n, w):
    """Gradients of queries and keys, of grouped keys, of sinks and slopes; not of a bias, which is a square itself."""
    program = load_text(source(**VARIANTS[name])).program("f")
    gradient = vjp(program, [x for x in differentiable_inputs(program) if x != "bias"])
    made = banded(gradient, 4)
    values = {"B": 2, "H": 4, "G": 2, "M": m, "N": n, "D": 3, "E": 2, "W": w}
    own = {*program.sizes, "W"}
    same(gradient, made, {k: v for k, v in values.items() if k in own})
    assert load_text(text.program(made)).program("f_vjp") == made


@settings(max_examples=40, deadline=None)
@given(
    low=st.integers(-6, 6),
    high=st.integers(-6, 6),
    m=st.integers(1, 12),
    n=st.integers(1, 12),
    tile=st.sampled_from([1, 2, 3, 8]),
    seed=st.integers(0, 9),
)
def test_random_bands(low, high, m, n, tile, seed):
    """Also empty ones, and rows without a key."""
    program = load_text(source(domain=f"q + {low} <= k <= q + {high}").replace("where M <= N", "")).program("f")
    values = {"B": 1, "H": 1, "M": m, "N": n, "D": 2, "E": 2, "W": 1}
    same(program, banded(program, tile), values, seed=seed, large=True)


@settings(max_examples=20, deadline=None)
@given(low=st.integers(-6, 6), width=st.integers(-1, 6), n=st.integers(1, 12), tile=st.sampled_from([1, 3, 8]))
def test_gradients_of_random_bands(low, width, n, tile):
    """Keys of blocks that lie before, behind and around those of their queries, and bands without a point."""
    program = load_text(source(domain=f"q + {low} <= k <= q + {low + width}").replace("where M <= N", "")).program("f")
    gradient = vjp(program, ("K", "V"))
    same(gradient, banded(gradient, tile), {"B": 1, "H": 1, "M": 9, "N": n, "D": 2, "E": 2, "W": 1})


def test_an_or_is_named_as_what_makes_no_band():
    refused = band(load_text(source(domain="q - W < k <= q or k < 2")).program("f"))
    assert isinstance(refused, Refused)
    assert "each side of the `or`" in refused.reason


def test_a_gradient_of_the_square_keeps_it():
    program = load_text(source(**VARIANTS["bias"])).program("f")
    refused = band(vjp(program, ("bias",)))
    assert isinstance(refused, Refused)
    assert refused.reason == "dbias is an output over the whole square"


def test_no_tensor_of_the_square_is_left():
    program = load_text(source()).program("f")
    normal = normalise(banded(program, 8))
    bound = sizes.bind(program, {"B": 1, "H": 1, "M": 131072, "N": 131072, "D": 64, "E": 64, "W": 1024}).values
    elements = {
        t.name: int(np.prod([sizes.evaluate(e, bound) for e in t.shape]))
        for t in normal.tensors
        if t.role is ir.Role.INTERMEDIATE
    }
    assert max(elements.values()) <= 131072 // 8 * 64 * (1024 + 8)  # K_b and V_b: a window of 64-element rows a block
    assert elements["S_dot_b"] == 131072 * (1024 + 7)


@pytest.mark.parametrize(
    "domain, why",
    [
        ("k <= q", "nothing bounds k - q on both sides"),
        ("k < 3", "no domain ties a reduced index to a query"),
        ("2 * q - W < k <= 2 * q", "no domain ties a reduced index to a query"),
    ],
)
def test_what_is_no_band_says_so(domain, why):
    found = band(load_text(source(domain=domain)).program("f"))
    assert isinstance(found, Refused)
    assert found.reason == why


def test_a_second_reader_of_the_scores_keeps_the_square():
    spec = source().replace("O[b,h,q,e] = sum", "L[b,h,q] = logsumexp[k](S[b,h,q,k])\n    O[b,h,q,e] = L[b,h,q] + sum")
    found = band(load_text(spec).program("f"))
    assert isinstance(found, Refused)
    assert found.reason == "this reduction over k reaches beyond the band"


def test_values_that_no_window_reaches_are_left_out():
    """Queries far behind the last key see none: what its values hold, NaN or not, must not be multiplied by 0."""
    spec = """op f(S: f32[M, N], V: f32[N, E], W: int) -> O: f32[M, E] {
        P[q,k] = exp(S[q,k] - max[k where (k <= q + N - M) and (q - W < k)](S[q,k]))
            where (k <= q + N - M) and (q - W < k)
        O[q,e] = sum[k](P[q,k] * V[k,e])
    }"""
    banded = band(load_text(spec).program("f"), 64)
    assert isinstance(banded, ir.Program)
    values = next(e for e in normalise(banded).body if isinstance(e, ir.Equation) and e.target == "V_b_m")
    assert "W + N - M - 1 >= 0" in [text.expression(c) for c in conjuncts(values.domain)]
