"""The shape of a stage's kernel, decided before any code: what a member of the index space covers, what it loops over,
how elements sit in the lanes.

Row indices, those of all outputs that no reduction binds, make the index space. Where the lane index is one of them, a
member covers one vector step along it; else it keeps `ROWS` rows in flight. A contraction does both: its member is a
tile of `TILE_ROWS` rows by one vector, so that a loaded vector is multiplied by as many broadcast elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from tpcgen.diagnostics import Span
from tpcgen.kernel.bounds import integer
from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.functions import INLINE
from tpcgen.kernel.ir import NARROW, IndexDim, Lanes, TensorParam
from tpcgen.kernel.presence import both, bound_by_reductions, conjuncts, domain, explicit
from tpcgen.kernel.ranges import guards_of_ranges
from tpcgen.kernel.signs import signs_shared
from tpcgen.partition.plan import TpcStage
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    COMPARISONS,
    Attr,
    Binary,
    Call,
    Equation,
    Expr,
    Index,
    IndexRange,
    Program,
    Read,
    Reduce,
    Size,
    Tensor,
    free_indices,
    walk,
)
from tpcgen.program.print import expression as text

ROWS = 4
MAP_ROWS = 8
"""Vectors of 64 lanes that a member of a map has in flight: with 4 the chain of a division leaves 17 % of its bundles
empty on gaudi2, with 8 none.
"""
_WIDE = frozenset({"erf", "gelu", "softplus"})
"""Functions that keep too many registers for that: gelu spills (64 bundles instead of 53)."""
_PLACES = 3
"""Most coordinates of a row for that: each is a variable, and the open compiler has 32 registers for these."""
LANE_ROWS, LOOP_ROWS = 16, 8
"""Rows whose reductions along the lanes wait for each other, where a row takes few registers; and those of them that a
loop runs through at once: their sums, a pair each, and what is loaded take 24 of the 40.
"""
TILE_ROWS = 8
"""Each row of a tile takes three registers of the 40: its block's sum, and the total with its excess."""
MAX_AXES = 5
MAX_TENSORS = 16


@dataclass(frozen=True, slots=True)
class Output:
    """One equation, its presence explicit; `loops` are the indices a member runs through, lane last."""

    tensor: Tensor
    indices: tuple[str, ...]
    value: Expr
    where: Expr | None
    loops: tuple[str, ...]
    span: Span


@dataclass(frozen=True)
class Shape:
    """`rows`: the indices of the index space; of `row_in_flight` a member takes `in_flight` values at once.

    `tiled`: the kernel is a contraction whose rows in flight share the vectors that they load. `innermost`: the row
    that members of a piece follow each other along, where it is not the order in memory that decides; tiles do along
    their rows, as there may be one vector along the lanes only and what tiles share is made once for all in a loop.
    """

    program: Program
    lane: str
    outputs: tuple[Output, ...]
    rows: tuple[str, ...]
    row_in_flight: str | None
    lanes: Lanes
    ranges: Mapping[str, IndexRange]
    in_flight: int = ROWS
    tiled: bool = False
    innermost: str | None = None

    def step(self, index: str) -> int:
        """Elements a member covers along a row index."""
        if index == self.lane:
            return self.lanes.step
        return self.in_flight if index == self.row_in_flight else 1

    def together(self, loops: tuple[str, ...], points: int) -> int:
        """Values of the index around the lanes' that an iteration of loops without conditions takes, where no rows of
        the index space are in flight.
        """
        several = points == 1 and len(loops) > 1 and loops[-1] == self.lane
        return min(self.in_flight, LOOP_ROWS) if several else 1

    def index_space(self) -> tuple[IndexDim, ...]:
        """Fastest first, as the rows are stored; one member where there are no rows."""
        fastest_first = self.rows[::-1]
        dims = tuple(map(self._dim, sorted(fastest_first, key=self._place)))
        if len(dims) > MAX_AXES:
            message = f"{len(dims)} parallel indices, an index space has {MAX_AXES} dims"
            raise not_lowered("E423", message, self.program.span)
        return dims or (IndexDim("member", integer(1), 1),)

    def _place(self, index: str) -> int:
        if self.innermost is None:
            return 0
        return 0 if index == self.innermost else 2 if index == self.lane else 1

    def _dim(self, index: str) -> IndexDim:
        r, step = self.ranges[index], self.step(index)
        if r.low != integer(0):
            raise not_lowered("E423", f"index {index} of an output starts at {text(r.low)}, not at 0", r.span)
        extent = r.high if step == 1 else Binary("//", Binary("+", r.high, integer(step - 1)), integer(step))
        return IndexDim(index, extent, step)

    def tensors(self) -> tuple[TensorParam, ...]:
        """Inputs, then outputs, sizes in TPC order."""
        outputs = self.program.outputs
        return tuple(
            TensorParam(t.name, t.dtype, tuple(reversed(t.shape)) or (integer(1),), t in outputs)
            for t in (*self.program.inputs, *outputs)
        )


