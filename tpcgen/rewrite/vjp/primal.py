"""The forward as the gradient takes it: reductions that something bends stand alone.

    S[q,k] = cap * tanh(sum[d](Q[q,d] * K[k,d]) / cap)

becomes `S_sum[q,k] = sum[d](..)` and `S[q,k] = cap * tanh(S_sum[q,k] / cap)`, so that no derivative holds a reduction
within another one. So do contractions that are multiplied by what has an index of one operand alone. Other sums that
are only scaled and added up stay where they are; so do domains and conditions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tpcgen.program import ir
from tpcgen.program.contractions import match_contraction
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import FreshNames, with_children
from tpcgen.rewrite.edit import Definition, Part, Recurrence, intermediate, names_in_use, parts_of, rebuilt


def primal(program: ir.Program) -> ir.Program:
    names = names_in_use(program)
    made: list[Part] = []
    for part in parts_of(program):
        if isinstance(part, Recurrence):
            made.append(_scan(program, part, names))
            continue
        hoisting = _Hoisting(program, part, names, made)
        e = part.equation
        cut = isinstance(e.value, ir.Reduce) and e.value.kind == "softmax" and not _whole(part)
        value = hoisting.stored(e.value, f"{e.target}_softmax") if cut else hoisting.root(e.value)
        made.append(Definition(part.tensor, ir.Equation(e.target, e.indices, value, e.domain, span=e.span)))
    return rebuilt(program, made)


def _scan(program: ir.Program, part: Recurrence, names: FreshNames) -> Recurrence:
    body: list[ir.Equation | ir.Update] = []
    tensors = list(part.tensors)
    for step in part.scan.body:
        target = step.target if isinstance(step, ir.Equation) else step.state
        around = ir.Equation(target, step.indices, step.value, step.domain, span=step.span)
        made: list[Part] = []
        value = _Hoisting(program, Definition(program.tensor(target), around), names, made).root(step.value)
        new = [p for p in made if isinstance(p, Definition)]
        tensors += [p.tensor for p in new]
        body += [*(p.equation for p in new), replace(step, value=value)]
    return Recurrence(tuple(tensors), replace(part.scan, body=tuple(body)))


@dataclass(frozen=True)
class _Hoisting:
    """One equation; the equations of what is taken out of it come before it in `made`."""

    program: ir.Program
    part: Definition
    names: FreshNames
    made: list[Part]

    def root(self, e: ir.Expr) -> ir.Expr:
        """A right side: a reduction of any kind may be all of it, over what is stored or holds no reduction."""
        if not isinstance(e, ir.Reduce) or e.kind == "sum" or ir.type_of(e) is not DType.F32:
            return self._linear(e)
        body = self._named(e.body, self.part.tensor.name + "_x") if e.kind == "softmax" else self._bent(e.body)
        sink = self._bent(e.sink) if e.sink is not None else None
        return ir.Reduce(e.kind, e.indices, e.domain, sink, body, span=e.span)

    def _linear(self, e: ir.Expr) -> ir.Expr:
        """Where a sum may stay."""
        match e:
            case ir.Unary(operator="-") | ir.Cast() | ir.Binary(operator="+" | "-"):
                return with_children(e, [self._linear(c) for c in ir.children(e)])
            case ir.Reduce(kind="sum") if ir.type_of(e) is DType.F32:
                body = self._linear(e.body)
                return ir.Reduce(e.kind, e.indices, e.domain, e.sink, body, span=e.span)
            case ir.Binary(operator="*") if not (_reduces(e.left) and _reduces(e.right)):
                return with_children(e, [self._scaled(e.left, e.right), self._scaled(e.right, e.left)])
            case ir.Binary(operator="/") if not _reduces(e.right):
                return with_children(e, [self._linear(e.left), e.right])
            case _:
                return self._bent(e)

    def _scaled(self, e: ir.Expr, factor: ir.Expr) -> ir.Expr:
        """A side of a product. A contraction stands alone where its factor has an index of one operand: the other's
        gradient sums over that, and a sum of three factors is no contraction.
        """
        found = match_contraction(e, self.program) if isinstance(e, ir.Reduce) else None
        if found is not None and ir.free_indices(factor) & {*found.rows, *found.columns}:
            return self.stored(e, f"{self.part.tensor.name}_dot")
        return self._linear(e)

    def _bent(self, e: ir.Expr) -> ir.Expr:
        """Where every reduction of reals becomes a read."""
        match e:
            case ir.Read():
                return e
            case ir.Reduce() if ir.type_of(e) is DType.F32:
                return self.stored(e, f"{self.part.tensor.name}_{e.kind}")
            case ir.Reduce():
                return e
            case ir.Call(function="select"):
                condition, *branches = e.arguments
                return with_children(e, [condition, *(self._bent(b) for b in branches)])
            case _ if ir.type_of(e) is DType.BOOL:
                return e
            case _:
                return with_children(e, [self._bent(c) for c in ir.children(e)])

    def _named(self, e: ir.Expr, name: str) -> ir.Expr:
        return e if isinstance(e, ir.Read) or ir.type_of(e) is not DType.F32 else self.stored(e, name)

    def stored(self, e: ir.Expr, name: str) -> ir.Read:
        free = ir.free_indices(e)
        left = [i for i in self.part.equation.indices if i in free]
        indices = (*left, *(r.name for r in self.program.indices if r.name in free and r.name not in left))
        tensor = intermediate(self.program, self.names.fresh(name), indices, DType.F32, e)
        inner = _Hoisting(self.program, Definition(tensor, self.part.equation), self.names, self.made)
        self.made.append(Definition(tensor, ir.Equation(tensor.name, indices, inner.root(e), None, span=e.span)))
        return ir.Read(tensor.name, tuple(ir.Index(i) for i in indices), DType.F32, span=e.span)


def _whole(part: Definition) -> bool:
    """Whether a softmax is stored at all its points: one that is not seen has its share in the others' sum."""
    return part.equation.domain is None and part.tensor.role is not ir.Role.OUTPUT


def _reduces(e: ir.Expr) -> bool:
    return any(isinstance(x, ir.Reduce) and ir.type_of(x) is DType.F32 for x in ir.walk(e))
