"""Looks things up once, where fewer indices decide what a table gives than the equation has.

    P[b,h,q,k] = softmax[k](S_dot[b,h,q,k] + table[bucket[k - q + M - 1], h])

becomes

    table_at[h,bucket_0] = table[bucket[bucket_0], h]
    P[b,h,q,k] = softmax[k](S_dot[b,h,q,k] + table_at[h, k - q + M - 1])

and `c[q + N - M, d % F]`, which depends on neither batch nor head, becomes `c_at[q + N - M, d]`. A vector of elements
that a table or a remainder picks is put together one by one; a vector of the new tensor is one load.

A remainder that is the index itself and then the index less once the divisor makes two parts, which torch copies:

    c_at[c_0,d] = c[c_0, d] where d < F
    c_at[c_0,d] = c[c_0, d - F] where d >= F
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tpcgen.program import affine, ir
from tpcgen.program.substitute import FreshNames, with_children
from tpcgen.rewrite.copies import copy_of
from tpcgen.rewrite.edit import (
    MAX_AXES,
    Definition,
    Part,
    integer,
    intermediate,
    names_in_use,
    parts_of,
    rebuilt,
)
from tpcgen.rewrite.gather_operands import through_table
from tpcgen.rewrite.split_contractions import matmul_of
from tpcgen.rewrite.support import facts

_ZERO = integer(0)


def tabulate(program: ir.Program) -> ir.Program:
    tables = _Tables(program, names_in_use(program))
    result: list[Part] = []
    for part in parts_of(program):
        if isinstance(part, Definition) and not _moves(part.equation, program):
            e = part.equation
            value = tables.visited(e.value, e.indices, e.indices[-1:], divided=True)
            domain = None if e.domain is None else tables.visited(e.domain, e.indices, (), divided=False)
            part = replace(part, equation=replace(e, value=value, domain=domain))
        result += [*tables.taken(), part]
    return rebuilt(tables.program, result)


def _moves(e: ir.Equation, program: ir.Program) -> bool:
    return matmul_of(e, program) is not None or copy_of([e], program) is not None


@dataclass
class _Tables:
    """`axes`: indices over whole axes of tensors; `made`: tables by what they hold; `new`: not yet taken."""

    program: ir.Program
    names: FreshNames
    axes: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])
    made: dict[ir.Read, ir.Equation] = field(default_factory=dict[ir.Read, ir.Equation])
    new: list[Definition] = field(default_factory=list[Definition])

    def taken(self) -> list[Definition]:
        new, self.new = self.new, []
        return new

    def visited(self, x: ir.Expr, points: Sequence[str], lanes: Sequence[str], *, divided: bool) -> ir.Expr:
        """`points`: the indices at whose every value `x` is computed, `lanes`: those of them that may lie along a
        vector; `divided`: whether quotients and remainders of these are looked up once too, not tables of tables alone.
        """
        if isinstance(x, ir.Reduce):
            points, lanes = (*points, *x.indices), (*lanes, *x.indices)
            body = self.visited(x.body, points, lanes, divided=divided)
            domain = None if x.domain is None else self.visited(x.domain, points, lanes, divided=False)
            return replace(x, body=body, domain=domain)
        if isinstance(x, ir.Read) and (through_table(x) or (divided and _divides(x, lanes))):
            table = self._table(x, points)
            if table is not None:
                return table
        return with_children(x, [self.visited(c, points, lanes, divided=divided) for c in ir.children(x)])

    def _table(self, x: ir.Read, points: Sequence[str]) -> ir.Read | None:
        """The read of a tensor that holds what `x` gives; None where that has no fewer axes than there are `points`."""
        places: dict[str, ir.Expr] = {}
        value = self._spread(x, places)
        kept = {at.name for at in places.values() if isinstance(at, ir.Index)}
        added = sum(not isinstance(at, ir.Index) for at in places.values())
        starts = all(self.program.range_of(i).low == _ZERO for i in places)
        if not places or not starts or len(places) > MAX_AXES or added >= len(set(points) - kept):
            return None
        indices = tuple(sorted(places, key=lambda i: max(map(points.index, ir.free_indices(places[i])))))
        e = self.made.get(value) or self._define(value, indices)
        return ir.Read(e.target, tuple(places[i] for i in e.indices), x.dtype, span=x.span)

    def _define(self, value: ir.Read, indices: tuple[str, ...]) -> ir.Equation:
        tensor = intermediate(self.program, self.names.fresh(f"{value.tensor}_at"), indices, value.dtype, value)
        whole = ir.Equation(tensor.name, indices, value, None, span=value.span)
        self.new += [Definition(tensor, e) for e in _parts(whole, self.program)]
        self.made[value] = whole
        return whole

    def _spread(self, x: ir.Read, places: dict[str, ir.Expr]) -> ir.Read:
        """`x` with an index of its own along each axis that is read at a sum of indices; the others keep theirs."""
        uneven = frozenset[str]().union(*(_outside_tables(i) for i in x.indices if not _is_sum(i)))
        indices = [
            self._axis(x.tensor, axis, i, places)
            if _is_sum(i) and not (isinstance(i, ir.Index) and i.name in uneven)
            else self._inside(i, places)
            for axis, i in enumerate(x.indices)
        ]
        return replace(x, indices=tuple(indices))

    def _inside(self, e: ir.Expr, places: dict[str, ir.Expr]) -> ir.Expr:
        match e:
            case ir.Read():
                return self._spread(e, places)
            case ir.Index():
                places[e.name] = e
                return e
            case _:
                return with_children(e, [self._inside(c, places) for c in ir.children(e)])

    def _axis(self, tensor: str, axis: int, at: ir.Expr, places: dict[str, ir.Expr]) -> ir.Expr:
        if not ir.free_indices(at):
            return at
        extent = self.program.tensor(tensor).shape[axis]
        if isinstance(at, ir.Index) and not affine.equal(self.program.range_of(at.name).high, extent):
            return self._inside(at, places)
        name = self.axes.get((tensor, axis)) or self._range(tensor, axis, extent)
        if places.setdefault(name, at) != at:
            name = self._range(tensor, axis, extent)
            places[name] = at
        return ir.Index(name)

    def _range(self, tensor: str, axis: int, extent: ir.Expr) -> str:
        name = self.axes[tensor, axis] = self.names.fresh(f"{tensor.lower()}_{axis}")
        made = ir.IndexRange(name, _ZERO, extent)
        self.program = replace(self.program, indices=(*self.program.indices, made))
        return name


def _divides(x: ir.Read, lanes: Sequence[str]) -> bool:
    inside = [y for i in x.indices for y in ir.walk(i) if isinstance(y, ir.Binary) and y.operator in ("//", "%")]
    return any(ir.free_indices(y.left) & set(lanes) for y in inside)


def _is_sum(e: ir.Expr) -> bool:
    atoms = affine.atoms(affine.polynomial(e))
    return all(isinstance(atom, ir.Index) or not ir.free_indices(atom) for atom in atoms)


def _outside_tables(e: ir.Expr) -> frozenset[str]:
    if isinstance(e, ir.Read):
        return frozenset()
    own = frozenset({e.name}) if isinstance(e, ir.Index) else frozenset[str]()
    return own.union(*map(_outside_tables, ir.children(e)))


def _parts(whole: ir.Equation, program: ir.Program) -> list[ir.Equation]:
    """The equation, or two that copy: of `x % F` with 0 <= x < 2 * F."""
    value = whole.value
    assert isinstance(value, ir.Read)
    divided = [i for i in value.indices if isinstance(i, ir.Binary) and i.operator == "%"]
    match divided:
        case [ir.Binary(left=ir.Index() as index, right=divisor) as remainder] if _at_most_twice(
            index, divisor, program
        ):
            below = ir.Binary("<", index, divisor, span=value.span)
            above = ir.Binary(">=", index, divisor, span=value.span)
            less = ir.Binary("-", index, divisor, span=value.span)
            return [
                replace(whole, value=_at(value, remainder, index), domain=below),
                replace(whole, value=_at(value, remainder, less), domain=above),
            ]
        case _:
            return [whole]


def _at(read: ir.Read, old: ir.Expr, new: ir.Expr) -> ir.Read:
    return replace(read, indices=tuple(new if i == old else i for i in read.indices))


def _at_most_twice(index: ir.Index, divisor: ir.Expr, program: ir.Program) -> bool:
    twice = affine.scale(affine.polynomial(divisor), 2)
    last = affine.add(affine.polynomial(index), affine.constant(1))
    return facts(program).extended(_quotient(divisor)).prove(affine.subtract(twice, last))


def _quotient(e: ir.Expr) -> list[affine.Polynomial]:
    """n * (x // n) + x % n == x, of a quotient."""
    match e:
        case ir.Binary(operator="//", left=x, right=n):
            product = ir.Binary("*", n, e)
            rest = affine.polynomial(ir.Binary("-", ir.Binary("+", product, ir.Binary("%", x, n)), x))
            return [rest, affine.scale(rest, -1)]
        case _:
            return []
