"""Makes one equation of several that define a tensor piece by piece, where they are no copies.

    R[q,d] = Q[q,d] * c[q,d] - Q[q,d + F] * s[q,d] where d < F
    R[q,d] = Q[q,d] * c[q,d - F] + Q[q,d - F] * s[q,d - F] where d >= F

becomes `R[q,d] = select(d < F, Q[q,d] * .. - .., Q[q,d] * .. + ..) where d < F or d >= F`: one kernel looks at the
condition. `select` visits only the branch it takes, as the pieces do; where the pieces leave no point out, as here, the
domain is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpcgen.diagnostics import Diagnostic, Diagnostics, Label
from tpcgen.program import affine, domains, ir
from tpcgen.program.substitute import substitute
from tpcgen.rewrite.copies import copy_of
from tpcgen.rewrite.edit import Definition, Part, definitions, parts_of, rebuilt
from tpcgen.rewrite.support import facts


def merge_pieces(program: ir.Program, found: Diagnostics) -> ir.Program:
    """Reports E402 for pieces whose domains read values that may be absent, or that cannot be named alike."""
    pieces: dict[str, list[ir.Equation]] = {}
    for d in definitions(program):
        pieces.setdefault(d.tensor.name, []).append(d.equation)
    several = {name: es for name, es in pieces.items() if len(es) > 1 and copy_of(es, program) is None}
    result: list[Part] = []
    for part in parts_of(program):
        if not isinstance(part, Definition) or part.tensor.name not in several:
            result.append(part)
            continue
        equations = several[part.tensor.name]
        if part.equation is not equations[-1]:
            continue
        merged = _merged(equations, program)
        if merged is None:
            found.found.append(_not_lowered(equations))
            continue
        result.append(replace(part, equation=merged))
    return program if not several else rebuilt(program, result)


def _merged(equations: Sequence[ir.Equation], program: ir.Program) -> ir.Equation | None:
    first = equations[0]
    inputs = {t.name for t in program.inputs}
    named: list[tuple[ir.Expr, ir.Expr]] = []
    for e in equations:
        if e.domain is None or any(isinstance(x, ir.Read) and x.tensor not in inputs for x in ir.walk(e.domain)):
            return None
        to = {old: ir.Index(new) for old, new in zip(e.indices, first.indices, strict=True) if old != new}
        try:
            named.append((substitute(e.domain, to), substitute(e.value, to)))
        except ValueError:
            return None
    value = named[-1][1]
    for condition, branch in reversed(named[:-1]):
        value = ir.Call("select", (condition, branch, value), span=branch.span)
    domain = named[0][0]
    for condition, _ in named[1:]:
        domain = ir.Binary("or", domain, condition, span=first.span)
    where = None if everywhere([c for c, _ in named], first.indices, program) else domain
    return ir.Equation(first.target, first.indices, value, where, span=first.span)


def everywhere(conditions: Sequence[ir.Expr], indices: Sequence[str], program: ir.Program) -> bool:
    """Whether no point is outside all the conditions, as far as the prover sees."""
    outside: list[domains.Case] | None = [frozenset()]
    for condition in conditions:
        negated = domains.cases(condition, positive=False)
        outside = domains.conjunction(outside, negated) if outside is not None and negated is not None else None
    if outside is None:
        return False
    known = domains.range_facts(program.range_of(i) for i in indices) + _remainders(conditions)
    within = frozenset(domains.at_least_zero(p) for p in known if affine.as_constant(p) is None)
    return all(domains.contradicts(case | within, facts(program)) for case in outside)


def _remainders(conditions: Sequence[ir.Expr]) -> list[affine.Polynomial]:
    """0 <= a % c < c for what is left of a division by a literal."""
    found: list[affine.Polynomial] = []
    for x in dict.fromkeys(x for c in conditions for x in ir.walk(c)):
        if isinstance(x, ir.Binary) and x.operator == "%" and isinstance(x.right, ir.Literal) and x.right.value > 0:
            rest = affine.polynomial(x)
            found += [rest, affine.subtract(affine.constant(int(x.right.value) - 1), rest)]
    return found


def _not_lowered(pieces: Sequence[ir.Equation]) -> Diagnostic:
    labels = tuple(Label(e.span, "and here") for e in pieces[1:])
    message = f"these pieces of {pieces[0].target} are not lowered yet: a domain reads a value that may be absent"
    hint = "divide it by conditions on indices, sizes, attributes and inputs, or write one equation with `select`"
    return Diagnostic("E402", message, pieces[0].span, hint, labels)
