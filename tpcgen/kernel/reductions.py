"""Reductions as loops of accumulators, each at the outermost place where what it depends on is known.

Along the lane index a reduction goes through whole vectors and ends with a butterfly across lanes; along any other
index it goes element by element in several accumulators at once and needs no work across lanes. There a sum is one of
blocks: added one after another in f32, N equal terms are off by N / 4 ulps, rounded the same way every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpcgen.kernel.across import across_lanes
from tpcgen.kernel.cache import CacheAccess
from tpcgen.kernel.functions import INLINE
from tpcgen.kernel.ir import Imm, Lanes, Note, Operand, Reg, VectorOp, VType
from tpcgen.kernel.loops import Blocks, First, Instances, Loops, Nest
from tpcgen.kernel.presence import ROW_MAX
from tpcgen.kernel.scopes import Env, Scopes
from tpcgen.kernel.shape import LOOP_ROWS, Shape
from tpcgen.kernel.values import Values
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Expr, Index, Read, Reduce, free_indices, type_of, walk
from tpcgen.rewrite.edit import conjunction

_IDENTITY = {"sum": 0.0, "max": -float("inf"), "min": float("inf"), ROW_MAX: -float("inf")}
_HINT = {"sum": "sum", "max": "largest", "min": "smallest", ROW_MAX: "row_max"}
_BODY = {ROW_MAX: "score"}
_TITLE = {"sum": "sum", "max": "max", "min": "min", ROW_MAX: "row maximum"}


@dataclass(frozen=True, slots=True)
class Chains:
    """The accumulators of a reduction at a point, in a loop that somebody else writes."""

    reduce: Reduce
    env: Env
    level: int
    accumulators: Sequence[Reg]


class Reductions:
    def __init__(
        self,
        shape: Shape,
        scopes: Scopes,
        values: Values,
        loops: Loops,
        rows: Sequence[Env],
        cache: CacheAccess | None = None,
        short: str | None = None,
    ) -> None:
        """`rows`: the points of a member; `cache` what of them is kept in local memory; `short`: an index along which a
        sum needs no blocks.
        """
        self.cache = cache
        self.short = short
        self.shape = shape
        self.scopes = scopes
        self.values = values
        self.loops = loops
        self.rows = rows

    def value(self, e: Reduce, env: Env) -> Operand:
        """Those of all rows in flight are computed together."""
        level = self.scopes.level_of(e, env)

        def key(point: Env) -> tuple[object, ...]:
            return ("value", e, self.scopes.point(e, point))

        if not self.scopes.knows(level, key(env)):
            bundle = self._bundle(e, {i: b for i, b in env.items() if b.level <= level})
            with self.scopes.outside(level):
                results = self._reduce(e, bundle, level)
            for point, result in zip(bundle, results, strict=True):
                self.scopes.learn(level, key(point), result)
        return self.scopes.recall(level, key(env), _never)

    def begin(self, e: Reduce, env: Env, count: int) -> Chains:
        """`count` accumulators of a reduction along `short`, in the innermost open block: what `add` takes comes in
        loops.
        """
        level = self.scopes.level
        assert level == self.scopes.level_of(e, env)
        accumulators = [self._register(e, _HINT[e.kind]) for _ in range(count)]
        for accumulator in accumulators:
            self.scopes.append(level, VectorOp(accumulator, "mov", (Imm(_IDENTITY[e.kind]),)))
        return Chains(e, env, level, accumulators)

    def add(self, chains: Chains, number: int, point: Env) -> None:
        """The body at a point, the one of that number in an iteration."""
        self._accumulate(chains.reduce, chains.accumulators[number % len(chains.accumulators)], point, ())

    def end(self, chains: Chains) -> None:
        """The reduction is known from here on."""
        e = chains.reduce
        result = self._finish(chains.level, e.kind, chains.accumulators)
        self.scopes.learn(chains.level, ("value", e, self.scopes.point(e, chains.env)), result)

    def _bundle(self, e: Expr, env: Env) -> list[Env]:
        row = self.shape.row_in_flight
        if row is None or row not in free_indices(e) or env[row].level != 1:
            return [env]
        return [{**env, row: r[row]} for r in self.rows]

    def _reduce(self, e: Reduce, points: list[Env], level: int) -> list[Reg]:
        order = tuple(sorted(e.indices, key=lambda i: i == self.shape.lane))
        if e.span.line:
            self.scopes.append(level, Note(f"{_TITLE[e.kind]} over {', '.join(order)}", e.span))
        if order[-1] != self.shape.lane:
            return self._in_loops(e, order, points, level)
        loopfuls = [points[n : n + LOOP_ROWS] for n in range(0, len(points), LOOP_ROWS)]
        flat = [[self._parts_merged(level, e.kind, x) for x in self._in_loops(e, order, p, level)] for p in loopfuls]
        return [x for totals in flat for x in self._across_lanes(level, e.kind, totals)]

    def _in_loops(self, e: Reduce, order: tuple[str, ...], points: list[Env], level: int) -> list[Reg]:
        """Of each point a register; along the lanes each lane has what it saw."""
        across = order[-1] == self.shape.lane
        narrow = self._narrow(e)
        unroll = self._unroll(e, order, len(points)) * (2 if narrow is not None and len(points) == 1 else 1)
        in_blocks = e.kind == "sum" and not across and order != (self.short,)
        together = self.shape.together(order, len(points)) if e.domain is None else 1
        most = 2 * CHAINS if narrow is not None or together > 1 or order == (self.short,) else CHAINS
        count = 1 if len(points) > 1 else min(unroll * together, most)
        chains = [
            [self._register(e, "block_sum" if in_blocks else _HINT[e.kind]) for _ in range(count)] for _ in points
        ]

        narrow_chains = [[self._minus_infinity(level) for _ in row] for row in chains] if narrow is not None else []

        def body(instances: Instances, conditions: tuple[Expr, ...]) -> None:
            if together > 1:
                instances = [[point for row in instances for point in row]]
            if narrow is not None and not conditions:
                for accumulators, row in zip(narrow_chains, instances, strict=True):
                    for n, point in enumerate(row):
                        into, at = accumulators[n % len(accumulators)], self.scopes.level
                        self.scopes.update(at, into, "bmax", (into, self.values.loads.narrow(narrow, point, at)))
                return
            for accumulators, row in zip(chains, instances, strict=True):
                for n, point in enumerate(row):
                    self._accumulate(e, accumulators[n % len(accumulators)], point, conditions)

        for accumulator in (a for accumulators in chains for a in accumulators):
            self.scopes.append(level, VectorOp(accumulator, "mov", (Imm(_IDENTITY[e.kind]),)))
        if not in_blocks:
            first = self._kept(e, chains)
            padded = self._ends_in_zeros(e)
            nest = Nest(order, e.domain, points, unroll, body, padded=padded, first=first, together=together)
            self.loops.write(nest)
            for accumulators, row in zip(chains, narrow_chains, strict=False):
                for into, x in zip(accumulators, row, strict=True):
                    self._merge(e.kind, level, into, self.scopes.emit(level, "widen", (x,)))
            return [self._finish(level, e.kind, accumulators) for accumulators in chains]
        totals = [self._register(e, "sum") for _ in points]
        for total in totals:
            self.scopes.append(level, VectorOp(total, "mov", (Imm(0.0),)))
        blocks, first = self._blocks(chains, totals), self._kept(e, chains)
        self.loops.write(Nest(order, e.domain, points, unroll, body, blocks=blocks, first=first))
        for accumulators, total in zip(chains, totals, strict=True):
            self._merge("sum", level, total, self._finish(level, "sum", accumulators))
        return totals

    def _kept(self, e: Reduce, chains: Sequence[Sequence[Reg]]) -> First | None:
        """Of what is reduced the part that stays in local memory: conditions are in what is kept."""
        access = self.cache
        if access is None or e not in (access.cache.sum, access.cache.score):
            return None
        recalled = access.cache.score if e == access.cache.sum else None
        absent = Imm(_IDENTITY[e.kind])

        def body(instances: Instances, conditions: tuple[Expr, ...], begin: Expr) -> None:
            for accumulators, row in zip(chains, instances, strict=True):
                for n, point in enumerate(row):
                    if recalled is not None:
                        access.recall(recalled.body, point, begin)
                    condition = self.values.predicate(conjunction(conditions), point)
                    value = self.values.value(e.body, point, _BODY.get(e.kind, "t"))
                    value = self.values.choose(self.scopes.level, condition, value, absent, "kept")
                    access.keep(value, point, begin)
                    self._merge(e.kind, self.scopes.level, accumulators[n % len(accumulators)], value)

        return First(access.cache.most, body, tests=recalled is None)

    def _ends_in_zeros(self, e: Reduce) -> bool:
        """Whether it adds products of vectors that end where the lanes do: what is read beyond is 0."""
        match e:
            case Reduce(kind="sum", body=Binary(operator="*", left=Read() as left, right=Read() as right)):
                return self._ends_with_lanes(left) and self._ends_with_lanes(right)
            case _:
                return False

    def _ends_with_lanes(self, read: Read) -> bool:
        lane = self.shape.lane
        stored = next((t for t in self.shape.program.tensors if t.name == read.tensor), None)
        if stored is None:  # a state: beyond its lanes is anything
            return False
        return read.indices[-1] == Index(lane) and stored.shape[-1] == self.shape.ranges[lane].high

    def _unroll(self, e: Reduce, order: tuple[str, ...], points: int) -> int:
        if order == (self.short,) and calls_functions(e.body, order[0]):
            return 1  # with two the open compiler runs out of registers on gaudi
        if order[-1] == self.shape.lane or len(order) > 1:
            return 1
        if points > 1:
            return TILE_DEPTH // self.shape.lanes.parts if self.shape.tiled else 1
        return unrolled(self.shape.lanes)

    def _blocks(self, chains: Sequence[Sequence[Reg]], totals: Sequence[Reg]) -> Blocks:
        """Several points take longer to add to their totals than to write the loop of the last block apart."""

        def after() -> None:
            for accumulators, total in zip(chains, totals, strict=True):
                self._add(total, accumulators)

        return Blocks(BLOCK, after, open_end=self.shape.tiled)

    def _add(self, total: Reg, accumulators: Sequence[Reg]) -> None:
        """Kahan's sum: the next block starts at what its rounding lost, NaN once the total is infinite: then there is
        nothing.
        """
        level = self.scopes.level
        block = self._finish(level, "sum", accumulators)
        increased = self.scopes.emit(level, "add", (total, block), "increased")
        added = self.scopes.emit(level, "sub", (increased, total), "added")
        lost = self.scopes.emit(level, "sub", (block, added), "lost")
        self.scopes.update(level, block, "sel_eq", (lost, lost, lost, Imm(0.0)))
        for other in accumulators[1:]:
            self.scopes.update(level, other, "mov", (Imm(0.0),))
        self.scopes.update(level, total, "mov", (increased,))

    def _register(self, e: Reduce, hint: str) -> Reg:
        parts = e.body, *([e.domain] if e.domain is not None else [])
        varies = self.shape.lane in e.indices or any(self.shape.lane in free_indices(x) for x in parts)
        return self.scopes.register(hint, VType.F32, self.shape.lanes.parts if varies else 1, uniform=not varies)

    def _narrow(self, e: Reduce) -> Read | None:
        """What a row maximum is of, where that is bf16 as it is loaded: 128 lanes are compared at once then, but in
        loops that test conditions.
        """
        if e.kind != ROW_MAX or not isinstance(e.body, Read) or not self.values.loads.is_narrow(e.body):
            return None
        return e.body

    def _minus_infinity(self, level: int) -> Reg:
        """An accumulator of bf16 vectors."""

        def make() -> Reg:
            lowest = self.scopes.register("lowest", VType.F32, 2)
            self.scopes.append(0, VectorOp(lowest, "mov", (Imm(-float("inf")),)))
            return self.scopes.emit(0, "narrow", (lowest,), "lowest_b")

        lowest = self.scopes.recall(0, ("narrow", "-inf"), make)
        accumulator = self.scopes.register("row_max_b", VType.BF16, 1)
        self.scopes.append(level, VectorOp(accumulator, "bmov", (lowest,)))
        return accumulator

    def _accumulate(self, e: Reduce, into: Reg, point: Env, conditions: tuple[Expr, ...]) -> None:
        level = self.scopes.level
        condition = self.values.predicate(conjunction(conditions), point)
        if condition is False:
            return
        pred = condition if isinstance(condition, Reg) else None
        if e.kind == "sum" and isinstance(e.body, Binary) and e.body.operator == "*" and type_of(e.body) is DType.F32:
            a, b = self.values.value(e.body.left, point), self.values.value(e.body.right, point)
            if isinstance(a, Reg) or isinstance(b, Reg):
                self.scopes.update(level, into, "mac", (a, b, into), pred)
                return
        self._merge(e.kind, level, into, self.values.value(e.body, point, _BODY.get(e.kind, "t")), pred)

    def _merge(self, kind: str, level: int, into: Reg, x: Operand, pred: Reg | None = None) -> None:
        match kind:
            case "sum":
                self.scopes.update(level, into, "add", (into, x), pred)
            case "row max":
                self.scopes.update(level, into, "max", (into, x), pred)
            case _:
                # keeps a NaN in `into`, takes one from x: both comparisons are false for NaN
                kept = self.scopes.emit(level, "sel_geq" if kind == "max" else "sel_leq", (into, x, into, x))
                self.scopes.update(level, into, "sel_eq", (into, into, kept, into), pred)

    def _finish(self, level: int, kind: str, accumulators: Sequence[Reg]) -> Reg:
        first, *others = accumulators
        for other in others:
            self._merge(kind, level, first, other)
        return first

    def _across_lanes(self, level: int, kind: str, totals: Sequence[Reg]) -> list[Reg]:
        """The same value in every lane."""

        def merge(at: int, into: Reg, x: Operand) -> None:
            self._merge(kind, at, into, x)

        return across_lanes(self.scopes, level, totals, merge)

    def _parts_merged(self, level: int, kind: str, total: Reg) -> Reg:
        if total.parts == 1:
            return total
        one, two = (self.scopes.emit(level, part, (total,)) for part in ("part1", "part2"))
        result = self.scopes.register(_HINT[kind], VType.F32, 1)
        self.scopes.append(level, VectorOp(result, "mov", (one,)))
        self._merge(kind, level, result, two)
        return result


def calls_functions(e: Expr, along: str) -> bool:
    """Whether it calls special functions, or divides, at each point along an index."""
    own = [x for x in walk(e) if along in free_indices(x)]
    called = {x.function for x in own if isinstance(x, Call)} - INLINE - {"select"}
    return bool(called) or any(isinstance(x, Binary) and x.operator == "/" for x in own)


UNROLL_FUNCTIONS = 2
"""Elements in flight along local memory where each calls special functions: with four the open compiler gives up on
Mamba-1 ("Too many vector spills").
"""


def unrolled(lanes: Lanes) -> int:
    """Elements in flight of a loop along another index than the lanes': as many vectors of 64 lanes either way."""
    return 8 // lanes.parts


CHAINS = 2
"""Accumulators of such a loop. More hide no more latency in a loop that computes anything, and take registers."""


TILE_DEPTH = 8
"""Vectors of 64 lanes of a contraction's terms per iteration: nothing overlaps from one to the next but vectors loaded
ahead.
"""


BLOCK = 256
"""Elements of a block of such a sum: chains of 128 terms. What comes once per block takes about 70 bundles, the block
itself 4,000 (causal bf16 along rows on gaudi2).
"""


def _never() -> Operand:
    raise AssertionError("a reduction is known once it was computed")
