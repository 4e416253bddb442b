"""The algorithms of an op: the program as written and what the rewrites make of it, each a program of its own.

`schedule { tile q 64; }` keeps the alternatives with that choice, `tile q whole;` those without tiles along q.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tpcgen.diagnostics import Diagnostics
from tpcgen.program import ir
from tpcgen.rewrite.attention import fused_index
from tpcgen.rewrite.band import band, banded_index
from tpcgen.rewrite.chunk import chunk, chunked_index
from tpcgen.rewrite.count_ranks import count_ranks
from tpcgen.rewrite.last_states import last_states
from tpcgen.rewrite.merge_parts import merge_parts, merged_index
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.part_sums import part_sums
from tpcgen.rewrite.reassociate import reassociate, reassociated_index
from tpcgen.rewrite.split_pieces import split_pieces
from tpcgen.rewrite.split_scans import split_scans
from tpcgen.rewrite.stairs import rows, rows_index, stairs, stepped_index

WHOLE = "whole"
"""The length of a pin that asks for no tiles."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """`label` is empty for the program as written: "bands of 64", "bands of 64, chunks of 128".

    `pins`: entries of a `schedule` block that keep it among the others. `length`: that of its tiles, 0 without; all
    families that fire have the same, or programs of two parts would have the square of the alternatives. `fused`: one
    kernel computes the attention in it, so many keys at a time; 0 where there is none.
    """

    label: str
    program: ir.Program
    pins: tuple[str, ...] = ()
    length: int = 0
    fused: int = 0


@dataclass(frozen=True, slots=True)
class Alternatives:
    """`refused`: rewrites that did not fire on the program as written, by name, and why."""

    programs: tuple[Alternative, ...]
    refused: tuple[tuple[str, Refused], ...]


@dataclass(frozen=True, slots=True)
class Form:
    """One rewrite of a family. `word` is that of its pin: `tile q 64;`, `merge k parts;`. `length`: of tiles, or 0;
    `fused`: as of an alternative.
    """

    word: str
    label: str
    length: int
    rewrite: Callable[[ir.Program], ir.Program | Refused]
    fused: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """Rewrites of which a program takes one or none.

    `index` names the index that they are about, `verb` the schedule entry that pins it.
    """

    name: str
    verb: str
    index: Callable[[ir.Program], str | Refused]
    forms: tuple[Form, ...]


def _of_lengths(
    name: str, lengths: Iterable[int], rewrite: Callable[[ir.Program, int], ir.Program | Refused]
) -> tuple[Form, ...]:
    return tuple(Form(str(n), f"{name} of {n}", n, lambda program, n=n: rewrite(program, n)) for n in lengths)


def _fused(lengths: Iterable[int]) -> tuple[Form, ...]:
    return tuple(Form(str(n), f"one kernel, {n} keys at a time", 0, lambda program: program, n) for n in lengths)


FUSE = "fuse"
CHUNKS = (64, 128, 256)
FAMILIES = (
    Family("one kernel", FUSE, fused_index, _fused((72, 24))),
    Family("parts", "merge", merged_index, (Form("parts", "merged parts", 0, merge_parts),)),
    Family("sums", "sums", reassociated_index, (Form("first", "sums first", 0, reassociate),)),
    Family("bands", "tile", banded_index, _of_lengths("bands", (64, 128, 256), band)),
    Family("chunks", "chunk", chunked_index, _of_lengths("chunks", CHUNKS, chunk)),
    Family("stairs", "steps", stepped_index, _of_lengths("stairs", (4,), stairs)),
)
"""In the order they are applied. The more keys a kernel of the whole attention takes at a time, the fewer columns of
values have room in local memory beside their scores.
"""
IN_LITTLE_MEMORY = (
    *FAMILIES[:-1],
    Family("stairs", "steps", rows_index, (*FAMILIES[-1].forms, *_of_lengths("steps", (12, 32), rows))),
)
"""Where HBM holds no plan of the others. One kernel sums the parts of a gradient: of 32, no kernel takes as many."""


_OF_A_CONSTRUCT = ("pieces", "parts", "sums", "one kernel")
"""Refusals that are told only where the text has what the rewrite is about: several equations, an `or`, a sum of
products that is summed again, a band.
"""


def families_of(program: ir.Program) -> tuple[Family, ...]:
    """`FAMILIES`, and what else the program's schedule asks for."""
    usual = {(f.verb, form.word) for f in FAMILIES for form in f.forms}
    rare = {(f.verb, form.word) for f in IN_LITTLE_MEMORY for form in f.forms} - usual
    return IN_LITTLE_MEMORY if any((p.verb, p.words[-1]) in rare for p in program.pins if p.words) else FAMILIES


