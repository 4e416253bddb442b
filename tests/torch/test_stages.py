"""TPC stages on the CPU: strict until a kernel has passed, fast from then on; a kernel with findings never is fast."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tpcgen.check import check
from tpcgen.compiler import Case, CompiledOp, Options, compile_spec
from tpcgen.emit import artifact as emit
from tpcgen.host import passed

torch = pytest.importorskip("torch")

from tpcgen.torch import stages  # noqa: E402

SPEC = "op shifted(X: f32[M, N], s: f32[M]) -> O: f32[M, N] {\n    O[m,n] = X[m,n] - s[m]\n}\n"


@pytest.fixture
def strict_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """GUIDs of strict runs, in a world where no kernel has passed yet."""
    seen: list[str] = []
    run = stages.run_strict

    def counted(library: object, launch: object) -> object:
        seen.append(launch.guid)
        return run(library, launch)

    monkeypatch.setattr(stages, "run_strict", counted)
    monkeypatch.setattr(passed, "_record", lambda key: tmp_path / "passed" / key)
    return seen


@pytest.fixture
def op(tmp_path: Path) -> CompiledOp:
    path = tmp_path / "shifted.dsl"
    path.write_text(SPEC)
    (op,) = compile_spec(path, Options(prefix="tpcgen_stages")).ops
    emit.write(tmp_path / "artifact", emit.files(op.artifact))
    return op


@pytest.fixture
def package(op: CompiledOp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package of the artifact, imported afresh."""
    monkeypatch.setattr(stages, "_owners", {})
    spec = importlib.util.spec_from_file_location("shifted", tmp_path / "artifact" / "shifted" / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(3.0 * 70).reshape(3, 70), torch.tensor([1.0, 2.0, 3.0])


def test_first_strictly_then_fast(package: ModuleType, strict_runs: list[str]) -> None:
    x, s = inputs()
    for _ in range(3):
        assert torch.equal(package.shifted(x, s), x - s[:, None])
    assert strict_runs == ["tpcgen_stages_shifted_map_fwd_f32"]


def test_an_artifact_that_cannot_be_written(package: ModuleType, tmp_path: Path, strict_runs: list[str]) -> None:
    (tmp_path / "artifact" / "host").write_text("a file where the folder would be")
    x, s = inputs()
    for _ in range(2):
        assert torch.equal(package.shifted(x, s), x - s[:, None])
    assert len(strict_runs) == 1


def test_what_the_check_passed_runs_fast(
    op: CompiledOp, package: ModuleType, tmp_path: Path, strict_runs: list[str]
) -> None:
    result = check(op.artifact, tmp_path / "artifact", [Case("small", {"M": 2, "N": 65})])
    assert result.passed
    x, s = inputs()
    assert torch.equal(package.shifted(x, s), x - s[:, None])
    assert strict_runs == []


def test_a_kernel_with_findings_never_runs_fast(package: ModuleType, tmp_path: Path, strict_runs: list[str]) -> None:
    (kernel,) = (tmp_path / "artifact" / "kernels").glob("*.c")
    text, count = re.subn(r"(void main\([^)]*\)\s*\{)", r"\1\n    return;", kernel.read_text())
    assert count == 1
    kernel.write_text(text)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"shifted_map_fwd_f32 failed on the host device:\n.*unwritten"):
            package.shifted(*inputs())
    assert len(strict_runs) == 2


def test_a_check_that_finds_something_passes_nothing(
    op: CompiledOp, package: ModuleType, tmp_path: Path, strict_runs: list[str]
) -> None:
    (kernel,) = (tmp_path / "artifact" / "kernels").glob("*.c")
    kernel.write_text(re.sub(r"(void main\([^)]*\)\s*\{)", r"\1\n    return;", kernel.read_text()))
    result = check(op.artifact, tmp_path / "artifact", [Case("small", {"M": 2, "N": 65})])
    assert not result.passed
    with pytest.raises(RuntimeError, match="failed on the host device"):
        package.shifted(*inputs())
    assert len(strict_runs) == 1


def test_a_changed_kernel_has_not_passed(tmp_path: Path, op: CompiledOp) -> None:
    folder = tmp_path / "artifact"
    before = passed.fingerprint("guid", folder)
    for file in [*(folder / "kernels").glob("*.c"), folder / "glue" / "glue.cpp", folder / "glue" / "support.h"]:
        file.write_text(file.read_text() + "\n")
        after = passed.fingerprint("guid", folder)
        assert after != before
        before = after
