"""Which equations run together: a contraction, a copy and a scan are stages of their own, the rest goes into as few
kernels as possible. A contraction runs on the MME unless its place is the TPC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tpcgen.program import ir
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.copies import copy_of
from tpcgen.rewrite.edit import reads, writes
from tpcgen.rewrite.split_contractions import matmul_of

MAX_TENSORS = 16
"""Tensors of one TPC kernel (gaudi.md, section 1)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Statements of one stage, in text order: one contraction, the equations of one copied tensor, one scan, attention
    as a whole, or the equations of a kernel. A scan comes with the equations that keep last values of its states.
    """

    engine: Literal["mme", "tpc", "scan", "copy", "attention"]
    statements: tuple[ir.Statement, ...]

    @property
    def equations(self) -> tuple[ir.Equation, ...]:
        """Those of the stage; what a scan does at each step for a scan."""
        scans = [s for s in self.statements if isinstance(s, ir.Scan)]
        inside = [e for s in scans for e in s.body if isinstance(e, ir.Equation)]
        return (*inside, *(s for s in self.statements if isinstance(s, ir.Equation)))

    @property
    def local(self) -> frozenset[str]:
        """Tensors that live in the kernel alone: what an attention makes of scores, states and what lives one step."""
        if self.engine == "attention":
            return frozenset(e.target for e in self.equations[:-1])
        scans = [s for s in self.statements if isinstance(s, ir.Scan)]
        outlive = {e.target for s in scans for e in s.body if isinstance(e, ir.Equation) and s.index in e.indices}
        return frozenset[str]().union(*map(writes, scans)) - outlive

    @property
    def reads(self) -> frozenset[str]:
        return frozenset[str]().union(*(reads(s) for s in self.statements)) - self.local

    @property
    def writes(self) -> frozenset[str]:
        return frozenset[str]().union(*(writes(s) for s in self.statements)) - self.local

    @property
    def targets(self) -> tuple[str, ...]:
        """Tensors the stage leaves in global memory, in text order."""
        return tuple(dict.fromkeys(e.target for e in self.equations if e.target not in self.local))


def groups(
    program: ir.Program, on_tpc: Callable[[str], bool] = lambda target: False, fused: Sequence[ir.Equation] = ()
) -> tuple[Group, ...]:
    """Groups of a normalised program, in an order in which each finds its inputs ready.

    `on_tpc`: whether the contraction that computes a tensor runs on the TPC; `fused`: the attention of one kernel.
    """
    result: list[Group] = [Group("attention", tuple(fused))] if fused else []
    for statement in program.body:
        if statement in fused:
            continue
        if isinstance(statement, ir.Scan):
            result.append(Group("scan", (statement,)))
            continue
        scan = next((n for n, g in enumerate(result) if g.engine == "scan" and reads(statement) & g.local), None)
        if scan is not None:
            result[scan] = replace(result[scan], statements=(*result[scan].statements, statement))
            continue
        pieces = [e for e in program.body if isinstance(e, ir.Equation) and e.target == statement.target]
        if copy_of(pieces, program) is not None:
            if statement is pieces[-1]:
                result.append(Group("copy", tuple(pieces)))
        elif matmul_of(statement, program) is not None:
            result.append(Group("tpc" if on_tpc(statement.target) else "mme", (statement,)))
        else:
            _place(result, statement)
    return _sorted(result)


def rows(equation: ir.Equation) -> frozenset[str]:
    """The row indices of a kernel: those of the left side that no reduction on the right binds."""
    return frozenset(equation.indices) - bound(equation)


def bound(equation: ir.Equation) -> frozenset[str]:
    """Indices that reductions of an equation bind."""
    sides = [s for s in (equation.value, equation.domain) if s is not None]
    return frozenset(i for s in sides for e in ir.walk(s) if isinstance(e, ir.Reduce) for i in e.indices)


def _place(result: list[Group], equation: ir.Equation) -> None:
    alone = Group("tpc", (equation,))
    for position, group in enumerate(result):
        if group.engine != "tpc" or not _share_rows(group, equation):
            continue
        merged = Group("tpc", (*group.equations, equation))
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
    """One name per group: the tensor of a contraction or copy, a kernel's `kind`; numbered where they repeat."""
    fresh = FreshNames()
    return tuple(fresh.fresh(_name(p)) for p in parts)


def _name(group: Group) -> str:
    target = group.targets[0].lower()
    match group.engine:
        case "mme":
            return target
        case "copy":
            return f"copy_{target}"
        case "scan":
            return f"scan_{target}"
        case "attention":
            return "attention"
        case "tpc":
            return kind(group)


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
