"""Attention as one kernel among the alternatives: what is recognised, how it is pinned, when it is chosen."""

from __future__ import annotations

import pytest

from tpcgen.kernel.cycles import stage_cost
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import MmeStage, Plan, TpcStage
from tpcgen.program import load_text
from tpcgen.program.ir import Program
from tpcgen.program.sizes import bind
from tpcgen.rewrite.alternatives import alternatives

WINDOW = """op f(Q: bf16[H, N, D], K: bf16[H, N, D], V: bf16[H, N, E], ok: i32[N], W: int = 64) -> O: bf16[H, N, E]
    where W >= 1
{
    S[h,q,k] = rsqrt(D) * sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[k where q - W < k <= q](S[h,q,k])
    O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
}"""
CLOSING = "\n}"
REFUSED = {
    "`ok[k] > 0` is no bound of k": [("k <= q]", "k <= q and ok[k] > 0]")],
    "bf16, f32 are mixed in it": [("-> O: bf16[H, N, E]", "-> O: f32[H, N, E]")],
    "P_r is for more than one sum of values over k": [
        ("-> O: bf16[H, N, E]", "-> O: bf16[H, N, E], X: f32[H, N, D]"),
        (CLOSING, "\n    X[h,q,d] = sum[k](P[h,q,k] * K[h,k,d])\n}"),
    ],
    "the logits of the softmax are not made of one product of queries and keys": [
        ("](S[h,q,k]", "](S[h,q,k] + sum[d](Q[h,k,d] * K[h,q,d])")
    ],
}


def program(text: str) -> Program:
    return load_text(text).program("f")


def scheduled(entries: str) -> Program:
    return program(WINDOW.replace(CLOSING, f"\n    schedule {{ {entries} }}{CLOSING}"))


def fused(plan: Plan) -> int:
    """Keys at a time, 0 for other plans."""
    return sum(s.tile for s in plan.stages if isinstance(s, TpcStage))


def test_its_plans_have_no_stage_on_the_mme() -> None:
    plans = enumerate_plans(program(WINDOW), "gaudi2")
    assert [fused(p) for p in plans if fused(p)] == [72, 24]
    for plan in plans:
        assert bool(fused(plan)) != any(isinstance(s, MmeStage) for s in plan.stages)


@pytest.mark.parametrize("entries", ["fuse k whole;", "place S mme;", "place O tpc;", "tile q 64;"])
def test_pins_of_other_algorithms_exclude_it(entries: str) -> None:
    assert not any(map(fused, enumerate_plans(scheduled(entries), "gaudi2")))


def test_the_pins_of_every_plan_keep_it_alone() -> None:
    for plan in enumerate_plans(program(WINDOW), "gaudi2"):
        kept = enumerate_plans(scheduled(" ".join(plan.pins)), "gaudi2")
        assert [p.label for p in kept] == [plan.label]


@pytest.mark.parametrize("reason", REFUSED)
def test_the_report_says_why_an_attention_is_none(reason: str) -> None:
    text = WINDOW
    for before, after in REFUSED[reason]:
        assert before in text
        text = text.replace(before, after)
    found = alternatives(program(text))
    assert not any(a.fused for a in found.programs)
    assert [r.reason for name, r in found.refused if name == "one kernel"] == [reason]


def test_it_is_no_topic_where_nothing_is_a_band() -> None:
    found = alternatives(program(WINDOW.replace("q - W < k <= q", "k <= q")))
    assert not any(a.fused for a in found.programs)
    assert not [r for name, r in found.refused if name == "one kernel"]


@pytest.mark.parametrize(("head", "window", "chosen"), [(16, 16, 72), (64, 256, 0)])
def test_the_cheaper_one_is_chosen(head: int, window: int, chosen: int) -> None:
    """Small heads fill neither side of the MME; large ones are multiplied there."""
    sizes = {"H": 32, "N": 4096, "D": head, "E": head, "W": window}
    p = program(WINDOW)
    found = choose(p, "gaudi2", bind(p, sizes), cost=stage_cost)
    assert fused(found.plan) == chosen
    others = [*(label for label, _ in found.rejected), *(label for label, _ in found.unpriced)]
    assert [label for label in others if "one kernel" in label] or chosen
