"""The files of std/ and the variants in them: an op of a file is one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tpcgen.program import ir, load
from tpcgen.program.files import library
from tpcgen.program.resolve import Module

FILES = sorted(library().glob("*.dsl"))


@cache
def module(file: Path) -> Module:
    return load(file)


@dataclass(frozen=True)
class Variant:
    name: str
    file: Path

    def program(self, dtype: str) -> ir.Program:
        return module(self.file).program(self.name, T=dtype)

    def checks(self) -> list[dict[str, int | float]]:
        """Sizes and attributes of its check blocks, without those of the other ops of the file."""
        program = self.program("f32")
        wanted = {*program.sizes, *(a.name for a in program.attributes)}
        blocks = [c.values for c in module(self.file).checks if self.name in c.ops]
        return [{k: v for k, v in values.items() if k in wanted} for values in blocks]


VARIANTS = {name: Variant(name, file) for file in FILES for name in module(file).ops}
