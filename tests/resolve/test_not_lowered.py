"""What the compiler cannot lower yet: one diagnostic per construct, that names it and shows every place of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import Diagnostic, DiagnosticError
from tpcgen.kernel.lower import lower
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load_text

EXAMPLES = Path(__file__).parents[2] / "examples"


def refused(path: Path) -> tuple[Diagnostic, ...]:
    with pytest.raises(DiagnosticError) as caught:
        compile_spec(path, Options())
    return caught.value.diagnostics


def shown(d: Diagnostic) -> list[str]:
    """The source of a diagnostic and of its labels, of each its first line."""
    lines = Path(d.span.file).read_text().split("\n")
    spans = (d.span, *(label.span for label in d.labels))
    return [lines[s.line - 1][s.column - 1 : s.end_column - 1 if s.line == s.end_line else None] for s in spans]


@pytest.mark.parametrize(
    "body, id, message, places",
    [
        (
            "scan i in 0 .. N { state s[k]: f32 = 0\n s[k] := s[k] + x[i,k]\n y[i,k] = rank[k](s[k]) }",
            "E404",
            "this rank is not lowered yet",
            ["rank[k](s[k])"],
        ),
        (
            "scan i in 0 .. N { state s[k]: f32 = 0\n s[k] := s[k] + x[i,k]\n"
            " y[i,k] = s[k] where rank[k](s[k]) + rank[k](-s[k]) < 2 }",
            "E404",
            "this rank is not lowered yet",
            ["rank[k](s[k])", "rank[k](-s[k])"],
        ),
        (
            "a[i,k] = x[i,k] where k <= i\n y[i,k] = 2.0 where a[i,k] > 0\n y[i,k] = 1.0 where a[i,k] <= 0",
            "E402",
            "these pieces of y are not lowered yet: a domain reads a value that may be absent",
            ["y[i,k] = 2.0 where a[i,k] > 0", "y[i,k] = 1.0 where a[i,k] <= 0"],
        ),
    ],
)
def test_a_construct_is_named_once_with_all_its_places(
    tmp_path: Path, body: str, id: str, message: str, places: list[str]
) -> None:
    spec = tmp_path / "spec.dsl"
    spec.write_text(f"op f(x: f32[N, K]) -> y: f32[N, K] {{\n{body}\n}}\ncheck small {{ N = 4, K = 5 }}\n")
    (found,) = refused(spec)
    assert (found.id, found.message) == (id, message)
    assert shown(found) == places


def test_each_missing_construct_of_a_spec_is_named(tmp_path: Path) -> None:
    spec = tmp_path / "spec.dsl"
    spec.write_text(
        "op f(x: f32[N], at: i32[N]) -> y: f32[N], z: i32[N, N], v: f8_143[N] {\n"
        "    scan t in 0 .. N { state s[i]: f32 = 0\n s[i] := s[i] + x[t]\n z[t,i] = rank[i](s[i]) }\n"
        "    y[i] = x[at[i]] where i < 2\n    y[i] = x[i] where i >= 2\n"
        "    v[i] = x[i]\n}\ncheck small { N = 4 }\n"
    )
    assert sorted(d.id for d in refused(spec)) == ["E404", "E408"]  # what is piecewise shows later


def test_linear_attention_compiles() -> None:
    (op,) = compile_spec(EXAMPLES / "linear.dsl", Options(dtypes=("f32",))).ops
    assert op.artifact.name == "linear"


def test_sizes_near_the_end_of_i32_are_refused(tmp_path: Path) -> None:
    spec = tmp_path / "spec.dsl"
    spec.write_text("op f(x: f32[N]) -> y: f32[N] { y[i] = exp(x[i]) }\ncheck large { N = 2147483647 }\n")
    (found,) = refused(spec)
    assert found.id == "E316"
    assert "too large" in found.message


def test_an_op_without_a_tensor_to_read_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "spec.dsl"
    spec.write_text("op f(n: int) -> y: f32[n] { y[i] = f32(i) }\ncheck small { n = 7 }\n")
    (found,) = refused(spec)
    assert (found.id, found.span.line) == ("E429", 1)


def test_a_kernel_beyond_its_code_memory_is_refused() -> None:
    """Searches inside of searches: a mask of data that is a union, in four steps of queries."""
    text = """op f(S: f32[M, N], V: f32[N, E], layout: i32[(M + 2) // 3, (N + 2) // 3]) -> O: f32[M, E]
    where M <= N
{
    index q in 0 .. M
    index k in 0 .. N
    P[q,k] = softmax[k where k <= q and layout[q // 3, k // 3] > 0 and (k >= q or k < 2)](S[q,k])
    O[q,e] = sum[k](P[q,k] * V[k,e]) / sum[k](P[q,k])
    schedule { steps q 4; }
}
"""
    plans = enumerate_plans(load_text(text).program("f"), "gaudi")
    stages = [s for p in plans for s in p.stages if isinstance(s, TpcStage) and s.name.startswith("any")]
    with pytest.raises(DiagnosticError) as refusal:
        for stage in stages:
            lower(stage, target="gaudi", name=stage.name)
    assert [d.id for d in refusal.value.diagnostics] == ["E430"]
