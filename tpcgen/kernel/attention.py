"""From attention over a band to one kernel: the scores live in local memory, nothing of the square anywhere else.

The lanes are 128 queries. Their member of the index space goes through the keys of the band, `stage.tile` at a time:

    scores    a tile of keys at once: each loaded vector of queries is multiplied by an element of every key
    domain    scores that a query does not visit become -inf, where the band begins and ends
    maximum   of the row so far, and by what sums of earlier tiles shrink with it
    weights   exp(score - maximum), in the place of the scores, and their sum
    values    a tile of columns at once: each vector of weights is multiplied by an element of every column

A row divides by its sum at the end. Sums over keys are sums of tiles: rounding grows with their number, not with that
of the keys. Where local memory lacks the room for all columns, members share them and compute their weights anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tpcgen.kernel.bounds import bounds, direction, integer, plus, smallest
from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.functions import EXP_NONPOSITIVE, EXP_SCALED, FUNCTIONS, RECIP_POSITIVE, Precision
from tpcgen.kernel.integers import Integers
from tpcgen.kernel.ir import (
    Broadcast,
    Imm,
    IndexDim,
    Kernel,
    Lanes,
    LocalArray,
    LocalLoad,
    LocalStore,
    Loop,
    Note,
    Operand,
    Reg,
    Store,
    VectorOp,
    VType,
)
from tpcgen.kernel.loops import Instances, Loops, Nest
from tpcgen.kernel.presence import both, domain, explicit, positive_factor
from tpcgen.kernel.reductions import CHAINS
from tpcgen.kernel.scan import LOCAL_VECTORS
from tpcgen.kernel.scopes import Bound, Env, Scopes
from tpcgen.kernel.shape import MAX_AXES, Output, Shape, check_tensors
from tpcgen.kernel.values import InPlace, Values
from tpcgen.partition.plan import TpcStage
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Expr, Index, IndexRange, Literal, Read, Unary, free_indices
from tpcgen.program.substitute import rewrite
from tpcgen.rewrite.attention import attention_in
from tpcgen.rewrite.edit import conjunction, names_in_use
from tpcgen.rewrite.outcome import Refused


@dataclass(frozen=True, slots=True)
class Tiling:
    """`keys` and `columns`: sums of a tile, pairs of registers. `depth`: terms of a sum of products with keys per
    iteration, `value_depth` with values.
    """

    keys: int
    columns: int
    depth: int
    value_depth: int


TILINGS = {DType.BF16: Tiling(12, 8, 4, 8), DType.F32: Tiling(8, 8, 2, 2)}
"""What the open compiler has registers for: with more it spills, and soon gives up ("Too many vector spills")."""
UNROLL = 4
"""Keys in flight where each is on its own."""
SPARE_VECTORS = 2
"""Of local memory, for registers that the compiler puts there."""
_LOWEST = -3.4028234663852886e38
"""Below it there is no finite score: what a row's maximum starts from."""
_FIRST, _STOP, _KEYS = "@first", "@stop", "@keys"
"""Of the keys of a tile, as indices of a point: the first one, the one behind the last, how many."""
_LEFT, _COUNT = "@left", "@count"
"""The first column of a member, how many it has."""
_SCORE, _MAX, _SUM = "@score", "@max", "@sum"
"""What a member knows of a score or a row, read like a tensor."""


def draft_attention(stage: TpcStage, target: str) -> Kernel:
    """As `lower.draft`, of a stage with `tile` keys at a time. DiagnosticError E421 to E426 for what does not fit."""
    return _Lowering(stage, target).kernel()