def shape_of(stage: TpcStage) -> Shape:
    """DiagnosticError E420 to E426 for what does not fit a kernel."""
    program = stage.program
    check_tensors(program)
    outputs = _outputs(program, stage.lane)
    rows = tuple(i for i in outputs[0].indices if i not in outputs[0].loops)
    lanes = lanes_of(program, outputs, stage.lane)
    ranges = {r.name: r for r in program.indices}
    row = _tile_row(outputs, stage.lane)
    if row is not None:
        wide = any(t.dtype in NARROW for t in program.tensors)
        lanes = lanes if wide else Lanes.SINGLE
        in_flight = TILE_ROWS // lanes.parts
        return Shape(program, stage.lane, outputs, rows, row, lanes, ranges, in_flight, tiled=True, innermost=row)
    row = _row_in_flight(outputs, rows, stage.lane)
    in_flight = MAP_ROWS // _registers(lanes, outputs) if _is_light_map(outputs) else ROWS
    if _is_light_along(outputs, rows, stage.lane):
        in_flight = LANE_ROWS
    innermost = _innermost(outputs, rows, stage.lane) if _is_map(outputs) else None
    return Shape(program, stage.lane, outputs, rows, row, lanes, ranges, in_flight, innermost=innermost)


def check_tensors(program: Program) -> None:
    """DiagnosticError E423, E424, E426."""
    if len(program.tensors) > MAX_TENSORS:
        message = f"{len(program.tensors)} tensors, a TPC kernel takes {MAX_TENSORS}"
        raise not_lowered("E424", message, program.span)
    for t in program.tensors:
        if len(t.shape) > MAX_AXES:
            raise not_lowered("E423", f"{t.name} has {len(t.shape)} axes, a TPC tensor has {MAX_AXES}", t.span)
        if t.dtype not in (DType.F32, DType.I32, *NARROW):
            message = f"{t.name} is {t.dtype}: only f32, bf16, f16 and i32 are lowered to the TPC yet"
            raise not_lowered("E426", message, t.span)


def _outputs(program: Program, lane: str) -> tuple[Output, ...]:
    equations = tuple(_equations(program))
    looped = frozenset[str]().union(*(bound_by_reductions(e.value) for e in equations))
    shared = frozenset(equations[0].indices).intersection(*(e.indices for e in equations))
    result: list[Output] = []
    for e in equations:
        present = explicit(signs_shared(e.value), frozenset(conjuncts(e.domain)))
        where = both(domain(e.domain), present.where)
        if isinstance(e.value, Reduce) and e.value.kind in ("sum", "max", "min"):
            # A sum over no point is 0, as what is absent; max and min are guarded (guard_absent).
            where = domain(e.domain)
        loops = sorted((i for i in e.indices if i in looped or i not in shared), key=lambda i: i == lane)
        tensor = program.tensor(e.target)
        value = guards_of_ranges(present.value, program)
        result.append(Output(tensor, e.indices, value, where, tuple(loops), e.span))
    return tuple(result)


def _equations(program: Program) -> Iterator[Equation]:
    for statement in program.body:
        if not isinstance(statement, Equation):
            raise not_lowered("E422", "scan is not lowered to the TPC yet", statement.span)
        yield statement


def lanes_of(program: Program, outputs: tuple[Output, ...], lane: str) -> Lanes:
    """Pairs of registers where a vector of 16 bits a lane widens to one, and where reductions make a kernel compute:
    more is then in flight, and gaudi2 has instructions on pairs. Maps of f32 wait for memory, of which short vectors
    waste less.
    """
    dtypes = {t.dtype for t in program.tensors if _varies_along(lane, t, outputs)}
    return lanes_that_hold(dtypes, in_pairs=any(bound_by_reductions(o.value) for o in outputs))


def lanes_that_hold(dtypes: Set[DType], *, in_pairs: bool) -> Lanes:
    """Of the dtypes loaded and stored along the lanes; `in_pairs`: f32 alone comes in pairs too."""
    if dtypes and dtypes <= NARROW.keys():
        return Lanes.EVEN_ODD
    return Lanes.LINEAR if dtypes & NARROW.keys() or in_pairs else Lanes.SINGLE


def _is_map(outputs: tuple[Output, ...]) -> bool:
    return not any(o.loops or bound_by_reductions(part) for o in outputs for part in _parts(o))


def _parts(o: Output) -> tuple[Expr, ...]:
    return (o.value,) if o.where is None else (o.value, o.where)


def _everything(outputs: tuple[Output, ...]) -> list[Expr]:
    return [x for o in outputs for part in _parts(o) for x in walk(part)]


