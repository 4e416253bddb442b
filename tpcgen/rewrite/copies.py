"""Equations that only bring elements to another place: no engine computes them, torch moves the data.

    Q_b[b,h,n,i,d] = Q[b,h,64*n+i,d] where 64*n + i < N             blocks of an axis
    K_b[b,h,n,j,d] = K[b,h,64*n+j-9,d] where 0 <= 64*n+j-9 < N      overlapping windows of an axis
    O[b,h,q,e] = O_b[b,h,q // 64,q % 64,e]                          two axes become one
    C[n,d] = c[n,d // 2]                                            elements repeated
    O[b,h,q,e] = A[b,h,q,e] where h < Hs                            parts put side by side
    O[b,h,q,e] = C[b,h-Hs,q,e] where h >= Hs

An element outside the source is absent, so the copy holds 0 there. A domain that says more than "inside the source"
makes an equation no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.rewrite.edit import conjuncts
from tpcgen.rewrite.support import at_least_zero, facts


@dataclass(frozen=True, slots=True)
class Slice:
    """Source axis at `index + start`; the whole axis where start is 0 and the extents agree."""

    index: str
    start: ir.Expr


@dataclass(frozen=True, slots=True)
class Blocks:
    """Source axis at `step * outer + inner + start`: one axis becomes two, windows overlap where inner is longer."""

    outer: str
    inner: str
    step: int
    start: ir.Expr


@dataclass(frozen=True, slots=True)
class Merged:
    """Two neighbouring source axes at `index // size` and `index % size`: one axis of the target."""

    index: str
    size: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """Source axis at `index // times`."""

    index: str
    times: int


AxisCopy = Union[Slice, Blocks, Merged, Repeated]


@dataclass(frozen=True, slots=True)
class Piece:
    """What comes from one source. `axes` in the source's order; a `Merged` stands for two of its axes.

    `low`, `high`: the part of the target's axis `Copy.along` that the piece fills, before clipping to the axis.
    """

    source: str
    axes: tuple[AxisCopy, ...]
    low: ir.Expr
    high: ir.Expr


@dataclass(frozen=True, slots=True)
class Copy:
    """`indices`: the target's axes. Several pieces lie side by side along axis `along` and cover it, in order."""

    target: str
    indices: tuple[str, ...]
    along: int
    pieces: tuple[Piece, ...]


def copy_of(equations: Sequence[ir.Equation], program: ir.Program) -> Copy | None:
    """The copy that the equations of one tensor are, all of them together; None where they compute anything."""
    first = equations[0]
    if not first.indices:
        return None
    read = [_Reader(e, program).axes() for e in equations]
    found = [axes for axes in read if axes is not None]
    if len(found) < len(read) or any(e.indices != first.indices for e in equations):
        return None
    if len(equations) == 1:
        return _single(first, found[0], program)
    return next((c for i in first.indices if (c := _side_by_side(equations, found, i, program)) is not None), None)


def _single(e: ir.Equation, axes: tuple[AxisCopy, ...], program: ir.Program) -> Copy | None:
    if all(isinstance(a, Slice) and affine.equal(a.start, _ZERO) for a in axes) and _all_of(e, program):
        return None
    rest = [p for p in _conditions(e) if not _inside(p, e, program)]
    if rest or None in _conditions(e):
        return None
    extent = program.range_of(e.indices[0]).high
    return Copy(e.target, e.indices, 0, (Piece(_source(e).tensor, axes, _ZERO, extent),))


def _all_of(e: ir.Equation, program: ir.Program) -> bool:
    """Whether a read at plain indices takes the whole tensor."""
    read = _source(e)
    extents = [program.range_of(i.name).high for i in read.indices if isinstance(i, ir.Index)]
    return all(affine.equal(a, b) for a, b in zip(extents, program.tensor(read.tensor).shape, strict=True))


def _side_by_side(
    equations: Sequence[ir.Equation], axes: Sequence[tuple[AxisCopy, ...]], index: str, program: ir.Program
) -> Copy | None:
    pieces: list[Piece] = []
    extent = program.range_of(index).high
    for e, own in zip(equations, axes, strict=True):
        low, high = _ZERO, extent
        for p in _conditions(e):
            if p is None:
                return None
            bound = _bound(p, index)
            if bound is None:
                if not _inside(p, e, program):
                    return None
            elif affine.coefficient_of(p, index) == 1:
                low = bound
            else:
                high = bound
        if not any(index in _indices(a) and not isinstance(a, Blocks) for a in own):
            return None
        pieces.append(Piece(_source(e).tensor, own, low, high))
    chain: list[Piece] = []
    end: ir.Expr = _ZERO
    while pieces:
        following = next((p for p in pieces if affine.equal(p.low, end)), None)
        if following is None:
            return None
        pieces.remove(following)
        chain.append(following)
        end = following.high
    if not affine.equal(end, extent):
        return None
    return Copy(equations[0].target, equations[0].indices, equations[0].indices.index(index), tuple(chain))


