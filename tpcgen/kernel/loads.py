"""Elements of tensors in registers: vectors along the lane index, one element in every lane, or an element per lane.

A vector register cannot be an address (toolchain.md 1.5), so that a read whose index differs from lane to lane, other
than by running along the last axis, goes through the part of the axis that the lanes can want and keeps each element in
the lanes that want it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tpcgen.kernel.bounds import direction, integer, largest, plus, smallest
from tpcgen.kernel.integers import Integers
from tpcgen.kernel.ir import (
    NARROW,
    Broadcast,
    Imm,
    Load,
    Loop,
    Operand,
    Reg,
    Scalar,
    ScalarLoad,
    VectorOp,
    VType,
)
from tpcgen.kernel.scopes import Env, Scopes
from tpcgen.kernel.shape import Shape
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Expr, Index, Read, free_indices


class Loads:
    """`lane_integer` gives an integer that differs from lane to lane; it is set by who computes such."""

    lane_integer: Callable[[Expr, Env, int], Reg]

    def __init__(self, shape: Shape, scopes: Scopes, integers: Integers, target: str) -> None:
        self.target = target
        self.shape = shape
        self.scopes = scopes
        self.integers = integers

    def load(self, read: Read, env: Env, level: int) -> Reg:
        """F32 of a tensor of floats, I32 of an i32 one; uniform where the lane index is not read (never i32)."""
        lane = self.shape.lane
        along = [n for n, i in enumerate(read.indices) if lane in free_indices(i)]
        if not along:
            return self._broadcast(read, self.integers.coords(read, env), level)
        fastest = affine.coefficient_of(affine.polynomial(read.indices[-1]), lane)
        if along == [len(read.indices) - 1] and fastest == 1:
            return self._vector(read, env, level)
        return self._through_axes(read, along, env, level)

    def is_narrow(self, read: Read) -> bool:
        """Whether `narrow` can load it: a bf16 vector along the lanes."""
        lane = self.shape.lane
        *outer, last = read.indices
        alone = not any(lane in free_indices(i) for i in outer)
        return read.dtype is DType.BF16 and alone and affine.coefficient_of(affine.polynomial(last), lane) == 1

    def narrow(self, read: Read, env: Env, level: int) -> Reg:
        """As `load`, but a vector of 16 bits a lane as it is."""
        stored = NARROW[read.dtype]
        raw = self.scopes.register(f"{_hint(read)}_{stored.suffix}", stored.kind, 1)
        self.scopes.append(level, Load(raw, read.tensor, self.integers.coords(read, env)))
        return raw

    def _through_axes(self, read: Read, along: list[int], env: Env, level: int) -> Reg:
        """In a loop over each of the axes; 0 in lanes that want an element outside of them."""
        wanted = [self.lane_integer(read.indices[axis], env, level) for axis in along]
        others = [integer(0) if axis in along else i for axis, i in enumerate(read.indices)]
        coords = [*self.integers.coords(replace(read, indices=tuple(others)), env)]
        copy, nothing = ("imov", Imm(0)) if read.dtype is DType.I32 else ("mov", Imm(0.0))
        kind = VType.I32 if read.dtype is DType.I32 else VType.F32
        dest = self.scopes.register(_hint(read), kind, self.shape.lanes.parts)
        with self.scopes.outside(level):
            self.scopes.append(level, VectorOp(dest, copy, (nothing,)))
            here: Reg | None = None
            entries: list[str] = []
            for axis, want in zip(along, wanted, strict=True):
                entries.append(self.scopes.unique("entry"))
                inner = self.scopes.open()
                coords[len(others) - 1 - axis] = Index(entries[-1])
                found = self.scopes.emit(inner, "icmp_eq", (want, Scalar(Index(entries[-1]))), "here")
                here = found if here is None else self.scopes.emit(inner, "pand", (here, found), "here")
            assert here is not None
            element = self._element(read, tuple(coords), self.scopes.level)
            self.scopes.update(self.scopes.level, dest, copy, (element,), here)
            for axis, entry in reversed([*zip(along, entries, strict=True)]):
                extent = self.integers.scalar(self.shape.program.tensor(read.tensor).shape[axis], {})
                body = self.scopes.close()
                low, high = self._wanted(read.indices[axis], extent, env)
                self.scopes.append(self.scopes.level, Loop(entry, low, high, 1, body))
        return dest

    def _wanted(self, index: Expr, extent: Expr, env: Env) -> tuple[Expr, Expr]:
        """Elements from which to which the lanes want one: between those of the first and of the last lane where the
        index goes one way along the lanes (`k // BS`), else the whole axis. On gaudi too: there the open compiler ends
        in an error at a division inside such a loop.
        """
        lane = self.shape.lane
        way = direction(index, lane) if lane in env else None
        if self.target == "gaudi" or (way is None and not _quotient_along(index, lane)):
            return integer(0), extent
        moved = {**env, lane: replace(env[lane], value=plus(env[lane].value, self.shape.lanes.step - 1))}
        ends = [self.integers.let("entry_of_lane", self.integers.scalar(index, at)) for at in (env, moved)]
        least, most = {1: ends, -1: ends[::-1]}.get(way or 0, (smallest(ends), largest(ends)))
        begin = self.integers.let("entry_begin", largest([least, integer(0)]))
        return begin, self.integers.let("entry_end", smallest([plus(most, 1), extent]))

    def _element(self, read: Read, coords: tuple[Expr, ...], level: int) -> Operand:
        if read.dtype is not DType.I32:
            return self._broadcast(read, coords, level)
        name = self.scopes.unique(f"{read.tensor.lower()}_here")
        self.scopes.append(level, ScalarLoad(name, read.tensor, coords))
        return Scalar(Index(name))

    def _vector(self, read: Read, env: Env, level: int) -> Reg:
        hint = _hint(read)
        if stored := NARROW.get(read.dtype):
            return self.scopes.emit(level, stored.widen, (self.narrow(read, env, level),), hint)
        kind = VType.I32 if read.dtype is DType.I32 else VType.F32
        dest = self.scopes.register(hint, kind, self.shape.lanes.parts)
        self.scopes.append(level, Load(dest, read.tensor, self.integers.coords(read, env)))
        return dest

    def _broadcast(self, read: Read, coords: tuple[Expr, ...], level: int) -> Reg:
        hint = _hint(read)
        if stored := NARROW.get(read.dtype):
            raw = self.scopes.register(f"{hint}_{stored.suffix}", stored.kind, 1, uniform=True)
            self.scopes.append(level, Broadcast(raw, read.tensor, coords, self._may_be_empty(read, coords)))
            return self.scopes.emit(level, "part1", (self.scopes.emit(level, stored.widen, (raw,), hint),), hint)
        dest = self.scopes.register(hint, VType.F32, 1, uniform=True)
        self.scopes.append(level, Broadcast(dest, read.tensor, coords, self._may_be_empty(read, coords)))
        return dest

    def _may_be_empty(self, read: Read, coords: tuple[Expr, ...]) -> Expr | None:
        """The extent of an axis on which no element may be where the kernel has a member: one that a coordinate is
        clamped to, of a part that sizes may leave nothing of, `max(N - C, 0)`.
        """
        extents = self.shape.program.tensor(read.tensor).shape
        for coordinate, extent in zip(reversed(coords), extents, strict=False):
            clamped = isinstance(coordinate, Call) and coordinate.function == "max"
            if clamped and isinstance(extent, Call) and extent.function == "max" and integer(0) in extent.arguments:
                return self.integers.scalar(extent, {})
        return None


def _quotient_along(index: Expr, lane: str) -> bool:
    """Whether it is a quotient that rises or falls along the lanes, whatever the sign of its divisor."""
    match index:
        case Binary(operator="//", left=left, right=right) if lane not in free_indices(right):
            return direction(left, lane) is not None
        case _:
            return False


def _hint(read: Read) -> str:
    """Tensors are parameters of main: an element of `snk` is `snk_v`."""
    name = read.tensor.lower()
    return name if name != read.tensor else f"{name}_v"
