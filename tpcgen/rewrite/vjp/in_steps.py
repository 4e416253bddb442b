"""Sums of what the scans of a gradient keep for every step, made in the steps: what only they read is not kept.

    scan t in 0 .. N reverse {                                scan t in 0 .. N reverse {
        dS[c,r] := dS[c,r] + dy[t,c] * Cs[t,r]                    dS[c,r] := dS[c,r] + dy[t,c] * Cs[t,r]
        dS_at[t,c,r] = dS[c,r]                                    dx[t,c] = sum[r](dS[c,r] * Bs[t,r])
        dS[c,r] := dS[c,r] * gate[t,c,r]                          dA_t[r,c] := dA_t[r,c] + dS[c,r] * S_at[t,r,c]
    }                                                             dS[c,r] := dS[c,r] * gate[t,c,r]
    dx[t,c] = sum[r](dS_at[t,c,r] * Bs[t,r])                  }
    dA[c,r] = sum[t](dS_at[t,c,r] * S_at[t,c,r])              dA[c,r] = dA_t[r,c]
    dBs[t,r] = sum[c](dS_at[t,c,r] * x[t,c])

A kernel of a scan sums along one axis of its state, here r, and has no room for a long one. A sum along another, as dBs
has, is made by a scan of its own that computes the state again, as it is or with that axis in parts of 64 in the lanes:

    scan t in 0 .. N reverse {
        dS_2[r,g,l] := dS_2[r,g,l] + dy[t, 64*g + l] * Cs[t,r] where 64*g + l < C
        dBs_part[t,r,l] = sum[g where 64*g + l < C](dS_2[r,g,l] * x[t, 64*g + l])
        dS_2[r,g,l] := dS_2[r,g,l] * gate[t, 64*g + l, r] where 64*g + l < C
    }
    dBs[t,r] = sum[l](dBs_part[t,r,l])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import rewrite, substitute
from tpcgen.program.verify import verify
from tpcgen.rewrite.alternatives import Alternative
from tpcgen.rewrite.drop_dead import drop_dead
from tpcgen.rewrite.edit import (
    MAX_AXES,
    Definition,
    Part,
    Recurrence,
    conjunction,
    integer,
    intermediate,
    mentioned,
    names_in_use,
    parts_of,
    reads,
    reads_of,
    rebuilt,
    statement_of,
    writes,
)

Step = ir.Equation | ir.Update
StepT = TypeVar("StepT", bound=Step)
PART = 64
_ZERO = ir.Literal(0.0, DType.F32)


def sums_in_steps(gradient: ir.Program) -> tuple[Alternative, ...]:
    """Besides a gradient, one for each axis that its scans can sum along; none where there is nothing to sum so."""
    found = _Sums.of(gradient)
    axes = dict.fromkeys(s.axis for s in found if s.axis is not None)
    forms = (False, True) if len(axes) > 1 and all(map(_has_room, found)) else (False,)
    return tuple(
        Alternative(f"sums along {axis} in steps{', others in parts' * parts}", _in_steps(gradient, found, axis, parts))
        for axis in axes
        for parts in forms
    )


def _has_room(s: _Sums) -> bool:
    """For one more axis."""
    return max(len(s.host.state.indices), len(s.definition.equation.indices)) < MAX_AXES


def _in_steps(gradient: ir.Program, sums: list[_Sums], axis: str, parts: bool) -> ir.Program:
    source = _lanes_last(gradient, sums, axis)
    return _Rewriting(source, _Sums.of(source), axis, parts).program()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A tensor that holds a state at every step, and the scan that writes it, by its place in the text."""

    at: int
    scan: ir.Scan
    state: ir.StateInit
    equation: ir.Equation


@dataclass(frozen=True, slots=True)
class _Sums:
    """An equation of what a scan keeps: at each step, of sums along `axis` of the state, or over all steps (None).

    `host`: the last scan whose states it reads, whose tensors those are.
    """

    definition: Definition
    host: _Kept
    axis: str | None

    @staticmethod
    def of(program: ir.Program) -> list[_Sums]:
        parts = parts_of(program)
        kept = {k.equation.target: k for k in _kept(parts)}
        made = {name: at for at, p in enumerate(parts) for name in writes(statement_of(p))}
        found = (_sums(p, kept, made) for p in parts if isinstance(p, Definition))
        return [s for s in found if s is not None]


