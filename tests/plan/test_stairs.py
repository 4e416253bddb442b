"""Causal attention in steps of queries: the same values as the text, whatever the sizes, and less than the square."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.test_band import VARIANTS as BANDS
from tests.plan.test_band import inputs_of, same, source
from tpcgen.interpreter import run
from tpcgen.kernel.cycles import stage_cost
from tpcgen.machine import MACHINES
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import MmeStage
from tpcgen.program import ir, load_text, sizes
from tpcgen.program import print as text
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.stairs import rows, stairs
from tpcgen.rewrite.vjp import differentiable_inputs, vjp

CAUSAL = "k <= q + N - M"
VARIANTS = {
    "causal": {"domain": CAUSAL},
    "top_left": {"domain": "k <= q"},
    "strict": {"domain": "k < q"},
    "ahead": {"domain": "k <= q + 70"},
    "attribute": {"domain": "k - q < W"},
    "prefix": {"domain": "k <= q + N - M or k < W"},
    "prefix_of_documents": BANDS["documents"] | {"domain": "(k < W or k <= q) and doc[b,q + N - M] == doc[b,k]"},
    **{name: BANDS[name] | {"domain": CAUSAL} for name in ("sink", "alibi", "soft_cap", "bias", "grouped")},
    "documents": BANDS["documents"] | {"domain": CAUSAL + " and doc[b,q + N - M] == doc[b,k]"},
}


def stepped(program, steps=4):
    made = stairs(program, steps)
    assert isinstance(made, ir.Program), made
    return made


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("m, n", [(1, 1), (7, 63), (65, 129), (127, 127), (129, 296), (300, 300)])
def test_steps_compute_what_the_text_says(name, m, n):
    program = load_text(source(**VARIANTS[name])).program("f")
    made = stepped(program)
    values = {"B": 2, "H": 2, "G": 1, "M": m, "N": n, "D": 2, "E": 2, "W": 3}
    own = {*program.sizes, *(a.name for a in program.attributes)}
    same(program, made, {k: v for k, v in values.items() if k in own})
    assert load_text(text.program(made)).program("f") == made


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("m, n", [(65, 129), (130, 131)])
def test_steps_of_a_gradient_compute_what_it_says(name, m, n):
    program = load_text(source(**VARIANTS[name])).program("f")
    gradient = vjp(program, [x for x in differentiable_inputs(program) if x != "bias"])
    made = stepped(gradient)
    values = {"B": 2, "H": 2, "G": 1, "M": m, "N": n, "D": 2, "E": 2, "W": 3}
    own = {*program.sizes, *(a.name for a in program.attributes)}
    same(gradient, made, {k: v for k, v in values.items() if k in own})


@pytest.mark.parametrize("name", ["causal", "attribute"])
def test_steps_of_a_gradient_are_a_text(name):
    program = load_text(source(**VARIANTS[name])).program("f")
    made = stepped(vjp(program, differentiable_inputs(program)))
    assert load_text(text.program(made)).program("f_vjp") == made


@settings(max_examples=30, deadline=None)
@given(
    ahead=st.integers(-140, 140),
    m=st.integers(1, 200),
    n=st.integers(1, 200),
    steps=st.sampled_from([1, 2, 3, 4]),
    seed=st.integers(0, 9),
)
def test_random_triangles(ahead, m, n, steps, seed):
    """Also rows without a key, steps without a row, more queries than keys."""
    program = load_text(source(domain=f"k <= q + {ahead}").replace("where M <= N", "")).program("f")
    values = {"B": 1, "H": 1, "M": m, "N": n, "D": 2, "E": 2, "W": 1}
    same(program, stepped(program, steps), values, seed=seed, large=True)


@pytest.mark.parametrize("first", [0, 1, 65, 130, 500])
@pytest.mark.parametrize("m, n", [(1, 7), (65, 129), (300, 300)])
def test_first_keys_are_in_every_step(m, n, first):
    """Whether they end in the first step, in a later one, or behind the last key."""
    program = load_text(source(domain="k < W or k <= q + N - M")).program("f")
    same(program, stepped(program), {"B": 1, "H": 1, "M": m, "N": n, "D": 2, "E": 2, "W": first})


def test_a_prefix_that_only_data_bounds_takes_no_stairs():
    spec = source(domain="k <= q or k < prefix[b]", inputs=", prefix: i32[B]")
    assert isinstance(stairs(load_text(spec).program("f")), Refused)


def test_what_lies_above_the_stairs_is_not_computed():
    program = load_text(source(domain=CAUSAL)).program("f")
    bound = sizes.bind(program, {"B": 1, "H": 1, "M": 4096, "N": 4096, "D": 64, "E": 64, "W": 1}).values
    scores = [t for t in normalise(stepped(program)).tensors if t.name.startswith("S_dot")]
    assert len(scores) == 4
    assert sum(np.prod([sizes.evaluate(e, bound) for e in t.shape]) for t in scores) == 4096**2 * 5 / 8


def test_no_value_is_masked_that_some_query_sees():
    """Otherwise V would be copied once more by a kernel, for the sake of rows that the extents leave out."""
    module = load_text(source(domain=CAUSAL))
    plan = next(p for p in enumerate_plans(module.program("f"), "gaudi2") if "stairs" in p.label)
    assert [s.name for s in plan.stages if s.name.startswith("map")] == []


def test_a_nan_beyond_the_last_key_of_a_step_stays_there():
    program = load_text(source(domain=CAUSAL)).program("f")
    values = {"B": 1, "H": 1, "M": 300, "N": 300, "D": 2, "E": 2, "W": 1}
    arrays = inputs_of(program, values)
    arrays["V"][:, :, 200:] = np.nan
    out = run(stepped(program), arrays, {"W": 1})["O"]
    assert np.isfinite(out[:, :, :128]).all()
    assert np.isnan(out[:, :, 200:]).all()


def test_the_kernels_of_all_steps_share_their_lane():
    program = load_text(source(domain=CAUSAL)).program("f")
    labels = [p.label for p in enumerate_plans(program, "gaudi2")]
    assert labels == [
        "softmax along k",
        "softmax along q",
        "stairs of 4: softmax along j",
        "stairs of 4: softmax along i",
    ]


def test_prefill_overlaps_the_engines_and_one_query_takes_no_stairs():
    program = load_text(source(domain=CAUSAL)).program("f")
    values = {"B": 4, "H": 16, "M": 2048, "N": 2048, "D": 64, "E": 64, "W": 1}
    prefill = choose(program, "gaudi2", sizes.bind(program, values), cost=stage_cost)
    assert prefill.plan.label.startswith("stairs of 4")
    assert sum(isinstance(s, MmeStage) for s in prefill.plan.stages) == 8
    decode = choose(program, "gaudi2", sizes.bind(program, values | {"M": 1}), cost=stage_cost)
    assert "stairs" not in decode.plan.label


@pytest.mark.parametrize(
    "domain, why",
    [
        ("q - 3 < k <= q", "bounded on both sides"),
        ("k >= q", "no weights"),
        ("k <= q // 2", "no weights"),
        ("k % 2 == 0", "no weights"),
    ],
)
def test_refusals(domain, why):
    refused = stairs(load_text(source(domain=domain)).program("f"))
    assert isinstance(refused, Refused)
    assert why in refused.reason


WEIGHTS = """
op f(Q: f32[B, H, N, D], K: f32[B, H, N, D], V: f32[B, H, N, E]) -> O: f32[B, H, N, E]
{{
    S[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = {weights} where k <= q
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}}
"""


@pytest.mark.parametrize("n", [1, 65, 130, 300])
def test_weights_that_are_a_function_of_scores(n):
    """Without a softmax: a function of a score, of which no product can be taken first."""
    program = load_text(WEIGHTS.format(weights="sigmoid(S[b,h,q,k] - 1)")).program("f")
    same(program, stepped(program), {"B": 2, "H": 2, "N": n, "D": 2, "E": 2})


def test_scores_themselves_are_left_to_chunks():
    assert isinstance(stairs(load_text(WEIGHTS.format(weights="2 * S[b,h,q,k]")).program("f")), Refused)


UNBOUNDED = {
    "full": {"domain": "k < N"},
    "data": BANDS["documents"] | {"domain": "doc[b,q + N - M] == doc[b,k]"},
    "either": {"domain": "k <= q or k >= N - W"},
}


@pytest.mark.parametrize("name", ["causal", "prefix", "sink", *UNBOUNDED])
@pytest.mark.parametrize("m, n", [(1, 1), (7, 63), (129, 130), (300, 300)])
def test_many_steps_compute_what_the_text_says(name, m, n):
    program = load_text(source(**{**VARIANTS, **UNBOUNDED}[name])).program("f")
    made = rows(program, 5)
    assert isinstance(made, ir.Program), made
    values = {"B": 2, "H": 2, "G": 1, "M": m, "N": n, "D": 2, "E": 2, "W": 3}
    own = {*program.sizes, *(a.name for a in program.attributes)}
    same(program, made, {k: v for k, v in values.items() if k in own})
    assert load_text(text.program(made)).program("f") == made


@pytest.mark.parametrize("domain", [CAUSAL, "k < N"])
def test_what_hbm_cannot_hold_goes_in_many_steps(domain):
    """One after the other, so that the scores of one step are alive at a time; a pin keeps them."""
    program = load_text(source(domain=domain)).program("f")
    values = {"B": 1, "H": 2, "M": 2048, "N": 2048, "D": 8, "E": 8, "W": 1}
    binding = sizes.bind(program, {k: v for k, v in values.items() if k in {*program.sizes, "W"}})
    machine = MACHINES["gaudi2"]
    usual = choose(program, "gaudi2", binding)
    little = replace(machine, memory=replace(machine.memory, hbm_bytes=usual.price.peak // 4))
    chosen = choose(program, "gaudi2", binding, known={"gaudi2": little})
    assert "steps of" not in usual.plan.label
    assert chosen.plan.label.startswith("steps of") and chosen.price.fits
    pinned = load_text(source(domain=domain).rstrip().rstrip("}") + "    schedule { steps q 12; }\n}\n").program("f")
    assert {p.label.partition(":")[0] for p in enumerate_plans(pinned, "gaudi2")} == {"steps of 12"}
