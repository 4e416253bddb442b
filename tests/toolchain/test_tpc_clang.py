from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.errors import ToolchainError

KERNEL = """\
// causal.dsl:9  P[b,h,q,k] = softmax[...](...)
void main(tensor a) {
    float64 x = 1.0f;
    // causal.dsl:10  O = ...
    x = y;
}
"""


def fake_compiler(folder: Path, script: str) -> tpc_clang.TpcClang:
    path = folder / "tpc-clang"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return tpc_clang.TpcClang(path, "fake")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "k.c"
    path.write_text(KERNEL)
    return path


def test_message_points_at_the_spec_line(tmp_path: Path, kernel: Path) -> None:
    compiler = fake_compiler(tmp_path, f"echo \"{kernel}:5:9: error: use of undeclared identifier 'y'\" >&2; exit 1")
    with pytest.raises(ToolchainError) as caught:
        tpc_clang.compile_kernel(compiler, kernel, "gaudi2", tmp_path / "k.o", {"causal.dsl": Path("causal.dsl")})
    (found,) = caught.value.diagnostics
    assert (found.id, found.span.file, found.span.line) == ("E611", "causal.dsl", 10)
    assert "undeclared identifier 'y'" in found.message
    assert found.labels[0].span.line == 5


def test_crash_without_message_is_reported(tmp_path: Path, kernel: Path) -> None:
    compiler = fake_compiler(tmp_path, "echo 'Too many vector spills' >&2; exit 134")
    with pytest.raises(ToolchainError) as caught:
        tpc_clang.compile_kernel(compiler, kernel, "gaudi2", tmp_path / "k.o", {})
    assert caught.value.diagnostics[0].id == "E612"
    assert "Too many vector spills" in caught.value.diagnostics[0].message


def test_gaudi3_is_not_claimed(tmp_path: Path, kernel: Path) -> None:
    with pytest.raises(ToolchainError, match="E613"):
        tpc_clang.compile_kernel(fake_compiler(tmp_path, "exit 0"), kernel, "gaudi3", tmp_path / "k.o", {})


def test_wrong_environment_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TPC_CLANG", str(tmp_path / "nothing"))
    with pytest.raises(ToolchainError, match="E610"):
        tpc_clang.find()


def test_found_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_compiler(tmp_path, "echo 'clang version 12.0.1 tpc'")
    monkeypatch.delenv("TPC_CLANG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = tpc_clang.find()
    assert found is not None
    assert (found.path, found.version) == (tmp_path / "tpc-clang", "clang version 12.0.1 tpc")
