"""Schedules of plans: what `schedule_of` prints can be pasted into the op and keeps that plan alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.machine import MACHINES
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.print import plan as text
from tpcgen.program import load_text, sizes

ROOT = Path(__file__).parents[2]
EXAMPLES = [ROOT / "examples" / f"{name}.dsl" for name in ("alibi_causal", "causal", "full", "linear", "window")]
SPECS = sorted((Path(__file__).parent / "specs").glob("*.dsl"))


def pasted(source, op, entries):
    head, tail = source[: source.index(f"op {op}")], source[source.index(f"op {op}") :]
    return head + tail.replace("\n}", f"\n    schedule {{ {' '.join(entries)} }}\n}}", 1)


def program_of(source, op):
    module = load_text(source)
    return module.program(op, **{v: c[0] for v, c in module.dtype_variables(op).items()})


@pytest.mark.parametrize("path", EXAMPLES + SPECS, ids=lambda p: p.stem)
def test_a_pasted_schedule_keeps_exactly_its_plan(path):
    source = path.read_text()
    plans = enumerate_plans(program_of(source, path.stem), "gaudi2")
    schedules = [p.pins for p in plans]
    assert len(set(schedules)) == len(plans)
    for plan, entries in zip(plans, schedules, strict=True):
        (kept,) = enumerate_plans(program_of(pasted(source, path.stem, entries), path.stem), "gaudi2")
        assert text(kept) == text(plan)
        assert kept.pins == entries


@pytest.mark.parametrize("target", sorted(MACHINES))
def test_the_compiler_chooses_what_is_pinned(target):
    source = (ROOT / "examples" / "causal.dsl").read_text()
    bound = {"B": 1, "H": 12, "G": 12, "M": 1024, "N": 1024, "D": 64, "E": 64}
    free = program_of(source, "causal")
    chosen = choose(free, target, sizes.bind(free, bound))
    for label, price in ((chosen.plan.label, chosen.price), *chosen.rejected):
        plan = next(p for p in enumerate_plans(free, target) if p.label == label)
        program = program_of(pasted(source, "causal", plan.pins), "causal")
        kept = choose(program, target, sizes.bind(program, bound))
        assert (kept.plan.label, kept.rejected) == (label, ())
        assert replace(kept.price, label="") == replace(price, label="")


SOFTMAX = """
op f(Q: f32[N, D], K: f32[M, D]) -> P: f32[N, M]
{
    S[q,k] = sum[d](Q[q,d] * K[k,d])
    P[q,k] = softmax[k](S[q,k])
    schedule { %s }
}
"""


@pytest.mark.parametrize(
    ("entry", "id", "hint"),
    [
        ("lane P d;", "E410", "it can be k or q"),
        ("lane S k;", "E410", "what can be pinned: lane P k or q;"),
        ("lane P z;", "E236", "lane TENSOR INDEX;"),
        ("lane R k;", "E236", "lane TENSOR INDEX;"),
        ("lane P;", "E236", "lane TENSOR INDEX;"),
        ("lane P k; lane P q;", "E236", ""),
    ],
)
def test_lanes_that_cannot_be_are_refused(entry, id, hint):
    with pytest.raises(DiagnosticError, match=id) as caught:
        enumerate_plans(load_text(SOFTMAX % entry).program("f"), "gaudi2")
    assert hint in caught.value.diagnostics[0].hint


TWO_PARTS = """
op f(Q: f32[N, D], K: f32[N, D], V: f32[N, E], W: int = 8) -> O: f32[N, E], L: f32[N, E]
    where W >= 1
{
    S[q,k] = sum[d](Q[q,d] * K[k,d])
    P[q,k] = softmax[k where q - W < k <= q](S[q,k])
    O[q,e] = sum[k](P[q,k] * V[k,e])
    T[q,k] = sum[d](K[q,d] * Q[k,d])
    A[q,k] = T[q,k] where k <= q
    L[q,e] = sum[k](A[q,k] * V[k,e])
    schedule { %s }
}
"""


def test_algorithms_are_pinned():
    def labels(entries):
        plans = enumerate_plans(load_text(TWO_PARTS % entries).program("f"), "gaudi2")
        return {p.label.partition(":")[0] for p in plans}

    assert labels("tile q 64; chunk q 64;") == {"bands of 64, chunks of 64"}
    assert labels("tile q whole; chunk q 128;") == {"chunks of 128"}
    with pytest.raises(DiagnosticError, match="no alternative has all of these lengths"):
        labels("tile q 64; chunk q 128;")
    with pytest.raises(DiagnosticError, match="no alternative has `tile q 48`"):
        labels("tile q 48;")


OUTER = """
op f(K: f32[B, C, L, D], V: f32[B, C, L, E]) -> U: f32[B, C, D, E]
{
    U[b,c,d,e] = sum[t](K[b,c,t,d] * V[b,c,t,e])
    %s
}
"""


@pytest.mark.parametrize("target", sorted(MACHINES))
def test_a_contraction_runs_where_it_is_placed_and_is_faster_on_the_mme(target):
    def chosen(schedule):
        program = load_text(OUTER % schedule).program("f")
        return choose(program, target, sizes.bind(program, {"B": 64, "C": 32, "L": 64, "D": 64, "E": 64}))

    tpc, mme, free = (chosen(s) for s in ("schedule { place U tpc; }", "schedule { place U mme; }", ""))
    assert [type(s).__name__ for s in tpc.plan.stages] == ["TpcStage"]
    assert tpc.plan.pins == ("place U tpc;", "lane U e;")
    assert [type(s).__name__ for s in mme.plan.stages] == ["MmeStage"]
    assert mme.price.seconds == free.price.seconds < tpc.price.seconds
    assert [label for label, _ in tpc.rejected] == ["sum along t"]
    assert all(price.seconds > tpc.price.seconds for _, price in tpc.rejected)


def test_only_the_contraction_that_is_placed_leaves_the_mme():
    plans = enumerate_plans(load_text(SOFTMAX % "place S tpc;").program("f"), "gaudi2")
    assert all(p.pins[0] == "place S tpc;" for p in plans)
    assert not any(type(s).__name__ == "MmeStage" for p in plans for s in p.stages)
    plans = enumerate_plans(load_text(TWO_PARTS % "place S tpc; tile q whole; chunk q whole;").program("f"), "gaudi2")
    assert {s.name for p in plans for s in p.stages if type(s).__name__ == "MmeStage"} == {"o", "t", "l"}
