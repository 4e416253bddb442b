"""Every spec of language.md against attention written out in NumPy, and against PyTorch where PyTorch has it."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tpcgen.interpreter import run
from tpcgen.interpreter.compare import judge
from tpcgen.interpreter.inputs import draw, families
from tpcgen.program import load, sizes

EXAMPLES = Path(__file__).parents[2] / "examples"
BF16 = ml_dtypes.bfloat16
ODD = [(1, 1), (1, 63), (7, 7), (63, 65), (65, 129)]


def program(name, dtype="f32"):
    return load(EXAMPLES / f"{name}.dsl").program(name, T=dtype)


def normal(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def attention(scores, mask, values, sink=None):
    """Softmax of masked scores times values in float64; rows without a key give 0."""
    scores = np.where(mask, scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    if sink is not None:
        top = np.maximum(top, sink)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink - top))
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) @ values


def scores(q, k):
    return q.astype("f8") @ k.astype("f8").swapaxes(-1, -2) / np.sqrt(q.shape[-1])


def aligned(m, n):
    """Key minus the position of the query, queries being the last m of n."""
    return np.arange(n)[None] - (np.arange(m)[:, None] + n - m)


@pytest.mark.parametrize("m, n", ODD)
@pytest.mark.parametrize("d, e", [(64, 64), (80, 7)])
def test_causal_with_grouped_heads_is_that_of_torch(m, n, d, e):
    rng = np.random.default_rng(m + n)
    q, k, v = normal(rng, 2, 6, m, d), normal(rng, 2, 2, n, d), normal(rng, 2, 2, n, e)
    y = run(program("causal"), {"Q": q, "K": k, "V": v}, {})["O"]
    mask = torch.from_numpy(aligned(m, n) <= 0)
    q, k, v = (torch.from_numpy(x).double() for x in (q, k, v))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("m, n", [*ODD, (129, 63)])
def test_full_is_that_of_torch(m, n):
    rng = np.random.default_rng(m + n)
    q, k, v = normal(rng, 2, 3, m, 64), normal(rng, 2, 3, n, 64), normal(rng, 2, 3, n, 65)
    y = run(program("full"), {"Q": q, "K": k, "V": v}, {})["O"]
    expected = F.scaled_dot_product_attention(*(torch.from_numpy(x).double() for x in (q, k, v)))
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12, atol=1e-13)


def test_device_mode_rounds_weights_and_output_to_bf16():
    rng = np.random.default_rng(3)
    q, k, v = (normal(rng, 1, 2, 63, 64, dtype=BF16) for _ in range(3))
    y = run(program("full", "bf16"), {"Q": q, "K": k, "V": v}, {}, mode="device")["O"]
    assert y.dtype == BF16
    q, k, v = (torch.from_numpy(x.astype("f4")) for x in (q, k, v))
    weights = torch.softmax(q @ k.mT * 64**-0.5, -1)
    expected = (weights.bfloat16().float() @ v).bfloat16().float().numpy()
    ulp = 2.0 ** (np.floor(np.log2(np.abs(expected) + 1e-30)) - 7)
    assert (np.abs(y.astype("f4") - expected) <= ulp).all()
    unrounded = (weights @ v).bfloat16().float().numpy()
    assert np.mean(y.astype("f4") == expected) > 0.98 > np.mean(unrounded == expected)


@pytest.mark.parametrize("m, n", ODD)
def test_alibi(m, n):
    rng = np.random.default_rng(m)
    q, k, v = normal(rng, 2, 3, m, 64), normal(rng, 2, 3, n, 64), normal(rng, 2, 3, n, 7)
    slope = normal(rng, 3)
    y = run(program("alibi_causal"), {"Q": q, "K": k, "V": v, "slope": slope}, {})["O"]
    bias = slope.astype("f8")[:, None, None] * aligned(m, n)
    expected = attention(scores(q, k) + bias, aligned(m, n) <= 0, v.astype("f8"))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n, w", [(1, 1), (7, 3), (65, 64), (129, 16), (63, 256), (5, 1)])
def test_window_with_a_sink(n, w):
    rng = np.random.default_rng(n)
    q, k, v = (normal(rng, 2, 3, n, 64) for _ in range(3))
    sink = normal(rng, 3)
    y = run(program("window"), {"Q": q, "K": k, "V": v, "snk": sink}, {"W": w})["O"]
    mask = (aligned(n, n) <= 0) & (aligned(n, n) > -w)
    expected = attention(scores(q, k), mask, v.astype("f8"), sink.astype("f8")[:, None, None])
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
    if w == 0:
        assert not y.any()


def test_paged_decode_with_stale_pages_full_of_nan():
    rng = np.random.default_rng(5)
    b, h, g, d, e, blocks, size, cap = 4, 6, 2, 64, 7, 11, 16, 2.5
    q, kc, vc = normal(rng, b, h, d), normal(rng, blocks, g, size, d), normal(rng, blocks, g, size, e)
    length = np.array([0, 1, 17, 48], np.int32)
    page = np.array([[-1, 99, 7], [4, -5, 2**31 - 1], [9, 0, -(2**31)], [3, 10, 5]], np.int32)
    live = {(4, s) for s in range(1)} | {(9, s) for s in range(16)} | {(0, 0)}
    live |= {(p, s) for p in (3, 10, 5) for s in range(16)}
    stale = np.array([[(p, s) not in live for s in range(size)] for p in range(blocks)])
    clean = [np.where(stale[:, None, :, None], 0, x) for x in (kc, vc)]
    kc, vc = (np.where(stale[:, None, :, None], np.float32(np.nan), x) for x in (kc, vc))
    inputs = {"Q": q, "Kc": kc, "Vc": vc, "page": page, "len": length}
    y = run(program("paged_decode"), inputs, {"cap": cap}, check_values=True)["O"]
    for i in range(b):
        if length[i] == 0:
            assert not y[i].any()
            continue
        used = page[i, : -(-length[i] // size)]
        k, v = (np.concatenate([x[p] for p in used], 1)[:, : length[i]].astype("f8") for x in clean)
        k, v = (np.repeat(x, h // g, 0) for x in (k, v))
        s = cap * np.tanh(np.einsum("hd,hkd->hk", q[i].astype("f8"), k) / np.sqrt(d) / cap)
        p = torch.softmax(torch.from_numpy(s), -1).numpy()
        np.testing.assert_allclose(y[i], np.einsum("hk,hke->he", p, v), rtol=1e-12, atol=1e-13)


def linear_attention(q, k, v):
    q, k, v = (x.astype("f8") for x in (q, k, v))
    phi = [np.where(x > 0, x, np.expm1(np.minimum(x, 0))) + 1 for x in (q, k)]
    a = phi[0] @ phi[1].swapaxes(-1, -2) * (aligned(q.shape[2], k.shape[2]) <= 0)
    return a @ v / a.sum(-1, keepdims=True)


@pytest.mark.parametrize("n", [1, 7, 65])
def test_linear(n):
    rng = np.random.default_rng(n)
    q, k, v = normal(rng, 2, 3, n, 16), normal(rng, 2, 3, n, 16), normal(rng, 2, 3, n, 7)
    y = run(program("linear"), {"Q": q, "K": k, "V": v}, {})["O"]
    np.testing.assert_allclose(y, linear_attention(q, k, v), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", [1, 7, 65])
def test_gated_linear(n):
    rng = np.random.default_rng(n)
    q, k, v = normal(rng, 2, 3, n, 16), normal(rng, 2, 3, n, 16), normal(rng, 2, 3, n, 7)
    g = rng.uniform(0.5, 1, (2, 3, n)).astype(np.float32)
    y = run(program("gated_linear"), {"Q": q, "K": k, "V": v, "g": g}, {}, check_values=True)["O"]
    decay = np.cumsum(np.log(g.astype("f8")), -1)
    weight = np.exp(np.minimum(decay[..., :, None] - decay[..., None, :], 0)) * (aligned(n, n) <= 0)
    expected = (q.astype("f8") @ k.astype("f8").swapaxes(-1, -2) * weight) @ v.astype("f8")
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("windowed", [0, 2, 3])
def test_gformer(windowed):
    rng = np.random.default_rng(windowed)
    n, w = 33, 8
    q, k, v = normal(rng, 2, 3, n, 16), normal(rng, 2, 3, n, 16), normal(rng, 2, 3, n, 7)
    sink = normal(rng, 3)
    inputs = {"Q": q, "K": k, "V": v, "snk": sink}
    y = run(program("gformer"), inputs, {"W": w, "Hs": windowed})["O"]
    mask = (aligned(n, n) <= 0) & (aligned(n, n) > -w)
    near = attention(scores(q, k), mask, v.astype("f8"), sink.astype("f8")[:, None, None])
    expected = np.where(np.arange(3)[:, None, None] < windowed, near, linear_attention(q, k, v))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)


SMALL = {
    "causal": {"B": 1, "H": 4, "G": 2, "M": 33, "N": 65, "D": 64, "E": 64},
    "full": {"B": 1, "H": 2, "M": 65, "N": 63, "D": 80, "E": 64},
    "alibi_causal": {"B": 1, "H": 2, "M": 63, "N": 65, "D": 64, "E": 64},
    "window": {"B": 1, "H": 2, "N": 129, "D": 64, "E": 64, "W": 16},
    "linear": {"B": 1, "H": 2, "N": 65, "D": 64, "E": 64},
    "gated_linear": {"B": 1, "H": 2, "N": 65, "D": 64, "E": 64},
    "gformer": {"B": 1, "H": 4, "N": 65, "D": 64, "E": 64, "W": 16, "Hs": 2},
    "paged_decode": {"B": 3, "H": 4, "G": 2, "D": 64, "E": 64, "Nb": 9, "BS": 16, "Np": 4},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_device_mode_can_be_judged_on_every_family(name, dtype):
    """No family is so hard that honest arithmetic is inconclusive, and a wrong result is always seen."""
    of = program(name, dtype)
    binding = sizes.bind(of, SMALL[name])
    attributes = {a.name: binding.values[a.name] for a in of.attributes}
    for family in families(of):
        inputs = draw(of, binding, np.random.default_rng(11), family)
        truth = run(of, inputs, attributes, check_values=True)["O"]
        device = run(of, inputs, attributes, mode="device")["O"]
        verdict = judge(device, truth, device)
        assert verdict.passed, (family, verdict)
        wrong = device.copy()
        wrong[..., 0] = (wrong[..., 0].astype("f8") * 1.5 + 0.5).astype(wrong.dtype)
        assert not judge(wrong, truth, device).passed, family
