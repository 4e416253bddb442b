"""Puts intermediates between contractions into their readers.

    S[b,h,q,k] = rsqrt(D) * S_dot[b,h,q,k]
    P[b,h,q,k] = softmax[k where k <= q](S[b,h,q,k])

becomes `P[b,h,q,k] = softmax[k where k <= q](rsqrt(D) * S_dot[b,h,q,k])`: what is stored between two engines is what
one of them needs, nothing else. Kept are contractions and their operands, outputs, and reductions that would be
computed again: from larger tensors, where a later stage (one that waits for another contraction) reads them; at every
e, where `X[b,h,q,e] / Z[b,h,q]` reads a sum over k. So are sums that are summed again: each of the first is a member of
the index space, all of them in one would be one member's work.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tpcgen.program import ir
from tpcgen.program.substitute import substitute, with_children
from tpcgen.rewrite.copies import copy_of
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    Recurrence,
    definitions,
    names_in_use,
    parts_of,
    reads,
    rebuilt,
    writes,
)
from tpcgen.rewrite.last_states import states_of
from tpcgen.rewrite.split_contractions import matmul_of


def inline_maps(program: ir.Program) -> ir.Program:
    inliner = _Inliner(program)
    parts = [inliner.part(p) for p in parts_of(program)]
    return rebuilt(program, parts, inliner.new_indices)


def phases(program: ir.Program) -> dict[str, int]:
    """Per tensor: the most contractions and scans on a path that leads to it."""
    result = dict.fromkeys((t.name for t in program.inputs), 0)
    for statement in program.body:
        before = max((result[t] for t in reads(statement)), default=0)
        alone = isinstance(statement, ir.Scan) or matmul_of(statement, program) is not None
        for name in writes(statement):
            result[name] = max(before + alone, result.get(name, 0))
    return result


@dataclass
class _Inliner:
    program: ir.Program
    known: dict[str, Definition] = field(default_factory=dict[str, Definition])
    new_indices: list[ir.IndexRange] = field(default_factory=list[ir.IndexRange])

    def __post_init__(self) -> None:
        self.phase = phases(self.program)
        self.pieces: dict[str, list[ir.Equation]] = {}
        for d in definitions(self.program):
            self.pieces.setdefault(d.tensor.name, []).append(d.equation)
        self.names = names_in_use(self.program)
        self.states = states_of(self.program).keys()

    def part(self, d: Part) -> Part:
        if isinstance(d, Recurrence):
            return d
        e = d.equation
        if matmul_of(e, self.program) is None and copy_of(self.pieces[e.target], self.program) is None:
            phase = max((self.phase[t] for t in reads(e)), default=0)
            points = frozenset(e.indices)
            domain = self._visit(e.domain, phase, points) if e.domain is not None else None
            value = _stored(self._visit(e.value, phase, points), d.tensor)
            e = ir.Equation(e.target, e.indices, value, domain, span=e.span)
            d = Definition(d.tensor, e)
            if d.tensor.role is ir.Role.INTERMEDIATE and e.domain is None and not reads(e) & self.states:
                self.known[d.tensor.name] = d
        return d

    def _visit(self, e: ir.Expr, phase: int, points: frozenset[str], summed: frozenset[str] = frozenset()) -> ir.Expr:
        """`points`: the indices whose every value it is computed at, `summed`: those that a reduction runs over."""
        if isinstance(e, ir.Reduce):
            points |= frozenset(e.indices)
            summed = summed if e.kind in ir.KEEPS_INDICES else summed | frozenset(e.indices)
        e = with_children(e, [self._visit(c, phase, points, summed) for c in ir.children(e)])
        if not isinstance(e, ir.Read) or e.tensor not in self.known:
            return e
        d = self.known[e.tensor]
        if _reduces(d.equation.value) and ir.free_indices(e) & summed:
            return e
        if _is_table(d) or (self.phase[e.tensor] < phase and not _cheap(d)):
            return e
        if not _reduces_once(d.equation, e, points):
            return e
        value = self._instance(d.equation, e)
        if value is None:
            return e
        rounds = d.tensor.dtype.is_float and d.tensor.dtype.size < 4
        return ir.Cast(d.tensor.dtype, value, span=value.span) if rounds else value

    def _instance(self, equation: ir.Equation, read: ir.Read) -> ir.Expr | None:
        """The right side at the read's indices; None where the language cannot say it (a softmax read at k + 1)."""
        values = dict(zip(equation.indices, read.indices, strict=True))
        moved = {i: v for i, v in values.items() if v != ir.Index(i)}
        if not moved:
            return equation.value
        try:
            return substitute(self._renamed(equation.value, moved), moved)
        except ValueError:
            return None

    def _renamed(self, e: ir.Expr, moved: dict[str, ir.Expr]) -> ir.Expr:
        """Bound indices that a moved index would be captured by get names of their own; kept ones move along."""
        e = with_children(e, [self._renamed(c, moved) for c in ir.children(e)])
        if not isinstance(e, ir.Reduce):
            return e
        coming = frozenset[str]().union(*(ir.free_indices(v) for v in moved.values()))
        for index in e.indices:
            if e.kind not in ir.KEEPS_INDICES and index in coming:
                e = _rebound(e, index, self._fresh(index))
            elif e.kind in ir.KEEPS_INDICES and index in moved:
                e = self._kept(e, index, moved[index])
        return e

    def _kept(self, e: ir.Reduce, index: str, value: ir.Expr) -> ir.Reduce:
        if not isinstance(value, ir.Index) or value.name in ir.free_indices(e):
            raise ValueError(f"{e.kind} keeps {index}")
        old, new = self.program.range_of(index), self.program.range_of(value.name)
        if (old.low, old.high) != (new.low, new.high):
            raise ValueError(f"{index} and {value.name} have different ranges")
        return _rebound(e, index, value.name)

    def _fresh(self, index: str) -> str:
        name = self.names.fresh(index)
        old = self.program.range_of(index)
        self.new_indices.append(ir.IndexRange(name, old.low, old.high, span=old.span))
        return name


