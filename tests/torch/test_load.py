"""`tpcgen.load`: the cache, several specs and versions in one process, specs without sizes, errors, other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tpcgen
from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import DiagnosticError
from tpcgen.emit import artifact as emit
from tpcgen.host.glue import GlueError

torch = pytest.importorskip("torch")

REPOSITORY = Path(__file__).parents[2]

SPEC = """\
dtype T in bf16, f32

op scaled(X: T[M, N], s: f32[M], c: f32 = 2) -> O: T[M, N]
{
    O[m,n] = c * s[m] * X[m,n]
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "scaled.dsl"
    path.write_text(SPEC)
    return path


def python(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def test_the_same_spec_is_the_same_module(spec: Path, tmp_path: Path) -> None:
    module = tpcgen.load(spec, dtypes="f32")
    copy = tmp_path / "elsewhere" / "scaled.dsl"
    copy.parent.mkdir()
    copy.write_text(SPEC)
    assert tpcgen.load(str(copy), dtypes=["f32"]) is module
    assert tpcgen.load(spec) is not module


def test_a_changed_spec_is_another_operator_and_the_old_one_stays(spec: Path) -> None:
    x, s = torch.randn(3, 70), torch.randn(3)
    expected = s[:, None] * x
    before = tpcgen.load(spec, dtypes="f32", prefix="tpcgen_changing")
    torch.testing.assert_close(before.scaled(x, s), 2 * expected)
    spec.write_text(SPEC.replace("c: f32 = 2", "c: f32 = 3").replace("c * s[m]", "s[m] * (c + 1)"))
    after = tpcgen.load(spec, dtypes="f32", prefix="tpcgen_changing")
    torch.testing.assert_close(after.scaled(x, s), 4 * expected)
    torch.testing.assert_close(before.scaled(x, s), 2 * expected)
    spec.write_text(SPEC)
    assert tpcgen.load(spec, dtypes="f32", prefix="tpcgen_changing") is before


def test_sizes_are_not_needed(spec: Path) -> None:
    assert "check" not in SPEC
    assert callable(tpcgen.load(spec).scaled)


def test_several_operators_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "two.dsl"
    path.write_text(SPEC + SPEC.split("\n\n")[1].replace("scaled", "halved").replace("c * s[m]", "s[m] / c"))
    module = tpcgen.load(path, dtypes="f32")
    x, s = torch.randn(2, 5), torch.randn(2)
    torch.testing.assert_close(module.scaled(x, s), 2 * s[:, None] * x)
    torch.testing.assert_close(module.halved(x, s), s[:, None] / 2 * x)


def test_a_sum_over_nothing_is_zero(tmp_path: Path) -> None:
    """Zero sizes are sizes: without elements to write nothing runs, without elements to read the kernel runs."""
    path = tmp_path / "summed.dsl"
    path.write_text("op summed(X: f32[M, N]) -> O: f32[M]\n{\n    O[m] = sum[n](X[m,n])\n}\n")
    summed = tpcgen.load(path).summed
    torch.testing.assert_close(summed(torch.ones(5, 70)), torch.full((5,), 70.0))
    for m in (5, 0):
        for _ in range(2):
            assert torch.equal(summed(torch.ones(m, 0)), torch.zeros(m))
    assert summed(torch.ones(0, 7)).shape == (0,)


def test_a_state_that_local_memory_has_no_room_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stated.dsl"
    path.write_text(
        "op stated(q: f32[N, D], k: f32[N, D]) -> y: f32[N, D]\n{\n    index e in 0 .. D\n    scan t in 0 .. N {\n"
        "        state s[e,d]: f32 = 0\n        s[e,d] := s[e,d] + q[t,e] * k[t,d]\n"
        "        y[t,d] = sum[e](q[t,e] * s[e,d])\n    }\n}\n"
    )
    stated = tpcgen.load(path).stated
    q = torch.randn(3, 160)
    torch.testing.assert_close(stated(q, q), stated.reference(q.double(), q.double()).float(), rtol=1e-5, atol=1e-3)
    with pytest.raises(GlueError, match="UNSUPPORTED_LAYER_CONFIGURATION"):
        stated(torch.randn(3, 161), torch.randn(3, 161))


def test_two_dtype_variables_are_both_dispatched_on(tmp_path: Path) -> None:
    path = tmp_path / "mixed.dsl"
    text = SPEC.replace("dtype T in bf16, f32", "dtype T in bf16, f32\ndtype U in bf16, f32")
    path.write_text(text.replace("s: f32[M]", "s: U[M]").replace("scaled", "mixed"))
    mixed = tpcgen.load(path).mixed
    for t in (torch.float32, torch.bfloat16):
        for u in (torch.float32, torch.bfloat16):
            x, s = torch.randn(2, 5).to(t), torch.randn(2).to(u)
            found = mixed(x, s)
            torch.testing.assert_close(found, (2 * s.float()[:, None] * x.float()).to(t))
    with pytest.raises(TypeError, match=r"mixed: X, s have dtypes float32, float16; .* float32, bfloat16 or"):
        mixed(torch.zeros(2, 5), torch.zeros(2).half())


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (None, {}, ("error[E501]", "cannot read")),
        (
            "op f(X: f32[M]) -> O: f32[M] {\n    O[m] = Y[m]\n}\n",
            {},
            (":2:12: error[E208]", "2 |     O[m] = Y[m]", "^"),
        ),
        ("op f(X", {}, ("error[E1",)),
        (SPEC, {"target": "goya"}, ("error[E528]", "gaudi2")),
        (SPEC, {"dtypes": "f16"}, ("error[E524]", "bf16")),
        (SPEC, {"prefix": "Not A Prefix"}, ("error[E511]",)),
        (SPEC, {"binds": {"M": 3}}, ("error[E311]", "N")),
        (SPEC, {"binds": [{"K": 3}]}, ("error[E526]", "K")),
        (SPEC, {"defines": {"d": 3}}, ("d",)),
    ],
)
def test_errors_read_as_the_command_line_shows_them(
    tmp_path: Path, text: str | None, options: dict[str, object], words: tuple[str, ...]
) -> None:
    path = tmp_path / "scaled.dsl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DiagnosticError) as raised:
        tpcgen.load(path, **options)
    for word in words:
        assert word in str(raised.value)


