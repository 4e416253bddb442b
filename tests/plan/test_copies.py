"""Stages that only bring elements elsewhere: recognised, planned, and right as torch ops."""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.interpreter import run
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import CopyStage, MmeStage
from tpcgen.partition.print import buffer_shape
from tpcgen.program import load_text, sizes

BANDED = """
op banded(Q: bf16[B, H, N, D], K: bf16[B, H, N, D], V: bf16[B, H, N, E], W: int = 5) -> O: bf16[B, H, N, E]
    where W >= 1
{
    index n in 0 .. (N + 7) // 8
    index i in 0 .. 8
    index j in 0 .. 7 + W
    Q_b[b,h,n,i,d]: bf16 = Q[b,h,8*n+i,d] where 8*n+i < N
    K_b[b,h,n,j,d]: bf16 = K[b,h,8*n+j-(W-1),d] where 0 <= 8*n+j-(W-1) < N
    V_b[b,h,n,j,e]: bf16 = V[b,h,8*n+j-(W-1),e] where 0 <= 8*n+j-(W-1) < N
    S[b,h,n,i,j] = rsqrt(D) * sum[d](Q_b[b,h,n,i,d] * K_b[b,h,n,j,d])
    P[b,h,n,i,j] = softmax[j where i <= j < i + W](S[b,h,n,i,j])
    O_b[b,h,n,i,e]: bf16 = sum[j](P[b,h,n,i,j] * V_b[b,h,n,j,e])
    O[b,h,q,e] = O_b[b,h,q // 8,q % 8,e]
}
"""

HEADS = """
op heads(A: f32[H, N, E], C: f32[G, N, E], Hs: int) -> O: f32[H, N, E]
    where 0 <= Hs <= H, G == H - Hs
{
    O[h,q,e] = C[h - Hs,q,e] where h >= Hs
    O[h,q,e] = A[h,q,e] where h < Hs
}
"""


@pytest.mark.parametrize("n", [1, 7, 8, 9, 65])
@pytest.mark.parametrize("w", [1, 5, 80])
def test_a_banded_program_computes_what_it_says(n, w, execute, random_inputs):
    program = load_text(BANDED).program("banded")
    values = {"B": 1, "H": 2, "N": n, "D": 4, "E": 3, "W": w}
    inputs = random_inputs(program, values)
    expected = run(program, inputs, {"W": w})["O"]
    for plan in enumerate_plans(program, "gaudi2"):
        kinds = [type(s) for s in plan.stages]
        assert kinds.count(CopyStage) == 4
        assert kinds.count(MmeStage) == 2
        assert len(kinds) == 7  # one kernel: nothing is masked that its copy does not mask
        np.testing.assert_allclose(execute(plan, inputs, values, "exact")["O"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hs", [0, 1, 3])
def test_parts_lie_side_by_side(hs, execute, random_inputs):
    program = load_text(HEADS).program("heads")
    values = {"H": 3, "G": 3 - hs, "N": 5, "E": 2, "Hs": hs}
    inputs = random_inputs(program, values)
    (plan,) = enumerate_plans(program, "gaudi2")
    assert [type(s) for s in plan.stages] == [CopyStage]
    expected = np.concatenate([inputs["A"][:hs], inputs["C"]])
    np.testing.assert_array_equal(execute(plan, inputs, values, "device")["O"], expected)


@pytest.mark.parametrize("text", ["8*n+i < M", "8*n+i < N - 1", "8*n+i < N, n < 2", "i < 8"])
def test_a_domain_that_says_more_is_no_copy(text):
    source = BANDED.replace("where 8*n+i < N", f"where {' and '.join(text.split(', '))}").replace(
        "V: bf16[B, H, N, E],", "V: bf16[B, H, N, E], X: f32[M],"
    )
    program = load_text(source).program("banded")
    copies = [s.copy.target for s in enumerate_plans(program, "gaudi2")[0].stages if isinstance(s, CopyStage)]
    assert ("Q_b" in copies) == (text == "i < 8")  # which always holds


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 64, 65])
def test_windows_and_blocks_in_torch(n):
    torch = pytest.importorskip("torch")
    from tpcgen.torch.runtime import axis_blocks, axis_window

    x = torch.arange(2 * n, dtype=torch.float32).reshape(2, n, 1)
    for start in (-70, -9, -1, 0, 3, 70):
        for length in (0, 1, 8, 66):
            expected = [
                [float(x[r, p, 0]) if 0 <= p < n else 0.0 for p in range(start, start + length)] for r in range(2)
            ]
            got = axis_window(x, 1, start, length)
            assert got.shape == (2, length, 1)
            assert got[..., 0].tolist() == expected
        count = (n + 7) // 8
        got = axis_blocks(x, 1, start, count, 8, 11)
        assert got.shape == (2, count, 11, 1)
        for b in range(count):
            wanted = [float(x[1, p, 0]) if 0 <= p < n else 0.0 for p in range(start + 8 * b, start + 8 * b + 11)]
            assert got[1, b, :, 0].tolist() == wanted


def test_a_copy_that_moves_nothing_costs_nothing():
    from tpcgen.machine import MACHINES
    from tpcgen.partition.estimate import estimate
    from tpcgen.partition.price import price

    program = load_text(BANDED).program("banded")
    plan = enumerate_plans(program, "gaudi2")[0]
    for n, free in ((64, True), (65, False)):
        binding = sizes.bind(program, {"B": 1, "H": 2, "N": n, "D": 4, "E": 3})
        costs = {s.name: s for s in price(plan, MACHINES["gaudi2"], binding, estimate).stages}
        assert (costs["copy_q_b"].seconds == 0) == free
        assert costs["copy_k_b"].seconds > 0


def test_rows_that_nobody_visits_are_copied_out_once_per_key_head():
    program = load_text("""
op decode(Q: bf16[B, H, D], K: bf16[B, G, N, D], V: bf16[B, G, N, E], len: i32[B]) -> O: bf16[B, H, E]
    where G >= 1, H % G == 0, 0 <= len[b] <= N
{
    let R = H // G
    S[b,h,k] = sum[d](Q[b,h,d] * K[b, h // R, k, d])
    P[b,h,k] = softmax[k where k < len[b]](S[b,h,k])
    O[b,h,e] = sum[k](P[b,h,k] * V[b, h // R, k, e])
}
""").program("decode")
    plan = enumerate_plans(program, "gaudi2")[0]
    assert buffer_shape(plan.buffer("V_m")) == "bf16[B, G, N, E]"
