"""`tpcgen package`: the wheel works where it is unpacked, its self-test refuses what is wrong, its record is right."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tpcgen.cli import cli
from tpcgen.version import VERSION

torch = pytest.importorskip("torch")

REPOSITORY = Path(__file__).parents[2]
SPEC = """\
dtype T in bf16, f32

op triple(x: T[N, D], c: f32 = 3) -> y: T[N, D]
{
    y[i,d] = c * x[i,d]
}

vjp triple wrt x

check small { N = 7, D = 65 }
check large { N = 63, D = 129 }
"""
USE = """
import torch, triple.selftest
from triple import triple

x = torch.ones(3, 5, requires_grad=True)
y = triple(x, c=2.0)
y.sum().backward()
assert (y == 2).all() and (x.grad == 2).all()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    (folder / "triple.dsl").write_text(SPEC)
    done = CliRunner().invoke(cli, ["package", str(folder / "triple.dsl"), "-o", str(folder / "dist")])
    assert done.exit_code == 0, done.output
    (found,) = (folder / "dist").iterdir()
    assert f"wrote {found}" in done.stdout
    return found


def python(site: Path, script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{REPOSITORY}"}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    return tmp_path


def test_the_wheel_is_all_that_is_needed(site: Path) -> None:
    done = python(site, USE)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in site.iterdir() if not p.name.endswith(".dist-info")) == ["triple"]


def test_an_operator_is_imported_without_the_interpreter_and_the_parser(site: Path) -> None:
    done = python(site, "import sys, triple; print([m for m in ('lark', 'tpcgen.interpreter') if m in sys.modules])")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_selftest_judges_the_smallest_check(site: Path) -> None:
    assert '{"D": 65, "N": 7, "c": 3.0}' in (site / "triple" / "selftest.py").read_text()


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("reference.dsl", "c * x[i, d]", "(c + 0.5) * x[i, d]", ("triple_bf16: y:", "triple_f32: y:")),
        ("reference.dsl", "dy[i, d] * c", "dy[i, d]", ("triple_vjp_bf16: dx:", "triple_vjp_f32: dx:")),
        ("kernels/tpcgen_triple_map_fwd_f32.c", "_v = c_2;", "_v = 0.0f;", ("triple_f32: y: 0 at",)),
    ],
)
def test_the_selftest_refuses_what_is_wrong(site: Path, file: str, old: str, new: str, words: tuple[str, ...]) -> None:
    path = site / "triple" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = python(site, "import triple.selftest")
    assert done.returncode == 1 and "ImportError: the self-test failed on cpu" in done.stderr, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_record_and_manifest_are_right(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = next(n for n in archive.namelist() if n.endswith("/RECORD")).removesuffix("/RECORD")
    assert wheel.name == f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
    record = [line.rsplit(",", 2) for line in archive.read(f"{info}/RECORD").decode().splitlines()]
    assert sorted(path for path, _, _ in record) == sorted(archive.namelist())
    for path, digest, size in record[:-1]:
        body = archive.read(path)
        expected = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={expected}", len(body))
    manifest = json.loads(archive.read("triple/manifest.json"))
    assert manifest["toolchain"]["tpcgen"] == VERSION
    assert {v["op"] for v in manifest["variants"]} == {"triple", "triple_vjp"}


def test_the_same_spec_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "triple.dsl").write_text(SPEC)
    done = CliRunner().invoke(cli, ["package", str(tmp_path / "triple.dsl"), "-o", str(tmp_path), "--json"])
    (again,) = json.loads(done.stdout)["wheels"]
    assert Path(again).name == wheel.name and Path(again).read_bytes() == wheel.read_bytes()
