"""Attention over a band as one kernel, without the MME, against the interpreter at odd sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest

from tests.device.harness import Built, build, drawn, failures, judged
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.partition.plan import MmeStage, TpcStage
from tpcgen.program import load_text

WINDOW = """op window(Q: {t}[B, H, N, D], K: {t}[B, G, N, D], V: {t}[B, G, N, E], W: int = 50) -> O: {t}[B, H, N, E]
    where W >= 1, H % G == 0
{{
    let R = H // G
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where q - W < k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
    schedule {{ fuse k 72; }}
}}"""
LOGITS = """op logits(Q: {t}[H, M, D], K: {t}[H, N, D], V: {t}[H, N, E], bias: {t}[M, N], slope: f32[H], snk: f32[H],
    W: int = 9) -> O: {t}[H, M, E]
{{
    S[h,q,k] = 20 * tanh(rsqrt(D) * sum[d](Q[h,q,d] * K[h,k,d]) / 20) - slope[h] * (q + N - M - k) + bias[q,k]
    P[h,q,k] = softmax[k where q + N - M - W <= k <= q + N - M + W sink snk[h]](S[h,q,k])
    O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
    schedule {{ fuse k 24; }}
}}"""
SPECS = {
    f"{name}_{t}": text.format(t=t) for name, text in (("window", WINDOW), ("logits", LOGITS)) for t in ("f32", "bf16")
}
SIZES = {
    "window": [
        {"B": 1, "H": 1, "G": 1, "N": 1, "D": 1, "E": 1},
        {"B": 1, "H": 2, "G": 1, "N": 7, "D": 3, "E": 5, "W": 2},
        {"B": 2, "H": 2, "G": 2, "N": 63, "D": 64, "E": 13},
        {"B": 1, "H": 4, "G": 2, "N": 65, "D": 8, "E": 64, "W": 1},
        {"B": 1, "H": 1, "G": 1, "N": 127, "D": 7, "E": 24, "W": 200},
        {"B": 1, "H": 2, "G": 1, "N": 129, "D": 9, "E": 12},
        {"B": 1, "H": 1, "G": 1, "N": 296, "D": 20, "E": 65, "W": 129},
        {"B": 0, "H": 2, "G": 1, "N": 129, "D": 9, "E": 12},
    ],
    "logits": [
        {"H": 1, "M": 1, "N": 1, "D": 1, "E": 1},
        {"H": 2, "M": 7, "N": 63, "D": 8, "E": 13},
        {"H": 1, "M": 129, "N": 296, "D": 16, "E": 128, "W": 33},
        {"H": 2, "M": 150, "N": 7, "D": 9, "E": 12, "W": 0},
        {"H": 1, "M": 3, "N": 40, "D": 2, "E": 296},
    ],
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Built]]]:
    """The plans of a spec, built when they are first asked for."""
    with Session() as session:

        @cache
        def of(name: str) -> list[Built]:
            program = load_text(SPECS[name]).program(name.partition("_")[0])
            return build({name: program}, tmp_path_factory.mktemp(name), session)[name]

        yield of


IN_CI = "window_bf16"
NAMES = [pytest.param(name, marks=() if name == IN_CI else pytest.mark.full) for name in SPECS]


@pytest.mark.parametrize("name", NAMES)
def test_one_kernel_computes_what_the_interpreter_does(built: Callable[[str], list[Built]], name: str) -> None:
    """Rows that visit nothing too: those before the first key, and all behind the last one's window."""
    assert len(built(name)) == 2
    for b in built(name):
        (stage,) = (s for s in b.variant.plan.stages if isinstance(s, TpcStage) and s.tile)
        assert not any(isinstance(s, MmeStage) for s in b.variant.plan.stages)
        assert stage.tile == (24 if name.startswith("logits") else 72)
    program = built(name)[0].variant.plan.program
    wrong: list[str] = []
    for values in SIZES[name.partition("_")[0]]:
        for family in families(program):
            inputs = drawn(program, values, family)
            wrong += failures(judged(built(name), values, inputs, f"{family} {values}"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("dtype", [pytest.param("f32", marks=pytest.mark.full), "bf16"])
def test_logits_of_1e5(built: Callable[[str], list[Built]], dtype: str) -> None:
    """Of either sign; scores that no row visits are far larger than those that one does."""
    name, values = f"window_{dtype}", {"B": 1, "H": 1, "G": 1, "N": 200, "D": 4, "E": 7, "W": 20}
    program = built(name)[0].variant.plan.program
    inputs = drawn(program, values, "normal")
    step = np.where(np.arange(200) // 40 % 2, 1, -1)[:, None].astype(np.float64)
    inputs["Q"][...] = 1000 * np.sign(inputs["Q"].astype(np.float64))
    inputs["K"][...] = step * 100 * np.abs(inputs["K"].astype(np.float64))
    wrong = failures(judged(built(name), values, inputs))
    assert not wrong, "\n".join(wrong)
