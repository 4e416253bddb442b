"""A rank is the number of points before it: greater ones, and equal ones of a smaller index.

    R[q,k] = rank[k where d[k]](x[q,k])

becomes, with x made present where it is not (x_p = default(x, 0)) and absent points skipped,

    R[q,k]: i32 = i32(sum[j where d[j]](select(x[q,j] > x[q,k] or (x[q,j] == x[q,k] and j < k), 1, 0))) where d[k]

which is N comparisons for each of N points of a row: the report prices it. NaN comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames, rewrite, substitute
from tpcgen.rewrite.edit import (
    ONE,
    Definition,
    Part,
    Recurrence,
    conjunction,
    intermediate,
    names_in_use,
    parts_of,
    rebuilt,
)
from tpcgen.rewrite.support import Supports, UndeterminedError

_ZERO = ir.Literal(0.0, DType.F32)


def count_ranks(program: ir.Program) -> ir.Program:
    """The program without ranks outside of scans, but of what is absent where no predicate says so."""
    work = _Counting(program, names_in_use(program))
    parts: list[Part] = []
    for part in parts_of(program):
        parts += [part] if isinstance(part, Recurrence) else work.definition(part)
    return rebuilt(program, parts, work.new_indices)


@dataclass
class _Counting:
    program: ir.Program
    names: FreshNames
    new_indices: list[ir.IndexRange] = field(default_factory=list[ir.IndexRange])

    def definition(self, d: Definition) -> list[Definition]:
        """The equation, behind those that its ranks take."""
        made: dict[ir.Expr, list[Definition]] = {}

        def leaf(e: ir.Expr) -> ir.Expr:
            if not isinstance(e, ir.Reduce) or e.kind != "rank" or ir.type_of(e.body) is DType.BOOL:
                return e
            if e not in made:
                try:
                    made[e] = self._counted(e)
                except UndeterminedError:
                    return e
            return _read(made[e][-1])

        value = rewrite(d.equation.value, leaf)
        domain = None if d.equation.domain is None else rewrite(d.equation.domain, leaf)
        before = [x for own in made.values() for x in own]
        return [*before, replace(d, equation=replace(d.equation, value=value, domain=domain))]

    def _counted(self, e: ir.Reduce) -> list[Definition]:
        """The tensor of the ranks, behind what is compared where that is no tensor yet."""
        present = Supports(self.program).of(e.body).where
        own = self._indices(e)
        result: list[Definition] = []
        here: ir.Expr = e.body
        if present is not None or not isinstance(e.body, ir.Read):
            value = e.body if present is None else ir.Call("default", (e.body, _ZERO), span=e.span)
            result.append(self._defined("compared", own, value, None, ir.type_of(e.body), e))
            here = _read(result[0])
        others = {i: ir.Index(self._another(i)) for i in e.indices}
        there = substitute(here, others)
        counted = conjunction([e.domain, present])
        smaller = _smaller([(others[i], ir.Index(i)) for i in e.indices])
        before = ir.Call("select", (_before(there, here, smaller), ONE, _ZERO), span=e.span)
        inside = None if counted is None else substitute(counted, others)
        count = ir.Reduce("sum", tuple(x.name for x in others.values()), inside, None, before, span=e.span)
        result.append(self._defined("rank", own, ir.Cast(DType.I32, count, span=e.span), counted, DType.I32, e))
        return result

    def _indices(self, e: ir.Reduce) -> tuple[str, ...]:
        free = ir.free_indices(e)
        return tuple(r.name for r in self.program.indices if r.name in free)

    def _another(self, index: str) -> str:
        name = self.names.fresh(index)
        self.new_indices.append(replace(self.program.range_of(index), name=name))
        return name

    def _defined(
        self, name: str, indices: Sequence[str], value: ir.Expr, domain: ir.Expr | None, dtype: DType, like: ir.Node
    ) -> Definition:
        tensor = intermediate(self.program, self.names.fresh(name), indices, dtype, like)
        return Definition(tensor, ir.Equation(tensor.name, tuple(indices), value, domain, span=like.span))


def _read(d: Definition) -> ir.Read:
    own = tuple(map(ir.Index, d.equation.indices))
    return ir.Read(d.tensor.name, own, d.tensor.dtype, span=d.equation.span)


def _before(there: ir.Expr, here: ir.Expr, smaller: ir.Expr) -> ir.Expr:
    """That a point comes before another: greater, or equal and of smaller indices; NaN behind all else."""
    equal = ir.Binary("and", ir.Binary("==", there, here), smaller)
    found = ir.Binary("or", ir.Binary(">", there, here), equal)
    if ir.type_of(here) is not DType.F32:
        return found
    number = ir.Binary("or", ir.Binary("==", there, there), smaller)
    return ir.Binary("or", found, ir.Binary("and", ir.Binary("!=", here, here), number))


def _smaller(pairs: Sequence[tuple[ir.Expr, ir.Expr]]) -> ir.Expr:
    """That indices come before others in the order of a text that loops over the first outermost."""
    (there, here), *inner = pairs
    less = ir.Binary("<", there, here)
    if not inner:
        return less
    return ir.Binary("or", less, ir.Binary("and", ir.Binary("==", there, here), _smaller(inner)))
