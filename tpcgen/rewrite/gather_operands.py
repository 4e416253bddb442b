"""Gives contractions whose operand is read through a table an operand that is stored as the contraction walks it.

    S_dot[b,h,k] = sum[d](Q[b,h,d] * Kc[page[b, k // BS], h // R, k % BS, d])

becomes

    Kc_g[b,h_2,k,d] = Kc[page[b, k // BS], h_2, k % BS, d]
    S_dot[b,h,k] = sum[d](Q[b,h,d] * Kc_g[b, h // R, k, d])

Axes that no table is involved in keep their extent: heads that share a key share its copy. Where the other operand is
known to be absent (`k < len[b]`), nothing is read: a stale page may hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tpcgen.program import ir
from tpcgen.program.contractions import Contraction
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames, with_children
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    Recurrence,
    conjunction,
    conjuncts,
    names_in_use,
    parts_of,
    rebuilt,
)
from tpcgen.rewrite.split_contractions import contraction_of
from tpcgen.rewrite.support import Supports, UndeterminedError, exists


def gather_operands(program: ir.Program) -> ir.Program:
    names = names_in_use(program)
    result: list[Part] = []
    ranges: list[ir.IndexRange] = []
    for part in parts_of(program):
        found = None if isinstance(part, Recurrence) else contraction_of(part.equation, program)
        if found is None or isinstance(part, Recurrence):
            result.append(part)
            continue
        step = _Step(program, part, found, names)
        result += step.run()
        ranges += step.ranges
    return rebuilt(program, result, ranges)


def through_table(read: ir.Read) -> bool:
    """Whether an index of the read is itself read from a tensor."""
    return any(isinstance(x, ir.Read) for index in read.indices for x in ir.walk(index))


@dataclass
class _Step:
    program: ir.Program
    part: Definition
    contraction: Contraction
    names: FreshNames

    def __post_init__(self) -> None:
        self.made: list[Definition] = []
        self.ranges: list[ir.IndexRange] = []

    def run(self) -> list[Definition]:
        c = self.contraction
        left = self._visit(c.left, self._visited(c.right, c.columns))
        right = self._visit(c.right, self._visited(c.left, c.rows))
        if not self.made:
            return [self.part]
        e = self.part.equation
        product = ir.Binary("*", left, right, span=c.left.span)
        value = ir.Reduce("sum", c.summed, c.domain, None, product, span=e.value.span)
        return [*self.made, replace(self.part, equation=replace(e, value=value))]

    def _visited(self, partner: ir.Expr, others: tuple[str, ...]) -> tuple[ir.Expr, ...]:
        """What holds wherever some point of the partner is present; `others` are the partner's own indices."""
        try:
            support = Supports(self.program).of(partner).where
        except UndeterminedError:
            return ()
        return conjuncts(exists(support, others, self.program))

    def _visit(self, e: ir.Expr, visited: tuple[ir.Expr, ...]) -> ir.Expr:
        if isinstance(e, ir.Read) and through_table(e):
            return self._gathered(e, visited)
        return with_children(e, [self._visit(c, visited) for c in ir.children(e)])

    def _gathered(self, e: ir.Read, visited: tuple[ir.Expr, ...]) -> ir.Read:
        source = self.program.tensor(e.tensor)
        tabled = {i for index in e.indices if _reads(index) for i in ir.free_indices(index)}
        inside: list[ir.Expr] = []
        own: dict[str, ir.Expr] = {}
        extents: dict[str, ir.Expr] = {}
        for index, extent in zip(e.indices, source.shape, strict=True):
            if isinstance(index, ir.Index) or _reads(index) or ir.free_indices(index) & tabled:
                inside.append(index)
                names = [i for i in self._order() if i in ir.free_indices(index)]
                own |= {name: ir.Index(name) for name in names}
                extents |= {name: self.program.range_of(name).high for name in names}
                continue
            name = self.names.fresh(next(iter(sorted(ir.free_indices(index))), "a"))
            self.ranges.append(ir.IndexRange(name, ir.Literal(0, DType.I32), extent, span=e.span))
            inside.append(ir.Index(name))
            own[name], extents[name] = index, extent
        ordered = self._ordered(own)
        domain = conjunction(c for c in visited if ir.free_indices(c) <= set(ordered) and ir.free_indices(c) & tabled)
        name = self.names.fresh(f"{e.tensor}_g")
        shape = tuple(extents[i] for i in ordered)
        tensor = ir.Tensor(name, shape, source.dtype, ir.Role.INTERMEDIATE, span=e.span)
        value = ir.Read(e.tensor, tuple(inside), e.dtype, span=e.span)
        self.made.append(Definition(tensor, ir.Equation(name, ordered, value, domain, span=e.span)))
        return ir.Read(name, tuple(own[i] for i in ordered), e.dtype, span=e.span)

    def _order(self) -> tuple[str, ...]:
        return (*self.part.equation.indices, *self.contraction.summed)

    def _ordered(self, own: dict[str, ir.Expr]) -> tuple[str, ...]:
        """Axes as the contraction's result has them, summed ones last; the source's fastest axis stays the fastest."""
        place = {name: n for n, name in enumerate(self._order())}
        last = next(reversed(own))

        def key(name: str) -> tuple[bool, int]:
            return name == last, min((place[i] for i in ir.free_indices(own[name])), default=-1)

        return tuple(sorted(own, key=key))


def _reads(e: ir.Expr) -> bool:
    return any(isinstance(x, ir.Read) for x in ir.walk(e))
