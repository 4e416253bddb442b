"""Which indices of a read provably stay inside their axes, whatever the domain around the read says."""

from __future__ import annotations

from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Expr, Literal, Program, Size
from tpcgen.rewrite.support import facts


class Inside:
    """Over the ranges and contracts of a program; an answer of False says nothing."""

    def __init__(self, program: Program) -> None:
        self._facts = facts(program)

    def from_start(self, index: Expr) -> bool:
        """index >= 0."""
        match index:
            case Binary(operator="//") if is_count(index.right):
                return self.from_start(index.left)
            case Binary(operator="%") if is_count(index.right):
                return True
            case Call(function="min"):
                return all(self.from_start(a) for a in index.arguments)
            case Call(function="max"):
                return any(self.from_start(a) for a in index.arguments)
            case _:
                return self._facts.prove(affine.polynomial(index))

    def before_end(self, index: Expr, extent: Expr) -> bool:
        """index < extent."""
        last = Binary("-", extent, Literal(1, DType.I32))
        match index:
            case Binary(operator="//") if is_count(index.right):
                return self.before_end(index.left, Binary("*", extent, index.right))
            case Binary(operator="%") if is_count(index.right) and self._less(index.right, extent):
                return True
            case Call(function="min"):
                return any(self.before_end(a, extent) for a in index.arguments)
            case Call(function="max"):
                return all(self.before_end(a, extent) for a in index.arguments)
            case _:
                return self._less(index, last)

    def _less(self, a: Expr, b: Expr) -> bool:
        """a <= b."""
        return self._facts.prove(affine.polynomial(Binary("-", b, a)))


def is_count(e: Expr) -> bool:
    """Whether it is a product of sizes and positive numbers: at least 1."""
    match e:
        case Literal():
            return int(e.value) > 0
        case Size():
            return True
        case Binary(operator="*"):
            return is_count(e.left) and is_count(e.right)
        case _:
            return False
