"""Computes the pieces of a tensor apart, each over its own part of the axis that divides them.

    O[b,h,q,e] = A[b,h,q,e] where h < Hs
    O[b,h,q,e] = C[b,h,q,e] where h >= Hs

visits A at the first Hs heads and C at the others, so A is computed at those only, and C too, over new indices
`h_1 in 0 .. Hs` and `h_2 in 0 .. H - Hs`; O is put together by copies:

    A_1[b,h_1,q,e] = ...                                  # reads Q[b,h_1,q,d], snk[h_1]
    C_2[b,h_2,q,e] = ...                                  # reads Q[b,h_2 + Hs,q,d], K[b,(h_2 + Hs) // R,k,d]
    O[b,h,q,e] = A_1[b,h,q,e] where h < Hs
    O[b,h,q,e] = C_2[b,h - Hs,q,e] where h >= Hs

Pieces that are maps of whole tensors are left to merge_pieces.py: one kernel computes them where they belong.

What lies before a piece is cut along with it: every intermediate, and every scan, that all its readers read at the
divided index itself. One that both pieces read that way becomes two; each of its points is still visited once. One that
is read in any other way (at `h // R`, by something that is not cut) stays whole.

Pieces that the thresholds make empty have an extent of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tpcgen.program import affine, domains, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.program.substitute import rewrite, substitute
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    Recurrence,
    conjunction,
    conjuncts,
    name_of,
    names_in_use,
    parts_of,
    reads_of,
    rebuilt,
    sides_of,
    steps_of,
)
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.support import bound_of, facts

_ZERO = ir.Literal(0, DType.I32)


def split_pieces(program: ir.Program) -> ir.Program | Refused:
    """The program with its pieces apart; pieces within pieces too."""
    result = _split(program)
    for _ in program.body:
        again = result if isinstance(result, Refused) else _split(result)
        if isinstance(again, Refused):
            break
        result = again
    return result


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part `number` (from 1) of an axis cut at `thresholds`, the ends of the axis included."""

    number: int
    thresholds: tuple[ir.Expr, ...]

    @property
    def low(self) -> ir.Expr:
        return self.thresholds[self.number - 1]

    @property
    def high(self) -> ir.Expr:
        return self.thresholds[self.number]

    @property
    def extent(self) -> ir.Expr:
        return _difference(self.high, self.low)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A tensor whose equations divide `axis`: per equation, in text order, its piece and what else its domain says."""

    axis: int
    pieces: tuple[_Piece, ...]
    rest: tuple[ir.Expr | None, ...]


@dataclass(frozen=True, slots=True)
class _Versions:
    """A tensor that is computed once per piece, restricted along `axis`."""

    axis: int
    pieces: tuple[_Piece, ...]


@dataclass(frozen=True, slots=True)
class _Use:
    """A read, by a statement that is computed per piece over its index `divided`; pieces are empty where it is not."""

    indices: tuple[ir.Expr, ...]
    divided: str
    pieces: tuple[_Piece, ...]


def _split(program: ir.Program) -> ir.Program | Refused:
    equations = _byname_of(program)
    several = {name: es for name, es in equations.items() if len(es) > 1}
    if not several:
        return Refused("no tensor is defined by several equations", program.span)
    found = {name: _cut(es, program) for name, es in several.items()}
    cuts = {name: cut for name, cut in found.items() if isinstance(cut, _Cut)}
    reasons = [cut for cut in found.values() if isinstance(cut, Refused)]
    if not cuts:
        return reasons[0]
    spread = _Spread(program, cuts)
    spread.run()
    builder = _Builder(program, spread.cuts, spread.versions, _rounded(program, spread))
    result = builder.run()
    if not builder.changed:
        name, es = next(iter(several.items()))
        return reasons[0] if reasons else Refused(f"the pieces of {name} are computed apart already", es[0].span)
    if not spread.versions and not any(_reduces(e) for name in spread.cuts for e in several[name]):
        name, es = next(iter(several.items()))
        return Refused(f"the pieces of {name} are maps: one kernel computes them", es[0].span)
    return result


def _byname_of(program: ir.Program) -> dict[str, list[ir.Equation]]:
    """Equations outside scans."""
    result: dict[str, list[ir.Equation]] = {}
    for statement in program.body:
        if isinstance(statement, ir.Equation):
            result.setdefault(statement.target, []).append(statement)
    return result


def _cut(equations: Sequence[ir.Equation], program: ir.Program) -> _Cut | Refused:
    """Along the first axis that the equations' domains divide at thresholds of sizes and attributes."""
    target = equations[0].target
    refused: Refused | None = None
    for axis in range(len(equations[0].indices)):
        cut = _cut_along(equations, axis, program)
        if isinstance(cut, _Cut):
            return cut
        refused = refused or cut
    reason = f"the equations of {target} do not divide one index at thresholds of sizes and attributes"
    return refused or Refused(reason, equations[0].span)


