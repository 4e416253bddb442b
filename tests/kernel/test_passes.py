"""What the passes over a kernel make of it: members of a piece, bf16 kept narrow, shared reductions, rows kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.kernel.stages import softmax_stage, stage_of
from tpcgen.kernel.ir import Invoke, Kernel, Load, LocalLoad, LocalStore, Loop, Store, VectorOp, walk
from tpcgen.kernel.lower import draft
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load

SPECS = Path(__file__).parents[2] / "benchmarks" / "kernels"
ROTARY, NORM = ("attention", "rope"), ("attention", "rms_norm")
RELU = "op f(x: bf16[M, N]) -> y: bf16[M, N] { y[i,j] = relu(x[i,j]) }"
NORMS = "op f(x: f32[M, N], z: f32[N], g: f32[N]) -> y: f32[M, N] { y[i,j] = x[i,j] * z[j] + g[j] }"


def kernel_of(spec: tuple[str, str], target: str = "gaudi2") -> Kernel:
    program = load(str(SPECS / f"{spec[0]}.dsl")).program(spec[1])
    stages = (s for plan in enumerate_plans(program, target) for s in plan.stages)
    return draft(next(s for s in stages if isinstance(s, TpcStage)), target)


def operations(kernel: Kernel) -> Counter[str]:
    return Counter(s.op for s in walk(kernel.body) if isinstance(s, VectorOp))


def the_loop(kernel: Kernel) -> Loop:
    (loop,) = (s for s in kernel.body if isinstance(s, Loop))
    return loop


@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
def test_what_is_only_chosen_stays_bf16(target: str) -> None:
    found = operations(draft(stage_of(RELU, "j"), target))
    assert set(found) == {"bsel_less"}


def test_a_sum_is_not_chosen() -> None:
    found = operations(draft(stage_of(RELU.replace("relu(x[i,j])", "relu(x[i,j] + 1)"), "j"), "gaudi2"))
    assert "narrow" in found and "bsel_less" not in found


@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
def test_turned_positions_are_products_of_bf16(target: str) -> None:
    """A product, one added to it, a choice between two loads, a rounding: for each of 4 rows, twice in the text."""
    kernel = kernel_of(ROTARY, target)
    inside = Counter(s.op for s in the_loop(kernel).body if isinstance(s, VectorOp))
    assert inside == {"bmul": 4, "bmac": 4, "bmov": 8, "narrow": 4}


def test_members_share_what_does_not_change() -> None:
    """The tables of the rows are loaded in front of the loop over heads, their sign is changed there."""
    loop = the_loop(kernel_of(ROTARY))
    assert {s.tensor for s in loop.body if isinstance(s, Load)} == {"X"}
    assert loop.var == "h"


def test_members_are_loaded_one_early_and_the_last_ends_outside() -> None:
    kernel = draft(stage_of(NORMS, "j"), "gaudi2")
    loop = the_loop(kernel)
    loads = [s for s in loop.body if isinstance(s, Load)]
    assert {s.tensor for s in loads} == {"x"} and not any(s.fresh for s in loads)
    assert sum(isinstance(s, Store) for s in kernel.body) == sum(isinstance(s, Store) for s in loop.body) == 8
    first, last = (
        n for n, s in enumerate(loop.body) if isinstance(s, Load | Store) and s in (loads[-1], loop.body[-1])
    )
    assert first < last  # the open compiler moves no load over a store


def test_a_copy_is_stored_before_its_register_is_loaded_anew() -> None:
    loop = the_loop(draft(stage_of("op f(x: f32[M, N]) -> y: f32[M, N] { y[i,j] = x[i,j] }", "j"), "gaudi2"))
    kinds = [type(s) for s in loop.body if isinstance(s, Load | Store)]
    assert kinds == [Store] * 8 + [Load] * 8


def test_rows_share_a_reduction_and_what_follows_it() -> None:
    """16 rows, 8 to a register: 3 steps of 4, 2 and 1 pairs, 3 exchanges; the root is taken twice."""
    kernel = kernel_of(NORM)
    found = operations(kernel)
    steps = {f"{half}_{step}": 2 * pairs for half in ("first", "second") for step, pairs in _PAIRS.items()}
    assert {op: n for op, n in found.items() if op in steps} == steps
    assert found["shuffle"] == 2 * (3 + 2) and found["pick_dual_group"] == 16
    assert sum(isinstance(s, Invoke) for s in kernel.body) == 2


_PAIRS = {"near": 4, "far": 2, "groups": 1}


@pytest.mark.parametrize("lane, walks", [("q", 1), ("k", 2)])
def test_weights_are_kept_from_the_sum_to_the_last_walk(lane: str, walks: int) -> None:
    """Along the lanes two vectors of a row at a time, then one."""
    kernel = draft(softmax_stage("full", lane, "bf16"), "gaudi2")
    loops = [s for s in walk(kernel.body) if isinstance(s, Loop) and not any(isinstance(x, Loop) for x in s.body)]
    storing = [loop for loop in loops if any(isinstance(s, LocalStore) for s in loop.body)]
    loading = [loop for loop in loops if any(isinstance(s, LocalLoad) for s in loop.body)]
    assert (len(storing), len(loading)) == (1, walks)
    assert not any(isinstance(s, Invoke | Load) for loop in loading for s in loop.body)
