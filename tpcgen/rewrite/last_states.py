"""Last values of states: each is kept by an equation behind its scan, and the scan's kernel writes it when its steps
are done.

    scan t in 0 .. N {                                   scan t in 0 .. N { .. }
        state S[d,e]: f32 = 0                            S_last[d,e] = S[d,e]
        S[d,e] := S[d,e] + K[t,d] * V[t,e]               O[q,e] = sum[d](Q[q,d] * S_last[d,e])
    }
    O[q,e] = sum[d](Q[q,d] * S[d,e])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar, Union

from tpcgen.program import affine, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import rewrite
from tpcgen.rewrite.edit import Definition, Part, Recurrence, intermediate, names_in_use, parts_of, reads, rebuilt

StepT = TypeVar("StepT", bound=Union[ir.Equation, ir.Update])


def last_states(program: ir.Program) -> ir.Program:
    """The program in which only equations that keep it read a state after its scan."""
    states = states_of(program)
    if not any(reads(s) & states.keys() for s in program.body):
        return program
    kept: dict[str, list[Part]] = {}
    others: list[Part] = []
    for part in parts_of(program):
        found = _keeper(part, states, program)
        if found is None:
            others.append(part)
        else:
            kept.setdefault(kept_state(found.equation, states) or "", []).append(found)
    names = names_in_use(program)
    late = {name for p in others for name in reads(_statement(p)) & states.keys()}
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
    if not isinstance(e, ir.Equation) or e.domain is not None:
        return None
    value = e.value.operand if isinstance(e.value, ir.Cast) else e.value
    if not isinstance(value, ir.Read) or value.tensor not in states:
        return None
    own = tuple(ir.Index(i) for i in states[value.tensor].indices)
    return value.tensor if value.indices == own and e.indices == states[value.tensor].indices else None


def _keeper(part: Part, states: dict[str, ir.StateInit], program: ir.Program) -> Definition | None:
    """An equation that keeps a state, its indices named as the state's are."""
    if not isinstance(part, Definition):
        return None
    e = part.equation
    value = e.value.operand if isinstance(e.value, ir.Cast) else e.value
    if not isinstance(value, ir.Read) or value.tensor not in states or value.indices != tuple(map(ir.Index, e.indices)):
        return None
    own = states[value.tensor].indices
    pairs = [(program.range_of(a), program.range_of(b)) for a, b in zip(e.indices, own, strict=True)]
    if e.domain is not None or not all(affine.equal(a.low, b.low) and affine.equal(a.high, b.high) for a, b in pairs):
        return None
    here = rewrite(e.value, lambda x: replace(x, indices=tuple(map(ir.Index, own))) if isinstance(x, ir.Read) else x)
    return replace(part, equation=replace(e, indices=own, value=here))


def _keeps(s: ir.StateInit, name: str, program: ir.Program) -> Definition:
    value = ir.Read(s.state, tuple(map(ir.Index, s.indices)), DType.F32, span=s.span)
    tensor = intermediate(program, name, s.indices, DType.F32, s)
    return Definition(tensor, ir.Equation(name, s.indices, value, None, span=s.span))


def _statement(part: Part) -> ir.Statement:
    return part.scan if isinstance(part, Recurrence) else part.equation


def _reading(part: Part, names: dict[str, str]) -> Part:
    """The part with what it reads of earlier scans under other names; a scan's own states keep theirs."""
    if isinstance(part, Definition):
        return replace(part, equation=renamed(part.equation, names))
    own = {s.state for s in part.scan.states}
    others = {a: b for a, b in names.items() if a not in own}
    states = tuple(replace(s, initial=rewrite(s.initial, _to(others))) for s in part.scan.states)
    return replace(part, scan=replace(part.scan, states=states, body=tuple(renamed(s, others) for s in part.scan.body)))


def renamed(step: StepT, names: Mapping[str, str]) -> StepT:
    """An equation or update that reads tensors under other names."""
    domain = None if step.domain is None else rewrite(step.domain, _to(names))
    return replace(step, value=rewrite(step.value, _to(names)), domain=domain)


def _to(names: Mapping[str, str]) -> Callable[[ir.Expr], ir.Expr]:
    return lambda x: replace(x, tensor=names[x.tensor]) if isinstance(x, ir.Read) and x.tensor in names else x