def _cut_along(equations: Sequence[ir.Equation], axis: int, program: ir.Program) -> _Cut | Refused | None:
    """None where the axis is not divided, Refused where it is, but not in a way that is known to be right."""
    extent = program.tensor(equations[0].target).shape[axis]
    bounds: list[tuple[ir.Expr, ir.Expr]] = []
    rest: list[ir.Expr | None] = []
    for e in equations:
        own, others = _bounds(e, axis, program)
        if own is None or not _whole(e.indices[axis], extent, program):
            return None
        bounds.append(own)
        rest.append(others)
    thresholds = _chain(bounds, extent)
    if thresholds is None:
        return None
    for e in equations:
        if e.indices[axis] in _bound(e):
            return Refused(f"a reduction of {e.target} runs over {e.indices[axis]}, along which it is cut", e.span)
    known = facts(program)
    for a, b in pairwise(thresholds):
        if not known.prove(_minus(b, a)):
            reason = f"nothing says that {text(a)} <= {text(b)}: with a contract {equations[0].target} could be cut"
            return Refused(reason, equations[0].span)
    starts = thresholds[:-1]
    pieces = tuple(_Piece(1 + _position(low, starts), thresholds) for low, _ in bounds)
    return _Cut(axis, pieces, tuple(rest))


def _bounds(e: ir.Equation, axis: int, program: ir.Program) -> tuple[tuple[ir.Expr, ir.Expr] | None, ir.Expr | None]:
    """(low, high) of the index of an axis in an equation's domain, and the rest of the domain; None for no such."""
    index = e.indices[axis]
    low, high = list[ir.Expr](), list[ir.Expr]()
    rest: list[ir.Expr] = []
    for condition in conjuncts(e.domain):
        found = [bound_of(p, index) for p in _inequalities(condition)]
        if not found or None in found:
            rest.append(condition)
            continue
        for side, bound in (f for f in found if f is not None):
            (low if side == 1 else high).append(bound)
    low, high = _distinct(low), _distinct(high)
    if len(low) > 1 or len(high) > 1 or not (low or high):
        return None, None
    extent = program.tensor(e.target).shape[axis]
    return (low[0] if low else _ZERO, high[0] if high else affine.canonical(extent)), conjunction(rest)


def _inequalities(condition: ir.Expr) -> list[Polynomial]:
    """The condition as polynomials that are all at least 0; none where it is something else."""
    cases = domains.cases(condition)
    if cases is None or len(cases) != 1 or not all(isinstance(t, domains.AtLeastZero) for t in cases[0]):
        return []
    return domains.inequalities(cases[0])


def _distinct(bounds: list[ir.Expr]) -> list[ir.Expr]:
    return list(dict.fromkeys(bounds))


def _whole(index: str, extent: ir.Expr, program: ir.Program) -> bool:
    r = program.range_of(index)
    return affine.equal(r.low, _ZERO) and affine.equal(r.high, extent)


