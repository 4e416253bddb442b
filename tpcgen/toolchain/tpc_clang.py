"""Habana's compiler: found, asked its version, run; its messages said of the spec's lines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tpcgen.diagnostics import NOWHERE, Diagnostic, Label, Severity, Span
from tpcgen.toolchain.errors import ToolchainError

_STANDARD_PLACE = Path("/usr/bin/tpc-clang")
_TIMEOUT_S = 120
# The open compiler has no gaudi3 (toolchain.md section 4).
TARGETS = ("gaudi", "gaudi2")
_MESSAGE = re.compile(
    r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?P<column>\d+): (?:fatal )?(?P<kind>error|warning): (?P<text>.*)$"
)
_ORIGIN = re.compile(r"^\s*//\s*(?P<file>[\w.+-]+):(?P<line>\d+)\b")


@dataclass(frozen=True, slots=True)
class TpcClang:
    """`version` is what the compiler says of itself."""

    path: Path
    version: str


def find() -> TpcClang | None:
    """`$TPC_CLANG`, else `tpc-clang` on PATH, else in /usr/bin; None where there is none.

    ToolchainError (E610) when `$TPC_CLANG` names something that does not run.
    """
    if chosen := os.environ.get("TPC_CLANG"):
        return TpcClang(Path(chosen), _version(Path(chosen)))
    found = shutil.which("tpc-clang") or (str(_STANDARD_PLACE) if _STANDARD_PLACE.exists() else None)
    return TpcClang(Path(found), _version(Path(found))) if found else None


def compile_kernel(compiler: TpcClang, source: Path, target: str, output: Path, specs: Mapping[str, Path]) -> None:
    """Compile one kernel to a device ELF at -O2, or to assembly where `output` ends in .s. Warnings are errors.

    `specs` maps the file names in the kernel's comments to the spec files, for diagnostics. ToolchainError: E611 the
    kernel was refused, E612 the compiler broke or did not finish.
    """
    if target not in TARGETS:
        raise ToolchainError((Diagnostic("E613", f"no open compiler knows {target}", NOWHERE),))
    stage = "-S" if output.suffix == ".s" else "-c"
    command = [str(compiler.path), f"-march={target}", "-O2", "-Wall", "-Werror", stage, str(source), "-o", str(output)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError((Diagnostic("E612", f"tpc-clang on {source.name}: {error}", NOWHERE),)) from None
    if done.returncode != 0:
        raise ToolchainError(_diagnostics(done.stderr, source, specs) or (_crash(source, done),))


def _version(path: Path) -> str:
    try:
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        hint = "set TPC_CLANG to Habana's compiler, or unset it"
        raise ToolchainError((Diagnostic("E610", f"{path} does not run: {error}", NOWHERE, hint),)) from None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def _diagnostics(output: str, source: Path, specs: Mapping[str, Path]) -> tuple[Diagnostic, ...]:
    lines = source.read_text(encoding="utf-8").splitlines()
    return tuple(_diagnostic(m, lines, specs) for m in map(_MESSAGE.match, output.splitlines()) if m)


def _diagnostic(message: re.Match[str], lines: list[str], specs: Mapping[str, Path]) -> Diagnostic:
    line, column = int(message["line"]), int(message["column"])
    place = Span(message["file"], line, column, line, column + 1)
    origin = origin_of(lines, line, specs)
    text = f"tpc-clang: {message['text']}"
    severity = Severity.ERROR if message["kind"] == "error" else Severity.WARNING
    if origin is None:
        return Diagnostic("E611", text, place, severity=severity)
    return Diagnostic(
        "E611", text, origin, labels=(Label(place, "in the kernel made from this line"),), severity=severity
    )


def origin_of(lines: list[str], line: int, specs: Mapping[str, Path]) -> Span | None:
    """The spec line named by the nearest comment at or above `line` (from 1) of a kernel's text."""
    for text in reversed(lines[:line]):
        if (found := _ORIGIN.match(text)) and found["file"] in specs:
            at = int(found["line"])
            return Span(str(specs[found["file"]]), at, 1, at, 1)
    return None


def _crash(source: Path, done: subprocess.CompletedProcess[str]) -> Diagnostic:
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Diagnostic("E612", f"tpc-clang failed on {source.name} (exit status {done.returncode}): {last}", NOWHERE)
