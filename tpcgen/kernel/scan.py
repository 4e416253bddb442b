"""From a scan to a kernel: a member runs through all steps and keeps its part of the states to itself.

Axes of a state that some step reduces are the member's own: the state lies in local memory, an element of the reduced
index after the other, and a step walks it as often as its statements ask. A state without such an axis stays in a
register per row in flight. All other axes are rows of the index space; one of them runs along the lanes.

Every update makes a new version of a state. Reads name the version and the step, so that what was computed of an older
one is never taken for the newer. Last values are written behind the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from tpcgen.kernel.reductions import Reductions
from tpcgen.kernel.scopes import Bound, Env, Scopes
from tpcgen.kernel.shape import ROWS, Output, Shape, check_tensors, lanes_of
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
    free_indices,
    walk,
)
from tpcgen.program.substitute import rewrite, substitute

UNROLL, UNROLL_FUNCTIONS = 4, 2
"""Rows of a state in flight; fewer where a step calls special functions: with four the open compiler gives up on
Mamba-1 ("Too many vector spills").
"""
LOCAL_VECTORS = 320
"""80 KB of vector local memory in vectors of 256 bytes (gaudi.md, section 1)."""


def draft_scan(stage: TpcStage, target: str) -> Kernel:
    """As `lower.draft`, of a stage that is one scan. DiagnosticError E421 to E426 for what does not fit one."""
    return _Lowering(stage, target).kernel()


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
        behind = [s for s in self.program.body if isinstance(s, Equation)]
        self.last = tuple(self._output(e) for e in behind)
        self.outputs = (*(self._output(s) for s in self.steps if isinstance(s, Equation)), *self.last)
        self.step: Expr = Index(scan.index)
        self.shape = self._shape()
        self.scopes = Scopes()
        self.integers = Integers(self.shape, self.scopes)
        self.values = Values(self.shape, self.scopes, self.integers, target)
        self.loops = Loops(self.shape, self.scopes, self.integers)
        self.points = self._points()
        reductions = Reductions(self.shape, self.scopes, self.values, self.loops, self.points)
        self.values.reduction = reductions.value
        self.values.held = self._load
        self.held: dict[str, _Held] = {}
        self.version: dict[str, str] = {}

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
        lanes = lanes_of(self.program, self.outputs, self.lane)
        if lanes is Lanes.SINGLE and self._widens():
            lanes = Lanes.LINEAR
        return Shape(self.program, self.lane, self.outputs, rows, flight, lanes, ranges)

    def _widens(self) -> bool:
        """Whether an update reads vectors of 16 bits a lane, each of which widens to two registers."""
        sides = [e for s in self.steps for e in (s.value, s.domain) if e is not None]
        sides += [s.initial for s in self.scan.states]
        reads = (x for e in sides for x in walk(e) if isinstance(x, Read) and x.dtype in NARROW)
        return any(self.lane in free_indices(i) for x in reads for i in x.indices)

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
        reductions = Reductions(self.shape, self.scopes, self.values, self.loops, self.points)
        self.values.reduction = reductions.value
        for s in self.steps:
            match s:
                case Equation():
                    self._write(next(o for o in self.outputs if o.tensor.name == s.target))
                case Update():
                    self._update(s)
        self.scopes.append(level - 1, Loop(var, low, high, 1, self.scopes.close()))
        self.points = outside

    def _behind(self) -> None:
        """Last values of the states, of no step any more."""
        self.step = integer(-1)
        for o in self.last:
            self._write(o)

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

    def _write(self, o: Output) -> None:
        if o.span.line:
            self.scopes.append(self.scopes.level, Note(f"{o.tensor.name}[{', '.join(o.indices)}]", o.span))
        value = self._now(o.value)
        where = self._now(o.where) if o.where is not None else None
        if not o.loops:
            for point in self.points:
                self._store(o, value, where, point)
            return

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            for row in instances:
                for point in row:
                    self._store(o, value, where, point)

        self.loops.write(Nest(o.loops, None, self.points, _unroll(value), body))

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

    def _update(self, u: Update) -> None:
        s = next(s for s in self.scan.states if s.state == u.state)
        if u.span.line:
            self.scopes.append(self.scopes.level, Note(f"{u.state}[{', '.join(u.indices)}] :=", u.span))
        renamed = {a: Index(b) for a, b in zip(u.indices, s.indices, strict=True) if a != b}
        p = explicit(substitute(u.value, renamed))
        where = both(domain(substitute(u.domain, renamed) if u.domain is not None else None), p.where)
        kept = Read(u.state, tuple(Index(i) for i in s.indices), DType.F32)
        value = self._now(p.value)
        condition = self._now(where) if where is not None else None
        old = self._now(kept)
        if self.inner in s.indices:
            array = self.held[self.version[u.state]].array

            def new(point: Env) -> Operand:
                result = self.values.value(value, point)
                if condition is None:
                    return result
                chosen = self.values.predicate(condition, point)
                return self.values.choose(self.scopes.level, chosen, result, self.values.value(old, point))

            self._each(s, new, _unroll(value))
            self._hold(s, {}, array)
            return
        registers = self.held[self.version[u.state]].registers
        for key, point in self._rows_of(s):
            chosen = self.values.predicate(condition, point)
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


def _unroll(value: Expr) -> int:
    functions = any(isinstance(x, Call) or (isinstance(x, Binary) and x.operator == "/") for x in walk(value))
    return UNROLL_FUNCTIONS if functions else UNROLL


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
