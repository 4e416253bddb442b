"""Matches an applied op's arguments with its parameters: names, ranks, extents. The callee's sizes bind anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpcgen.diagnostics import Label
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.expressions import Expressions, finish
from tpcgen.program.files import OpDefinition
from tpcgen.program.hints import did_you_mean
from tpcgen.program.print import expression as text
from tpcgen.program.scope import Kind, OpScope, TensorInfo
from tpcgen.program.sizes import equal
from tpcgen.program.substitute import Renaming
from tpcgen.syntax import ast


@dataclass(frozen=True)
class Match:
    """Arguments of an application by parameter: names of the caller's tensors, values for attributes."""

    tensors: Mapping[str, ast.Name]
    attributes: Mapping[str, ir.Expr]


def match_arguments(application: ast.Application, callee: OpDefinition, scope: OpScope) -> Match | None:
    """None after reporting what does not fit: unknown, missing or repeated arguments, a value for a tensor."""
    given = _by_parameter(application, callee, scope)
    if given is None:
        return None
    tensors: dict[str, ast.Name] = {}
    attributes: dict[str, ir.Expr] = {}
    right = True
    for p in callee.node.parameters:
        value = given.get(p.name)
        if isinstance(p, ast.TensorParameter):
            name = _tensor(p, value, application, callee, scope)
            right = right and name is not None
            if name is not None:
                tensors[p.name] = name
        elif value is not None:
            resolved = _attribute(p, value, callee, scope)
            right = right and resolved is not None
            if resolved is not None:
                attributes[p.name] = resolved
        elif p.default is None:
            hint = f"pass it: {p.name} = ..."
            label = Label(p.span, "it has no default")
            message = f"{callee.node.name} needs the attribute {p.name}"
            scope.found.error("E224", message, application.span, hint, (label,))
            right = False
    return Match(tensors, attributes) if right else None


def bind_sizes(
    application: ast.Application, callee: ir.Program, match: Match, scope: OpScope
) -> dict[str, ir.Expr] | None:
    """The caller's extent for every size of the callee and the caller's value for every attribute.

    None when a rank or an extent does not fit, which is reported if `scope` knows all the extents already.
    """
    arguments = {p: scope.tensors.get(name.id) for p, name in match.tensors.items()}
    if any(a is None or a.broken for a in arguments.values()):
        return None
    ranks = [_rank_fits(t, arguments[t.name], match, application, scope) for t in callee.inputs]
    if not all(ranks):
        return None
    values, where = _bare_sizes(callee, arguments)
    values |= {name: _as_type(callee, name, value) for name, value in match.attributes.items()}
    for attribute in callee.attributes:
        if attribute.name not in values and attribute.default is not None:
            default = Renaming({}, {}, values).expression(attribute.default)
            values[attribute.name] = _as_type(callee, attribute.name, default)
    extents = [_extents_fit(t, arguments[t.name], values, where, match, scope) for t in callee.inputs]
    return values if all(extents) else None


def shapes_known(match: Match, scope: OpScope) -> bool:
    """Whether every extent of every argument is known."""
    infos = [scope.tensors.get(name.id) for name in match.tensors.values()]
    return all(info is not None and not info.broken and None not in info.shape for info in infos)


def _by_parameter(application: ast.Application, callee: OpDefinition, scope: OpScope) -> dict[str, ast.Expr] | None:
    names = [p.name for p in callee.node.parameters]
    label = Label(scope.places.word(callee.node.span, callee.node.name), "defined here")
    given: dict[str, ast.Expr] = {}
    right = True
    by_name = False
    for i, argument in enumerate(application.arguments):
        by_name = by_name or argument.name is not None
        problem, hint = "", ""
        if argument.name is None and by_name:
            problem, hint = "an argument by position follows one by name", "name it too"
        elif argument.name is None and i >= len(names):
            problem, hint = f"{callee.node.name} takes {len(names)} arguments", f"they are {', '.join(names)}"
        elif argument.name is not None and argument.name not in names:
            problem = f"{callee.node.name} has no parameter {argument.name}"
            hint = did_you_mean(argument.name, names) or f"it has {', '.join(names)}"
        name = argument.name if argument.name is not None else names[min(i, len(names) - 1)] if names else ""
        if not problem and name in given:
            problem = f"{name} is given twice"
        if problem:
            scope.found.error("E224", problem, argument.span, hint, (label,))
            right = False
        else:
            given[name] = argument.value
    return given if right else None


