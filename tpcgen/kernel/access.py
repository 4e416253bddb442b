"""Access patterns: which elements of each tensor a member of the index space may touch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpcgen.kernel.bounds import integer, plus
from tpcgen.kernel.inside import Inside
from tpcgen.kernel.ir import AxisAccess, Broadcast, Kernel, Load, Loop, ScalarLoad, Statement, Store, TensorParam
from tpcgen.program import affine
from tpcgen.program.ir import Binary, Call, Expr, Index, Program, free_indices

ALL = AxisAccess(0, 0, 0, 0, all_required=True)


def access_patterns(kernel: Kernel, program: Program) -> tuple[tuple[AxisAccess, ...], ...]:
    """Per tensor of `kernel.tensors`, one entry per dim in TPC order; `program` is that of the kernel's stage.

    Exact where a coordinate is a multiple of one member coordinate plus a constant; a dim that a member runs through,
    or addresses in any other way, is `all_required`. So is one where the first or the last member may be outside the
    tensor, as in a tile that reaches beyond it: the graph compiler refuses such a pattern.
    """
    inside = Inside(program)
    members = {d.name: (n, d.step) for n, d in enumerate(kernel.index_space)}
    found: dict[str, list[AxisAccess]] = {}
    for tensor, coords, lanes in _accesses(kernel, (*kernel.setup, *(kernel.member or kernel.body))):
        axes = [_axis(c, lanes if axis == 0 else 1, members) for axis, c in enumerate(coords)]
        known = found.get(tensor)
        found[tensor] = axes if known is None else [_union(a, b) for a, b in zip(known, axes, strict=True)]
    return tuple(tuple(_within(t, found.get(t.name, []), kernel, inside)) for t in kernel.tensors)


def _within(tensor: TensorParam, axes: Sequence[AxisAccess], kernel: Kernel, inside: Inside) -> Iterator[AxisAccess]:
    for size, access in zip(tensor.sizes, axes or [ALL] * len(tensor.sizes), strict=True):
        dim = kernel.index_space[access.index_dim]
        first = plus(Binary("*", integer(access.a // dim.step), Index(dim.name)), access.start)
        at_start = access.end >= 0
        at_end = access.start == access.a == 0 or inside.before_end(first, size)
        yield access if access.all_required or (at_start and at_end) else ALL


def _accesses(kernel: Kernel, statements: Sequence[Statement]) -> Iterator[tuple[str, tuple[Expr, ...], int]]:
    """(tensor, coordinates, elements along dim 0) of every access."""
    for s in statements:
        match s:
            case Load():
                yield s.tensor, s.coords, kernel.lanes.step
            case Store():
                yield s.tensor, s.coords, 1 if s.single else kernel.lanes.step
            case Broadcast() | ScalarLoad():
                yield s.tensor, s.coords, 1
            case Loop():
                yield from _accesses(kernel, s.body)
            case _:
                pass


def _axis(coordinate: Expr, length: int, members: dict[str, tuple[int, int]]) -> AxisAccess:
    inside = _unclamped(coordinate, members)
    poly = affine.polynomial(inside)
    offset = poly.get((), 0)
    terms = {m: c for m, c in poly.items() if m}
    if not terms:
        return AxisAccess(0, 0, offset, offset + length - 1)
    if len(terms) != 1:
        return ALL
    ((monomial, factor),) = terms.items()
    if len(monomial) != 1 or not isinstance(monomial[0], Index) or monomial[0].name not in members or factor < 0:
        return ALL
    dim, step = members[monomial[0].name]
    return AxisAccess(dim, factor * step, offset, offset + length - 1)


def _unclamped(coordinate: Expr, members: dict[str, tuple[int, int]]) -> Expr:
    """Without a clamp to the tensor's last element: what it moves inside stays between the member's first element and
    the unclamped one, and the member touches its first element too."""
    match coordinate:
        case Call(function="min", arguments=(a, b)):
            inner = [x for x in (a, b) if free_indices(x) & set(members)]
            return inner[0] if len(inner) == 1 else coordinate
        case _:
            return coordinate


def _union(a: AxisAccess, b: AxisAccess) -> AxisAccess:
    if a.all_required or b.all_required or (a.index_dim, a.a) != (b.index_dim, b.a):
        return a if a == b else ALL
    return AxisAccess(a.index_dim, a.a, min(a.start, b.start), max(a.end, b.end))
