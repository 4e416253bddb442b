"""Machine data of the user: a TOML or JSON file that changes numbers of a device or adds a device like another.

    [gaudi2.tpc]
    launch_seconds = { value = 2.5e-6, source = "our profiler, SynapseAI 1.24.1" }

    [gaudi2.mme]
    minimum_common = { value = { "bf16->f32" = 256 }, source = "measured" }     # other entries stay

    [lab]                                                                       # a device of its own
    like = "gaudi2"
    [lab.tpc]
    engines = { value = 23, source = "one is fused off" }

Every number needs a source; it is shown with U in front. The file is named by `--machines` or $TPCGEN_MACHINES.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.machine.gaudi import GAUDI
from tpcgen.machine.gaudi2 import GAUDI2
from tpcgen.machine.gaudi3 import GAUDI3
from tpcgen.machine.model import Machine, Memory, Mme, Network, Tile, Tpc
from tpcgen.program.dtypes import DType
from tpcgen.program.hints import did_you_mean

MACHINES: Mapping[str, Machine] = {m.name: m for m in (GAUDI, GAUDI2, GAUDI3)}
VARIABLE = "TPCGEN_MACHINES"

_Part = TypeVar("_Part", Mme, Tpc, Memory, Network)
_PARTS = ("mme", "tpc", "memory", "network")


def machines(path: Path | None = None) -> Mapping[str, Machine]:
    """The devices by name, changed by the file at `path`, by that of $TPCGEN_MACHINES where it is None.

    A device that is like another has that one's `name`: kernels are made for it. DiagnosticError (E527) for a file that
    cannot be read, a device, part or number that does not exist, a value of the wrong kind, a number without a source.
    """
    named = os.environ.get(VARIABLE, "")
    if path is None and not named:
        return MACHINES
    reader = _Reader(path or Path(named))
    return reader.machines()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def machines(self) -> Mapping[str, Machine]:
        result = dict(MACHINES)
        for name, device in self._table(self._load(), "the file").items():
            content = dict(self._table(device, name))
            result[name] = self._device(name, content, self._base(name, content, result))
        return result

    def _load(self) -> object:
        try:
            text = self._path.read_text(encoding="utf-8")
            if self._path.suffix == ".json":
                return json.loads(text)
            toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
            return toml.loads(text)
        except (OSError, ValueError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else str(problem)
            hint = "a TOML file, or JSON where its name ends in .json"
            raise self._error(f"cannot be read: {reason}", hint) from problem

    def _base(self, name: str, content: dict[str, object], known: Mapping[str, Machine]) -> Machine:
        like = content.pop("like", None)
        if name in MACHINES and like is not None:
            raise self._error(f"{name}.like: {name} exists already", "leave `like` out, or choose another name")
        wanted = name if like is None else str(like)
        base = known.get(wanted)
        if base is None:
            hint = did_you_mean(wanted, known) or 'a new device says what it is like: like = "gaudi2"'
            raise self._error(f"{name}: there is no device {wanted}", hint)
        return base

    def _device(self, name: str, content: Mapping[str, object], machine: Machine) -> Machine:
        for part, numbers in content.items():
            where = f"{name}.{part}"
            given = self._table(numbers, where)
            match part:
                case "mme":
                    machine = replace(machine, mme=self._part(machine.mme, given, where))
                case "tpc":
                    machine = replace(machine, tpc=self._part(machine.tpc, given, where))
                case "memory":
                    machine = replace(machine, memory=self._part(machine.memory, given, where))
                case "network":
                    machine = replace(machine, network=self._part(machine.network, given, where))
                case _:
                    hint = did_you_mean(part, _PARTS) or f"parts are {', '.join(_PARTS)}"
                    raise self._error(f"{where}: there is no such part", hint)
        return machine

    def _part(self, part: _Part, given: Mapping[str, object], where: str) -> _Part:
        kinds = {f.name: str(f.type) for f in fields(part) if f.name != "sources"}
        values: dict[str, Any] = {}
        sources = dict(part.sources)
        for name, entry in given.items():
            path = f"{where}.{name}"
            if name not in kinds:
                hint = did_you_mean(name, kinds) or f"numbers are {', '.join(kinds)}"
                raise self._error(f"{path}: there is no such number", hint)
            content = self._table(entry, path)
            source = content.get("source")
            if set(content) != {"value", "source"} or not isinstance(source, str) or not source.strip():
                hint = 'write { value = ..., source = "where it comes from" }'
                raise self._error(f"{path} has no value or no source", hint)
            values[name] = self._value(getattr(part, name), content["value"], path, whole=kinds[name] == "int")
            sources[name] = f"U: {source.strip()}"
        return replace(part, **values, sources=sources)

    def _value(self, old: object, new: object, where: str, *, whole: bool) -> object:
        """As the value it replaces: a number of the same kind, tiles, or a table whose entries replace its own."""
        match old:
            case int() | float():
                return self._number(new, where, whole=whole)
            case tuple():
                return self._tiles(new, where)
            case _:
                known = cast("Mapping[DType | tuple[DType, DType], float]", old)
                pairs = any(isinstance(key, tuple) for key in known)
                given = self._table(new, where).items()
                return {**known, **{self._key(k, where, pairs): self._number(v, where, whole=pairs) for k, v in given}}

    def _number(self, value: object, where: str, *, whole: bool) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            hint = "numbers are in bytes, bytes per second, Hz, seconds"
            raise self._error(f"{where}: {value!r} is not a positive number", hint)
        if whole and value != int(value):
            raise self._error(f"{where}: {value!r} is not a whole number", "")
        return int(value) if whole else value

    def _tiles(self, value: object, where: str) -> tuple[Tile, ...]:
        if not isinstance(value, list) or not value:
            raise self._error(f"{where}: tiles are a list of tables", '[{ name = "2xw", width = 512, height = 256 }]')
        made = tuple(self._tile(dict(self._table(item, where)), where) for item in cast("list[object]", value))
        if all(t.width_fits or t.height_fits for t in made):
            hint = "one needs neither width_fits nor height_fits"
            raise self._error(f"{where}: no tile takes results of any size", hint)
        return made

    def _tile(self, table: dict[str, Any], where: str) -> Tile:
        try:
            tile = Tile(**table)
        except TypeError as problem:
            hint = f"a tile has {', '.join(f.name for f in fields(Tile))}"
            raise self._error(f"{where}: not a tile: {table}", hint) from problem
        for side in (tile.width, tile.height, tile.gemms):
            self._number(side, where, whole=True)
        return tile

    def _key(self, text: str, where: str, pair: bool) -> DType | tuple[DType, DType]:
        words = [word.strip() for word in text.split("->")]
        if len(words) != 1 + pair or any(w not in {d.value for d in DType} for w in words):
            form = "an input and an output dtype: bf16->f32" if pair else "a dtype: bf16"
            raise self._error(f"{where}: {text!r} is no entry of it", f"keys are {form}")
        found = [DType(word) for word in words]
        return (found[0], found[1]) if pair else found[0]

    def _table(self, value: object, where: str) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise self._error(f"{where} is no table", "[device.part], then number = { value = ..., source = ... }")
        return cast("Mapping[str, object]", value)

    def _error(self, message: str, hint: str) -> DiagnosticError:
        return DiagnosticError((Diagnostic("E527", f"{self._path}: {message}", NOWHERE, hint),))
