"""The host toolchain: finding a compiler, caching, and errors as diagnostics at the kernel's own lines."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tpcgen.diagnostics import Diagnostic
from tpcgen.host.api import Launch, run_strict
from tpcgen.toolchain.errors import ToolchainError
from tpcgen.toolchain.host import build, find_compiler
from tpcgen.toolchain.scan import LocalVariable, scan

FIXTURES = Path(__file__).parents[1] / "fixtures"


def kernel(tmp_path: Path, text: str, name: str = "probe") -> Path:
    path = tmp_path / f"{name}.c"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str, **options: object) -> tuple[Diagnostic, ...]:
    with pytest.raises(ToolchainError) as caught:
        build([], [kernel(tmp_path, text)], target="gaudi2", out=tmp_path / "out", mode="strict", **options)  # type: ignore[arg-type]
    return caught.value.diagnostics


def test_error_is_at_the_kernels_line(tmp_path: Path) -> None:
    [found] = refused(tmp_path, "void main(tensor x)\n{\n    float64 v = v_f32_nothing_b(x);\n}\n")
    assert found.id == "E601"
    assert (Path(found.span.file).name, found.span.line, found.span.column) == ("probe.c", 3, 17)
    assert "v_f32_nothing_b" in found.message


def test_several_errors_at_a_time(tmp_path: Path) -> None:
    found = refused(tmp_path, "void main(tensor x)\n{\n    a = 1;\n    b = 2;\n}\n")
    assert [d.span.line for d in found] == [3, 4]


@pytest.mark.parametrize(
    "statement",
    [
        "v[3] = 1.0f;",
        "float s = v[0];",
        "float64 w = {1.0f, 2.0f};",
        "bool64 p = v_f32_cmp_grt_b(v, v); p = p + p;",
        "float128 q = {0}; q = q + q;",
        "float64 w = v > 0.0f ? v : v;",
    ],
    ids=["write_lane", "read_lane", "braces", "predicate_sum", "pair_sum", "ternary"],
)
def test_what_tpc_clang_refuses_is_refused(tmp_path: Path, statement: str) -> None:
    text = f"void main(tensor x)\n{{\n    float64 v = 0.0f;\n    {statement}\n}}\n"
    found = refused(tmp_path, text)
    assert {d.id for d in found} == {"E601"}
    assert any(Path(d.span.file).name == "probe.c" and d.span.line == 4 for d in found), found


def test_scalar_before_tensor(tmp_path: Path) -> None:
    found = refused(tmp_path, "void main(float s, tensor x)\n{\n}\n")
    assert any("tensors first" in d.message for d in found)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("float f = s_f32_ld_g(p + 1);", "no arithmetic"),
        ("p += 4;", "no arithmetic"),
        ("--p;", "no arithmetic"),
        ("float f = p[2];", "no index"),
        ("if (p == q) {}", "no comparison"),
        ("int n = q < p;", "no comparison"),
        ("__global__ float* r[4];", "no arrays of them"),
        ("p++;", "no increment on gaudi"),
    ],
)
def test_operations_on_global_pointers(tmp_path: Path, statement: str, what: str) -> None:
    text = (
        "void main(tensor x, tensor y)\n{\n    int5 at = {0};\n    __global__ float *p = gen_addr(at, x), *q = p;\n"
        f"    {statement}\n    v_f32_st_tnsr(at, y, v_f32_ld_g(p) + s_f32_ld_g((__global__ float*)q));\n}}\n"
    )
    source = tmp_path / "pointers.c"
    source.write_text(text)
    with pytest.raises(ToolchainError) as error:
        build([], [source], target="gaudi", out=tmp_path, mode="strict")
    (found,) = error.value.diagnostics
    assert found.id == "E601"
    assert what in found.message
    assert found.span.line == 5
    source.write_text(text.replace(statement, "p++;" if statement == "p++;" else "p = q;"))
    build([], [source], target="gaudi2", out=tmp_path, mode="strict")


def test_recursion(tmp_path: Path) -> None:
    text = "int odd(int n);\nint even(int n)\n{\n    return n == 0 ? 1 : odd(n - 1);\n}\n"
    text += "int odd(int n)\n{\n    return n == 0 ? 0 : even(n - 1);\n}\nvoid main(tensor x)\n{\n    even(3);\n}\n"
    [found] = refused(tmp_path, text)
    assert found.id == "E604"
    assert "even -> odd -> even" in found.message
    assert found.span.line == 2
    assert [label.span.line for label in found.labels] == [6]


def test_variable_length_array(tmp_path: Path) -> None:
    [found] = refused(tmp_path, "void main(tensor x)\n{\n    int n = get_dim_size(x, 0);\n    float64 v[n];\n}\n")
    assert found.span.line == 4


def test_file_name_that_is_no_name(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError) as caught:
        build([], [kernel(tmp_path, "", "a-b")], target="gaudi2", out=tmp_path, mode="fast")
    assert caught.value.diagnostics[0].id == "E605"
    with pytest.raises(ToolchainError) as caught:
        build([], [tmp_path / "absent.c"], target="gaudi2", out=tmp_path, mode="fast")
    assert "no such kernel file" in caught.value.diagnostics[0].message


def test_glue_without_some_of_its_kernels(tmp_path: Path) -> None:
    library = build([FIXTURES / "glue.cpp"], [FIXTURES / "relu_f32.c"], target="gaudi2", out=tmp_path, mode="strict")
    x = np.ones((2, 3), np.float32)
    reports = {
        guid: run_strict(library, Launch(guid, "gaudi2", (x,), ((x.shape, x.dtype),)))
        for guid in ("fixture_relu_f32", "fixture_softmax_f32")
    }
    assert reports["fixture_relu_f32"].ok
    [finding] = reports["fixture_softmax_f32"].findings
    assert "no kernel softmax_f32" in finding.message


def test_undefined_symbol(tmp_path: Path) -> None:
    glue = tmp_path / "glue.cpp"
    glue.write_text("extern int elsewhere;\nint* use = &elsewhere;\n")
    with pytest.raises(ToolchainError) as caught:
        build([glue], [FIXTURES / "relu_f32.c"], target="gaudi2", out=tmp_path, mode="fast")
    [found] = caught.value.diagnostics
    assert found.id == "E603"
    assert "elsewhere" in found.message


def test_glue_that_does_not_compile(tmp_path: Path) -> None:
    glue = tmp_path / "glue.cpp"
    glue.write_text("#include <tpc_kernel_lib_interface.h>\nint x = nothing;\n")
    with pytest.raises(ToolchainError) as caught:
        build([glue], [FIXTURES / "relu_f32.c"], target="gaudi2", out=tmp_path, mode="fast")
    [found] = caught.value.diagnostics
    assert (found.id, found.span.line) == ("E602", 2)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TPCGEN_CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolchainError) as caught:
        find_compiler()
    assert caught.value.diagnostics[0].id == "E600"
    monkeypatch.setenv("TPCGEN_CXX", "/nowhere/g++")
    with pytest.raises(ToolchainError, match="does not run"):
        find_compiler()


def test_nothing_is_compiled_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = kernel(tmp_path, '#include "part.h"\nvoid main(tensor x)\n{\n    PART\n}\n')
    part = tmp_path / "part.h"
    part.write_text("#define PART int a = 1;\n")
    options = {"target": "gaudi2", "out": tmp_path / "out", "mode": "fast"}
    first = build([], [source], **options)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr("tpcgen.toolchain.host._run", lambda *_: pytest.fail("compiled again"))
        assert build([], [source], **options) == first  # type: ignore[arg-type]
    part.write_text("#define PART int a = 2;\n")
    os.utime(part, (1, 1))
    second = build([], [source], **options)  # type: ignore[arg-type]
    assert second.path != first.path
    part.write_text("#define PART nonsense here\n")
    with pytest.raises(ToolchainError):
        build([], [source], **options)  # type: ignore[arg-type]


def test_a_kernel_is_compiled_once_wherever_it_lies(tmp_path: Path) -> None:
    """One that includes a file is not: another folder may have another."""
    alone, including = "void main(tensor x)\n{\n    int a = 3;\n}\n", '#include "part.h"\nvoid main(tensor x)\n{\n}\n'
    for text, again in ((alone, False), (including, True)):
        made: list[Path] = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "part.h").write_text("")
            library = build([], [kernel(folder, text)], target="gaudi2", out=folder / "out", mode="fast")
            made.append(library.path)
            assert len({path.name for path in made}) == 1 + (again and name == "two")


def test_modes_and_targets_are_different_libraries(tmp_path: Path) -> None:
    source = kernel(
        tmp_path, "#ifdef __gaudi2__\nint on_gaudi2 = 1;\n#else\nint on_gaudi = 1;\n#endif\nvoid main(tensor x)\n{\n}\n"
    )
    built = {
        (target, mode): build([], [source], target=target, out=tmp_path / "out", mode=mode)
        for target in ("gaudi", "gaudi2")
        for mode in ("strict", "fast")
    }
    assert len({library.path for library in built.values()}) == 4
    assert all(hasattr(ctypes.CDLL(str(library.path)), "tpcgen_kernel_probe") for library in built.values())


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown target 'goya'"):
        build([], [], target="goya", out=tmp_path, mode="fast")
    with pytest.raises(ValueError, match="sanitizers"):
        build([], [], target="gaudi", out=tmp_path, mode="fast", sanitize=True)


@pytest.mark.skipif(shutil.which("clang++") is None, reason="no clang++")
def test_clang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPCGEN_CXX", "clang++")
    library = build([FIXTURES / "glue.cpp"], sorted(FIXTURES.glob("*.c")), target="gaudi2", out=tmp_path, mode="fast")
    assert library.path.exists()


def test_scan_of_file_scope() -> None:
    text = """# 1 "k.c"
__local__ float64 vlm[4][8], other;
static const float table[2] = {1.0f, 2.0f};
typedef struct { int a; } record;
struct pair { int b; };
enum { one, two };
float64 declared(float64 x);
__attribute__((aligned(4))) int counter;
int5 origin = {0, 0, 0, 0, 0};
#define IGNORED int nothing;
void main(tensor x) { int inside; { float64 deeper; } }
"""
    found = scan(text)
    assert found.locals == (
        LocalVariable("vlm", False),
        LocalVariable("other", False),
        LocalVariable("table", True),
        LocalVariable("counter", False),
        LocalVariable("origin", True),
    )
    assert [(f.name, f.file, f.line) for f in found.functions] == [("main", "k.c", 10)]
