"""Gives every contraction two stored operands that the MME can read, and no domain.

* An operand that is an expression, or has another dtype than it should, becomes a tensor of its own:
  `P_r[b,h,q,k]: bf16 = P[b,h,q,k]` for `bf16(P[b,h,q,k])`.
* A domain of the contraction moves into an operand that has its indices: a buffer holds 0 where its tensor is absent.
* Rows of an operand that no point of its absent partner ever visits may hold anything (language.md, "Only visited
  points exist"), but 0 * NaN is NaN on the MME. Where the partner's support depends on them such rows are copied out
  (`V_m[b,k,e] = V[b,k,e] where k < len[b]`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tpcgen.diagnostics import Diagnostics
from tpcgen.program import affine, ir
from tpcgen.program.contractions import Contraction
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.edit import (
    Definition,
    Part,
    Recurrence,
    conjunction,
    conjuncts,
    intermediate,
    names_in_use,
    parts_of,
    rebuilt,
)
from tpcgen.rewrite.split_contractions import contraction_of
from tpcgen.rewrite.support import Supports, UndeterminedError, exists, implies

_ZERO = ir.Literal(0, DType.I32)


def materialise_operands(program: ir.Program, found: Diagnostics) -> ir.Program:
    """Reports E405 for a part of a domain that no single operand has the indices of."""
    names = names_in_use(program)
    axes: dict[tuple[str, int], ir.IndexRange] = {}
    result: list[Part] = []
    for part in parts_of(program):
        contraction = None if isinstance(part, Recurrence) else contraction_of(part.equation, program)
        if contraction is None or isinstance(part, Recurrence):
            result.append(part)
            continue
        step = _Step(rebuilt(program, [*result, part], axes.values()), part, contraction, names, axes, result, found)
        try:
            result.append(step.run())
        except UndeterminedError as problem:
            found.error("E406", f"{problem} is not lowered yet", problem.expr.span, "make it present with default")
    return rebuilt(program, result, axes.values())


@dataclass
class _Step:
    """One contraction; new operands are appended to `made`. `axes`: indices over whole axes of tensors."""

    program: ir.Program
    part: Definition
    contraction: Contraction
    names: FreshNames
    axes: dict[tuple[str, int], ir.IndexRange]
    made: list[Part]
    found: Diagnostics

    def run(self) -> Definition:
        c = self.contraction
        left, right = c.left, c.right
        dtype = _common_dtype(left, right)
        domains = self._domains(left, right)
        stored_left = self._stored(left, dtype, domains[0])
        stored_right = self._stored(right, dtype, domains[1])
        stored_right = self._unvisited(stored_right, stored_left, c.rows)
        stored_left = self._unvisited(stored_left, stored_right, c.columns)
        body = ir.Binary("*", stored_left, stored_right, span=c.left.span)
        value = ir.Reduce("sum", c.summed, None, None, body, span=self.part.equation.value.span)
        return replace(self.part, equation=replace(self.part.equation, value=value))

    def _domains(self, left: ir.Expr, right: ir.Expr) -> tuple[ir.Expr | None, ir.Expr | None]:
        sides: tuple[list[ir.Expr], list[ir.Expr]] = ([], [])
        for condition in conjuncts(self.contraction.domain):
            free = ir.free_indices(condition)
            if free <= ir.free_indices(left):
                sides[0].append(condition)
            elif free <= ir.free_indices(right):
                sides[1].append(condition)
            else:
                self.found.error(
                    "E405",
                    "this domain of a contraction is not lowered yet: it ties indices of both operands together",
                    condition.span,
                    "move it to an equation of one operand, or to the softmax before it",
                )
        return conjunction(sides[0]), conjunction(sides[1])

    def _stored(self, operand: ir.Expr, dtype: DType, domain: ir.Expr | None) -> ir.Read:
        inner = operand.operand if isinstance(operand, ir.Cast) and operand.dtype is dtype else operand
        stored = isinstance(inner, ir.Read) and inner.dtype is dtype and _readable(inner, self.program)
        if isinstance(inner, ir.Read) and stored and (domain is None or self._implied(inner, domain)):
            return inner
        suffix = "r" if isinstance(operand, ir.Cast) and isinstance(inner, ir.Read) else "op"
        return self._new(inner, dtype, domain, suffix)

    def _implied(self, read: ir.Read, domain: ir.Expr) -> bool:
        return implies(Supports(self.program).of(read).where, domain, self.program)

    def _unvisited(self, operand: ir.Read, partner: ir.Read, others: tuple[str, ...]) -> ir.Read:
        """The operand without the rows that no point of its partner visits; `others` are the partner's own indices."""
        supports = Supports(rebuilt(self.program, [*self.made, self.part]))
        support = supports.of(partner).where
        if support is None:
            return operand
        own = set(operand_indices(operand))
        conditions = conjuncts(exists(support, others, self.program))
        visited = conjunction(c for c in conditions if ir.free_indices(c) & own)
        if visited is None or not ir.free_indices(visited) <= own:
            return operand
        if implies(supports.of(operand).where, visited, self.program):
            return operand
        # That sizes leave nothing to visit, a window that reaches no key, is not worth a copy of its own.
        of_sizes = [c for c in conditions if not ir.free_indices(c)]
        return self._copied(operand, visited, of_sizes)

    def _copied(self, operand: ir.Read, visited: ir.Expr, of_sizes: Sequence[ir.Expr]) -> ir.Read:
        """The rows that are visited. Axes of the tensor that this does not depend on are copied as they are stored:
        `V_m[b, h // R, k, e]` with `V_m[b,g,k,e] = V[b,g,k,e] where ..`, not a copy per h.
        """
        whole: dict[str, ir.Expr] = {}
        indices: list[ir.Expr] = []
        for axis, index in enumerate(operand.indices):
            if isinstance(index, ir.Index) or ir.free_indices(index) & ir.free_indices(visited):
                indices.append(index)
                continue
            own = self._axis(operand.tensor, axis)
            whole[own] = index
            indices.append(ir.Index(own))
        domain = conjunction([*of_sizes, visited])
        copy = self._new(replace(operand, indices=tuple(indices)), operand.dtype, domain, "m")
        return replace(copy, indices=tuple(whole.get(i, ir.Index(i)) for i in operand_indices(copy)))

    def _axis(self, tensor: str, axis: int) -> str:
        if (tensor, axis) not in self.axes:
            made = ir.IndexRange(
                self.names.fresh(f"{tensor.lower()}_{axis}"), _ZERO, self.program.tensor(tensor).shape[axis]
            )
            self.axes[tensor, axis] = made
            self.program = replace(self.program, indices=(*self.program.indices, made))
        return self.axes[tensor, axis].name

    def _new(self, value: ir.Expr, dtype: DType, domain: ir.Expr | None, suffix: str) -> ir.Read:
        indices = self._indices(value)
        for made in self.made:
            if isinstance(made, Recurrence):
                continue
            e = made.equation
            if (e.value, e.domain, e.indices, made.tensor.dtype) == (value, domain, indices, dtype):
                return _read(made.tensor, indices, value)
        base = next((e.tensor for e in ir.walk(value) if isinstance(e, ir.Read)), self.part.tensor.name)
        tensor = intermediate(self.program, self.names.fresh(f"{base}_{suffix}"), indices, dtype, value)
        self.made.append(Definition(tensor, ir.Equation(tensor.name, indices, value, domain, span=value.span)))
        return _read(tensor, indices, value)

    def _indices(self, value: ir.Expr) -> tuple[str, ...]:
        """As in the axes of the first read that has them all, else as declared."""
        free = ir.free_indices(value)
        declared = tuple(r.name for r in self.program.indices if r.name in free)
        for e in ir.walk(value):
            if isinstance(e, ir.Read) and ir.free_indices(e) == free:
                return tuple(dict.fromkeys(n for i in e.indices for n in declared if n in ir.free_indices(i)))
        return declared


