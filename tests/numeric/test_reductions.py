"""Every reduction against NumPy or PyTorch, with and without domain and sink, over one index and several."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

RNG = np.random.default_rng(7)
SIZES = [(1, 1), (7, 63), (65, 7), (3, 129)]


def masked(x, n):
    """Rows of x with their first n[m] elements."""
    return [x[m, : n[m]].astype("f8") for m in range(len(x))]


def draw(m, n):
    x = RNG.standard_normal((m, n)).astype(np.float32)
    return x, RNG.integers(0, n + 2, m).astype(np.int32)


OVER_ROW = {
    "sum": lambda r: r.sum(),
    "max": lambda r: r.max(),
    "min": lambda r: r.min(),
    "logsumexp": lambda r: torch.logsumexp(torch.from_numpy(r), 0).item(),
}


@pytest.mark.parametrize("kind", OVER_ROW)
@pytest.mark.parametrize("m, n", SIZES)
@pytest.mark.parametrize("mode, tolerance", [("exact", 1e-13), ("device", 2e-6)])
def test_a_reduction_over_a_domain(evaluate, kind, m, n, mode, tolerance):
    x, lengths = draw(m, n)
    text = f"op t(x: f32[M, N], n: i32[M]) -> y: f32[M] {{ y[m] = default({kind}[k where k < n[m]](x[m,k]), -99) }}"
    y = evaluate(text, x=x, n=lengths, mode=mode)["y"]
    expected = [OVER_ROW[kind](r) if len(r) else -99 for r in masked(x, lengths)]
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", OVER_ROW)
def test_a_reduction_over_two_indices_jointly(evaluate, kind):
    x = RNG.standard_normal((3, 5, 4)).astype(np.float32)
    text = f"op t(x: f32[M, U, V]) -> y: f32[M] {{ y[m] = {kind}[u, v where u + v != m](x[m,u,v]) }}"
    y = evaluate(text, x=x)["y"]
    u, v = np.meshgrid(np.arange(5), np.arange(4), indexing="ij")
    np.testing.assert_allclose(y, [OVER_ROW[kind](x[m][u + v != m].astype("f8")) for m in range(3)], rtol=1e-13)


@pytest.mark.parametrize("m, n", SIZES)
@pytest.mark.parametrize("mode, tolerance", [("exact", 1e-13), ("device", 2e-6)])
def test_softmax_is_that_of_torch(evaluate, m, n, mode, tolerance):
    x, lengths = draw(m, n)
    text = "op t(x: f32[M, N], n: i32[M]) -> y: f32[M, N] { y[m,k] = softmax[k where k < n[m]](x[m,k]) }"
    expected = np.zeros((m, n))
    for i, row in enumerate(masked(x, lengths)):
        expected[i, : len(row)] = torch.softmax(torch.from_numpy(row), 0).numpy()
    y = evaluate(text, x=x, n=lengths, mode=mode)["y"]
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=1e-30)


def test_softmax_over_the_outer_axis_and_read_along_another_index(evaluate):
    x = RNG.standard_normal((6, 5)).astype(np.float32)
    text = """op t(x: f32[K, M]) -> y: f32[M, K] {
        P[k,m] = softmax[k](x[k,m])
        y[m,k] = P[K - 1 - k, m]
    }"""
    expected = torch.softmax(torch.from_numpy(x.astype("f8")), 0).numpy()[::-1].T
    np.testing.assert_allclose(evaluate(text, x=x)["y"], expected, rtol=1e-14)


def test_softmax_over_two_indices_jointly(evaluate):
    x = RNG.standard_normal((3, 5, 4)).astype(np.float32)
    text = "op t(x: f32[M, U, V]) -> y: f32[M, U, V] { y[m,u,v] = softmax[u, v where u >= v](x[m,u,v]) }"
    u, v = np.meshgrid(np.arange(5), np.arange(4), indexing="ij")
    expected = np.exp(x.astype("f8")) * (u >= v)
    expected /= expected.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(evaluate(text, x=x)["y"], expected, rtol=1e-14)


@pytest.mark.parametrize("mode, tolerance", [("exact", 1e-13), ("device", 2e-6)])
def test_a_sink_is_one_more_logit_of_the_denominator(evaluate, mode, tolerance):
    x, s = RNG.standard_normal((5, 7)).astype(np.float32), RNG.standard_normal(5).astype(np.float32)
    text = """op t(x: f32[M, N], s: f32[M]) -> y: f32[M, N], L: f32[M] {
        y[m,k] = softmax[k where k <= m sink s[m]](x[m,k])
        L[m] = logsumexp[k where k <= m sink s[m]](x[m,k])
    }"""
    found = evaluate(text, x=x, s=s, mode=mode)
    for m in range(5):
        logits = torch.from_numpy(np.append(x[m, : m + 1], s[m]).astype("f8"))
        expected = np.append(torch.softmax(logits, 0).numpy()[:-1], np.zeros(6 - m))
        np.testing.assert_allclose(found["y"][m], expected, rtol=tolerance)
        np.testing.assert_allclose(found["L"][m], torch.logsumexp(logits, 0).item(), rtol=tolerance)


@pytest.mark.parametrize("scale", [1e5, -1e5])
@pytest.mark.parametrize("mode", ["exact", "device"])
def test_logits_of_a_hundred_thousand_neither_overflow_nor_vanish(evaluate, scale, mode):
    x = np.array([[scale, scale, -scale], [scale, scale - 1, scale], [-scale] * 3], np.float32)
    text = "op t(x: f32[M, N]) -> y: f32[M, N], L: f32[M] { y[m,k] = softmax[k](x[m,k])  L[m] = logsumexp[k](x[m,k]) }"
    found = evaluate(text, x=x, mode=mode)
    rows = torch.from_numpy(x.astype("f8"))
    np.testing.assert_allclose(found["y"], torch.softmax(rows, 1).numpy(), rtol=1e-6)
    np.testing.assert_allclose(found["L"], torch.logsumexp(rows, 1).numpy(), rtol=1e-7)


@pytest.mark.parametrize("kind, of_numpy, none", [("any", np.any, False), ("all", np.all, True)])
def test_any_and_all(evaluate, kind, of_numpy, none):
    x, lengths = draw(9, 4)
    text = f"op t(x: f32[M, N], n: i32[M]) -> y: bool[M] {{ y[m] = {kind}[k where k < n[m]](x[m,k] > 0) }}"
    y = evaluate(text, x=x, n=lengths)["y"]
    np.testing.assert_array_equal(y, [of_numpy(r > 0) if len(r) else none for r in masked(x, lengths)])


def by_definition(row):
    return [sum(b > a or (b == a and j < i) for j, b in enumerate(row)) for i, a in enumerate(row)]


@pytest.mark.parametrize("m, n", SIZES)
def test_rank_counts_the_greater_and_the_equal_before(evaluate, m, n):
    x = RNG.integers(-3, 4, (m, n)).astype(np.float32)
    text = "op t(x: f32[M, N]) -> y: i32[M, N] { y[m,k] = rank[k where k != m](x[m,k]) }"
    y = evaluate(text, x=x)["y"]
    for i in range(m):
        kept = np.delete(np.arange(n), i) if i < n else np.arange(n)
        np.testing.assert_array_equal(y[i, kept], by_definition(x[i, kept]))


def test_rank_of_zeros_of_both_signs_and_of_integers(evaluate):
    x = np.array([[0.0, -0.0, 0.0, -1.0]], np.float32)
    text = "op t(x: {0}[M, N]) -> y: i32[M, N] {{ y[m,k] = rank[k](x[m,k]) }}"
    np.testing.assert_array_equal(evaluate(text.format("f32"), x=x)["y"], [[0, 1, 2, 3]])
    big = np.array([[2**31 - 1, 2**31 - 2, -(2**31), 2**31 - 1]], np.int32)
    np.testing.assert_array_equal(evaluate(text.format("i32"), x=big)["y"], [[0, 2, 3, 1]])


def test_rank_over_two_indices_breaks_ties_in_their_order(evaluate):
    x = np.array([[[1, 2], [2, 0]]], np.float32)
    text = "op t(x: f32[M, U, V]) -> y: i32[M, U, V] { y[m,u,v] = rank[u, v](x[m,u,v]) }"
    np.testing.assert_array_equal(evaluate(text, x=x)["y"], [[[2, 0], [1, 3]]])


def test_top_k_attention(evaluate):
    s, v = RNG.standard_normal((2, 7, 9)).astype("f4"), RNG.standard_normal((2, 9, 5)).astype("f4")
    text = """op t(s: f32[H, M, N], v: f32[H, N, E], T: int = 3) -> o: f32[H, M, E] {
        rk[h,q,k] = rank[k](s[h,q,k])
        P[h,q,k] = softmax[k where rk[h,q,k] < T](s[h,q,k])
        o[h,q,e] = sum[k](P[h,q,k] * v[h,k,e])
    }"""
    kept = np.full(s.shape, -np.inf)
    top = torch.topk(torch.from_numpy(s), 3, -1).indices.numpy()
    np.put_along_axis(kept, top, np.take_along_axis(s, top, -1), -1)
    expected = torch.softmax(torch.from_numpy(kept), -1).numpy() @ v.astype("f8")
    np.testing.assert_allclose(evaluate(text, s=s, v=v)["o"], expected, rtol=1e-13)


def test_integer_reductions_are_exact_and_wrap(evaluate):
    x = np.array([[2**30, 2**30, 2**30, 5], [1, -2, 3, -4]], np.int32)
    text = """op t(x: i32[M, N]) -> y: i32[M], z: i32[M], w: i32[M] {
        y[m] = sum[k](x[m,k])
        z[m] = max[k](x[m,k])
        w[m] = min[k where k > 0](x[m,k] * 1)
    }"""
    found = evaluate(text, x=x)
    np.testing.assert_array_equal(found["y"], [3 * 2**30 + 5 - 2**32, -2])
    np.testing.assert_array_equal(found["z"], [2**30, 3])
    np.testing.assert_array_equal(found["w"], [5, -4])


@pytest.mark.parametrize(
    "body, einsum",
    [
        ("sum[k](a[b,q,k] * c[b,k,e])", "bqk,bke->bqe"),
        ("sum[k](c[b,k,e] * a[b,q,k] * 1)", "bqk,bke->bqe"),
        ("sum[k](a[b,q,k] * c[b,k,e] * w[k])", "bqk,bke,k->bqe"),
        ("sum[k](a[b,q,k]) * sum[k](c[b,k,e])", "bqk,bje->bqe"),
        ("sum[k, j](a[b,q,k] * c[b,j,e] * w[j])", "bqk,bje,j->bqe"),
        ("sum[k, j](a[b,q,k] * c[b,j,e])", "bqk,bje->bqe"),
        ("sum[k](w[k] * w[k]) * a[b,q,0] * c[b,0,e]", "k,k,bq,be->bqe"),
        ("sum[k](2 * w[0] * a[b,q,0] * c[b,0,e])", None),
    ],
)
@pytest.mark.parametrize("sizes", [(2, 7, 9, 5), (1, 1, 1, 1), (1, 65, 1, 7), (3, 1, 63, 1)])
def test_sums_of_products(evaluate, body, einsum, sizes):
    b, q, k, e = sizes
    a, c = RNG.standard_normal((b, q, k)).astype("f4"), RNG.standard_normal((b, k, e)).astype("f4")
    w = RNG.standard_normal(k).astype("f4")
    text = f"""op t(a: f32[B, Q, K], c: f32[B, K, E], w: f32[K]) -> y: f32[B, Q, E] {{
        index k in 0 .. K
        index j in 0 .. K
        y[b,q,e] = {body}
    }}"""
    a8, c8, w8 = a.astype("f8"), c.astype("f8"), w.astype("f8")
    if einsum is None:
        expected = 2 * k * w8[0] * np.einsum("bq,be->bqe", a8[:, :, 0], c8[:, 0])
    elif einsum.startswith("k,k"):
        expected = np.einsum(einsum, w8, w8, a8[:, :, 0], c8[:, 0])
    else:
        expected = np.einsum(einsum, a8, c8, *([w8] if einsum.count(",") == 2 else []))
    np.testing.assert_allclose(evaluate(text, a=a, c=c, w=w)["y"], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("axes", list(itertools.permutations("bhqe")))
@pytest.mark.parametrize("domain", ["", " where k <= q"])
def test_a_contraction_into_any_order_of_axes(evaluate, axes, domain):
    p, v = RNG.standard_normal((2, 3, 5, 6)).astype("f4"), RNG.standard_normal((2, 3, 6, 4)).astype("f4")
    shape = ", ".join(a.upper() for a in axes)
    text = f"""op t(p: f32[B, H, Q, K], v: f32[B, H, K, E]) -> y: f32[{shape}] {{
        y[{",".join(axes)}] = sum[k{domain}](p[b,h,q,k] * v[b,h,k,e])
    }}"""
    weights = np.tril(p.astype("f8")) if domain else p.astype("f8")
    expected = np.einsum("bhqk,bhke->" + "".join(axes), weights, v.astype("f8"))
    np.testing.assert_allclose(evaluate(text, p=p, v=v)["y"], expected, rtol=1e-12)


def test_a_contraction_under_a_domain_and_with_partial_factors(evaluate):
    a, c = RNG.standard_normal((5, 6)).astype("f4"), RNG.standard_normal((6, 4)).astype("f4")
    text = """op t(a: f32[Q, K], c: f32[K, E]) -> y: f32[Q, E] {
        A[q,k] = a[q,k] where k != 2
        C[k,e] = c[k,e] where e != 1 or k > 3
        y[q,e] = default(sum[k where k < q](A[q,k] * C[k,e]), -99)
    }"""
    expected = np.full((5, 4), -99.0)
    for q in range(5):
        for e in range(4):
            ks = [k for k in range(6) if k < q and k != 2 and (e != 1 or k > 3)]
            if ks:
                expected[q, e] = sum(float(a[q, k]) * float(c[k, e]) for k in ks)
    np.testing.assert_allclose(evaluate(text, a=a, c=c)["y"], expected, rtol=1e-13)


def test_running_sums(evaluate):
    x = RNG.standard_normal((3, 65)).astype("f4")
    text = "op t(x: f32[B, N]) -> y: f32[B, N] { y[b,t] = sum[j where j <= t](x[b,j]) }"
    np.testing.assert_allclose(evaluate(text, x=x)["y"], np.cumsum(x.astype("f8"), 1), rtol=1e-12, atol=1e-13)


def test_device_mode_accumulates_contractions_in_float32(evaluate):
    a = np.full((1, 4096), 1.0, np.float32)
    a[0, 0] = 2.0**25
    text = "op t(a: f32[M, K], c: f32[K, E]) -> y: f32[M, E] { y[m,e] = sum[k](a[m,k] * c[k,e]) }"
    c = np.ones((4096, 1), np.float32)
    assert evaluate(text, a=a, c=c)["y"] == 2**25 + 4095
    y = evaluate(text, a=a, c=c, mode="device")["y"]
    assert y.dtype == np.float32 and y == pytest.approx(2**25 + 4095, rel=1e-4)


def test_a_contraction_rounds_its_unannotated_operand_to_its_partners_dtype(evaluate):
    """decisions.md 1: softmax weights meet bf16 values as bf16; the sum is f32."""
    import ml_dtypes

    x = RNG.standard_normal((4, 8)).astype("f4")
    v = RNG.standard_normal((8, 3)).astype(ml_dtypes.bfloat16)
    text = """op t(x: f32[M, N], v: bf16[N, E]) -> y: f32[M, E] {
        P[m,k] = softmax[k](x[m,k])
        y[m,e] = sum[k](P[m,k] * v[k,e])
    }"""
    p = torch.softmax(torch.from_numpy(x), -1)
    exact = p.double().numpy() @ v.astype("f8")
    rounded = p.bfloat16().float().numpy() @ v.astype("f4")
    np.testing.assert_allclose(evaluate(text, x=x, v=v)["y"], exact, rtol=1e-5)
    device = evaluate(text, x=x, v=v, mode="device")["y"]
    np.testing.assert_allclose(device, rounded, rtol=1e-6, atol=1e-7)
    assert np.abs(device - exact).max() > 1e-4
