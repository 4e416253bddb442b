"""Softmax of scores that a contract bounds: exponentials without a guard, or with that of bf16, at the ends of what is
promised and around the distance from the maximum where exp ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.device.harness import TARGETS, Built, build, failures, judged
from tests.kernel.stages import stage_of
from tpcgen.host.api import Session
from tpcgen.kernel.lower import lower
from tpcgen.kernel.tpc_c import render
from tpcgen.program import load_text

TEXT = """
op bounded(X: {dtype}[M, N], logit: f32[N]) -> Y: {dtype}[M, N]
    where -{most} <= X[m,n] <= {most}
{{
    Y[m,n] = softmax[m{domain}](X[m,n])
    schedule {{ lane Y {lane}; }}
}}
"""
GUARD, RAISED = "f32_sel_less_f32_b", "bf16_sel_less_bf16_b"
CASES = {
    "raised": ("bf16", 3904, "", "n"),
    "raised_masked": ("bf16", 1000, " where m <= n", "n"),
    "raised_lanes": ("bf16", 1000, "", "m"),
    "in_reach": ("bf16", 44, "", "n"),
    "in_reach_masked": ("f32", 44, " where m <= n", "n"),
    "too_far": ("bf16", 4096, "", "n"),
    "f32": ("f32", 1000, "", "n"),
    "sink": ("bf16", 1000, " sink logit[n]", "n"),
}  # fmt: skip


def text(name: str) -> str:
    dtype, most, domain, lane = CASES[name]
    swapped = TEXT if lane == "n" else TEXT.replace("[M, N]", "[N, M]").replace("[m,n]", "[n,m]")
    return swapped.format(dtype=dtype, most=most, domain=domain, lane=lane)


@pytest.mark.parametrize("name", CASES)
def test_the_guard_is_what_the_bound_allows(name: str) -> None:
    written = render(lower(stage_of(text(name), CASES[name][3]), target="gaudi2", name="bounded"))
    assert (RAISED in written) == name.startswith("raised")
    guarded = written.count(GUARD) > (name == "sink")
    assert guarded == (name in ("too_far", "f32", "sink"))


def test_a_bound_of_some_rows_bounds_no_others() -> None:
    some = (
        text("in_reach")
        .replace("X[m,n] <= 44", "X[p,n] <= 44")
        .replace("{\n    Y", "{\n    index p in 0 .. 2\n    Y", 1)
    )
    some = some.replace("-44 <=", "M >= 2, -44 <=")
    assert GUARD in render(lower(stage_of(some, "n"), target="gaudi2", name="bounded"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Built]]]:
    programs = {name: load_text(text(name)).program("bounded") for name in CASES}
    with Session() as session:
        yield build(programs, tmp_path_factory.mktemp("bounded"), session)


def scores(most: float, m: int, n: int, dtype: str) -> NDArray[Any]:
    """Of each column one at the maximum, others at every distance, more of them around 88, down to the other end."""
    rng = np.random.default_rng(m * n)
    greatest = rng.choice([most, 0.0, -most, most / 2, 1.0], (1, n))
    below = rng.choice([0.0, 1.0, 71, 72, 73, 79, 80, 84, 86, 87, 87.5, 88, 88.5, 89, 96, 128, 200, 2 * most], (m, n))
    x = np.clip(greatest - below, -most, most)
    x[rng.integers(0, m, n), np.arange(n)] = greatest
    return x.astype(ml_dtypes.bfloat16 if dtype == "bf16" else np.float32)


@pytest.mark.parametrize("name", CASES)
def test_weights_at_the_ends_of_what_is_promised(name: str, built: dict[str, list[Built]]) -> None:
    assert {b.target for b in built[name]} == set(TARGETS)
    dtype, most, _, lane = CASES[name]
    for m, n in ((65, 129), (1, 1), (157, 63), (9, 127)):
        x = scores(float(most), m, n, dtype)
        x = x if lane == "n" else np.ascontiguousarray(x.T)
        inputs = {"X": x, "logit": np.linspace(-most, most, n).astype(np.float32)}
        assert not failures(judged(built[name], {"M": m, "N": n}, inputs, f"{name} {m} {n}"))
