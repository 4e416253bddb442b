"""Coordinates of the accesses of a loop as `int5` variables that move along with it.

A coordinate that is carried and stepped costs one operation of the scalar slot per access and leaves the loop a
hardware loop; one built from the loop's variable costs both (probes of the open compiler).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tpcgen.kernel.ir import (
    Broadcast,
    Kernel,
    Load,
    Loop,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
    VType,
)
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Expr, Index, Literal, free_indices
from tpcgen.program.substitute import substitute

Coords = tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Moving:
    """A variable that starts at `start` in front of the loop and is at the place of each of its accesses when it comes.

    `dim`: the one that moves. `advances`: what is added after the access of that number, where it is not 0.
    """

    start: Coords
    dim: int
    advances: dict[int, int]


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
            parts = 1 if s.value.type is VType.BF16 else kernel.lanes.parts
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
    groups: dict[tuple[bool, int, Coords], list[tuple[int, int]]] = {}
    for number, (stored, coords) in enumerate(_places(kernel, loop.body)):
        split = _split(coords, loop.var, inside)
        if split is not None:
            dim, base, offset = split
            groups.setdefault((stored, dim, base), []).append((number, offset))
    moving: list[Moving] = []
    uses: dict[int, int] = {}
    for (_, dim, base), members in groups.items():
        uses |= {number: len(moving) for number, _ in members}
        moving.append(_moving(loop, dim, base, members))
    return Plan(tuple(moving), uses)


def _places(kernel: Kernel, body: Sequence[Statement]) -> Iterator[tuple[bool, Coords]]:
    """Accesses, and which of them store: these share no variable with loads, or a load would wait for the store before
    it.
    """
    for s in body:
        if isinstance(s, Load | Store | Broadcast | ScalarLoad):
            yield from ((isinstance(s, Store), c) for c in accesses(kernel, s))


def _moving(loop: Loop, dim: int, base: Coords, members: Sequence[tuple[int, int]]) -> Moving:
    first, sign = members[0][1], _sign(base[dim], loop.var)
    following = [offset for _, offset in members[1:]] + [first + sign * loop.step]
    advances = {number: to - at for (number, at), to in zip(members, following, strict=True) if to != at}
    entered = {loop.var: _plus(loop.low, sign * first)}
    return Moving(tuple(_normal(substitute(c, entered)) for c in base), dim, advances)


def _split(coords: Coords, var: str, inside: frozenset[str]) -> tuple[int, Coords, int] | None:
    """(dim, coordinates without the constant there, that constant) where one dim is others plus or minus the loop's
    variable.
    """
    if any(free_indices(c) & inside for c in coords):
        return None
    along = [n for n, c in enumerate(coords) if var in free_indices(c)]
    if len(along) != 1:
        return None
    (dim,) = along
    if _sign(coords[dim], var) not in (1, -1):
        return None
    offset = affine.polynomial(coords[dim]).get((), 0)
    return dim, (*coords[:dim], _plus(coords[dim], -offset), *coords[dim + 1 :]), offset


def _sign(coordinate: Expr, var: str) -> int:
    """By how much a coordinate moves when the variable moves by one; 0 where that is no constant."""
    return affine.coefficient_of(affine.polynomial(coordinate), var) or 0


def _declared(statements: Sequence[Statement]) -> frozenset[str]:
    return frozenset(s.name for s in statements if isinstance(s, ScalarLet | ScalarLoad))


def _plus(e: Expr, by: int) -> Expr:
    return _normal(Binary("+", e, Literal(by, DType.I32)))


def _normal(e: Expr) -> Expr:
    return affine.expression(affine.polynomial(e))
