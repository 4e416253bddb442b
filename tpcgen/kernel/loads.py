"""Elements of tensors in registers: vectors along the lane index, or one element in every lane."""

from __future__ import annotations

from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.integers import Integers
from tpcgen.kernel.ir import Broadcast, Load, Reg, VType
from tpcgen.kernel.scopes import Env, Scopes
from tpcgen.kernel.shape import Shape
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Expr, Read, free_indices
from tpcgen.program.print import expression as text


class Loads:
    def __init__(self, shape: Shape, scopes: Scopes, integers: Integers) -> None:
        self.shape = shape
        self.scopes = scopes
        self.integers = integers

    def load(self, read: Read, env: Env, level: int) -> Reg:
        """F32 of an f32 or bf16 tensor, I32 of an i32 one; uniform where the lane index is not read (never i32)."""
        coords = self.integers.coords(read, env)
        if any(self.shape.lane in free_indices(i) for i in read.indices):
            self._require_contiguous(read)
            return self._vector(read, coords, level)
        return self._broadcast(read, coords, level)

    def _require_contiguous(self, read: Read) -> None:
        lane = self.shape.lane
        along = [n for n, i in enumerate(read.indices) if lane in free_indices(i)]
        fastest = affine.coefficient_of(affine.polynomial(read.indices[-1]), lane)
        if along != [len(read.indices) - 1] or fastest != 1:
            raise not_lowered(
                "E421",
                f"{text(read)} is not contiguous along {lane}, the index of the vector lanes",
                read.span,
                f"an access whose last index is {lane} plus something that does not depend on it is lowered",
            )

    def _vector(self, read: Read, coords: tuple[Expr, ...], level: int) -> Reg:
        hint = _hint(read)
        if read.dtype is DType.BF16:
            raw = self.scopes.register(f"{hint}_b", VType.BF16, 1)
            self.scopes.append(level, Load(raw, read.tensor, coords))
            return self.scopes.emit(level, "widen", (raw,), hint)
        kind = VType.I32 if read.dtype is DType.I32 else VType.F32
        dest = self.scopes.register(hint, kind, self.shape.lanes.parts)
        self.scopes.append(level, Load(dest, read.tensor, coords))
        return dest

    def _broadcast(self, read: Read, coords: tuple[Expr, ...], level: int) -> Reg:
        hint = _hint(read)
        if read.dtype is DType.BF16:
            raw = self.scopes.register(f"{hint}_b", VType.BF16, 1, uniform=True)
            self.scopes.append(level, Broadcast(raw, read.tensor, coords))
            return self.scopes.emit(level, "part1", (self.scopes.emit(level, "widen", (raw,), hint),), hint)
        dest = self.scopes.register(hint, VType.F32, 1, uniform=True)
        self.scopes.append(level, Broadcast(dest, read.tensor, coords))
        return dest


def _hint(read: Read) -> str:
    """Tensors are parameters of main: an element of `snk` is `snk_v`."""
    name = read.tensor.lower()
    return name if name != read.tensor else f"{name}_v"
