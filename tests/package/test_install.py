"""What a user gets: the wheel in an empty environment away from the repository, and `make demo` in a fresh clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIND = "B=1,H=2,G=1,M=5,N=9,D=8,E=8"


def run(*command: str | Path, cwd: Path, home: Path) -> str:
    """The output of a command in an environment that knows this Python, the system's programs and an empty home."""
    path = os.pathsep.join((str(Path(sys.base_prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"))
    pip = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
    environment = {**pip, "PATH": path, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (found,) = out.glob("*.whl")
    return found


@pytest.mark.full
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "tpcgen"], cwd=ROOT, check=True, capture_output=True, text=True)
    held = set(zipfile.ZipFile(wheel).namelist())
    assert set(tracked.stdout.split()) <= held
    assert {f"tpcgen/std/{file.name}" for file in (ROOT / "std").glob("*.dsl")} <= held
    assert not [name for name in held if name.endswith(".pyc")]


@pytest.mark.full
def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "env", cwd=tmp_path, home=tmp_path)
    run(tmp_path / "env/bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path, home=tmp_path)
    (tmp_path / "causal.dsl").write_text((ROOT / "examples" / "causal.dsl").read_text())
    tpcgen = tmp_path / "env/bin/tpcgen"
    where = run(tmp_path / "env/bin/python", "-c", "import tpcgen; print(tpcgen.__file__)", cwd=tmp_path, home=tmp_path)
    assert where.startswith(str(tmp_path))
    printed = run(tpcgen, "compile", "causal.dsl", "-o", "out", "--bind", BIND, cwd=tmp_path, home=tmp_path)
    assert "passed" in printed and "FAILED" not in printed
    assert (tmp_path / "out/causal/manifest.json").exists()
    (tmp_path / "uses.dsl").write_text((ROOT / "std" / "gformer.dsl").read_text().replace('use "', 'use "std/'))
    assert "gformer" in run(tpcgen, "compile", "uses.dsl", "-o", "out", "--no-check", cwd=tmp_path, home=tmp_path)
    assert run(tpcgen, "explain", "E104", cwd=tmp_path, home=tmp_path).startswith("# E104")
    assert "gaudi2" in run(tpcgen, "devices", cwd=tmp_path, home=tmp_path)


@pytest.mark.full
def test_make_demo_in_a_fresh_clone(tmp_path: Path) -> None:
    run("git", "clone", "--quiet", ROOT, "clone", cwd=tmp_path, home=tmp_path)
    assert "passed" in run("make", "demo", cwd=tmp_path / "clone", home=tmp_path)
    assert "nothing changed" in run("make", "demo", cwd=tmp_path / "clone", home=tmp_path)
