"""Coordinates of the accesses of a loop as `int5` variables that move along with it.

A coordinate that is carried and stepped costs one operation of the scalar slot per access and leaves the loop a
hardware loop; one built from the loop's variable costs both (probes of the open compiler).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tpcgen.kernel.ir import (
    Broadcast,
    Kernel,
    Load,
    Loop,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
)
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Expr, Index, Literal, free_indices
from tpcgen.program.substitute import substitute

Coords = tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Moving:
    """A variable that starts at `start` in front of the loop and is at the place of each of its accesses when it comes.

    `advances`: what is added after the access of that number, where it is not 0, as (dim, by).
    """

    start: Coords
    advances: dict[int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """`moving`: the variables of a loop; `uses`: which of them an access takes. The others are built in place."""

    moving: tuple[Moving, ...]
    uses: dict[int, int]


def members(k: Kernel, dim: int = 0) -> Loop:
    """The loop over the members of a piece along a dim of the index space; the body is that of the kernel."""
    d = k.index_space[dim]
    first, after = Index(f"piece_begin[{dim}]"), Index(f"piece_end[{dim}]")
    if d.step == 1:
        return Loop(d.name, first, after, 1, k.body)
    step = Literal(d.step, DType.I32)
    return Loop(d.name, Binary("*", first, step), Binary("*", after, step), d.step, k.body)


def accesses(kernel: Kernel, s: Statement) -> list[Coords]:
    """Coordinates a statement uses, part by part."""
    match s:
        case Load():
            return [moved(s.coords, 64 * part) for part in range(s.dest.parts)]
        case Store(single=False):
            parts = 1 if s.value.type.widens else kernel.lanes.parts
            return [moved(s.coords, 64 * part) for part in range(parts)]
        case Store() | Broadcast() | ScalarLoad():
            return [s.coords]
        case _:
            return []


def moved(coords: Coords, by: int) -> Coords:
    """Further along dim 0."""
    return (_plus(coords[0], by), *coords[1:]) if by else coords


def plan(kernel: Kernel, loop: Loop) -> Plan:
    """Accesses are numbered in text order. A body with loops in it moves nothing."""
    if any(isinstance(s, Loop) for s in loop.body):
        return Plan((), {})
    inside = _declared(loop.body)
    groups: dict[tuple[bool, int, Coords], list[_Access]] = {}
    for number, (stored, coords) in enumerate(_places(kernel, loop.body)):
        dim = _moves_along(coords, loop.var, inside)
        if dim is not None:
            base, offsets = _split(coords)
            groups.setdefault((stored, dim, base), []).append((number, offsets))
    moving: list[Moving] = []
    uses: dict[int, int] = {}
    for (_, dim, base), every in groups.items():
        for some in [every] if _rows(every, dim) >= _MANY else _by_row(every, dim):
            uses |= {number: len(moving) for number, _ in some}
            moving.append(_moving(loop, dim, base, some))
    return Plan(tuple(moving), uses)


def straight(kernel: Kernel, statements: Sequence[Statement]) -> Plan:
    """Variables of statements that are passed once, none of them a loop, numbered as in `plan`: accesses that are a
    number of elements apart share one, which takes a step for each instead of being built for each.
    """
    inside = _declared(statements)
    groups: dict[tuple[bool, Coords], list[_Access]] = {}
    for number, (stored, coords) in enumerate(_places(kernel, statements)):
        if not any(free_indices(c) & inside for c in coords):
            base, offsets = _split(coords)
            groups.setdefault((stored, base), []).append((number, offsets))
    moving: list[Moving] = []
    uses: dict[int, int] = {}
    for (_, base), some in groups.items():
        if len({offsets for _, offsets in some}) > 1:
            uses |= {number: len(moving) for number, _ in some}
            start = tuple(_plus(c, by) for c, by in zip(base, some[0][1], strict=True))
            moving.append(Moving(start, _advances(some, some[-1][1])))
    return Plan(tuple(moving), uses)


def behind(loop: Loop, m: Moving) -> Coords:
    """Where a variable of a loop without loops inside is after it; the loop is exact."""
    end = list(m.start)
    for dim in {dim for steps in m.advances.values() for dim, _ in steps}:
        step = sum(by for steps in m.advances.values() for n, by in steps if n == dim) // loop.step
        way = Binary("*", Literal(step, DType.I32), Binary("-", loop.high, loop.low))
        end[dim] = affine.normal(Binary("+", end[dim], way))
    return tuple(end)


def continuing(kernel: Kernel, loop: Loop) -> Iterator[Coords]:
    """Starts of variables in an exact loop around an innermost one that goes through what one of its iterations takes:
    behind that they are where the next iteration starts.
    """
    following = Binary("+", Index(loop.var), Literal(loop.step, DType.I32))
    inside = _declared(loop.body)
    for s in loop.body:
        if isinstance(s, Loop) and s.exact and s.low == Index(loop.var) and s.high == affine.normal(following):
            for m in plan(kernel, s).moving:
                again = behind(s, m) == started(m.start, loop.var, following)
                if again and not any(free_indices(c) & inside for c in m.start):
                    yield m.start
            return


def started(coords: Coords, var: str, value: Expr) -> Coords:
    """With a value for a variable."""
    return tuple(affine.normal(substitute(c, {var: value})) for c in coords)


def _places(kernel: Kernel, body: Sequence[Statement]) -> Iterator[tuple[bool, Coords]]:
    """Accesses, and which of them store: these share no variable with loads, or a load would wait for the store before
    it.
    """
    for s in body:
        if isinstance(s, Load | Store | Broadcast | ScalarLoad):
            yield from ((isinstance(s, Store), c) for c in accesses(kernel, s))


_Access = tuple[int, tuple[int, ...]]
"""Number of an access, and its distance from the base of its group along each dim."""

_MANY = 8
"""Rows that share a variable, which takes a step more to come back to the first: the open compiler has 32 registers for
these.
"""


def _row(offsets: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*offsets[:dim], *offsets[dim + 1 :])


def _rows(members: Sequence[_Access], dim: int) -> int:
    return len({_row(offsets, dim) for _, offsets in members})


def _by_row(members: Sequence[_Access], dim: int) -> list[list[_Access]]:
    rows: dict[tuple[int, ...], list[_Access]] = {}
    for number, offsets in members:
        rows.setdefault(_row(offsets, dim), []).append((number, offsets))
    return [*rows.values()]


def _moving(loop: Loop, dim: int, base: Coords, members: Sequence[_Access]) -> Moving:
    first = members[0][1]
    entered = {loop.var: loop.low}
    start = tuple(_plus(substitute(c, entered), by) for c, by in zip(base, first, strict=True))
    step = _sign(base[dim], loop.var) * loop.step
    again = tuple(by + (step if n == dim else 0) for n, by in enumerate(first))
    return Moving(start, _advances(members, again))


def _advances(members: Sequence[_Access], end: tuple[int, ...]) -> dict[int, tuple[tuple[int, int], ...]]:
    following = [offsets for _, offsets in members[1:]] + [end]
    steps: dict[int, tuple[tuple[int, int], ...]] = {}
    for (number, here), to in zip(members, following, strict=True):
        step = tuple((n, b - a) for n, (a, b) in enumerate(zip(here, to, strict=True)) if a != b)
        if step:
            steps[number] = step
    return steps


def _split(coords: Coords) -> tuple[Coords, tuple[int, ...]]:
    """Coordinates without their constants, and these."""
    offsets = tuple(affine.polynomial(c).get((), 0) for c in coords)
    return tuple(_plus(c, -by) for c, by in zip(coords, offsets, strict=True)), offsets


def _moves_along(coords: Coords, var: str, inside: frozenset[str]) -> int | None:
    """The dim that is others plus or minus the loop's variable."""
    if any(free_indices(c) & inside for c in coords):
        return None
    along = [n for n, c in enumerate(coords) if var in free_indices(c)]
    if len(along) != 1:
        return None
    (dim,) = along
    return dim if _sign(coords[dim], var) in (1, -1) else None


def _sign(coordinate: Expr, var: str) -> int:
    """By how much a coordinate moves when the variable moves by one; 0 where that is no constant."""
    return affine.coefficient_of(affine.polynomial(coordinate), var) or 0


def _declared(statements: Sequence[Statement]) -> frozenset[str]:
    return frozenset(s.name for s in statements if isinstance(s, ScalarLet | ScalarLoad))


@lru_cache(maxsize=8192)
def _plus(e: Expr, by: int) -> Expr:
    return affine.normal(Binary("+", e, Literal(by, DType.I32)))
