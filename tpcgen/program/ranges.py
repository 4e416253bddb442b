"""One range per index: its declaration, or the extent of the axes where it stands alone in reads and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tpcgen.diagnostics import Label, Span
from tpcgen.program import ir
from tpcgen.program.astwalk import walk
from tpcgen.program.dtypes import DType
from tpcgen.program.expressions import Expressions, finish
from tpcgen.program.print import expression as text
from tpcgen.program.scope import Kind, OpScope, index_mentions, index_place
from tpcgen.program.sizes import equal
from tpcgen.syntax import ast

ApplicationShapes = Callable[[ast.Application], "tuple[tuple[ir.Expr, ...], ...] | None"]
"""Shapes of an applied op's results, None while those of its arguments are not known."""


@dataclass(frozen=True)
class _Alone:
    """An index that stands alone on an axis of a tensor, in `node`."""

    index: str
    tensor: str
    axis: int
    node: ast.Node
    span: Span | None

    def place(self, scope: OpScope) -> Span:
        return self.span if self.span is not None else index_place(scope.places, self.index, self.node)


def find_ranges(scope: OpScope, application_shapes: ApplicationShapes) -> None:
    """Fills `scope.ranges` (None for an index without one, which is reported) and the shapes of all tensors."""
    declared = _declared(scope)
    alone = list(_standing_alone(scope))
    while _settle(alone, declared, application_shapes, scope):
        pass
    for index in scope.named(Kind.INDEX):
        if index not in scope.ranges:
            _without_range(index, scope)
    _conflicts(alone, declared, scope)
    for info in scope.tensors.values():
        info.broken = info.broken or None in info.shape


def _declared(scope: OpScope) -> set[str]:
    """Resolves `index` declarations and the ranges of scans; returns their names."""
    declared: dict[str, Span] = {}
    for node in walk(scope.op):
        if not isinstance(node, ast.IndexDeclaration | ast.Scan):
            continue
        name = node.name if isinstance(node, ast.IndexDeclaration) else node.index
        if scope.kind_of(name) is not Kind.INDEX:
            continue
        what = f"the range of {name}"
        low = Expressions(scope, what).of_type(node.low, DType.I32, "the low end of a range")
        high = Expressions(scope, what).of_type(node.high, DType.I32, "the high end of a range")
        known = scope.ranges.get(name)
        if low is None or high is None:
            scope.ranges[name] = known
        elif known is None:
            scope.ranges[name] = ir.IndexRange(name, finish(low), finish(high), span=node.span)
        elif not (equal(known.low, low) and equal(known.high, high)):
            place = index_place(scope.places, name, node)
            message = f"{name} has two ranges: {text(known.low)} .. {text(known.high)} and {text(low)} .. {text(high)}"
            hint = "an index has one range in the whole op: use another name"
            scope.found.error("E211", message, place, hint, (Label(declared[name], "the other range"),))
        declared.setdefault(name, index_place(scope.places, name, node))
    return set(declared)


def _standing_alone(scope: OpScope) -> list[_Alone]:
    found: list[_Alone] = []
    for node in walk(scope.op):
        if isinstance(node, ast.Subscript):
            info = scope.tensors.get(node.tensor)
            for axis, e in enumerate(node.indices):
                if isinstance(e, ast.Name) and scope.kind_of(e.id) is Kind.INDEX and info and axis < info.rank:
                    found.append(_Alone(e.id, node.tensor, axis, node, e.span))
        elif isinstance(node, ast.Equation):
            info = scope.tensors.get(node.target)
            if info is not None and info.role is ir.Role.OUTPUT and len(node.indices) == info.rank:
                found += [_Alone(name, node.target, i, node, None) for i, name in enumerate(node.indices)]
    return found


def _settle(alone: list[_Alone], declared: set[str], shapes: ApplicationShapes, scope: OpScope) -> bool:
    """One round; True when something became known."""
    news = False
    for a in alone:
        extent = scope.tensors[a.tensor].shape[a.axis]
        if a.index not in scope.ranges and extent is not None and scope.kind_of(a.index) is Kind.INDEX:
            zero = ir.Literal(0, DType.I32)
            scope.ranges[a.index] = ir.IndexRange(a.index, zero, extent, span=a.node.span)
            news = True
    for info in scope.tensors.values():
        if None not in info.shape or info.broken:
            continue
        shape = info.shape
        match info.definition:
            case ast.Equation() | ast.State():
                ranges = [scope.ranges.get(i) for i in info.definition.indices]
                shape = tuple(r.high if r is not None else None for r in ranges)
            case ast.Application():
                results = shapes(info.definition)
                position = info.definition.targets.index(info.name)
                if results is not None and position < len(results):
                    shape = results[position]
            case _:
                pass
        news = news or shape != info.shape
        info.shape = shape
    return news


def _without_range(index: str, scope: OpScope) -> None:
    scope.ranges[index] = None
    if _stands_in_something_broken(index, scope):
        return
    mentions = ((name, node, nth) for name, node, nth in index_mentions(scope.op) if name == index)
    first = next(mentions, None)
    place = index_place(scope.places, *first) if first is not None else scope.names[index].span
    message = f"the index {index} has no range: it stands alone on no axis of a known extent"
    scope.found.error("E210", message, place, f"declare it: index {index} in 0 .. ...")


def _stands_in_something_broken(index: str, scope: OpScope) -> bool:
    for node in walk(scope.op):
        if isinstance(node, ast.Subscript) and any(isinstance(e, ast.Name) and e.id == index for e in node.indices):
            info = scope.tensors.get(node.tensor)
            if info is None or info.broken or len(node.indices) != info.rank:
                return True
        if isinstance(node, ast.Equation) and index in node.indices and node.target in scope.tensors:
            info = scope.tensors[node.target]
            if info.role is ir.Role.OUTPUT and (info.broken or len(node.indices) != info.rank):
                return True
    return False


def _conflicts(alone: list[_Alone], declared: set[str], scope: OpScope) -> None:
    first: dict[str, tuple[_Alone, ir.Expr]] = {}
    reported: set[str] = set()
    for a in alone:
        extent = scope.tensors[a.tensor].shape[a.axis]
        if extent is None or a.index in declared or a.index in reported or scope.ranges.get(a.index) is None:
            continue
        if a.index not in first:
            first[a.index] = (a, extent)
            continue
        other, known = first[a.index]
        if equal(known, extent):
            continue
        reported.add(a.index)
        message = (
            f"the index {a.index} ranges over {text(known)} (axis {other.axis} of {other.tensor}) "
            f"and over {text(extent)} (axis {a.axis} of {a.tensor})"
        )
        label = Label(other.place(scope), f"{text(known)} here")
        hint = f"use two indices, or declare one range: index {a.index} in 0 .. {text(known)}"
        scope.found.error("E211", message, a.place(scope), hint, (label,))
