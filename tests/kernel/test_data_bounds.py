"""Loops whose bounds are read from tensors: what they are priced at, and where data cannot lead them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernel.device import compile_kernels, run
from tests.kernel.stages import stage_of
from tpcgen.host.api import Session
from tpcgen.kernel.cycles import stage_cost
from tpcgen.kernel.lower import lower
from tpcgen.machine import machines
from tpcgen.partition.plan import TpcStage

GAUDI2 = machines()["gaudi2"]
_SOFTMAX = """
op padded(S: f32[B, H, M, N]{inputs}, W: int = 256) -> P: f32[B, H, M, N] where M <= N {{
    P[b,h,q,k] = softmax[k where {domain}](S[b,h,q,k])
}}
"""


def _stage(bounds: str, inputs: str = "") -> TpcStage:
    return stage_of(_SOFTMAX.format(inputs=inputs, domain=bounds), "k")


DATA = _stage(
    "first[b] <= k and k < length[b] and q + start[b] - W < k <= q + start[b]",
    ", first: i32[B], start: i32[B], length: i32[B]",
)
STATIC = _stage("q + N - M - W < k <= q + N - M")


@pytest.mark.parametrize(
    "values",
    [
        {"B": 8, "H": 32, "M": 1, "N": 4096, "W": 1 << 30},
        {"B": 8, "H": 32, "M": 1, "N": 4096, "W": 256},
        {"B": 2, "H": 4, "M": 512, "N": 512, "W": 1 << 30},
    ],
    ids=["decode", "decode in a window", "prefill"],
)
def test_bounds_from_data_cost_about_what_the_same_bounds_known_do(values: dict[str, int]) -> None:
    data, static = (stage_cost(stage, GAUDI2, values) for stage in (DATA, STATIC))
    assert static.bundles <= data.bundles <= 3 * static.bundles


@pytest.mark.parametrize("start", [-(10**9), -1, 0, 5, 129, 10**9])
def test_a_start_anywhere_ends_in_the_row(start: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    values = {"B": 1, "H": 1, "M": 3, "N": 129, "W": 7}
    kernel = lower(DATA, target="gaudi2", name="tpcgen_padded_softmax_fwd_f32")
    scores = np.random.default_rng(0).normal(size=(1, 1, 3, 129))
    inputs = {"S": scores, "first": [0], "start": [start], "length": [129]}
    with Session() as session:
        library = compile_kernels([kernel], "gaudi2", tmp_path_factory.mktemp("padded"))
        outputs, report = run(session, library, kernel, {n: np.asarray(x) for n, x in inputs.items()}, values)
    k, q = np.arange(129), np.arange(3)[:, None]
    seen = (k > q + start - 7) & (k <= q + start)
    weights = np.where(seen, np.exp(scores[0, 0]), 0)
    total = weights.sum(1, keepdims=True)
    np.testing.assert_allclose(outputs["P"][0, 0], weights / np.where(total > 0, total, 1), rtol=1e-5)
    assert report.dropped_writes <= 4 * 192  # a tile of four rows of three vectors
