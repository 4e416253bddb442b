"""f16 on gaudi2: attention and a recurrence of std/ with f16 among their dtypes, on the strict device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.device import test_variants
from tests.device.test_variants import FILES, LAYERS, SLOW
from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import DiagnosticError
from tpcgen.host.api import Session
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import Module, load_text

QUICK = ("decode", "gated_linear", "gla")
APPLYING = {"gformer", "bigbird", "block_sparse_few"}
"""They apply ops of other files, which have no f16."""


def with_f16(path: Path) -> Module:
    return load_text(path.read_text().replace("dtype T in bf16, f32", "dtype T in bf16, f16, f32"), str(path))


OPS = [
    pytest.param(path, op, id=op, marks=() if op in QUICK else pytest.mark.full)
    for path, _, op in test_variants.OPS
    if path.parent.name == "std" and op not in SLOW | LAYERS | APPLYING
]


def test_the_library_is_there() -> None:
    assert {*QUICK} <= {p.id for p in OPS} and len({p.values[0] for p in OPS}) > len(FILES) // 2


@pytest.mark.parametrize(("path", "op"), OPS)
def test_each_algorithm(path: Path, op: str, tmp_path: Path) -> None:
    with Session() as session:
        test_variants.check(with_f16(path), op, "gaudi2", "f16", tmp_path, session, whole=False)


def test_gaudi_has_none() -> None:
    module = load_text("op f(x: f16[N]) -> y: f32[N] { y[i] = x[i] + 1 }")
    with pytest.raises(DiagnosticError, match="gaudi has no f16: x holds it") as refused:
        enumerate_plans(module.program("f"), "gaudi")
    assert refused.value.diagnostics[0].id == "E408"
    enumerate_plans(module.program("f"), "gaudi3")


def test_without_a_wish_a_target_gets_the_dtypes_that_it_has(tmp_path: Path) -> None:
    spec = tmp_path / "spec.dsl"
    spec.write_text("dtype T in bf16, f16, f32\nop f(x: T[N]) -> y: T[N] { y[i] = x[i] + 1 }\ncheck small { N = 3 }\n")
    made = {
        target: compile_spec(spec, Options(target=target)).ops[0].artifact.variants for target in ("gaudi", "gaudi2")
    }
    assert [v.dtype for v in made["gaudi"]] == ["bf16", "f32"]
    assert [v.dtype for v in made["gaudi2"]] == ["bf16", "f16", "f32"]
    with pytest.raises(DiagnosticError, match="gaudi has no f16"):
        compile_spec(spec, Options(target="gaudi", dtypes=("f16",)))
