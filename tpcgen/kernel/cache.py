"""Rows that a member walks several times, kept in local memory from one walk to the next.

A softmax is three walks over a row: its maximum, the sum of its weights, what is stored. The first rows of it that fit
local memory, in vectors of f32, are computed once: the sum leaves the weights there for the last walk; where a score
takes a special function, the maximum leaves the scores for the sum, absent ones as -inf, whose weight is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpcgen.kernel.bounds import integer, plus
from tpcgen.kernel.functions import EXP_IN_REACH, EXP_NONPOSITIVE, EXP_SCALED, INLINE
from tpcgen.kernel.ir import LocalArray, LocalLoad, LocalStore, Operand, Reg, VType
from tpcgen.kernel.presence import ROW_MAX
from tpcgen.kernel.scopes import Env, Scopes
from tpcgen.kernel.shape import Output, Shape
from tpcgen.kernel.values import Values
from tpcgen.program.ir import Binary, Call, Expr, Read, Reduce, Unary, free_indices, walk

VECTORS, VECTORS_WITH_SPILLS = 304, 256
"""Of the 320 of local memory: the open compiler spills registers into the rest, most of them for a score's special
functions, for several rows at once and for what conditions on data or remainders compare, and ends in an error ("Too
many vector spills") where they do not fit.
"""
_WEIGHTS = (EXP_NONPOSITIVE, EXP_SCALED, EXP_IN_REACH)


@dataclass(frozen=True)
class Cache:
    """`sum` adds `weight`, which `output` asks for again at the same points; `score` is the maximum whose body is kept.

    `most`: elements of a row that are kept, vectors of them along the lanes.
    """

    output: Output
    index: str
    weight: Expr
    sum: Reduce
    score: Reduce | None
    array: LocalArray
    most: int


def cache_of(shape: Shape) -> Cache | None:
    """None where no output walks a row again."""
    for output in shape.outputs:
        found = _weights(shape, output)
        if found is not None:
            rows = shape.in_flight if shape.row_in_flight is not None else 1
            score = _score(found)
            spills = score is not None or rows > 1 or _tests(found.domain)
            vectors = VECTORS_WITH_SPILLS if spills else VECTORS
            most = vectors // shape.lanes.parts // rows // 4 * 4
            array = LocalArray("row_cache", most * rows, shape.lanes.parts, integer(most * rows))
            (index,) = output.loops
            return Cache(output, index, found.body, found, score, array, most)
    return None


def _tests(domain: Expr | None) -> bool:
    """Whether a condition says more than where a loop ends."""
    parts = () if domain is None else walk(domain)
    return any(isinstance(x, Read) or (isinstance(x, Binary) and x.operator == "%") for x in parts)


def _weights(shape: Shape, output: Output) -> Reduce | None:
    if len(output.loops) != 1:
        return None
    for x in walk(output.value):
        if isinstance(x, Reduce) and x.kind == "sum" and x.indices == output.loops and x.domain == output.where:
            alone = isinstance(x.body, Call) and x.body.function in _WEIGHTS and shape.lane in free_indices(x.body)
            if alone and _is_read_outside(output.value, x.body, x):
                return x
    return None


def _is_read_outside(e: Expr, wanted: Expr, reduce: Reduce) -> bool:
    if e == wanted:
        return True
    if e == reduce:
        return False
    match e:
        case Binary():
            return any(_is_read_outside(x, wanted, reduce) for x in (e.left, e.right))
        case Unary():
            return _is_read_outside(e.operand, wanted, reduce)
        case Call():
            return any(_is_read_outside(x, wanted, reduce) for x in e.arguments)
        case _:
            return False


def _score(total: Reduce) -> Reduce | None:
    for x in walk(total.body):
        if isinstance(x, Reduce) and x.kind == ROW_MAX and (x.indices, x.domain) == (total.indices, total.domain):
            return x if any(isinstance(y, Call) and y.function not in INLINE for y in walk(x.body)) else None
    return None


class CacheAccess:
    """Loads and stores of a cache's elements; `rows` are the points of a member."""

    def __init__(self, cache: Cache, shape: Shape, scopes: Scopes, values: Values, rows: Sequence[Env]) -> None:
        self.cache = cache
        self.shape = shape
        self.scopes = scopes
        self.values = values
        self.rows = rows

    def keep(self, value: Operand, point: Env, begin: Expr) -> None:
        level = self.scopes.level
        register = self.values.register(value, level)
        self.scopes.append(level, LocalStore(self.cache.array, self._place(point, begin), register))

    def recall(self, e: Expr, point: Env, begin: Expr) -> None:
        """The kept element becomes the value of the expression at the point."""
        level = self.scopes.level
        register = self._register()
        self.scopes.append(level, LocalLoad(register, self.cache.array, self._place(point, begin)))
        self.scopes.learn(level, ("value", e, self.scopes.point(e, point)), register)

    def _register(self) -> Reg:
        return self.scopes.register("kept", VType.F32, self.cache.array.parts)

    def _place(self, point: Env, begin: Expr) -> Expr:
        along = plus(point[self.cache.index].value, Unary("-", begin))
        if self.cache.index == self.shape.lane:
            along = Binary("//", along, integer(self.shape.lanes.step))
        row = self.shape.row_in_flight
        if row is None:
            return along
        number = next(n for n, r in enumerate(self.rows) if r[row].value == point[row].value)
        return plus(along, number * self.cache.most)
