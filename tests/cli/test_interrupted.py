"""Killed, or with another tpcgen at work in the same folder: there is never half an artifact."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tpcgen.emit.artifact import MANIFEST

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

WRITER = f"""
import sys, itertools
from pathlib import Path
from tpcgen.emit.artifact import write
names = ("{MANIFEST}", *(f"a/b/{{n}}.c" for n in range(30)))
for version in itertools.count():
    write(Path(sys.argv[1]), dict.fromkeys(names, str(version)))
    print(version, flush=True)
"""


@pytest.mark.parametrize("after", range(10))
def test_a_kill_leaves_a_whole_artifact_or_none(tmp_path: Path, after: int) -> None:
    folder = tmp_path / "build" / "op"
    folder.parent.mkdir()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert writer.stdout is not None
    for _ in range(after + 1):
        writer.stdout.readline()
    time.sleep(after / 5000)
    writer.kill()
    writer.wait()
    if folder.exists():
        texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
        assert len(texts) == 31 and len(set(texts)) == 1


def test_what_a_kill_left_beside_the_folder_goes_with_the_next_write(tmp_path: Path) -> None:
    from tpcgen.emit.artifact import write

    left = tmp_path / ".op.tpcgen-abc" / "new"
    left.mkdir(parents=True)
    (left / MANIFEST).write_text("half")
    assert write(tmp_path / "op", {MANIFEST: "{}"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["op"]


def test_two_compilers_in_one_folder_take_turns(tmp_path: Path) -> None:
    out = tmp_path / "build"
    out.mkdir()
    command = ("compile", str(ROOT / "examples" / "full.dsl"), "-o", str(out), "--no-build", "--no-check")
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    second = subprocess.Popen(
        [sys.executable, "-m", "tpcgen.cli", *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert second.stderr is not None
    assert b"waiting for another tpcgen" in second.stderr.readline()
    assert not (out / "full").exists()
    os.close(handle)
    second.communicate(timeout=100)
    assert second.returncode == 0
    assert (out / "full" / MANIFEST).exists()
