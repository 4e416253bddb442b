"""The devices as the cost model knows them: every number with where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from tpcgen.machine import MACHINES, Machine
from tpcgen.machine.model import Memory, Mme, Tile, Tpc
from tpcgen.program.dtypes import DType
from tpcgen.report.tables import table

_NOTES: Mapping[str, str] = {
    "gaudi3": "emitted with the instructions it shares with gaudi2; no open compiler has judged that code"
}
_LEGEND = "R: read in the primary source. S: from a secondary text. I: inferred. A: assumed."


def to_text() -> str:
    """One table per device; `sources` of the machine tables say what the letters mean."""
    return "\n".join(_device(m) for m in MACHINES.values()) + f"\n{_LEGEND}\n"


def to_json() -> str:
    """{"device": {"part": {"number": [value, source]}}}; tables inside a number are given as text."""
    data = {m.name: {part: dict(_numbers(value)) for part, value in _parts(m)} for m in MACHINES.values()}
    return json.dumps(data, indent=2) + "\n"


def _device(machine: Machine) -> str:
    rows = [
        (part, name, value, source) for part, numbers in _parts(machine) for name, (value, source) in _numbers(numbers)
    ]
    note = f" ({_NOTES[machine.name]})" if machine.name in _NOTES else ""
    return f"{machine.name}{note}\n\n{table(('part', 'number', 'value', 'source'), rows)}"


def _parts(machine: Machine) -> Iterator[tuple[str, Mme | Tpc | Memory]]:
    yield "mme", machine.mme
    yield "tpc", machine.tpc
    yield "memory", machine.memory


def _numbers(part: Mme | Tpc | Memory) -> Iterator[tuple[str, tuple[str, str]]]:
    for field in fields(part):
        if field.name in part.sources:
            yield field.name, (_value(getattr(part, field.name)), part.sources[field.name])


def _value(value: float | str | tuple[Tile, ...] | Mapping[Any, float]) -> str:
    match value:
        case int() | float():
            return f"{value:g}" if value < 1e4 or value % 1000 == 0 else str(value)
        case str():
            return value
        case tuple():
            return f"{len(value)} kinds"
        case _:
            return ", ".join(f"{_key(k)}={v:g}" for k, v in value.items())


def _key(key: DType | tuple[DType, DType]) -> str:
    return "->".join(map(str, key)) if isinstance(key, tuple) else str(key)
