"""The four softmax stages, along lanes and along rows, against NumPy: odd sizes, huge logits, NaN, infinities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.kernel.cases import softmax
from tests.kernel.device import Array, compile_kernels, run
from tests.kernel.stages import SOFTMAXES, softmax_stage
from tpcgen.host.api import HostLibrary, Session
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.lower import lower
from tpcgen.program.dtypes import DType

SIZES = (1, 7, 63, 64, 65, 127, 128, 129, 296)
# Half of all combinations, chosen so that every pair of choices occurs; the whole matrix is `pytest -m full`.
QUICK = {
    ("gaudi2", "causal", "k", "f32"),
    ("gaudi2", "causal", "q", "bf16"),
    ("gaudi2", "alibi", "k", "bf16"),
    ("gaudi2", "window", "q", "f32"),
    ("gaudi2", "window", "k", "bf16"),
    ("gaudi", "alibi", "q", "f32"),
    ("gaudi", "window", "k", "f32"),
    ("gaudi", "full", "k", "bf16"),
    ("gaudi", "causal", "q", "bf16"),
}
ALL = [(t, s, lane, o) for t in ("gaudi", "gaudi2") for s in SOFTMAXES for lane in "kq" for o in ("f32", "bf16")]
CHOICES = [pytest.param(c, id="-".join(c), marks=() if c in QUICK else pytest.mark.full) for c in ALL]
Built = tuple[Kernel, HostLibrary]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


@pytest.fixture(scope="module", params=CHOICES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Built]:
    target, spec, lane, out = request.param
    kernel = lower(softmax_stage(spec, lane, out), target=target, name=f"{spec}_{lane}_{out}")
    return spec, lane, (kernel, compile_kernels([kernel], target, tmp_path_factory.mktemp("softmax")))


SLOPE = np.array([0.5, 0.25], np.float32)
SINK = np.array([0.3, -1.0], np.float32)
D, W = 64, 50


def truth(spec: str, scores: Array) -> Array:
    m, n = scores.shape[-2:]
    q, k = np.arange(m)[:, None], np.arange(n)[None, :]
    x = np.float64(np.float32(1 / np.sqrt(D))) * scores.astype(np.float64)
    match spec:
        case "full":
            return softmax(x, np.ones((m, n), bool))
        case "causal":
            return softmax(x, k <= q + n - m)
        case "alibi":
            return softmax(x + SLOPE.astype(np.float64)[:, None, None] * (k - (q + n - m)), k <= q + n - m)
        case _:
            sink = np.broadcast_to(SINK.astype(np.float64)[None, :, None, None], (*x.shape[:-1], 1))
            mask = (q - W < k) & (k <= q)
            with_sink = softmax(np.concatenate([x, sink], -1), np.concatenate([mask, np.ones((m, 1), bool)], -1))
            return with_sink[..., :-1]


def weights(spec: str, lane: str, built: Built, session: Session, scores: Array) -> Array:
    kernel, library = built
    b, h, m, n = scores.shape
    stored = scores if lane == "k" else scores.swapaxes(-1, -2)
    inputs: dict[str, Array] = {"S": stored, "slope": SLOPE, "snk": SINK}
    outputs, _ = run(session, library, kernel, inputs, {"B": b, "H": h, "M": m, "N": n, "D": D, "W": W})
    return outputs["P"] if lane == "k" else outputs["P"].swapaxes(-1, -2)


def tolerance(built: Built) -> float:
    """Relative to a row's largest weight. f32: exp 2, sum and reciprocal 1 each, scaled argument: 8 x 2^-24; bf16: half
    an ulp of the store plus what the kernel's exp at bf16 precision adds, both of values above half the largest."""
    return 2.0**-8 * 1.05 if built[0].tensors[-1].dtype is DType.BF16 else 2.0**-20


