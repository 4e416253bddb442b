"""Sums of values that are never present together: the same outputs before and after, and a gradient that is cut."""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.interpreter import run
from tpcgen.machine import MACHINES
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.estimate import estimate
from tpcgen.partition.price import price
from tpcgen.program import ir, load_text, sizes
from tpcgen.program import print as program_text
from tpcgen.program.verify import verify
from tpcgen.rewrite.part_sums import part_sums
from tpcgen.rewrite.vjp import vjp

THREE = """
op three(X: f32[H, N], Y: f32[H, N], Z: f32[H, N], s: int, t: int) -> O: f32[H, N]
    where 0 <= s <= t <= H
{
    A[h,i] = tanh(X[h,i]) where h < s
    B[h,i] = Y[h,i] where s <= h < t and i > 0
    C[h,i] = Z[h,i] where h >= t
    O[h,i] = A[h,i] - (B[h,i] - C[h,i])
}
"""

APART = """\
    O[h, i] = A[h, i] where h < s
    O[h, i] = -B[h, i] where h >= s and h < t
    O[h, i] = C[h, i] where h >= s and h >= t
"""

TOGETHER = """
op together(X: f32[H, N], Y: f32[H, N], s: int, keep: i32[H]) -> O: f32[H, N], P: f32[H, N], M: f32[H, N]
{
    A[h,i] = X[h,i] where h <= s
    B[h,i] = Y[h,i] where h >= s
    C[h,i] = X[h,i] where keep[h] > 0
    D[h,i] = Y[h,i] where keep[h] <= 0
    O[h,i] = A[h,i] + B[h,i]
    P[h,i] = C[h,i] + D[h,i]
    M[h,i] = X[h,i] + Y[h,i] where h < s
}
"""

GFORMER = """
op gformer(Q: f32[H, N, D], K: f32[H, N, D], V: f32[H, N, E], Hs: int) -> O: f32[H, N, E]
    where 0 <= Hs <= H
{
    S[h,q,k] = rsqrt(D) * sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[k where k <= q](S[h,q,k])
    A[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
    L[h,q,k] = sum[d](relu(Q[h,q,d]) * relu(K[h,k,d])) where k <= q
    C[h,q,e] = sum[k](L[h,q,k] * V[h,k,e])
    O[h,q,e] = A[h,q,e] where h < Hs
    O[h,q,e] = C[h,q,e] where h >= Hs
}
"""


def program(text: str) -> ir.Program:
    module = load_text(text, "spec.dsl")
    return module.program(module.ops[0])


def drawn(p: ir.Program, values: dict[str, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    binding = sizes.bind(p, values)
    made = {t.name: rng.standard_normal(binding.shape(t)) for t in p.inputs}
    return {t.name: made[t.name].astype(t.dtype.numpy) for t in p.inputs}


def test_a_sum_of_three_becomes_three_pieces() -> None:
    apart = verify(part_sums(program(THREE)))
    assert program_text.program(apart).endswith(APART + "}\n")


@pytest.mark.parametrize(("s", "t"), [(0, 0), (0, 5), (2, 3), (5, 5)])
def test_the_same_values(s: int, t: int) -> None:
    whole = program(THREE)
    apart = part_sums(whole)
    inputs = drawn(whole, {"H": 5, "N": 3, "s": s, "t": t})
    inputs["Z"][:t], inputs["X"][s:], inputs["Y"][:, 0] = np.nan, np.nan, np.inf  # at points that nobody visits
    found, wanted = (run(p, inputs, {"s": s, "t": t})["O"] for p in (apart, whole))
    np.testing.assert_array_equal(found, wanted)
    assert np.isfinite(wanted).all() and wanted.any()


def test_what_may_be_present_together_stays_a_sum() -> None:
    """Both at h = s; where only the data decides; both below s."""
    whole = program(TOGETHER)
    assert part_sums(whole) == whole


@pytest.mark.parametrize("heads", [0, 1, 4])
def test_the_gradient_of_pieces_is_computed_apart(heads: int) -> None:
    forward = program(GFORMER)
    values = {"H": 4, "N": 17, "D": 8, "E": 8, "Hs": heads}
    gradient = vjp(forward, ["Q", "K", "V"])
    binding = sizes.bind(gradient, values)
    prices = [price(p, MACHINES["gaudi2"], binding, estimate) for p in enumerate_plans(gradient, "gaudi2")]
    square = 17 * 17 * 8
    # S, dP, dQ, dK, dV of a windowed head; L, dL, dQ, dK, dV of a linear one.
    whole = {p.macs for p in prices if " of " not in p.label}
    assert whole == {5 * square * heads + 5 * square * (4 - heads)}
