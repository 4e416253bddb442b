"""The schedule: engines overlap, HBM is shared, nothing is created or lost; slices are an assumption of their own."""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from pathlib import Path

import pytest

from tpcgen.kernel.cycles import stage_cost
from tpcgen.machine import GAUDI2, MACHINES
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.estimate import estimate
from tpcgen.partition.price import price, waits
from tpcgen.partition.simulate import ENGINES, Node, busy, makespan, overlap, simulate, undercut_by_none
from tpcgen.partition.slices import pipelined
from tpcgen.program import load, load_text, sizes


def ends(nodes, rate=1.0):
    return [s.end for s in simulate(nodes, rate)]


def test_engines_work_at_the_same_time_and_nodes_wait_for_their_inputs():
    nodes = [
        Node("a", "MME", 1, 0, 0),
        Node("b", "TPC", 1, 0, 0, (0,)),
        Node("c", "MME", 1, 0, 0),
        Node("d", "TPC", 1, 0.5, 0, (2,)),
    ]
    spans = simulate(nodes, 1.0)
    assert [(s.start, s.end) for s in spans] == [(0, 1), (1, 2), (1, 2), (2, 3.5)]
    assert makespan(spans) == 3.5
    assert busy(spans) == {"MME": 2, "TPC": 2.5}
    assert overlap(spans) == 1


def test_hbm_is_shared_fairly_and_never_exceeded():
    assert ends([Node("a", "MME", 1, 0, 1), Node("b", "TPC", 1, 0, 1)]) == [2, 2]
    assert ends([Node("a", "MME", 1, 0, 0.25), Node("b", "TPC", 1, 0, 1)]) == [1, 1.25]
    assert ends([Node("a", "MME", 0, 0, 3)]) == [3]
    assert ends([Node("a", "MME", 1, 0.5, 0), Node("b", "TPC", 0, 0, 1)]) == [1.5, 1]


def test_nothing_to_do_takes_no_time():
    assert ends([]) == []
    assert ends([Node("a", "DMA", 0, 0, 0), Node("b", "MME", 0, 2, 0, (0,))]) == [0, 2]


def test_nodes_that_wait_for_each_other_are_refused():
    with pytest.raises(ValueError, match="wait"):
        simulate([Node("a", "MME", 1, 0, 0, (1,)), Node("b", "MME", 1, 0, 0, (0,))], 1.0)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_keep_the_bounds_of_any_schedule(seed):
    rng = random.Random(seed)
    nodes = []
    for i in range(rng.randint(1, 30)):
        before = tuple(rng.sample(range(i), min(i, rng.randint(0, 3))))
        work = rng.choice([0, rng.random()])
        nodes.append(
            Node(str(i), rng.choice(ENGINES), work, rng.choice([0, 0.1]), rng.choice([0, 2 * rng.random()]), before)
        )
    spans = simulate(nodes, 1.0)
    alone = [n.launch + max(n.seconds, n.hbm) for n in nodes]
    path = []
    for n, own in zip(nodes, alone, strict=True):
        path.append(own + max((path[b] for b in n.after), default=0))
    total = makespan(spans)
    assert total <= sum(alone) * (1 + 1e-9)
    assert total >= max(path) * (1 - 1e-9)
    assert total >= sum(n.hbm for n in nodes) * (1 - 1e-9)
    held = [sum(own for n, own in zip(nodes, alone, strict=True) if n.engine == e) for e in ENGINES]
    least = undercut_by_none(nodes, 1.0)
    assert least == pytest.approx(max(*path, *held, sum(n.hbm for n in nodes)))
    assert least <= total * (1 + 1e-9)
    for engine in ENGINES:
        own = sorted((s for s in spans if s.engine == engine), key=lambda s: (s.start, s.end))
        assert all(a.end <= b.start + 1e-9 for a, b in itertools.pairwise(own))
    for span, node, least in zip(spans, nodes, alone, strict=True):
        assert span.end - span.start >= least * (1 - 1e-9)
        assert all(spans[b].end <= span.start + 1e-12 for b in node.after)
    assert simulate(nodes, 1.0) == spans


TWO = """
op two(X: f32[N, K], Y: f32[K, M], Z: f32[N, L]) -> A: f32[N, M], B: f32[N, L]
{
    A[n,m] = sum[k](X[n,k] * Y[k,m])
    B[n,l] = exp(Z[n,l])
}
"""


