"""Copy stages as torch text: windows, blocks and merged axes of the sources, permuted, side by side."""

from __future__ import annotations

from tpcgen.emit.pytext import expression, identifier
from tpcgen.partition.plan import Buffer, CopyStage, Plan
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Binary, Call, Expr, Literal, Size
from tpcgen.program.substitute import rewrite
from tpcgen.rewrite.copies import Blocks, Merged, Piece, Repeated, Slice

_INDENT = "    "
_ZERO = Literal(0, DType.I32)


def copy_lines(plan: Plan, stage: CopyStage) -> list[str]:
    """Python statements that make the target's buffer of its sources'.

    `axis_window`, `axis_blocks` and `torch` are in scope.
    """
    target = plan.buffer(stage.copy.target)
    name = identifier(target.name)
    parts = [_Part(plan, stage, piece, target).text() for piece in stage.copy.pieces]
    if len(parts) == 1:
        return [f"{name} = {parts[0]}.contiguous()"]
    along = target.order.index(stage.copy.along)
    lines = [f"{name} = torch.cat("]
    return [*lines, f"{_INDENT}[", *(f"{2 * _INDENT}{p}," for p in parts), f"{_INDENT}],", f"{_INDENT}{along},", ")"]


class _Part:
    """One piece: the torch expression of its elements, axes in the target's memory order."""

    def __init__(self, plan: Plan, stage: CopyStage, piece: Piece, target: Buffer) -> None:
        self.stage = stage
        self.piece = piece
        self.target = target
        self.source = plan.buffer(piece.source)
        copy = stage.copy
        self.extents = {i: stage.program.range_of(i).high for i in copy.indices}
        self.along = copy.indices[copy.along]
        self.first = _clipped(piece.low, self.extents[self.along]) if len(copy.pieces) > 1 else _ZERO
        end = _clipped(piece.high, self.extents[self.along])
        if len(copy.pieces) > 1:
            self.extents[self.along] = _minus(end, self.first)

    def text(self) -> str:
        result = _permuted(identifier(self.source.name), _inverse(self.source.order))
        made: list[str] = []
        for a in self.piece.axes:
            match a:
                case Slice():
                    result = self._slice(result, a, len(made))
                    made.append(a.index)
                case Blocks():
                    result = self._blocks(result, a, len(made))
                    made += [a.outer, a.inner]
                case Merged():
                    result = self._merged(result, a, len(made))
                    made.append(a.index)
                case Repeated():
                    result = self._repeated(result, a, len(made))
                    made.append(a.index)
        wanted = [self.stage.copy.indices[axis] for axis in self.target.order]
        return _permuted(result, [made.index(i) for i in wanted])

    def _slice(self, x: str, a: Slice, axis: int) -> str:
        start = affine.expression(affine.add(affine.polynomial(a.start), affine.polynomial(self._offset(a.index))))
        extent = self.extents[a.index]
        whole = self.source.shape[self._source_axis(a)]
        if affine.equal(start, _ZERO) and affine.equal(extent, whole):
            return x
        return f"axis_window({x}, {axis}, {_text(start)}, {_text(extent)})"

    def _blocks(self, x: str, a: Blocks, axis: int) -> str:
        count, length = (_text(self.extents[i]) for i in (a.outer, a.inner))
        return f"axis_blocks({x}, {axis}, {_text(a.start)}, {count}, {a.step}, {length})"

    def _merged(self, x: str, a: Merged, axis: int) -> str:
        return self._part_of(f"{x}.flatten({axis}, {axis + 1})", axis, a.index)

    def _repeated(self, x: str, a: Repeated, axis: int) -> str:
        return self._part_of(f"{x}.repeat_interleave({a.times}, {axis})", axis, a.index)

    def _part_of(self, x: str, axis: int, index: str) -> str:
        return f"axis_window({x}, {axis}, {_text(self._offset(index))}, {_text(self.extents[index])})"

    def _offset(self, index: str) -> Expr:
        return self.first if index == self.along else _ZERO

    def _source_axis(self, wanted: Slice) -> int:
        axis = 0
        for a in self.piece.axes:
            if a is wanted:
                return axis
            axis += 2 if isinstance(a, Merged) else 1
        raise KeyError(wanted.index)


def _clipped(e: Expr, extent: Expr) -> Expr:
    """Between 0 and the extent: a piece may begin behind the end of a short axis."""
    if affine.equal(e, _ZERO) or affine.equal(e, extent):
        return e
    return Call("clamp", (e, _ZERO, extent))


def _minus(a: Expr, b: Expr) -> Expr:
    return a if affine.equal(b, _ZERO) else Binary("-", a, b)


def _inverse(order: tuple[int, ...]) -> list[int]:
    return [order.index(axis) for axis in range(len(order))]


def _permuted(x: str, axes: list[int]) -> str:
    return x if axes == sorted(axes) else f"{x}.permute({', '.join(map(str, axes))})"


def _text(e: Expr) -> str:
    """An extent of the stage's program: its attributes are the op's sizes."""
    return expression(rewrite(e, lambda x: Size(x.name) if isinstance(x, Attr) and x.type is DType.I32 else x))
