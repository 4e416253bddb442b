"""The first part of a loop's work one iteration ahead: while an iteration ends, the next one begins.

The open compiler overlaps nothing of one iteration with the next. Without this every iteration starts with the bundles
of its loads and waits for its chain of operations. So the loads come one iteration early, elements for all lanes too
where there are registers for them, and where a chain is long against what the loop issues, the operations of its first
half with them: the loop has two stages then. The last iteration begins what nobody ends, of elements further along a
dim that members run through, or of zeros from outside the tensor; an element for all lanes is not read there, as it
need not exist.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

from tpcgen.kernel.ir import (
    Broadcast,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Loop,
    Reg,
    ScalarLet,
    ScalarLoad,
    Statement,
    VectorOp,
    at,
    innermost_replaced,
    issued,
    registers_read,
    walk,
)
from tpcgen.kernel.latency import inlined, issues
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Expr, Index, Literal, free_indices

_REGISTERS = 40
_LONG = 0.75
"""Of the slots of the vector unit: a shorter chain is hidden by the rows in flight."""
_MIDDLE = 0.7
"""Of the chain, what a stage may have: where in between least is kept, it is cut."""
_EARLY = 24
"""Registers of the 40 that elements, each in all lanes, may take with vectors and what comes from outside of the loop,
if they are loaded early: what is computed needs the others.
"""
_WORTH = 0.85
"""Of the chain behind loads that come early: one of accumulators cannot be cut, and a stage costs one at the start."""


def loads_ahead(kernel: Kernel) -> Kernel:
    """The same kernel, its hot loops rotated: those without loops inside that test no condition."""
    body = innermost_replaced(kernel.body, lambda loop: _rotated(kernel, loop))
    called = {s.function for s in walk(body) if isinstance(s, Invoke)}
    called |= {s.function for s in walk(kernel.setup) if isinstance(s, Invoke)}
    return replace(kernel, body=body, functions=tuple(f for f in kernel.functions if f.name in called))


def _rotated(kernel: Kernel, loop: Loop) -> Iterator[Statement]:
    loads = {n: s for n, s in enumerate(loop.body) if isinstance(s, Load) and loop.var in _indices(s)}
    straight = Straight(kernel, [s for s, _ in inlined(kernel, loop.body, None)])
    elements = loads | _elements(loop, straight, loads)
    if loop.few or len(elements) < 2 or _depends_on_the_iteration(loop.body):
        yield loop
        return
    staged = straight.first_stage() if len(loads) > 1 else None
    body, early = (loop.body, elements) if staged is None else (straight.body, staged)
    yield from (_left(at(s, loop.var, loop.low), loop.high, loop.low) for s in early.values())
    rest = without(body, early)
    following = Binary("+", Index(loop.var), Literal(loop.step, DType.I32))
    ahead = [_left(s, loop.high, following) for s in begun(rest, early, loop.var, following)]
    kept = [s for s in rest if isinstance(s, LocalStore)]
    if kept and {s.value.name for s in kept}.isdisjoint(s.dest.name for s in early.values()):
        rest, ahead = [s for s in rest if s not in kept], [*ahead, *kept]
    yield replace(loop, body=(*rest, *ahead))


def _elements(loop: Loop, straight: Straight, loads: Mapping[int, Load]) -> dict[int, Broadcast]:
    """Elements that an iteration reads, if there are registers for all of them. Beside local memory, whose loads come
    at once, what waits for elements can wait for them.
    """
    if any(isinstance(s, LocalLoad | LocalStore) for s in loop.body):
        return {}
    found = {n: s for n, s in enumerate(loop.body) if isinstance(s, Broadcast) and loop.var in _indices(s)}
    early = sum(s.dest.parts for s in loads.values())
    return found if early + straight.outer <= _EARLY else {}


def _left(s: Statement, high: Expr, here: Expr) -> Statement:
    """An element exists only if its iteration does."""
    if not isinstance(s, Broadcast):
        return s
    left = affine.normal(Binary("-", high, here))
    return replace(s, left=left if s.left is None else Call("min", (s.left, left)))


def without(body: Sequence[Statement], early: Container[int]) -> list[Statement]:
    return [s for n, s in enumerate(body) if n not in early]


Early = Mapping[int, Load | Broadcast | VectorOp]
"""Statements that begin an iteration ahead, by their places in the body."""


@dataclass(frozen=True)
class Straight:
    """The body of a loop without loops and with its calls written out."""

    kernel: Kernel
    body: Sequence[Statement]

    @cached_property
    def reads(self) -> list[frozenset[str]]:
        return [frozenset(registers_read(s)) for s in self.body]

    @cached_property
    def changed(self) -> frozenset[str]:
        """Accumulators."""
        return frozenset(s.dest.name for s in self.body if isinstance(s, VectorOp) and not s.fresh)

    @cached_property
    def outer(self) -> int:
        """Registers from outside of the loop."""
        made = {s.dest.name for s in self.body if isinstance(s, Load | VectorOp) and s.fresh}
        named = (o for s in self.body if isinstance(s, VectorOp) for o in (*s.args, s.dest) if isinstance(o, Reg))
        return sum(parts for name, parts in {o.name: o.parts for o in named}.items() if name not in made)

    def first_stage(self) -> Early | None:
        """None where the slots are full anyway, or where what lives at the widest place of the chain, in all rows at
        once, does not fit the registers: the open compiler spills then, and more than staging gains.
        """
        when = issues(self.kernel, self.body)
        length = max(when)
        if length < _LONG * sum(_slots(self.kernel, s) for s in self.body):
            return None
        cuts = {cut: self._first(when, cut) for cut in sorted(set(when))}
        kept = {cut: self._kept(early) for cut, early in cuts.items()}
        if max(kept.values()) >= _REGISTERS:
            return None
        middle = [cut for cut in cuts if max(cut, length - cut) <= _MIDDLE * length] or list(cuts)
        early = cuts[min(middle, key=lambda cut: (kept[cut], cut))]
        return early if self._chain(early) <= _WORTH * self._chain(cuts[0]) else None

    def _first(self, issued: Sequence[int], cut: int) -> Early:
        """Loads and what is issued before `cut`, accumulators and what depends on them left out. A bit cast is no
        register: it stays with who reads it.
        """
        early: dict[int, Load | VectorOp] = {}
        late = set(self.changed)
        for n, (s, reads, when) in enumerate(zip(self.body, self.reads, issued, strict=True)):
            if isinstance(s, Broadcast | LocalLoad):
                late.add(s.dest.name)
            if not isinstance(s, Load | VectorOp):
                continue
            if isinstance(s, Load) or (when < cut and s.fresh and late.isdisjoint(reads)):
                early[n] = s
            else:
                late.add(s.dest.name)
        while casts := self._casts_of_the_rest(early):
            early = {n: s for n, s in early.items() if n not in casts}
        return early

    def _casts_of_the_rest(self, early: Early) -> set[int]:
        read = self._read_late(early)
        return {n for n, s in early.items() if _is_cast(s) and s.dest.name in read}

    def _read_late(self, early: Early) -> set[str]:
        return {name for n, reads in enumerate(self.reads) if n not in early for name in reads}

    def _kept(self, early: Early) -> int:
        """Registers that live from one iteration to the next, and those from outside of the loop."""
        read = self._read_late(early)
        carried = {s.dest.name: s.dest.parts for s in early.values() if s.dest.name in read}
        return sum(carried.values()) + self.outer

    def _chain(self, early: Early) -> int:
        """The longer of the two stages' chains."""
        stages = (list(early.values()), without(self.body, early))
        return max(when for stage in stages for when in issues(self.kernel, stage))