def test_independent_stages_of_a_plan_overlap():
    program = load_text(TWO).program("two")
    binding = sizes.bind(program, {"N": 4096, "K": 1024, "M": 1024, "L": 1024})
    plan = enumerate_plans(program, "gaudi2")[0]
    assert waits(plan) == ((), ())
    now = price(plan, GAUDI2, binding, estimate)
    assert {s.engine for s in now.stages} == {"MME", "TPC"}
    assert now.overlap > 0
    assert max(s.seconds for s in now.stages) <= now.seconds * (1 + 1e-9) < now.serial
    assert choose(program, "gaudi2", binding).price.seconds == now.seconds


def long_spec(pairs):
    lines = ["S0[q,k] = sum[d](Q[q,d] * K[k,d])"]
    for i in range(pairs - 1):
        lines.append(f"P{i}[q,k] = softmax[k](S{i}[q,k])")
        lines.append(f"S{i + 1}[q,k] = sum[j](P{i}[q,j] * W[j,k])")
    lines.append(f"O[q,k] = softmax[k](S{pairs - 1}[q,k])")
    return "op long(Q: f32[N, D], K: f32[N, D], W: f32[N, N]) -> O: f32[N, N]\n{\n" + "\n".join(lines) + "\n}\n"


def test_the_price_of_twenty_stages_takes_no_search():
    """5 ms are promised; ten times that is no loaded minute of a slow machine."""
    program = load_text(long_spec(10)).program("long")
    binding = sizes.bind(program, {"N": 512, "D": 64})
    plan = enumerate_plans(program, "gaudi2")[0]
    costs = {s.name: stage_cost(s, GAUDI2, binding.values) for s in plan.stages if hasattr(s, "lane")}
    assert len(plan.stages) == 20

    def known(stage, machine, values):
        return costs[stage.name]

    times = []
    for _ in range(15):
        before = time.perf_counter()
        price(plan, GAUDI2, binding, known)
        times.append(time.perf_counter() - before)
    assert min(times) < 50e-3


def test_slices_pipeline_through_sram_and_stay_an_assumption(example):
    program = example("causal")
    bound = {"B": 1, "H": 12, "G": 12, "M": 1024, "N": 1024, "D": 64, "E": 64}
    binding = sizes.bind(program, bound)
    choice = choose(program, "gaudi2", binding, cost=stage_cost, pin="softmax along q")
    sliced = pipelined(choice.plan, GAUDI2, binding, stage_cost)
    assert sliced is not None
    assert 12 % sliced.count == 0
    assert choice.price.seconds == pytest.approx(choice.price.serial), "the price of the plan does not assume slices"
    assert sliced.seconds < choice.price.seconds
    assert sliced.hbm < sum(s.hbm for s in choice.price.stages), "slices of scores stay in SRAM"
    least = max(choice.price.busy.values()) / 2
    assert sliced.seconds > least
    small = dataclasses.replace(GAUDI2, memory=dataclasses.replace(GAUDI2.memory, sram_bytes=2**16))
    spilled = pipelined(choice.plan, small, binding, stage_cost)
    assert spilled is not None
    assert spilled.hbm > sliced.hbm


def test_a_plan_without_outer_axes_is_not_sliced():
    program = load_text(long_spec(2)).program("long")
    plan = enumerate_plans(program, "gaudi2")[0]
    binding = sizes.bind(program, {"N": 7, "D": 5})
    assert pipelined(plan, GAUDI2, binding, estimate) is None


def test_cuts_that_would_wait_for_each_other_are_left_out():
    """A scan needs all its chunks before the stages on either side of it may hold less than all of theirs."""
    program = load(Path(__file__).parents[2] / "examples" / "gated_linear_cards.dsl").program(
        "gated_linear_from", T="bf16"
    )
    binding = sizes.bind(program, {"B": 1, "H": 16, "N": 8192, "D": 128, "E": 128})
    gaudi3 = MACHINES["gaudi3"]
    plan = choose(program, "gaudi3", binding, cost=stage_cost).plan
    sliced = pipelined(plan, gaudi3, binding, stage_cost)
    assert sliced is not None
    assert 0 < sliced.seconds < 1
