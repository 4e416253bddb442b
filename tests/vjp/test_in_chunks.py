"""Gradients of the forward over chunks: the same numbers as the gradient of its steps, without its memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.device.harness import drawn
from tests.std.library import VARIANTS
from tpcgen.interpreter.run import run
from tpcgen.machine import machines
from tpcgen.partition.choose import choose_among, space
from tpcgen.program import load_text
from tpcgen.program.ir import Program
from tpcgen.program.sizes import bind
from tpcgen.rewrite.alternatives import Alternative
from tpcgen.rewrite.vjp import differentiable_inputs, vjp
from tpcgen.rewrite.vjp.in_chunks import gradients_in_chunks

CHUNKED = ("gated_linear", "gated_linear_resumed", "retnet", "retnet_parallel", "mamba2")
STEP_BY_STEP = ("gla", "mamba1")
OWN_CHUNKS = ("linear",)
GATES = (0.0, 1e-30, 0.5, 1 - 2.0**-12, 1.0)
BEFORE = """op seen_before(q: f32[N, D], k: f32[N, D], v: f32[N, E], g: f32[N]) -> y: f32[N, E], last: f32[D, E]
{
    scan t in 0 .. N {
        state s[d,e]: f32 = 0
        y[t,e] = sum[d](q[t,d] * s[d,e])
        s[d,e] := g[t] * s[d,e] + k[t,d] * v[t,e]
    }
    last[d,e] = s[d,e]
}
"""


def of_chunks(program: Program) -> tuple[Program, tuple[Alternative, ...]]:
    wrt = differentiable_inputs(program)
    gradient = vjp(program, wrt)
    return gradient, gradients_in_chunks(program, gradient, wrt, program.span)


def agree(program: Program, values: Mapping[str, int], gates: bool) -> None:
    gradient, found = of_chunks(program)
    inputs = drawn(gradient, values, "normal")
    if gates:
        inputs["g"] = np.random.default_rng(1).choice(GATES, inputs["g"].shape).astype(np.float32)
    wanted = run(gradient, inputs, {})
    assert [a.length for a in found] == [64, 128, 256]
    for alternative in found[:1]:
        got = run(alternative.program, inputs, {})
        for name, value in wanted.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-9 * np.abs(value).max(initial=0))


@pytest.mark.parametrize("name", CHUNKED)
@pytest.mark.parametrize("length", [0, 65, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 7, 63, 129))])
def test_of_the_library(name: str, length: int) -> None:
    variant = VARIANTS[name]
    values = {**variant.checks()[0], "N": length} | {s: 3 for s in variant.program("f32").sizes if s in "DEPR"}
    agree(variant.program("f32"), values, gates=name.startswith("gated"))


@pytest.mark.parametrize("length", [1, 65])
def test_where_a_step_sees_those_before_it(length: int) -> None:
    agree(load_text(BEFORE).program("seen_before"), {"N": length, "D": 2, "E": 3}, gates=True)


@pytest.mark.parametrize("name", [*STEP_BY_STEP, *OWN_CHUNKS, "causal"])
def test_none_where_the_forward_has_no_chunks_or_the_gradient_has_its_own(name: str) -> None:
    assert not of_chunks(VARIANTS[name].program("f32"))[1]


def test_they_are_chosen_and_no_state_of_a_step_is_kept() -> None:
    gradient, found = of_chunks(VARIANTS["gated_linear"].program("bf16"))
    sizes = bind(gradient, {"B": 1, "H": 8, "N": 4096, "D": 64, "E": 64})
    steps = choose_among(space(gradient, machines()["gaudi2"]), sizes)
    chunks = choose_among(space(gradient, machines()["gaudi2"], found), sizes)
    assert chunks.plan.label.startswith("gradient of chunks of ")
    assert chunks.price.seconds < steps.price.seconds / 5
    states = 4 * 8 * 4096 * 64 * 64
    assert chunks.price.peak < states / 2 < states < steps.price.peak