def _slots(kernel: Kernel, s: Statement) -> int:
    return issued(s, kernel.target) if isinstance(s, VectorOp) else 0


def begun(rest: Sequence[Statement], early: Early, var: str, following: Expr) -> list[Statement]:
    """The first stage of the next iteration, in this one: it fills what the rest of the loop has read; what only the
    first stage knows is named apart.
    """
    own = {s.dest.name for s in early.values()} - {name for s in rest for name in registers_read(s)}
    return [_ahead(at(s, var, following), own) for s in early.values()]


def _ahead(s: Statement, own: Set[str]) -> Load | Broadcast | VectorOp:
    assert isinstance(s, Load | Broadcast | VectorOp)
    fresh = s.dest.name in own
    dest = _named_apart(s.dest, own)
    if isinstance(s, Load | Broadcast):
        return replace(s, dest=dest, fresh=fresh)
    args = tuple(_named_apart(a, own) if isinstance(a, Reg) else a for a in s.args)
    return replace(s, dest=dest, args=args, fresh=fresh)


def _named_apart(r: Reg, own: Set[str]) -> Reg:
    return replace(r, name=f"{r.name}+") if r.name in own else r


def _is_cast(s: Statement) -> bool:
    return isinstance(s, VectorOp) and s.op in ("bits", "unbits")


def _depends_on_the_iteration(body: Sequence[Statement]) -> bool:
    """A condition, or a scalar that is computed there."""
    return any(isinstance(s, ScalarLet | ScalarLoad) or (isinstance(s, VectorOp) and s.pred is not None) for s in body)


def _indices(load: Load | Broadcast) -> frozenset[str]:
    return frozenset(i for c in load.coords for i in free_indices(c))
