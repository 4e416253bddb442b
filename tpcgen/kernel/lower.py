"""From a TPC stage to a kernel.

shape.py decides what a member of the index space covers; a member then writes its outputs one after the other. Values
are computed where they are first needed, in the outermost block where what they depend on is known: a reduction becomes
a loop of its own in front of the loop that uses it, and every pass over the data computes its expressions anew.
"""

from __future__ import annotations

from dataclasses import replace

from tpcgen.kernel.attention import draft_attention
from tpcgen.kernel.bounds import integer, plus
from tpcgen.kernel.cache import CacheAccess, cache_of
from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.fuse import widening_subtractions
from tpcgen.kernel.integers import Integers
from tpcgen.kernel.ir import NARROW, Imm, Kernel, Note, Operand, Reg, Store
from tpcgen.kernel.ir import walk as walk_statements
from tpcgen.kernel.loops import First, Instances, Loops, Nest
from tpcgen.kernel.names import readable
from tpcgen.kernel.narrow import narrowed
from tpcgen.kernel.order import loads_first
from tpcgen.kernel.packed import statistics_packed
from tpcgen.kernel.piece import through_the_piece
from tpcgen.kernel.reductions import Reductions, unrolled
from tpcgen.kernel.rotate import loads_ahead
from tpcgen.kernel.scan import draft_scan
from tpcgen.kernel.scopes import Bound, Env, Scopes
from tpcgen.kernel.shape import LOOP_ROWS, Output, Shape, shape_of
from tpcgen.kernel.unused import without_unused
from tpcgen.kernel.values import Values
from tpcgen.kernel.verify import verify
from tpcgen.partition.plan import TpcStage
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Expr, Index, Read, Reduce, Scan, Tensor, children, free_indices, type_of, walk
from tpcgen.rewrite.edit import conjunction

MAX_SCALARS = 32
MAX_STATEMENTS = 8192
"""Four in each of the 2,048 bundles that 64 KB of code hold."""


def lower(stage: TpcStage, *, target: str, name: str) -> Kernel:
    """The kernel of a stage; `target` is gaudi, gaudi2 or gaudi3.

    DiagnosticError with an E4xx for what is not lowered: rank, gathers, tensors of more than 5 axes, more than 16
    tensors or 32 scalars, dtypes without arithmetic here, code beyond 64 KB.
    """
    return verify(readable(replace(draft(stage, target), name=name)))


def draft(stage: TpcStage, target: str) -> Kernel:
    """The kernel as it is scheduled, all that its cost depends on; named as the stage, registers not readable yet."""
    if stage.tile:
        made = without_unused(draft_attention(stage, target))
    elif any(isinstance(s, Scan) for s in stage.program.body):
        made = _compact(draft_scan(stage, target))
    else:
        made = _compact(_draft(stage, target))
    count = sum(1 for _ in walk_statements(made.body))
    if count > MAX_STATEMENTS:
        message = f"a kernel of {count:,} operations, at most {MAX_STATEMENTS:,} fit its code"
        raise not_lowered("E430", message, stage.program.span, "searches in conditions of one another grow so")
    return through_the_piece(loads_ahead(loads_first(widening_subtractions(made))))


def _compact(kernel: Kernel) -> Kernel:
    return without_unused(narrowed(without_unused(statistics_packed(kernel))))


def _draft(stage: TpcStage, target: str) -> Kernel:
    shape = shape_of(stage)
    scopes = Scopes()
    integers = Integers(shape, scopes)
    values = Values(shape, scopes, integers, target)
    loops = Loops(shape, scopes, integers)
    rows = _rows(shape)
    cache = cache_of(shape)
    access = CacheAccess(cache, shape, scopes, values, rows) if cache is not None else None
    values.reduction = Reductions(shape, scopes, values, loops, rows, access).value
    index_space = shape.index_space()
    for output in shape.outputs:
        _Writer(shape, scopes, integers, values, loops, rows, access).write(output)
    if len(integers.scalars) > MAX_SCALARS:
        message = f"{len(integers.scalars)} scalar parameters, a TPC kernel takes {MAX_SCALARS}"
        raise not_lowered("E425", message, shape.program.span)
    return Kernel(
        name=stage.name,
        target=target,
        lanes=shape.lanes,
        tensors=shape.tensors(),
        scalars=tuple(integers.scalars.values()),
        index_space=index_space,
        functions=tuple(values.functions.values()),
        setup=scopes.statements(0),
        body=scopes.statements(1),
        arrays=(cache.array,) if cache is not None else (),
        title="; ".join(f"{o.tensor.name}[{', '.join(o.indices)}]" for o in shape.outputs),
    )


