"""The constants of every file, with overrides from the command line (`-D x=0.5`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tpcgen.diagnostics import NOWHERE, Diagnostics
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.expressions import Expressions
from tpcgen.program.files import FileScope
from tpcgen.program.hints import did_you_mean
from tpcgen.program.places import Places
from tpcgen.program.scope import Declared, Kind, OpScope
from tpcgen.program.sizes import I32_MAX, I32_MIN, EvaluationError, evaluate
from tpcgen.syntax import ast

_TYPES = {"int": DType.I32, "i32": DType.I32, "f32": DType.F32}

Params = dict[str, "ir.Literal | None"]


def evaluate_params(
    files: Iterable[FileScope], overrides: Mapping[str, object], places: Places, found: Diagnostics
) -> dict[str, Params]:
    """Values by file path and name; None for a param with an error. Overrides apply to every file."""
    values: dict[str, Params] = {}
    for file in files:
        known = values[file.file.path] = dict[str, "ir.Literal | None"]()
        for name, param in file.params.items():
            known[name] = _value(param, known, file, overrides, places, found)
    return values


def apply_overrides(
    scope: FileScope, overrides: Mapping[str, object], files: Iterable[FileScope], found: Diagnostics
) -> None:
    """`-D W=128` also replaces the default of the attribute W in the ops of the file itself."""
    params = {name for file in files for name in file.params}
    attributes = {p.name for op in scope.own_ops for p in op.node.parameters if isinstance(p, ast.Attribute)}
    for name, value in overrides.items():
        if name not in params and name not in attributes:
            hint = (
                did_you_mean(name, params | attributes) or "-D sets a param of the file or the default of an attribute"
            )
            found.error("E237", f"-D {name}: there is no param or attribute {name}", NOWHERE, hint)
            continue
        number = _number(value)
        if number is None and name in attributes:
            found.error("E237", f"-D {name}={value}: the value is not a number", NOWHERE)
            continue
        if name not in attributes or number is None:
            continue
        for op in scope.own_ops:
            parameters = tuple(
                replace(p, default=_literal(number, p)) if isinstance(p, ast.Attribute) and p.name == name else p
                for p in op.node.parameters
            )
            op.node = replace(op.node, parameters=parameters)


def constant_scope(file: FileScope, known: Params, places: Places, found: Diagnostics) -> OpScope:
    """A scope that sees the file's params only."""
    nothing = ast.Op(name="", parameters=(), outputs=(), contracts=(), body=())
    scope = OpScope(nothing, file, {}, {file.file.path: known}, found, places)
    for name in known:
        scope.names[name] = Declared(Kind.PARAM, file.params[name].span)
    return scope


def _value(
    param: ast.Param,
    known: Params,
    file: FileScope,
    overrides: Mapping[str, object],
    places: Places,
    found: Diagnostics,
) -> ir.Literal | None:
    wanted = _TYPES.get(param.dtype)
    if wanted is None:
        place = places.word(param.span, param.dtype, after=":")
        found.error("E229", f"a param is int or f32, not {param.dtype}", place)
        return None
    if param.name in overrides:
        return _override(param, wanted, overrides[param.name], found)
    what = f"the param {param.name}"
    scope = constant_scope(file, known, places, found)
    e = Expressions(scope, what).of_type(param.value, wanted, what)
    if e is None:
        return None
    try:
        value = evaluate(e, {})
    except EvaluationError as error:
        found.error("E316", str(error), error.span)
        return None
    return ir.Literal(float(value) if wanted is DType.F32 else int(value), wanted, span=param.span)


def _override(param: ast.Param, wanted: DType, given: object, found: Diagnostics) -> ir.Literal | None:
    value = _number(given)
    if value is None:
        found.error("E237", f"-D {param.name}={given}: the value is not a number", param.span)
        return None
    if wanted is DType.F32:
        return ir.Literal(float(value), DType.F32, span=param.span)
    if isinstance(value, float) or not I32_MIN <= value <= I32_MAX:
        found.error("E237", f"-D {param.name}={given}: {param.name} is an i32 integer", param.span)
        return None
    return ir.Literal(value, DType.I32, span=param.span)


def _number(given: object) -> int | float | None:
    if isinstance(given, bool):
        return None
    if isinstance(given, int | float):
        return None if given != given else given
    for kind in (int, float):
        try:
            value = kind(str(given))
        except ValueError:
            continue
        return None if value != value else value
    return None


def _literal(value: int | float, attribute: ast.Attribute) -> ast.Expr:
    magnitude = ast.Number(value=abs(value), text=str(abs(value)), span=attribute.span)
    return ast.Unary("-", magnitude, span=attribute.span) if value < 0 else magnitude