def _tensor(
    p: ast.TensorParameter, value: ast.Expr | None, application: ast.Application, callee: OpDefinition, scope: OpScope
) -> ast.Name | None:
    label = Label(p.span, "the parameter")
    if value is None:
        message = f"{callee.node.name} needs the tensor {p.name}"
        scope.found.error("E224", message, application.span, f"pass it: {p.name} = ...", (label,))
        return None
    if isinstance(value, ast.Name):
        kind = scope.kind_of(value.id)
        if kind is Kind.TENSOR:
            return value
        if kind is None:
            hint = did_you_mean(value.id, scope.named(Kind.TENSOR))
            scope.found.error("E208", f"there is no tensor {value.id}", value.span, hint)
            return None
    hint = "arguments are whole tensors; give an expression a name in an equation first"
    scope.found.error("E224", f"{p.name} of {callee.node.name} is a tensor", value.span, hint, (label,))
    return None


def _attribute(p: ast.Attribute, value: ast.Expr, callee: OpDefinition, scope: OpScope) -> ir.Expr | None:
    what = f"the attribute {p.name} of {callee.node.name}"
    wanted = DType.F32 if p.dtype == "f32" else DType.I32
    resolved = Expressions(scope, what).of_type(value, wanted, what)
    return finish(resolved) if resolved is not None else None


def _as_type(callee: ir.Program, name: str, value: ir.Expr) -> ir.Expr:
    """An attribute's value with the attribute's type, so that the callee's expressions keep theirs."""
    wanted = next(a.type for a in callee.attributes if a.name == name)
    if ir.type_of(value) is wanted:
        return value
    if isinstance(value, ir.Literal):
        return ir.Literal(float(value.value), wanted, span=value.span)
    return ir.Cast(wanted, value, span=value.span)


def _rank_fits(
    t: ir.Tensor, argument: TensorInfo | None, match: Match, application: ast.Application, scope: OpScope
) -> bool:
    assert argument is not None
    if argument.rank == len(t.shape):
        return True
    span = match.tensors[t.name].span
    label = Label(t.span, f"{t.name} of {application.callee}")
    message = f"{t.name} of {application.callee} has {len(t.shape)} axes, {argument.name} has {argument.rank}"
    scope.found.error("E225", message, span, labels=(label, Label(argument.span, f"{argument.name} here")))
    return False


def _bare_sizes(
    callee: ir.Program, arguments: Mapping[str, TensorInfo | None]
) -> tuple[dict[str, ir.Expr], dict[str, str]]:
    values: dict[str, ir.Expr] = {}
    where: dict[str, str] = {}
    for t in callee.inputs:
        argument = arguments[t.name]
        assert argument is not None
        for e, actual in zip(t.shape, argument.shape, strict=True):
            if isinstance(e, ir.Size) and e.name not in values and actual is not None:
                values[e.name], where[e.name] = actual, argument.name
    return values, where


def _extents_fit(
    t: ir.Tensor,
    argument: TensorInfo | None,
    values: Mapping[str, ir.Expr],
    where: Mapping[str, str],
    match: Match,
    scope: OpScope,
) -> bool:
    assert argument is not None
    right = True
    for axis, (e, actual) in enumerate(zip(t.shape, argument.shape, strict=True)):
        wanted = Renaming({}, {}, values).expression(e)
        if actual is None or equal(wanted, actual):
            continue
        came = (
            f", bound to {text(wanted)} by {where[e.name]}" if isinstance(e, ir.Size) else f", that is {text(wanted)}"
        )
        message = f"axis {axis} of {argument.name} has extent {text(actual)}, {t.name} expects {text(e)}{came}"
        labels = (Label(e.span, "expected here"),)
        scope.found.error("E225", message, match.tensors[t.name].span, "the extents must be the same", labels)
        right = False
    return right
