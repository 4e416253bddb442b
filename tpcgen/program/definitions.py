"""Finds where every tensor of an op is defined: positions, ranks, annotations, who lives in a scan."""

from __future__ import annotations

from collections.abc import Callable

from tpcgen.diagnostics import Label, Span
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.scope import Kind, OpScope, Position, TensorInfo, index_place
from tpcgen.syntax import ast

OutputRanks = Callable[[ast.Application], tuple[int, ...] | None]
"""Ranks of the outputs of an applied op; None, reported, when there is no such op."""


def find_definitions(scope: OpScope, output_ranks: OutputRanks) -> None:
    """Fills `scope.tensors` with intermediates and states, and the positions of outputs."""
    for number, statement in enumerate(scope.op.body):
        match statement:
            case ast.Equation():
                _equation(statement, (number, -1), None, scope)
            case ast.Application():
                _application(statement, (number, -1), output_ranks, scope)
            case ast.Scan():
                _scan(statement, number, scope)
            case _:
                pass
    for output in scope.op.outputs:
        info = scope.tensors.get(output.name)
        if info is not None and info.role is ir.Role.OUTPUT and info.definition is None:
            hint = f"give it an equation: {output.name}[...] = ..."
            scope.found.error("E216", f"the output {output.name} is never defined", output.span, hint)


def _scan(scan: ast.Scan, number: int, scope: OpScope) -> None:
    for step, statement in enumerate(scan.body):
        match statement:
            case ast.State():
                _state(statement, (number, step), scan, scope)
            case ast.Equation():
                _equation(statement, (number, step), scan, scope)
            case _:
                pass
    for statement in scan.body:
        if isinstance(statement, ast.Update):
            _update(statement, number, scope)


def _state(state: ast.State, at: Position, scan: ast.Scan, scope: OpScope) -> None:
    if _declared_otherwise(state.name, state, scope):
        return
    _distinct(state, scope)
    if state.name in scope.tensors:
        _twice(state.name, state, scope)
        return
    if scan.index in state.indices:
        place = index_place(scope.places, scan.index, state)
        scope.found.error("E238", f"a state is not indexed by its scan's index {scan.index}", place)
    dtype = scope.dtype(state.dtype, state.span) if state.dtype is not None else DType.F32
    if dtype is DType.BOOL:
        place = scope.places.word(state.span, "bool", after=":")
        scope.found.error("E238", "a state holds numbers: its updates are affine", place)
    info = _new(state.name, ir.Role.STATE, state, state.indices, at, scope)
    info.dtype, info.annotated, info.broken = dtype, state.dtype is not None, dtype is None
    info.scan = at[0]


def _update(update: ast.Update, number: int, scope: OpScope) -> None:
    _distinct(update, scope)
    place = scope.places.word(update.span, update.target)
    info = scope.tensors.get(update.target)
    if info is None or info.role is not ir.Role.STATE:
        hint = f"declare it in the scan: state {update.target}[...] = 0"
        labels = (Label(info.span, "defined here"),) if info is not None else ()
        scope.found.error("E238", f"`:=` updates a state, {update.target} is none", place, hint, labels)
    elif info.scan != number:
        message = f"{update.target} is a state of another scan"
        scope.found.error("E238", message, place, labels=(Label(info.span, "declared here"),))
    else:
        _same_rank(update.target, update.indices, update, info, scope)


def _equation(equation: ast.Equation, at: Position, scan: ast.Scan | None, scope: OpScope) -> None:
    if _declared_otherwise(equation.target, equation, scope):
        return
    _distinct(equation, scope)
    info = scope.tensors.get(equation.target)
    if info is not None and info.role is ir.Role.INPUT:
        place = scope.places.word(equation.span, equation.target)
        label = Label(info.span, "an input here")
        scope.found.error("E214", f"the input {equation.target} cannot be assigned", place, "use a new name", (label,))
        return
    if info is not None and info.role is ir.Role.STATE:
        place = scope.places.word(equation.span, equation.target)
        hint = f"update it: {equation.target}[...] := ..."
        scope.found.error("E238", f"{equation.target} is a state", place, hint, (Label(info.span, "declared here"),))
        return
    axis = equation.indices.index(scan.index) if scan is not None and scan.index in equation.indices else None
    if info is None:
        info = _new(equation.target, ir.Role.INTERMEDIATE, equation, equation.indices, at, scope)
    elif info.definition is None:
        info.definition, info.first = equation, at
        _same_rank(equation.target, equation.indices, equation, info, scope)
    else:
        _another(equation, at, axis, info, scope)
    info.last = at
    if at[1] >= 0:
        info.scan, info.scan_axis = at[0], axis
    if scan is not None and axis is None and info.role is ir.Role.OUTPUT:
        place = scope.places.word(equation.span, equation.target)
        message = f"the output {equation.target} is written at every step of the scan"
        scope.found.error("E238", message, place, f"put {scan.index} on its left side, or write it after the scan")
    _annotation(equation, info, scope)


