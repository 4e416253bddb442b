"""NaN in V, and what a banded plan promises of it: rows whose block does not see the NaN are what they are without it.

The MME multiplies by the weights 0 of a block too (a note of the plan says so), so that rows of a block that sees a NaN
may be NaN although they do not visit it. A key that no query visits is in no block.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.device.harness import Built, build, drawn, failures, judged
from tpcgen.host.api import Session
from tpcgen.interpreter.compare import judge
from tpcgen.interpreter.run import run
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import load, load_text
from tpcgen.program.ir import Program

STD = Path(__file__).parents[2] / "std"
W, TILE = 30, 64
FEWER_QUERIES = """op f(Q: f32[H, M, D], K: f32[H, N, D], V: f32[H, N, E], ok: i32[N], W: int = 30) -> O: f32[H, M, E] {
    S[h,q,k] = rsqrt(D) * sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[k where q - W < k <= q and ok[k] > 0](S[h,q,k])
    O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
}"""
PROGRAMS = {
    "f32": load(str(STD / "window.dsl")).program("window", T="f32"),
    "bf16": load(str(STD / "window.dsl")).program("window", T="bf16"),
    "fewer queries": load_text(FEWER_QUERIES).program("f"),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Built]]:
    """The first plan of each program in bands of 64, along either index of a block."""
    first = {
        name: next(n for n, p in enumerate(enumerate_plans(program, "gaudi2")) if f"bands of {TILE}:" in p.label)
        for name, program in PROGRAMS.items()
    }
    programs = {name.replace(" ", "_"): program for name, program in PROGRAMS.items()}
    numbers = {name.replace(" ", "_"): n for name, n in first.items()}
    with Session() as session:
        made = build(programs, tmp_path_factory.mktemp("bands"), session, ("gaudi2",), lambda p, _t, n: n == numbers[p])
        yield {name: made[name.replace(" ", "_")][0] for name in PROGRAMS}


def blocks_that_see(key: int, queries: int) -> np.ndarray:
    """Of every query, whether its block of 64 queries looks at the key: at keys 64 n + 1 - W .. 64 n + 63."""
    start = np.arange(queries) // TILE * TILE
    return (start + 1 - W <= key) & (key < start + TILE)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("key", [0, 34, 35, 63, 64, 129, 199])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_of_other_blocks_are_as_without_it(dtype: str, key: int, value: float, built: dict[str, Built]) -> None:
    program, plan = PROGRAMS[dtype], built[dtype]
    values = {"B": 1, "H": 2, "N": 200, "D": 8, "E": 24, "W": W}
    inputs = drawn(program, values, "normal")
    inputs["V"][:, :, key] = value
    got = plan.run(values, inputs)["O"]
    truth, device = (run(program, inputs, {"W": W}, mode=mode)["O"] for mode in ("exact", "device"))
    q = np.arange(200)
    visits = (q - W < key) & (key <= q)
    apart = ~blocks_that_see(key, 200)
    assert visits.any() and apart.any() and not (visits & apart).any()
    assert not np.isfinite(got[:, :, visits].astype(np.float64)).any()
    verdict = judge(got[:, :, apart], truth[:, :, apart], device[:, :, apart])
    assert verdict.passed, verdict.reason
    assert any("V_b" in note and "every row of its batch" in note for note in plan.variant.plan.notes)


def test_keys_that_no_query_visits_have_no_effect(built: dict[str, Built]) -> None:
    """Behind the last query, and where ok is 0: in the middle of a block."""
    program: Program = PROGRAMS["fewer queries"]
    values = {"H": 2, "M": 100, "N": 170, "D": 8, "E": 24, "W": W}
    inputs = drawn(program, values, "normal")
    inputs["ok"] = np.where(np.arange(170) % 7 == 3, 0, 1).astype(np.int32)
    for tensor in ("K", "V"):
        inputs[tensor][:, (inputs["ok"] == 0) | (np.arange(170) >= 100)] = np.nan
    assert not failures(judged([built["fewer queries"]], values, inputs))
