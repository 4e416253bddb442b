"""Attention whose domain is a band of the square, over blocks of queries: the square is never computed or stored.

    P[b,h,q,k] = softmax[k where q - W < k <= q](rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]))
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])

with blocks of 64 queries, each of which sees a window of 64 + W - 1 keys (q = 64*n + i, k = 64*n + j + 1 - W):

    Q_b[b,h,n,i,d] = Q[b,h,64*n + i,d] where 64*n + i < N
    K_b[b,h,n,j,d] = K[b,h,64*n + j + 1 - W,d] where 0 <= 64*n + j + 1 - W < N
    P_b[b,h,n,i,j] = softmax[j where ...](rsqrt(D) * sum[d](Q_b[b,h,n,i,d] * K_b[b,h,n,j,d]))
    O_b[b,h,n,i,e] = sum[j](P_b[b,h,n,i,j] * V_b[b,h,n,j,e])
    O[b,h,q,e] = O_b[b,h,q // 64,q % 64,e]

Memory for a window W at length N is O(N (W + 64)), and the program's size depends on neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.program.substitute import with_children
from tpcgen.program.verify import verify
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    Recurrence,
    conjunction,
    conjuncts,
    definitions,
    names_in_use,
    parts_of,
    reads,
    rebuilt,
)
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.split_contractions import contraction_of, split_contractions
from tpcgen.rewrite.support import Supports, UndeterminedError, at_least_zero, facts

MAX_AXES = 5


@dataclass(frozen=True, slots=True)
class Band:
    """`low <= k - q <= high` at every point of a reduction over `k` for each `q`; no indices in the bounds.

    `tensor` is what the reduction is part of.
    """

    q: str
    k: str
    low: Polynomial
    high: Polynomial
    tensor: str


def band(program: ir.Program, tile: int = 64) -> ir.Program | Refused:
    """The program over blocks of `tile` queries, for the first band of its reductions; Refused where there is none."""
    split = split_contractions(program)
    found = find_band(split)
    if isinstance(found, Refused):
        return found
    try:
        return verify(_Blocking(split, found, tile).run())
    except _RefusedError as problem:
        return problem.reason


def banded_index(program: ir.Program) -> str | Refused:
    """The index whose blocks `band` makes."""
    found = find_band(split_contractions(program))
    return found if isinstance(found, Refused) else found.q


def find_band(program: ir.Program) -> Band | Refused:
    """The first two-sided band between an index of an equation and one it reduces over."""
    one_sided: Refused | None = None
    for d in definitions(program):
        for e in _reductions(d.equation):
            bounds = _bounds(e, d.equation, program)
            for (q, k), (low, high) in bounds.items():
                if low is not None and high is not None:
                    return Band(q, k, low, high, d.tensor.name)
                one_sided = one_sided or Refused(f"nothing bounds {k} - {q} on both sides", e.span)
    return one_sided or Refused("no domain ties a reduced index to a query", program.span)


def _reductions(e: ir.Equation) -> Iterator[ir.Reduce]:
    return (x for side in (e.value, e.domain) if side is not None for x in ir.walk(side) if isinstance(x, ir.Reduce))


Sides = tuple[Polynomial | None, Polynomial | None]


def _bounds(e: ir.Reduce, around: ir.Equation, program: ir.Program) -> dict[tuple[str, str], Sides]:
    """Per (q, k): the least and the greatest k - q, where the reduction's support says one."""
    result: dict[tuple[str, str], Sides] = {}
    for p in support_of(e, program):
        names = {x for atom in affine.atoms(p) for x in ir.free_indices(atom)}
        for k in names & set(e.indices):
            for q in names & set(around.indices) - {k}:
                rest = affine.subtract(p, _difference(k, q))
                other = affine.add(p, _difference(k, q))
                low, high = result.get((q, k), (None, None))
                if names == {q, k} and not _has_indices(rest):
                    result[q, k] = (affine.scale(rest, -1), high)
                elif names == {q, k} and not _has_indices(other):
                    result[q, k] = (low, other)
    return result


def support_of(e: ir.Reduce, program: ir.Program) -> list[Polynomial]:
    """What holds at every point a reduction visits, as polynomials that are at least 0; conditions on data left out."""
    try:
        where = conjunction([e.domain, Supports(program).of(e.body).where])
    except UndeterminedError:
        where = e.domain
    return [p for c in conjuncts(where) for p in at_least_zero(c) or []]


