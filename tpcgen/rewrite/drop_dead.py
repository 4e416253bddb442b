"""Drops intermediates that no output needs."""

from __future__ import annotations

from tpcgen.program import ir
from tpcgen.rewrite.edit import Part, Recurrence, parts_of, reads, rebuilt


def drop_dead(program: ir.Program) -> ir.Program:
    needed = {t.name for t in program.outputs}
    kept: list[Part] = []
    for part in reversed(parts_of(program)):
        made, statement = (
            ({t.name for t in part.tensors}, part.scan)
            if isinstance(part, Recurrence)
            else ({part.tensor.name}, part.equation)
        )
        if made & needed:
            kept.append(part)
            needed |= reads(statement)
    return rebuilt(program, kept[::-1])
