"""Computes part of a square of queries and keys tile by tile, each tile at indices of its own.

Whoever calls says which tiles: the blocks of a band (band.py), the steps of a triangle (stairs.py). Every tensor over
the square, and every tensor of a query that is made of one, becomes a tensor per tile; operands of its contractions are
copied to where the tile reads them. What a query has in the end is put together of the tiles.

A sum over queries, as of a gradient, is summed in each tile and then over the tiles: over those that hold the key
(tile_sums.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.program.substitute import FreshNames, with_children
from tpcgen.program.verify import verify
from tpcgen.rewrite.diagonal import Band, has_indices, support_of
from tpcgen.rewrite.edit import (
    MAX_AXES,
    Definition,
    Part,
    Recurrence,
    conjunction,
    definitions,
    integer,
    names_in_use,
    parts_of,
    reads,
    rebuilt,
)
from tpcgen.rewrite.outcome import Refused, RefusedError
from tpcgen.rewrite.split_contractions import contraction_of
from tpcgen.rewrite.support import at_least_zero, comparison
from tpcgen.rewrite.tile import Tile
from tpcgen.rewrite.tile_sums import Sums, over_queries, sums_apart


def tile_square(program: ir.Program, band: Band, tiles: Sequence[Tile]) -> ir.Program | Refused:
    """The program (contractions split off) with the square of `band` computed in `tiles`, which hold each query once
    and every key that it visits.
    """
    try:
        return verify(_Square(program, band, tiles).run())
    except RefusedError as problem:
        return problem.reason


@dataclass
class _Square:
    program: ir.Program
    band: Band
    tiles: Sequence[Tile]

    def __post_init__(self) -> None:
        for r in (self.program.range_of(self.band.q), self.program.range_of(self.band.k)):
            if not affine.equal(r.low, integer(0)):
                raise RefusedError(f"{r.name} does not start at 0", r)
        self.square = self._square()
        self.program = sums_apart(self.program, self.square, self.band.q)
        self.rows, self.sums = self._rows_and_sums()
        self.region = self.square | self.rows | self.sums

    def _square(self) -> frozenset[str]:
        """Tensors with both indices among their own, as far as they have to do with the band's reduction."""
        both = {d.tensor.name for d in definitions(self.program) if {self.band.q, self.band.k} <= {*d.equation.indices}}
        met = [({d.tensor.name} | reads(d.equation)) for d in definitions(self.program)]
        found = {self.band.tensor}
        for _ in met:
            found |= {name for names in met if names & found & {*both, self.band.tensor} for name in names & both}
        found &= both
        outputs = [t for t in self.program.outputs if t.name in found]
        if outputs:
            raise RefusedError(f"{outputs[0].name} is an output over the whole square", outputs[0])
        return frozenset(found)

    def _rows_and_sums(self) -> tuple[frozenset[str], frozenset[str]]:
        """Tensors of a query that are made of the square, and sums of it over queries."""
        rows, sums = set[str](), set[str]()
        for d in definitions(self.program):
            if d.tensor.name in self.square or not reads(d.equation) & self.square:
                continue
            if self.band.q in d.equation.indices:
                rows.add(d.tensor.name)
            elif over_queries(d.equation, self.band.q):
                sums.add(d.tensor.name)
            else:
                raise RefusedError(f"{d.tensor.name} reads the square for no single {self.band.q}", d.equation)
        scans = [p for p in parts_of(self.program) if isinstance(p, Recurrence)]
        if any(t.name in self.square | rows for p in scans for t in p.tensors):
            raise RefusedError("a scan is part of it", self.program)
        return frozenset(rows), frozenset(sums)

    def run(self) -> ir.Program:
        names = names_in_use(self.program)
        names.reserve(i for t in self.tiles for i in t.extents)
        inside = [_Tiled(self.program, self.band, t, self.square, self.rows, self.sums, names) for t in self.tiles]
        sums = Sums(self.program, self.band, names)
        made: list[Part] = []
        for p in parts_of(self.program):
            if isinstance(p, Recurrence) or p.tensor.name not in self.region:
                made.append(p)
                continue
            tiled = [t.definition(p) for t in inside]
            made += [part for parts in tiled for part in parts]
            if p.tensor.name in self.sums:
                made += sums.whole(p, [(t.tile, parts[-1]) for t, parts in zip(inside, tiled, strict=True)])
            elif p.tensor.name not in self.square and self._read_whole(p.tensor):
                made += [t.whole(p, parts[-1]) for t, parts in zip(inside, tiled, strict=True)]
        new = [r for t in inside for r in t.new_indices] + sums.new_indices
        return rebuilt(self.program, made, dict.fromkeys(new))

    def _read_whole(self, tensor: ir.Tensor) -> bool:
        """Whether an output, or read by what is not blocked."""
        others = [s for s in self.program.body if not (isinstance(s, ir.Equation) and s.target in self.region)]
        reads = [x for s in others if isinstance(s, ir.Equation) for side in _sides(s) for x in ir.walk(side)]
        scanned = any(isinstance(s, ir.Scan) for s in others)
        return (
            tensor.role is ir.Role.OUTPUT
            or scanned
            or any(isinstance(x, ir.Read) and x.tensor == tensor.name for x in reads)
        )


