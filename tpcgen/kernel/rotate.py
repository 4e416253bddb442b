"""The first part of a loop's work one iteration ahead: while an iteration ends, the next one begins.

The open compiler overlaps nothing of one iteration with the next. Without this every iteration starts with the bundles
of its loads and waits for its chain of operations. So the loads come one iteration early, and where a chain is long
against what the loop issues, the operations of its first half with them: the loop has two stages then. The last
iteration begins what nobody ends, of elements further along a dim that members run through, or of zeros from outside
the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import TypeGuard

from tpcgen.kernel.ir import (
    OPS,
    Broadcast,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    Loop,
    Operand,
    Reg,
    Scalar,
    ScalarLet,
    ScalarLoad,
    Statement,
    VectorOp,
    on_both_parts,
    registers_read,
    walk,
)
from tpcgen.kernel.latency import inlined, issues
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Binary, Expr, Index, Literal, free_indices
from tpcgen.program.substitute import substitute

_REGISTERS = 40
_LONG = 0.75
"""Of the slots of the vector unit: a shorter chain is hidden by the rows in flight."""
_MIDDLE = 0.7
"""Of the chain, what a stage may have: where in between least is kept, it is cut."""
_WORTH = 0.85
"""Of the chain behind loads that come early: one of accumulators cannot be cut, and a stage costs one at the start."""


def loads_ahead(kernel: Kernel) -> Kernel:
    """The same kernel, its hot loops rotated: those without loops inside that test no condition."""
    body = tuple(_block(kernel, kernel.body))
    called = {s.function for s in walk(body) if isinstance(s, Invoke)}
    called |= {s.function for s in walk(kernel.setup) if isinstance(s, Invoke)}
    return replace(kernel, body=body, functions=tuple(f for f in kernel.functions if f.name in called))


def _block(kernel: Kernel, statements: Sequence[Statement]) -> Iterator[Statement]:
    for s in statements:
        if not isinstance(s, Loop):
            yield s
        elif any(isinstance(x, Loop) for x in s.body):
            yield replace(s, body=tuple(_block(kernel, s.body)))
        else:
            yield from _rotated(kernel, s)


def _rotated(kernel: Kernel, loop: Loop) -> Iterator[Statement]:
    loads = [s for s in loop.body if isinstance(s, Load) and loop.var in _indices(s)]
    if len(loads) < 2 or _depends_on_the_iteration(loop.body):
        yield loop
        return
    body, early = _staged(kernel, loop) or (loop.body, loads)
    for s in early:
        yield _at(s, loop.var, loop.low)
    rest = [s for s in body if s not in early]
    own = {s.dest.name for s in early} - {name for s in rest for name in registers_read(s)}
    following = Binary("+", Index(loop.var), Literal(loop.step, DType.I32))
    ahead = [_ahead(_at(s, loop.var, following), own) for s in early]
    yield replace(loop, body=(*rest, *ahead))


def _staged(kernel: Kernel, loop: Loop) -> tuple[list[Statement], list[Load | VectorOp]] | None:
    """The body with its calls written out, and which of it to begin an iteration ahead. None where the slots are full
    anyway, or where what lives at the widest place of the chain, in all rows at once, does not fit the registers: the
    open compiler spills then, and more than staging gains.
    """
    body = [s for s, _ in inlined(kernel, loop.body, None)]
    at = issues(kernel, body)
    length = max(at)
    if length < _LONG * sum(_slots(kernel, s) for s in body):
        return None
    cuts = {cut: _first(body, at, cut) for cut in sorted(set(at))}
    kept = {cut: _kept(body, early) for cut, early in cuts.items()}
    if max(kept.values()) >= _REGISTERS:
        return None
    middle = [cut for cut in cuts if max(cut, length - cut) <= _MIDDLE * length] or list(cuts)
    early = cuts[min(middle, key=lambda cut: (kept[cut], cut))]
    if _chain(kernel, body, early) > _WORTH * _chain(kernel, body, cuts[0]):
        return None
    return body, early


def _chain(kernel: Kernel, body: Sequence[Statement], early: Sequence[Statement]) -> int:
    """The longer of the two stages' chains."""
    rest = [s for s in body if s not in early]
    return max(*issues(kernel, early), *issues(kernel, rest))


