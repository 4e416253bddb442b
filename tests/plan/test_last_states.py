"""Last values of states: every algorithm computes what the text says, by the interpreter; and what plans look like."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernel.examples import kernels_of
from tpcgen.interpreter import run
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.groups import groups
from tpcgen.program import ir, load_text, sizes
from tpcgen.rewrite.alternatives import alternatives
from tpcgen.rewrite.normalise import normalise

SIGNATURE = """op f(Q: {T}[B, N, D], K: {T}[B, N, D], V: {T}[B, N, E], g: f32[B, N], S0: f32[B, D, E])
    -> O: {T}[B, N, E]{more} {{"""
STATE = "state S[b,d,e]: f32 = S0[b,d,e]"
UPDATE = "S[b,d,e] := g[b,t] * S[b,d,e] + K[b,t,d] * V[b,t,e]"
OUTPUT = "O[b,t,e] = sum[d](Q[b,t,d] * S[b,d,e])"
TWO = """state Z[b,d]: f32 = 0
    {UPDATE}
    Z[b,d] := g[b,t] * Z[b,d] + abs(K[b,t,d])
    O[b,t,e] = sum[d](Q[b,t,d] * S[b,d,e]) / (1.0 + sum[d](abs(Q[b,t,d]) * Z[b,d]))""".replace("{UPDATE}", UPDATE)
CASES = {
    "kept": (", S1: f32[B, D, E]", f"{STATE}\n{UPDATE}\n{OUTPUT}", "S1[b,x,y] = S[b,x,y]"),
    "before the update": (", S1: f32[B, D, E]", f"{STATE}\n{OUTPUT}\n{UPDATE}", "S1[b,d,e] = S[b,d,e]"),
    "used": (", y: f32[B, E]", f"{STATE}\n{UPDATE}\n{OUTPUT}", "y[b,e] = sum[d](S[b,d,e] * S0[b,d,e])"),
    "rounded": (", S1: bf16[B, D, E]", f"{STATE}\n{UPDATE}\n{OUTPUT}", "S1[b,d,e] = bf16(S[b,d,e])"),
    "turned": (", S1: f32[B, E, D]", f"{STATE}\n{UPDATE}\n{OUTPUT}", "S1[b,e,d] = 2.0 * S[b,d,e]"),
    "part": (", S1: f32[B, E]", f"{STATE}\n{UPDATE}\n{OUTPUT}", "S1[b,e] = S[b,0,e] where e > 0"),
    "of two": (", S1: f32[B, D, E], Z1: f32[B, D]", f"{STATE}\n{TWO}", "S1[b,d,e] = S[b,d,e]\nZ1[b,d] = Z[b,d]"),
    "of strangers": (
        ", S1: f32[B, D, E], f1: f32[B]",
        f"state f[b]: f32 = 1\n{STATE}\n{UPDATE}\nf[b] := g[b,t] * f[b]\n{OUTPUT}",
        "S1[b,d,e] = S[b,d,e]\nf1[b] = f[b]",
    ),
}
ALONE = {
    "outer product": f"S[b,d,e]: f32 = S0[b,d,e]\n{UPDATE}\n}} S1[b,d,e] = S[b,d,e]",
    "sum": "S[b,d]: f32 = S0[b,d,0]\nS[b,d] := g[b,t] * S[b,d] + K[b,t,d]\n} S1[b,d,e] = S[b,d] * V[b,0,e] where N > 0",
}


def program(case: str, dtype: str = "f32") -> ir.Program:
    if case in ALONE:
        head = SIGNATURE.replace("O: {T}[B, N, E]{more}", "S1: f32[B, D, E]").format(T=dtype)
        return load_text(f"{head} scan t in 0 .. N {{ state {ALONE[case]} }}").program("f")
    more, steps, after = CASES[case]
    text = SIGNATURE.format(T=dtype, more=more) + f"scan t in 0 .. N {{ {steps}\n}}\n{after}\n}}"
    return load_text(text).program("f")


def _inputs(p: ir.Program, n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    values = {"B": 2, "N": n, "D": 3, "E": 5}
    bound = sizes.bind(p, {k: v for k, v in values.items() if k in p.sizes})
    made = {t.name: rng.standard_normal(bound.shape(t)).astype(np.float32) for t in p.inputs}
    return made | {"g": rng.choice([0.0, 1e-30, 0.5, 1.0], (2, n)).astype(np.float32)}


@pytest.mark.parametrize("case", [*CASES, *ALONE])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 130])
def test_every_algorithm_leaves_the_same_last_values(case: str, n: int) -> None:
    p = program(case)
    inputs = _inputs(p, n)
    expected = run(p, inputs, {})
    found = alternatives(p).programs
    assert {a.label.split(" ")[0] for a in found} == {"", "chunks"}
    for a in found:
        if a.length > 64 and n < 130:
            continue
        for name, value in run(normalise(a.program), inputs, {}).items():
            scale = np.abs(expected[name]).max(initial=1e-300)
            np.testing.assert_allclose(
                value, expected[name], rtol=1e-9, atol=1e-11 * scale, err_msg=f"{a.label} {name}"
            )


@pytest.mark.parametrize("case", [*CASES, *ALONE])
def test_every_plan_is_lowered(case: str) -> None:
    plans = enumerate_plans(program(case), "gaudi2")
    assert len(plans) >= 4
    for plan in plans:
        kernels_of(plan, "f32")


def test_the_kernel_of_the_scan_writes_the_last_value() -> None:
    """No second pass over the steps, and no tensor of all steps."""
    (scan,) = groups(normalise(program("kept")))
    assert scan.targets == ("O", "S1")


def test_a_state_with_an_axis_less_is_scanned_again_alone() -> None:
    made = groups(normalise(program("of two")))
    assert [g.targets for g in made] == [("O", "S1"), ("Z1",)]
