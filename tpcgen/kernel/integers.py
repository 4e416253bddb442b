"""Integer expressions of the program as kernel variables: coordinates, bounds, the numbers of the lanes."""

from __future__ import annotations

from collections.abc import Mapping

from tpcgen.kernel.bounds import direction, integer, plus
from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.inside import Inside
from tpcgen.kernel.ir import Operand, Reg, Scalar, ScalarLet, ScalarLoad, ScalarParam, VectorOp, VType
from tpcgen.kernel.scopes import Env, Scopes
from tpcgen.kernel.shape import Shape
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    Attr,
    Call,
    Cast,
    Expr,
    Index,
    Literal,
    Read,
    Reduce,
    Size,
    Unary,
    free_indices,
    type_of,
    walk,
)
from tpcgen.program.substitute import rewrite, substitute


class Integers:
    """`scalars` collects the kernel's scalar parameters by name, in order of first use."""

    def __init__(self, shape: Shape, scopes: Scopes) -> None:
        self.shape = shape
        self.scopes = scopes
        self.scalars: dict[str, ScalarParam] = {}
        self._inside = Inside(shape.program)
        self._loaded_at: dict[str, int] = {}
        self._known: dict[tuple[object, ...], Expr] = {}

    def scalar(self, e: Expr, env: Env) -> Expr:
        """In kernel variables, in normal form; the lane index stands for its first element."""
        key = (e, *(env[i].value for i in self.scopes.free(e) if i in env))
        if key in self._known:
            return self._known[key]
        found = self._scalar(e, env)
        if not any(isinstance(x, Read) for x in walk(e)):  # a variable for what is read is at hand in its block only
            self._known[key] = found
        return found

    def _scalar(self, e: Expr, env: Env) -> Expr:
        loaded = rewrite(e, lambda x: self._loaded(x, env) if isinstance(x, Read) else spelled_out(x))
        for x in walk(loaded):
            match x:
                case Size() | Attr():
                    self.parameter(x.name, DType.I32, x)
                case Cast() | Reduce() | Call(function="select"):
                    raise not_lowered("E421", "an index computed from values is not lowered to the TPC yet", e.span)
                case _:
                    pass
        values: Mapping[str, Expr] = {i: env[i].value for i in free_indices(loaded) if i in env}
        return affine.normal(substitute(loaded, values))

    def parameter(self, name: str, type: DType, value: Expr) -> None:
        self.scalars.setdefault(name, ScalarParam(name, type, value))

    def let(self, hint: str, e: Expr) -> Expr:
        """A variable of the innermost block for an expression that is used more than once."""
        simple = affine.normal(e)
        if isinstance(simple, Literal | Index | Size | Attr):
            return simple
        level = self.scopes.level

        def make() -> Scalar:
            name = self.scopes.unique(hint)
            self.scopes.append(level, ScalarLet(name, simple))
            return Scalar(Index(name))

        return _value(self.scopes.recall(level, ("let", simple), make))

    def coords(self, read: Read, env: Env) -> tuple[Expr, ...]:
        """In TPC order. Where an element must exist, coordinates that only a domain keeps inside the tensor are clamped
        to it: nobody uses what is read there.
        """
        coords = [self.scalar(i, env) for i in read.indices]
        if self.shape.lane not in free_indices(read):
            extents = self.shape.program.tensor(read.tensor).shape
            axes = zip(read.indices, coords, extents, strict=True)
            coords = [self._clamped(i, c, extent, env) for i, c, extent in axes]
        return tuple(reversed(coords)) or (integer(0),)

    def _clamped(self, index: Expr, coordinate: Expr, extent: Expr, env: Env) -> Expr:
        row = self.shape.row_in_flight
        moved = row is not None and row in free_indices(index) and env[row].value != Index(row)
        way = direction(index, row) if moved and row is not None else 0
        at_start, at_end = self._inside.from_start(index), self._inside.before_end(index, extent)
        stays = way == 0 or (way == 1 and row is not None and self._capped(index, row, extent))
        if at_start and at_end and stays:
            return coordinate
        last = self.scalar(plus(extent, -1), {})
        if at_start and at_end and way == 1:
            return Call("min", (coordinate, last))  # of rows in flight beyond the tensor
        return Call("max", (Call("min", (coordinate, last)), integer(0)))

    def _capped(self, index: Expr, row: str, extent: Expr) -> bool:
        """Whether it is a minimum with something below the extent that no row in flight moves."""
        match index:
            case Call(function="min", arguments=arguments):
                fixed = [a for a in arguments if row not in free_indices(a)]
                return any(self._inside.before_end(a, extent) for a in fixed)
            case _:
                return False

    def _loaded(self, read: Read, env: Env) -> Expr:
        """An element of an integer tensor as a variable; indices in `read` may already be kernel variables."""
        if read.dtype is not DType.I32:
            raise not_lowered("E421", f"an index computed from {read.tensor} is not lowered to the TPC yet", read.span)
        if self.shape.lane in free_indices(read):
            raise not_lowered("E421", f"{read.tensor} is read at a different place in each lane", read.span)
        inner = (self._loaded_at.get(i, 0) for i in free_indices(read))  # reads in its indices are variables by now
        level = max(self.scopes.level_of(read, env), *inner, 0)
        coords = self.coords(read, env)

        def make() -> Scalar:
            name = self.scopes.unique(f"{read.tensor.lower()}_here")
            self.scopes.append(level, ScalarLoad(name, read.tensor, coords))
            self._loaded_at[name] = level
            return Scalar(Index(name))

        return _value(self.scopes.recall(level, ("scalar", read.tensor, coords), make))

    def lane_numbers(self) -> Reg:
        """Which element of a step each lane holds."""

        def make() -> Reg:
            reg = self.scopes.register("lane", VType.I32, self.shape.lanes.parts)
            self.scopes.prepend(0, VectorOp(reg, "lane_id", ()))
            return reg

        found = self.scopes.recall(0, ("lane",), make)
        assert isinstance(found, Reg)
        return found


def spelled_out(e: Expr) -> Expr:
    """Integer abs and clamp as max and min; anything else as it is."""
    match e:
        case Call(function="abs", arguments=(x,)) if type_of(x) is DType.I32:
            return Call("max", (x, Unary("-", x)), span=e.span)
        case Call(function="clamp", arguments=(x, low, high)) if type_of(e) is DType.I32:
            return Call("min", (Call("max", (x, low)), high), span=e.span)
        case _:
            return e


def _value(found: Operand) -> Expr:
    assert isinstance(found, Scalar)
    return found.value
