"""Access patterns of members that may be outside a tensor: the graph compiler refuses those, so none is declared."""

from __future__ import annotations

import pytest

from tests.kernel.stages import stage_of
from tpcgen.kernel.access import ALL, access_patterns
from tpcgen.kernel.ir import AxisAccess
from tpcgen.kernel.lower import lower

TILE = "64 * ((M + 63) // 64)"


def rows(text: str) -> AxisAccess:
    """What a member touches of x along its rows, with j along the lanes."""
    stage = stage_of(text, "j")
    kernel = lower(stage, target="gaudi2", name="f")
    patterns = dict(zip((t.name for t in kernel.tensors), access_patterns(kernel, stage.program), strict=True))
    return patterns["x"][1]


def test_a_member_for_every_row():
    found = rows("op f(x: f32[M, N]) -> y: f32[M, N] { y[i,j] = x[i,j] * 3 }")
    assert found != ALL
    assert found.start == 0


@pytest.mark.parametrize(
    "text",
    [
        f"op f(x: f32[M, N]) -> y: f32[{TILE}, N] {{ index i in 0 .. {TILE}\n y[i,j] = x[i,j] * 3 where i < M }}",
        "op f(x: f32[M, N]) -> y: f32[M, N] { y[i,j] = x[i + 1,j] * 3 where i + 1 < M }",
        "op f(x: f32[M, N]) -> y: f32[M, N] { y[i,j] = x[i - 9,j] * 3 where i >= 9 }",
    ],
    ids=["tile beyond the tensor", "last row beyond it", "first rows before it"],
)
def test_a_member_that_may_be_outside(text: str):
    assert rows(text) == ALL


def test_a_contract_keeps_the_last_member_inside():
    found = rows(
        "op f(x: f32[M, N], z: f32[K, N]) -> y: f32[K, N] where K <= M\n"
        "{ index i in 0 .. K\n y[i,j] = x[i,j] * z[i,j] }"
    )
    assert found != ALL
