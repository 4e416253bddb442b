"""Sums over queries of what is computed in tiles: first in each tile, then over the tiles.

    dV[b,h,k,e] = sum[q](P[b,h,q,k] * dO[b,h,q,e])

over blocks of 64 queries with the W + 63 keys that each sees (q = 64*n + i, k = 64*n + j + 1 - W), and over blocks of
64 keys (k = 64*c + r), which L + 1 = (W + 62)//64 + 1 blocks of queries see at most:

    dV_b[b,h,n,j,e] = sum[i](P_b[b,h,n,i,j] * dO_b[b,h,n,i,e])
    dV_k[b,h,c,r,e] = sum[p where 0 <= c + L - p < (N + 63)//64 and 0 <= 64*p + r + W - 1 - 64*L < W + 63](
        dV_b[b,h, c + L - p, 64*p + r + W - 1 - 64*L, e])
    dV[b,h,k,e] = dV_k[b,h,k // 64,k % 64,e]

A key's part of a step of a triangle is at its own place; a sum over queries and keys alike has a part per block or
step. The order of a sum is the same every time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames, with_children
from tpcgen.rewrite.diagonal import Band
from tpcgen.rewrite.edit import Definition, Part, integer, intermediate, mentioned, names_in_use, parts_of, rebuilt
from tpcgen.rewrite.tile import Tile, extent

_ZERO = ir.Literal(0.0, DType.F32)


def over_queries(e: ir.Equation, q: str) -> bool:
    """Whether an equation is a sum over q, and nothing else."""
    return isinstance(e.value, ir.Reduce) and e.domain is None and _sums(e.value, q)


def sums_apart(program: ir.Program, square: frozenset[str], q: str) -> ir.Program:
    """The program with an equation of its own for every sum over q of what reads the square."""
    names = names_in_use(program)
    made: list[Part] = []
    for part in parts_of(program):
        if isinstance(part, Definition) and q not in part.equation.indices and not over_queries(part.equation, q):
            apart = _Apart(program, square, q, part, names)
            equation = replace(part.equation, value=apart.visit(part.equation.value))
            made += [*apart.made.values(), replace(part, equation=equation)]
        else:
            made.append(part)
    return rebuilt(program, made)


@dataclass(frozen=True)
class _Apart:
    """Takes the sums out of one equation."""

    program: ir.Program
    square: frozenset[str]
    q: str
    part: Definition
    names: FreshNames
    made: dict[ir.Expr, Definition] = field(default_factory=dict[ir.Expr, Definition])

    def visit(self, e: ir.Expr) -> ir.Expr:
        if not (isinstance(e, ir.Reduce) and _sums(e, self.q) and mentioned(e) & self.square):
            return with_children(e, [self.visit(c) for c in ir.children(e)])
        free = ir.free_indices(e)
        left = [i for i in self.part.equation.indices if i in free]
        indices = (*left, *(r.name for r in self.program.indices if r.name in free and r.name not in left))
        if e not in self.made:
            name = self.names.fresh(f"{self.part.tensor.name}_sum")
            tensor = intermediate(self.program, name, indices, DType.F32, e)
            self.made[e] = Definition(tensor, ir.Equation(name, indices, e, None, span=e.span))
        return ir.Read(self.made[e].tensor.name, tuple(ir.Index(i) for i in indices), DType.F32, span=e.span)


def _sums(e: ir.Reduce, q: str) -> bool:
    return e.kind == "sum" and q in e.indices and ir.type_of(e) is DType.F32


@dataclass
class Sums:
    """What is summed over the tiles of one square."""

    program: ir.Program
    band: Band
    names: FreshNames
    new_indices: list[ir.IndexRange] = field(default_factory=list[ir.IndexRange])

    def whole(self, d: Definition, tiled: Sequence[tuple[Tile, Definition]]) -> list[Definition]:
        """The sum itself, of the sum in each tile."""
        made: list[Definition] = []
        first, *others = [self._part(d, tile, t, made) for tile, t in tiled]
        value = reduce(lambda a, b: ir.Binary("+", a, b, span=d.equation.span), others, first)
        return [*made, replace(d, equation=replace(d.equation, value=value))]

    def _part(self, d: Definition, tile: Tile, tiled: Definition, made: list[Definition]) -> ir.Expr:
        """What a tile has of the sum, 0 where it has nothing."""
        own: dict[str, ir.Expr] = {i: ir.Index(i) for i in tiled.equation.indices}
        if self.band.k not in d.equation.indices:
            read = _read(tiled, own)
            return read if tile.block is None else ir.Reduce("sum", (tile.block,), None, None, read)
        if tile.block is not None:
            return self._of_blocks(d.tensor.dtype, tile, tile.block, tiled, made)
        alone = affine.polynomial(ir.Index(self.band.k))
        at = affine.subtract(alone, affine.subtract(tile.k, affine.polynomial(ir.Index(tile.column))))
        inside = _within(at, tile.extents[tile.column])
        return ir.Call("select", (inside, _read(tiled, own | {tile.column: affine.expression(at)}), _ZERO))

    def _of_blocks(self, dtype: DType, tile: Tile, block: str, tiled: Definition, made: list[Definition]) -> ir.Read:
        """The sum over the blocks of queries that hold a key, for keys in blocks of as many; read at the key."""
        size = affine.coefficient_of(tile.q, block)
        assert size is not None
        length = integer(size)
        keys = affine.polynomial(self.program.range_of(self.band.k).high)
        own = {block: self._index("c", affine.blocks(keys, size)), tile.column: self._index("r", length)}
        step, at = self._in_step(tile, block, size, own)
        domain = ir.Binary("and", *(_within(p, tile.extents[i]) for i, p in at.items()))
        places = {i: affine.expression(p) for i, p in at.items()}
        body = _read(tiled, {i: places.get(i, ir.Index(i)) for i in tiled.equation.indices})
        indices = tuple(own.get(i, i) for i in tiled.equation.indices)
        high = {r.name: r.high for r in (*self.program.indices, *self.new_indices)}
        name = self.names.fresh(f"{tiled.tensor.name}_k")
        tensor = ir.Tensor(name, tuple(high[i] for i in indices), dtype, ir.Role.INTERMEDIATE)
        value = ir.Reduce("sum", (step,), domain, None, body)
        made.append(Definition(tensor, ir.Equation(name, indices, value, None, span=tiled.equation.span)))
        whole = ir.Index(self.band.k)
        home = {own[block]: ir.Binary("//", whole, length), own[tile.column]: ir.Binary("%", whole, length)}
        return _read(made[-1], {i: home.get(i, ir.Index(i)) for i in indices})

    def _in_step(
        self, tile: Tile, block: str, size: int, own: Mapping[str, str]
    ) -> tuple[str, Mapping[str, Polynomial]]:
        """An index over the blocks of queries that may hold a key of a block of keys, and where each holds it."""
        low, high = self.band.low, self.band.high
        assert low is not None and high is not None
        before = affine.polynomial(affine.blocks(affine.scale(low, -1), size))
        count = affine.add(affine.add(before, affine.polynomial(affine.blocks(high, size))), affine.constant(1))
        step = self._index("p", extent(self.program, count))
        first = affine.add(low, affine.scale(before, size))
        at_block = affine.subtract(affine.add(_place(own[block]), before), _place(step))
        at_column = affine.subtract(affine.add(affine.scale(_place(step), size), _place(own[tile.column])), first)
        return step, {block: at_block, tile.column: at_column}

    def _index(self, wanted: str, high: ir.Expr) -> str:
        name = self.names.fresh(wanted)
        self.new_indices.append(ir.IndexRange(name, integer(0), high))
        return name


def _read(d: Definition, at: dict[str, ir.Expr]) -> ir.Read:
    span = d.equation.span
    return ir.Read(d.tensor.name, tuple(at[i] for i in d.equation.indices), d.tensor.dtype, span=span)


def _within(at: Polynomial, extent: ir.Expr) -> ir.Expr:
    """That a place is one of an axis; from 0 where it may be below."""
    value = affine.expression(at)
    before_end = ir.Binary("<", value, extent)
    if isinstance(value, ir.Index):
        return before_end
    return ir.Binary("and", ir.Binary("<=", integer(0), value), before_end)


def _place(name: str) -> Polynomial:
    return affine.polynomial(ir.Index(name))