@dataclass
class _Tiled:
    """The region in one tile."""

    program: ir.Program
    band: Band
    tile: Tile
    square: frozenset[str]
    rows: frozenset[str]
    sums: frozenset[str]
    names: FreshNames
    new_indices: list[ir.IndexRange] = field(default_factory=list[ir.IndexRange])
    copies: list[Definition] = field(default_factory=list[Definition])

    def __post_init__(self) -> None:
        self._index(self.tile.extents)
        self.at = {self.band.q: affine.expression(self.tile.q), self.band.k: affine.expression(self.tile.k)}
        self.tiled = {
            name: self.names.fresh(f"{name}_{self.tile.suffix}") for name in sorted(self.square | self.rows | self.sums)
        }

    def _index(self, extents: Mapping[str, ir.Expr]) -> None:
        self.new_indices += [ir.IndexRange(name, integer(0), high) for name, high in extents.items()]

    def definition(self, d: Definition) -> list[Definition]:
        """The tensor in the tile, after the copies that it is the first to read."""
        e = d.equation
        known = len(self.copies)
        indices = self._axes(e.indices)
        if len(indices) > MAX_AXES:
            raise RefusedError(f"{d.tensor.name} in blocks has {len(indices)} axes, a TPC tensor has {MAX_AXES}", e)
        operands = contraction_of(e, self.program) is not None
        summed = d.tensor.name in self.sums
        if summed and isinstance(e.value, ir.Reduce):
            value = self._reduce(e.value, operands)
        else:
            value = self._visit(e.value, operands)
        domain = self._visit(e.domain, False) if e.domain is not None else None
        if d.tensor.name in self.square and not operands:
            domain = conjunction([domain, *self._inside()])
        name = self.tiled[d.tensor.name]
        shape = tuple(self.tile.extents.get(i) or self.program.range_of(i).high for i in indices)
        dtype = DType.F32 if summed else d.tensor.dtype
        tensor = replace(d.tensor, name=name, shape=shape, dtype=dtype, role=ir.Role.INTERMEDIATE)
        return [*self.copies[known:], Definition(tensor, ir.Equation(name, indices, value, domain, span=e.span))]

    def whole(self, d: Definition, tiled: Definition) -> Definition:
        """The part of the tensor itself that the tile has."""
        span = d.equation.span
        own = tuple(self.tile.home.get(i) or ir.Index(i) for i in tiled.equation.indices)
        value = ir.Read(tiled.tensor.name, own, tiled.tensor.dtype, span=span)
        equation = ir.Equation(d.tensor.name, d.equation.indices, value, self.tile.domain, span=span)
        return Definition(d.tensor, equation)

    def _axes(self, indices: Sequence[str]) -> tuple[str, ...]:
        """q and k become row and column; the block, where there is one, goes where the first of them was, else last."""
        own = {self.band.q: self.tile.row, self.band.k: self.tile.column}
        result: list[str] = []
        for i in indices:
            if i in own and self.tile.block is not None and self.tile.block not in result:
                result.append(self.tile.block)
            result.append(own.get(i, i))
        if self.tile.block is not None and self.tile.block not in result:
            result.append(self.tile.block)
        return tuple(result)

    def _visit(self, e: ir.Expr, operands: bool) -> ir.Expr:
        """An expression of the region in the tile. `operands`: reads of other tensors become copies."""
        match e:
            case ir.Reduce() if self.band.q in e.indices:
                raise RefusedError(f"a reduction over {self.band.q} reads the square", e)
            case ir.Reduce():
                return self._reduce(e, operands)
            case ir.Index():
                return self.at.get(e.name, e)
            case ir.Binary() if e.operator in ir.COMPARISONS:
                moved = with_children(e, [self._visit(c, operands) for c in ir.children(e)])
                return _balanced(moved) if isinstance(moved, ir.Binary) and moved is not e else moved
            case ir.Read() if e.tensor in self.square | self.rows:
                return self._own(e)
            case ir.Read() if operands and ir.free_indices(e) & {self.band.q, self.band.k}:
                return self._copied(e)
            case _:
                return with_children(e, [self._visit(c, operands) for c in ir.children(e)])

    def _own(self, e: ir.Read) -> ir.Expr:
        if any(not isinstance(i, ir.Index) for i in e.indices):
            raise RefusedError(f"{text(e)} is read beside its own point", e)
        names = [i.name for i in e.indices if isinstance(i, ir.Index)]
        wanted = {self.band.q, self.band.k} if e.tensor in self.square else {self.band.q}
        defined = next(d.equation.indices for d in definitions(self.program) if d.tensor.name == e.tensor)
        if not wanted <= set(names) or any(
            (i in wanted) != (n in wanted) or (i in wanted and i != n) for i, n in zip(defined, names, strict=True)
        ):
            raise RefusedError(f"{text(e)} is read at other indices than {self.band.q} and {self.band.k}", e)
        return ir.Read(self.tiled[e.tensor], tuple(ir.Index(i) for i in self._axes(names)), e.dtype, span=e.span)

    def _reduce(self, e: ir.Reduce, operands: bool) -> ir.Expr:
        over = [i for i in (self.band.k, self.band.q) if i in e.indices]
        if not over:
            return with_children(e, [self._visit(c, operands) for c in ir.children(e)])
        held = support_of(e, self.program)
        if any(p not in held for p in self.band.conditions):
            raise RefusedError(f"this reduction over {over[0]} reaches beyond the band", e)
        domain = conjunction([self._visit(e.domain, False) if e.domain is not None else None, *self._inside()])
        sink = self._visit(e.sink, False) if e.sink is not None else None
        indices = tuple({self.band.q: self.tile.row, self.band.k: self.tile.column}.get(i, i) for i in e.indices)
        body = self._visit(e.body, operands)
        if operands:  # operands are absent outside their tensors, and the matmul takes no domain
            domain = self._visit(e.domain, False) if e.domain is not None else None
        return ir.Reduce(e.kind, indices, domain, sink, body, span=e.span)

    def _inside(self) -> Iterator[ir.Expr]:
        """The tile's point is one of the square: rows may lie behind the last query, columns outside the keys."""
        row, column = self.at[self.band.q], self.at[self.band.k]
        yield ir.Binary("<", row, self.program.range_of(self.band.q).high)
        if not _counts(self.tile.k):
            yield ir.Binary("<=", integer(0), column)
        yield ir.Binary("<", column, self.program.range_of(self.band.k).high)

    def _copied(self, e: ir.Read) -> ir.Read:
        """A contraction's operand from outside the region: the blocks of its axis that q or k runs along."""
        moving = [a for a, i in enumerate(e.indices) if ir.free_indices(i) & {self.band.q, self.band.k}]
        if len(moving) != 1:
            raise RefusedError(f"{text(e)} runs along its diagonal", e)
        axis = moving[0]
        offset, index = self._offset(e.indices[axis], e)
        own = self.tile.row if index == self.band.q else self.tile.column
        copy = self._copy(e, axis, own, offset)
        own_axes = (ir.Index(i) for i in self._copied_axes(own))
        indices = (*e.indices[:axis], *own_axes, *e.indices[axis + 1 :])
        return ir.Read(copy.tensor.name, indices, e.dtype, span=e.span)

    def _copied_axes(self, own: str) -> tuple[str, ...]:
        return (own,) if self.tile.block is None else (self.tile.block, own)

    def _offset(self, e: ir.Expr, read: ir.Read) -> tuple[Polynomial, str]:
        for index in (self.band.q, self.band.k):
            offset = affine.subtract(affine.polynomial(e), affine.polynomial(ir.Index(index)))
            if not has_indices(offset):
                return offset, index
        raise RefusedError(f"{text(read)} is not read at {self.band.q} or {self.band.k} plus a constant", read)

    def _copy(self, e: ir.Read, axis: int, own: str, offset: Polynomial) -> Definition:
        source = self.program.tensor(e.tensor)
        polynomial = affine.add(self.tile.q if own == self.tile.row else self.tile.k, offset)
        at = affine.expression(polynomial)
        known = next((c for c in self.copies if _same_copy(c, e.tensor, axis, at)), None)
        if known is not None:
            return known
        free = self._free_axes(e, axis, source)
        axes = self._copied_axes(own)
        indices = (*free[:axis], *axes, *free[axis + 1 :])
        if len(indices) > MAX_AXES:
            raise RefusedError(f"{e.tensor} in blocks has {len(indices)} axes, a TPC tensor has {MAX_AXES}", e)
        name = self.names.fresh(f"{e.tensor}_{self.tile.suffix}")
        reads = tuple(at if a == axis else ir.Index(i) for a, i in enumerate(free))
        value = ir.Read(e.tensor, reads, e.dtype, span=e.span)
        before_end = ir.Binary("<", at, source.shape[axis])
        never_below = _counts(polynomial) or (own == self.tile.row and not offset)
        from_start = None if never_below else ir.Binary("<=", integer(0), at)
        domain = conjunction([from_start, before_end])
        shape = (*source.shape[:axis], *(self.tile.extents[i] for i in axes), *source.shape[axis + 1 :])
        tensor = ir.Tensor(name, shape, source.dtype, ir.Role.INTERMEDIATE, span=e.span)
        made = Definition(tensor, ir.Equation(name, indices, value, domain, span=e.span))
        self.copies.append(made)
        return made

    def _free_axes(self, e: ir.Read, axis: int, source: ir.Tensor) -> list[str]:
        """An index per axis that runs over all of it: the read's own where it does, a new one elsewhere."""
        result: list[str] = []
        for a, (i, extent) in enumerate(zip(e.indices, source.shape, strict=True)):
            own = i.name if isinstance(i, ir.Index) and i.name not in result else None
            if a == axis:
                result.append("")
            elif own is not None and affine.equal(self.program.range_of(own).high, extent):
                result.append(own)
            else:
                name = self.names.fresh(f"{e.tensor.lower()}_{a}")
                self._index({name: extent})
                result.append(name)
        return result


def _same_copy(d: Definition, tensor: str, axis: int, at: ir.Expr) -> bool:
    value = d.equation.value
    return isinstance(value, ir.Read) and value.tensor == tensor and affine.equal(value.indices[axis], at)


def _balanced(e: ir.Binary) -> ir.Expr:
    """A comparison of integers without what both sides have in common: `i <= j` for `64*n + i <= 64*n + j`."""
    inequalities = at_least_zero(e) if e.operator != "==" else None
    balanced = conjunction(comparison(p, e.span) for p in inequalities or [])
    return e if balanced is None else balanced


def _sides(e: ir.Equation) -> list[ir.Expr]:
    return [s for s in (e.value, e.domain) if s is not None]


def _counts(p: Polynomial) -> bool:
    """Whether a sum of indices, which start at 0: never below 0."""
    return all(c > 0 for c in p.values()) and all(isinstance(atom, ir.Index) for m in p for atom in m or (None,))
