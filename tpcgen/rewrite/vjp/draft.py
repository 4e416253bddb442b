"""The backward program while it is written: its names, indices and equations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tpcgen.program import ir
from tpcgen.program.affine import atoms, blocks, equal, polynomial
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.edit import Definition, Part, conjunction, integer, names_in_use


@dataclass
class Draft:
    """`program` is the forward, whose indices and tensors keep their names; `cotangents` are the new inputs."""

    program: ir.Program
    cotangents: list[ir.Tensor] = field(default_factory=list[ir.Tensor])
    parts: list[Part] = field(default_factory=list[Part])
    indices: dict[str, ir.IndexRange] = field(default_factory=dict[str, ir.IndexRange])

    def __post_init__(self) -> None:
        self.names: FreshNames = names_in_use(self.program)
        self.indices = {r.name: r for r in self.program.indices}
        self._order = [r.name for r in self.program.indices]

    def index(self, wanted: str, high: ir.Expr, low: ir.Expr | None = None) -> str:
        """A new index over low .. high."""
        name = self.names.fresh(wanted)
        self.indices[name] = ir.IndexRange(name, low if low is not None else integer(0), high)
        self._order.append(name)
        return name

    def like(self, index: str) -> str:
        """A new index with the range of another."""
        r = self.indices[index]
        return self.index(index, r.high, r.low)

    def runs_over(self, index: str, extent: ir.Expr) -> bool:
        """Whether an index takes exactly the values 0 .. extent."""
        r = self.indices[index]
        return equal(r.low, integer(0)) and equal(r.high, extent)

    def in_range(self, index: str, value: ir.Expr) -> ir.Expr | None:
        """The condition that an index may have a value; None where that is plain."""
        r = self.indices[index]
        if isinstance(value, ir.Index):
            own = self.indices[value.name]
            if equal(own.low, r.low) and equal(own.high, r.high):
                return None
            if equal(own.low, r.low):
                return ir.Binary("<", value, r.high)
        if self._divides(index, value):
            return None
        low = None if self._at_least_zero(value) and equal(r.low, integer(0)) else ir.Binary("<=", r.low, value)
        return conjunction([low, ir.Binary("<", value, r.high)])

    def _at_least_zero(self, value: ir.Expr) -> bool:
        """Whether a value is plainly none below 0: sums and products of indices from 0 and sizes."""
        terms = polynomial(value)
        starts = [self.indices[a.name].low for a in atoms(terms) if isinstance(a, ir.Index)]
        known = all(isinstance(a, ir.Index | ir.Size) for a in atoms(terms))
        return known and all(c > 0 for c in terms.values()) and all(equal(s, integer(0)) for s in starts)

    def _divides(self, index: str, value: ir.Expr) -> bool:
        """Whether an index runs over all quotients, or all remainders, of another by a number."""
        match value:
            case ir.Binary(operator="//", left=ir.Index(name=name), right=ir.Literal(value=int(divisor))):
                divided = self.indices[name]
                return equal(divided.low, integer(0)) and self.runs_over(
                    index, blocks(polynomial(divided.high), divisor)
                )
            case ir.Binary(operator="%", left=ir.Index(), right=ir.Literal(value=int(divisor))):
                return self.runs_over(index, integer(divisor))
            case _:
                return False

    def ordered(self, indices: Iterable[str]) -> tuple[str, ...]:
        """In the order of their declaration."""
        wanted = set(indices)
        return tuple(i for i in self._order if i in wanted)

    def tensor(self, wanted: str, indices: Sequence[str], dtype: DType = DType.F32) -> ir.Tensor:
        """A new intermediate over the ranges of indices."""
        shape = tuple(self.indices[i].high for i in indices)
        return ir.Tensor(self.names.fresh(wanted), shape, dtype, ir.Role.INTERMEDIATE)

    def define(
        self, tensor: ir.Tensor, indices: Sequence[str], value: ir.Expr, domain: ir.Expr | None = None
    ) -> ir.Read:
        """Writes an equation; the tensor at its indices."""
        self.parts.append(Definition(tensor, ir.Equation(tensor.name, tuple(indices), value, domain)))
        return read(tensor, indices)


def read(tensor: ir.Tensor, indices: Sequence[str]) -> ir.Read:
    return ir.Read(tensor.name, tuple(ir.Index(i) for i in indices), tensor.dtype)