def _kept(parts: Sequence[Part]) -> Iterator[_Kept]:
    """Of scans that do nothing but update one state, each element by itself, and keep it."""
    for at, part in enumerate(parts):
        if not isinstance(part, Recurrence) or len(part.scan.states) != 1:
            continue
        (state,) = part.scan.states
        own = _element(state)
        equations = [s for s in part.scan.body if isinstance(s, ir.Equation)]
        keeps = all(e.value == own and e.domain is None and part.scan.index in e.indices for e in equations)
        keeps = keeps and all(s.indices == state.indices for s in part.scan.body if isinstance(s, ir.Update))
        if keeps and all(x == own for s in part.scan.body for x in reads_of(s) if x.tensor == state.state):
            yield from (_Kept(at, part.scan, state, e) for e in equations)


def _element(state: ir.StateInit) -> ir.Read:
    """Of a state, at its own indices."""
    return ir.Read(state.state, tuple(map(ir.Index, state.indices)), DType.F32)


def _sums(d: Definition, kept: Mapping[str, _Kept], made: Mapping[str, int]) -> _Sums | None:
    e = d.equation
    states = [kept[name] for name in mentioned(e.value) if name in kept]
    if not states or e.domain is not None:
        return None
    host = max(states, key=lambda k: k.at)
    if any(k.at == host.at and k != host for k in states):
        return None
    step, own = host.scan.index, {*host.state.indices}
    for x in ir.walk(e.value):
        if isinstance(x, ir.Read) and made.get(x.tensor, -1) >= host.at:
            here = kept.get(x.tensor)
            if here is None or x.indices != tuple(map(ir.Index, here.equation.indices)):
                return None
    sums = [x for x in ir.walk(e.value) if isinstance(x, ir.Reduce)]
    if any(x.kind != "sum" or x.domain is not None for x in sums):
        return None
    along = {x.indices for x in sums}
    if step in e.indices and len(along) == 1:
        ((axis, *more),) = along
        return _Sums(d, host, axis) if not more and {*e.indices, axis} == own | {step} else None
    whole = e.value if isinstance(e.value, ir.Reduce) and len(sums) == 1 else None
    if whole is not None and step in whole.indices and {*e.indices, *whole.indices} == own | {step}:
        return _Sums(d, host, None)
    return None


