"""From a scan to a kernel: a member runs through all steps and keeps its part of the states to itself.

Axes of a state that some step reduces are the member's own: the state lies in local memory, an element of the reduced
index after the other. One walk over it does updates that follow each other, and with them the reductions of what they
read and of what they write. A state without such an axis stays in a register per row in flight. All other axes are rows
of the index space; one of them runs along the lanes.

Every update makes a new version of a state. Reads name the version and the step, so that what was computed of an older
one is never taken for the newer. Last values are written behind the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tpcgen.kernel.bounds import integer, plus
from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.integers import Integers
from tpcgen.kernel.ir import (
    NARROW,
    Imm,
    Kernel,
    Lanes,
    LocalArray,
    LocalLoad,
    LocalStore,
    Loop,
    Note,
    Operand,
    Reg,
    Store,
    VectorOp,
    VType,
)
from tpcgen.kernel.loops import Instances, Loops, Nest
from tpcgen.kernel.presence import ZERO, both, domain, explicit
from tpcgen.kernel.reductions import CHAINS, UNROLL_FUNCTIONS, Reductions, calls_functions
from tpcgen.kernel.scopes import Bound, Env, Scopes
from tpcgen.kernel.shape import ROWS, Output, Shape, check_tensors, lanes_that_hold
from tpcgen.kernel.values import Values
from tpcgen.partition.plan import TpcStage
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    Binary,
    Call,
    Equation,
    Expr,
    Index,
    Read,
    Reduce,
    Scan,
    StateInit,
    Update,
    children,
    free_indices,
    walk,
)
from tpcgen.program.substitute import rewrite, substitute

UNROLL = 4
"""Rows of a state in flight, where a step calls no special functions."""
LOCAL_VECTORS = 320
"""80 KB of vector local memory in vectors of 256 bytes (gaudi.md, section 1)."""


def draft_scan(stage: TpcStage, target: str) -> Kernel:
    """As `lower.draft`, of a stage that is one scan. DiagnosticError E421 to E426 for what does not fit one."""
    return _Lowering(stage, target).kernel()


@dataclass(frozen=True, slots=True)
class _Change:
    """An update in a walk over local memory; its expressions name versions. `made` reads the version it makes."""

    state: StateInit
    value: Expr
    where: Expr | None
    old: Read
    made: Read


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a step writes to an output; expressions name versions."""

    output: Output
    value: Expr
    where: Expr | None


@dataclass(frozen=True, slots=True)
class _Held:
    """Where a version of a state is: registers by the value of the row in flight, or an array along `inner`."""

    parts: int
    uniform: bool
    registers: Mapping[Expr | None, Reg]
    array: LocalArray | None
    inner: int


