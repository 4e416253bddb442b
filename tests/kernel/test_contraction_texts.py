"""Kernels of contractions: a tile of rows by one vector, whose loaded vectors are shared by its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.stages import stage_of
from tpcgen.kernel.ir import Broadcast, Load, Loop, VectorOp, walk
from tpcgen.kernel.lower import lower
from tpcgen.kernel.print import kernel as kernel_text
from tpcgen.kernel.tpc_c import render
from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.assembly import machine_loops

COMPILER = tpc_clang.find()
OUTER = """op outer(K: {t}[B, H, C, L, D], V: {t}[B, H, C, L, E]) -> U: f32[B, H, C, D, E] {{
    U[b,h,c,d,e] = sum[t](K[b,h,c,t,d] * V[b,h,c,t,e])
}}"""
CHOICES = (("f32", "gaudi2"), ("bf16", "gaudi2"), ("f32", "gaudi"))


@pytest.mark.parametrize(("dtype", "target"), CHOICES)
def test_outer_products(dtype: str, target: str, golden: Callable[..., None]) -> None:
    kernel = lower(stage_of(OUTER.format(t=dtype), "e"), target=target, name="outer")
    golden(kernel_text(kernel), "kernel.txt")
    golden(render(kernel), "c")


@pytest.mark.parametrize(("dtype", "rows"), [("f32", 8), ("bf16", 4)])
def test_a_loaded_vector_is_multiplied_by_every_row_of_the_tile(dtype: str, rows: int) -> None:
    kernel = lower(stage_of(OUTER.format(t=dtype), "e"), target="gaudi2", name="outer")
    hot = next(s for s in walk(kernel.body) if isinstance(s, Loop) and not any(isinstance(x, Loop) for x in s.body))
    assert sum(isinstance(s, Load) for s in hot.body) == hot.step
    assert sum(isinstance(s, Broadcast) for s in hot.body) == rows * hot.step
    assert sum(isinstance(s, VectorOp) and s.op in ("mac", "bmac") for s in hot.body) == rows * hot.step


@pytest.mark.skipif(COMPILER is None, reason="no tpc-clang: set TPC_CLANG")
@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
def test_five_of_six_bundles_of_the_innermost_loop_multiply(tmp_path: Path, target: str) -> None:
    assert COMPILER is not None
    source = tmp_path / "outer.c"
    source.write_text(render(lower(stage_of(OUTER.format(t="f32"), "e"), target=target, name="outer")))
    made = source.with_suffix(".s")
    tpc_clang.compile_kernel(COMPILER, source, target, made, {})
    loops = [x for x in machine_loops(made.read_text()) if x.innermost]
    assert loops[0].words <= 32 * 6 / 5
    assert loops[0].idle == 0