def check(spec: str, actual: Array, scores: Array, allowed: float) -> None:
    expected = truth(spec, scores)
    largest = expected.max(-1, keepdims=True)
    assert np.isfinite(actual).all()
    assert (np.abs(actual - expected) <= allowed * np.maximum(largest, 1e-30)).all()
    assert (actual[expected == 0] == 0).all()


def sizes(spec: str) -> list[tuple[int, int]]:
    if spec == "window":
        return [(n, n) for n in SIZES]
    return [(m, n) for m, n in zip(SIZES, SIZES[1:] + SIZES[:1], strict=True) if m <= n] + [
        (65, 65),
        (3, 296),
        (1, 129),
    ]


def test_odd_sizes(built: tuple[str, str, Built], session: Session) -> None:
    spec, lane, made = built
    rng = np.random.default_rng(1)
    for m, n in sizes(spec):
        scores = (rng.normal(size=(1, 2, m, n)) * 30).astype(np.float32)
        check(spec, weights(spec, lane, made, session, scores), scores, tolerance(made))


def test_huge_logits(built: tuple[str, str, Built], session: Session) -> None:
    """Multiples of 2^13 up to 1e5 are exact after scaling by 1/8: their differences are huge or nothing."""
    spec, lane, made = built
    rng = np.random.default_rng(2)
    scores = (rng.integers(-12, 13, (1, 2, 65, 65)) * 2.0**13).astype(np.float32)
    check(spec, weights(spec, lane, made, session, scores), scores, tolerance(made))
    scores[..., 5] = 8e30
    scores[..., 3, :] = -8e30
    check(spec, weights(spec, lane, made, session, scores), scores, tolerance(made))


def test_nan_and_infinities(built: tuple[str, str, Built], session: Session) -> None:
    spec, lane, made = built
    rng = np.random.default_rng(3)
    m = n = 67
    scores = rng.normal(size=(1, 2, m, n)).astype(np.float32)
    scores[..., 40, 2] = np.nan  # visited by every mask that reaches back 38 keys
    scores[..., 41, 40] = np.inf
    scores[..., 42, 41] = -np.inf  # one absent weight, the row stays finite
    scores[..., 43, :] = -np.inf
    clean = scores.copy()
    clean[..., [40, 41, 43], :] = 0
    got = weights(spec, lane, made, session, scores)
    q, k = np.arange(m)[:, None], np.arange(n)[None, :]
    visited = {"full": k >= 0, "causal": k <= q, "alibi": k <= q, "window": (q - W < k) & (k <= q)}[spec]
    visited = np.broadcast_to(visited, (m, n))
    for row in (40, 41):
        assert np.isnan(got[..., row, :][..., visited[row]]).all()
        assert (got[..., row, :][..., ~visited[row]] == 0).all()
    if spec != "window":  # the sink is finite: there a row of -inf has weight 0 everywhere
        assert np.isnan(got[..., 43, :][..., visited[43]]).all()
    rest = [r for r in range(m) if r not in (40, 41, 43)]
    expected = truth(spec, clean)
    with np.errstate(invalid="ignore"):
        close = np.abs(got - expected) <= tolerance(made) * expected.max(-1, keepdims=True)
    assert close[..., rest, :].all()
    assert (got[..., 42, 41] == 0).all()


def test_unvisited_values_have_no_effect(built: tuple[str, str, Built], session: Session) -> None:
    spec, lane, made = built
    if spec == "full":
        pytest.skip("full attention visits everything")
    rng = np.random.default_rng(4)
    m = n = 130
    scores = rng.normal(size=(1, 2, m, n)).astype(np.float32)
    q, k = np.arange(m)[:, None], np.arange(n)[None, :]
    visited = (k <= q) & ((q - W < k) | (spec != "window"))
    poisoned: Any = np.where(visited, scores, np.float32(np.nan))
    assert (weights(spec, lane, made, session, poisoned) == weights(spec, lane, made, session, scores)).all()
