"""Which equations run together: a contraction is a stage of its own, the rest goes into as few kernels as possible."""

from __future__ import annotations

from dataclasses import dataclass

from tpcgen.program import ir
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.drop_dead import reads
from tpcgen.rewrite.split_contractions import matmul_of

MAX_TENSORS = 16
"""Tensors of one TPC kernel (gaudi.md, section 1)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Equations of one stage, in text order; an `mme` group has exactly one."""

    mme: bool
    equations: tuple[ir.Equation, ...]

    @property
    def reads(self) -> frozenset[str]:
        return frozenset[str]().union(*(reads(e) for e in self.equations))

    @property
    def writes(self) -> frozenset[str]:
        return frozenset(e.target for e in self.equations)


def groups(program: ir.Program) -> tuple[Group, ...]:
    """Groups of a normalised program, in an order in which each finds its inputs ready."""
    result: list[Group] = []
    for equation in program.body:
        assert isinstance(equation, ir.Equation)
        if matmul_of(equation, program) is not None:
            result.append(Group(True, (equation,)))
            continue
        _place(result, equation)
    return _sorted(result)


def rows(equation: ir.Equation) -> frozenset[str]:
    """The row indices of a kernel: those of the left side that no reduction on the right binds."""
    return frozenset(equation.indices) - bound(equation)


def bound(equation: ir.Equation) -> frozenset[str]:
    """Indices that reductions of an equation bind."""
    sides = [s for s in (equation.value, equation.domain) if s is not None]
    return frozenset(i for s in sides for e in ir.walk(s) if isinstance(e, ir.Reduce) for i in e.indices)


def _place(result: list[Group], equation: ir.Equation) -> None:
    alone = Group(False, (equation,))
    for position, group in enumerate(result):
        if group.mme or not _share_rows(group, equation):
            continue
        merged = Group(False, (*group.equations, equation))
        others = [*result[:position], merged, *result[position + 1 :]]
        fits = len(merged.reads | merged.writes) <= MAX_TENSORS
        if fits and not merged.reads & merged.writes and _order(others) is not None:
            result[position] = merged
            return
    result.append(alone)


def _share_rows(group: Group, equation: ir.Equation) -> bool:
    """Same rows; or a map over the rows and reduced indices of a kernel that reads the same data, or the reverse."""
    first = group.equations[0]
    if rows(first) == rows(equation):
        return True
    if not group.reads & reads(equation):
        return False
    reducing = next((e for e in group.equations if bound(e)), None)
    if reducing is not None:
        return not bound(equation) and rows(equation) == rows(reducing) | bound(reducing)
    return bool(bound(equation)) and rows(first) == rows(equation) | bound(equation)


def names(parts: tuple[Group, ...]) -> tuple[str, ...]:
    """One name per group: a contraction's tensor, a kernel's `kind`; numbered where they repeat."""
    fresh = FreshNames()
    return tuple(fresh.fresh(p.equations[0].target.lower() if p.mme else kind(p)) for p in parts)


def kind(group: Group) -> str:
    """What a kernel does: softmax, logsumexp, sum, ..., or map."""
    sides = [s for e in group.equations for s in (e.value, e.domain) if s is not None]
    kinds = [x.kind for s in sides for x in ir.walk(s) if isinstance(x, ir.Reduce)]
    return "softmax" if "softmax" in kinds else (kinds[0] if kinds else "map")


def _sorted(result: list[Group]) -> tuple[Group, ...]:
    order = _order(result)
    assert order is not None
    return tuple(result[i] for i in order)


def _order(result: list[Group]) -> list[int] | None:
    """Positions in an order that respects reads, as close to the given one as can be; None for a cycle."""
    writer = {name: i for i, group in enumerate(result) for name in group.writes}
    waits = [{writer[name] for name in group.reads if name in writer} for group in result]
    done: list[int] = []
    while len(done) < len(result):
        ready = next((i for i in range(len(result)) if i not in done and waits[i] <= set(done)), None)
        if ready is None:
            return None
        done.append(ready)
    return done