_ZERO = ir.Literal(0, DType.I32)


def _conditions(e: ir.Equation) -> list[Polynomial | None]:
    """The domain as polynomials that are at least 0; None for a conjunct that is no such thing."""
    result: list[Polynomial | None] = []
    for c in conjuncts(e.domain):
        result += at_least_zero(c) or [None]
    return result


def _bound(p: Polynomial, index: str) -> ir.Expr | None:
    """`b` of `index >= b` (coefficient 1) or of `index < b` (-1) where the condition is about that index alone."""
    if {x for atom in affine.atoms(p) for x in ir.free_indices(atom)} != {index}:
        return None
    alone = affine.polynomial(ir.Index(index))
    match affine.coefficient_of(p, index):
        case 1:
            return affine.expression(affine.subtract(alone, p))
        case -1:
            return affine.expression(affine.add(affine.add(p, alone), affine.constant(1)))
        case _:
            return None


def _inside(p: Polynomial | None, e: ir.Equation, program: ir.Program) -> bool:
    """Whether the condition only keeps the read inside its tensor, or always holds."""
    if p is None:
        return False
    read = _source(e)
    for i, extent in zip(read.indices, program.tensor(read.tensor).shape, strict=True):
        at = affine.polynomial(i)
        beyond = affine.subtract(affine.subtract(affine.polynomial(extent), at), affine.constant(1))
        if p in (at, beyond):
            return True
    return facts(program).prove(p)


def _source(e: ir.Equation) -> ir.Read:
    value = e.value.operand if isinstance(e.value, ir.Cast) else e.value
    assert isinstance(value, ir.Read)
    return value


def _indices(a: AxisCopy) -> tuple[str, ...]:
    return (a.outer, a.inner) if isinstance(a, Blocks) else (a.index,)


@dataclass(frozen=True, slots=True)
class _Reader:
    e: ir.Equation
    program: ir.Program

    def axes(self) -> tuple[AxisCopy, ...] | None:
        """How the read's axes make the target's; None where it is no read of such a kind."""
        value = self.e.value.operand if isinstance(self.e.value, ir.Cast) else self.e.value
        if not isinstance(value, ir.Read) or value.dtype is not self.program.tensor(self.e.target).dtype:
            return None
        if isinstance(self.e.value, ir.Cast) and self.e.value.dtype is not value.dtype:
            return None
        found: list[AxisCopy] = []
        position = 0
        while position < len(value.indices):
            merged = self._merged(value, position)
            own = merged or self._axis(value.indices[position])
            if own is None:
                return None
            found.append(own)
            position += 2 if merged is not None else 1
        used = [i for a in found for i in _indices(a)]
        return tuple(found) if sorted(used) == sorted(self.e.indices) else None

    def _merged(self, read: ir.Read, position: int) -> Merged | None:
        match read.indices[position : position + 2]:
            case (
                ir.Binary(operator="//", left=ir.Index(name=a), right=ir.Literal(value=int(size))),
                ir.Binary(operator="%", left=ir.Index(name=b), right=ir.Literal(value=int(other))),
            ) if a == b and size == other:
                inner = self.program.tensor(read.tensor).shape[position + 1]
                return Merged(a, size) if affine.equal(inner, ir.Literal(size, DType.I32)) else None
            case _:
                return None

    def _axis(self, e: ir.Expr) -> Slice | Blocks | Repeated | None:
        match e:
            case ir.Binary(operator="//", left=ir.Index(name=name), right=ir.Literal(value=int(times))) if times > 0:
                return Repeated(name, times)
            case _:
                return self._sum(affine.polynomial(e))

    def _sum(self, p: Polynomial) -> Slice | Blocks | None:
        names = {x for atom in affine.atoms(p) for x in ir.free_indices(atom)}
        factors = {name: affine.coefficient_of(p, name) for name in names}
        start = p
        for name, factor in factors.items():
            if factor is None or factor < 1:
                return None
            start = affine.subtract(start, affine.scale(affine.polynomial(ir.Index(name)), factor))
        if any(ir.free_indices(atom) or isinstance(atom, ir.Read) for atom in affine.atoms(start)):
            return None
        match sorted((factor or 0, name) for name, factor in factors.items()):
            case [(1, name)]:
                return Slice(name, affine.expression(start))
            case [(1, inner), (step, outer)] if step > 1:
                return Blocks(outer, inner, step, affine.expression(start))
            case _:
                return None
