"""Contractions placed on the TPC, every plan of them, against the interpreter at odd sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from tests.device.harness import Built, build, drawn, failures, judged
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.program import load_text
from tpcgen.program.ir import Program

OUTER = """op outer(K: {t}[H, L, D], V: {t}[H, L, E]) -> U: {out}[H, D, E] {{
    U[h,d,e] = sum[t](K[h,t,d] * V[h,t,e])
    schedule {{ place U tpc; }}
}}"""
SCORES = """op scores(Q: {t}[H, D, L], K: {t}[H, E, L]) -> P: {out}[H, D, E] {{
    S[h,q,k] = sum[t](Q[h,q,t] * K[h,k,t])
    P[h,q,k] = softmax[k where k <= q](rsqrt(L) * S[h,q,k])
    schedule {{ place S tpc; }}
}}"""
GROUPED = """op grouped(A: {t}[H, G, D, L], B: {t}[G, L, E]) -> C: {out}[H, G, D, E] {{
    C[h,g,m,n] = sum[l](A[h,g,m,l] * B[g,l,n])
    schedule {{ place C tpc; }}
}}"""
SPECS = {
    "outer_f32": OUTER.format(t="f32", out="f32"),
    "outer_bf16": OUTER.format(t="bf16", out="f32"),
    "scores_bf16": SCORES.format(t="bf16", out="bf16"),
    "grouped_f32": GROUPED.format(t="f32", out="f32"),
    "grouped_bf16": GROUPED.format(t="bf16", out="bf16"),
}
EXTENTS = ((1, 1, 1), (7, 65, 63), (63, 8, 127), (129, 9, 64), (296, 7, 129), (65, 296, 65), (0, 3, 65))
SIZES = [{"H": 2, "L": length, "D": d, "E": e} for length, d, e in EXTENTS]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


@pytest.fixture(scope="module")
def built(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Built]]:
    programs = {name: load_text(text).program(name.partition("_")[0]) for name, text in SPECS.items()}
    return build(programs, tmp_path_factory.mktemp("contractions"), session)


def sizes_of(program: Program) -> list[dict[str, int]]:
    """`scores` divides by the root of L."""
    found = [s for s in SIZES if s["L"] or program.name != "scores"]
    return [s | ({"G": 3} if "G" in program.sizes else {}) for s in found]


@pytest.mark.parametrize("name", SPECS)
def test_every_plan_computes_what_the_interpreter_does(built: Mapping[str, list[Built]], name: str) -> None:
    program = built[name][0].variant.plan.program
    assert not any("Mme" in type(s).__name__ for b in built[name] for s in b.variant.plan.stages)
    wrong: list[str] = []
    for values in sizes_of(program):
        for family in families(program):
            inputs = drawn(program, values, family)
            wrong += failures(judged(built[name], values, inputs, f"{family} {values}"))
    assert not wrong, "\n".join(wrong)


def test_whole_numbers_are_added_exactly(built: Mapping[str, list[Built]]) -> None:
    """At few columns too, where the pass rule says little: a row's largest element, its measure, may cancel as well."""
    rng = np.random.default_rng(3)
    for length, d, e in (*EXTENTS, (65, 296, 1), (65, 296, 7), (520, 3, 1), (256, 9, 1), (521, 9, 1)):
        k, v = (rng.integers(-4, 5, (2, length, n)).astype(np.float32) for n in (d, e))
        for b in built["outer_f32"]:
            result = b.run({"H": 2, "L": length, "D": d, "E": e}, {"K": k, "V": v})["U"]
            np.testing.assert_array_equal(result, np.einsum("htd,hte->hde", k, v), f"{b.target}, {b.label}, {length}")