LOAD = """
import sys, tpcgen, torch
x, s = torch.randn(3, 70), torch.randn(3)
module = tpcgen.load(sys.argv[1], dtypes="f32", prefix=sys.argv[2])
torch.testing.assert_close(module.scaled(x, s), 2 * s[:, None] * x)
print(module.__doc__)
"""


def test_two_processes_at_once(spec: Path) -> None:
    processes = [python(LOAD, spec, "tpcgen_shared") for _ in range(2)]
    done = [(p.communicate(timeout=300), p.returncode) for p in processes]
    assert [code for _, code in done] == [0, 0], done
    assert len({out for (out, _), _ in done}) == 1


def test_a_cache_that_cannot_be_written(spec: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    script = "import tpcgen, sys; print(tpcgen.load(sys.argv[1]).__doc__)"
    process = python(script, spec, TPCGEN_CACHE_DIR=str(blocked / "cache"))
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    folder = Path(out.rpartition("into ")[2].strip(" .\n"))
    assert not folder.exists(), "the temporary folder went with the process"


def test_a_damaged_cache_is_written_again(spec: Path) -> None:
    first = python(LOAD, spec, "tpcgen_damaged").communicate(timeout=300)[0]
    folder = Path(first.rpartition("into ")[2].strip(" .\n"))
    (folder / "scaled" / "scaled" / "__init__.py").write_text("half of a")
    process = python(LOAD, spec, "tpcgen_damaged")
    assert process.communicate(timeout=300) == (first, "")
    assert process.returncode == 0


IMPORT = """
import torch, scaled
x, s = torch.randn(3, 70).bfloat16(), torch.randn(3)
torch.testing.assert_close(scaled.scaled(x, s), (2 * s[:, None] * x.float()).bfloat16())
print(scaled.__file__)
"""


def test_the_emitted_package_imports_from_another_directory(spec: Path, tmp_path: Path) -> None:
    (op,) = compile_spec(spec, Options()).ops
    folder = tmp_path / "moved" / "artifact"
    folder.parent.mkdir()
    emit.write(folder, emit.files(op.artifact))
    process = python(IMPORT, PYTHONPATH=f"{folder}:{REPOSITORY}")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert out.strip() == str(folder / "scaled" / "__init__.py")


def test_one_namespace_has_one_owner_in_a_process(spec: Path, tmp_path: Path) -> None:
    (op,) = compile_spec(spec, Options()).ops
    for name in ("first", "second"):
        emit.write(tmp_path / name, emit.files(op.artifact))
    script = """
import importlib, sys
import scaled
importlib.reload(scaled)
del sys.modules["scaled"]
sys.path.insert(0, sys.argv[1])
try:
    import scaled
except ImportError as error:
    print(error)
"""
    process = python(script, tmp_path / "second", PYTHONPATH=f"{tmp_path / 'first'}:{REPOSITORY}")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert str(tmp_path / "first") in out and str(tmp_path / "second") in out and "--prefix" in out
