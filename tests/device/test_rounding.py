"""A stored bf16 is the nearest one, ties to even: truncation would pass the pass rule, which judges whole operators."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np

from tests.device.harness import build
from tpcgen.host.api import Session
from tpcgen.program import load

SPEC = "op rounded(X: f32[M, N]) -> Y: bf16[M, N] { Y[m,n] = X[m,n] + X[m,n] }\n"


def test_stores_round_to_nearest_even(tmp_path: Path) -> None:
    (tmp_path / "rounded.dsl").write_text(SPEC)
    x = np.random.default_rng(1).standard_normal((3, 296)).astype(np.float32)
    x[0, :2] = 1 + 2.0**-8, 1 + 3 * 2.0**-8  # ties
    with Session() as session:
        plans = build({"r": load(tmp_path / "rounded.dsl").program("rounded")}, tmp_path, session)["r"]
        for b in plans:
            y = b.run({"M": 3, "N": 296}, {"X": x})["Y"]
            np.testing.assert_array_equal(y, (x + x).astype(ml_dtypes.bfloat16), err_msg=f"{b.target}, {b.label}")
        assert {b.target for b in plans} == {"gaudi", "gaudi2"}
