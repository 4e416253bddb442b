"""The members of a piece along dim 0 as a loop of the body, for kernels without other loops.

What is the same for all of them comes in front of it once. What they load comes one member early, while the one before
is computed, as the open compiler overlaps nothing of one iteration with the next, and so does the first half of a long
chain (rotate.py). The last member is written out behind the loop, so that nobody loads an element of another piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tpcgen.kernel.coordinates import members
from tpcgen.kernel.ir import (
    Broadcast,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Loop,
    Note,
    Scalar,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
    VectorOp,
    VType,
    at,
    issued,
    registers_read,
)
from tpcgen.kernel.latency import inlined
from tpcgen.kernel.rotate import Straight, begun, without
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Expr, Index, Literal, free_indices

_KEPT = 16
"""Most registers of the 40 that hold what is the same for all members."""
_LONG = 64
"""Operations of the vector unit beyond which a member does not wait for its loads to speak of."""


def through_the_piece(kernel: Kernel) -> Kernel:
    """The same kernel, the last of the passes; one with loops is as it was."""
    if any(isinstance(s, Loop) for s in kernel.body):
        return kernel
    loop = members(kernel)
    before, inside = _divided(loop)
    body = (*before, *_loads_ahead(kernel, replace(loop, body=tuple(inside))))
    return replace(kernel, member=kernel.body, body=body)


# --- what is the same for all members -------------------------------------------------------------------------------


def _divided(loop: Loop) -> tuple[list[Statement], list[Statement]]:
    """Statements for in front of the loop, and those inside."""
    varying = {loop.var}
    while (more := varying | set(_varying(loop.body, varying))) != varying:
        varying = more
    before = [s for s in loop.body if _is_fixed(s, varying)]
    registers = {s.dest.name: s.dest for s in before if isinstance(s, VectorOp | Load | Broadcast | Invoke)}
    inside = [s for s in loop.body if not _is_fixed(s, varying)]
    read = {name for s in inside for name in _read(s)}
    kept = (r for name, r in registers.items() if name in read and r.type not in (VType.PRED, VType.PRED16))
    return (before, inside) if sum(r.parts for r in kept) <= _KEPT else ([], list(loop.body))


def _varying(body: Sequence[Statement], varying: set[str]) -> Iterator[str]:
    """What statements make that read something that varies."""
    for s in body:
        name = _made(s)
        if name is not None and not varying.isdisjoint(_depends_on(s)):
            yield name


def _is_fixed(s: Statement, varying: set[str]) -> bool:
    name = _made(s)
    return name is not None and name not in varying


def _made(s: Statement) -> str | None:
    match s:
        case VectorOp() | Load() | Broadcast() | Invoke() | LocalLoad():
            return s.dest.name
        case ScalarLet() | ScalarLoad():
            return s.name
        case Store() | LocalStore() | Loop() | Note():
            return None


def _read(s: Statement) -> Iterator[str]:
    """Registers, those among them that a predicate leaves as they were."""
    yield from registers_read(s)
    if isinstance(s, VectorOp) and not s.fresh:
        yield s.dest.name


def _depends_on(s: Statement) -> set[str]:
    return {*registers_read(s), *(i for e in _integers(s) for i in free_indices(e))}


def _integers(s: Statement) -> Iterator[Expr]:
    match s:
        case Load() | Broadcast() | ScalarLoad() | Store():
            yield from s.coords
        case LocalLoad() | LocalStore():
            yield s.at
        case ScalarLet():
            yield s.value
        case VectorOp():
            yield from (a.value for a in s.args if isinstance(a, Scalar))
        case Invoke() | Loop() | Note():
            pass


# --- loads one member early -----------------------------------------------------------------------------------------


def _loads_ahead(kernel: Kernel, loop: Loop) -> Iterator[Statement]:
    local = {s.name for s in loop.body if isinstance(s, ScalarLet | ScalarLoad)}
    loads = [s for s in loop.body if isinstance(s, Load) and local.isdisjoint(_depends_on(s))]
    if len(loads) < 2 or _operations(kernel, loop.body) > _LONG:
        yield loop
        return
    plain = not local and not any(isinstance(s, Invoke | Broadcast) for s in loop.body)
    staged = Straight(kernel, loop.body).first_stage() if plain else None
    early = staged or {n: s for n, s in enumerate(loop.body) if s in loads}
    stores = [s for s in loop.body if isinstance(s, Store)]
    rest = [s for s in without(loop.body, early) if s not in stores]
    step = Literal(loop.step, DType.I32)
    last = Binary("-", loop.high, step)
    yield from (at(s, loop.var, loop.low) for s in early.values())
    ahead = begun([*rest, *stores], early, loop.var, Binary("+", Index(loop.var), step))
    copied = {s.value.name for s in stores} & {s.dest.name for s in early.values()}
    ends = (*stores, *ahead) if copied else (*ahead, *stores)
    yield replace(loop, high=last, body=(*rest, *ends))
    yield from (at(s, loop.var, last) for s in (*rest, *stores) if not isinstance(s, Note))


def _operations(kernel: Kernel, body: Sequence[Statement]) -> int:
    everything = (s for s, _ in inlined(kernel, body, None))
    return sum(issued(s, kernel.target) for s in everything if isinstance(s, VectorOp))