@dataclass
class _Rewriting:
    """`axis`: what the scans sum along themselves; `parts`: other axes are taken apart."""

    source: ir.Program
    sums: list[_Sums]
    axis: str
    parts: bool
    indices: list[ir.IndexRange] = field(default_factory=list[ir.IndexRange])
    totals: dict[str, str] = field(default_factory=dict[str, str])

    def program(self) -> ir.Program:
        self.names = names_in_use(self.source)
        self.moved = {s.definition.tensor.name for s in self.sums if self._moves(s)}
        result: list[Part] = []
        for at, part in enumerate(parts_of(self.source)):
            if isinstance(part, Recurrence):
                result += self._scan(at, part)
            elif part.tensor.name not in self.moved:
                result.append(part)
        kept = _without_unread(self.source, result)
        return verify(drop_dead(rebuilt(self.source, kept, self.indices)))

    def _moves(self, s: _Sums) -> bool:
        return s.axis in (None, self.axis) or not self.parts or _is_one_sum(s)

    def _scan(self, at: int, part: Recurrence) -> list[Part]:
        own = [s for s in self.sums if s.host.at == at and s.definition.tensor.name in self.moved]
        inside = [s for s in own if s.axis in (None, self.axis)]
        others = dict.fromkeys(s.axis for s in own if s.axis not in (None, self.axis))
        result = [self._with(part, inside)]
        result += [self._total(s, inside) for s in inside if s.axis is None]
        for axis in others:
            assert axis is not None
            sums = [s for s in own if s.axis == axis]
            result += self._in_parts(part, sums, axis) if self.parts else self._again(part, sums)
        return result

    def _with(self, part: Recurrence, own: list[_Sums]) -> Recurrence:
        """The scan with equations of each step, and with a state for each sum over all steps."""
        scan = part.scan
        tensors, body = list(part.tensors), list[Step]()
        states = list(scan.states)
        for step in scan.body:
            body.append(step)
            for s in own:
                if s.host.equation != step:
                    continue
                e = s.definition.equation
                value = _instead(e.value, s.host.equation.target, _element(s.host.state))
                if s.axis is not None:
                    body.append(replace(e, value=value))
                    tensors.append(s.definition.tensor)
                    continue
                assert isinstance(value, ir.Reduce)
                total = self._accumulator(s, own)
                tensors.append(total)
                new = ir.StateInit(total.name, self._ordered(s.host.state, own), _ZERO)
                states.append(new)
                body.append(ir.Update(new.state, new.indices, ir.Binary("+", _element(new), value.body), None))
        return Recurrence(tuple(tensors), replace(scan, states=tuple(states), body=tuple(body)))

    def _accumulator(self, s: _Sums, own: list[_Sums]) -> ir.Tensor:
        name = self.names.fresh(f"{s.definition.tensor.name}_t")
        self.totals[s.definition.tensor.name] = name
        made = intermediate(self.source, name, self._ordered(s.host.state, own), DType.F32, s.definition.tensor)
        return replace(made, role=ir.Role.STATE)

    def _ordered(self, state: ir.StateInit, own: list[_Sums]) -> tuple[str, ...]:
        """A state's indices, that of the lanes last."""
        lane = next((s.definition.equation.indices[-1] for s in own if s.axis is not None), state.indices[-1])
        return (*(i for i in state.indices if i != lane), lane)

    def _total(self, s: _Sums, own: list[_Sums]) -> Definition:
        """What was a sum over all steps, of the last value of its state."""
        e = s.definition.equation
        assert isinstance(e.value, ir.Reduce)
        indices = tuple(map(ir.Index, self._ordered(s.host.state, own)))
        value: ir.Expr = ir.Read(self.totals[s.definition.tensor.name], indices, DType.F32)
        rest = tuple(i for i in e.value.indices if i != s.host.scan.index)
        return replace(
            s.definition, equation=replace(e, value=ir.Reduce("sum", rest, None, None, value) if rest else value)
        )

    def _again(self, part: Recurrence, own: list[_Sums]) -> list[Part]:
        """A scan of the same state that sums along the axis of those sums."""
        (state,) = part.scan.states
        new = replace(state, state=self.names.fresh(state.state))
        tensors, body = [replace(self.source.tensor(state.state), name=new.state)], list[Step]()
        for step in part.scan.body:
            if isinstance(step, ir.Update):
                body.append(_renamed(step, state, new))
            for s in own:
                if s.host.equation == step:
                    e = s.definition.equation
                    body.append(replace(e, value=_instead(e.value, s.host.equation.target, _element(new))))
                    tensors.append(s.definition.tensor)
        return [Recurrence(tuple(tensors), replace(part.scan, states=(new,), body=tuple(body)))]

    def _in_parts(self, part: Recurrence, own: list[_Sums], axis: str) -> list[Part]:
        """The same with that axis in parts; then the sums of what is left in the lanes."""
        places = _Parts.of(self.source, axis, *(self.names.fresh(f"{axis}_{n}") for n in ("part", "lane")))
        self.indices += places.ranges
        (again,) = self._again(part, own)
        assert isinstance(again, Recurrence)
        (state,) = again.scan.states
        new = replace(state, indices=places.split(state.indices), initial=places.initial(state))
        tensors = [replace(again.tensors[0], shape=places.shape(self.source, new.indices))]
        body, behind = list[Step](), list[Part]()
        for step in again.scan.body:
            value = places.moved(_instead(step.value, state.state, _element(new)))
            if isinstance(step, ir.Update):
                domain = places.moved(step.domain) if step.domain is not None else None
                body.append(ir.Update(new.state, new.indices, value, conjunction([places.inside, domain])))
                continue
            assert isinstance(value, ir.Reduce)
            along = (*step.indices, places.lane.name)
            name = self.names.fresh(f"{step.target}_part")
            tensors.append(ir.Tensor(name, places.shape(self.source, along), DType.F32, ir.Role.INTERMEDIATE))
            part_sum = ir.Reduce("sum", (places.part.name,), places.inside, None, places.moved(value.body))
            body.append(ir.Equation(name, along, part_sum, None))
            read = ir.Read(name, tuple(map(ir.Index, along)), DType.F32)
            total = replace(step, value=ir.Reduce("sum", (places.lane.name,), None, None, read))
            behind.append(Definition(self.source.tensor(step.target), total))
        return [Recurrence(tuple(tensors), replace(again.scan, states=(new,), body=tuple(body))), *behind]


