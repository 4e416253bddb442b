"""Last values that the kernel of their scan cannot write: they get a scan of their own.

A kernel of a scan writes what has all axes of its states but the one that its steps reduce, along the same lane. In

    scan t in 0 .. N {
        state S[d,e]: f32 = 0
        state Z[d]: f32 = 0
        S[d,e] := S[d,e] + K[t,d] * V[t,e]
        Z[d] := Z[d] + K[t,d]
        O[t,e] = sum[d](Q[t,d] * S[d,e]) / sum[d](Q[t,d] * Z[d])
    }
    S_last[d,e] = S[d,e]
    Z_last[d] = Z[d]

the members own e, so that Z_last is none of theirs; a second scan of Z alone is cheap, as Z has an axis less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tpcgen.program import ir
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    Recurrence,
    mentioned,
    name_of,
    names_in_use,
    parts_of,
    rebuilt,
    sides_of,
)
from tpcgen.rewrite.last_states import kept_state, renamed, states_of


def separate_states(program: ir.Program) -> ir.Program:
    """The program (after `last_states`) with every last value behind a scan whose kernel can write it."""
    states = states_of(program)
    names = names_in_use(program)
    result: list[Part] = []
    here: Recurrence | None = None
    for part in parts_of(program):
        if isinstance(part, Recurrence):
            here = part
        state = kept_state(part.equation, states) if isinstance(part, Definition) else None
        if state is None or here is None or not isinstance(part, Definition) or _is_written(part, here.scan):
            result.append(part)
        else:
            result += _apart(part, state, here, names)
    return rebuilt(program, result)


def _is_written(kept: Definition, scan: ir.Scan) -> bool:
    reduced = {i for s in scan.body for e in ir.walk(s.value) if isinstance(e, ir.Reduce) for i in e.indices}
    rows = {i for s in scan.states for i in s.indices} - reduced
    lanes = {s.indices[-1] for s in scan.body if isinstance(s, ir.Equation) and scan.index in s.indices}
    indices = kept.equation.indices
    return rows <= set(indices) and (not lanes or lanes == {*indices[-1:]})


def _apart(kept: Definition, state: str, of: Recurrence, names: FreshNames) -> list[Part]:
    """A scan of the state and of what its updates read, without what it writes at each step."""
    needed = {state}
    while more := {n for s in of.scan.body if name_of(s) in needed for e in sides_of(s) for n in mentioned(e)} - needed:
        needed |= more
    tensors = [t for t in of.tensors if t.name in needed]
    new = {t.name: names.fresh(t.name) for t in tensors}
    states = tuple(replace(s, state=new[s.state]) for s in of.scan.states if s.state in needed)
    body = tuple(_moved(s, new) for s in of.scan.body if name_of(s) in needed)
    scan = replace(of.scan, states=states, body=body)
    made = Recurrence(tuple(replace(t, name=new[t.name]) for t in tensors), scan)
    return [made, replace(kept, equation=renamed(kept.equation, new))]


def _moved(s: ir.Equation | ir.Update, names: Mapping[str, str]) -> ir.Equation | ir.Update:
    if isinstance(s, ir.Equation):
        return replace(renamed(s, names), target=names[s.target])
    return replace(renamed(s, names), state=names[s.state])
