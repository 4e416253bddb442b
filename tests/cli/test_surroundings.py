"""The places and machines a user has: odd paths, other folders, other encodings, no compiler, the ziglang package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SPEC = """\
op double(X: f32[M, N]) -> Y: f32[M, N]
{
    Y[i,j] = X[i,j] + X[i,j] # doppelt, zweifach: größer
}

check small { M = 3, N = 70 }
"""


def run(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpcgen.cli", *map(os.fspath, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", cwd=cwd, env=environment, timeout=300
    )


def test_spaces_and_other_letters_in_every_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c$d é'\"q"
    folder.mkdir()
    (folder / "größe 1.dsl").write_text(SPEC)
    done = run("compile", folder / "größe 1.dsl", "-o", folder / "öut put", "--no-build", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "öut put/double/manifest.json").exists()


@pytest.mark.parametrize("name", ['x"""\nimport os; os.abort() #.dsl', 'y"z\\.dsl', os.fsdecode(b"b\xff.dsl")])
def test_a_file_name_is_never_code(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SPEC)
    done = run("compile", name, "-o", "out", "--no-build", "--no-check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    package = (tmp_path / "out/double/double/__init__.py").read_text()
    assert "\nimport os" not in package
    compile(package, "package", "exec")
    for kernel in (tmp_path / "out/double/kernels").iterdir():
        lines = [line for line in kernel.read_text().splitlines() if ".dsl" in line]
        assert lines and all(line.lstrip().startswith("//") for line in lines)


def test_a_spec_of_another_folder_and_what_it_uses(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "specs/part.dsl").write_text("fn twice(x) = x + x\n")
    (tmp_path / "specs/all.dsl").write_text('use "part.dsl"\n' + SPEC.replace("X[i,j] + X[i,j]", "twice(X[i,j])"))
    done = run("compile", "../specs/all.dsl", "--no-build", "--no-check", cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere/build/double/manifest.json").exists()


def test_a_locale_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.dsl").write_text(SPEC, encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("compile", "a.dsl", "--no-build", "--no-check", cwd=tmp_path, **ascii_only)
    assert done.returncode == 0, done.stderr
    done = run("compile", "a.dsl", "--emit", "c", cwd=tmp_path, **ascii_only)
    assert done.returncode == 0, done.stderr
    formatted = subprocess.run(
        [sys.executable, "-m", "tpcgen.cli", "fmt", "-"],
        input=SPEC.encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **ascii_only},
        timeout=100,
    )
    assert formatted.stdout.decode() == SPEC


def test_fmt_keeps_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.dsl", tmp_path / "link.dsl"
    real.write_text(SPEC.replace("Y[i,j] = ", "Y[i,j]   = "))
    real.chmod(0o640)
    link.symlink_to(real)
    assert run("fmt", "link.dsl", cwd=tmp_path).returncode == 0
    assert link.is_symlink() and real.read_text() == SPEC and real.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.dsl", "real.dsl"]


def test_a_reader_that_stops_is_no_failed_check(tmp_path: Path) -> None:
    command = f"{sys.executable} -m tpcgen.cli devices | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_sizes_that_no_memory_holds(tmp_path: Path) -> None:
    (tmp_path / "a.dsl").write_text(SPEC)
    done = run("check", "a.dsl", "--bind", "M=2000000,N=2000000", cwd=tmp_path)
    assert done.returncode == 2
    assert "E527" in done.stderr and "TiB" in done.stderr


def test_emit_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.dsl").write_text(SPEC)
    done = run("compile", "a.dsl", "--emit", "c", "--json", cwd=tmp_path)
    assert done.returncode == 2 and "--json" in done.stderr


def test_check_leaves_nothing_and_says_it_as_data(tmp_path: Path) -> None:
    (tmp_path / "a.dsl").write_text(SPEC)
    done = run("check", "a.dsl", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (op,) = json.loads(done.stdout)["ops"]
    assert op["name"] == "double" and op["check"]["passed"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.dsl"]


def test_load_without_pytorch_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; import tpcgen; tpcgen.load"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "tpcgen.load needs PyTorch" in done.stderr and done.stderr.count("Traceback") == 1


def test_a_machine_without_compiler(tmp_path: Path) -> None:
    (tmp_path / "a.dsl").write_text(SPEC)
    done = run("check", "a.dsl", cwd=tmp_path, PATH="/nonexistent")
    assert done.returncode == 3
    assert "E600" in done.stderr and "ziglang" in done.stderr


def test_without_compiler_the_ziglang_package_is_used(tmp_path: Path) -> None:
    """A stand-in for the package that hands on to g++ and leaves a trace."""
    (tmp_path / "a.dsl").write_text(SPEC)
    package = tmp_path / "modules" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, sys\n"
        "assert sys.argv[1] == 'c++'\n"
        f"open({str(tmp_path / 'trace')!r}, 'a').write('asked\\n')\n"
        f"os.execve({shutil.which('g++')!r}, ['g++', *sys.argv[2:]], {{'PATH': {os.environ['PATH']!r}}})\n"
    )
    path = os.pathsep.join((str(ROOT), str(package.parent)))
    environment = {"PATH": "/nonexistent", "PYTHONPATH": path, "TPCGEN_CACHE_DIR": str(tmp_path / "cache")}
    done = run("check", "a.dsl", "--target", "gaudi2", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "trace").read_text().count("asked") > 1
