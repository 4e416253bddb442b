"""Makes absence explicit: after this, every equation that is not a contraction may be lowered as if all were present.

Where a value that may be absent reaches something other than 0 (a quotient, exp, a maximum), the equation or the
reduction around it gets the value's support as its domain. Intermediates with a domain of their own go into their
readers here: `sum[k](A[q,k])` with `A[q,k] = X[q,k] where k <= q` becomes `sum[k where k <= q](X[q,k])`. Not so what a
condition compares and a reduction computes, as a rank: it would be computed again at every point that is tested.
"""

from __future__ import annotations

from tpcgen.diagnostics import Diagnostics
from tpcgen.program import ir
from tpcgen.rewrite.edit import Definition, Part, Recurrence, conjunction, definitions, parts_of, rebuilt, sides_of
from tpcgen.rewrite.inline_maps import phases
from tpcgen.rewrite.split_contractions import matmul_of
from tpcgen.rewrite.support import Supports, UndeterminedError


def guard_absent(program: ir.Program, found: Diagnostics) -> ir.Program:
    """Reports E406 where presence cannot be written as a predicate."""
    parts = definitions(program)
    phase = phases(program)
    inlined: dict[str, ir.Equation] = {}
    result: list[Part] = []
    for d in parts_of(program):
        if isinstance(d, Recurrence):
            result.append(d)
            continue
        e = d.equation
        if matmul_of(e, program) is None:
            usable = {name: x for name, x in inlined.items() if phase[name] == phase[d.tensor.name]}
            try:
                e = _guarded(e, Supports(program, usable, e.domain))
            except UndeterminedError as problem:
                found.error("E406", f"{problem} is not lowered yet", problem.expr.span, "make it present with default")
            moves = _plain(d, parts) and not (_reduces(e) and _is_compared(d, parts))
            if d.tensor.role is ir.Role.INTERMEDIATE and d.equation.domain is not None and moves:
                inlined[d.tensor.name] = d.equation
        result.append(Definition(d.tensor, e))
    return rebuilt(program, result)


def _guarded(e: ir.Equation, supports: Supports) -> ir.Equation:
    value = supports.of(e.value)
    where = None if value.zero else value.where
    domain = conjunction([supports.domain(e.domain), where])
    return ir.Equation(e.target, e.indices, value.value, domain, span=e.span)


def _plain(d: Definition, parts: tuple[Definition, ...]) -> bool:
    """Whether every reader reads it at its own indices, so that its right side can stand in as it is."""
    own = tuple(ir.Index(i) for i in d.equation.indices)
    rounds = d.tensor.dtype.is_float and d.tensor.dtype.size < 4
    pieces = sum(p.tensor.name == d.tensor.name for p in parts)
    sides = [s for p in parts for s in (p.equation.value, p.equation.domain) if s is not None]
    reads = [x for s in sides for x in ir.walk(s) if isinstance(x, ir.Read) and x.tensor == d.tensor.name]
    return not rounds and pieces == 1 and all(r.indices == own for r in reads)


def _reduces(e: ir.Equation) -> bool:
    return any(isinstance(x, ir.Reduce) for side in sides_of(e) for x in ir.walk(side))


def _is_compared(d: Definition, parts: tuple[Definition, ...]) -> bool:
    """Whether a condition reads it."""
    expressions = [x for p in parts for side in sides_of(p.equation) for x in ir.walk(side)]
    domains = [x.domain for x in expressions if isinstance(x, ir.Reduce)] + [p.equation.domain for p in parts]
    conditions = [x for domain in domains if domain is not None for x in ir.walk(domain)]
    return any(isinstance(x, ir.Read) and x.tensor == d.tensor.name for x in conditions)
