"""tpc-clang's assembly as words and hardware loops: one word is one cycle, stalls aside (toolchain.md 3.5).

`{ ... }` is a word of several slots, a bare instruction one of one slot, `nop` an empty one. `loop ..., LABEL` is
followed by one delay word; its body ends at the label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LABEL = re.compile(r"^([\w.$]+):")
_LOOP = re.compile(r"^\s*loop\b.*?([.\w$]+)(?:\s*,\s*!?%?SP\d+)?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HardwareLoop:
    """`words` of one pass, `idle` of them without an instruction; `first` is the body's first word in the program.

    `innermost`: no loop inside it.
    """

    first: int
    words: int
    idle: int
    innermost: bool


@dataclass
class _Reading:
    """`idle`: per word, whether nothing is in it; `loops`: (word of the loop instruction, its label)."""

    idle: list[bool] = field(default_factory=list[bool])
    loops: list[tuple[int, str]] = field(default_factory=list["tuple[int, str]"])
    labels: dict[str, int] = field(default_factory=dict[str, int])


def hardware_loops(assembly: str) -> tuple[HardwareLoop, ...]:
    """The loops of a program in text order. ValueError for a loop whose end is nowhere."""
    reading = _read(assembly)
    spans: list[tuple[int, int]] = []
    for at, label in reading.loops:
        if label not in reading.labels:
            raise ValueError(f"a loop ends at {label}, which is nowhere")
        spans.append((at + 2, reading.labels[label]))
    return tuple(
        HardwareLoop(
            first,
            end - first,
            sum(reading.idle[first:end]),
            not any(first <= other < end for other, _ in spans if other != first),
        )
        for first, end in spans
    )


def words(assembly: str) -> int:
    """Words of the program, loops once."""
    return len(_read(assembly).idle)


def _read(assembly: str) -> _Reading:
    reading = _Reading()
    inside: list[str] | None = None
    for raw in assembly.splitlines():
        line = raw.split("//")[0].strip()
        if label := _LABEL.match(line):
            reading.labels[label.group(1)] = len(reading.idle)
            line = line[label.end() :].strip()
        if not line or (line.startswith(".") and inside is None):
            continue
        if line == "{":
            inside = []
        elif line == "}":
            _word(reading, inside or [])
            inside = None
        elif inside is not None:
            inside.append(line)
        else:
            _word(reading, [line])
    return reading


def _word(reading: _Reading, instructions: list[str]) -> None:
    for instruction in instructions:
        if found := _LOOP.match(instruction):
            reading.loops.append((len(reading.idle), found.group(1)))
    reading.idle.append(all(i.lower().startswith("nop") for i in instructions))
