"""The interpreter at N = 4096: the most memory its process ever holds, and rows of the result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 2048
"""MiB."""

SCRIPT = """
import json, resource, sys
import numpy as np
from tpcgen.interpreter import run
from tpcgen.program import load

name, mode = sys.argv[1:]
N, D = 4096, 64
rng = np.random.default_rng(1)
q, k, v = (rng.standard_normal((1, 2, N, D)).astype("f4") for _ in range(3))
extra = {
    "window": {"snk": np.zeros(2, "f4")},
    "alibi_causal": {"slope": np.zeros(2, "f4")},
    "gated_linear": {"g": np.ones((1, 2, N), "f4")},
    "gformer": {"snk": np.zeros(2, "f4")},
}
values = {"Hs": 1} if name == "gformer" else {}
program = load(f"examples/{name}.dsl").program(name, T="f32")
out = run(program, {"Q": q, "K": k, "V": v, **extra.get(name, {})}, values, mode=mode)["O"]
row = N - 3
scores = k[0, 0, : row + 1].astype("f8") @ q[0, 0, row].astype("f8")
phi = lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))) + 1
match name:
    case "causal" | "alibi_causal":
        weights = np.exp(scores / 8 - (scores / 8).max())
    case "window" | "gformer":
        scores = np.append(scores[-256:] / 8, 0.0)
        weights = np.exp(scores - scores.max())
        weights = np.append(np.zeros(row + 1 - 256), weights[:-1] / weights.sum())
    case "linear":
        weights = phi(k[0, 0, : row + 1].astype("f8")) @ phi(q[0, 0, row].astype("f8"))
    case "gated_linear":
        weights = scores
weights = weights / weights.sum() if name in ("causal", "alibi_causal", "linear") else weights
expected = weights @ v[0, 0, : row + 1].astype("f8")
error = np.abs(out[0, 0, row].astype("f8") - expected).max() / np.abs(expected).max()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"mebibytes": peak, "error": error}))
"""


@pytest.mark.full
@pytest.mark.parametrize("name", ["causal", "alibi_causal", "window", "linear", "gated_linear", "gformer"])
@pytest.mark.parametrize("mode, tolerance", [("exact", 1e-12), ("device", 1e-4)])
def test_4096_keys_fit(name: str, mode: str, tolerance: float) -> None:
    command = [sys.executable, "-c", SCRIPT, name, mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["mebibytes"] < LIMIT
    assert found["error"] < tolerance
