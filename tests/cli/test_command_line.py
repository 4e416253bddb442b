"""The command line as a user meets it: whole processes, their exit status and what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
BIND = "B=1,H=2,G=1,M=5,N=9,D=8,E=8"

SPEC = """\
dtype T in bf16, f32

op tiny(Q: T[M, D], K: T[N, D], W: int = 4) -> O: T[M, N]
{
    S[q,k] = sum[d](Q[q,d] * K[k,d])
    O[q,k] = softmax[k where k < W](S[q,k])
}

check small { M = 3, N = 5, D = 8 }
"""


def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpcgen.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.dsl"
    path.write_text(SPEC)
    return path


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("tpcgen, version ")
    for command in ("compile", "check", "explain", "fmt", "devices"):
        assert run(command, "--help").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compile", "nowhere.dsl"), ("E501", "nowhere.dsl")),
        (("compile",), ("Missing argument",)),
        (("compile", "SPEC", "--target", "goya"), ("goya", "gaudi2")),
        (("compile", "SPEC", "--bind", "M"), ("E521", "NAME=NUMBER")),
        (("compile", "SPEC", "--bind", "M=x"), ("E521",)),
        (("compile", "SPEC", "--bind", "M=1,M=2,N=3,D=8"), ("E521", "twice")),
        (("compile", "SPEC", "--bind", "MM=3,N=3,D=8"), ("E526", "MM")),
        (("compile", "SPEC", "--bind", "M=3"), ("E311", "N")),
        (("compile", "SPEC", "--bind", "M=-3,N=3,D=8"), ("E313", "negative")),
        (("compile", "SPEC", "--dtype", "f16"), ("E524", "bf16")),
        (("compile", "SPEC", "--dtype", "U=f32"), ("E524",)),
        (("compile", "SPEC", "--op", "nothing"), ("E529", "the ops are")),
        (("compile", "SPEC", "--prefix", "Bad-Prefix"), ("E511",)),
        (("compile", "SPEC", "--emit", "nothing"), ("nothing",)),
        (("explain", "E9"), ("E520",)),
        (("explain", "../../secret"), ("E520",)),
        (("fmt", "nowhere.dsl"), ("E501",)),
    ],
)
def test_bad_input(spec: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    given = [str(spec) if a == "SPEC" else a for a in arguments]
    refused(run(*given, cwd=spec.parent), *words)


def test_a_wrong_spec_is_shown_with_a_caret(tmp_path: Path) -> None:
    path = tmp_path / "wrong.dsl"
    path.write_text(SPEC.replace("Q[q,d] * K[k,d]", "Q[q,d] * K[k,e]"))
    refused(run("compile", path), "wrong.dsl:5:", "^")


def test_a_guid_that_gaudi_would_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "long.dsl"
    path.write_text(SPEC.replace("op tiny", f"op {'t' * 50}"))
    refused(run("compile", path), "E510", "63")


def test_a_folder_of_something_else_is_left_alone(spec: Path, tmp_path: Path) -> None:
    precious = tmp_path / "build" / "tiny" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    refused(run("compile", spec, "-o", tmp_path / "build", "--no-build", "--no-check"), "E512")
    assert precious.read_text() == "years of work"


def test_an_unwritable_folder(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(run("compile", spec, "-o", tmp_path / "file", "--no-build", "--no-check"))


def test_emission_alone_is_deterministic_and_complete(spec: Path, tmp_path: Path) -> None:
    for seed, folder in (("1", "one"), ("2", "two")):
        done = run("compile", spec, "-o", tmp_path / folder, "--no-build", "--no-check", PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    files = {p.relative_to(tmp_path / "one"): p.read_bytes() for p in (tmp_path / "one").rglob("*") if p.is_file()}
    assert files == {
        p.relative_to(tmp_path / "two"): p.read_bytes() for p in (tmp_path / "two").rglob("*") if p.is_file()
    }
    assert {str(p) for p in files} >= {
        "tiny/manifest.json",
        "tiny/glue/glue.cpp",
        "tiny/glue/CMakeLists.txt",
        "tiny/tiny/__init__.py",
        "tiny/report/plan.txt",
        "tiny/kernels/tpcgen_tiny_softmax_fwd_bf16.c",
        "tiny/kernels/tpcgen_tiny_softmax_fwd_f32.c",
    }


def test_an_unchanged_artifact_is_not_written_again(spec: Path, tmp_path: Path) -> None:
    arguments = ("compile", spec, "-o", tmp_path / "out", "--no-build", "--no-check")
    assert "wrote " in run(*arguments).stdout
    stamp = (tmp_path / "out/tiny/manifest.json").stat().st_mtime_ns
    assert "unchanged " in run(*arguments).stdout
    assert (tmp_path / "out/tiny/manifest.json").stat().st_mtime_ns == stamp
    spec.write_text(SPEC.replace("k < W", "k <= W"))
    assert "wrote " in run(*arguments).stdout


def test_emission_alone_imports_neither_torch_nor_islpy(spec: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from tpcgen import cli\n"
        f"sys.argv = ['tpcgen', 'compile', {str(spec)!r}, '-o', {str(tmp_path / 'out')!r}]\n"
        "sys.argv += ['--no-build', '--no-check']\n"
        "try: cli.main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'islpy', 'rich', 'hypothesis'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["program", "plan", "kernel", "c"])
def test_emit_prints_and_writes_nothing(spec: Path, what: str) -> None:
    done = run("compile", spec, "--emit", what, cwd=spec.parent)
    assert done.returncode == 0, done.stderr
    assert "softmax" in done.stdout
    assert not (spec.parent / "build").exists()


def test_checked_then_remembered_until_something_changes(spec: Path, tmp_path: Path) -> None:
    arguments = ("compile", spec, "-o", tmp_path / "out", "--json", "--no-build", "--dtype", "f32")
    first = run(*arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    (op,) = json.loads(first.stdout)["ops"]
    assert op["check"]["passed"] and op["checked_now"]
    assert all(o["error"] <= 2 * o["device_error"] + 1e-6 for o in op["check"]["outcomes"])
    (again,) = json.loads(run(*arguments).stdout)["ops"]
    assert again["check"] == op["check"] and not again["checked_now"]
    (other,) = json.loads(run(*arguments, "--bind", "M=2,N=70,D=8").stdout)["ops"]
    assert other["checked_now"]


def test_check_says_so_when_it_fails(tmp_path: Path) -> None:
    """Scores of which device mode has no significant digit cannot be judged: inconclusive is not a pass."""
    path = tmp_path / "cancel.dsl"
    path.write_text(
        "op cancel(X: f32[N]) -> Y: f32[N]\n{\n    Y[i] = (X[i] + 1e9) - 1e9\n}\n\ncheck small { N = 70 }\n"
    )
    done = run("check", path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout


def test_defines_override_defaults(spec: Path) -> None:
    assert "W = 7" in run("compile", spec, "--emit", "program", "-D", "W=7").stdout.replace("W: int = 7", "W = 7")


def test_fmt(tmp_path: Path) -> None:
    path = tmp_path / "a.dsl"
    path.write_text(SPEC.replace("S[q,k] = ", "S[q,k]   =   "))
    assert run("fmt", "--check", path).returncode == 1
    assert run("fmt", path).returncode == 0
    assert path.read_text() == SPEC
    assert run("fmt", "--check", path).returncode == 0


def test_explain_and_devices() -> None:
    assert run("explain", "e101").stdout.startswith("# E101")
    assert {"gaudi", "gaudi2", "gaudi3"} == json.loads(run("devices", "--json").stdout).keys()


def test_a_broken_tpc_clang_is_a_toolchain_failure(spec: Path, tmp_path: Path) -> None:
    done = run("compile", spec, "-o", tmp_path / "out", "--no-check", TPC_CLANG="/nonexistent/tpc-clang")
    assert done.returncode == 3, done.stderr
    assert "E610" in done.stderr


def test_no_compiler_is_a_toolchain_failure(spec: Path, tmp_path: Path) -> None:
    done = run("check", spec, TPCGEN_CXX="/nonexistent/c++", TPCGEN_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 3, done.stderr
    assert "E600" in done.stderr


def test_a_bug_is_reported_not_thrown(spec: Path) -> None:
    code = (
        "import sys; from tpcgen import cli, compiler\n"
        "def broken(*a): raise ZeroDivisionError('planted')\n"
        "compiler.compile_spec = broken\n"
        f"sys.argv = ['tpcgen', 'compile', {str(spec)!r}]; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 70
    assert "bug in tpcgen" in done.stderr and "Traceback" not in done.stderr


def test_one_op_of_a_file_of_the_library_from_anywhere(tmp_path: Path) -> None:
    given = ("std/window.dsl", "--op", "window_around", "--emit", "program", "--dtype", "f32")
    done = run("compile", *given, cwd=tmp_path)
    assert [line.split("(")[0] for line in done.stdout.splitlines() if line.startswith("op ")] == ["op window_around"]


def test_gradients_replace_a_file_or_leave_it(tmp_path: Path) -> None:
    out = tmp_path / "grad.dsl"
    out.write_text("old\n")
    refused(run("vjp", "std/nothing.dsl", "-o", out), "E501")
    assert out.read_text() == "old\n"
    assert run("vjp", "std/sigmoid.dsl", "-o", out).returncode == 0
    assert out.read_text().startswith("# Gradients of sigmoid.dsl")
    assert [p.name for p in tmp_path.iterdir()] == ["grad.dsl"]
