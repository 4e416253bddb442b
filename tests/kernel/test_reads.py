"""Reads at computed places: blocks and their neighbours, tables of indices, quotients of the lane index. What only a
domain keeps inside its tensor may be anything outside: inputs are NaN or far off wherever nobody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernel.cases import softmax
from tests.kernel.device import compile_kernels, run
from tests.kernel.stages import stage_of
from tpcgen.host.api import HostLibrary, Session
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.lower import lower
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import evaluate

Array = NDArray[Any]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Reads:
    """`truth` takes inputs and sizes; `given` makes inputs that are not normally distributed."""

    name: str
    lane: str
    text: str
    truth: Callable[[Values, Values], Array]
    sizes: tuple[Mapping[str, int], ...]
    given: Callable[[np.random.Generator, Values], dict[str, Array]] = lambda rng, s: {}


def at(x: Array, *indices: Array) -> Array:
    """x[indices], 0 where an index is outside."""
    inside = np.broadcast_arrays(*[(i >= 0) & (i < n) for i, n in zip(indices, x.shape, strict=True)])
    safe = tuple(np.clip(i, 0, n - 1) for i, n in zip(indices, x.shape, strict=True))
    return np.where(np.logical_and.reduce(inside), x[safe], 0)


def grid(*extents: int) -> list[Array]:
    return [np.asarray(g) for g in np.ogrid[tuple(slice(n) for n in extents)]]


def _blocks(v: Values, s: Values) -> Array:
    b, n, j, d = grid(s["B"], (s["N"] + 15) // 16, 23, s["D"])
    return at(v["X"], b, 16 * n + j - s["c"], d)


def _merged(v: Values, s: Values) -> Array:
    b, q, d = grid(s["B"], s["N"], s["D"])
    return at(v["X"], b, q // 16, q % 16, d)


def _shifted(v: Values, s: Values) -> Array:
    b, k = grid(s["B"], s["N"])
    inside = (k >= s["off"]) & (k < s["N"] - 1)
    return np.where(inside, at(v["X"], b, k - s["off"]) * 2, at(v["X"], b, k) + 0 * k)


def _band(v: Values, s: Values) -> Array:
    n, i, j = grid(*v["S"].shape)
    q, k = 16 * n + i, 16 * n + j - (s["W"] - 1)
    mask = (q - s["W"] < k) & (k <= q) & (k >= 0) & (k < s["N"]) & (q < s["N"])
    return softmax(v["S"], mask)


BAND = """op band(S: f32[{axes}], N: int, W: int) -> P: f32[{axes}] where W >= 1, W <= L - 15 {{
    index n in 0 .. C
    index i in 0 .. 16
    index j in 0 .. L
    P[{at}] = softmax[j where 16 * n + i - W < 16 * n + j - (W - 1) and 16 * n + j - (W - 1) <= 16 * n + i
        and 0 <= 16 * n + j - (W - 1) and 16 * n + j - (W - 1) < N and 16 * n + i < N](S[{at}])
}}"""


def _band_i(v: Values, s: Values) -> Array:
    return _band({"S": v["S"].swapaxes(1, 2)}, s).swapaxes(1, 2)


def _halved(v: Values, s: Values) -> Array:
    q, k = grid(s["M"], s["N"])
    return softmax(v["S"], np.broadcast_to((k // 2 <= q) & (k % 3 != 1), v["S"].shape))


def _block_sparse(v: Values, s: Values) -> Array:
    q, k = grid(s["M"], s["N"])
    near = (k // s["T"] == q // 5) | (k // 64 < q // 64) & (k % s["T"] == 0)
    return softmax(v["S"], np.broadcast_to(near, v["S"].shape))


def _diagonal(v: Values, s: Values) -> Array:
    q, k = grid(s["M"], s["N"])
    return softmax(v["S"], np.broadcast_to(k // 12 == q // 12, v["S"].shape))


def _divided(v: Values, s: Values) -> Array:
    k = np.arange(s["N"])
    x, w = v["X"].astype(np.int64), s["w"]
    y = (x // 7) % 5 + k // w * 3 + (k - 40) % w + (k - 70) // 8 + (k - 3) % 16 + x // s["N"] % 11
    return y.astype(np.float64)


def _uniform(v: Values, s: Values) -> Array:
    b = np.arange(s["B"])
    factor = np.where(b >= 3, at(v["a"], b - 3), 1)
    return v["X"] * factor[:, None] + at(v["a"], s["B"] - 1 - b)[:, None]


def _rows(v: Values, s: Values) -> Array:
    _, k, d = grid(s["B"], s["N"], s["D"])
    where = v["at"][:, :, None] + 0 * d
    return np.where(k < v["len"][:, None, None], at(v["T"], where, d), 0)


def _rows_given(rng: np.random.Generator, s: Values) -> dict[str, Array]:
    length = rng.integers(0, s["N"] + 1, s["B"])
    index = rng.integers(0, s["V"], (s["B"], s["N"]))
    stale = rng.choice([-(2**31), 2**31 - 1, -1, s["V"]], index.shape)
    k = np.arange(s["N"])
    return {"len": length, "at": np.where(k < length[:, None], index, stale)}


def _scale(v: Values, s: Values) -> Array:
    good = np.arange(s["B"]) < s["B"] - 1
    factor = np.where(good, at(v["g"], v["at"]), 0)
    return np.where(good[:, None], v["X"] * factor[:, None], 0)


def _scale_given(rng: np.random.Generator, s: Values) -> dict[str, Array]:
    index = rng.integers(0, s["V"], s["B"])
    index[-1] = 2**31 - 1
    return {"at": index}


def _bias(v: Values, s: Values) -> Array:
    h, q, k = grid(s["H"], s["M"], s["N"])
    bucket = np.minimum(np.abs(k - q), s["V"] - 1)
    x = v["S"].astype(np.float64) + at(v["T"], h, bucket)
    return softmax(x, np.broadcast_to(k <= q, x.shape))


def _bucket(v: Values, s: Values) -> Array:
    h, k = grid(s["H"], s["N"])
    far = 4 + np.trunc(np.log(np.maximum(k, 1) / 4) * 2).astype(int)
    return at(v["T"], np.where(k < 4, k, np.minimum(far, s["V"] - 1)) + 0 * h, h)


def _window(v: Values, s: Values) -> Array:
    h, q, k = grid(s["H"], s["M"], s["N"])
    return at(v["T"], v["of"][q, k] + 0 * h, h + 0 * q * k)


def _swin(v: Values, s: Values) -> Array:
    h, q, k = grid(s["H"], s["N"], s["N"])
    y, x = q // s["X"] - k // s["X"] + s["Y"] - 1, q % s["X"] - k % s["X"] + s["X"] - 1
    return at(v["T"], h + 0 * y, y, x)


def _quotients(v: Values, s: Values) -> Array:
    h, k = grid(s["H"], s["N"])
    n, w = s["N"], s["w"]
    return at(v["T"], h, k // w) + 10 * at(v["T"], h, (n - 1 - k) // 16) + 100 * at(v["T"], h, (k - n) // -w)


CASES = (
    Reads(
        "bias_in_two_dimensions",
        "k",
        "op c(T: f32[H, 2 * Y - 1, 2 * X - 1], N: int, Y: int, X: int) -> B: f32[H, N, N] where Y >= 1, X >= 1 {"
        " index q in 0 .. N\n index k in 0 .. N"
        " B[h,q,k] = T[h, q // X - k // X + Y - 1, q % X - k % X + X - 1] }",
        _swin,
        tuple({"H": 3, "N": y * x, "Y": y, "X": x} for y, x in ((1, 1), (7, 5), (11, 13))),
    ),
    Reads(
        "blocks",
        "d",
        "op c(X: bf16[B, N, D], c: int) -> Y: bf16[B, (N + 15) // 16, 23, D] {"
        " index n in 0 .. (N + 15) // 16\n index j in 0 .. 23"
        " Y[b,n,j,d] = X[b, 16 * n + j - c, d] where 0 <= 16 * n + j - c and 16 * n + j - c < N }",
        _blocks,
        tuple({"B": 2, "N": n, "D": d, "c": c} for n, d, c in ((1, 1, 0), (63, 65, 7), (17, 129, -3), (33, 7, 100))),
    ),
    Reads(
        "merged",
        "d",
        "op c(X: f32[B, C, 16, D], N: int) -> Y: f32[B, N, D] where N <= C * 16 {"
        " Y[b,q,d] = X[b, q // 16, q % 16, d] }",
        _merged,
        tuple({"B": 2, "C": (n + 15) // 16, "N": n, "D": d} for n, d in ((1, 1), (63, 65), (17, 7), (32, 129))),
    ),
    Reads(
        "shifted",
        "k",
        "op c(X: f32[B, N], off: int) -> Y: f32[B, N] where off >= 0 {"
        " Y[b,k] = select(k >= off and k < N - 1, X[b, k - off] * 2, X[b,k]) }",
        _shifted,
        tuple({"B": 3, "N": n, "off": o} for n, o in ((1, 0), (63, 5), (129, 64), (65, 200))),
    ),
    Reads("band_j", "j", BAND.format(axes="C, 16, L", at="n,i,j"), _band, ()),
    Reads("band_i", "i", BAND.format(axes="C, L, 16", at="n,j,i"), _band_i, ()),
    *(
        Reads(
            f"halved_{lane}",
            lane,
            f"op c(S: f32[H, {axes}]) -> P: f32[H, {axes}] {{"
            f" P[h,{place}] = softmax[k where k // 2 <= q and k % 3 != 1](S[h,{place}]) }}",
            _halved if lane == "k" else lambda v, s: _halved({"S": v["S"].swapaxes(1, 2)}, s).swapaxes(1, 2),
            tuple({"H": 2, "M": m, "N": n} for m, n in ((1, 1), (7, 130), (65, 127), (129, 65))),
        )
        for lane, axes, place in (("k", "M, N", "q,k"), ("q", "N, M", "k,q"))
    ),
    Reads(
        "diagonal",
        "k",
        "op c(S: f32[M, N]) -> P: f32[M, N] { P[q,k] = softmax[k where k // 12 == q // 12](S[q,k]) }",
        _diagonal,
        tuple({"M": m, "N": n} for m, n in ((1, 1), (7, 130), (65, 127), (129, 65))),
    ),
    Reads(
        "block_sparse",
        "k",
        "op c(S: f32[M, N], T: int) -> P: f32[M, N] where T >= 1 {"
        " P[q,k] = softmax[k where k // T == q // 5 or k // 64 < q // 64 and k % T == 0](S[q,k]) }",
        _block_sparse,
        tuple({"M": m, "N": n, "T": t} for m, n, t in ((1, 1, 1), (7, 130, 3), (65, 296, 64), (129, 65, 7))),
    ),
    Reads(
        "divided",
        "k",
        "op c(X: i32[B, N], w: int) -> Y: f32[B, N] {"
        " Y[b,k] = (X[b,k] // 7) % 5 + k // w * 3 + (k - 40) % w + (k - 70) // 8 + (k - 3) % 16 + X[b,k] // N % 11 }",
        _divided,
        tuple({"B": 3, "N": n, "w": w} for n, w in ((1, 1), (63, 3), (129, -7), (296, 1000))),
        lambda rng, s: {
            "X": np.concatenate(
                [
                    rng.integers(-(2**31), 2**31, (2, s["N"])),
                    rng.choice([-(2**31), 2**31 - 1, 0, -1, 6, 7], (1, s["N"])),
                ]
            )
        },
    ),
    Reads(
        "uniform",
        "k",
        "op c(X: f32[B, N], a: f32[B]) -> Y: f32[B, N] {"
        " Y[b,k] = select(b >= 3, X[b,k] * a[b - 3], X[b,k]) + a[B - 1 - b] }",
        _uniform,
        tuple({"B": b, "N": n} for b, n in ((1, 1), (7, 65), (2, 129))),
    ),
    Reads(
        "rows_of_a_table",
        "d",
        "op c(T: bf16[V, D], at: i32[B, N], len: i32[B]) -> Y: bf16[B, N, D] {"
        " Y[b,k,d] = T[at[b,k], d] where k < len[b] }",
        _rows,
        tuple({"B": 3, "N": n, "D": d, "V": 5} for n, d in ((1, 1), (7, 65), (66, 129))),
        _rows_given,
    ),
    Reads(
        "scaled_by_a_table",
        "k",
        "op c(X: f32[B, N], g: f32[V], at: i32[B]) -> Y: f32[B, N] { Y[b,k] = X[b,k] * g[at[b]] where b < B - 1 }",
        _scale,
        tuple({"B": b, "N": n, "V": 3} for b, n in ((1, 1), (7, 65), (4, 129))),
        _scale_given,
    ),
    Reads(
        "bias_by_distance",
        "k",
        "op c(S: f32[H, M, N], T: bf16[H, V]) -> P: f32[H, M, N] {"
        " P[h,q,k] = softmax[k where k <= q](S[h,q,k] + T[h, min(abs(k - q), V - 1)]) }",
        _bias,
        tuple({"H": 2, "M": m, "N": n, "V": 9} for m, n in ((1, 1), (7, 65), (66, 129))),
    ),
    Reads(
        "bias_by_bucket",
        "k",
        "op c(T: f32[V, H], N: int) -> Y: f32[H, N] { index k in 0 .. N"
        " Y[h,k] = T[select(k < 4, k, min(4 + i32(log(max(k, 1) / 4.0) * 2), V - 1)), h] }",
        _bucket,
        tuple({"H": 3, "N": n, "V": 9} for n in (1, 65, 129)),
    ),
    Reads(
        "table_by_quotient",
        "k",
        "op c(T: f32[H, V], N: int, w: int, v: int) -> Y: f32[H, N] { index k in 0 .. N"
        " Y[h,k] = T[h, k // w] + 10 * T[h, (N - 1 - k) // 16] + 100 * T[h, (k - N) // v] }",
        _quotients,
        tuple(
            {"H": 3, "N": n, "V": cells, "w": w, "v": -w}
            for n, cells, w in ((1, 2, 1), (129, 130, 1), (296, 100, 3), (296, 6, 64), (127, 3, 100), (65, 2, 1000))
        ),
    ),
    Reads(
        "bias_by_table",
        "k",
        "op c(T: f32[V, H], of: i32[M, N]) -> Y: f32[H, M, N] { Y[h,q,k] = T[of[q,k], h] }",
        _window,
        tuple({"H": 3, "M": m, "N": n, "V": 13} for m, n in ((1, 1), (5, 65), (7, 129))),
        lambda rng, s: {"of": rng.integers(0, s["V"], (s["M"], s["N"]))},
    ),
)
BANDS = tuple(
    {"C": (n + 15) // 16, "L": 15 + w, "N": n, "W": w} for n, w in ((1, 1), (63, 9), (33, 17), (16, 65), (49, 130))
)
ALL = [(c, s) for c in CASES for s in (c.sizes or BANDS)]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


@pytest.fixture(scope="module")
def kernels() -> dict[str, Kernel]:
    return {c.name: lower(stage_of(c.text, c.lane), target="gaudi2", name=c.name) for c in CASES}


@pytest.fixture(scope="module")
def library(kernels: dict[str, Kernel], tmp_path_factory: pytest.TempPathFactory) -> HostLibrary:
    return compile_kernels(list(kernels.values()), "gaudi2", tmp_path_factory.mktemp("reads"))


def draw(case: Reads, kernel: Kernel, values: Values) -> dict[str, Array]:
    rng = np.random.default_rng(len(case.name))
    given = case.given(rng, values)
    result: dict[str, Array] = {}
    for t in kernel.tensors:
        if not t.is_output:
            shape = tuple(int(evaluate(s, values)) for s in reversed(t.sizes))
            kind = {DType.BF16: ml_dtypes.bfloat16, DType.F32: np.float32, DType.I32: np.int32}[t.dtype]
            result[t.name] = (given[t.name] if t.name in given else rng.normal(size=shape)).astype(kind)
    return result


@pytest.mark.parametrize(("case", "values"), ALL, ids=[f"{c.name}-{'-'.join(map(str, s.values()))}" for c, s in ALL])
def test_against_numpy(
    case: Reads, values: Values, kernels: dict[str, Kernel], library: HostLibrary, session: Session
) -> None:
    kernel = kernels[case.name]
    inputs = draw(case, kernel, values)
    outputs, _ = run(session, library, kernel, inputs, values)
    exact = {n: a if a.dtype == np.int32 else a.astype(np.float64) for n, a in inputs.items()}
    truth = case.truth(exact, values)
    (output,) = outputs
    step = 2.0**-8 if kernel.tensor(output).dtype is DType.BF16 else 2.0**-20
    assert outputs[output].shape == truth.shape
    np.testing.assert_allclose(outputs[output], truth, rtol=0, atol=step * max(np.abs(truth).max(), 1e-30))