def _slots(kernel: Kernel, s: Statement) -> int:
    if not isinstance(s, VectorOp):
        return 0
    return 1 if on_both_parts(s, kernel.target) else OPS[s.op].vpu * s.dest.parts


def _first(body: Sequence[Statement], at: Sequence[int], cut: int) -> list[Load | VectorOp]:
    """Loads and what is issued before `cut`, accumulators and what depends on them left out. A bit cast is no register:
    it stays with who reads it.
    """
    changed = {s.dest.name for s in body if isinstance(s, VectorOp) and not s.fresh}
    early: list[Load | VectorOp] = []
    late = set(changed)
    for s, when in zip(body, at, strict=True):
        if isinstance(s, Broadcast | LocalLoad):
            late.add(s.dest.name)
        if not isinstance(s, Load | VectorOp):
            continue
        if isinstance(s, Load) or (when < cut and s.fresh and late.isdisjoint(registers_read(s))):
            early.append(s)
        else:
            late.add(s.dest.name)
    while casts := _casts_of_the_rest(body, early):
        early = [s for s in early if s not in casts]
    return early


def _casts_of_the_rest(body: Sequence[Statement], early: Sequence[Statement]) -> list[Statement]:
    read = {name for s in body if s not in early for name in registers_read(s)}
    return [s for s in early if _is_cast(s) and s.dest.name in read]


def _kept(body: Sequence[Statement], early: Sequence[Load | VectorOp]) -> int:
    """Registers that live from one iteration to the next, and those from outside of the loop."""
    own = {s.dest.name: s.dest.parts for s in early}
    read = {name for s in body if s not in early for name in registers_read(s)}
    made = {s.dest.name for s in body if isinstance(s, Load | VectorOp) and s.fresh}
    outer = {o.name: o.parts for s in body if isinstance(s, VectorOp) for o in (*s.args, s.dest) if isinstance(o, Reg)}
    carried = sum(parts for name, parts in own.items() if name in read)
    return carried + sum(parts for name, parts in outer.items() if name not in made)


def _ahead(s: Load | VectorOp, own: Set[str]) -> Load | VectorOp:
    """Fills what the rest of the loop has read; what only the first stage knows, `own`, is named apart in the loop."""
    fresh = s.dest.name in own
    dest = _named_apart(s.dest, own)
    if isinstance(s, Load):
        return replace(s, dest=dest, fresh=fresh)
    args = tuple(_named_apart(a, own) if isinstance(a, Reg) else a for a in s.args)
    return replace(s, dest=dest, args=args, fresh=fresh)


def _named_apart(r: Reg, own: Set[str]) -> Reg:
    return replace(r, name=f"{r.name}+") if r.name in own else r


def _is_cast(s: Statement) -> TypeGuard[VectorOp]:
    return isinstance(s, VectorOp) and s.op in ("bits", "unbits")


def _depends_on_the_iteration(body: Sequence[Statement]) -> bool:
    """A condition, or a scalar that is computed there."""
    return any(isinstance(s, ScalarLet | ScalarLoad) or (isinstance(s, VectorOp) and s.pred is not None) for s in body)


def _indices(load: Load) -> frozenset[str]:
    return frozenset(i for c in load.coords for i in free_indices(c))


def _at(s: Load | VectorOp, var: str, value: Expr) -> Load | VectorOp:
    if isinstance(s, Load):
        return replace(s, coords=tuple(_valued(c, var, value) for c in s.coords))
    return replace(s, args=tuple(_operand_at(a, var, value) for a in s.args))


def _operand_at(o: Operand, var: str, value: Expr) -> Operand:
    if isinstance(o, Scalar) and not (isinstance(o.value, Attr)) and var in free_indices(o.value):
        return Scalar(_valued(o.value, var, value))
    return o


def _valued(e: Expr, var: str, value: Expr) -> Expr:
    return affine.expression(affine.polynomial(substitute(e, {var: value})))