def _rows(shape: Shape) -> list[Env]:
    """The points of a member: one, or the rows in flight."""
    base = {i: Bound(Index(i), 1) for i in shape.rows}
    row = shape.row_in_flight
    if row is None:
        return [base]
    return [{**base, row: Bound(plus(Index(row), n), 1)} for n in range(shape.in_flight)]


class _Writer:
    """Outputs of a member."""

    def __init__(
        self,
        shape: Shape,
        scopes: Scopes,
        integers: Integers,
        values: Values,
        loops: Loops,
        rows: list[Env],
        cache: CacheAccess | None,
    ) -> None:
        self.cache = cache
        self.shape = shape
        self.scopes = scopes
        self.integers = integers
        self.values = values
        self.loops = loops
        self.rows = rows

    def write(self, output: Output) -> None:
        self._require_contiguous(output)
        for point in self.rows:
            self._prepare(output.value, point)
        if output.span.line:
            self.scopes.append(1, Note(f"{output.tensor.name}[{', '.join(output.indices)}]", output.span))
        if not output.loops:
            conditions = (output.where,) if output.where is not None else ()
            for point in self.rows:
                self._store(output, point, conditions)
            return

        def body(instances: Instances, conditions: tuple[Expr, ...]) -> None:
            for points in instances:
                for point in points:
                    self._store(output, point, conditions)

        def absent(point: Env) -> None:
            self._put(output, point, _zero(output.tensor))

        alone = len(self.rows) == 1 and len(output.loops) == 1 and output.loops[0] != self.shape.lane
        unroll = unrolled(self.shape.lanes) if alone else 1
        for n in range(0, len(self.rows), LOOP_ROWS):
            rows = self.rows[n : n + LOOP_ROWS]
            first = self._kept(output)
            together = self.shape.together(output.loops, len(rows)) if output.where is None else 1
            nest = Nest(output.loops, output.where, rows, unroll, body, absent, first=first, together=together)
            self.loops.write(nest)

    def _kept(self, output: Output) -> First | None:
        """Points whose weights are in local memory."""
        access = self.cache
        if access is None or access.cache.output is not output:
            return None

        def body(instances: Instances, conditions: tuple[Expr, ...], begin: Expr) -> None:
            for points in instances:
                for point in points:
                    access.recall(access.cache.weight, point, begin)
                    self._store(output, point, conditions)

        return First(access.cache.most, body, together=2)

    def _prepare(self, e: Expr, point: Env) -> None:
        """What an output needs once per row comes before the loops that store it."""
        if type_of(e) is not DType.F32 or not any(isinstance(x, Read | Reduce) for x in walk(e)):
            return
        if free_indices(e) <= set(self.shape.rows) - {self.shape.lane}:
            self.values.value(e, point)
        elif not isinstance(e, Reduce):
            for child in children(e):
                self._prepare(child, point)
        elif free_indices(e) <= set(self.shape.rows):
            self.values.value(e, point)

    def _require_contiguous(self, output: Output) -> None:
        lane = self.shape.lane
        if lane in output.indices and output.indices[-1] != lane:
            message = f"{output.tensor.name} is not contiguous along {lane}, the index of the vector lanes"
            raise not_lowered("E421", message, output.span)

    def _store(self, output: Output, point: Env, conditions: tuple[Expr, ...]) -> None:
        condition = self.values.predicate(conjunction(conditions), point)
        hint = _hint(output.tensor)
        level = self.scopes.level
        value: Operand
        if output.tensor.dtype is DType.I32:
            value = self.values.lanes.vector(output.value, point, level)
        else:
            value = self.values.value(output.value, point, hint)
        self._put(output, point, self.values.choose(level, condition, value, _zero(output.tensor), hint))

    def _put(self, output: Output, point: Env, value: Operand) -> None:
        level, tensor = self.scopes.level, output.tensor
        coords = tuple(self.integers.scalar(Index(i), point) for i in reversed(output.indices)) or (integer(0),)
        stored = self.values.register(value, level)
        if tensor.dtype in NARROW:
            stored = self._narrow(tensor, stored, 0 if isinstance(value, Imm) else level)
        self.scopes.append(level, Store(tensor.name, coords, stored, single=self.shape.lane not in output.indices))

    def _narrow(self, tensor: Tensor, wide: Reg, level: int) -> Reg:
        to = NARROW[tensor.dtype]
        hint = f"{'zero' if level == 0 else _hint(tensor)}_{to.suffix}"
        found = self.scopes.recall(level, (to.narrow, wide), lambda: self.scopes.emit(level, to.narrow, (wide,), hint))
        assert isinstance(found, Reg)
        return found


def _zero(tensor: Tensor) -> Imm:
    return Imm(0) if tensor.dtype is DType.I32 else Imm(0.0)


def _hint(tensor: Tensor) -> str:
    """Tensors are parameters of main: an element of `y` is `y_v`."""
    name = tensor.name.lower()
    return name if name != tensor.name else f"{name}_v"