def _stored(value: ir.Expr, tensor: ir.Tensor) -> ir.Expr:
    """Without a cast that the store does anyway."""
    while isinstance(value, ir.Cast) and value.dtype is tensor.dtype and tensor.dtype.is_float:
        value = value.operand
    return value


def _is_table(d: Definition) -> bool:
    """Counts, and places that a table and a division give, become indices and conditions of every point around them:
    computed once.
    """
    parts = [*ir.walk(d.equation.value)]
    counts = any(isinstance(e, ir.Reduce) for e in parts)
    reads_table = any(isinstance(e, ir.Read) for e in parts)
    divides = any(isinstance(e, ir.Binary) and e.operator in ("//", "%") for e in parts)
    return d.tensor.dtype.is_integer and (counts or (reads_table and divides))


def _reduces(e: ir.Expr) -> bool:
    return any(isinstance(x, ir.Reduce) and x.kind not in ir.KEEPS_INDICES for x in ir.walk(e))


def _reduces_once(equation: ir.Equation, read: ir.Read, points: frozenset[str]) -> bool:
    """Whether each reduction of a tensor that is in no other runs over all of `points` that it does not see where it is
    read: a kernel that has these inside of its rows computes it once a row."""
    coming = {i: ir.free_indices(v) for i, v in zip(equation.indices, read.indices, strict=True)}

    def once(e: ir.Expr) -> bool:
        if isinstance(e, ir.Reduce):
            seen = frozenset[str]().union(*(coming.get(i, frozenset({i})) for i in ir.free_indices(e)))
            return points - seen <= frozenset(e.indices)
        return all(map(once, ir.children(e)))

    return once(equation.value)


def _cheap(d: Definition) -> bool:
    """A map of at most one tensor as large as itself: reading that costs a later stage no more than reading this."""
    value = d.equation.value
    if any(isinstance(e, ir.Reduce) for e in ir.walk(value)):
        return False
    large = {e for e in ir.walk(value) if isinstance(e, ir.Read) and len(e.indices) >= len(d.equation.indices)}
    return len(large) <= 1


def _rebound(e: ir.Reduce, old: str, new: str) -> ir.Reduce:
    to = {old: ir.Index(new)}
    indices = tuple(new if i == old else i for i in e.indices)
    domain = substitute(e.domain, to) if e.domain is not None else None
    return ir.Reduce(e.kind, indices, domain, e.sink, substitute(e.body, to), span=e.span)
