"""Softmax over a union in parts: the same values as the text, whatever sizes and logits are, and never the square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.plan.test_band import SCORE, same, source
from tpcgen.compiler import Options, compile_stage
from tpcgen.diagnostics import DiagnosticError
from tpcgen.interpreter import run
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import ir, load, load_text, sizes
from tpcgen.program import print as text
from tpcgen.rewrite.band import band
from tpcgen.rewrite.merge_parts import merge_parts
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.vjp import differentiable_inputs, vjp

STD = Path(__file__).parents[2] / "std"
GLOBAL = "abs(q - k) <= W or k < G or q < G"
STREAMING = "k <= q + N - M and (k < G or q + N - M - W < k)"
ATTRIBUTE = ", W: int = 3, G: int = 2"
VARIANTS = {
    "global": {"domain": GLOBAL},
    "streaming": {"domain": STREAMING},
    "last": {"domain": "q - W < k < q + W or k >= N - G or M - G <= q"},
    "slabs": {"domain": "k < G or q < W"},
    "order": {"domain": "q < G or abs(q - k) <= W or k < 2"},
    "box": {"domain": "k < N - 1 and (q - W < k <= q or k < G)"},
    "sink": {"domain": GLOBAL, "inputs": ", snk: f32[H]", "sink": " sink snk[h]"},
    "alibi": {"domain": STREAMING, "inputs": ", slope: f32[H]", "score": SCORE + " + slope[h] * (k - q)"},
    "soft_cap": {"domain": GLOBAL, "score": "30 * tanh(" + SCORE + " / 30)"},
    "bias": {"domain": GLOBAL, "inputs": ", bias: f32[H, M, N]", "score": SCORE + " + bias[h,q,k]"},
    "lengths": {"domain": "k < 2 + doc[b,0] and (" + GLOBAL + ")", "inputs": ", doc: i32[B, N]"},
    "grouped": {"domain": GLOBAL, "heads": "L", "head": "h // (H // L)", "contract": ", H % L == 0"},
}


def program_of(domain=GLOBAL, contract=", W >= 0, G >= 0", **rest):
    written = source(domain=domain, contract=contract + rest.pop("contract", ""), **rest)
    return load_text(written.replace(", W: int = 3", ATTRIBUTE)).program("f")


def merged(program):
    made = merge_parts(program)
    assert isinstance(made, ir.Program), made
    return made


def forms(program):
    """In parts, and with the band of the parts in blocks, where there is one."""
    apart = merged(program)
    blocks = band(apart, 4)
    return [apart, *([blocks] if isinstance(blocks, ir.Program) else [])]


def values_of(program, m, n, w, g):
    values = {"B": 2, "H": 4, "L": 2, "M": m, "N": n, "D": 3, "E": 2, "W": w, "G": g}
    return {k: v for k, v in values.items() if k in {*program.sizes, "W", "G"}}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "m, n, w, g", [(1, 1, 1, 1), (7, 9, 3, 2), (9, 9, 20, 12), (16, 17, 1, 0), (5, 33, 4, 9), (13, 13, 0, 3)]
)
def test_parts_compute_what_the_text_says(name, m, n, w, g):
    program = program_of(**VARIANTS[name])
    made = forms(program)
    assert len(made) == (1 if name == "slabs" else 2)
    for form in made:
        same(program, form, values_of(program, m, n, w, g))
        same(program, form, values_of(program, m, n, w, g), large=True)
        assert load_text(text.program(form)).program("f") == form


GRADIENTS = [
    pytest.param(name, *at, marks=() if name in ("global", "sink", "lengths") and at[1] == 33 else pytest.mark.full)
    for name in VARIANTS
    for at in [(1, 1, 1, 1), (9, 9, 20, 12), (13, 13, 0, 3), (5, 33, 4, 9)]
]
"""In CI a few: each is made again for each of its sizes."""


@pytest.mark.parametrize("name, m, n, w, g", GRADIENTS)
def test_parts_of_a_gradient_compute_what_the_text_says(name, m, n, w, g):
    """That of a bias is an output over the whole square."""
    forward = program_of(**VARIANTS[name])
    program = vjp(forward, [x for x in differentiable_inputs(forward) if x != "bias"])
    made = forms(program)
    assert len(made) == (1 if name == "slabs" else 2)
    for form in made:
        same(program, form, values_of(program, m, n, w, g))
        assert load_text(text.program(form)).program("f_vjp") == form


def test_the_gradient_of_a_bias_is_a_square():
    refused = merge_parts(vjp(program_of(**VARIANTS["bias"]), ["Q", "bias"]))
    assert isinstance(refused, Refused) and refused.reason == "dbias is an output over the whole square"


@pytest.mark.parametrize("sink", ["", " sink snk[q]"])
def test_gradients_at_logits_of_every_kind(sink):
    """Where a part has no weight beside another, and where a row is nothing but -inf or has NaN."""
    n, g = 12, 2
    forward = scores_and_values(GLOBAL, sink)
    program = vjp(forward, ["V", *(["snk"] if sink else [])])
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((n, n))
    scores[4, :g], scores[5, g:], scores[3, :] = -np.inf, -np.inf, -np.inf
    scores[9, :g], scores[9, g:], scores[10, :g], scores[10, g:] = -1e5, 1e5, 1e5, -1e5
    for broken in (None, 6):
        if broken is not None:
            scores[broken, 0] = np.nan
        inputs = {"S": scores, "V": rng.standard_normal((n, 2)), "dO": rng.standard_normal((n, 2))}
        if sink:
            inputs["snk"] = np.linspace(-2, 2, n)
        with np.errstate(all="ignore"):
            expected = run(program, inputs, {"W": 2, "G": g})
            for form in forms(program):
                found = run(form, inputs, {"W": 2, "G": g})
                for name, value in expected.items():
                    np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9)
        assert np.isfinite(expected["dV"]).all() == (bool(sink) and broken is None)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.permutations(["q - {0} <= k <= q + {1}", "k < {2}", "q < {3}", "k >= N - {4}"]),
    number=st.integers(2, 4),
    bounds=st.lists(st.integers(-3, 9), min_size=5, max_size=5),
    m=st.integers(1, 12),
    n=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_random_unions(parts, number, bounds, m, n, seed):
    """Also parts without a point, rows whose one part is empty, and rows without a key."""
    assume(any("q" in p for p in parts[:number]))
    domain = " or ".join(parts[:number]).format(*bounds)
    program = load_text(source(domain=domain).replace("where M <= N", "")).program("f")
    for form in forms(program):
        values = {"B": 1, "H": 1, "M": m, "N": n, "D": 2, "E": 2, "W": 1}
        same(program, form, values, seed=seed, large=True)


def scores_and_values(domain, sink=""):
    return load_text(
        f"op f(S: f32[M, N], V: f32[N, E]{', snk: f32[M]' if sink else ''}, W: int = 3, G: int = 2) -> O: f32[M, E]\n"
        "    where W >= 0, G >= 0\n"
        f"{{\n    P[q,k] = softmax[k where {domain}{sink}](S[q,k])\n    O[q,e] = sum[k](P[q,k] * V[k,e])\n}}"
    ).program("f")


@pytest.mark.parametrize("sink", ["", " sink snk[q]"])
@pytest.mark.parametrize("mode", ["exact", "device"])
def test_logits_of_every_kind_in_one_part_or_all(mode, sink):
    """A part of nothing but -inf has no weight; a row of nothing else is NaN without a sink, as with NaN or inf."""
    n, w, g = 12, 2, 2
    program = scores_and_values(GLOBAL, sink)
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((n, n)).astype(np.float32)
    scores[0, :] = -np.inf
    scores[3, :] = -np.inf
    scores[4, :g] = -np.inf
    scores[5, g:] = -np.inf
    scores[6, 0], scores[7, 7], scores[8, 1] = np.nan, np.nan, np.inf
    scores[9, :g], scores[9, g:] = -1e5, 1e5
    scores[10, :g], scores[10, g:] = 1e5, -1e5
    inputs = {"S": scores, "V": rng.standard_normal((n, 2)).astype(np.float32)}
    if sink:
        inputs["snk"] = np.linspace(-2, 2, n).astype(np.float32)
    attributes = {"W": w, "G": g}
    wide = inputs if mode == "device" else {k: a.astype(np.float64) for k, a in inputs.items()}
    with np.errstate(all="ignore"):
        expected = run(program, wide, attributes)["O"]
        found = [run(form, wide, attributes, mode=mode)["O"] for form in forms(program)]
    assert np.isnan(expected).all(axis=1).tolist() == [q in (6, 7, 8) or (not sink and q in (0, 3)) for q in range(n)]
    for out in found:
        np.testing.assert_allclose(out, expected, rtol=1e-12 if mode == "exact" else 1e-5, atol=1e-6)


def test_what_no_part_visits_has_no_effect():
    program = scores_and_values("k <= q and (k < G or q - W < k)")
    rng = np.random.default_rng(5)
    visited = np.array([[k <= q and (k < 2 or q - 3 < k) for k in range(12)] for q in range(9)])
    scores, values = rng.standard_normal((9, 12)), rng.standard_normal((12, 2))
    inputs = {"S": np.where(visited, scores, np.nan), "V": np.where(visited.any(axis=0)[:, None], values, np.nan)}
    expected = run(program, inputs, {"W": 3, "G": 2})["O"]
    assert np.isfinite(expected).all() and np.isnan(inputs["V"]).any()
    for form in forms(program):
        np.testing.assert_allclose(run(form, inputs, {"W": 3, "G": 2})["O"], expected, rtol=1e-12)


@pytest.mark.parametrize("backward", [False, True])
def test_no_tensor_of_the_square_is_left(backward):
    program = program_of()
    if backward:
        program = vjp(program, differentiable_inputs(program))
    n, w, g = 131072, 1024, 64
    values = {"B": 1, "H": 1, "M": n, "N": n, "D": 64, "E": 64, "W": w, "G": g}
    normal = normalise(band(merged(program), 64))
    bound = sizes.bind(program, values).values
    elements = {
        t.name: int(np.prod([sizes.evaluate(e, bound) for e in t.shape]))
        for t in normal.tensors
        if t.role is ir.Role.INTERMEDIATE
    }
    assert elements["S_dot_1"] == n * g  # the first keys, of all queries
    assert elements["S_dot_2"] == (n - g) * g  # and the reverse, without those
    assert elements["S_dot_3_b"] == (n - g) * (2 * w + 64)
    assert max(elements.values()) == elements["S_dot_3_b"]


@pytest.mark.parametrize(
    "domain, why",
    [
        ("q - W < k <= q", "no softmax has a domain with `or`"),
        ("k <= q or k < G", "`k <= q` bounds neither q nor k nor, on both sides, k - q"),
        ("abs(q - k) <= W or (q + k) % 2 == 0", "`(q + k) % 2 == 0` bounds neither"),
        ("abs(q - k) <= W or q + W <= k <= q + 2 * W", "is a second band"),
        ("abs(q - k) <= W or 1 <= k < G", "leaves out is no one inequality"),
        ("k % 3 > 0 and (abs(q - k) <= W or k < G)", "which rows have a point is known at run time only"),
    ],
)
def test_refusals(domain, why):
    refused = merge_parts(program_of(domain=domain))
    assert isinstance(refused, Refused)
    assert why in refused.reason


READERS = {
    "alone": ("O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e]) + P[b,h,q,0]", "P is read by more than sums"),
    "greatest": ("O[b,h,q,e] = max[k](P[b,h,q,k] * V[b,h,k,e])", "P is read by more than sums"),
    "transposed": ("O[b,h,q,e] = sum[k](P[b,h,k,q] * V[b,h,k,e])", "`P[b, h, k, q]` is read beside its own point"),
}


@pytest.mark.parametrize("name", READERS)
def test_other_readers_of_the_weights_keep_them(name):
    line, why = READERS[name]
    refused = merge_parts(reading(line))
    assert isinstance(refused, Refused)
    assert why.replace("`", "") in refused.reason


@pytest.mark.parametrize(
    "line",
    [
        "O[b,h,q,e] = sum[k](P[b,h,q,k] * P[b,h,q,k]) + V[b,h,q,e]",
        "O[b,h,q,e] = sum[k where k < 3](P[b,h,q,k] * V[b,h,k,e])",
        "O[b,h,q,e] = V[b,h,q,e] / (1 + sum[k](P[b,h,q,k] * q * k))",
    ],
)
def test_other_sums_of_the_weights_are_those_of_the_parts(line):
    program = reading(line)
    for form in forms(program):
        for n, w, g in ((1, 1, 1), (9, 2, 3), (13, 0, 2)):
            same(program, form, {"B": 2, "H": 2, "N": n, "D": 3, "E": 2, "W": w, "G": g})


def reading(line):
    """A program that reads the weights by one line."""
    written = source(domain=GLOBAL).replace("W: int = 3", "W: int = 3, G: int = 2").replace("M", "N")
    return load_text(written.replace("O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])", line)).program("f")


def entries_of(schedule):
    spec = (STD / "sinks.dsl").read_text()
    head, tail = spec.split("op streaming", 1)
    pinned = f"{head}op streaming{tail}".replace("\n}\n\ncheck", f"\n    schedule {{ {schedule} }}\n}}\n\ncheck")
    return enumerate_plans(load_text(pinned).program("streaming", T="bf16"), "gaudi2")


def test_parts_are_pinned_like_tiles():
    assert {p.label.partition(":")[0] for p in entries_of("merge k parts; tile q 64;")} == {"merged parts, bands of 64"}
    assert {p.label.partition(":")[0] for p in entries_of("merge k parts; tile q whole;")} == {"merged parts"}
    assert not any("parts" in p.label for p in entries_of("merge k whole;"))
    with pytest.raises(DiagnosticError, match="merge takes parts or whole, not 64"):
        entries_of("merge k 64;")


@pytest.mark.parametrize(("file", "op"), [("longformer", "longformer_first"), ("sinks", "streaming")])
def test_long_inputs_go_in_parts_and_short_ones_stay_whole(file, op):
    program = load(str(STD / f"{file}.dsl")).program(op, T="bf16")
    own = {*program.sizes, *(a.name for a in program.attributes)}
    for n, apart in ((4096, True), (64, False)):
        values = {"B": 1, "H": 8, "N": n, "D": 64, "E": 64, "W": 128, "G": 16, "C": 4}
        bound = sizes.bind(program, {k: v for k, v in values.items() if k in own})
        assert choose(program, "gaudi2", bound).plan.label.startswith("merged parts, bands") == apart


def test_a_union_that_always_has_a_point_is_not_looked_for():
    """Otherwise a kernel would copy V, with a search over all queries for each row."""
    program = load(str(STD / "prefix.dsl")).program("prefix", T="bf16")
    reduced = {x.kind for s in normalise(program).body for x in ir.walk(s.value) if isinstance(x, ir.Reduce)}
    assert reduced == {"sum", "softmax"}
    assert not any(t.name.startswith("V_") for t in normalise(program).tensors)


def test_the_weights_of_a_part_are_computed_as_those_of_a_softmax():
    """One pass for the greatest logit of a row, no other for whether there is any, and exp of what is 0 at most."""
    program = load(str(STD / "sinks.dsl")).program("streaming", T="bf16")
    plan = next(p for p in enumerate_plans(program, "gaudi2") if p.label == "merged parts, bands of 64: max along q")
    stage = next(s for s in plan.stages if isinstance(s, TpcStage) and "P_2_b_r" in {t.name for t in s.program.outputs})
    _, written = compile_stage(stage, "streaming", "bf16", Options(target="gaudi2"))
    assert written.text.count("max over j") == 1
    assert "exp_scaled" in written.text and " exp_pair(" not in written.text
