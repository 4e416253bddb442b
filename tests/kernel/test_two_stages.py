"""Loops of two stages, sums fused with what widens their operands, and how often loops are passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.stages import softmax_stage, stage_of
from tpcgen.kernel.cycles import runs
from tpcgen.kernel.ir import Broadcast, Kernel, Load, Loop, Store, VectorOp, registers_read, walk
from tpcgen.kernel.lower import draft
from tpcgen.kernel.shape import shape_of
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load
from tpcgen.program.sizes import evaluate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "kernels"


def _hot(kernel: Kernel) -> list[Loop]:
    loops = [s for s in walk(kernel.body) if isinstance(s, Loop)]
    return [s for s in loops if not any(isinstance(x, Loop) for x in s.body) and s.step != 1]


def _carried(loop: Loop) -> set[str]:
    """Registers whose value comes from the iteration before."""
    made: set[str] = set()
    carried: set[str] = set()
    for s in loop.body:
        carried |= {name for name in registers_read(s) if name not in made}
        if isinstance(s, VectorOp | Load):
            made.add(s.dest.name)
    return carried & made


@pytest.mark.parametrize("target, staged", [("gaudi2", True), ("gaudi", False)])
def test_the_exponential_is_cut_where_its_chain_is_as_long_as_its_slots(target: str, staged: bool) -> None:
    kernel = draft(softmax_stage("full", "q", "bf16", "bf16"), target)
    (output,) = (loop for loop in _hot(kernel) if {Load, Store} <= {type(s) for s in loop.body})
    kinds = {s.op for s in output.body if isinstance(s, VectorOp) and s.dest.name in _carried(output)}
    assert kinds == ({"madd", "sel_less"} if staged else set())


def test_gaudi2_widens_and_subtracts_at_once() -> None:
    ops = {t: [s.op for s in walk(_body(t)) if isinstance(s, VectorOp)] for t in ("gaudi", "gaudi2")}
    assert "widen_add" in ops["gaudi2"]
    assert "widen_add" not in ops["gaudi"]


def _body(target: str) -> tuple[Loop, ...]:
    return tuple(_hot(draft(softmax_stage("full", "q", "bf16", "bf16"), target)))


@pytest.mark.parametrize("keys", [64, 256, 1024])
def test_every_pass_over_the_rows_is_counted_whole(keys: int) -> None:
    kernel = draft(softmax_stage("full", "q", "bf16", "bf16"), "gaudi2")
    found = runs(kernel, {"B": 2, "H": 3, "M": 128, "N": keys, "D": 64})
    hot = {id(loop): any(isinstance(s, Store) for s in loop.body) for loop in _hot(kernel)}
    walked = [(hot[id(r.loop)], r.iterations * r.loop.step) for r in found if id(r.loop) in hot]
    whole = 2 * 3 * keys
    assert sum(n for stores, n in walked if stores) == whole
    assert sum(n for stores, n in walked if not stores) == 2 * whole


@pytest.mark.parametrize(
    "coordinate, rows", [("n + 1", 8), ("2 * n + 1", 8), ("page[n]", 4), ("n // S", 4), ("n % S", 4)]
)
def test_maps_that_gather_or_divide_have_fewer_rows_in_flight(coordinate: str, rows: int) -> None:
    text = f"""
op take(x: f32[R, D], page: i32[N], S: int) -> y: f32[N, D] where S >= 1 {{
    y[n,d] = x[{coordinate}, d]
}}
"""
    assert shape_of(stage_of(text, "d")).in_flight == rows


def _benchmark(name: str, op: str) -> Kernel:
    program = load(str(BENCHMARKS / f"{name}.dsl")).program(op)
    (stage,) = (s for s in enumerate_plans(program, "gaudi2")[0].stages if isinstance(s, TpcStage))
    return draft(stage, "gaudi2")


def test_members_begin_the_products_of_the_next_one() -> None:
    (loop,) = (s for s in _benchmark("attention", "rope").body if isinstance(s, Loop))
    assert [s.fresh for s in loop.body if isinstance(s, VectorOp) and s.op == "bmul"] == [False] * 4


def test_an_element_for_all_lanes_comes_early_where_its_iteration_exists() -> None:
    (loop,) = (s for s in walk(_benchmark("attention", "decayed_scan").body) if isinstance(s, Loop))
    (element,) = (s for s in loop.body if isinstance(s, Broadcast))
    assert not element.fresh and element.left is not None
    assert [evaluate(element.left, {loop.var: t, "C": 7}) for t in (5, 6)] == [1, 0]
