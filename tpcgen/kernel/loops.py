"""Loops over the indices of a reduction or an output, cut where the conditions of the domain start and cease to hold.

    low        begin        all_begin        all_end         end         high
     | absent    | some points  |  all points    | some points | absent    |

Only in the outer pieces are conditions tested, and only where an output is stored are absent elements visited. Where a
condition must be tested at every point anyway, one loop tests them all: the pieces would save a comparison each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tpcgen.kernel.bounds import Bounds, bounds, integer, largest, plus, smallest
from tpcgen.kernel.integers import Integers
from tpcgen.kernel.ir import Loop
from tpcgen.kernel.scopes import Bound, Env, Scopes
from tpcgen.kernel.shape import Shape
from tpcgen.program.ir import Binary, Expr, Index, Literal, Read, Size, Unary, walk

Instances = Sequence[Sequence[Env]]
"""Per point of a bundle, its points in one iteration: as many as the loop is unrolled."""


@dataclass(frozen=True)
class Blocks:
    """A loop in blocks of `size` iterations, a multiple of every unrolling: `after` behind each. What is left over from
    unrolling belongs to none. `open_end`: neither does the last block, whose loop is written apart.
    """

    size: int
    after: Callable[[], None]
    open_end: bool = False


@dataclass(frozen=True)
class First:
    """The first points of an innermost loop, `most` of them (vectors along the lanes), are written by another body: it
    takes the loop's first point as well. `tests`: whether it is given conditions that only some points meet.
    `together`: vectors along the lanes of an iteration.
    """

    most: int
    body: Callable[[Instances, tuple[Expr, ...], Expr], None]
    tests: bool = True
    together: int = 1


@dataclass(frozen=True)
class Nest:
    """Loops over `order`, outermost first, for a bundle of points; the innermost follows the bounds of `where`.

    `body` writes one iteration, given the conditions that are not known to hold in it. `absent` writes an element
    outside the bounds; without it those are not visited. `padded`: lanes beyond the index's range may take part, they
    change nothing. `together`: values of the index around the innermost in an iteration, whose points join the bundle;
    more than 1 only without conditions.
    """

    order: tuple[str, ...]
    where: Expr | None
    points: Sequence[Env]
    unroll: int
    body: Callable[[Instances, tuple[Expr, ...]], None]
    absent: Callable[[Env], None] | None = None
    blocks: Blocks | None = None
    padded: bool = False
    first: First | None = None
    together: int = 1


@dataclass(frozen=True)
class _Piece:
    """One loop over the innermost index: `high` is low plus a multiple of `step` where it is `exact`; `few` as in Loop.
    An iteration does `instances` of its points, `stride` apart.
    """

    low: Expr
    high: Expr
    step: int = 1
    instances: int = 1
    conditions: tuple[Expr, ...] = ()
    stride: int = 1
    exact: bool = False
    few: bool = False


class Loops:
    def __init__(self, shape: Shape, scopes: Scopes, integers: Integers) -> None:
        self.shape = shape
        self.scopes = scopes
        self.integers = integers

    def write(self, nest: Nest) -> None:
        """In the innermost open block."""
        index = nest.order[0]
        if len(nest.order) == 1:
            self._innermost(index, nest)
            return
        low, high = self._range(index, nest.points[0])
        step = self.shape.lanes.step if index == self.shape.lane else 1

        def inner(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            self.write(replace(nest, order=nest.order[1:], points=[point for points in instances for point in points]))

        many = nest.together if len(nest.order) == 2 else 1
        if many > 1:
            assert nest.where is None
            whole_end = plus(low, _round_down(_difference(high, low), many))
            whole_end = self.integers.let(f"{index}_whole_end", whole_end)
            self._loop(index, nest.points, _Piece(low, whole_end, many, many), inner)
            low = whole_end
        self._loop(index, nest.points, _Piece(low, high, step), inner)

    def _range(self, index: str, env: Env) -> tuple[Expr, Expr]:
        r = self.shape.ranges[index]
        return self.integers.scalar(r.low, env), self.integers.scalar(r.high, env)

    def _innermost(self, index: str, nest: Nest) -> None:
        env, r = nest.points[0], self.shape.ranges[index]
        b = bounds(nest.where, index, r.low, r.high, self._varying(index, nest))
        if index == self.shape.lane:
            self._along_lanes(index, nest, b)
        else:
            self._along_elements(index, nest, b, env)

    def _varying(self, index: str, nest: Nest) -> dict[str, int]:
        """Indices that differ between the points of the bundle, and in how many consecutive values."""
        varying: dict[str, int] = {}
        if self.shape.row_in_flight is not None and len(nest.points) > 1:
            varying[self.shape.row_in_flight] = self.shape.in_flight
        if self.shape.lane in nest.points[0] and index != self.shape.lane:
            varying[self.shape.lane] = self.shape.lanes.step
        return varying

    def _edges(self, index: str, nest: Nest, b: Bounds) -> tuple[Expr, Expr]:
        """Variables for the first and the last point that is in the domain; never crossed."""
        r, env = self.shape.ranges[index], nest.points[0]
        begin, end = self.integers.scalar(b.begin, env), self.integers.scalar(b.end, env)
        if any(isinstance(e, Read) for e in walk(b.begin)):
            begin = smallest([begin, self.integers.scalar(r.high, env)])  # data is no promise
        if b.begin != r.low:
            begin = self.integers.let(f"{index}_begin", begin)
        if b.begin != r.low or b.end != r.high:
            end = self.integers.let(f"{index}_end", largest([begin, end]))
        return begin, end

    def _along_elements(self, index: str, nest: Nest, b: Bounds, env: Env) -> None:
        low, high = self._range(index, env)
        begin, end = self._edges(index, nest, b)
        self._absent(index, nest, _Piece(low, begin))
        if nest.first is not None:
            begin = self._first(index, nest, nest.first, b, (begin, end))
        if nest.unroll == 1:
            self._one_by_one(index, nest, b, (begin, end))
        else:
            self._unrolled(index, nest, b, (begin, end))
        self._absent(index, nest, _Piece(end, high))

    def _first(self, index: str, nest: Nest, first: First, b: Bounds, within: tuple[Expr, Expr]) -> Expr:
        """Where the others begin."""
        begin, end = within
        whole = _round_down(_difference(end, begin), nest.unroll)
        after = self.integers.let(f"{index}_kept_end", plus(begin, smallest([whole, integer(first.most)])))
        conditions = (*b.everywhere, *b.mask) if first.tests else ()
        piece = _Piece(begin, after, nest.unroll, nest.unroll, conditions)
        if nest.blocks is not None:
            assert first.most <= nest.blocks.size  # it is one block
        self._loop(index, nest.points, piece, _with_first(nest, first, begin).body)
        if nest.blocks is not None:
            nest.blocks.after()
        return after

    def _one_by_one(self, index: str, nest: Nest, b: Bounds, within: tuple[Expr, Expr]) -> None:
        always, masked, (begin, end) = b.everywhere, (*b.everywhere, *b.mask), within
        if always and b.mask:
            self._piece(index, nest, _Piece(begin, end, conditions=masked))
            return
        full, full_end = begin, end
        if b.varies_low:
            all_begin = largest([self.integers.scalar(b.all_begin, nest.points[0]), begin])
            full = self.integers.let(f"{index}_full", smallest([all_begin, end]))
        if b.varies_high:
            all_end = self._all_end(nest, b, end)
            full_end = self.integers.let(f"{index}_full_end", largest([full, all_end]))
        self._piece(index, nest, _Piece(begin, full, conditions=masked))
        self._piece(index, nest, _Piece(full, full_end, conditions=always))
        self._piece(index, nest, _Piece(full_end, end, conditions=masked))

    def _unrolled(self, index: str, nest: Nest, b: Bounds, within: tuple[Expr, Expr]) -> None:
        """Pieces are multiples of the unrolling from `begin` on; those with conditions may hold points without need."""
        always, masked, (begin, end) = b.everywhere, (*b.everywhere, *b.mask), within
        many = nest.unroll
        whole_end = self.integers.let(f"{index}_whole_end", plus(begin, _round_down(_difference(end, begin), many)))
        if always and b.mask:
            self._piece(index, nest, _Piece(begin, whole_end, many, many, masked))
            self._loop(index, nest.points, _Piece(whole_end, end, conditions=masked, few=True), nest.body)
            return
        full, full_end = begin, whole_end
        if b.varies_low:
            all_begin = largest([self.integers.scalar(b.all_begin, nest.points[0]), begin])
            all_begin = self.integers.let(f"{index}_all", all_begin)
            first_full = plus(begin, _round_up(_difference(all_begin, begin), many))
            full = self.integers.let(f"{index}_full", smallest([first_full, whole_end]))
        if b.varies_high:
            all_end = self.integers.let(f"{index}_all_end", largest([full, self._all_end(nest, b, end)]))
            full_end = self.integers.let(f"{index}_full_end", plus(full, _round_down(_difference(all_end, full), many)))
        self._piece(index, nest, _Piece(begin, full, many, many, masked))
        exact = self._is_everything(index, within)
        self._piece(index, nest, _Piece(full, full_end, many, many, always, exact=exact))
        self._piece(index, nest, _Piece(full_end, whole_end, many, many, masked))
        rest = masked if b.varies_low or b.varies_high else always
        self._loop(index, nest.points, _Piece(whole_end, end, conditions=rest, exact=exact, few=True), nest.body)

    def _is_everything(self, index: str, within: tuple[Expr, Expr]) -> bool:
        """Whether a loop goes from 0 to a size, which is not negative."""
        return within[0] == integer(0) and isinstance(self.shape.ranges[index].high, Size | Literal)

    def _piece(self, index: str, nest: Nest, piece: _Piece) -> None:
        if nest.blocks is None or piece.low == piece.high:
            self._loop(index, nest.points, piece, nest.body)
        elif nest.blocks.open_end:
            whole = _round_down(largest([plus(_difference(piece.high, piece.low), -1), integer(0)]), nest.blocks.size)
            last = self.integers.let(f"{index}_last_block", plus(piece.low, whole))
            self._blocks(index, nest, nest.blocks, replace(piece, high=last))
            self._loop(index, nest.points, replace(piece, low=last), nest.body)
        else:
            self._blocks(index, nest, nest.blocks, piece)

    def _blocks(self, index: str, nest: Nest, blocks: Blocks, piece: _Piece) -> None:
        level = self.scopes.open()
        var = self.scopes.unique(f"{index}_block")
        stop = plus(Index(var), blocks.size)
        if not blocks.open_end:
            # as a count from the block's start on: from a plain minimum the open compiler makes no hardware loop
            count = smallest([_difference(piece.high, Index(var)), integer(blocks.size)])
            stop = self.integers.let(f"{index}_stop", plus(Index(var), count))
        self._loop(index, nest.points, replace(piece, low=Index(var), high=stop), nest.body)
        blocks.after()
        statements = self.scopes.close()
        if any(isinstance(s, Loop) for s in statements):
            loop = Loop(var, piece.low, piece.high, blocks.size, statements, exact=piece.exact)
            self.scopes.append(level - 1, loop)

    def _all_end(self, nest: Nest, b: Bounds, end: Expr) -> Expr:
        return smallest([self.integers.scalar(b.all_end, nest.points[0]), end])

    def _along_lanes(self, index: str, nest: Nest, b: Bounds) -> None:
        """In whole vectors; lanes beyond the index's range read and store nothing, but would count in a reduction."""
        r, env, step = self.shape.ranges[index], nest.points[0], self.shape.lanes.step
        low, high = self._range(index, env)
        begin, end = self._edges(index, nest, b)
        bounded_low, bounded_high = b.begin != r.low, b.end != r.high
        always, masked = b.everywhere, (*b.everywhere, *b.mask)
        if nest.absent is None and not nest.padded:
            masked = (*masked, Binary("<", Index(index), r.high))
        elif not bounded_low and not bounded_high:
            begin = self._first_lanes(index, nest, end, low) if not always else low
            self._loop(index, nest.points, _Piece(begin, end, step, conditions=always), nest.body)
            return
        full, full_end = begin, smallest([self.integers.scalar(b.all_end, env), end])
        if bounded_low:
            first = self.integers.let(f"{index}_first", _round_down(begin, step))
            self._absent(index, nest, _Piece(low, first, step))
            all_begin = largest([self.integers.scalar(b.all_begin, env), begin])
            full = self.integers.let(f"{index}_full", _round_up(all_begin, step))
            piece = _Piece(first, smallest([full, end]), step, conditions=masked)
            self._loop(index, nest.points, piece, nest.body)
        full_end = _round_down(full_end, step)
        if bounded_low or bounded_high:
            full_end = largest([full, full_end])
        full_end = self.integers.let(f"{index}_full_end", full_end)
        if not bounded_low and not always:
            full = self._first_lanes(index, nest, full_end, full)
        self._loop(index, nest.points, _Piece(full, full_end, step, conditions=always), nest.body)
        self._loop(index, nest.points, _Piece(full_end, end, step, conditions=masked), nest.body)
        if bounded_high:
            self._absent(index, nest, _Piece(_round_up(end, step), high, step))

    def _first_lanes(self, index: str, nest: Nest, end: Expr, begin: Expr) -> Expr:
        """Where the others begin; whole vectors only, all of whose points are inside."""
        first, step = nest.first, self.shape.lanes.step
        if first is None:
            return begin
        after = smallest([_round_down(end, step), plus(begin, first.most * step)])
        after = self.integers.let(f"{index}_kept_end", after)
        body = _with_first(nest, first, begin).body
        together, many = first.together, first.together * step
        single = begin
        if together > 1:
            whole = plus(begin, _round_down(_difference(after, begin), many))
            single = self.integers.let(f"{index}_together_end", whole)
            self._loop(index, nest.points, _Piece(begin, single, many, together, stride=step), body)
        self._loop(index, nest.points, _Piece(single, after, step), body)
        return after

    def _absent(self, index: str, nest: Nest, piece: _Piece) -> None:
        absent = nest.absent
        if absent is None:
            return

        def body(instances: Instances, _conditions: tuple[Expr, ...]) -> None:
            for points in instances:
                absent(points[0])

        self._loop(index, nest.points, piece, body)

    def _loop(
        self,
        index: str,
        points: Sequence[Env],
        piece: _Piece,
        body: Callable[[Instances, tuple[Expr, ...]], None],
    ) -> None:
        """Nothing where it is known to have no iteration, or its body is empty."""
        if piece.low == piece.high:
            return
        level = self.scopes.open()
        var = self.scopes.unique(index)
        values = [Bound(plus(Index(var), u * piece.stride), level) for u in range(piece.instances)]
        body([[{**p, index: value} for value in values] for p in points], piece.conditions)
        statements = self.scopes.close()
        if statements:
            loop = Loop(var, piece.low, piece.high, piece.step, statements, piece.exact, piece.few)
            self.scopes.append(level - 1, loop)


def _with_first(nest: Nest, first: First, begin: Expr) -> Nest:
    def body(instances: Instances, conditions: tuple[Expr, ...]) -> None:
        first.body(instances, conditions, begin)

    return replace(nest, body=body, first=None)


def _difference(a: Expr, b: Expr) -> Expr:
    return plus(a, Unary("-", b))


def _round_down(e: Expr, step: int) -> Expr:
    if isinstance(e, Literal):
        return integer(int(e.value) // step * step)
    return Binary("*", Binary("//", e, integer(step)), integer(step))


def _round_up(e: Expr, step: int) -> Expr:
    return _round_down(plus(e, step - 1), step)