def _chain(bounds: Sequence[tuple[ir.Expr, ir.Expr]], extent: ir.Expr) -> tuple[ir.Expr, ...] | None:
    """0, the thresholds in order, the extent; None where the parts are not side by side from end to end."""
    chain: list[ir.Expr] = [_ZERO]
    left = list(bounds)
    while left:
        following = next((b for b in left if affine.equal(b[0], chain[-1])), None)
        if following is None:
            return None
        left.remove(following)
        chain.append(following[1])
    distinct = all(not affine.equal(a, b) for a, b in pairwise(chain))
    return tuple(chain) if distinct and affine.equal(chain[-1], extent) else None


def _position(low: ir.Expr, starts: Sequence[ir.Expr]) -> int:
    return next(i for i, s in enumerate(starts) if affine.equal(s, low))


def _reduces(e: ir.Equation) -> bool:
    return any(isinstance(x, ir.Reduce) for x in ir.walk(e.value))


def _bound(e: ir.Equation | ir.Update) -> frozenset[str]:
    """Indices that reductions of a statement run over."""
    return frozenset(i for s in sides_of(e) for x in ir.walk(s) if isinstance(x, ir.Reduce) for i in x.indices)


def _minus(a: ir.Expr, b: ir.Expr) -> Polynomial:
    return affine.subtract(affine.polynomial(a), affine.polynomial(b))


