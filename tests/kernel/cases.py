"""Small stages of every kind that lowering knows, each with its mathematics in NumPy, float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """`truth` takes inputs and sizes by name. `positive`: inputs from (0.1, 2), not from a normal distribution."""

    name: str
    lane: str
    text: str
    truth: Callable[[Values, Values], dict[str, Array]]
    sizes: tuple[Mapping[str, Any], ...]
    positive: tuple[str, ...] = ()
    integers: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def softmax(x: Array, mask: Array, axis: int = -1) -> Array:
    x = np.where(mask, x, -np.inf)
    m = np.max(x, axis, keepdims=True)
    e = np.where(mask, np.exp(x - np.where(np.isfinite(m), m, 0)), 0)
    z = e.sum(axis, keepdims=True)
    return np.where(mask, e / np.where(z == 0, 1, z), 0)


def _rms(v: Values, s: Values) -> dict[str, Array]:
    return {"Y": v["X"] / np.sqrt((v["X"] ** 2).mean(-1, keepdims=True) + 0.5) * v["w"]}


def _gqa(v: Values, s: Values) -> dict[str, Array]:
    return {"Y": np.repeat(v["X"], s["H"] // s["G"], 1) * v["s"][:, None, None]}


def _statistics(v: Values, s: Values) -> dict[str, Array]:
    mask = np.arange(s["N"])[None, :] < np.arange(s["M"])[:, None] * 2
    p = softmax(v["S"], np.broadcast_to(mask, v["S"].shape))
    x = np.where(mask, v["S"], -np.inf)
    with np.errstate(divide="ignore"):
        m = np.max(x, -1, keepdims=True)
        m = np.where(np.isfinite(m), m, 0)
        lse = np.log(np.where(mask, np.exp(x - m), 0).sum(-1)) + m[..., 0]
    return {"P": p, "L": np.where(np.isfinite(lse), lse, 0)}


def _decode(v: Values, s: Values) -> dict[str, Array]:
    mask = np.arange(s["N"]) < v["len"][:, None, None]
    return {"P": softmax(v["S"], np.broadcast_to(mask, v["S"].shape))}


def _one_length(v: Values, s: Values) -> dict[str, Array]:
    return {"P": softmax(v["S"], np.broadcast_to(np.arange(s["N"]) < v["len"][-1], v["S"].shape))}


def _partial(v: Values, s: Values) -> dict[str, Array]:
    q, k = np.arange(s["M"])[:, None], np.arange(s["N"])[None, :]
    return {"Y": softmax(v["A"], k <= q) + softmax(v["B"], k >= q + 2)}


def _extremes(v: Values, s: Values) -> dict[str, Array]:
    k = np.arange(s["N"])
    return {"Y": v["S"].max(-1) - np.where(k >= 2, v["S"], np.inf).min(-1)}


def _chosen(v: Values, s: Values) -> dict[str, Array]:
    kept = (v["ok"] > 2) & (np.arange(s["N"]) - v["ok"] >= 0)
    return {"Y": np.where(kept, v["X"] * v["ok"], 0)}


CASES = (
    Case(
        "length_of_all_rows",
        "k",
        "op c(S: f32[B, N], len: i32[B]) -> P: f32[B, N] { P[b,k] = softmax[k where k < len[B - 1]](S[b,k]) }",
        _one_length,
        tuple({"B": b, "N": n} for b, n in ((1, 1), (5, 65), (4, 129))),
        integers={"len": (0, 1)},
    ),
    Case(
        "integers_along_lanes",
        "k",
        "op c(X: f32[B, N], ok: i32[B, N]) -> Y: f32[B, N]"
        " { Y[b,k] = X[b,k] * ok[b,k] where ok[b,k] > 2 and k - ok[b,k] >= 0 }",
        _chosen,
        tuple({"B": 3, "N": n} for n in (1, 63, 64, 129)),
        integers={"ok": (0, 9)},
    ),
    Case(
        "rmsnorm_f32",
        "d",
        "op rms(X: f32[B, N, D], w: f32[D]) -> Y: f32[B, N, D] {"
        " Y[b,n,d] = X[b,n,d] * rsqrt(sum[d](X[b,n,d] * X[b,n,d]) / D + 0.5) * w[d] }",
        _rms,
        tuple({"B": 2, "N": n, "D": d} for n, d in ((1, 1), (5, 63), (7, 64), (3, 129))),
    ),
    Case(
        "rmsnorm_bf16",
        "d",
        "op rms(X: bf16[B, N, D], w: bf16[D]) -> Y: bf16[B, N, D] {"
        " Y[b,n,d] = X[b,n,d] * rsqrt(sum[d](X[b,n,d] * X[b,n,d]) / D + 0.5) * w[d] }",
        _rms,
        tuple({"B": 2, "N": n, "D": d} for n, d in ((1, 1), (5, 127), (6, 128), (3, 296))),
    ),
    Case(
        "divide",
        "e",
        "op divide(A: f32[B, N, E], L: f32[B, N]) -> O: f32[B, N, E] { O[b,n,e] = A[b,n,e] / L[b,n] }",
        lambda v, s: {"O": v["A"] / v["L"][..., None]},
        tuple({"B": 2, "N": n, "E": e} for n, e in ((1, 1), (7, 65), (9, 128))),
        positive=("L",),
    ),
    Case(
        "gqa_bf16",
        "d",
        "op gqa(X: bf16[B, G, N, D], s: f32[H]) -> Y: bf16[B, H, N, D] where H % G == 0 {"
        " let R = H // G  Y[b,h,n,d] = X[b, h // R, n, d] * s[h] }",
        _gqa,
        tuple({"B": 1, "G": 2, "H": 6, "N": n, "D": d} for n, d in ((1, 1), (5, 130))),
    ),
    Case(
        "statistics",
        "k",
        "op statistics(S: f32[H, M, N]) -> P: f32[H, M, N], L: f32[H, M] {"
        " P[h,q,k] = softmax[k where k < 2 * q](S[h,q,k])  L[h,q] = logsumexp[k where k < 2 * q](S[h,q,k]) }",
        _statistics,
        tuple({"H": 2, "M": m, "N": n} for m, n in ((1, 1), (7, 63), (66, 129))),
    ),
    Case(
        "softcap",
        "k",
        "op softcap(S: f32[H, M, N], cap: f32 = 5) -> P: f32[H, M, N] {"
        " P[h,q,k] = softmax[k where k <= q](cap * tanh(S[h,q,k] / cap)) }",
        lambda v, s: {
            "P": softmax(
                s["cap"] * np.tanh(v["S"] / s["cap"]), np.tri(s["M"], s["N"], dtype=bool)[None] & (v["S"] > -1e9)
            )
        },
        tuple({"H": 1, "M": m, "N": n, "cap": 5.0} for m, n in ((1, 1), (65, 66))),
    ),
    Case(
        "decode",
        "k",
        "op decode(S: f32[B, H, N], len: i32[B]) -> P: f32[B, H, N] {"
        " P[b,h,k] = softmax[k where k < len[b]](S[b,h,k]) }",
        _decode,
        tuple({"B": 3, "H": h, "N": n} for h, n in ((1, 1), (5, 65), (4, 128))),
        integers={"len": (0, 1)},
    ),
    Case(
        "partial_sum",
        "k",
        "op partial(A: f32[M, N], B: f32[M, N]) -> Y: f32[M, N] {"
        " Y[q,k] = softmax[k where k <= q](A[q,k]) + softmax[k where k >= q + 2](B[q,k]) }",
        _partial,
        tuple({"M": m, "N": n} for m, n in ((1, 1), (9, 65))),
    ),
    Case(
        "extremes",
        "k",
        "op extremes(S: f32[H, M, N]) -> Y: f32[H, M] { Y[h,q] = max[k](S[h,q,k]) - min[k where k >= 2](S[h,q,k]) }",
        _extremes,
        tuple({"H": 2, "M": m, "N": n} for m, n in ((1, 3), (7, 129))),
    ),
    Case(
        "columns",
        "q",
        "op columns(S: f32[H, N, M]) -> Y: f32[H, M] { Y[h,q] = sum[k where k <= q](S[h,k,q]) }",
        lambda v, s: {"Y": np.where(np.arange(s["N"])[:, None] <= np.arange(s["M"]), v["S"], 0).sum(1)},
        tuple({"H": 2, "M": m, "N": n} for m, n in ((1, 1), (65, 7), (63, 130))),
    ),
    Case(
        "values",
        "e",
        "op values(P: f32[H, M, N], V: f32[H, N, E]) -> O: f32[H, M, E] { O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e]) }",
        lambda v, s: {"O": v["P"] @ v["V"]},
        tuple({"H": 2, "M": m, "N": n, "E": e} for m, n, e in ((1, 1, 1), (3, 7, 65))),
    ),
    Case(
        "joint",
        "v",
        "op joint(X: f32[B, U, V]) -> Y: f32[B, U, V] { Y[b,u,v] = softmax[u, v where v <= u + 1](X[b,u,v]) }",
        lambda v, s: {
            "Y": softmax(
                v["X"].reshape(s["B"], -1),
                np.broadcast_to(
                    (np.arange(s["V"]) <= np.arange(s["U"])[:, None] + 1).reshape(1, -1), (s["B"], s["U"] * s["V"])
                ),
            ).reshape(v["X"].shape)
        },
        tuple({"B": 2, "U": u, "V": w} for u, w in ((1, 1), (5, 66))),
    ),
    Case(
        "choice",
        "d",
        "op choice(X: f32[N, D], t: f32[N]) -> Y: f32[N, D] {"
        " Y[n,d] = select(X[n,d] > t[n] and d != 3, exp(X[n,d]), clamp(X[n,d], -1, 0.5)) + d - 2 * n }",
        lambda v, s: {
            "Y": np.where(
                (v["X"] > v["t"][:, None]) & (np.arange(s["D"]) != 3), np.exp(v["X"]), np.clip(v["X"], -1, 0.5)
            )
            + np.arange(s["D"])
            - 2 * np.arange(s["N"])[:, None]
        },
        tuple({"N": n, "D": d} for n, d in ((1, 1), (6, 65))),
    ),
)
