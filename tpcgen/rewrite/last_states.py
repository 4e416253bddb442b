"""Last values of states: each is kept by an equation behind its scan, and the scan's kernel writes it when its steps
are done.

    scan t in 0 .. N {                                   scan t in 0 .. N { .. }
        state S[d,e]: f32 = 0                            S_last[d,e] = S[d,e]
        S[d,e] := S[d,e] + K[t,d] * V[t,e]               O[q,e] = sum[d](Q[q,d] * S_last[d,e])
    }
    O[q,e] = sum[d](Q[q,d] * S[d,e])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, Union

from tpcgen.program import affine, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import rewrite
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    Recurrence,
    intermediate,
    names_in_use,
    parts_of,
    reading,
    reads,
    rebuilt,
    statement_of,
)

StepT = TypeVar("StepT", bound=Union[ir.Equation, ir.Update])


def last_states(program: ir.Program) -> ir.Program:
    """The program in which only equations that keep it read a state after its scan."""
    states = states_of(program)
    if not any(reads(s) & states.keys() for s in program.body):
        return program
    kept: dict[str, list[Part]] = {}
    others: list[Part] = []
    for part in parts_of(program):
        state = _state_read(part.equation, states) if isinstance(part, Definition) else None
        found = _keeper(part, states[state], program) if isinstance(part, Definition) and state is not None else None
        if found is None or state is None:
            others.append(part)
        else:
            kept.setdefault(state, []).append(found)
    names = names_in_use(program)
    late = {name for p in others for name in reads(statement_of(p)) & states.keys()}
    own = {name: _keeps(states[name], names.fresh(f"{name}_last"), program) for name in states if name in late}
    result: list[Part] = []
    for part in others:
        result.append(_reading(part, {name: d.tensor.name for name, d in own.items()}))
        for s in part.scan.states if isinstance(part, Recurrence) else ():
            result += [*kept.get(s.state, []), *([own[s.state]] if s.state in own else [])]
    return rebuilt(program, result)


def states_of(program: ir.Program) -> dict[str, ir.StateInit]:
    """The states of all scans, by name."""
    return {s.state: s for scan in program.body if isinstance(scan, ir.Scan) for s in scan.states}


def kept_state(e: ir.Statement, states: dict[str, ir.StateInit]) -> str | None:
    """The state of which an equation keeps the last value, all of it at its own indices; None where it does not."""
    state = _state_read(e, states) if isinstance(e, ir.Equation) else None
    return state if state is not None and isinstance(e, ir.Equation) and e.indices == states[state].indices else None


def _state_read(e: ir.Equation, states: dict[str, ir.StateInit]) -> str | None:
    """The state that an equation reads, and nothing else, at the indices of its left side."""
    value = e.value.operand if isinstance(e.value, ir.Cast) else e.value
    if e.domain is not None or not isinstance(value, ir.Read) or value.indices != tuple(map(ir.Index, e.indices)):
        return None
    return value.tensor if value.tensor in states else None


def _keeper(d: Definition, state: ir.StateInit, program: ir.Program) -> Definition | None:
    """The equation that reads a state with its indices named as the state's are; None where it reads a part."""
    e, own = d.equation, state.indices
    pairs = [(program.range_of(a), program.range_of(b)) for a, b in zip(e.indices, own, strict=True)]
    if not all(affine.equal(a.low, b.low) and affine.equal(a.high, b.high) for a, b in pairs):
        return None
    here = rewrite(e.value, lambda x: replace(x, indices=tuple(map(ir.Index, own))) if isinstance(x, ir.Read) else x)
    return replace(d, equation=replace(e, indices=own, value=here))


def _keeps(s: ir.StateInit, name: str, program: ir.Program) -> Definition:
    value = ir.Read(s.state, tuple(map(ir.Index, s.indices)), DType.F32, span=s.span)
    tensor = intermediate(program, name, s.indices, DType.F32, s)
    return Definition(tensor, ir.Equation(name, s.indices, value, None, span=s.span))


def _reading(part: Part, names: dict[str, str]) -> Part:
    """The part with what it reads of earlier scans under other names; a scan's own states keep theirs."""
    if isinstance(part, Definition):
        return replace(part, equation=renamed(part.equation, names))
    own = {s.state for s in part.scan.states}
    others = {a: b for a, b in names.items() if a not in own}
    states = tuple(replace(s, initial=reading(s.initial, others)) for s in part.scan.states)
    return replace(part, scan=replace(part.scan, states=states, body=tuple(renamed(s, others) for s in part.scan.body)))


def renamed(step: StepT, names: Mapping[str, str]) -> StepT:
    """An equation or update that reads tensors under other names."""
    domain = None if step.domain is None else reading(step.domain, names)
    return replace(step, value=reading(step.value, names), domain=domain)
