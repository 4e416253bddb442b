"""Attention over a band as one kernel: its text, and what its loops hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tpcgen.kernel.ir import Broadcast, Kernel, Loop, VectorOp, walk
from tpcgen.kernel.lower import lower
from tpcgen.kernel.print import kernel as kernel_text
from tpcgen.kernel.tpc_c import render
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load_text

WINDOW = """op window(Q: {t}[B, H, N, D], K: {t}[B, H, N, D], V: {t}[B, H, N, E], W: int = 256) -> O: {t}[B, H, N, E]
    where W >= 1
{{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
    schedule {{ fuse k 72; }}
}}"""


def lowered(dtype: str, target: str) -> Kernel:
    (plan,) = enumerate_plans(load_text(WINDOW.format(t=dtype), "window.dsl").program("window"), target)
    (stage,) = (s for s in plan.stages if isinstance(s, TpcStage))
    return lower(stage, target=target, name="window")


@pytest.mark.parametrize(("dtype", "target"), [("bf16", "gaudi2"), ("f32", "gaudi")])
def test_window(dtype: str, target: str, golden: Callable[..., None]) -> None:
    kernel = lowered(dtype, target)
    golden(kernel_text(kernel), "kernel.txt")
    golden(render(kernel), "c")


@pytest.mark.parametrize(
    ("dtype", "operation", "tiles"),
    [("bf16", "bmac", [(12, 4), (12, 1), (8, 8), (8, 1)]), ("f32", "mac_by_parts", [(8, 2), (8, 1), (8, 2), (8, 1)])],
)
def test_a_vector_of_queries_or_weights_is_multiplied_by_as_many_elements(
    dtype: str, operation: str, tiles: list[tuple[int, int]]
) -> None:
    """`tiles`: elements and terms of an iteration. Nothing else is multiplied or tested there: a domain only where the
    band begins and ends.
    """
    kernel = lowered(dtype, "gaudi2")
    inner = [s for s in walk(kernel.body) if isinstance(s, Loop) and not any(isinstance(x, Loop) for x in s.body)]
    products = [s for s in inner if any(isinstance(x, Broadcast) for x in s.body)]
    for loop, (elements, terms) in zip(products, tiles, strict=True):
        operations = [x.op for x in loop.body if isinstance(x, VectorOp)]
        assert loop.step == terms
        assert operations == [operation] * elements * terms
        assert sum(isinstance(x, Broadcast) for x in loop.body) == elements * terms
    tested = [s for s in inner if any(isinstance(x, VectorOp) and x.pred is not None for x in s.body)]
    assert len(tested) == 3
