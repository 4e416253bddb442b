"""Several equations of one tensor must have disjoint domains: proved here, or left to a check at run time."""

from __future__ import annotations

from itertools import combinations

from tpcgen.diagnostics import Diagnostics, Label
from tpcgen.program import affine, domains, ir
from tpcgen.program.domains import Case, Opaque
from tpcgen.program.substitute import substitute


def check_disjoint(program: ir.Program, found: Diagnostics) -> None:
    """E302 with a point for a provable overlap, W107 where it can only be checked at run time."""
    facts = size_facts(program)
    for equations in _by_target(program).values():
        for first, second in combinations(equations, 2):
            _check(first, second, program, facts, found)


def size_facts(program: ir.Program) -> list[affine.Polynomial]:
    """Inequalities that contracts on sizes and attributes state without alternatives."""
    facts: list[affine.Polynomial] = []
    for contract in program.contracts:
        if contract.on_values:
            continue
        cases = domains.cases(contract.condition)
        if cases is not None and len(cases) == 1:
            facts += domains.inequalities(cases[0])
    return facts


def _by_target(program: ir.Program) -> dict[str, list[ir.Equation]]:
    result: dict[str, list[ir.Equation]] = {}
    for statement in program.body:
        for step in (statement,) if isinstance(statement, ir.Equation) else statement.body:
            if isinstance(step, ir.Equation):
                result.setdefault(step.target, []).append(step)
    return result


def _check(
    first: ir.Equation, second: ir.Equation, program: ir.Program, facts: list[affine.Polynomial], found: Diagnostics
) -> None:
    cases = _common_cases(first, second)
    label = Label(first.span, "the other equation")
    if cases is None:
        _unproved(first, second, found)
        return
    ranges = _ranges(first, second, program)
    known = frozenset(domains.at_least_zero(f) for f in (*facts, *ranges) if affine.as_constant(f) is None)
    if first.domain is None and second.domain is None and not domains.contradicts(known, affine.Facts()):
        hint = "single assignment: give the equations disjoint domains, or use another name"
        found.error("E302", f"{second.target} is defined twice at every point", second.span, hint, (label,))
        return
    left = [case | known for case in cases if not domains.contradicts(case | known, affine.Facts())]
    if not left:
        return
    from tpcgen.program.integer_sets import Point, find_point

    points = [(case, find_point(domains.inequalities(case))) for case in left]
    for case, point in points:
        if isinstance(point, Point) and not any(isinstance(t, Opaque) for t in case):
            at = _written(point.values, program)
            message = f"the equations of {second.target} overlap"
            found.error("E302", message, second.span, f"both hold at {at or 'every point'}", (label,))
            return
    if any(point is not None for _, point in points):
        _unproved(first, second, found)


def _written(values: dict[str, int], program: ir.Program) -> str:
    ranges = {r.name for r in program.indices}
    point = ", ".join(f"{name} = {value}" for name, value in sorted(values.items()) if name in ranges)
    sizes = ", ".join(f"{name} = {value}" for name, value in sorted(values.items()) if name not in ranges)
    return f"{point} with {sizes}" if point and sizes else point or sizes


def _unproved(first: ir.Equation, second: ir.Equation, found: Diagnostics) -> None:
    label = Label(first.span, "the other equation")
    message = f"cannot prove that the equations of {second.target} have disjoint domains: checked at run time"
    found.warning("W107", message, second.span, "`where p` and `where not p` are always disjoint", (label,))


def _common_cases(first: ir.Equation, second: ir.Equation) -> list[Case] | None:
    """Cases in which both domains hold, over the indices of the first; None when they cannot be listed."""
    everywhere: list[Case] = [frozenset()]
    left = domains.cases(first.domain) if first.domain is not None else everywhere
    renamed = {b: ir.Index(a) for a, b in zip(first.indices, second.indices, strict=True)}
    try:
        domain = substitute(second.domain, renamed) if second.domain is not None else None
    except ValueError:
        return None
    right = domains.cases(domain) if domain is not None else everywhere
    return domains.conjunction(left, right) if left is not None and right is not None else None


def _ranges(first: ir.Equation, second: ir.Equation, program: ir.Program) -> list[affine.Polynomial]:
    facts = domains.range_facts(program.range_of(i) for i in first.indices)
    for a, b in zip(first.indices, second.indices, strict=True):
        r = program.range_of(b)
        facts += domains.range_facts([ir.IndexRange(a, r.low, r.high)])
    return facts
