"""Every variant from its definition in the papers, in float64: loops over queries and the keys each of them sees.

Nothing here comes from the language: masks are lists of positions, not domains, and recurrences step through time. A
reference takes the inputs as arrays and the attributes by name and returns the one output.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Reference = Callable[..., "Array | tuple[Array, ...]"]


def _wide(*arrays: Array) -> list[Array]:
    return [a.astype(np.float64) if a.dtype.kind not in "iub" else a.astype(np.int64) for a in arrays]


def _mean(logits: Array, values: Array, sink: float | None = None) -> Array:
    """Values [n, e] weighted by the softmax of logits [n]; 0 where there is none. A sink takes weight, adds nothing."""
    if not len(logits):
        return np.zeros(values.shape[1])
    top = logits.max() if sink is None else max(logits.max(), sink)
    weights = np.exp(logits - top)
    return weights @ values / (weights.sum() + (0.0 if sink is None else np.exp(sink - top)))


Seen = Callable[[int, int, int], Iterable[int]]
"""(batch, head, query) -> the keys it sees."""
Bend = Callable[[Array, int, int, int, Array], Array]
"""(dot products, batch, head, query, keys) -> logits."""


def _scaled(d: int) -> Bend:
    return lambda dots, b, h, i, keys: dots / np.sqrt(d)


def _attend(Q: Array, K: Array, V: Array, seen: Seen, bend: Bend | None = None, sink: Array | None = None) -> Array:
    """[B, H, M, D], [B, G, N, D], [B, G, N, E] -> [B, H, M, E]; query head h reads key head h / (H / G)."""
    Q, K, V = _wide(Q, K, V)
    batch, heads, rows, depth = Q.shape
    bend = bend or _scaled(depth)
    out = np.zeros((batch, heads, rows, V.shape[-1]))
    for b, h, i in np.ndindex(batch, heads, rows):
        g = h * K.shape[1] // heads
        keys = np.array(list(seen(b, h, i)), dtype=int)
        logits = bend(K[b, g, keys] @ Q[b, h, i], b, h, i, keys)
        out[b, h, i] = _mean(logits, V[b, g, keys], None if sink is None else float(sink[h]))
    return out


def _upto(last: int, n: int) -> range:
    """Keys 0 .. last, those that exist."""
    return range(max(0, min(last + 1, n)))


def _last_of(Q: Array, K: Array) -> Seen:
    m, n = Q.shape[-2], K.shape[-2]
    return lambda b, h, i: _upto(i + n - m, n)


def causal(Q: Array, K: Array, V: Array) -> Array:
    return _attend(Q, K, V, _last_of(Q, K))


def causal_from(Q: Array, K: Array, V: Array, start: int) -> Array:
    return _attend(Q, K, V, lambda b, h, i: _upto(i + start, K.shape[2]))


def window(Q: Array, K: Array, V: Array, W: int) -> Array:
    return _attend(Q, K, V, lambda b, h, i: range(max(0, i - W + 1), i + 1))


def window_around(Q: Array, K: Array, V: Array, left: int, right: int) -> Array:
    n = K.shape[2]
    return _attend(Q, K, V, lambda b, h, i: range(max(0, i - left), min(n, i + right + 1)))


def window_sink(Q: Array, K: Array, V: Array, snk: Array, W: int) -> Array:
    return _attend(Q, K, V, lambda b, h, i: range(max(0, i - W + 1), i + 1), sink=snk.astype(float))


def streaming(Q: Array, K: Array, V: Array, C: int, W: int) -> Array:
    return _attend(Q, K, V, lambda b, h, i: sorted({*range(min(C, i + 1)), *range(max(0, i - W + 1), i + 1)}))


def prefix(Q: Array, K: Array, V: Array, prefix: Array) -> Array:
    return _attend(Q, K, V, lambda b, h, i: range(max(i + 1, int(prefix[b]))))


def prefix_first(Q: Array, K: Array, V: Array, C: int) -> Array:
    return prefix(Q, K, V, np.full(len(K), min(C, K.shape[2])))


def document(Q: Array, K: Array, V: Array, doc: Array) -> Array:
    return _attend(Q, K, V, lambda b, h, i: [j for j in range(i + 1) if doc[b, i] == doc[b, j] and doc[b, i] >= 0])


def dilated(Q: Array, K: Array, V: Array, W: int, step: int) -> Array:
    return _attend(Q, K, V, lambda b, h, i: [i - r * step for r in range(W) if i - r * step >= 0])


def alibi(Q: Array, K: Array, V: Array, slope: Array) -> Array:
    m, n, d = Q.shape[2], K.shape[2], Q.shape[3]
    slopes = slope.astype(float)
    return _attend(
        Q, K, V, _last_of(Q, K), lambda dots, b, h, i, keys: dots / np.sqrt(d) - slopes[h] * (i + n - m - keys)
    )


def t5_bias(Q: Array, K: Array, V: Array, table: Array, bucket: Array) -> Array:
    """The table's row of each distance; how T5 fills the buckets is `t5_bucket`'s."""
    m, n = Q.shape[2], K.shape[2]
    weights = table.astype(float)

    def bend(dots: Array, b: int, h: int, i: int, keys: Array) -> Array:
        return dots + np.array([weights[bucket[(j - i) + (m - 1)], h] for j in keys])

    return _attend(Q, K, V, lambda b, h, i: range(n), bend)


def t5_bucket(distance: int, buckets: int = 32, furthest: int = 128) -> int:
    """Of k - q, both directions: half of the buckets for each; half of those exact, the others logarithmic."""
    half = buckets // 2
    offset, distance = (half, distance) if distance > 0 else (0, -distance)
    exact = half // 2
    if distance < exact:
        return offset + distance
    grown = exact + int(np.log(distance / exact) / np.log(furthest / exact) * (half - exact))
    return offset + min(grown, half - 1)


def _swin(Q: Array, K: Array, V: Array, table: Array, seen: Seen, Y: int, X: int) -> Array:
    """The bias by the published construction: a flat index of relative coordinates into [(2Y-1)(2X-1), H]."""
    flat = table.astype(float)
    coordinates = np.stack(np.meshgrid(np.arange(Y), np.arange(X), indexing="ij")).reshape(2, -1)
    relative = coordinates[:, :, None] - coordinates[:, None, :]
    index = (relative[0] + Y - 1) * (2 * X - 1) + relative[1] + X - 1
    d = Q.shape[3]
    return _attend(Q, K, V, seen, lambda dots, b, h, i, keys: dots / np.sqrt(d) + flat[index[i, keys], h])


def swin(Q: Array, K: Array, V: Array, table: Array, Y: int, X: int) -> Array:
    return _swin(Q, K, V, table, lambda b, h, i: range(K.shape[2]), Y, X)


def swin_shifted(Q: Array, K: Array, V: Array, table: Array, region: Array, Y: int, X: int) -> Array:
    def seen(b: int, h: int, i: int) -> Iterable[int]:
        own = region[b % len(region)]
        return np.nonzero(own == own[i])[0]

    return _swin(Q, K, V, table, seen, Y, X)


def softcap(Q: Array, K: Array, V: Array, cap: float) -> Array:
    d = Q.shape[3]
    return _attend(Q, K, V, _last_of(Q, K), lambda dots, b, h, i, keys: cap * np.tanh(dots / np.sqrt(d) / cap))


def qk_norm(Q: Array, K: Array, V: Array, gq: Array, gk: Array, eps: float) -> Array:
    def normed(x: Array, gain: Array) -> Array:
        x = x.astype(float)
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * gain.astype(float)

    return causal(normed(Q, gq), normed(K, gk), V)


def _turned(x: Array, c: Array, s: Array, pairs: list[tuple[int, int]]) -> Array:
    """Each pair of channels as a complex number times c + i s of its position."""
    x = x.astype(float)
    out = np.empty_like(x)
    for f, (re, im) in enumerate(pairs):
        turned = (x[..., re] + 1j * x[..., im]) * (c[:, f].astype(float) + 1j * s[:, f].astype(float))
        out[..., re], out[..., im] = turned.real, turned.imag
    return out


def _roped(Q: Array, K: Array, V: Array, c: Array, s: Array, pairs: list[tuple[int, int]]) -> Array:
    first = K.shape[2] - Q.shape[2]
    return causal(_turned(Q, c[first:], s[first:], pairs), _turned(K, c, s, pairs), V)


def rope(Q: Array, K: Array, V: Array, c: Array, s: Array) -> Array:
    half = Q.shape[3] // 2
    return _roped(Q, K, V, c, s, [(f, f + half) for f in range(half)])


def rope_pairs(Q: Array, K: Array, V: Array, c: Array, s: Array) -> Array:
    return _roped(Q, K, V, c, s, [(2 * f, 2 * f + 1) for f in range(Q.shape[3] // 2)])


def mqa(Q: Array, K: Array, V: Array) -> Array:
    return causal(Q, K[:, None], V[:, None])


def mla(Q: Array, Qr: Array, C: Array, Kr: Array, Wk: Array, Wv: Array) -> Array:
    """Full keys and values of every head: [content, rotated] of D + F channels."""
    Q, Qr, C, Kr, Wk, Wv = _wide(Q, Qr, C, Kr, Wk, Wv)
    heads = Q.shape[1]
    content = np.stack([C @ Wk[h].T for h in range(heads)], axis=1)
    shared = np.broadcast_to(Kr[:, None], (*content.shape[:3], Kr.shape[-1]))
    values = np.stack([C @ Wv[h].T for h in range(heads)], axis=1)
    return causal(np.concatenate([Q, Qr], -1), np.concatenate([content, shared], -1), values)


def decode(Q: Array, K: Array, V: Array, len: Array) -> Array:
    return _attend(Q[:, :, None], K, V, lambda b, h, i: range(int(len[b])))[:, :, 0]


def paged_decode(Q: Array, Kc: Array, Vc: Array, page: Array, len: Array) -> Array:
    """A sequence's pages laid end to end, as far as they are in use."""
    (batch, heads, _), size = Q.shape, Kc.shape[2]
    out = np.zeros((batch, heads, Vc.shape[3]))
    for b in range(batch):
        used = page[b, : -(-int(len[b]) // size)] if size else page[b, :0]
        keys = [Kc[p, :, r] for p in used for r in range(size)][: int(len[b])]
        values = [Vc[p, :, r] for p in used for r in range(size)][: int(len[b])]
        if keys:
            laid = np.stack(keys, 1)[None], np.stack(values, 1)[None]
            out[b] = decode(Q[b : b + 1], *laid, len[b : b + 1])[0]
    return out


def _segments(offsets: Array) -> list[slice]:
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(offsets)]


def varlen_cross(Q: Array, K: Array, V: Array, cq: Array, ck: Array) -> Array:
    """Each sequence by itself: [tokens, heads, channels] of it as a batch of one."""
    out = np.zeros((*Q.shape[:2], V.shape[2]))
    for rows, keys in zip(_segments(cq), _segments(ck), strict=True):
        own = (x.swapaxes(0, 1)[None] for x in (Q[rows], K[keys], V[keys]))
        out[rows] = causal(*own)[0].swapaxes(0, 1)
    return out


def varlen(Q: Array, K: Array, V: Array, cu: Array) -> Array:
    return varlen_cross(Q, K, V, cu, cu)


def block_sparse(Q: Array, K: Array, V: Array, layout: Array, BS: int) -> Array:
    return _attend(Q, K, V, lambda b, h, i: [j for j in range(i + 1) if layout[h, i // BS, j // BS]])


def block_sparse_few(Q: Array, K: Array, V: Array, layout: Array, most: int, BS: int) -> Array:
    kept = np.zeros_like(layout)
    for h, i in np.ndindex(*layout.shape[:2]):
        kept[h, i, np.flatnonzero(layout[h, i])[:most]] = 1
    return block_sparse(Q, K, V, kept, BS)


def block_list(Q: Array, K: Array, V: Array, list: Array, BS: int) -> Array:
    """A block that is listed twice counts twice."""

    def seen(b: int, h: int, i: int) -> Iterable[int]:
        listed = [block for block in list[h, i // BS].tolist() if block >= 0]
        return [j for block in listed for j in range(block * BS, (block + 1) * BS) if j <= i]

    return _attend(Q, K, V, seen)


def longformer(Q: Array, K: Array, V: Array, glob: Array, W: int) -> Array:
    n = K.shape[2]

    def seen(b: int, h: int, i: int) -> Iterable[int]:
        marked = set(np.nonzero(glob[b])[0].tolist())
        return range(n) if i in marked else sorted(marked | set(range(max(0, i - W), min(n, i + W + 1))))

    return _attend(Q, K, V, seen)


def longformer_first(Q: Array, K: Array, V: Array, G: int, W: int) -> Array:
    marked = np.broadcast_to(np.arange(K.shape[2]) < G, (len(K), K.shape[2]))
    return longformer(Q, K, V, marked, W)


def bigbird(Q: Array, K: Array, V: Array, rand: Array, BS: int) -> Array:
    blocks = K.shape[2] // BS

    def seen(b: int, h: int, i: int) -> Iterable[int]:
        own = i // BS
        wanted = {own - 1, own, own + 1, 0, blocks - 1, *rand[h, own].tolist()}
        if own in (0, blocks - 1):
            wanted = set(range(blocks))
        return [j for block in sorted(wanted & set(range(blocks))) for j in range(block * BS, (block + 1) * BS)]

    return _attend(Q, K, V, seen)


def sigmoid_attention(Q: Array, K: Array, V: Array) -> Array:
    Q, K, V = _wide(Q, K, V)
    seen, n = _last_of(Q, K), K.shape[2]
    out = np.zeros((*Q.shape[:3], V.shape[3]))
    for b, h, i in np.ndindex(*Q.shape[:3]):
        keys = np.array(seen(b, h, i), dtype=int)
        logits = K[b, h, keys] @ Q[b, h, i] / np.sqrt(Q.shape[3]) - np.log(n)
        out[b, h, i] = (0.5 * (1 + np.tanh(logits / 2))) @ V[b, h, keys]
    return out


def _linear(Fq: Array, Fk: Array, V: Array, eps: float = 0.0) -> Array:
    """The recurrence: a sum of outer products and a sum of features, updated before each query."""
    out = np.zeros((*Fq.shape[:3], V.shape[3]))
    for b, h in np.ndindex(*Fq.shape[:2]):
        state, norm = np.zeros((Fk.shape[3], V.shape[3])), np.zeros(Fk.shape[3])
        for t in range(Fq.shape[2]):
            state += np.outer(Fk[b, h, t], V[b, h, t])
            norm += Fk[b, h, t]
            out[b, h, t] = Fq[b, h, t] @ state / (Fq[b, h, t] @ norm + eps)
    return out


def linear(Q: Array, K: Array, V: Array) -> Array:
    Q, K, V = _wide(Q, K, V)
    features = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (Q, K))
    return _linear(*features, V, eps=1e-6)


def linear_relu(Q: Array, K: Array, V: Array) -> Array:
    Q, K, V = _wide(Q, K, V)
    return _linear(*(np.clip(x, 0, None) + 1e-3 for x in (Q, K)), V)


def linear_bidirectional(Q: Array, K: Array, V: Array) -> Array:
    Q, K, V = _wide(Q, K, V)
    out = np.zeros((*Q.shape[:3], V.shape[3]))
    features_q, features_k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (Q, K))
    for b, h, i in np.ndindex(*Q.shape[:3]):
        weights = features_k[b, h] @ features_q[b, h, i]
        out[b, h, i] = weights @ V[b, h] / (weights.sum() + 1e-6)
    return out


def performer(Q: Array, K: Array, V: Array, w: Array, eps: float) -> Array:
    """Softmax kernel features of the paper's published code: stabilised per query, and over all keys of a head."""
    Q, K, V, w = _wide(Q, K, V, w)
    scale = Q.shape[3] ** -0.25
    out_q, out_k = (np.einsum("bhnd,rd->bhnr", x * scale, w) for x in (Q, K))
    size_q, size_k = (np.square(x * scale).sum(-1, keepdims=True) / 2 for x in (Q, K))
    if not out_q.size:
        return np.zeros((*Q.shape[:3], V.shape[3]))
    features_q = np.exp(out_q - size_q - out_q.max(-1, keepdims=True)) + eps
    features_k = np.exp(out_k - size_k - out_k.max((-1, -2), keepdims=True)) + eps
    return _linear(features_q, features_k, V)


def _recurrence(Q: Array, K: Array, V: Array, decay: Array, scale: float) -> Array:
    """S = diag(decay_t) S + k_t v_t^T, o_t = scale q_t S; decay broadcasts to [B, H, N, D]."""
    Q, K, V, decay = _wide(Q, K, V, decay)
    decay = np.broadcast_to(decay, Q.shape)
    out = np.zeros((*Q.shape[:3], V.shape[3]))
    for b, h in np.ndindex(*Q.shape[:2]):
        state = np.zeros((Q.shape[3], V.shape[3]))
        for t in range(Q.shape[2]):
            state = decay[b, h, t][:, None] * state + np.outer(K[b, h, t], V[b, h, t])
            out[b, h, t] = scale * (Q[b, h, t] @ state)
    return out


def gated_linear_resumed(Q: Array, K: Array, V: Array, g: Array, S0: Array) -> tuple[Array, Array]:
    """From the gates' products: what is left of the first state, and of every pair, at each token and at the end."""
    Q, K, V, g, S0 = _wide(Q, K, V, g, S0)
    n = Q.shape[2]
    left = np.ones((*g.shape[:2], n + 1, n + 1))  # of token j at token i, both from 1; of the first state: 0
    for i in range(1, n + 1):
        left[:, :, i, :i] = left[:, :, i - 1, :i] * g[:, :, i - 1, None]
    seen = np.tril(left)[:, :, 1:, 1:]
    out = (np.einsum("bhid,bhjd->bhij", Q, K) * seen) @ V + left[:, :, 1:, :1] * (Q @ S0)
    last = left[:, :, -1, :1, None] * S0 + np.einsum("bhj,bhjd,bhje->bhde", left[:, :, -1, 1:], K, V)
    return out, last


def retnet(Q: Array, K: Array, V: Array, g: Array) -> Array:
    return _recurrence(Q, K, V, g[None, :, None, None], Q.shape[3] ** -0.5)


def retnet_parallel(Q: Array, K: Array, V: Array, g: Array) -> Array:
    """(Q K^T * Dmask) V of the paper, the mask a matrix of powers."""
    Q, K, V, g = _wide(Q, K, V, g)
    n = Q.shape[2]
    distance = np.arange(n)[:, None] - np.arange(n)[None]
    mask = np.where(distance >= 0, g[:, None, None] ** np.maximum(distance, 0), 0)
    return (np.einsum("bhid,bhjd->bhij", Q, K) * mask @ V) * Q.shape[3] ** -0.5


def gated_linear(Q: Array, K: Array, V: Array, g: Array) -> Array:
    return _recurrence(Q, K, V, g[..., None], 1.0)


def gla(Q: Array, K: Array, V: Array, a: Array) -> Array:
    return _recurrence(Q, K, V, a, Q.shape[3] ** -0.5)


def topk(Q: Array, K: Array, V: Array, kept: int) -> Array:
    """Row by row: the keys that a query sees, the greatest scores of them, a softmax of those."""
    Q, K, V = _wide(Q, K, V)
    m, n = Q.shape[2], K.shape[2]
    out = np.zeros((*Q.shape[:3], V.shape[3]))
    for b, h, q in np.ndindex(*Q.shape[:3]):
        scores = K[b, h, : max(q + n - m + 1, 0)] @ Q[b, h, q] * Q.shape[3] ** -0.5
        best = np.argsort(-scores, kind="stable")[:kept]
        weights = np.exp(scores[best] - scores[best].max(initial=-np.inf))
        out[b, h, q] = weights @ V[b, h, best] / max(weights.sum(), 1e-300)
    return out


def mamba1(x: Array, dt: Array, A: Array, Bs: Array, Cs: Array, Dx: Array) -> Array:
    """selective_scan of the paper: deltaA = exp(delta A), deltaB u = delta B u, step by step."""
    x, dt, A, Bs, Cs, Dx = _wide(x, dt, A, Bs, Cs, Dx)
    delta_a = np.exp(np.einsum("bnc,cr->bncr", dt, A))
    delta_bu = np.einsum("bnc,bnr,bnc->bncr", dt, Bs, x)
    state = np.zeros((x.shape[0], *A.shape))
    out = np.zeros_like(x)
    for t in range(x.shape[1]):
        state = delta_a[:, t] * state + delta_bu[:, t]
        out[:, t] = np.einsum("bcr,br->bc", state, Cs[:, t])
    return out + x * Dx


def mamba2(x: Array, dt: Array, A: Array, Bs: Array, Cs: Array, Dx: Array) -> Array:
    """The dual form of the paper: y = (L * C B^T) (dt x), L the decays between two tokens."""
    x, dt, A, Bs, Cs, Dx = _wide(x, dt, A, Bs, Cs, Dx)
    batch, n, heads, _ = x.shape
    out = x * Dx[:, None]
    for b, h in np.ndindex(batch, heads):
        g = h * Bs.shape[2] // heads
        logs = dt[b, :, h] * A[h]
        decays = np.array([[np.exp(logs[j + 1 : i + 1].sum()) if j <= i else 0.0 for j in range(n)] for i in range(n)])
        scores = Cs[b, :, g] @ Bs[b, :, g].T * decays.reshape(n, n)
        out[b, :, h] += scores @ (dt[b, :, h][:, None] * x[b, :, h])
    return out


def gformer(Q: Array, K: Array, V: Array, snk: Array, Hs: int, W: int) -> Array:
    parts = [(x[:, :Hs], x[:, Hs:]) for x in (Q, K, V)]
    windowed = window_sink(*(first for first, _ in parts), snk[:Hs], W)
    return np.concatenate([windowed, linear(*(rest for _, rest in parts))], axis=1)


def _layer(scale: float, cap: float | None) -> Bend:
    if cap is None:
        return lambda dots, b, h, i, keys: scale * dots
    return lambda dots, b, h, i, keys: cap * np.tanh(scale * dots / cap)


def hf_last(
    Q: Array, K: Array, V: Array, scale: float, cap: float | None = None, snk: Array | None = None, W: int = 1 << 30
) -> Array:
    """The layers whose queries are the last of the keys."""
    m, n = Q.shape[2], K.shape[2]
    seen: Seen = lambda b, h, i: range(max(0, i + n - m - W + 1), i + n - m + 1)  # noqa: E731
    return _attend(Q, K, V, seen, _layer(scale, cap), None if snk is None else snk.astype(float))


def hf_padded(
    Q: Array, K: Array, V: Array, first: Array, start: Array, length: Array, scale: float, W: int,
    cap: float | None = None, snk: Array | None = None,
) -> Array:  # fmt: skip
    """The layers whose queries stand at `start`."""

    def seen(b: int, h: int, i: int) -> range:
        at = i + int(start[b])
        return range(max(int(first[b]), at - W + 1), min(int(length[b]), at + 1))

    return _attend(Q, K, V, seen, _layer(scale, cap), None if snk is None else snk.astype(float))


def hf_full(Q: Array, K: Array, V: Array, scale: float) -> Array:
    return _attend(Q, K, V, lambda b, h, i: range(K.shape[2]), _layer(scale, None))


_LAST = ("hf_causal", "hf_window", "hf_causal_cap", "hf_window_cap", "hf_causal_sink", "hf_window_sink")
_PADDED = ("hf_padded", "hf_padded_cap", "hf_padded_sink")

REFERENCES: dict[str, Reference] = {
    f.__name__: f
    for f in (
        alibi, bigbird, block_list, block_sparse, block_sparse_few, causal, causal_from, decode, dilated, document,
        gated_linear, gated_linear_resumed, gformer, gla, hf_full, linear, linear_bidirectional, linear_relu,
        longformer, longformer_first,
        mamba1, mamba2, mla, mqa, paged_decode, performer, prefix, prefix_first, qk_norm, retnet, retnet_parallel, rope,
        rope_pairs, sigmoid_attention, softcap, streaming, swin, swin_shifted, t5_bias, topk, varlen, varlen_cross,
        window, window_around, window_sink,
    )
} | {"gqa": causal, "mla_absorbed": mla}  # fmt: skip
REFERENCES |= dict.fromkeys(_LAST, hf_last) | dict.fromkeys(_PADDED, hf_padded)
