"""The emitted extension as text: golden, compiled for its syntax, packed without Habana, deaf to wicked names."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tpcgen.compiler import Options, compile_spec
from tpcgen.emit import torch_ext
from tpcgen.emit.glue import GlueKernel
from tpcgen.kernel.ir import AxisAccess, IndexDim, TensorParam
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Attribute, Binary, Call, Literal, Program, Role, Size, Tensor

EXAMPLES = Path(__file__).parents[2] / "examples"
B, N, W = Size("B"), Size("N"), Attr("W", DType.I32)
ALL = AxisAccess(0, 0, 0, 0, all_required=True)


def kernel() -> GlueKernel:
    """Two outputs, a scalar input, an extent that attributes and sizes make, every kind of attribute."""
    extent = Binary("+", Binary("//", N, Call("max", (W, Literal(1, DType.I32)))), Literal(1, DType.I32))
    tensors = (
        Tensor("x", (B, N), DType.BF16, Role.INPUT),
        Tensor("one", (), DType.F32, Role.INPUT),
        Tensor("table", (extent,), DType.I32, Role.INPUT),
        Tensor("y", (B, extent), DType.F32, Role.OUTPUT),
        Tensor("total", (), DType.F32, Role.OUTPUT),
    )
    attributes = (Attribute("W", DType.I32, None), Attribute("cap", DType.F32, None))
    return GlueKernel(
        "test_op_stage_fwd_bf16",
        Program("stage", ("B", "N"), attributes, tensors, (), (), ()),
        tuple(TensorParam(t.name, t.dtype, tuple(reversed(t.shape)), t.role is Role.OUTPUT) for t in tensors),
        (),
        (IndexDim("b", B, 1),),
        ((ALL, ALL), (), (ALL,), (ALL, ALL), ()),
    )


def test_window(artifact: Path, golden: Callable[..., None]) -> None:
    golden((artifact / "torch_ext" / "tpcgen_window_hpu.cpp").read_text(), "cpp")
    golden((artifact / "torch_ext" / "setup.py").read_text(), "setup.txt")


def test_every_shape_of_a_stage(golden: Callable[..., None]) -> None:
    golden(torch_ext.files("test_op", "op.dsl", [kernel()], "0")["test_op_hpu.cpp"], "cpp")


def test_compiles_against_the_bridge(tmp_path: Path, compiler: str, bridge: Path, torch_includes: list[str]) -> None:
    for name, text in torch_ext.files("test_op", "op.dsl", [kernel()], "0").items():
        (tmp_path / name).write_text(text)
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *torch_includes, f"-isystem{bridge}"]
    done = subprocess.run([compiler, *flags, str(tmp_path / "test_op_hpu.cpp")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    ["op __import__", 'x"; system("true', "x\nint injected;", "../../x", "", "x::y", "ä"],
)
def test_names_cannot_inject(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        torch_ext.files(name, "op.dsl", [kernel()], "0")
    with pytest.raises(ValueError, match="identifier"):
        torch_ext.files("x", "op.dsl", [replace(kernel(), guid=name)], "0")
    tensors = (replace(kernel().tensors[0], name=name), *kernel().tensors[1:])
    with pytest.raises(ValueError, match="identifier"):
        torch_ext.files("x", "op.dsl", [replace(kernel(), tensors=tensors)], "0")
    program = replace(kernel().program, attributes=(Attribute(name, DType.I32, None),))
    with pytest.raises(ValueError, match="identifier"):
        torch_ext.files("x", "op.dsl", [replace(kernel(), program=program)], "0")


def test_a_file_name_cannot_inject() -> None:
    wicked = 'w.dsl*/\nint injected;\\\n"""\nimport injected\n#'
    made = torch_ext.files("x", wicked, [kernel()], "0")
    for text in made.values():
        assert "\nint injected" not in text
        assert "\nimport injected" not in text
        assert all(line.startswith(("//", "#")) for line in text.splitlines() if "injected" in line)


@pytest.mark.parametrize("prefix", ["op __import__", "X", "a-b", 'a";', "_a", "a" * 40, "é"])
def test_a_prefix_cannot_inject(prefix: str) -> None:
    from tpcgen.diagnostics import DiagnosticError

    with pytest.raises(DiagnosticError) as refused:
        compile_spec(EXAMPLES / "full.dsl", Options(prefix=prefix))
    assert refused.value.diagnostics[0].id == "E511"


def test_packed_without_habana(artifact: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("setuptools")
    for name in ("setup.py", "sizes.h", "tpcgen_window_hpu.cpp", "MANIFEST.in"):
        (tmp_path / name).write_text((artifact / "torch_ext" / name).read_text())
    command = [sys.executable, "setup.py", "-q", "egg_info", "sdist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=without_habana())
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {Path(n).name for n in tar.getnames()}
    assert {"setup.py", "sizes.h", "tpcgen_window_hpu.cpp"} <= names
    done = subprocess.run(
        [*command[:2], "build_ext"], cwd=tmp_path, capture_output=True, text=True, env=without_habana()
    )
    assert done.returncode != 0
    assert "the HPU ops are built where Habana's PyTorch is installed" in done.stderr
    assert "Traceback" not in done.stderr


def without_habana() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