class _Lowering:
    def __init__(self, stage: TpcStage, target: str) -> None:
        self.program = stage.program
        self.target, self.name, self.lane = target, stage.name, stage.lane
        (scan,) = (s for s in self.program.body if isinstance(s, Scan))
        self.scan = scan
        check_tensors(self.program)
        self.steps = tuple(_inlined(scan))
        self.inner = _inner(self.steps, scan)
        self.behind = [s for s in self.program.body if isinstance(s, Equation)]
        self.last = tuple(self._output(e) for e in self.behind)
        self.outputs = (*(self._output(s) for s in self.steps if isinstance(s, Equation)), *self.last)
        self.step: Expr = Index(scan.index)
        self.shape = self._shape()
        self.scopes = Scopes()
        self.integers = Integers(self.shape, self.scopes)
        self.values = Values(self.shape, self.scopes, self.integers, target)
        self.loops = Loops(self.shape, self.scopes, self.integers)
        self.points = self._points()
        self.reductions = self._reductions()
        self.values.held = self._load
        self.held: dict[str, _Held] = {}
        self.version: dict[str, str] = {}
        self.waiting: list[_Wanted] = []

    def _reductions(self) -> Reductions:
        """Of the present points."""
        made = Reductions(self.shape, self.scopes, self.values, self.loops, self.points, short=self.inner)
        self.values.reduction = made.value
        return made

    # --- shape ------------------------------------------------------------------------------------------------------

    def _output(self, e: Equation) -> Output:
        present = explicit(e.value)
        where = both(domain(e.domain), present.where)
        loops = tuple(i for i in e.indices if i == self.inner)
        return Output(self.program.tensor(e.target), e.indices, present.value, where, loops, e.span)

    def _shape(self) -> Shape:
        scan = self.scan
        states = [i for s in scan.states for i in s.indices if i not in (self.inner, scan.index)]
        rows = tuple(sorted(dict.fromkeys(states), key=self._place))
        for o in self.outputs:
            missing = [i for i in rows if i not in o.indices]
            if missing:
                message = f"{o.tensor.name} has no axis {missing[0]} of the states it is made of: not lowered yet"
                raise not_lowered("E421", message, o.span)
            if o.indices[-1] != self.lane:
                message = f"{o.tensor.name} is not contiguous along {self.lane}, the index of the vector lanes"
                raise not_lowered("E421", message, o.span)
            extra = [i for i in o.indices if i not in (*rows, self.inner, scan.index)]
            if extra:
                message = f"{o.tensor.name} has the axis {extra[0]}, which no state has: not lowered yet"
                raise not_lowered("E421", message, o.span)
        others = [i for i in rows if i != self.lane]
        flight = others[-1] if others and self.inner is None else None
        ranges = {r.name: r for r in self.program.indices}
        return Shape(self.program, self.lane, self.outputs, rows, flight, self._lanes(), ranges)

    def _lanes(self) -> Lanes:
        """Of what steps load and store along the lanes; states are f32 in any order."""
        sides = [e for s in (*self.steps, *self.behind) for e in (s.value, s.domain) if e is not None]
        sides += [s.initial for s in self.scan.states]
        inputs = {t.name for t in self.program.inputs}
        read = (x for e in sides for x in walk(e) if isinstance(x, Read) and x.tensor in inputs)
        dtypes = {x.dtype for x in read if any(self.lane in free_indices(i) for i in x.indices)}
        dtypes |= {o.tensor.dtype for o in self.outputs}
        return lanes_that_hold(dtypes, in_pairs=self.inner is not None)

    def _place(self, index: str) -> int:
        return next((o.indices.index(index) for o in self.outputs if index in o.indices), -1)

    def _points(self) -> list[Env]:
        base = {i: Bound(Index(i), 1) for i in self.shape.rows}
        row = self.shape.row_in_flight
        if row is None:
            return [base]
        return [{**base, row: Bound(plus(Index(row), n), 1)} for n in range(ROWS)]

    # --- kernel -----------------------------------------------------------------------------------------------------

    def kernel(self) -> Kernel:
        index_space = self.shape.index_space()
        arrays = self._initial()
        self._loop()
        self._behind()
        return Kernel(
            name=self.name,
            target=self.target,
            lanes=self.shape.lanes,
            tensors=self.shape.tensors(),
            scalars=tuple(self.integers.scalars.values()),
            index_space=index_space,
            functions=tuple(self.values.functions.values()),
            setup=self.scopes.statements(0),
            body=self.scopes.statements(1),
            title="; ".join(f"{o.tensor.name}[{', '.join(o.indices)}]" for o in self.outputs),
            arrays=arrays,
        )

    def _initial(self) -> tuple[LocalArray, ...]:
        arrays: list[LocalArray] = []
        inner = [s for s in self.scan.states if self.inner in s.indices]
        parts = sum(self._parts(s) for s in inner)
        for s in self.scan.states:
            if s.span.line:
                self.scopes.append(1, Note(f"{s.state}[{', '.join(s.indices)}] before the first step", s.span))
            if self.inner in s.indices:
                assert self.inner is not None
                extent = self.shape.ranges[self.inner].high
                array = LocalArray(f"{s.state.lower()}_rows", LOCAL_VECTORS // parts, self._parts(s), extent)
                arrays.append(array)
                self._hold(s, {}, array)
                self._each(s, partial(self._initial_value, s))
            else:
                self._hold(s, {p: self._first(s, point) for p, point in self._rows_of(s)}, None)
        return tuple(arrays)

    def _rows_of(self, s: StateInit) -> list[tuple[Expr | None, Env]]:
        """The points that differ for a state, by the value of the row in flight."""
        row = self.shape.row_in_flight
        if row is None or row not in s.indices:
            return [(None, self.points[0])]
        return [(p[row].value, p) for p in self.points]

    def _parts(self, s: StateInit) -> int:
        return self.shape.lanes.parts if self.lane in s.indices else 1

    def _hold(self, s: StateInit, registers: Mapping[Expr | None, Reg], array: LocalArray | None) -> None:
        """A version of the state under a name of its own."""
        number = int(self.version[s.state].split("@")[1]) + 1 if s.state in self.version else 0
        name = f"{s.state}@{number}"
        self.version[s.state] = name
        inner = s.indices.index(self.inner) if self.inner in s.indices else -1
        self.held[name] = _Held(self._parts(s), self.lane not in s.indices, registers, array, inner)

    def _initial_value(self, s: StateInit, point: Env) -> Operand:
        p = explicit(s.initial)
        value = p.value if p.where is None else Call("select", (p.where, p.value, ZERO))
        return self.values.value(value, point)

    def _first(self, s: StateInit, point: Env) -> Reg:
        value = self._initial_value(s, point)
        level = self.scopes.level
        reg = self.scopes.register(s.state.lower(), VType.F32, self._parts(s), uniform=self.lane not in s.indices)
        self.scopes.append(level, VectorOp(reg, "mov", (value,)))
        return reg

    def _each(self, s: StateInit, value: Callable[[Env], Operand], unroll: int = UNROLL) -> None:
        """A loop over the member's own axis that stores a value per element; in the innermost open block."""
        held = self.held[self.version[s.state]]
        array, inner = held.array, self.inner
        assert array is not None and inner is not None

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            for row in instances:
                for point in row:
                    level = self.scopes.level
                    register = self._full(value(point), level, held)
                    self.scopes.append(level, LocalStore(array, point[inner].value, register))

        self.loops.write(Nest((inner,), None, self.points, unroll, body))

    def _full(self, value: Operand, level: int, held: _Held) -> Reg:
        """A register of the state's own shape."""
        register = self.values.register(value, level)
        if register.parts == held.parts:
            return register
        wide = self.scopes.register(register.name.split("#")[0], VType.F32, held.parts)
        self.scopes.append(level, VectorOp(wide, "mov", (register,)))
        return wide

    def _loop(self) -> None:
        r = self.shape.ranges[self.scan.index]
        env = self.points[0]
        low, high = self.integers.scalar(r.low, env), self.integers.scalar(r.high, env)
        level = self.scopes.open()
        var = self.scopes.unique(self.scan.index)
        at: Expr = Index(var)
        if self.scan.reverse:
            at = Binary("-", Binary("+", low, plus(high, -1)), Index(var))
        outside, self.points = self.points, [{**p, self.scan.index: Bound(at, level)} for p in self.points]
        self.reductions = self._reductions()
        steps = self.steps
        while steps:
            steps = self._next(steps)
        self._write_waiting()
        self.scopes.append(level - 1, Loop(var, low, high, 1, self.scopes.close()))
        self.points = outside

    def _behind(self) -> None:
        """Last values of the states, of no step any more."""
        self.step = integer(-1)
        for o in self.last:
            self._write(self._wanted(o))

    # --- steps ------------------------------------------------------------------------------------------------------

    def _now(self, e: Expr) -> Expr:
        """Reads of states name their version and the step."""

        def leaf(x: Expr) -> Expr:
            if isinstance(x, Read) and x.tensor in self.version:
                return Read(self.version[x.tensor], (self.step, *x.indices), x.dtype, span=x.span)
            return x

        return rewrite(e, leaf)

    def _load(self, read: Read, env: Env, level: int) -> Reg | None:
        """The register of a state's element; None for any other tensor."""
        held = self.held.get(read.tensor)
        if held is None:
            return None
        if held.array is None:
            row = self.shape.row_in_flight
            wanted = env[row].value if row is not None and None not in held.registers else None
            return held.registers[wanted]
        at = self.integers.scalar(read.indices[1 + held.inner], env)
        reg = self.scopes.register(read.tensor.split("@")[0].lower(), VType.F32, held.parts, uniform=held.uniform)
        self.scopes.append(level, LocalLoad(reg, held.array, at))
        return reg

    def _next(self, steps: Sequence[Equation | Update]) -> Sequence[Equation | Update]:
        """The first steps; those that are left."""
        first, *others = steps
        if isinstance(first, Equation):
            wanted = self._wanted(self._output_of(first))
            self.waiting.append(wanted)
            if not self._may_wait(wanted, others):
                self._write_waiting()
            return others
        if self.inner not in self._state(first).indices:
            self._write_waiting()
            self._update(first)
            return others
        count = self._together(steps)
        self._walk([u for u in steps[:count] if isinstance(u, Update)], steps[count:])
        self._write_waiting()
        return steps[count:]

    def _state(self, u: Update) -> StateInit:
        return next(s for s in self.scan.states if s.state == u.state)

    def _wanted(self, o: Output) -> _Wanted:
        return _Wanted(o, self._now(o.value), self._now(o.where) if o.where is not None else None)

    def _write_waiting(self) -> None:
        for wanted in self.waiting:
            self._write(wanted)
        self.waiting.clear()

    def _write(self, wanted: _Wanted) -> None:
        o = wanted.output
        if o.span.line:
            self.scopes.append(self.scopes.level, Note(f"{o.tensor.name}[{', '.join(o.indices)}]", o.span))
        if not o.loops:
            for point in self.points:
                self._store(o, wanted.value, wanted.where, point)
            return

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            for row in instances:
                for point in row:
                    self._store(o, wanted.value, wanted.where, point)

        self.loops.write(Nest(o.loops, None, self.points, _unroll(wanted.value, o.loops[-1]), body))

    def _store(self, o: Output, value: Expr, where: Expr | None, point: Env) -> None:
        level = self.scopes.level
        condition = self.values.predicate(where, point)
        result = self.values.choose(level, condition, self.values.value(value, point), Imm(0.0))
        register = self._kept(self.values.register(result, level), level)
        if to := NARROW.get(o.tensor.dtype):
            register = self.scopes.emit(level, to.narrow, (register,), f"{o.tensor.name.lower()}_{to.suffix}")
        coords = tuple(self.integers.scalar(Index(i), point) for i in reversed(o.indices))
        self.scopes.append(level, Store(o.tensor.name, coords, register))

    def _kept(self, register: Reg, level: int) -> Reg:
        """A copy of a state's own register: stores come last in a loop, when the step has updated the state."""
        states = {r.name for h in self.held.values() for r in h.registers.values()}
        if register.name not in states:
            return register
        copy = self.scopes.register(f"{register.name.split('#')[0]}_now", VType.F32, register.parts)
        self.scopes.append(level, VectorOp(copy, "mov", (register,)))
        return copy

    def _explicit(self, u: Update) -> tuple[Expr, Expr | None]:
        """The value of an update with the state's own indices, and where it is."""
        s = self._state(u)
        renamed = {a: Index(b) for a, b in zip(u.indices, s.indices, strict=True) if a != b}
        p = explicit(substitute(u.value, renamed))
        return p.value, both(domain(substitute(u.domain, renamed) if u.domain is not None else None), p.where)

    def _begun(self, u: Update) -> tuple[Expr, Expr | None]:
        """The value and the condition of an update that is written next, of the present versions."""
        if u.span.line:
            self.scopes.append(self.scopes.level, Note(f"{u.state}[{', '.join(u.indices)}] :=", u.span))
        value, where = self._explicit(u)
        return self._now(value), self._now(where) if where is not None else None

    def _change(self, u: Update) -> _Change:
        """The next version of a state in local memory begins."""
        s = self._state(u)
        value, where = self._begun(u)
        old = self._element(s)
        self._hold(s, {}, self.held[self.version[s.state]].array)
        return _Change(s, value, where, old, self._element(s))

    def _element(self, s: StateInit) -> Read:
        """Of the present version, at the point itself."""
        read = self._now(Read(s.state, tuple(Index(i) for i in s.indices), DType.F32))
        assert isinstance(read, Read)
        return read

    def _update(self, u: Update) -> None:
        """Of a state in registers."""
        s = self._state(u)
        value, where = self._begun(u)
        registers = self.held[self.version[u.state]].registers
        for key, point in self._rows_of(s):
            chosen = self.values.predicate(where, point)
            if chosen is not False:
                self._into(registers[key], value, point, chosen if isinstance(chosen, Reg) else None)
        self._hold(s, registers, None)

    def _into(self, register: Reg, value: Expr, point: Env, pred: Reg | None) -> None:
        """The new value in the state's register: in one operation where it is a * s + b."""
        level = self.scopes.level
        match value:
            case Binary(operator="+", left=Binary(operator="*", left=a, right=b), right=c) if pred is None:
                args = tuple(self.values.value(x, point) for x in (a, b, c))
                self.scopes.update(level, register, "madd", args)
            case Binary(operator="+", left=c, right=Binary(operator="*", left=a, right=b)) if pred is None:
                args = tuple(self.values.value(x, point) for x in (a, b, c))
                self.scopes.update(level, register, "madd", args)
            case _:
                self.scopes.update(level, register, "mov", (self.values.value(value, point),), pred)

    # --- walks over local memory --------------------------------------------------------------------------------------

    def _together(self, steps: Sequence[Equation | Update]) -> int:
        """How many updates one walk does: those behind the first reduce nothing that the walk changes."""
        changed: set[str] = set()
        for count, u in enumerate(steps):
            if not isinstance(u, Update) or self.inner not in self._state(u).indices:
                return count
            sides = [x for x in self._explicit(u) if x is not None]
            reduced = [x for side in sides for x in walk(side) if isinstance(x, Reduce)]
            if any(_reads(x, state) for x in reduced for state in changed):
                return count
            changed.add(u.state)
        return len(steps)

    def _may_wait(self, wanted: _Wanted, others: Sequence[Equation | Update]) -> bool:
        """Whether all that it reads of local memory is reduced by the walk of the next update."""
        following = next((u for u in others if isinstance(u, Update)), None)
        if following is None or wanted.output.loops or self.inner not in self._state(following).indices:
            return False
        if not self._has_room(following):
            return False
        sums = [x for side in _sides(wanted) for x in self._sums(side)]
        if any(calls_functions(x.body, index) for x in sums for index in x.indices):
            return False
        return bool(sums) and not any(self._reads_local(side, sums) for side in _sides(wanted))

    def _has_room(self, u: Update) -> bool:
        """Whether its walk has registers for sums: beside special functions the open compiler gives up ("Too many
        vector spills" for Mamba-1).
        """
        assert self.inner is not None
        return _unroll(self._explicit(u)[0], self.inner) == UNROLL

    def _reads_local(self, e: Expr, but: Sequence[Reduce]) -> bool:
        """Whether it reads a state in local memory anywhere else."""
        if isinstance(e, Reduce) and e in but:
            return False
        held = self.held.get(e.tensor) if isinstance(e, Read) else None
        return (held is not None and held.array is not None) or any(self._reads_local(x, but) for x in children(e))

    def _sums(self, e: Expr) -> list[Reduce]:
        """Reductions along local memory that a walk can do: each of its points takes what is there."""
        return [x for x in walk(e) if isinstance(x, Reduce) and self._is_along(x)]

    def _is_along(self, e: Reduce) -> bool:
        if e.indices != (self.inner,) or e.domain is not None or any(isinstance(x, Reduce) for x in walk(e.body)):
            return False
        inputs = {t.name for t in self.program.inputs}
        read = [x for x in walk(e.body) if isinstance(x, Read) and x.tensor not in inputs]
        local = [x for x in read if x.tensor in self.held and self.held[x.tensor].array is not None]
        elements = [self._element(s) for s in self.scan.states if self.inner in s.indices]
        return bool(local) and all(x in elements for x in local) and all(x.tensor in self.held for x in read)

    def _later(self, steps: Sequence[Equation | Update]) -> list[Reduce]:
        """Reductions of the present versions in the steps to come."""
        found: list[Reduce] = []
        changed: set[str] = set()
        for s in steps:
            sides = self._explicit(s) if isinstance(s, Update) else self._stored(s)
            sums = [x for side in sides if side is not None for x in walk(side) if isinstance(x, Reduce)]
            sums = [x for x in sums if not any(_reads(x, state) for state in changed)]
            found += [now for x in sums if isinstance(now := self._now(x), Reduce) and self._is_along(now)]
            if isinstance(s, Update):
                changed.add(s.state)
        return list(dict.fromkeys(found))

    def _output_of(self, e: Equation) -> Output:
        return next(o for o in self.outputs if o.tensor.name == e.target)

    def _stored(self, e: Equation) -> tuple[Expr, Expr | None]:
        o = self._output_of(e)
        return o.value, o.where

    def _walk(self, updates: Sequence[Update], following: Sequence[Equation | Update]) -> None:
        (env,) = self.points
        before = [x for wanted in self.waiting for side in _sides(wanted) for x in self._sums(side)]
        changes = [self._change(u) for u in updates]
        last = {c.state.state: c for c in changes}
        after = [x for x in self._later(following) if any(_reads(x, c.made.tensor) for c in last.values())]
        assert self.inner is not None
        after = [x for x in after if all(map(self._has_room, updates)) and not calls_functions(x.body, self.inner)]
        unroll = min(_unroll(c.value, self.inner) for c in changes)
        if unroll == UNROLL_FUNCTIONS and len(changes) > 1:  # as many registers as two of one
            unroll = 1
        before = list(dict.fromkeys(before))
        count = unroll if len(before) + len(after) == 1 else CHAINS
        old = [self.reductions.begin(x, env, count) for x in before]
        new = [self.reductions.begin(x, env, count) for x in after]

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            (row,) = instances
            for number, point in enumerate(row):
                for chains in old:
                    self.reductions.add(chains, number, point)
                for c in changes:
                    self._make(c, point)
                for c in last.values():
                    self._keep(c, point)
                for chains in new:
                    self.reductions.add(chains, number, point)

        self.loops.write(Nest((self.inner,), None, self.points, unroll, body))
        for chains in (*old, *new):
            self.reductions.end(chains)

    def _make(self, c: _Change, point: Env) -> None:
        """The element's new version becomes known."""
        level = self.scopes.level
        result = self._added(c.value, point)
        if c.where is not None:
            chosen = self.values.predicate(c.where, point)
            result = self.values.choose(level, chosen, result, self.values.value(c.old, point))
        register = self._full(result, level, self.held[c.made.tensor])
        self.scopes.learn(level, ("value", c.made, self.scopes.point(c.made, point)), register)

    def _keep(self, c: _Change, point: Env) -> None:
        array, inner = self.held[c.made.tensor].array, self.inner
        assert array is not None and inner is not None
        register = self.values.value(c.made, point)
        assert isinstance(register, Reg)
        self.scopes.append(self.scopes.level, LocalStore(array, point[inner].value, register))

    def _added(self, value: Expr, point: Env) -> Operand:
        """A product is added in the operation that multiplies; of two the one along the lanes is made first."""
        level = self.scopes.level

        def is_product(e: Expr) -> bool:
            return isinstance(e, Binary) and e.operator == "*" and self.scopes.level_of(e, point) == level

        match value:
            case Binary(operator="+", left=a, right=b) if is_product(a) and is_product(b):
                first, second = (a, b) if self._is_along_lanes(a) and not self._is_along_lanes(b) else (b, a)
                factors = self._factors(second, point)
                made = self.scopes.emit(level, "mul", self._factors(first, point))
                self.scopes.update(level, made, "mac", (*factors, made))
                return made
            case Binary(operator="+", left=a, right=b) if is_product(a) or is_product(b):
                product, c = (a, b) if is_product(a) else (b, a)
                return self.scopes.emit(level, "madd", (*self._factors(product, point), self.values.value(c, point)))
            case Binary(operator="-", left=c, right=product) if is_product(product):
                return self.scopes.emit(level, "nmadd", (*self._factors(product, point), self.values.value(c, point)))
            case _:
                return self.values.value(value, point)

    def _is_along_lanes(self, e: Expr) -> bool:
        return self.lane in free_indices(e)

    def _factors(self, product: Expr, point: Env) -> tuple[Operand, Operand]:
        assert isinstance(product, Binary)
        return self.values.value(product.left, point), self.values.value(product.right, point)


def _sides(wanted: _Wanted) -> list[Expr]:
    return [side for side in (wanted.value, wanted.where) if side is not None]


def _unroll(value: Expr, along: str) -> int:
    """Of a loop along an index; what the loop does not change is computed in front of it."""
    return UNROLL_FUNCTIONS if calls_functions(value, along) else UNROLL


def _inlined(scan: Scan) -> list[Equation | Update]:
    """The statements of a step with its temporaries put where they are read."""
    known: dict[str, Equation] = {}
    result: list[Equation | Update] = []

    def leaf(x: Expr) -> Expr:
        if not isinstance(x, Read) or x.tensor not in known:
            return x
        e = known[x.tensor]
        value = substitute(e.value, dict(zip(e.indices, x.indices, strict=True)))
        return value if e.domain is None else Call("select", (e.domain, value, ZERO))

    for s in scan.body:
        value = rewrite(s.value, leaf)
        where = rewrite(s.domain, leaf) if s.domain is not None else None
        if isinstance(s, Equation) and scan.index not in s.indices:
            if where is not None:
                raise not_lowered(
                    "E422", f"{s.target}, a temporary of a scan with a domain, is not lowered yet", s.span
                )
            known[s.target] = replace(s, value=value)
            continue
        if isinstance(s, Update):
            stale = [k for k, e in known.items() if _reads(e.value, s.state)]
            if stale:
                known = {k: e for k, e in known.items() if k not in stale}
        result.append(replace(s, value=value, domain=where))
    return result


def _reads(e: Expr, tensor: str) -> bool:
    return any(isinstance(x, Read) and x.tensor == tensor for x in walk(e))


def _inner(steps: tuple[Equation | Update, ...], scan: Scan) -> str | None:
    """The axis of the states that some step reduces; None where all are element-wise."""
    states = {s.state: s for s in scan.states}
    found: dict[str, Reduce] = {}
    for s in steps:
        for x in walk(s.value):
            if isinstance(x, Reduce) and any(isinstance(r, Read) and r.tensor in states for r in walk(x)):
                for i in x.indices:
                    found[i] = x
    names = {i for s in scan.states for i in s.indices}
    own = [i for i in found if i in names]
    foreign = [i for i in found if i not in names]
    if foreign or len(own) > 1:
        which = ", ".join((*own, *foreign))
        raise not_lowered(
            "E422", f"a scan whose steps reduce over {which} is not lowered yet", found[which.split(", ")[0]].span
        )
    return own[0] if own else None
