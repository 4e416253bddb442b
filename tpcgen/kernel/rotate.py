"""Loads of a loop one iteration ahead: while an iteration computes, the next one's operands arrive.

The open compiler overlaps nothing of one iteration with the next, so that without this every iteration starts with the
bundles of its loads. The last iteration loads what nobody uses, from elements further along a dim that members run
through, or from outside the tensor, which reads 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tpcgen.kernel.ir import (
    Kernel,
    Load,
    Loop,
    ScalarLet,
    ScalarLoad,
    Statement,
    VectorOp,
    registers_read,
)
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Expr, Index, Literal, free_indices
from tpcgen.program.substitute import substitute


def loads_ahead(kernel: Kernel) -> Kernel:
    """The same kernel, its hot loops rotated: those without loops inside that test no condition."""
    return replace(kernel, body=tuple(_block(kernel.body)))


def _block(statements: Sequence[Statement]) -> Iterator[Statement]:
    for s in statements:
        if not isinstance(s, Loop):
            yield s
        elif any(isinstance(x, Loop) for x in s.body):
            yield replace(s, body=tuple(_block(s.body)))
        else:
            yield from _rotated(s)


def _rotated(loop: Loop) -> Iterator[Statement]:
    loads = [s for s in loop.body if isinstance(s, Load) and loop.var in _indices(s)]
    if len(loads) < 2 or _depends_on_the_iteration(loop.body):
        yield loop
        return
    for load in loads:
        yield replace(load, coords=_at(load.coords, loop.var, loop.low))
    rest = [s for s in loop.body if s not in loads]
    following = Binary("+", Index(loop.var), Literal(loop.step, DType.I32))
    ahead = [replace(load, coords=_at(load.coords, loop.var, following), fresh=False) for load in loads]
    yield replace(loop, body=tuple(_placed(rest, ahead)))


def _placed(body: Sequence[Statement], loads: Sequence[Load]) -> Iterator[Statement]:
    """Each load after the last use of the register it fills."""
    last = {load.dest.name: max(n for n, s in enumerate(body) if load.dest.name in registers_read(s)) for load in loads}
    for n, s in enumerate(body):
        yield s
        yield from (load for load in loads if last[load.dest.name] == n)


def _depends_on_the_iteration(body: Sequence[Statement]) -> bool:
    """A condition, or a scalar that is computed there."""
    return any(isinstance(s, ScalarLet | ScalarLoad) or (isinstance(s, VectorOp) and s.pred is not None) for s in body)


def _indices(load: Load) -> frozenset[str]:
    return frozenset(i for c in load.coords for i in free_indices(c))


def _at(coords: Sequence[Expr], var: str, value: Expr) -> tuple[Expr, ...]:
    return tuple(affine.expression(affine.polynomial(substitute(c, {var: value}))) for c in coords)