def _another(equation: ast.Equation, at: Position, axis: int | None, info: TensorInfo, scope: OpScope) -> None:
    """A further equation of a tensor."""
    if isinstance(info.definition, ast.Application):
        _twice(equation.target, equation, scope)
        return
    _same_rank(equation.target, equation.indices, equation, info, scope)
    was, now = (info.scan, info.scan_axis), (at[0] if at[1] >= 0 else None, axis)
    one_step = (was[0] is not None and was[1] is None) or (now[0] is not None and now[1] is None)
    if was != now and (one_step or was[0] == now[0]):
        place = scope.places.word(equation.span, equation.target)
        message = f"the equations of {equation.target} disagree on how it lives in the scan"
        hint = "a tensor without the scan's index on its left side lives one step of that scan only"
        scope.found.error("E238", message, place, hint, (Label(info.span, "first equation here"),))


def _application(application: ast.Application, at: Position, output_ranks: OutputRanks, scope: OpScope) -> None:
    ranks = output_ranks(application)
    for i, name in enumerate(application.targets):
        if _declared_otherwise(name, application, scope):
            continue
        place = scope.places.word(application.span, name)
        info = scope.tensors.get(name)
        rank = ranks[i] if ranks is not None and i < len(ranks) else None
        if info is not None and info.role is ir.Role.INPUT:
            label = Label(info.span, "an input here")
            scope.found.error("E214", f"the input {name} cannot be assigned", place, "use a new name", (label,))
            continue
        if info is not None and (info.definition is not None or info.role is ir.Role.STATE):
            _twice(name, application, scope)
            continue
        if info is None:
            shape: tuple[ir.Expr | None, ...] = (None,) * (rank or 0)
            info = TensorInfo(name, ir.Role.INTERMEDIATE, place, rank or 0, shape, annotated=True, broken=rank is None)
            scope.tensors[name] = info
        elif rank is not None and rank != info.rank:
            label = Label(info.span, f"{info.rank} axes here")
            scope.found.error("E225", f"{name} has {info.rank} axes, the result has {rank}", place, labels=(label,))
            info.broken = True
        info.definition, info.first, info.last = application, at, at


def _declared_otherwise(name: str, node: ast.Node, scope: OpScope) -> bool:
    """True when the name is no tensor; `declare` has reported it."""
    return scope.kind_of(name) is not Kind.TENSOR


def _new(
    name: str, role: ir.Role, node: ast.Node, indices: tuple[str, ...], at: Position, scope: OpScope
) -> TensorInfo:
    place = scope.places.word(node.span, name)
    info = TensorInfo(name, role, place, len(indices), (None,) * len(indices), definition=node, first=at, last=at)
    scope.tensors[name] = info
    return info


def _distinct(node: ast.Equation | ast.State | ast.Update, scope: OpScope) -> None:
    for i, name in enumerate(node.indices):
        if name in node.indices[:i]:
            place = index_place(scope.places, name, node, nth=1)
            hint = f"use another index and a domain: `where {name} == ...`"
            scope.found.error("E213", f"the index {name} is on the left side twice", place, hint)
            return


def _same_rank(name: str, indices: tuple[str, ...], node: ast.Node, info: TensorInfo, scope: OpScope) -> None:
    if len(indices) == info.rank:
        return
    place = scope.places.word(node.span, name)
    label = Label(info.span, "first here")
    axes = "1 axis" if info.rank == 1 else f"{info.rank} axes"
    message = f"{name} has {axes}, {len(indices)} {'index is' if len(indices) == 1 else 'indices are'} given"
    scope.found.error("E207", message, place, labels=(label,))
    info.broken = True


def _annotation(equation: ast.Equation, info: TensorInfo, scope: OpScope) -> None:
    if equation.dtype is None:
        return
    dtype = scope.dtype(equation.dtype, equation.span)
    if dtype is None:
        info.broken = True
    elif info.dtype is None:
        info.dtype, info.annotated = dtype, True
    elif info.dtype is not dtype:
        place = scope.places.word(equation.span, equation.dtype, after=":")
        label = Label(info.span, f"{info.dtype} here")
        scope.found.error("E220", f"{equation.target} is annotated {dtype} and {info.dtype}", place, labels=(label,))


def _twice(name: str, node: ast.Node, scope: OpScope) -> None:
    place: Span = scope.places.word(node.span, name)
    label = Label(scope.defined_at(scope.tensors[name]), "first here")
    scope.found.error("E202", f"{name} is defined twice", place, "use a new name", (label,))