def _innermost(outputs: tuple[Output, ...], rows: tuple[str, ...], lane: str) -> str | None:
    """The row that the fewest reads vary along: what does not is loaded once for all members. Coordinates must move
    along with it.
    """
    reads = {(x.tensor, x.indices) for x in _everything(outputs) if isinstance(x, Read)}
    varying = {i: [c for _, indices in reads for c in indices if i in free_indices(c)] for i in rows if i != lane}
    steady = [
        i
        for i, coordinates in varying.items()
        if all(affine.coefficient_of(affine.polynomial(c), i) == 1 for c in coordinates)
    ]
    return min(reversed(steady), key=lambda i: len(varying[i]), default=None)


def _registers(lanes: Lanes, outputs: tuple[Output, ...]) -> int:
    """Of 64 lanes of f32 per row. bf16 that goes through no special function is in one, or in two for a moment."""
    functions = any(isinstance(x, Call) and x.function not in INLINE for x in _everything(outputs))
    divided = any(isinstance(x, Binary) and x.operator == "/" for x in _everything(outputs))
    return 1 if lanes is Lanes.EVEN_ODD and not functions and not divided else lanes.parts


def _is_light_map(outputs: tuple[Output, ...]) -> bool:
    if not _is_map(outputs):
        return False
    everything = _everything(outputs)
    read = {x.indices for x in everything if isinstance(x, Read)}
    wide = any(isinstance(x, Call) and x.function in _WIDE for x in everything)
    plain = all(_is_affine(i) for indices in read for i in indices)
    return plain and not wide and len(read) + len(outputs) <= _PLACES


def _is_light_along(outputs: tuple[Output, ...], rows: tuple[str, ...], lane: str) -> bool:
    """Whether rows are only multiplied and added along the lanes: what is computed of a row's sums does not matter."""
    everything = _everything(outputs)
    if lane in rows or not any(isinstance(x, Reduce) and lane in x.indices for x in everything):
        return False
    costly = [
        x for x in everything if isinstance(x, Call) or (isinstance(x, Binary) and x.operator in ("/", *COMPARISONS))
    ]
    reads = {x.indices for x in everything if isinstance(x, Read) and len(x.indices) > 1}
    plain = all(_is_affine(i) for indices in reads for i in indices)
    alone = not any(lane in free_indices(x) for x in costly) and all(o.where is None for o in outputs)
    return plain and alone and len(reads) + len(outputs) <= _PLACES


def _is_affine(coordinate: Expr) -> bool:
    # A gather or a division takes scalar registers for each row in flight: the open compiler ends in an error at 8.
    return all(isinstance(atom, Index | Size | Attr) for atom in affine.atoms(affine.polynomial(coordinate)))


def _varies_along(lane: str, tensor: Tensor, outputs: tuple[Output, ...]) -> bool:
    for o in outputs:
        if o.tensor is tensor and lane in o.indices:
            return True
        reads = (x for part in (o.value, o.where) if part is not None for x in walk(part) if isinstance(x, Read))
        if any(r.tensor == tensor.name and any(lane in free_indices(i) for i in r.indices) for r in reads):
            return True
    return False


def _tile_row(outputs: tuple[Output, ...], lane: str) -> str | None:
    """The row index of a tile: the last one that only the factor without the lane has, of a bare contraction."""
    if len(outputs) != 1 or outputs[0].where is not None or outputs[0].loops:
        return None
    match outputs[0].value:
        case Reduce("sum", (_,), None, _, Binary("*", Read() as left, Read() as right)):
            factors = (left, right)
        case _:
            return None
    vectors, scalars = ([f for f in factors if (lane in free_indices(f)) == along] for along in (True, False))
    if len(vectors) != 1 or lane not in outputs[0].indices:
        return None
    shared = free_indices(vectors[0])
    own = [i for i in outputs[0].indices if i in free_indices(scalars[0]) and i not in shared]
    return own[-1] if own else None


def _row_in_flight(outputs: tuple[Output, ...], rows: tuple[str, ...], lane: str) -> str | None:
    if lane in rows and any(o.loops or bound_by_reductions(o.value) for o in outputs):
        return None  # loops along other indices are unrolled instead
    along = [x for x in _everything(outputs) if isinstance(x, Reduce) and lane in x.indices]
    whole = all(o.where is None and len(o.loops) > 1 and o.loops[-1] == lane for o in outputs if o.loops)
    if along and all(reduces_rows(x, lane) for x in along) and whole:
        return None  # the rows that are reduced and stored are in flight instead
    others = [i for i in rows if i != lane]
    return others[-1] if others else None


def reduces_rows(e: Reduce, lane: str) -> bool:
    """Whether it makes one value of several whole rows along the lanes: there may be few such values."""
    return lane in e.indices and len(e.indices) > 1 and e.domain is None
