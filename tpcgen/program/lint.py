"""Lint warnings about a program that is right but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from tpcgen.diagnostics import Diagnostics, Label
from tpcgen.program import affine, domains, ir
from tpcgen.program.contractions import match_contraction
from tpcgen.program.print import expression as text
from tpcgen.program.sizes import equal


def lint(program: ir.Program, found: Diagnostics) -> None:
    """W101 causal domains that do not align, W102 contractions on TPC, W103 conditions written twice, W104 sums."""
    for equation in _equations(program):
        parts = [equation.value] if equation.domain is None else [equation.value, equation.domain]
        if equation.domain is not None:
            _domain(equation.domain, equation.indices[1:], program, found)
        for e in (x for part in parts for x in ir.walk(part)):
            if not isinstance(e, ir.Reduce):
                continue
            if e.domain is not None:
                _domain(e.domain, e.indices, program, found)
            if e.kind == "sum":
                _running_sum(e, program, found)
    _placements(program, found)


def _equations(program: ir.Program) -> Iterator[ir.Equation | ir.Update]:
    for statement in program.body:
        if isinstance(statement, ir.Equation):
            yield statement
        else:
            yield from statement.body


def _domain(domain: ir.Expr, keys: tuple[str, ...], program: ir.Program, found: Diagnostics) -> None:
    """`keys` are the indices that may be the columns of a causal domain."""
    seen: dict[object, ir.Expr] = {}
    for conjunct in _conjuncts(domain):
        cases = domains.cases(conjunct)
        if cases is None or len(cases) != 1:
            continue
        for term in cases[0]:
            if term in seen and seen[term] is not conjunct:
                label = Label(seen[term].span, "first here")
                found.warning("W103", "the condition is written twice", conjunct.span, "drop one of them", (label,))
            seen.setdefault(term, conjunct)
            if isinstance(term, domains.AtLeastZero):
                _causal(term.polynomial, conjunct, keys, program, found)


def _causal(
    p: affine.Polynomial, conjunct: ir.Expr, keys: tuple[str, ...], program: ir.Program, found: Diagnostics
) -> None:
    """`k <= q + constant` where the ranges of k and q may differ: which query meets which key is then a guess."""
    terms = {m: c for m, c in p.items() if m}
    if sorted(terms.values()) != [-1, 1]:
        return
    names: dict[int, str] = {}
    for monomial, factor in terms.items():
        if len(monomial) != 1 or not isinstance(monomial[0], ir.Index):
            return
        names[factor] = monomial[0].name
    query, key = program.range_of(names[1]), program.range_of(names[-1])
    before = keys.index(query.name) < keys.index(key.name) if {query.name, key.name} <= {*keys} else True
    if key.name not in keys or not before or equal(query.high, key.high):
        return
    rows, columns = text(query.high), text(key.high)
    message = f"{key.name} <= {query.name} aligns their first elements, but {rows} and {columns} may differ"
    hint = f"the last {rows} of {columns} is {key.name} <= {query.name} + {columns} - {rows}"
    found.warning("W101", message, conjunct.span, hint)


def _running_sum(e: ir.Reduce, program: ir.Program, found: Diagnostics) -> None:
    """A sum over j up to t of an expression that mixes t into every term: quadratic, though its inputs are linear."""
    if e.domain is None or match_contraction(e, program) is not None:
        return
    cases = domains.cases(e.domain)
    if cases is None or len(cases) != 1:
        return
    for j in e.indices:
        for t in sorted(ir.free_indices(e.domain) - set(e.indices)):
            bounded = any(_bounds(p, j, t) for p in domains.inequalities(cases[0]))
            if bounded and _mixes(e.body, j, t):
                message = f"the sum over {j} up to {t} is quadratic: its terms depend on {t} as well"
                hint = f"where the part with {t} is a factor of its own, write it outside the sum"
                found.warning("W104", message, e.span, hint)
                return


def _bounds(p: affine.Polynomial, j: str, t: str) -> bool:
    return affine.coefficient_of(p, j) == -1 and affine.coefficient_of(p, t) == 1


def _mixes(body: ir.Expr, j: str, t: str) -> bool:
    """Whether some factor depends on both, and no tensor is read at both (its size would be quadratic already)."""
    reads_both = any(isinstance(x, ir.Read) and {j, t} <= ir.free_indices(x) for x in ir.walk(body))
    return not reads_both and any({j, t} <= ir.free_indices(f) for f in _factors(body))


def _factors(e: ir.Expr) -> list[ir.Expr]:
    if isinstance(e, ir.Binary) and e.operator == "*":
        return [*_factors(e.left), *_factors(e.right)]
    return [e]


def _conjuncts(e: ir.Expr) -> list[ir.Expr]:
    if isinstance(e, ir.Binary) and e.operator == "and":
        return [*_conjuncts(e.left), *_conjuncts(e.right)]
    return [e]


def _placements(program: ir.Program, found: Diagnostics) -> None:
    placed = {pin.words[0]: pin for pin in program.pins if pin.verb == "place" and pin.words[1:] == ("tpc",)}
    for equation in _equations(program):
        target = equation.target if isinstance(equation, ir.Equation) else equation.state
        if target not in placed:
            continue
        for e in ir.walk(equation.value):
            if isinstance(e, ir.Reduce) and match_contraction(e, program) is not None:
                label = Label(e.span, "the contraction")
                message = f"{target} holds a contraction, which TPC computes 16 to 64 times slower than the MME"
                found.warning(
                    "W102", message, placed[target].span, "place it on mme, or leave it to the compiler", (label,)
                )
                break
