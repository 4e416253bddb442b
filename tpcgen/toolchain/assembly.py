"""tpc-clang's assembly as words and loops: one word is one cycle, stalls aside (toolchain.md 3.5).

`{ ... }` is a word of several slots, a bare instruction one of one slot, `nop` an empty one. `loop ..., LABEL` is
followed by one delay word; its body ends at the label. Where it makes no such
loop, it jumps back: that loop starts at the label and ends with the delay word of the jump.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LABEL = re.compile(r"^([\w.$]+):")
_JUMP = re.compile(r"^jmpr?\s+([.\w$]+)", re.IGNORECASE)
_LOOP = re.compile(r"^\s*loop\b.*?([.\w$]+)(?:\s*,\s*!?%?SP\d+)?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MachineLoop:
    """`words` of one pass, `idle` of them without an instruction; `first` is the body's first word in the program.

    `innermost`: no loop inside it. `moves`: vectors that its words load from tensors or store to them.
    """

    first: int
    words: int
    idle: int
    innermost: bool
    moves: int


@dataclass
class _Reading:
    """Per word: `idle`, whether nothing is in it, `moves`, its accesses of tensors. `loops` and `jumps`: (word of the
    instruction, label).
    """

    idle: list[bool] = field(default_factory=list[bool])
    moves: list[int] = field(default_factory=list[int])
    loops: list[tuple[int, str]] = field(default_factory=list["tuple[int, str]"])
    jumps: list[tuple[int, str]] = field(default_factory=list["tuple[int, str]"])
    labels: dict[str, int] = field(default_factory=dict[str, int])


def machine_loops(assembly: str) -> tuple[MachineLoop, ...]:
    """The loops of a program in text order. ValueError for a loop whose end is nowhere."""
    reading = _read(assembly)
    spans: list[tuple[int, int]] = []
    for at, label in reading.loops:
        if label not in reading.labels:
            raise ValueError(f"a loop ends at {label}, which is nowhere")
        spans.append((at + 2, reading.labels[label]))
    back = {reading.labels[label]: at + 2 for at, label in reading.jumps if reading.labels.get(label, at + 1) <= at}
    spans = sorted([*spans, *back.items()], key=lambda span: (span[0], -span[1]))
    return tuple(
        MachineLoop(
            first,
            end - first,
            sum(reading.idle[first:end]),
            not any(first <= other and stop <= end for other, stop in spans if (other, stop) != (first, end)),
            sum(reading.moves[first:end]),
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
        if found := _JUMP.match(instruction):
            reading.jumps.append((len(reading.idle), found.group(1)))
    reading.moves.append(sum(i.lower().startswith(("ld_tnsr", "st_tnsr")) for i in instructions))
    reading.idle.append(all(i.lower().startswith("nop") for i in instructions))
