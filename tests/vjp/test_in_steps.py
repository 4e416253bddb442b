"""Sums of what a scan keeps, made in its steps: the same numbers as the gradient that keeps all states."""

from __future__ import annotations

import numpy as np
import pytest

from tests.device.harness import drawn
from tests.std.library import VARIANTS
from tpcgen.interpreter.run import run
from tpcgen.machine import machines
from tpcgen.partition.choose import choose_among, space
from tpcgen.program import ir, load_text
from tpcgen.program.sizes import bind
from tpcgen.rewrite.alternatives import Alternative
from tpcgen.rewrite.vjp import differentiable_inputs, vjp
from tpcgen.rewrite.vjp.in_steps import sums_in_steps

LENGTHS = (0, 1, 7, 63, 65, 129)
TURNED = """op turned(q: f32[N, D], k: f32[N, D], v: f32[N, E], a: f32[N, D], s0: f32[D, E])
    -> y: f32[N, E], last: f32[D, E]
{
    scan t in 0 .. N reverse {
        state s[d,e]: f32 = s0[d,e]
        y[t,e] = sum[d](q[t,d] * s[d,e])
        s[d,e] := a[t,d] * s[d,e] + k[t,d] * v[t,e] where t % 3 != 1
    }
    last[d,e] = s[d,e]
}
"""


def of_steps(program: ir.Program) -> tuple[ir.Program, tuple[Alternative, ...]]:
    gradient = vjp(program, differentiable_inputs(program))
    return gradient, sums_in_steps(gradient)


def agree(program: ir.Program, values: dict[str, int], axes: str) -> None:
    gradient, found = of_steps(program)
    ends = ("", ", others in parts") if len(axes) > 1 else ("",)
    assert [a.label for a in found] == [f"sums along {axis} in steps{end}" for axis in axes for end in ends]
    inputs = drawn(gradient, values, "normal")
    wanted = run(gradient, inputs, {})
    for alternative in found:
        got = run(alternative.program, inputs, {})
        for name, value in wanted.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-9 * np.abs(value).max(initial=0))


@pytest.mark.parametrize("length", LENGTHS)
def test_of_mamba1(length: int) -> None:
    values = {"B": 2, "N": length, "C": 67, "R": 3}
    agree(VARIANTS["mamba1"].program("f32"), values, "rc")


@pytest.mark.parametrize("length", [0, 1, 65])
def test_of_gla(length: int) -> None:
    values = {"B": 1, "H": 2, "N": length, "D": 3, "E": 66}
    agree(VARIANTS["gla"].program("f32"), values, "ed")


@pytest.mark.parametrize("length", [1, 7])
def test_where_steps_keep_the_state_and_the_first_is_an_input(length: int) -> None:
    agree(load_text(TURNED).program("turned"), {"N": length, "D": 2, "E": 3}, "e")


@pytest.mark.parametrize("name", ["causal", "linear"])
def test_none_where_no_scan_keeps_a_state(name: str) -> None:
    assert not of_steps(VARIANTS[name].program("f32"))[1]


def test_they_are_chosen_and_one_tensor_of_all_states_is_left() -> None:
    gradient, found = of_steps(VARIANTS["mamba1"].program("bf16"))
    sizes = bind(gradient, {"B": 1, "N": 4096, "C": 512, "R": 16})
    kept = choose_among(space(gradient, machines()["gaudi2"]), sizes)
    summed = choose_among(space(gradient, machines()["gaudi2"], found), sizes)
    assert summed.plan.label.startswith("sums along r in steps")
    assert summed.price.seconds < kept.price.seconds / 1.2
    states = 4 * 4096 * 512 * 16
    assert states < summed.price.peak < 1.5 * states < 3 * states < kept.price.peak
