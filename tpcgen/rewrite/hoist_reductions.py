"""Computes reductions where their data is, not where their result is used.

    O[b,h,q,e] = sum[k](A_r[b,h,q,k] * V[b,h,k,e]) / sum[k](A[b,h,q,k])

divides after a contraction; `A_sum[b,h,q] = sum[k](A[b,h,q,k])` needs nothing of that contraction, so it becomes a
tensor of its own that the kernel before it computes while it has A at hand.
"""

from __future__ import annotations

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import with_children
from tpcgen.rewrite.edit import Definition, Part, Recurrence, intermediate, names_in_use, parts_of, reads, rebuilt
from tpcgen.rewrite.inline_maps import phases
from tpcgen.rewrite.split_contractions import matmul_of


def hoist_reductions(program: ir.Program) -> ir.Program:
    """Real-valued sum, max, min and logsumexp of an earlier phase than the equation around them."""
    phase = phases(program)
    names = names_in_use(program)
    result: list[Part] = []
    for d in parts_of(program):
        if isinstance(d, Recurrence):
            result.append(d)
            continue
        e = d.equation
        if matmul_of(e, program) is not None:
            result.append(d)
            continue
        here = max((phase[t] for t in reads(e)), default=0)
        made: dict[ir.Reduce, Definition] = {}

        def visit(x: ir.Expr, here: int = here, made: dict[ir.Reduce, Definition] = made, d: Definition = d) -> ir.Expr:
            if not isinstance(x, ir.Reduce) or not _early(x, here, phase):
                return with_children(x, [visit(c) for c in ir.children(x)])
            indices = _ordered(ir.free_indices(x), d.equation, program)
            if x not in made:
                base = next(r.tensor for r in ir.walk(x) if isinstance(r, ir.Read))
                tensor = intermediate(program, names.fresh(f"{base}_{x.kind}"), indices, DType.F32, x)
                made[x] = Definition(tensor, ir.Equation(tensor.name, indices, x, None, span=x.span))
            return ir.Read(made[x].tensor.name, tuple(ir.Index(i) for i in indices), DType.F32, span=x.span)

        value = visit(e.value)
        result += [*made.values(), Definition(d.tensor, ir.Equation(e.target, e.indices, value, e.domain, span=e.span))]
    return rebuilt(program, result)


def _early(e: ir.Reduce, here: int, phase: dict[str, int]) -> bool:
    if e.kind not in ("sum", "max", "min", "logsumexp") or ir.type_of(e) is not DType.F32:
        return False
    tensors = [x.tensor for x in ir.walk(e) if isinstance(x, ir.Read)]
    return bool(tensors) and max(phase[t] for t in tensors) < here


def _ordered(names: frozenset[str], e: ir.Equation, program: ir.Program) -> tuple[str, ...]:
    left = [i for i in e.indices if i in names]
    return (*left, *(r.name for r in program.indices if r.name in names and r.name not in left))
