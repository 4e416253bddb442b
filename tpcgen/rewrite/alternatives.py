"""The algorithms of an op: the program as written and what the rewrites make of it, each a program of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tpcgen.program import ir
from tpcgen.rewrite.band import band
from tpcgen.rewrite.chunk import chunk
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.split_pieces import split_pieces

MAX_ALTERNATIVES = 32
"""Programs of one op: each is normalised, about 10 ms."""

Rewrite = Callable[[ir.Program], "ir.Program | Refused"]


@dataclass(frozen=True, slots=True)
class Alternative:
    """`label` is empty for the program as written: "bands of 64", "bands of 64, chunks of 128"."""

    label: str
    program: ir.Program


@dataclass(frozen=True, slots=True)
class Alternatives:
    """`refused`: rewrites that did not fire on the program as written, by name, and why."""

    programs: tuple[Alternative, ...]
    refused: tuple[tuple[str, Refused], ...]


FAMILIES: tuple[tuple[str, tuple[tuple[str, Rewrite], ...]], ...] = (
    ("pieces", (("pieces apart", split_pieces),)),
    ("bands", tuple((f"bands of {tile}", partial(band, tile=tile)) for tile in (64, 128, 256))),
    ("chunks", tuple((f"chunks of {size}", partial(chunk, size=size)) for size in (64, 128, 256))),
)
"""Rewrites by what they do, in the order they are applied; of a family a program takes one or none."""


def alternatives(program: ir.Program) -> Alternatives:
    """The program as written first, then with one rewrite of a family, of two, and so on."""
    made = [Alternative("", program)]
    refused: list[tuple[str, Refused]] = []
    for name, options in FAMILIES:
        new: list[Alternative] = []
        for alternative in made:
            for label, rewrite in options:
                result = rewrite(alternative.program)
                if not isinstance(result, Refused):
                    new.append(Alternative(", ".join(x for x in (alternative.label, label) if x), result))
                elif alternative.label == "" and (name, result) not in refused:
                    refused.append((name, result))
        made += new
    return Alternatives(tuple(made[:MAX_ALTERNATIVES]), tuple(refused))
