"""`tpcgen run` as a kernel's author meets it: whole processes, with and without glue."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/host/fixtures"
RELU, SOFTMAX, GLUE = FIXTURES / "relu_f32.c", FIXTURES / "softmax_f32.c", FIXTURES / "glue.cpp"
WITH_GLUE = ("--glue", GLUE, "--guid", "fixture_softmax_f32")
X = np.linspace(-3, 3, 5 * 129, dtype=np.float32).reshape(5, 129)


def run(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpcgen.cli", "run", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture
def here(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path


def test_without_glue(here: Path) -> None:
    done = run(here, RELU, "--in", "x.npy", "--out", "y.npy", "--index-space", "3,5,1,1", "--trace", "member=2,1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "relu_f32: 15 members of index space 3x5x1x1",
        "  input 0   645 of 645 elements read (100.0%), 15 loads, 0 stores, 315 lanes padded, 0 dropped",
        "  output 0  645 of 645 elements written (100.0%), 0 loads, 15 stores, 0 lanes padded, 315 dropped",
        "  local memory: 0 bytes of VLM, 0 of SLM",
        "  load      tensor 0 at (128,1,0,0,0), 64 x 4 bytes",
        "  store     tensor 1 at (128,1,0,0,0), 64 x 4 bytes",
        "wrote y.npy",
        "no findings",
    ]
    np.testing.assert_array_equal(np.load(here / "y.npy"), np.maximum(X, 0))


def test_with_glue_and_json(here: Path) -> None:
    done = run(here, SOFTMAX, *WITH_GLUE, "--in", "x.npy", "--out", "y:f32[5,129]", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["outputs"] == ["y.npy"]
    assert report["members"] == 5
    assert [t["accessed"] for t in report["tensors"]] == [645, 645]
    assert report["vlm_bytes"] > 0
    np.testing.assert_allclose(np.load(here / "y.npy").sum(-1), 1, rtol=1e-5)


def test_narrow_floats_keep_their_bits(here: Path) -> None:
    arguments = ("--index-space", "2,5", "--in", "x.npy:bf16", "--in", "x.npy:bf16", "--out", "y:bf16")
    assert run(here, FIXTURES / "add_bf16.c", *arguments).returncode == 0
    x = X.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(np.load(here / "y.npy").view(ml_dtypes.bfloat16), x + x)
    again = ("--index-space", "2,5", "--in", "y.npy", "--in", "y.npy", "--out", "z:bf16")
    assert run(here, FIXTURES / "add_bf16.c", *again).returncode == 0
    np.testing.assert_array_equal(np.load(here / "z.npy").view(ml_dtypes.bfloat16), x + x + (x + x))


def test_parameters(here: Path) -> None:
    arguments = ("--index-space", "3,5", "--in", "x.npy", "--out", "y.npy", "--param", "scale:f32=2")
    assert run(here, FIXTURES / "scale_f32.c", *arguments, "--param", "repeats=3").returncode == 0
    np.testing.assert_array_equal(np.load(here / "y.npy"), X * 8)
    few = run(here, FIXTURES / "scale_f32.c", *arguments)
    assert few.returncode == 1
    assert "error[signature]" in few.stdout


@pytest.mark.parametrize(
    ("fault", "kind", "more"),
    [
        ("endless", "timeout", "still running the kernel after 2 s"),
        ("wild_address", "wild_pointer", "byte 51600000 from the start of input 0"),
        ("null_pointer", "crash", "SIGSEGV at address 0x0"),
        ("overruns_local", "crash", ""),
        ("divides_by_zero", "crash", "SIGFPE"),
        ("big_local", "local_memory", "bytes of vector local memory"),
        ("nan_everywhere", "all_nan", "every element of output 0 is NaN"),
        ("deep_stack", "crash", "SIGSEGV"),
    ],
)
def test_faults_are_reports(here: Path, fault: str, kind: str, more: str) -> None:
    arguments = ("--in", "x.npy", "--out", "y.npy", "--index-space", "3,5", "--timeout", "2")
    done = run(here, FIXTURES / f"faults/{fault}.c", *arguments)
    assert f"[{kind}]" in done.stdout, done.stdout + done.stderr
    assert more in done.stdout
    assert done.returncode == (0 if kind == "all_nan" else 1)


BARE = ("--in", "x.npy", "--out", "y.npy", "--index-space", "3,5")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, ("Missing argument",)),
        (("absent.c", *BARE), 2, ("E605", "absent.c")),
        ((RELU, "--in", "x.npy", "--out", "y.npy"), 2, ("E530", "--index-space 4,64,1,1")),
        ((RELU, *BARE, "--index-space", "a,b"), 2, ("E530", "whole numbers")),
        ((RELU, *BARE, "--index-space", "99999,99999,99"), 2, ("E530", "members")),
        ((RELU, *BARE, "--trace", "member=3,0"), 2, ("E530", "no member (3, 0, 0, 0, 0)")),
        ((RELU, *BARE, "--trace", "member=x"), 2, ("E530", "member=3,0")),
        ((RELU, *BARE, "--param", "scale"), 2, ("E530", "NAME=VALUE")),
        ((RELU, *BARE, "--param", "scale:f64=1"), 2, ("E530", "NAME=VALUE")),
        ((RELU, *BARE, "--in", "absent.npy"), 2, ("E530", "absent.npy")),
        ((RELU, *BARE, "--in", "empty.npy"), 2, ("E530", "empty.npy")),
        ((RELU, *BARE, "--in", "many.npz"), 2, ("E530", "archive")),
        ((RELU, *BARE, "--in", "complex.npy"), 2, ("E530", "complex")),
        ((RELU, *BARE, "--out", "z:f32[1,1,1,1,1,1]"), 2, ("E530", "at most 5 dims")),
        ((RELU, *BARE, "--out", "z:f32[99999999999]"), 2, ("E530", "do not fit")),
        ((RELU, "--in", "x.npy", "--out", "absent/z", "--index-space", "3,5"), 2, ("E522", "absent/z.npy")),
        ((RELU, *BARE, "--target", "goya"), 2, ("goya", "gaudi2")),
        ((RELU, "--in", "x.npy", "--out", "y.npy", "--glue", GLUE), 2, ("E530", "--guid")),
        ((RELU, "--in", "x.npy", "--out", "y.npy", "--glue", "no.so", "--guid", "g"), 2, ("E530", "no.so")),
        ((RELU, "--in", "x.npy", "--out", "y.npy", "--glue", "text.so", "--guid", "g"), 1, ("could not be loaded",)),
        ((SOFTMAX, *WITH_GLUE, "--in", "x.npy", "--out", "y:bf16"), 1, ("7: INCOMPATIBLE_DATA_TYPE",)),
        (("lane.c", *BARE), 2, ("E601", "lane.c:1:", "lanes of a vector cannot be accessed", "^")),
        (("recursive.c", *BARE), 2, ("E604", "recursion: f -> f")),
    ],
)
def test_wrong_arguments(here: Path, arguments: tuple[str | Path, ...], status: int, words: tuple[str, ...]) -> None:
    (here / "empty.npy").touch()
    (here / "text.so").write_text("no library")
    np.savez(here / "many.npz", X)
    np.save(here / "complex.npy", X.astype(np.complex64))
    (here / "lane.c").write_text(
        "void main(tensor x, tensor y) { int5 c = {0}; float64 v = v_f32_ld_tnsr_b(c, x); v[0] = 1.0f; }"
    )
    (here / "recursive.c").write_text(
        "int f(int n) { return n ? f(n - 1) : 0; } void main(tensor x, tensor y) { f(3); }"
    )
    done = run(here, *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    for word in words:
        assert word in done.stdout + done.stderr


def test_a_missing_compiler_is_status_3(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPCGEN_CXX", "no-such-compiler")
    done = run(here, RELU, *BARE)
    assert done.returncode == 3
    assert "E600" in done.stderr


@pytest.mark.full
def test_sanitized(here: Path) -> None:
    assert run(here, SOFTMAX, *WITH_GLUE, "--in", "x.npy", "--out", "y.npy", "--sanitize").returncode == 0
    done = run(here, FIXTURES / "faults/overruns_local.c", *BARE, "--sanitize")
    assert done.returncode == 1
    [finding] = [line for line in done.stdout.splitlines() if line.startswith("error[crash]")]
    assert "AddressSanitizer: global-buffer-overflow at" in finding
    assert re.search(r"overruns_local\.c:1[34] while running the kernel", finding)
