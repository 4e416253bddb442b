"""Ops that read through tables and at computed places, every plan of them, against the interpreter at odd sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.device.harness import TARGETS, Built, built_together, drawn, failures, judged, variant
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import Plan
from tpcgen.program import load, load_text

EXAMPLES = Path(__file__).parents[2] / "examples"

T5 = """op f(Q: {t}[H, M, D], K: {t}[H, N, D], V: {t}[H, N, E], table: {t}[H, L]) -> O: {t}[H, M, E] where L >= 5 {{
    P[h,q,k] = softmax[k where k <= q + N - M](sum[d](Q[h,q,d] * K[h,k,d])
        + table[h, select(q + N - M - k < 4, q + N - M - k,
                          min(4 + i32(log(max(q + N - M - k, 1) / 4.0) * 2.5), L - 1))])
    O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
}}"""
SWIN = """op f(Q: {t}[B, H, N, D], K: {t}[B, H, N, D], V: {t}[B, H, N, E], table: f32[L, H], of: i32[N, N])
    -> O: {t}[B, H, N, E]
    where 0 <= of[q,k] < L {{
    index q in 0 .. N
    index k in 0 .. N
    P[b,h,q,k] = softmax[k](rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]) + table[of[q,k], h])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}}"""
EMBEDDING = """op f(table: {t}[L, D], word: i32[B, N], place: {t}[N, D], len: i32[B]) -> O: {t}[B, N, D]
    where len[b] <= N, n >= len[b] or 0 <= word[b,n] < L {{
    O[b,n,d] = table[word[b,n], d] + place[n,d] where n < len[b]
}}"""
DILATED = """op f(Q: {t}[H, N, D], K: {t}[H, N, D], V: {t}[H, N, E], R: int = 3) -> O: {t}[H, N, E] where R >= 1 {{
    index q in 0 .. N
    index k in 0 .. N
    P[h,q,k] = softmax[k where k <= q and (q - k) % R == 0 and k // 16 >= q // 16 - 2](sum[d](Q[h,q,d] * K[h,k,d]))
    O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
}}"""
SPECS = {
    "t5_bf16": T5.format(t="bf16"),
    "t5_f32": T5.format(t="f32"),
    "swin_bf16": SWIN.format(t="bf16"),
    "swin_f32": SWIN.format(t="f32"),
    "embedding_bf16": EMBEDDING.format(t="bf16"),
    "embedding_f32": EMBEDDING.format(t="f32"),
    "dilated_bf16": DILATED.format(t="bf16"),
    "dilated_f32": DILATED.format(t="f32"),
}
SIZES: dict[str, list[dict[str, int]]] = {
    "t5": [{"H": 2, "M": m, "N": n, "D": 24, "E": 24, "L": 11} for m, n in ((1, 1), (7, 65), (63, 129))],
    "swin": [{"B": 2, "H": 3, "N": n, "D": 24, "E": 24, "L": 13} for n in (1, 49, 65)],
    "embedding": [{"B": 3, "N": n, "D": d, "L": 7} for n, d in ((1, 1), (7, 65), (65, 129))],
    "dilated": [{"H": 2, "N": n, "D": 24, "E": 24, "R": r} for n, r in ((1, 1), (65, 3), (129, 7))],
    "paged_decode": [
        {"B": 3, "H": 6, "G": g, "D": d, "E": 65, "Nb": 7, "BS": b, "Np": p, "cap": 30}
        for g, d, b, p in ((3, 63, 5, 13), (6, 64, 16, 1), (1, 7, 1, 129))
    ],
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


def _chosen(plans: Sequence[Plan]) -> list[Plan]:
    """Every plan of the whole square, one in steps: it has 30 kernels."""
    stairs = [p for p in plans if "stairs" in p.label]
    return [p for p in plans if p not in stairs[1:]]


@pytest.fixture(scope="module")
def built(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Built]]:
    """f32 on gaudi, bf16 on gaudi2."""
    programs = {name: load_text(text).program("f") for name, text in SPECS.items()}
    paged = load(str(EXAMPLES / "paged_decode.dsl"))
    programs |= {f"paged_decode_{t}": paged.program("paged_decode", T=t) for t in ("bf16", "f32")}
    result: dict[str, list[Built]] = {}
    for target, dtype in zip(TARGETS, ("f32", "bf16"), strict=True):
        mine = {name: p for name, p in programs.items() if name.endswith(dtype)}
        chosen = {
            name: [variant(name, n, plan) for n, plan in enumerate(_chosen(enumerate_plans(p, target)))]
            for name, p in mine.items()
        }
        result |= built_together(chosen, target, tmp_path_factory.mktemp(target), session)
    return result


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("name", SIZES)
def test_every_plan_at_odd_sizes(name: str, dtype: str, built: Mapping[str, list[Built]]) -> None:
    plans = built[f"{name}_{dtype}"]
    program = plans[0].variant.plan.program
    found: list[str] = []
    for values in SIZES[name]:
        for family in families(program):
            inputs = drawn(program, values, family)
            found += failures(judged(plans, values, inputs, f"{values} {family}"))
    assert not found


def test_a_stale_page_changes_nothing(built: Mapping[str, list[Built]]) -> None:
    """Pages beyond a sequence's length: bits of the output do not depend on them, however far off they are."""
    plans = built["paged_decode_f32"]
    values = SIZES["paged_decode"][0]
    inputs = drawn(plans[0].variant.plan.program, values, "normal")
    inputs["len"] = np.array([0, 12, 31], np.int32)
    beyond = np.arange(values["Np"]) * values["BS"] >= inputs["len"][:, None]
    for plan in plans:
        expected = plan.run(values, inputs)["O"]
        for stale in (-(2**31), 2**31 - 1, -1, values["Nb"]):
            page = np.where(beyond, np.int32(stale), inputs["page"]).astype(np.int32)
            np.testing.assert_array_equal(plan.run(values, {**inputs, "page": page})["O"], expected)
