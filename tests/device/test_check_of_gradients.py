"""`tpcgen check` of a gradient some of whose rows nobody can judge: it says so, and still finds what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpcgen.check import check
from tpcgen.compiler import CompiledOp, Options, compile_spec
from tpcgen.emit import artifact as emit
from tpcgen.report import results

SPEC = """op near(x: bf16[N, E], a: bf16[N], b: bf16[N], w: bf16[N, E]) -> y: bf16[N, E]
{
    square[i]: bf16 = a[i] * a[i]
    y[i,e] = x[i,e] * (square[i] - b[i] * b[i]) + w[i,e]
}

vjp near wrt x

check some { N = 1030, E = 7 }
"""
"""Where a and b are nearly the same, dx is what is left of two roundings, and y is w."""


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> CompiledOp:
    spec = tmp_path_factory.mktemp("near") / "near.dsl"
    spec.write_text(SPEC)
    (op,) = compile_spec(spec, Options()).ops
    return op


def checked(op: CompiledOp, folder: Path, right: str = "", wrong: str = "") -> results.Result:
    """Of the artifact, with one text in place of another in the kernel of the gradient."""
    for name, text in emit.files(op.artifact).items():
        if "_bwd_" in name and name.endswith(".c"):
            assert right in text
            text = text.replace(right, wrong)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return check(op.artifact, folder, op.cases)


def test_rows_that_nobody_can_judge_are_told(near: CompiledOp, tmp_path: Path) -> None:
    found = checked(near, tmp_path)
    assert found.passed
    unknown = {(o.output, o.family): o.inconclusive for o in found.outcomes if o.inconclusive}
    assert {output for output, _ in unknown} == {"dx"} and {"normal", "wide"} <= {family for _, family in unknown}
    text = results.to_text(found)
    assert f"ok but for {unknown['dx', 'normal']} of 1030 rows" in text
    assert f"{len(unknown)} of them but for rows that are inconclusive" in text
    assert results.Result.from_data(found.to_data()) == found


def test_a_wrong_gradient_is_found(near: CompiledOp, tmp_path: Path) -> None:
    found = checked(near, tmp_path, "v_f32_sub", "v_f32_add")
    assert {o.output for o in found.outcomes if "the truth is" in o.reason} == {"dx"}


ATTENTION = """op seen(Q: f16[M, D], K: f16[N, D], V: f16[N, E]) -> O: f16[M, E]
{
    S[q,k] = rsqrt(D) * sum[d](Q[q,d] * K[k,d])
    P[q,k] = softmax[k](S[q,k])
    O[q,e] = sum[k](P[q,k] * V[k,e])
}

vjp seen wrt Q

check some { M = 33, N = 19, D = 8, E = 24 }
"""
"""dP of inputs and cotangents of +-320 goes to 2.4 million, an f16 to 65,504, and many keys have the same score."""


def test_a_gradient_that_overflows_on_its_way_is_checked_with_a_smaller_cotangent(tmp_path: Path) -> None:
    spec = tmp_path / "seen.dsl"
    spec.write_text(ATTENTION)
    (op,) = compile_spec(spec, Options()).ops
    found = checked(op, tmp_path)
    assert found.passed, results.to_text(found)
    assert "large" in {o.family for o in found.outcomes if o.output == "dQ"}
