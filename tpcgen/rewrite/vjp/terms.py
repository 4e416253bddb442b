"""A term: what one read of a tensor contributes to a gradient.

A term is a product over points: factors and divisors at every point of its loops where its conditions hold. Sums of
terms are made of it by `places.py`, which says which of its points belong to which element of the tensor that was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.rewrite.edit import conjuncts


@dataclass(frozen=True, slots=True)
class Term:
    """(-1) ** negative * product of `factors` / product of `divisors`, over `loops` where all of `where` hold."""

    loops: tuple[str, ...]
    factors: tuple[ir.Expr, ...]
    divisors: tuple[ir.Expr, ...] = ()
    where: tuple[ir.Expr, ...] = ()
    negative: bool = False

    def times(self, factor: ir.Expr) -> Term:
        return replace(self, factors=(*self.factors, factor))

    def over(self, divisor: ir.Expr) -> Term:
        return replace(self, divisors=(*self.divisors, divisor))

    def negated(self) -> Term:
        return replace(self, negative=not self.negative)

    def only(self, condition: ir.Expr | None) -> Term:
        """The term at the points where a condition holds too."""
        new = tuple(c for c in conjuncts(condition) if c not in self.where)
        return replace(self, where=(*self.where, *new))

    def along(self, indices: tuple[str, ...]) -> Term:
        return replace(self, loops=(*self.loops, *indices))


def product(factors: tuple[ir.Expr, ...], divisors: tuple[ir.Expr, ...], negative: bool) -> ir.Expr:
    """1.0 where there is no factor; literals are drawn together to the front, and 1 is left out."""
    number = -1.0 if negative else 1.0
    rest: list[ir.Expr] = []
    for e in factors:
        while isinstance(e, ir.Unary) and e.operator == "-":
            number, e = -number, e.operand
        if isinstance(e, ir.Literal) and e.type is DType.F32:
            number *= float(e.value)
        else:
            rest.append(e)
    if abs(number) != 1.0 or not rest:
        rest.insert(0, ir.Literal(abs(number), DType.F32))
    result = rest[0]
    for e in rest[1:]:
        result = ir.Binary("*", result, e)
    for e in divisors:
        result = ir.Binary("/", result, e)
    return ir.Unary("-", result) if number < 0 else result
