"""Kernels of scans as text: the member's own states, either direction, an update with a domain."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernel.examples import kernels_of
from tpcgen.kernel.print import kernel as kernel_text
from tpcgen.kernel.tpc_c import render
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import load_text

NORMALISED = """op normalised(Q: bf16[B, N, D], K: bf16[B, N, D], V: bf16[B, N, E], g: f32[B, N]) -> O: bf16[B, N, E] {
    scan t in 0 .. N reverse {
        state S[b,d,e]: f32 = 0
        state Z[b,d]: f32 = 1
        S[b,d,e] := g[b,t] * S[b,d,e] + K[b,t,d] * V[b,t,e]
        Z[b,d] := g[b,t] * Z[b,d] + K[b,t,d]
        O[b,t,e] = sum[d](Q[b,t,d] * S[b,d,e]) / sum[d](Q[b,t,d] * Z[b,d])
    }
}"""
MEANS = """op means(x: f32[B, H, N, E], ok: i32[B, N], first: f32[H, E]) -> y: f32[B, H, N, E] {
    scan t in 0 .. N {
        state s[b,h,e]: f32 = first[h,e]
        y[b,h,t,e] = s[b,h,e]
        s[b,h,e] := 0.5 * s[b,h,e] + x[b,h,t,e] where ok[b,t] > 0
    }
}"""


@pytest.mark.parametrize(("text", "target"), [(NORMALISED, "gaudi2"), (MEANS, "gaudi")], ids=["normalised", "means"])
def test_scans(text: str, target: str, golden: Callable[..., None]) -> None:
    module = load_text(text)
    (name,) = module.ops
    plan = enumerate_plans(module.program(name), target)[0]
    ((_, kernel),) = kernels_of(plan, "x")
    golden(kernel_text(kernel), "kernel.txt")
    golden(render(kernel), "c")