def _difference(k: str, q: str) -> Polynomial:
    return affine.subtract(affine.polynomial(ir.Index(k)), affine.polynomial(ir.Index(q)))


def _has_indices(p: Polynomial) -> bool:
    return any(ir.free_indices(atom) or isinstance(atom, ir.Read) for atom in affine.atoms(p))


class _RefusedError(Exception):
    def __init__(self, why: str, node: ir.Node) -> None:
        self.reason = Refused(why, node.span)
        super().__init__(why)


@dataclass
class _Blocking:
    program: ir.Program
    band: Band
    tile: int
    made: list[Part] = field(default_factory=list[Part])
    new_indices: list[ir.IndexRange] = field(default_factory=list[ir.IndexRange])
    copies: list[Definition] = field(default_factory=list[Definition])

    def __post_init__(self) -> None:
        self.names = names_in_use(self.program)
        self.ranges = {i: self.program.range_of(i) for i in (self.band.q, self.band.k)}
        for r in self.ranges.values():
            if not affine.equal(r.low, _integer(0)):
                raise _RefusedError(f"{r.name} does not start at 0", r)
        self.block, self.row, self.column = (self.names.fresh(n) for n in ("n", "i", "j"))
        rows = self.ranges[self.band.q].high
        blocks = ir.Binary("//", affine.expression(_plus(affine.polynomial(rows), self.tile - 1)), _integer(self.tile))
        self.extents = {self.block: blocks, self.row: _integer(self.tile), self.column: self._width()}
        self._index(self.extents)
        start = affine.scale(affine.polynomial(ir.Index(self.block)), self.tile)
        at_row = affine.add(start, affine.polynomial(ir.Index(self.row)))
        at_column = affine.add(affine.add(start, affine.polynomial(ir.Index(self.column))), self.band.low)
        self.at = {self.band.q: affine.expression(at_row), self.band.k: affine.expression(at_column)}
        self.square = self._square()
        self.region = self._region()
        self.blocked = {name: self.names.fresh(f"{name}_b") for name in sorted(self.region)}

    def _width(self) -> ir.Expr:
        """Keys that the queries of one block see: tile + high - low."""
        width = _plus(affine.subtract(self.band.high, self.band.low), self.tile)
        if facts(self.program).prove(_plus(width, -1)):
            return affine.expression(width)
        return ir.Call("max", (affine.expression(width), _integer(1)))

    def _index(self, extents: Mapping[str, ir.Expr]) -> None:
        self.new_indices += [ir.IndexRange(name, _integer(0), high) for name, high in extents.items()]

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
            raise _RefusedError(f"{outputs[0].name} is an output over the whole square", outputs[0])
        return frozenset(found)

    def _region(self) -> frozenset[str]:
        """Those, and tensors of a query that are made of them."""
        found = set(self.square)
        for d in definitions(self.program):
            names = {x.tensor for side in _sides(d.equation) for x in ir.walk(side) if isinstance(x, ir.Read)}
            if names & self.square and d.tensor.name not in found:
                if self.band.q not in d.equation.indices:
                    raise _RefusedError(f"{d.tensor.name} reads the square for no single {self.band.q}", d.equation)
                found.add(d.tensor.name)
        scans = [p for p in parts_of(self.program) if isinstance(p, Recurrence)]
        if any(t.name in found for p in scans for t in p.tensors):
            raise _RefusedError("a scan is part of it", self.program)
        return frozenset(found)

    def run(self) -> ir.Program:
        for p in parts_of(self.program):
            if isinstance(p, Recurrence) or p.tensor.name not in self.region:
                self.made.append(p)
                continue
            blocked = self._definition(p)
            self.made.append(blocked)
            if p.tensor.name not in self.square and self._read_whole(p.tensor):
                self.made.append(self._whole(p, blocked))
        return rebuilt(self.program, self.made, self.new_indices)

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

    def _definition(self, d: Definition) -> Definition:
        e = d.equation
        indices = self._axes(e.indices)
        if len(indices) > MAX_AXES:
            raise _RefusedError(f"{d.tensor.name} in blocks has {len(indices)} axes, a TPC tensor has {MAX_AXES}", e)
        operands = contraction_of(e, self.program) is not None
        value = self._visit(e.value, operands)
        domain = self._visit(e.domain, False) if e.domain is not None else None
        if d.tensor.name in self.square and not operands:
            domain = conjunction([domain, *self._inside()])
        name = self.blocked[d.tensor.name]
        shape = tuple(self.extents.get(i) or self.program.range_of(i).high for i in indices)
        tensor = replace(d.tensor, name=name, shape=shape, role=ir.Role.INTERMEDIATE)
        return Definition(tensor, ir.Equation(name, indices, value, domain, span=e.span))

    def _whole(self, d: Definition, blocked: Definition) -> Definition:
        """The tensor itself, of its blocks."""
        tile = _integer(self.tile)
        query = ir.Index(self.band.q)
        at = {
            self.block: ir.Binary("//", query, tile),
            self.row: ir.Binary("%", query, tile),
        }
        own = tuple(at.get(i) or ir.Index(i) for i in blocked.equation.indices)
        value = ir.Read(blocked.tensor.name, own, blocked.tensor.dtype, span=d.equation.span)
        return Definition(d.tensor, ir.Equation(d.tensor.name, d.equation.indices, value, None, span=d.equation.span))

    def _axes(self, indices: Sequence[str]) -> tuple[str, ...]:
        """q and k become n, i and j; n goes where the first of them was."""
        own = {self.band.q: self.row, self.band.k: self.column}
        result: list[str] = []
        for i in indices:
            if i in own and self.block not in result:
                result.append(self.block)
            result.append(own.get(i, i))
        return tuple(result)

    def _visit(self, e: ir.Expr, operands: bool) -> ir.Expr:
        """An expression of the region at (n, i, j). `operands`: reads of other tensors become blocked copies."""
        match e:
            case ir.Reduce():
                return self._reduce(e, operands)
            case ir.Index():
                return self.at.get(e.name, e)
            case ir.Binary() if e.operator in ir.COMPARISONS:
                moved = with_children(e, [self._visit(c, operands) for c in ir.children(e)])
                return moved if moved is e else _balanced(moved)
            case ir.Read() if e.tensor in self.region:
                return self._own(e)
            case ir.Read() if operands and ir.free_indices(e) & {self.band.q, self.band.k}:
                return self._copied(e)
            case _:
                return with_children(e, [self._visit(c, operands) for c in ir.children(e)])

    def _own(self, e: ir.Read) -> ir.Expr:
        if any(not isinstance(i, ir.Index) for i in e.indices):
            raise _RefusedError(f"{text(e)} is read beside its own point", e)
        names = [i.name for i in e.indices if isinstance(i, ir.Index)]
        wanted = {self.band.q, self.band.k} if e.tensor in self.square else {self.band.q}
        defined = next(d.equation.indices for d in definitions(self.program) if d.tensor.name == e.tensor)
        if not wanted <= set(names) or any(
            (i in wanted) != (n in wanted) or (i in wanted and i != n) for i, n in zip(defined, names, strict=True)
        ):
            raise _RefusedError(f"{text(e)} is read at other indices than {self.band.q} and {self.band.k}", e)
        return ir.Read(self.blocked[e.tensor], tuple(ir.Index(i) for i in self._axes(names)), e.dtype, span=e.span)

    def _reduce(self, e: ir.Reduce, operands: bool) -> ir.Expr:
        if self.band.q in e.indices:
            raise _RefusedError(f"a reduction over {self.band.q} reads the square", e)
        if self.band.k not in e.indices:
            return with_children(e, [self._visit(c, operands) for c in ir.children(e)])
        held = support_of(e, self.program)
        low, high = self._edges()
        if low not in held or high not in held:
            raise _RefusedError(f"this reduction over {self.band.k} reaches beyond the band", e)
        domain = conjunction([self._visit(e.domain, False) if e.domain is not None else None, *self._inside()])
        sink = self._visit(e.sink, False) if e.sink is not None else None
        indices = tuple(self.column if i == self.band.k else i for i in e.indices)
        body = self._visit(e.body, operands)
        if operands:  # operands are absent outside their tensors, and the matmul takes no domain
            domain = self._visit(e.domain, False) if e.domain is not None else None
        return ir.Reduce(e.kind, indices, domain, sink, body, span=e.span)

    def _edges(self) -> tuple[Polynomial, Polynomial]:
        difference = _difference(self.band.k, self.band.q)
        return affine.subtract(difference, self.band.low), affine.subtract(self.band.high, difference)

    def _inside(self) -> Iterator[ir.Expr]:
        """The block's point is one of the square: rows may lie behind the last query, columns outside the keys."""
        row, column = self.at[self.band.q], self.at[self.band.k]
        yield ir.Binary("<", row, self.ranges[self.band.q].high)
        yield ir.Binary("<=", _integer(0), column)
        yield ir.Binary("<", column, self.ranges[self.band.k].high)

    def _copied(self, e: ir.Read) -> ir.Read:
        """A contraction's operand from outside the region: the blocks of its axis that q or k runs along."""
        moving = [a for a, i in enumerate(e.indices) if ir.free_indices(i) & {self.band.q, self.band.k}]
        if len(moving) != 1:
            raise _RefusedError(f"{text(e)} runs along its diagonal", e)
        axis = moving[0]
        offset, index = self._offset(e.indices[axis], e)
        own = self.row if index == self.band.q else self.column
        copy = self._copy(e, axis, own, offset)
        indices = (*e.indices[:axis], ir.Index(self.block), ir.Index(own), *e.indices[axis + 1 :])
        return ir.Read(copy.tensor.name, indices, e.dtype, span=e.span)

    def _offset(self, e: ir.Expr, read: ir.Read) -> tuple[Polynomial, str]:
        for index in (self.band.q, self.band.k):
            offset = affine.subtract(affine.polynomial(e), affine.polynomial(ir.Index(index)))
            if not _has_indices(offset):
                return offset, index
        raise _RefusedError(f"{text(read)} is not read at {self.band.q} or {self.band.k} plus a constant", read)

    def _copy(self, e: ir.Read, axis: int, own: str, offset: Polynomial) -> Definition:
        source = self.program.tensor(e.tensor)
        at = affine.expression(affine.add(affine.polynomial(self.at[self._outer(own)]), offset))
        known = next((c for c in self.copies if _same_copy(c, e.tensor, axis, at)), None)
        if known is not None:
            return known
        free = self._free_axes(e, axis, source)
        indices = (*free[:axis], self.block, own, *free[axis + 1 :])
        if len(indices) > MAX_AXES:
            raise _RefusedError(f"{e.tensor} in blocks has {len(indices)} axes, a TPC tensor has {MAX_AXES}", e)
        name = self.names.fresh(f"{e.tensor}_b")
        reads = tuple(at if a == axis else ir.Index(i) for a, i in enumerate(free))
        value = ir.Read(e.tensor, reads, e.dtype, span=e.span)
        before_end = ir.Binary("<", at, source.shape[axis])
        from_start = None if own == self.row and not offset else ir.Binary("<=", _integer(0), at)
        domain = conjunction([from_start, before_end])
        shape = (*source.shape[:axis], self.extents[self.block], self.extents[own], *source.shape[axis + 1 :])
        tensor = ir.Tensor(name, shape, source.dtype, ir.Role.INTERMEDIATE, span=e.span)
        made = Definition(tensor, ir.Equation(name, indices, value, domain, span=e.span))
        self.copies.append(made)
        self.made.append(made)
        return made

    def _outer(self, own: str) -> str:
        return self.band.q if own == self.row else self.band.k

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


def _balanced(e: ir.Expr) -> ir.Expr:
    """A comparison of integers without what both sides have in common: `i <= j` for `64*n + i <= 64*n + j`."""
    polynomials = at_least_zero(e)
    if polynomials is None or len(polynomials) != 1:
        return e
    (p,) = polynomials
    more = {m: c for m, c in p.items() if c > 0}
    less = {m: -c for m, c in p.items() if c < 0}
    return ir.Binary("<=", affine.expression(less), affine.expression(more), span=e.span)


def _sides(e: ir.Equation) -> list[ir.Expr]:
    return [s for s in (e.value, e.domain) if s is not None]


def _integer(value: int) -> ir.Literal:
    return ir.Literal(value, DType.I32)


def _plus(p: Polynomial, by: int) -> Polynomial:
    return affine.add(p, affine.constant(by))
