"""Takes contractions out of expressions.

    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])

becomes

    S_dot[b,h,q,k]: f32 = sum[d](Q[b,h,q,d] * K[b,h,k,d])
    S[b,h,q,k] = rsqrt(D) * S_dot[b,h,q,k]

so that every contraction is the whole right side of an equation, a bare sum of one product.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpcgen.program import ir
from tpcgen.program.contractions import Contraction, match_contraction
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames, with_children
from tpcgen.rewrite.edit import Definition, Part, Recurrence, intermediate, names_in_use, parts_of, rebuilt


def split_contractions(program: ir.Program) -> ir.Program:
    names = names_in_use(program)
    result: list[Part] = []
    for part in parts_of(program):
        if isinstance(part, Recurrence):
            result.append(part)
            continue
        splitter = _Splitter(program, part, names)
        equation = splitter.equation()
        result += [*splitter.made, Definition(part.tensor, equation)]
    return rebuilt(program, result)


def contraction_of(equation: ir.Equation, program: ir.Program) -> Contraction | None:
    """The contraction that is the whole right side of an equation: nothing hoisted, every left index in an operand."""
    if not isinstance(equation.value, ir.Reduce) or equation.domain is not None:
        return None
    found = match_contraction(equation.value, program)
    if found is None or found.hoisted or found.divisors or found.negative:
        return None
    covered = {*found.batch, *found.rows, *found.columns}
    return found if covered == set(equation.indices) else None


def matmul_of(equation: ir.Equation, program: ir.Program) -> Contraction | None:
    """The contraction an equation is, if the MME can take its operands as they are stored: one dtype, no domain.

    A sum of products that only inlining brought together is none: the TPC adds it up where its factors are.
    """
    found = contraction_of(equation, program)
    if found is None or found.domain is not None:
        return None
    left, right = found.left, found.right
    return found if isinstance(left, ir.Read) and isinstance(right, ir.Read) and left.dtype is right.dtype else None


@dataclass
class _Splitter:
    program: ir.Program
    part: Definition
    names: FreshNames

    def __post_init__(self) -> None:
        self.made: list[Definition] = []

    def equation(self) -> ir.Equation:
        e = self.part.equation
        if isinstance(e.value, ir.Reduce) and contraction_of(e, self.program) is not None:
            body = with_children(e.value, [self._visit(c) for c in ir.children(e.value)])
            return ir.Equation(e.target, e.indices, body, e.domain, span=e.span)
        domain = self._visit(e.domain) if e.domain is not None else None
        return ir.Equation(e.target, e.indices, self._visit(e.value), domain, span=e.span)

    def _visit(self, e: ir.Expr) -> ir.Expr:
        e = with_children(e, [self._visit(c) for c in ir.children(e)])
        if not isinstance(e, ir.Reduce):
            return e
        found = match_contraction(e, self.program)
        return e if found is None else self._outlined(e, found)

    def _outlined(self, e: ir.Reduce, found: Contraction) -> ir.Expr:
        product = ir.Binary("*", found.left, found.right, span=e.body.span)
        bare = ir.Reduce("sum", e.indices, e.domain, None, product, span=e.span)
        indices = self._ordered(ir.free_indices(bare))
        made = next((m for m in self.made if m.equation.value == bare), None)
        if made is None:
            name = self.names.fresh(f"{self.part.tensor.name}_dot")
            tensor = intermediate(self.program, name, indices, DType.F32, e)
            made = Definition(tensor, ir.Equation(name, indices, bare, None, span=e.span))
            self.made.append(made)
        result: ir.Expr = ir.Read(made.tensor.name, tuple(ir.Index(i) for i in indices), DType.F32, span=e.span)
        for factor in found.hoisted:
            result = ir.Binary("*", factor, result, span=e.span)
        for divisor in found.divisors:
            result = ir.Binary("/", result, divisor, span=e.span)
        return ir.Unary("-", result, span=e.span) if found.negative else result

    def _ordered(self, names: frozenset[str]) -> tuple[str, ...]:
        """The left side's order first, then the order of declaration."""
        left = [i for i in self.part.equation.indices if i in names]
        return (*left, *(r.name for r in self.program.indices if r.name in names and r.name not in left))
