"""What a document promises: its fenced blocks, run in order in one folder that holds a copy of examples/.

    ```console            commands after `$ `, each followed by what it prints; every command ends with status 0,
    ```console status=2   or with the status that is given
    ```python             a program of its own, which must end well: it asserts what it claims
    ```dsl, ```c, ```cpp  a file that later blocks use, named by its first line: `# NAME.dsl`, `// NAME.c`; a spec that
                          has no name is one without errors or warnings
    ```text, ```sh        nothing: what no test can run, a Gaudi's commands say

Output is compared line by line. Numbers with a fraction or an exponent, times and runs of spaces and dashes are
compared by shape; a line `...` stands for any lines; progress (`tpcgen: ...`) is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("console", "python", "dsl", "c", "cpp", "text", "sh")
ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*) *([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:#|//) (\w+\.\w+)\n")
_TIME = re.compile(r"(?<![\w.])\d+(\.\d+)? (s|ms|us|ns)\b")
_REAL = re.compile(r"(?<![\w.])-?\d+(\.\d+(e[-+]\d+)?|e[-+]\d+)(?![\w.])")


@dataclass(frozen=True)
class Block:
    """`line` is that of the fence, `start` and `end` the place of `text` in the document."""

    language: str
    info: str
    text: str
    line: int
    start: int
    end: int


@dataclass(frozen=True)
class Command:
    line: str
    output: str


def blocks(document: str) -> Iterator[Block]:
    for match in _FENCE.finditer(document):
        line = document.count("\n", 0, match.start()) + 1
        yield Block(match[1], match[2].strip(), match[3], line, match.start(3), match.end(3))


def commands(text: str) -> list[Command]:
    """The commands of a console block. One goes on after a line that ends in a backslash."""
    found: list[Command] = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        match = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", part, re.DOTALL)
        assert match is not None
        found.append(Command(match[1], match[2]))
    return found


def run(block: Block, folder: Path) -> str:
    """Do what the block says; its text as it would be if it were true. AssertionError for a wrong status."""
    match block.language:
        case "console":
            status = int(block.info.removeprefix("status=") or 0)
            return "".join(_console(c, status, folder) for c in commands(block.text))
        case "python":
            _end(_process([sys.executable, "-c", block.text], folder), 0, "the program")
        case "dsl" | "c" | "cpp" if name := _NAME.match(block.text):
            (folder / name[1]).write_text(block.text)
        case "dsl":
            from tpcgen.program.resolve import load_text

            assert not load_text(block.text, "block.dsl").warnings
        case "text" | "sh":
            pass
        case _:
            raise AssertionError(f"a block in {block.language!r} is not checked: use one of {', '.join(LANGUAGES)}")
    return block.text


def same(promised: str, printed: str) -> bool:
    """Whether a console block's text describes what it printed."""
    lines = [re.escape(shape(line)) + "\n" if line != "..." else "(?:.*\n)*?" for line in promised.splitlines()]
    return re.fullmatch("".join(lines), "".join(shape(line) + "\n" for line in printed.splitlines())) is not None


def shape(line: str) -> str:
    line = _REAL.sub("REAL", _TIME.sub("TIME", line))
    return re.sub(r"-{3,}", "---", re.sub(r" +", " ", line)).rstrip()


def _console(command: Command, status: int, folder: Path) -> str:
    done = _process(["bash", "-c", command.line], folder)
    _end(done, status, command.line)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("tpcgen: ")]
    return "".join(f"{line}\n" for line in (f"$ {command.line}", *lines))


def _process(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, text=True, timeout=600, check=False, **both)


def _end(done: subprocess.CompletedProcess[str], status: int, what: str) -> None:
    assert done.returncode == status, f"{what} ended with status {done.returncode}, not {status}:\n{done.stdout}"
