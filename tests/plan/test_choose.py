"""The choice of a plan: cheapest, deterministic, pinned by name; structure independent of sizes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.std.library import VARIANTS
from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.kernel.cycles import stage_cost
from tpcgen.machine import GAUDI2, MACHINES
from tpcgen.machine.tpc import TpcCost
from tpcgen.partition.baseline import FUSED, PLAIN
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.estimate import estimate
from tpcgen.partition.plan import TpcStage
from tpcgen.partition.price import price
from tpcgen.partition.table import duration, size, table
from tpcgen.program import load, load_text, sizes

GPT2 = {"B": 1, "H": 12, "G": 12, "M": 1024, "N": 1024, "D": 64, "E": 64}


@pytest.mark.parametrize("target", sorted(MACHINES))
def test_the_cheapest_plan_is_chosen_and_the_others_are_listed(target, example):
    program = example("causal")
    binding = sizes.bind(program, GPT2)
    choice = choose(program, target, binding)
    prices = {p.label: price(p, MACHINES[target], binding, estimate).seconds for p in enumerate_plans(program, target)}
    stairs = {"stairs of 4: softmax along i", "stairs of 4: softmax along j"}
    assert set(prices) == {"softmax along k", "softmax along q", *stairs}
    assert choice.price.seconds == min(prices.values())
    assert sorted([choice.plan.label, *(label for label, _, _ in choice.others)]) == sorted(prices)
    for label, seconds, bounded in choice.others:
        assert seconds == prices[label] if not bounded else choice.price.seconds < seconds <= prices[label]
    assert choose(program, target, binding) == choice


def test_the_cost_function_decides(example):
    program = example("causal")
    binding = sizes.bind(program, GPT2)
    for wanted, label in (("k", "softmax along k"), ("q", "softmax along q"), ("i", "stairs of 4: softmax along i")):

        def cost(stage, machine, values, wanted=wanted):
            return TpcCost(1.0 if stage.lane.startswith(wanted) else 1e9, 1.0, 24, "test")

        assert choose(program, "gaudi2", binding, cost=cost).plan.label == label


def test_a_plan_can_be_pinned_by_its_label(example):
    program = example("causal")
    binding = sizes.bind(program, GPT2)
    for label in ("softmax along k", "softmax along q"):
        assert choose(program, "gaudi2", binding, pin=label).plan.label == label
    with pytest.raises(ValueError, match="softmax along k"):
        choose(program, "gaudi2", binding, pin="softmax along d")


def test_a_plan_that_does_not_fit_memory_is_not_chosen_if_another_does(example):
    program = example("causal")
    binding = sizes.bind(program, GPT2 | {"B": 16, "H": 24, "G": 24, "M": 32768, "N": 32768})
    choice = choose(program, "gaudi", binding)
    assert not choice.price.fits
    assert "more than HBM holds" in table(choice.price).total[-1]


def test_fused_attention_is_a_baseline_only_for_plain_and_causal_attention_where_it_exists(example):
    def labels(name, target, values):
        program = example(name)
        return [b.label for b in choose(program, target, sizes.bind(program, values)).baselines]

    window = {k: v for k, v in GPT2.items() if k not in ("G", "M")}
    assert labels("causal", "gaudi2", GPT2) == [PLAIN, FUSED]
    assert labels("causal", "gaudi", GPT2) == [PLAIN]
    assert labels("full", "gaudi3", {k: v for k, v in GPT2.items() if k != "G"}) == [PLAIN, FUSED]
    assert labels("alibi_causal", "gaudi2", {k: v for k, v in GPT2.items() if k != "G"}) == [PLAIN]
    assert labels("window", "gaudi2", window) == [PLAIN]


def test_a_winning_baseline_is_reported(example):
    program = example("causal")
    choice = choose(program, "gaudi2", sizes.bind(program, GPT2))
    best = min(choice.baselines, key=lambda b: b.seconds)
    assert choice.better_baseline == (best if best.seconds < choice.price.seconds else None)
    assert choice.better_baseline is not None
    assert choice.better_baseline.label == FUSED


def test_price_adds_up_and_grows_with_slower_machines(example):
    program = example("window")
    binding = sizes.bind(program, {"B": 1, "H": 12, "N": 1024, "D": 64, "E": 64, "W": 256})
    plan = enumerate_plans(program, "gaudi2")[0]
    now = price(plan, GAUDI2, binding, estimate)
    assert now.seconds == pytest.approx(now.serial, rel=1e-12), "a chain has nothing to overlap"
    assert now.macs == 2 * 12 * 1024 * 1024 * 64
    scores = 12 * 1024 * 1024
    inputs = 4 * 12 * 1024 * 64 * 2 + 12 * 4
    assert now.peak == inputs + scores * 4 + scores * 2
    starved = replace(GAUDI2, memory=replace(GAUDI2.memory, hbm_rate=1e9, sram_rate=1e9))
    slow = price(plan, starved, binding, estimate)
    assert slow.seconds > 10 * now.seconds
    assert {s.bound for s in slow.stages} <= {"HBM", "SRAM"}


def test_schedule_entries_that_no_plan_keeps_are_refused():
    text = """
    op f(Q: f32[N, D], K: f32[M, D]) -> P: f32[N, M]
    {
        S[q,k] = sum[d](Q[q,d] * K[k,d])
        P[q,k] = softmax[k](S[q,k])
        schedule { place S mme; place P tpc; %s }
    }
    """
    kept = load_text(text % "")
    assert len(enumerate_plans(kept.program("f"), "gaudi2")) == 2
    for entry in ("tile q 64;", "chunk k 64;"):
        with pytest.raises(DiagnosticError, match="E410"):
            enumerate_plans(load_text(text % entry).program("f"), "gaudi2")
    with pytest.raises(DiagnosticError, match="E410"):
        enumerate_plans(load_text((text % "").replace("place P tpc", "place P mme")).program("f"), "gaudi2")


def test_choosing_needs_neither_torch_nor_islpy():
    code = """
