"""Pieces that no threshold divides become one equation: the same outputs, whatever is read outside a piece."""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.diagnostics import DiagnosticError, Diagnostics
from tpcgen.interpreter import run
from tpcgen.interpreter.inputs import draw, families
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import ir, load_text
from tpcgen.program import print as program_text
from tpcgen.program.verify import verify
from tpcgen.rewrite.merge_pieces import merge_pieces

SPECS = {
    "halves": """
op halves(x: f32[N, D], c: f32[N, D // 2]) -> y: f32[N, D] where D % 2 == 0 {
    let F = D // 2
    index d in 0 .. D
    y[n,d] = x[n,d] * c[n,d] - x[n, d + F] where d < F
    y[n,d] = x[n,d] + x[n, d - F] * c[n, d - F] where d >= F
}
""",
    "pairs": """
op pairs(x: f32[N, D], z: f32[M, D]) -> y: f32[N, D], s: f32[N] where D % 2 == 0 {
    index d in 0 .. D
    r[n,d] = x[n,d] - x[n, d + 1] where d % 2 == 0
    r[i,d] = 2 * x[i, d - 1] where d % 2 == 1
    s[n] = sum[d](r[n,d])
    y[n,d] = exp(r[n,d])
}
""",
    "triangle": """
op triangle(x: f32[N, K], sel: i32[N]) -> y: f32[N, K], p: f32[N, K] where 0 <= sel[n] < 3 {
    index m in 0 .. K
    a[n,k] = x[n,k] * 2 where k < n
    a[n,k] = tanh(x[n,k]) where k > n and sel[n] == 1
    a[n,m] = 1.0 where m > n and not (sel[n] == 1)
    y[n,k] = a[n,k] + 1
    p[n,k] = softmax[k](a[n,k])
}
""",
}
SIZES = {"N": 7, "K": 9, "D": 6, "M": 2}


def program_of(text):
    module = load_text(text)
    return module.program(module.ops[0])


def merged(program):
    found = Diagnostics()
    result = merge_pieces(program, found)
    found.raise_if_errors()
    return verify(result)


def values_of(program):
    return {s: SIZES[s] for s in program.sizes}


@pytest.mark.parametrize("name", SPECS)
def test_the_outputs_are_the_same(name):
    program = program_of(SPECS[name])
    after = merged(program)
    targets = [s.target for s in after.body]
    assert len(targets) == len(set(targets))
    assert program_of(program_text.program(after)) == after
    for family in families(program):
        inputs = draw(program, values_of(program), np.random.default_rng(1), family)
        for mode in ("exact", "device"):
            expected, got = (run(p, inputs, {}, mode=mode) for p in (program, after))
            for output, value in expected.items():
                np.testing.assert_array_equal(got[output], value, err_msg=f"{output} {family} {mode}")


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("family", ["normal", "stale"])
def test_plans_compute_the_pieces(name, family, execute):
    program = program_of(SPECS[name])
    inputs = draw(program, values_of(program), np.random.default_rng(2), family)
    expected = run(program, inputs, {})
    for plan in enumerate_plans(program, "gaudi2"):
        got = execute(plan, inputs, values_of(program), "exact")
        for output, value in expected.items():
            np.testing.assert_allclose(got[output], value, rtol=1e-12, atol=1e-12)


def test_what_leaves_no_point_out_needs_no_domain():
    domains = {
        name: [s.domain for s in merged(program_of(SPECS[name])).body if isinstance(s, ir.Equation)] for name in SPECS
    }
    assert all(d is None for d in domains["halves"] + domains["pairs"])
    assert domains["triangle"][0] is not None  # the diagonal is absent


def test_a_domain_that_may_be_absent_is_refused():
    text = (
        "op f(x: f32[N]) -> y: f32[N] {\n    a[n] = x[n] where n > 1\n"
        "    y[n] = 1.0 where a[n] > 0\n    y[n] = 2.0 where a[n] <= 0\n}\n"
    )
    with pytest.raises(DiagnosticError) as raised:
        merged(program_of(text))
    assert [d.id for d in raised.value.diagnostics] == ["E402"]


def test_copies_stay_copies():
    text = (
        "op f(x: f32[H, N], z: f32[H, N], T: int) -> y: f32[H, N] where 0 <= T <= H {\n"
        "    y[h,n] = x[h,n] where h < T\n    y[h,n] = z[h,n] where h >= T\n}\n"
    )
    program = program_of(text)
    assert merged(program) == program
