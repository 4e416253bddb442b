"""docs/host.md, executed from top to bottom: its files written, its Python run, its commands giving what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/host.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_is_true(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    tpcgen = commands / "tpcgen"
    tpcgen.write_text(f'#!/bin/sh\nexec {sys.executable} -m tpcgen.cli "$@"\n')
    tpcgen.chmod(0o755)
    path = f"{commands}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(PAGE.parents[1])}
    ran = 0
    for kind, text in _BLOCK.findall(PAGE.read_text()):
        if kind in ("c", "cpp"):
            name = re.match(r"// (\S+)\n", text)[1]
            (tmp_path / name).write_text(text)
        elif kind == "python":
            subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True, timeout=60)
        else:
            assert kind == "console", kind
            command, _, expected = text.removeprefix("$ ").partition("\n")
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
            )
            assert done.stdout == expected, f"{command}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran >= 8
