"""What stays a tensor between contractions: no reduction is computed once per point of an axis it has nothing of."""

from __future__ import annotations

from tests.std.library import VARIANTS
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import ir, load_text

DIVIDED = """
op divided(A: f32[N, M], X: f32[N, E]) -> O: f32[N, E], R: f32[N]
{
    Z[q] = 1 / (sum[k](A[q,k]) + 1)
    O[q,e] = X[q,e] * Z[q]
    R[q] = sum[e](X[q,e] * Z[q])
}
"""

NORMALISED = """
op normalised(X: f32[N, M]) -> O: f32[N, M]
{
    m[q] = sum[k](X[q,k]) / M
    v[q] = sum[k]((X[q,k] - m[q]) * (X[q,k] - m[q])) / M
    O[q,k] = (X[q,k] - m[q]) * rsqrt(v[q] + 1e-6)
}
"""


def stages(text: str) -> list[ir.Program]:
    module = load_text(text, "spec.dsl")
    plan = enumerate_plans(module.program(module.ops[0]), "gaudi2")[0]
    return [s.program for s in plan.stages if isinstance(s, TpcStage)]


def reductions(e: ir.Equation) -> set[tuple[str, ...]]:
    return {x.indices for x in ir.walk(e.value) if isinstance(x, ir.Reduce)}


def test_a_sum_over_another_axis_is_computed_once_a_row() -> None:
    made = {e.target: reductions(e) for p in stages(DIVIDED) for e in p.body if isinstance(e, ir.Equation)}
    assert made["Z"] == {("k",)} and made["O"] == set() and made["R"] == {("e",)}


def test_sums_over_the_axis_of_the_reader_stay_in_its_kernel() -> None:
    (only,) = stages(NORMALISED)
    (equation,) = only.body
    assert isinstance(equation, ir.Equation) and reductions(equation) == {("k",)}


def test_a_maximum_over_all_keys_is_not_taken_by_every_chunk() -> None:
    plans = enumerate_plans(VARIANTS["performer"].program("bf16"), "gaudi2")
    chunked = next(p for p in plans if p.label.startswith("chunks"))
    programs = [s.program for s in chunked.stages if isinstance(s, TpcStage)]
    taking = [e for p in programs for e in p.body if isinstance(e, ir.Equation) and ("k", "r") in reductions(e)]
    assert [e.indices for e in taking] == [("b", "h", "k", "r")]
