"""The devices as the cost model knows them: every number with where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from tpcgen.machine import Machine
from tpcgen.machine.model import Memory, Mme, Network, Tile, Tpc
from tpcgen.program.dtypes import DType
from tpcgen.report.tables import table

_NOTES: Mapping[str, str] = {
    "gaudi3": "emitted with the instructions it shares with gaudi2; no open compiler has judged that code"
}
_LEGEND = "R: read in the primary source. S: from a secondary text. I: inferred. A: assumed. U: given by the user."

_Value = float | tuple[Tile, ...] | Mapping[Any, float]


def to_text(machines: Mapping[str, Machine]) -> str:
    """One table per device; the letters before a source are explained below the last."""
    return "\n".join(_device(name, m) for name, m in machines.items()) + f"\n{_LEGEND}\n"


def to_json(machines: Mapping[str, Machine]) -> str:
    """{"device": {"part": {"number": [value, source]}}}; values are numbers, tables by dtype or lists of tiles."""
    data = {
        name: {part: {n: [_data(v), source] for n, v, source in _numbers(value)} for part, value in _parts(m)}
        for name, m in machines.items()
    }
    return json.dumps(data, indent=2) + "\n"


def _device(name: str, machine: Machine) -> str:
    rows = [row for part, numbers in _parts(machine) for row in _rows(part, numbers)]
    note = f" ({_NOTES[name]})" if name in _NOTES else ""
    like = "" if name == machine.name else f", like {machine.name}"
    return f"{name}{like}{note}\n\n{table(('part', 'number', 'value', 'source'), rows)}"


def _parts(machine: Machine) -> Iterator[tuple[str, Mme | Tpc | Memory | Network]]:
    yield "mme", machine.mme
    yield "tpc", machine.tpc
    yield "memory", machine.memory
    yield "network", machine.network


def _numbers(part: Mme | Tpc | Memory | Network) -> Iterator[tuple[str, _Value, str]]:
    for field in fields(part):
        if field.name in part.sources:
            yield field.name, getattr(part, field.name), part.sources[field.name]


def _rows(part: str, numbers: Mme | Tpc | Memory | Network) -> Iterator[tuple[str, str, str, str]]:
    """A row per number; tables and tiles take one per entry, the source on the first."""
    for name, value, source in _numbers(numbers):
        for position, (entry, text) in enumerate(_entries(value)):
            yield part, f"{name} {entry}".strip(), text, "" if position else source


def _entries(value: _Value) -> Iterator[tuple[str, str]]:
    match value:
        case int() | float():
            yield "", _number(value)
        case tuple():
            for tile in value:
                times = f", {tile.gemms} at a time" if tile.gemms > 1 else ""
                yield tile.name, f"{tile.width} x {tile.height}{times}"
        case _:
            for key, number in value.items():
                yield _key(key), _number(number)


def _number(value: float) -> str:
    return f"{value:g}" if value < 1e4 or value % 1000 == 0 else str(value)


def _data(value: _Value) -> object:
    match value:
        case int() | float():
            return value
        case tuple():
            return [asdict(tile) for tile in value]
        case _:
            return {_key(k): v for k, v in value.items()}


def _key(key: DType | tuple[DType, DType]) -> str:
    return "->".join(map(str, key)) if isinstance(key, tuple) else str(key)