def _difference(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    return affine.expression(_minus(a, b))


@dataclass
class _Spread:
    """Finds out, from the last statement up, which tensors are computed per piece."""

    program: ir.Program
    found: Mapping[str, _Cut]
    cuts: dict[str, _Cut] = field(default_factory=dict[str, _Cut])
    versions: dict[str, _Versions] = field(default_factory=dict[str, _Versions])
    uses: dict[str, list[_Use]] = field(default_factory=dict[str, "list[_Use]"])

    def run(self) -> None:
        parts = parts_of(self.program)
        done: set[str] = set()
        for part in reversed(parts):
            name = part.tensor.name if isinstance(part, Definition) else part.scan.index
            if isinstance(part, Recurrence):
                self._unit([part])
            elif name not in done:
                done.add(name)
                self._unit([p for p in parts if isinstance(p, Definition) and p.tensor.name == name])

    def _unit(self, unit: Sequence[Part]) -> None:
        """One scan, or all equations of one tensor."""
        axes, pieces = self._restricted(unit)
        own = set(axes)
        self.versions |= {name: _Versions(axis, pieces) for name, axis in axes.items()}
        steps = list(steps_of(unit))
        cut = self.found.get(name_of(steps[0])) if not axes else None
        if cut is not None:
            self.cuts[name_of(steps[0])] = cut
        for position, step in enumerate(steps):
            if cut is not None:
                divided, at = step.indices[cut.axis], (cut.pieces[position],)
            else:
                divided, at = (step.indices[axes[name_of(step)]], pieces) if axes else ("", ())
            for read in reads_of(step):
                if read.tensor not in own:
                    self.uses.setdefault(read.tensor, []).append(_Use(read.indices, divided, at))

    def _restricted(self, unit: Sequence[Part]) -> tuple[dict[str, int], tuple[_Piece, ...]]:
        """The axis of each tensor of the unit along which its readers need a part only, and the parts."""
        tensors = [t for p in unit for t in ((p.tensor,) if isinstance(p, Definition) else p.tensors)]
        made = dict.fromkeys(t.name for t in tensors)
        uses = [(name, use) for name in made for use in self.uses.get(name, [])]
        thresholds = {p.thresholds for _, use in uses for p in use.pieces}
        if len(thresholds) != 1 or any(t.role is ir.Role.OUTPUT for t in tensors):
            return {}, ()
        pieces = tuple(sorted({p for _, use in uses for p in use.pieces}, key=lambda p: p.number))
        name, use = uses[0]
        for axis, e in enumerate(use.indices):
            if e != ir.Index(use.divided):
                continue
            axes = self._axes(unit, name, axis)
            if axes is None or not all(u.indices[axes[n]] == ir.Index(u.divided) for n, u in uses):
                continue
            shape = self.program.tensor(name).shape
            return (axes, pieces) if not _covers(pieces, shape[axis]) else ({}, ())
        return {}, ()

    def _axes(self, unit: Sequence[Part], name: str, axis: int) -> dict[str, int] | None:
        """Per tensor of the unit, the axis that goes with `axis` of one of them; None where the unit ties its points
        along it together.
        """
        steps = list(steps_of(unit))
        if isinstance(unit[0], Definition):
            crossed = any(s.indices[axis] in _bound(s) for s in steps if isinstance(s, ir.Equation))
            return None if crossed else {name: axis}
        index = next(s.indices[axis] for s in steps if name_of(s) == name)
        axes: dict[str, int] = {}
        for s in steps:
            bound = frozenset[str]() if isinstance(s, ir.StateInit) else _bound(s)
            if index not in s.indices or index in bound:
                return None
            if axes.setdefault(name_of(s), s.indices.index(index)) != s.indices.index(index):
                return None
        inner = [r for s in steps for r in reads_of(s) if r.tensor in axes]
        return axes if all(r.indices[axes[r.tensor]] == ir.Index(index) for r in inner) else None


def _covers(pieces: Sequence[_Piece], extent: ir.Expr) -> bool:
    """Whether a tensor of that extent has nothing but the only piece."""
    return len(pieces) == 1 and affine.equal(pieces[0].low, _ZERO) and affine.equal(pieces[0].high, extent)


def _rounded(program: ir.Program, spread: _Spread) -> dict[str, DType]:
    """Tensors that only a piece reads, to round them: they are stored rounded instead."""
    found: dict[str, DType] = {}
    for name, cut in spread.cuts.items():
        dtype = program.tensor(name).dtype
        for e, rest in zip(_byname_of(program)[name], cut.rest, strict=True):
            if rest is None and isinstance(e.value, ir.Read) and len(spread.uses[e.value.tensor]) == 1:
                narrows = e.value.dtype is DType.F32 and dtype.is_float and e.value.tensor in spread.versions
                found |= {e.value.tensor: dtype} if narrows else {}
    return found


@dataclass
class _Builder:
    program: ir.Program
    cuts: Mapping[str, _Cut]
    versions: Mapping[str, _Versions]
    rounded: Mapping[str, DType]
    changed: bool = False
    made: list[Part] = field(default_factory=list[Part])
    tensors: dict[tuple[str, int], ir.Tensor] = field(default_factory=dict[tuple[str, int], ir.Tensor])
    indices: dict[tuple[str, _Piece], ir.IndexRange] = field(default_factory=dict[tuple[str, _Piece], ir.IndexRange])

    def __post_init__(self) -> None:
        self.names = names_in_use(self.program)

    def run(self) -> ir.Program:
        position: dict[str, int] = {}
        for part in parts_of(self.program):
            if isinstance(part, Recurrence):
                self._scan(part)
                continue
            name = part.tensor.name
            if name in self.cuts:
                number = position.get(name, 0)
                position[name] = number + 1
                self._joined(part, self.cuts[name], number)
            elif name in self.versions:
                own = self.versions[name]
                self.made += [self._version(part.equation, own.axis, p) for p in own.pieces]
            else:
                self.made.append(part)
        self.changed = self.changed or bool(self.versions)
        result = rebuilt(self.program, self.made)
        return replace(result, indices=self._ranges(result), pins=self._pins())

    def _version(self, e: ir.Equation, axis: int, piece: _Piece) -> Definition:
        tensor = self._tensor(e.target, axis, piece)
        return Definition(tensor, replace(self._equation(e, axis, piece), target=tensor.name))

    def _equation(self, e: ir.Equation, axis: int, piece: _Piece) -> ir.Equation:
        move = self._moved(e.indices[axis], piece)
        domain = move(e.domain) if e.domain is not None else None
        return ir.Equation(e.target, self._left(e.indices, axis, piece), move(e.value), domain, span=e.span)

    def _scan(self, part: Recurrence) -> None:
        own = self.versions.get(part.scan.states[0].state)
        if own is None:
            self.made.append(part)
            return
        for piece in own.pieces:
            tensors = tuple(self._tensor(t.name, self.versions[t.name].axis, piece) for t in part.tensors)
            states = tuple(self._init(s, piece) for s in part.scan.states)
            body = tuple(self._step(s, piece) for s in part.scan.body)
            self.made.append(Recurrence(tensors, replace(part.scan, states=states, body=body)))

    def _init(self, s: ir.StateInit, piece: _Piece) -> ir.StateInit:
        axis = self.versions[s.state].axis
        initial = self._moved(s.indices[axis], piece)(s.initial)
        state = self._tensor(s.state, axis, piece).name
        return replace(s, state=state, indices=self._left(s.indices, axis, piece), initial=initial)

    def _step(self, s: ir.Equation | ir.Update, piece: _Piece) -> ir.Equation | ir.Update:
        axis = self.versions[name_of(s)].axis
        if isinstance(s, ir.Equation):
            return self._version(s, axis, piece).equation
        move = self._moved(s.indices[axis], piece)
        domain = move(s.domain) if s.domain is not None else None
        state = self._tensor(s.state, axis, piece).name
        return replace(s, state=state, indices=self._left(s.indices, axis, piece), value=move(s.value), domain=domain)

    def _joined(self, part: Definition, cut: _Cut, number: int) -> None:
        """The piece as a tensor of its own, unless it is one already, and the copy that puts it in its place."""
        e, piece, rest = part.equation, cut.pieces[number], cut.rest[number]
        first = next(s for s in self.program.body if isinstance(s, ir.Equation) and s.target == e.target)
        divided = first.indices[cut.axis]
        inside = _inside(divided, piece)
        if rest is None and self._is_copy(e, part.tensor.dtype, cut.axis, piece):
            assert isinstance(e.value, ir.Read)
            named = dict(zip(e.indices, (ir.Index(i) for i in first.indices), strict=True))
            value = self._part_of(e.value, e.indices[cut.axis], piece)
            value = substitute(value, named)
        else:
            self.changed = True
            tensor = self._tensor(e.target, cut.axis, piece)
            alone = self._equation(replace(e, domain=rest), cut.axis, piece)
            self.made.append(Definition(tensor, replace(alone, target=tensor.name)))
            at = tuple(_shifted(i, piece) if i == divided else ir.Index(i) for i in first.indices)
            value = ir.Read(tensor.name, at, tensor.dtype, span=e.span)
        self.made.append(Definition(part.tensor, ir.Equation(e.target, first.indices, value, inside, span=e.span)))

    def _part_of(self, read: ir.Read, divided: str, piece: _Piece) -> ir.Read:
        """The read of a whole tensor as one of its part."""
        own = self.versions.get(read.tensor)
        if own is None:
            return read
        tensor = self._tensor(read.tensor, own.axis, piece)
        indices = tuple(_shifted(divided, piece) if a == own.axis else i for a, i in enumerate(read.indices))
        return ir.Read(tensor.name, indices, tensor.dtype, span=read.span)

    def _is_copy(self, e: ir.Equation, dtype: DType, axis: int, piece: _Piece) -> bool:
        """Whether the value is a tensor of the same axes, as it stands or from the beginning of the piece."""
        if not isinstance(e.value, ir.Read) or self.rounded.get(e.value.tensor, e.value.dtype) is not dtype:
            return False
        divided = e.indices[axis]
        others = [i for i in e.indices if i != divided]
        read = sorted(map(text, e.value.indices))
        return any(read == sorted([text(at), *others]) for at in (ir.Index(divided), _shifted(divided, piece)))

    def _moved(self, index: str, piece: _Piece) -> Callable[[ir.Expr], ir.Expr]:
        """Puts an expression over `index` on the piece's own index, and its reads on the parts of tensors."""
        own = ir.Index(self._index(index, piece))

        def part(x: ir.Expr) -> ir.Expr:
            if not isinstance(x, ir.Read) or x.tensor not in self.versions:
                return x
            known = self.versions[x.tensor]
            tensor = self._tensor(x.tensor, known.axis, piece)
            indices = tuple(own if a == known.axis else i for a, i in enumerate(x.indices))
            return ir.Read(tensor.name, indices, x.dtype, span=x.span)

        place = own if affine.equal(piece.low, _ZERO) else ir.Binary("+", own, piece.low)
        return lambda e: substitute(rewrite(e, part), {index: place})

    def _left(self, indices: tuple[str, ...], axis: int, piece: _Piece) -> tuple[str, ...]:
        return tuple(self._index(i, piece) if a == axis else i for a, i in enumerate(indices))

    def _index(self, index: str, piece: _Piece) -> str:
        if (index, piece) not in self.indices:
            name = self.names.fresh(f"{index}_{piece.number}")
            old = self.program.range_of(index)
            self.indices[index, piece] = ir.IndexRange(name, _ZERO, piece.extent, span=old.span)
        return self.indices[index, piece].name

    def _tensor(self, name: str, axis: int, piece: _Piece) -> ir.Tensor:
        if (name, piece.number) not in self.tensors:
            whole = self.program.tensor(name)
            shape = tuple(piece.extent if a == axis else e for a, e in enumerate(whole.shape))
            role = ir.Role.STATE if whole.role is ir.Role.STATE else ir.Role.INTERMEDIATE
            fresh = self.names.fresh(f"{name}_{piece.number}")
            dtype = self.rounded.get(name, whole.dtype)
            self.tensors[name, piece.number] = replace(whole, name=fresh, shape=shape, role=role, dtype=dtype)
        return self.tensors[name, piece.number]

    def _ranges(self, result: ir.Program) -> tuple[ir.IndexRange, ...]:
        """The ranges that are in use, those of pieces behind the one they are cut from."""
        used = frozenset(_mentioned(result))
        ranges: list[ir.IndexRange] = []
        for r in self.program.indices:
            ranges += [r] if r.name in used else []
            ranges += [new for (old, _), new in self.indices.items() if old == r.name]
        return tuple(ranges)

    def _pins(self) -> tuple[ir.Pin, ...]:
        """What is pinned for a tensor is pinned for each of its parts."""
        return tuple(new for pin in self.program.pins for new in self._pin(pin))

    def _pin(self, pin: ir.Pin) -> list[ir.Pin]:
        named = next((w for w in pin.words if w in self.versions), None)
        if named is None:
            return [pin]
        made: list[ir.Pin] = []
        for piece in self.versions[named].pieces:
            names = {old: new.name for (old, p), new in self.indices.items() if p == piece}
            names[named] = self._tensor(named, self.versions[named].axis, piece).name
            made.append(replace(pin, words=tuple(names.get(w, w) for w in pin.words)))
        return made


def _inside(index: str, piece: _Piece) -> ir.Expr | None:
    """That an index is in a piece; what its range says anyway is left out."""
    at = ir.Index(index)
    last = piece.number == len(piece.thresholds) - 1
    low = None if piece.number == 1 else ir.Binary(">=", at, piece.low)
    high = None if last else ir.Binary("<", at, piece.high)
    return conjunction([low, high])


def _shifted(index: str, piece: _Piece) -> ir.Expr:
    """The place in a piece of a place in the whole."""
    return ir.Index(index) if affine.equal(piece.low, _ZERO) else ir.Binary("-", ir.Index(index), piece.low)


def _mentioned(program: ir.Program) -> Iterator[str]:
    for statement in program.body:
        steps = [statement] if isinstance(statement, ir.Equation) else [*statement.states, *statement.body]
        if isinstance(statement, ir.Scan):
            yield statement.index
        for s in steps:
            yield from s.indices
            for x in (x for side in sides_of(s) for x in ir.walk(side)):
                match x:
                    case ir.Index():
                        yield x.name
                    case ir.Reduce():
                        yield from x.indices
                    case _:
                        pass