def operand_indices(read: ir.Read) -> tuple[str, ...]:
    """The plain indices of a read, in order of its axes."""
    return tuple(i.name for i in read.indices if isinstance(i, ir.Index))


def _readable(read: ir.Read, program: ir.Program) -> bool:
    """Whether the MME can address it: each axis one index, or a quotient or remainder of one, that runs over all of it.

    A part of an axis is copied out: a batched matmul takes whole tensors.
    """
    shape = program.tensor(read.tensor).shape
    return all(_is_axis(i, extent, program) for i, extent in zip(read.indices, shape, strict=True))


def _is_axis(e: ir.Expr, extent: ir.Expr, program: ir.Program) -> bool:
    match e:
        case ir.Index():
            return affine.equal(program.range_of(e.name).high, extent)
        case ir.Binary(operator="//", left=ir.Index(name=name)) if not ir.free_indices(e.right):
            whole = program.range_of(name).high
            exact = affine.equal(whole, ir.Binary("*", extent, e.right))
            return exact or affine.equal(e.right, ir.Binary("//", whole, extent))
        case ir.Binary(operator="%", left=ir.Index()) if not ir.free_indices(e.right):
            return affine.equal(e.right, extent)
        case _:
            return False


def _common_dtype(left: ir.Expr, right: ir.Expr) -> DType:
    """Both operands' dtype; f32, which holds every float dtype exactly, where they differ."""
    dtypes = {_dtype(left), _dtype(right)}
    return dtypes.pop() if len(dtypes) == 1 else DType.F32


def _dtype(operand: ir.Expr) -> DType:
    return operand.dtype if isinstance(operand, ir.Read | ir.Cast) else DType.F32


def _read(tensor: ir.Tensor, indices: tuple[str, ...], like: ir.Expr) -> ir.Read:
    return ir.Read(tensor.name, tuple(ir.Index(i) for i in indices), tensor.dtype, span=like.span)