def alternatives(
    program: ir.Program, given: Sequence[Alternative] = (), families: Sequence[Family] | None = None
) -> Alternatives:
    """The program as written first, then with one rewrite of `families`, with two, and so on; without, `families_of`
    the program. DiagnosticError (E410) for a pinned length that none has.

    Where an op is put together of pieces, every alternative has them apart: that visits no more points than the text.
    `given`: programs that compute the same, made of more than the program's text; each is rewritten as that is.
    """
    whole, apart = _prepared(program)
    made = [Alternative("", whole), *(replace(a, program=_prepared(a.program)[0]) for a in given)]
    refused = [] if apart is None else [("pieces", apart)]
    for family in families_of(program) if families is None else families:
        new: list[Alternative] = []
        for alternative in made:
            if alternative.fused:
                new.append(alternative)
                continue
            found = _applied(family, alternative, program)
            if isinstance(found, Refused):
                new.append(alternative)
                refused += [(family.name, found)] if not alternative.label else []
            else:
                new += found
        made = new
    told = tuple((name, r) for name, r in refused if name not in _OF_A_CONSTRUCT or r.span != program.span)
    return Alternatives(_pinned(program, sorted(made, key=lambda a: a.label != "")), told)


def _prepared(program: ir.Program) -> tuple[ir.Program, Refused | None]:
    """What every alternative starts from: pieces apart, where there are; else why not."""
    whole = last_states(split_scans(count_ranks(program)))
    apart = split_pieces(part_sums(whole))
    return (whole, apart) if isinstance(apart, Refused) else (apart, None)


def _applied(family: Family, a: Alternative, source: ir.Program) -> list[Alternative] | Refused:
    """The alternative as it is, and in each form that fires; Refused where none does."""
    index = family.index(a.program)
    if isinstance(index, Refused):
        return index
    pin = f"{family.verb} {_written(index, source)}"
    made: list[Alternative] = []
    refused: list[Refused] = []
    for form in family.forms:
        if form.length and a.length not in (0, form.length):
            continue
        result = form.rewrite(a.program)
        if isinstance(result, Refused):
            refused.append(result)
            continue
        label = ", ".join(x for x in (a.label, form.label) if x)
        pins, length = (*a.pins, f"{pin} {form.word};"), form.length or a.length
        made.append(Alternative(label, result, pins, length, form.fused))
    if refused and not made:
        return refused[0]
    kept = replace(a, pins=(*a.pins, f"{pin} {WHOLE};"))
    return [kept, *made]


def _written(index: str, source: ir.Program) -> str:
    """The name in the text of an index, of which a part may have its own: q for q_2."""
    known = {r.name for r in source.indices}
    base, _, number = index.rpartition("_")
    return base if index not in known and number.isdigit() and base in known else index


def _pinned(program: ir.Program, made: list[Alternative]) -> tuple[Alternative, ...]:
    found = Diagnostics()
    kept = made
    for pin in program.pins:
        if pin.verb not in {f.verb for f in FAMILIES}:
            continue
        wanted = f"{pin.verb} {' '.join(pin.words)};"
        if not any(wanted in a.pins for a in made):
            known = dict.fromkeys(p for a in made for p in a.pins)
            hint = f"what can be pinned: {' '.join(known)}" if known else "the op has one algorithm only"
            found.error("E410", f"no alternative has `{wanted[:-1]}`", pin.span, hint)
        kept = [a for a in kept if wanted in a.pins]
    if not kept and not found.has_errors:
        known = [" ".join(a.pins) for a in made]
        span = next(pin.span for pin in program.pins if pin.verb in {f.verb for f in FAMILIES})
        found.error("E410", "no alternative has all of these lengths", span, f"there are: {'  or  '.join(known)}")
    found.raise_if_errors()
    return tuple(kept)