@dataclass(frozen=True, slots=True)
class _Parts:
    """An axis as `part` and `lane`: it is `PART` * part + lane where that is `inside` it."""

    axis: str
    part: ir.IndexRange
    lane: ir.IndexRange
    place: ir.Expr
    inside: ir.Expr

    @staticmethod
    def of(program: ir.Program, axis: str, part: str, lane: str) -> _Parts:
        extent = program.range_of(axis).high
        count = ir.Binary("//", ir.Binary("+", extent, integer(PART - 1)), integer(PART))
        place = ir.Binary("+", ir.Binary("*", integer(PART), ir.Index(part)), ir.Index(lane))
        ranges = (ir.IndexRange(part, integer(0), count), ir.IndexRange(lane, integer(0), integer(PART)))
        return _Parts(axis, *ranges, place, ir.Binary("<", place, extent))

    @property
    def ranges(self) -> tuple[ir.IndexRange, ir.IndexRange]:
        return self.part, self.lane

    def split(self, indices: Sequence[str]) -> tuple[str, ...]:
        return (*(i for i in indices if i != self.axis), self.part.name, self.lane.name)

    def shape(self, program: ir.Program, indices: Sequence[str]) -> tuple[ir.Expr, ...]:
        own = {r.name: r for r in self.ranges}
        return tuple((own.get(i) or program.range_of(i)).high for i in indices)

    def moved(self, e: ir.Expr) -> ir.Expr:
        return substitute(e, {self.axis: self.place})

    def initial(self, state: ir.StateInit) -> ir.Expr:
        if self.axis not in ir.free_indices(state.initial):
            return state.initial
        return ir.Call("select", (self.inside, self.moved(state.initial), _ZERO))


def _renamed(step: ir.Update, state: ir.StateInit, new: ir.StateInit) -> ir.Update:
    value, domain = (
        _instead(e, state.state, _element(new)) if e is not None else None for e in (step.value, step.domain)
    )
    assert value is not None
    return replace(step, state=new.state, value=value, domain=domain)


def _instead(e: ir.Expr, tensor: str, element: ir.Read) -> ir.Expr:
    """The expression with a state's element in place of what is read of a tensor, always that element."""
    return rewrite(e, lambda x: element if isinstance(x, ir.Read) and x.tensor == tensor else x)


def _is_one_sum(s: _Sums) -> bool:
    return isinstance(s.definition.equation.value, ir.Reduce) and not any(
        isinstance(x, ir.Reduce) for x in ir.walk(s.definition.equation.value.body)
    )


def _without_unread(program: ir.Program, parts: Sequence[Part]) -> list[Part]:
    """Without what a scan keeps and nothing reads."""
    needed = {t.name for t in program.outputs}
    result: list[Part] = []
    for part in reversed(parts):
        if isinstance(part, Recurrence):
            scan = part.scan
            body = tuple(
                s for s in scan.body if isinstance(s, ir.Update) or s.target in needed or scan.index not in s.indices
            )
            gone = {s.target for s in scan.body if s not in body and isinstance(s, ir.Equation)}
            part = Recurrence(tuple(t for t in part.tensors if t.name not in gone), replace(scan, body=body))
        needed |= reads(statement_of(part))
        result.append(part)
    return result[::-1]


def _lanes_last(program: ir.Program, sums: Sequence[_Sums], axis: str) -> ir.Program:
    """The program in which a scan that will read what an earlier one kept finds the axis of its lanes last in it."""
    parts = parts_of(program)
    kept = {k.equation.target: k for k in _kept(parts)}
    lanes = {s.host.at: s.definition.equation.indices[-1] for s in sums if s.axis == axis}
    orders: dict[str, list[int]] = {}
    for s in sums:
        for name in mentioned(s.definition.equation.value) & kept.keys():
            own, lane = kept[name].equation.indices, lanes.get(s.host.at)
            if kept[name].at < s.host.at and lane in own:
                orders[name] = sorted(range(len(own)), key=lambda n, own=own, lane=lane: own[n] == lane)

    def leaf(x: ir.Expr) -> ir.Expr:
        if not isinstance(x, ir.Read) or x.tensor not in orders:
            return x
        return replace(x, indices=tuple(x.indices[n] for n in orders[x.tensor]))

    def step(s: StepT) -> StepT:
        domain = rewrite(s.domain, leaf) if s.domain is not None else None
        new = replace(s, value=rewrite(s.value, leaf), domain=domain)
        if not isinstance(new, ir.Equation) or new.target not in orders:
            return new
        return replace(new, indices=tuple(new.indices[n] for n in orders[new.target]))

    def moved(part: Part) -> Part:
        if isinstance(part, Definition):
            return replace(part, equation=step(part.equation))
        tensors = tuple(
            replace(t, shape=tuple(t.shape[n] for n in orders[t.name])) if t.name in orders else t for t in part.tensors
        )
        return Recurrence(tensors, replace(part.scan, body=tuple(step(s) for s in part.scan.body)))

    return rebuilt(program, [moved(p) for p in parts])
