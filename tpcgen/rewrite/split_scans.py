"""States that know nothing of each other get scans of their own where their axes differ: a kernel of a scan writes what
has all axes of its states.

    scan t in 0 .. N {                                    scan t in 0 .. N { S[d,e] := .. }
        S[d,e] := g[t] * S[d,e] + K[t,d] * V[t,e]         scan t in 0 .. N { f[] := .. }
        f[] := g[t] * f[]
    }
"""

from __future__ import annotations

from dataclasses import replace

from tpcgen.program import ir
from tpcgen.rewrite.edit import Part, Recurrence, mentioned, name_of, parts_of, rebuilt, sides_of


def split_scans(program: ir.Program) -> ir.Program:
    """The program with such scans apart, each where the whole was."""
    result: list[Part] = []
    for part in parts_of(program):
        result += _apart(part) if isinstance(part, Recurrence) else [part]
    return rebuilt(program, result)


def _apart(whole: Recurrence) -> list[Recurrence]:
    groups = _groups(whole.scan)
    states = [[s for s in whole.scan.states if s.state in group] for group in groups]
    if len({frozenset(i for s in own for i in s.indices) for own in states}) < 2 or not all(states):
        return [whole]
    return [_only(whole, group) for group in groups]


def _groups(scan: ir.Scan) -> list[set[str]]:
    """Names of states and targets that steps tie together, in the order of the text."""
    names = [*(s.state for s in scan.states), *(s.target for s in scan.body if isinstance(s, ir.Equation))]
    groups = [{name} for name in dict.fromkeys(names)]
    for s in scan.body:
        tied = {name_of(s)}.union(*(mentioned(side) for side in sides_of(s))) & {*names}
        touched = [g for g in groups if g & tied]
        first = next(n for n, g in enumerate(groups) if g & tied)
        groups = [g for g in groups if g not in touched]
        groups.insert(first, set[str]().union(*touched))
    return groups


def _only(whole: Recurrence, group: set[str]) -> Recurrence:
    states = tuple(s for s in whole.scan.states if s.state in group)
    body = tuple(s for s in whole.scan.body if name_of(s) in group)
    tensors = tuple(t for t in whole.tensors if t.name in group)
    return Recurrence(tensors, replace(whole.scan, states=states, body=body))
