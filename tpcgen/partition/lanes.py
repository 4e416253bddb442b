"""Which index a TPC kernel may run along its vector lanes: one alternative plan per choice."""

from __future__ import annotations

from tpcgen.partition.groups import Group, bound, rows
from tpcgen.program import ir
from tpcgen.rewrite.attention import Attention, attention_in


def lanes(group: Group, program: ir.Program) -> tuple[str, ...]:
    """Candidates of a TPC group, the one closest to the program's own layout first.

    A kernel that reduces may keep the reduced index in lanes (and reduce across them) or one of its rows (and reduce
    lane by lane, without any move between lanes). Attention as a whole has its queries there. A map takes its fastest
    index, or the one before it where no input or output of the op ties it down. A scan takes an index of its states
    that its steps do not reduce. Empty for a kernel of one number and for what is no kernel.
    """
    if group.engine == "scan":
        return _of_scan(group)
    if group.engine == "attention":
        found = attention_in(program)
        return (found.query,) if isinstance(found, Attention) else ()
    if group.engine != "tpc":
        return ()
    main = max(group.equations, key=lambda e: len(e.indices))
    reduced = [i for e in group.equations for i in _reduced(e)]
    if reduced:
        along = reduced[-1]
        reducing = next(e for e in group.equations if bound(e))
        row = next((i for i in reversed(reducing.indices) if i in rows(reducing)), None)
        return (along,) if row is None else (along, row)
    if not main.indices:
        return ()
    if len(main.indices) == 1 or _tied(group, program):
        return (main.indices[-1],)
    return (main.indices[-1], main.indices[-2])


def as_stored(group: Group, candidates: tuple[str | None, ...]) -> int:
    """The position of the first lane that is last in something the group reads; 0 where none is."""
    sides = [s for e in group.equations for s in (e.value, e.domain) if s is not None]
    reads = [x for s in sides for x in ir.walk(s) if isinstance(x, ir.Read) and x.indices]
    last = frozenset[str]().union(*(ir.free_indices(x.indices[-1]) for x in reads))
    return next((n for n, lane in enumerate(candidates) if lane in last), 0)


def _of_scan(group: Group) -> tuple[str, ...]:
    """The last index of an output that a state has and no step reduces; else the innermost index of all states."""
    (scan,) = (s for s in group.statements if isinstance(s, ir.Scan))
    values = [x.value for x in scan.body]
    reduced = {i for v in values for e in ir.walk(v) if isinstance(e, ir.Reduce) for i in e.indices}
    free = dict.fromkeys(i for s in scan.states for i in s.indices if i not in reduced)
    last = [i for i in free if any(e.indices[-1] == i for e in group.equations)]
    common = [i for i in free if all(i in s.indices for s in scan.states)]
    return tuple(last or common[-1:])


def _reduced(e: ir.Equation) -> list[str]:
    found = bound(e)
    order = [x for s in (e.value, e.domain) if s is not None for x in ir.walk(s) if isinstance(x, ir.Reduce)]
    return [i for x in order for i in x.indices if i in found]


def _tied(group: Group, program: ir.Program) -> bool:
    touched = [program.tensor(t) for t in group.reads | group.writes]
    return any(t.role is not ir.Role.INTERMEDIATE and len(t.shape) > 1 for t in touched)