class _Lowering:
    def __init__(self, stage: TpcStage, target: str) -> None:
        found = attention_in(stage.program)
        assert not isinstance(found, Refused), found.reason
        self.attention = found
        self.program, self.tile = stage.program, stage.tile
        self.target, self.name = target, stage.name
        check_tensors(self.program)
        self.wide = found.vector.dtype is DType.F32
        self.tiling = TILINGS[found.vector.dtype]
        self.shape = self._shape(stage.lane)
        self.scopes = Scopes()
        self.integers = Integers(self.shape, self.scopes)
        self.values = Values(self.shape, self.scopes, self.integers, target)
        self.values.held = self._held
        self.registers: dict[str, Reg] = {}
        self.names = names_in_use(self.program)
        self.row = self.names.fresh("row")
        """Index of an element of an array in loops over it: counted from 0, as loops with other bounds keep an address
        in a register for each access.
        """
        self._arrays()
        self._logits()

    # --- what there is ----------------------------------------------------------------------------------------------

    def _shape(self, lane: str) -> Shape:
        a = self.attention
        output = Output(
            self.program.tensor(a.values.target), a.values.indices, a.values.value, None, (a.column,), a.values.span
        )
        if lane != a.query or output.indices[-1] != lane:
            message = f"{output.tensor.name} is not contiguous along {a.query}, the index of the vector lanes"
            raise not_lowered("E421", message, output.span)
        rows = tuple(i for i in output.indices if i != a.column)
        ranges = {r.name: r for r in self.program.indices}
        lanes = Lanes.LINEAR if self.wide else Lanes.EVEN_ODD
        return Shape(self.program, lane, (output,), rows, None, lanes, ranges)

    def _arrays(self) -> None:
        """Rows of `totals`, the columns of a member: what the others leave, in whole tiles."""
        parts = self.shape.lanes.parts
        self.row_max, self.row_sum, self.shrink = (
            LocalArray(name, 1, parts, integer(1)) for name in ("row_max", "row_sum", "shrink")
        )
        self.scores = LocalArray("scores", self.tile, parts, integer(self.tile))
        left = LOCAL_VECTORS // parts - self.tile - 3 - SPARE_VECTORS // parts
        rows = left // self.tiling.columns * self.tiling.columns
        self.totals = LocalArray("totals", rows, parts, integer(rows))

    def _logits(self) -> None:
        """`factor`: by which a product is multiplied before it is stored; `logit`: what is made of that, or None where
        it is the logit. `scale`: what the exponential multiplies by.
        """
        softmax = self.attention.softmax
        body = explicit(softmax.body)
        self.where = both(domain(softmax.domain), body.where)
        sink = explicit(softmax.sink) if softmax.sink is not None else None
        lowest = Literal(-float("inf"), DType.F32)
        self.sink = None
        if sink is not None:
            self.sink = sink.value if sink.where is None else Call("select", (sink.where, sink.value, lowest))
        factor, rest = positive_factor(body.value, frozenset({self.attention.key}))
        product = self._product_of(rest)
        self.scale = factor if self.sink is None and factor is not None else None
        self.factor = factor if self.sink is not None and product else None
        left = rest if self.scale is not None or self.factor is not None else body.value
        self.logit = None if self._product_of(left) else self._in_tile(left)

    def _product_of(self, e: Expr) -> bool:
        return isinstance(e, Read) and e.tensor == self.attention.scores.target

    def _in_tile(self, e: Expr) -> Expr:
        scores = self.attention.scores.target
        return rewrite(e, lambda x: self._score() if isinstance(x, Read) and x.tensor == scores else x)

    def _score(self) -> Expr:
        at = (Index(_FIRST), Index(self.attention.query), Index(self.attention.key))
        return Read(_SCORE, at, DType.F32)

    def _row(self, what: str) -> Expr:
        """Of the present tile."""
        return Read(what, (Index(_FIRST), Index(self.attention.query)), DType.F32)

    def _held(self, read: Read, env: Env, level: int) -> Reg | None:
        if read.tensor == _SCORE:
            register = self._register("score")
            self.scopes.append(level, LocalLoad(register, self.scores, self._place(env)))
            return register
        return self.registers.get(read.tensor)

    def _place(self, env: Env) -> Expr:
        """Of a key in its tile."""
        return env[self.row].value if self.row in env else _difference(env[self.attention.key].value, env[_FIRST].value)

    def _with_key(self, point: Env) -> Env:
        """The key of a row of the scores."""
        row = point[self.row]
        return {**point, self.attention.key: Bound(plus(point[_FIRST].value, row.value), row.level)}

    def _register(self, hint: str) -> Reg:
        return self.scopes.register(hint, VType.F32, self.shape.lanes.parts)

    def _note(self, text: str, at: Expr) -> None:
        if at.span.line:
            self.scopes.append(self.scopes.level, Note(text, at.span))

    # --- kernel -----------------------------------------------------------------------------------------------------

    def kernel(self) -> Kernel:
        columns = self._columns()
        left = Index(columns.name)
        high = self.integers.scalar(self.shape.ranges[self.attention.column].high, {})
        count = self.integers.let("columns_here", smallest([integer(columns.step), _difference(high, left)]))
        rows = {i: Bound(Index(i), 1) for i in self.shape.rows}
        point: Env = {**rows, _LEFT: Bound(left, 1), _COUNT: Bound(count, 1)}
        self._start(point)
        begin, end = self._band(point)
        level = self.scopes.open()
        first = Index(self.scopes.unique("tile"))
        count = self.integers.let("keys_here", smallest([integer(self.tile), _difference(end, first)]))
        within = {_FIRST: Bound(first, level), _STOP: Bound(plus(first, count), level), _KEYS: Bound(count, level)}
        self._tile({**point, **within})
        self.scopes.append(1, Loop(first.name, begin, end, self.tile, self.scopes.close()))
        self._finish(point)
        output = self.shape.outputs[0]
        return Kernel(
            name=self.name,
            target=self.target,
            lanes=self.shape.lanes,
            tensors=self.shape.tensors(),
            scalars=tuple(self.integers.scalars.values()),
            index_space=(*self.shape.index_space(), columns),
            functions=tuple(self.values.functions.values()),
            setup=self.scopes.statements(0),
            body=self.scopes.statements(1),
            title=f"{output.tensor.name}[{', '.join(output.indices)}]",
            arrays=(self.row_max, self.row_sum, self.shrink, self.scores, self.totals),
        )

    def _columns(self) -> IndexDim:
        """The dim of the index space that divides the columns: of one member where local memory has room for all."""
        step = self.totals.rows
        high = self.shape.ranges[self.attention.column].high
        extent = Binary("//", Binary("+", high, integer(step - 1)), integer(step))
        if len(self.shape.rows) == MAX_AXES:
            message = f"{MAX_AXES} indices of rows, an index space has as many dims and the columns take one"
            raise not_lowered("E423", message, self.attention.values.span)
        return IndexDim(self.names.fresh("columns"), extent, step)

    def _band(self, point: Env) -> tuple[Expr, Expr]:
        """Keys from the first to behind the last one that a query of the member visits."""
        a, lane = self.attention, self.shape.lane
        keys, step = self.shape.ranges[a.key], self.shape.lanes.step
        b = bounds(self.where, a.key, keys.low, keys.high, {lane: step})
        begin, end = (self.integers.scalar(e, point) for e in (b.begin, b.end))
        of_one = bounds(self.where, a.key, keys.low, keys.high, {}).end
        if direction(of_one, lane) == 1:
            behind = self.integers.scalar(self.shape.ranges[lane].high, point)
            last = smallest([plus(point[lane].value, step - 1), plus(behind, -1)])
            end = self.integers.scalar(of_one, {**point, lane: Bound(last, 1)})
        return self.integers.let(f"{a.key}_begin", begin), self.integers.let(f"{a.key}_end", end)

    def _start(self, point: Env) -> None:
        """No key was visited yet; a sink was."""
        level = self.scopes.level
        largest, total = self._register("largest"), self._register("total")
        self.scopes.append(level, VectorOp(largest, "mov", (Imm(_LOWEST),)))
        self.scopes.append(level, VectorOp(total, "mov", (Imm(0.0),)))
        if self.sink is not None:
            logit = self.values.value(self.sink, point, "sink")
            self.scopes.update(level, largest, "max", (largest, logit))
            below = self.scopes.emit(level, "sub", (logit, largest), "below_max")
            total = self._full(self._exp(below))
        self.scopes.append(level, LocalStore(self.row_max, integer(0), largest))
        self.scopes.append(level, LocalStore(self.row_sum, integer(0), total))
        zero = self.values.register(Imm(0.0), 0)
        wide = self._full(zero)

        def clear(row: Expr) -> None:
            for n in range(self.tiling.columns):
                self.scopes.append(self.scopes.level, LocalStore(self.totals, plus(row, n), wide))

        self._loop("row", integer(0), point[_COUNT].value, self.tiling.columns, clear)

    def _loop(self, hint: str, low: Expr, high: Expr, step: int, body: Callable[[Expr], None]) -> None:
        """In the innermost open block."""
        level = self.scopes.open()
        var = self.scopes.unique(hint)
        body(Index(var))
        self.scopes.append(level - 1, Loop(var, low, high, step, self.scopes.close()))

    def _full(self, value: Operand) -> Reg:
        """A register of all lanes."""
        level = self.scopes.level
        register = self.values.register(value, level)
        if register.parts == self.shape.lanes.parts:
            return register
        wide = self._register(register.name.split("#")[0])
        self.scopes.append(level, VectorOp(wide, "mov", (register,)))
        return wide

    def _exp(self, below: Operand) -> Operand:
        """exp(x), x <= 0, right to an ulp of f32: sums of many tiles are multiplied by it."""
        return FUNCTIONS[EXP_NONPOSITIVE](InPlace(self.scopes, self.scopes.level, "shrink"), Precision.F32, (below,))

    # --- a tile of keys ---------------------------------------------------------------------------------------------

    def _tile(self, point: Env) -> None:
        key = self.attention.key
        rows = IndexRange(self.row, integer(0), Index(_KEYS))
        within = {**self.shape.ranges, key: IndexRange(key, Index(_FIRST), Index(_STOP)), self.row: rows}
        self.loops = Loops(replace(self.shape, ranges=within), self.scopes, self.integers)
        self._note(f"{self.attention.scores.target}, a tile of keys", self.attention.scores.value)
        self._products(point)
        self._note(f"{self.attention.weights.target}", self.attention.weights.value)
        self._visited(point)
        self._maximum(point)
        self._weights(point)
        self._note(f"{self.attention.values.target}", self.attention.values.value)
        self._products_with_values(point)

    def _products(self, point: Env) -> None:
        """Of each key with the queries, some keys at once; beyond the last key, that one again."""
        a = self.attention
        last = plus(self.integers.scalar(self.shape.ranges[a.key].high, point), -1)

        def tile(row: Expr) -> None:
            level = self.scopes.level
            key = self.integers.let("key", plus(point[_FIRST].value, row))
            keys = [key, *(smallest([plus(key, n), last]) for n in range(1, self.tiling.keys))]
            sums = self._sums(len(keys), "product")
            at = [{**point, a.key: Bound(k, level)} for k in keys]
            depth = self.integers.scalar(self.shape.ranges[a.depth].high, point)

            def term(p: Expr) -> Env:
                return {a.depth: Bound(p, self.scopes.level)}

            self._contracted(
                depth, self.tiling.depth, term, sums, lambda p: self._vector(a.vector, {**point, **p}), a.element, at
            )
            factor = None if self.factor is None else self.values.value(self.factor, point)
            for n, product in enumerate(sums):
                value = product if factor is None else self.scopes.emit(level, "mul", (product, factor), "logit")
                self.scopes.append(level, LocalStore(self.scores, plus(row, n), value))

        self._loop("row", integer(0), point[_KEYS].value, self.tiling.keys, tile)

    def _sums(self, count: int, hint: str) -> list[Reg]:
        sums = [self._register(hint) for _ in range(count)]
        for register in sums:
            self.scopes.append(self.scopes.level, VectorOp(register, "mov", (Imm(0.0),)))
        return sums

    def _contracted(
        self,
        terms: Expr,
        depth: int,
        term: Callable[[Expr], Env],
        sums: Sequence[Reg],
        vector: Callable[[Env], Reg],
        element: Read,
        at: Sequence[Env],
    ) -> None:
        """Adds products of a vector and one element per sum. `depth` terms per iteration; `term`: what the
        indices of a point are in a term of a number; `at`: the places of the elements otherwise.

        The loop over the terms that are left is inside of one that is passed at most once: what it needs costs nothing
        where nothing is left.
        """
        multiply = "mac_by_parts" if self.wide else "bmac"

        def products(number: Expr) -> None:
            level = self.scopes.level
            p = term(number)
            x = vector(p)
            for register, place in zip(sums, at, strict=True):
                y = self._element(element, {**place, **p})
                self.scopes.update(level, register, multiply, (x, y, register))

        def several(first: Expr) -> None:
            for n in range(depth):
                products(plus(first, n))

        whole = Binary("*", Binary("//", terms, integer(depth)), integer(depth))
        end = self.integers.let("whole_end", whole)
        self._loop("term", integer(0), end, depth, several)
        self._loop("rest", end, terms, depth, lambda rest: self._loop("term", rest, terms, 1, products))

    def _vector(self, read: Read, point: Env) -> Reg:
        """As it is multiplied: bf16 is not widened."""
        loads = self.values.loads
        return loads.load(read, point, self.scopes.level) if self.wide else loads.narrow(read, point, self.scopes.level)

    def _element(self, read: Read, point: Env) -> Reg:
        kind = VType.F32 if self.wide else VType.BF16
        dest = self.scopes.register(read.tensor.lower(), kind, 1, uniform=True)
        coords = tuple(self._of_member(c) for c in self.integers.coords(read, point))
        self.scopes.append(self.scopes.level, Broadcast(dest, read.tensor, coords))
        return dest

    def _of_member(self, coordinate: Expr) -> Expr:
        """What no loop changes (a key head, `h // R`) is computed once."""
        if not free_indices(coordinate) <= {*self.shape.rows}:
            return coordinate
        with self.scopes.outside(1):
            return self.integers.let("head", coordinate)

    def _visited(self, point: Env) -> None:
        """Scores become logits, -inf where the row does not visit the key."""
        key = self.attention.key

        def body(instances: Instances, conditions: tuple[Expr, ...]) -> None:
            level = self.scopes.level
            for p in instances[0]:
                if not conditions and self.logit is None:
                    return
                value = self.values.value(self.logit or self._score(), p, "logit")
                condition = self.values.predicate(conjunction(conditions), p)
                value = self.values.choose(level, condition, value, Imm(-float("inf")), "logit")
                self.scopes.append(level, LocalStore(self.scores, self._place(p), self._full(value)))

        self.loops.write(Nest((key,), self.where, [point], UNROLL, body))

    def _maximum(self, point: Env) -> None:
        level = self.scopes.level
        before = self._loaded(self.row_max, "before")
        chains = [self._register("largest") for _ in range(CHAINS)]
        for register in chains:
            self.scopes.append(level, VectorOp(register, "mov", (before,)))

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            for n, p in enumerate(instances[0]):
                into = chains[n % CHAINS]
                score = self.values.value(self._score(), self._with_key(p))
                self.scopes.update(self.scopes.level, into, "max", (into, score))

        self.loops.write(Nest((self.row,), None, [point], UNROLL, body))
        largest = chains[0]
        for register in chains[1:]:
            self.scopes.update(level, largest, "max", (largest, register))
        below: Operand = self.scopes.emit(level, "sub", (before, largest), "below_max")
        if self.scale is not None:
            below = self.scopes.emit(level, "mul", (below, self.values.value(self.scale, point)), "below_max")
        shrink = self._full(self._exp(below))
        self.scopes.append(level, LocalStore(self.row_max, integer(0), largest))
        self.scopes.append(level, LocalStore(self.shrink, integer(0), shrink))
        self.registers[_MAX] = largest

    def _loaded(self, array: LocalArray, hint: str, at: Expr | None = None) -> Reg:
        register = self._register(hint)
        self.scopes.append(self.scopes.level, LocalLoad(register, array, at or integer(0)))
        return register

    def _weights(self, point: Env) -> None:
        level = self.scopes.level
        below = Binary("-", self._score(), self._row(_MAX))
        call = (EXP_NONPOSITIVE, (below,)) if self.scale is None else (EXP_SCALED, (below, self.scale))
        weight = Call(*call, span=self.attention.weights.value.span)
        sums = self._sums(CHAINS, "total")

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            inner = self.scopes.level
            for n, p in enumerate(instances[0]):
                value = self._full(self.values.value(weight, self._with_key(p)))
                self.scopes.update(inner, sums[n % CHAINS], "add", (sums[n % CHAINS], value))
                stored = value if self.wide else self.scopes.emit(inner, "narrow", (value,), "weight_b")
                self.scopes.append(inner, LocalStore(self.scores, self._place(p), stored))

        self.loops.write(Nest((self.row,), None, [point], UNROLL, body))
        total = sums[0]
        for register in sums[1:]:
            self.scopes.update(level, total, "add", (total, register))
        before, shrink = self._loaded(self.row_sum, "before"), self._loaded(self.shrink, "shrink")
        now = self.scopes.emit(level, "madd", (before, shrink, total), "row_total")
        self.scopes.append(level, LocalStore(self.row_sum, integer(0), now))

    def _products_with_values(self, point: Env) -> None:
        """Of each column with the weights, some at once; beyond the last column, that one again."""
        a = self.attention
        left, count, first = point[_LEFT].value, point[_COUNT].value, point[_FIRST].value

        def tile(row: Expr) -> None:
            level = self.scopes.level
            column = self.integers.let("column", plus(left, row))
            columns = [
                column,
                *(smallest([plus(column, n), plus(plus(left, count), -1)]) for n in range(1, self.tiling.columns)),
            ]
            sums = self._sums(len(columns), "product")
            at = [{**point, a.column: Bound(c, level)} for c in columns]

            def term(number: Expr) -> Env:
                inner = self.scopes.level
                return {self.row: Bound(number, inner), a.key: Bound(plus(first, number), inner)}

            self._contracted(point[_KEYS].value, self.tiling.value_depth, term, sums, self._weight, a.value, at)
            shrink = self._loaded(self.shrink, "shrink")
            before = [self._loaded(self.totals, "before", plus(row, n)) for n in range(len(sums))]
            for n, (was, product) in enumerate(zip(before, sums, strict=True)):
                now = self.scopes.emit(level, "madd", (was, shrink, product), "now")
                self.scopes.append(level, LocalStore(self.totals, plus(row, n), now))

        self._loop("row", integer(0), count, self.tiling.columns, tile)

    def _weight(self, point: Env) -> Reg:
        kind = VType.F32 if self.wide else VType.BF16
        parts = self.shape.lanes.parts if self.wide else 1
        register = self.scopes.register("weight", kind, parts)
        self.scopes.append(self.scopes.level, LocalLoad(register, self.scores, point[self.row].value))
        return register

    # --- rows -------------------------------------------------------------------------------------------------------

    def _finish(self, point: Env) -> None:
        """Rows that visited nothing are 0; the sum of any other is not."""
        a, level, output = self.attention, self.scopes.level, self.shape.outputs[0]
        self._note(f"{output.tensor.name}[{', '.join(output.indices)}]", a.values.value)
        total = self._loaded(self.row_sum, "row_total")
        self.registers[_SUM] = total
        inverse = self.values.value(Call(RECIP_POSITIVE, (Read(_SUM, (Index(a.query),), DType.F32),)), point)
        inverse = self.scopes.emit(level, "sel_eq", (total, Imm(0.0), Imm(0.0), inverse), "share")
        own = {**self.shape.ranges, self.row: IndexRange(self.row, integer(0), Index(_COUNT))}
        loops = Loops(replace(self.shape, ranges=own), self.scopes, self.integers)

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            inner = self.scopes.level
            for p in instances[0]:
                row = p[self.row]
                value = self._loaded(self.totals, "value", row.value)
                stored = self.scopes.emit(inner, "mul", (value, inverse), "y")
                if not self.wide:
                    stored = self.scopes.emit(inner, "narrow", (stored,), "y_b")
                here = {**p, a.column: Bound(plus(p[_LEFT].value, row.value), row.level)}
                coords = tuple(self.integers.scalar(Index(i), here) for i in reversed(output.indices))
                self.scopes.append(inner, Store(output.tensor.name, coords, stored))

        loops.write(Nest((self.row,), None, [point], UNROLL, body))


def _difference(a: Expr, b: Expr) -> Expr:
    return plus(a, Unary("-", b))