import sys
from tpcgen.program import load, sizes
from tpcgen.partition.choose import choose
p = load("examples/causal.dsl").program("causal")
choose(p, "gaudi2", sizes.bind(p, dict(B=1, H=2, G=1, M=8, N=8, D=8, E=8)))
sys.exit(bool({"torch", "islpy"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0 ns"),
        (1.234e-7, "123 ns"),
        (1.5e-5, "15 us"),
        (0.9996e-3, "1 ms"),
        (0.9994e-3, "999 us"),
        (2.5, "2.5 s"),
    ],
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected


def test_byte_sizes():
    assert [size(n) for n in (0, 1023, 1024, 3 * 2**20, 5 * 2**30)] == ["0 B", "1023 B", "1 KiB", "3 MiB", "5 GiB"]


def test_a_plan_that_is_not_lowered_yields_to_one_that_is():
    path = Path(__file__).parent / "specs" / "renamed.dsl"
    module = load(str(path))
    program = module.program("renamed")
    binding = sizes.bind(program, module.checks[0].values)
    plans = enumerate_plans(program, "gaudi2")
    labels = {p.label for p in plans}
    banned = next(s.lane for s in plans[0].stages if isinstance(s, TpcStage))

    def without_a_lane(stage, machine, values):
        if stage.lane == banned:
            raise DiagnosticError((Diagnostic("E421", "planted", NOWHERE),))
        return stage_cost(stage, machine, values)

    choice = choose(program, "gaudi2", binding, cost=without_a_lane)
    possible = {choice.plan.label, *(label for label, _, _ in choice.others)}
    impossible = {label for label, _ in choice.impossible}
    assert impossible and possible | impossible == labels and not possible & impossible
    assert all(problem.id.startswith("E4") for _, problem in choice.impossible)

    def never(stage, machine, values):
        raise DiagnosticError((Diagnostic("E421", "planted", NOWHERE),))

    with pytest.raises(DiagnosticError, match="planted"):
        choose(program, "gaudi2", binding, cost=never)


def test_a_stage_that_plans_share_is_costed_once():
    module = load(str(Path(__file__).parent / "specs" / "masked_scores.dsl"))
    program = module.program("masked_scores")
    seen = []

    def counting(stage, machine, values):
        seen.append(stage)
        return estimate(stage, machine, values)

    choose(program, "gaudi2", sizes.bind(program, module.checks[0].values), cost=counting)
    assert len(seen) == len(set(seen))


def drafts(name, dtype="bf16"):
    """Choosing a plan of std/'s op costs so many stages; the choice."""
    variant = VARIANTS[name]
    program, seen = variant.program(dtype), []

    def counting(stage, machine, values):
        seen.append(stage)
        return stage_cost(stage, machine, values)

    return seen, choose(program, "gaudi2", sizes.bind(program, variant.checks()[0]), cost=counting)


@pytest.mark.parametrize(("name", "most"), [("performer", 12), ("dilated", 10), ("gformer", 12)])
def test_plans_are_given_up_before_all_their_kernels_are_made(name, most):
    """A kernel takes 30 ms or so to make: most of the time of a search. They were 36, 19 and 14."""
    seen, _ = drafts(name)
    assert len(seen) <= most


def test_a_plan_that_is_given_up_takes_no_less_than_its_bound():
    _, choice = drafts("linear_bidirectional")
    program = VARIANTS["linear_bidirectional"].program("bf16")
    binding = sizes.bind(program, VARIANTS["linear_bidirectional"].checks()[0])
    bounds = dict(choice.unpriced)
    assert choice.loss == 1 and bounds
    for plan in enumerate_plans(program, "gaudi2"):
        if plan.label in bounds:
            seconds = price(plan, GAUDI2, binding, stage_cost).seconds
            assert choice.price.seconds < bounds[plan.label] <= seconds


def test_a_stage_is_costed_once_whatever_its_buffers_are_called():
    """Scores with queries along the lanes are moved first: the softmax of S and that of S_t are one kernel."""
    seen, _ = drafts("topk")
    softmaxes = [s for s in seen if s.name == "softmax"]
    assert len({s.lane for s in softmaxes}) == len(softmaxes)
    plans = enumerate_plans(VARIANTS["topk"].program("bf16"), "gaudi2")
    assert {
        len({s.program.inputs for p in plans for s in p.stages if s.name == "softmax" and s.lane == x.lane})
        for x in softmaxes
    } == {2}
