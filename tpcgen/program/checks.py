"""`check` and `vjp` items of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpcgen.diagnostics import Diagnostic, DiagnosticError, Diagnostics, Label, Span
from tpcgen.program import ir
from tpcgen.program.expressions import Expressions
from tpcgen.program.files import FileScope
from tpcgen.program.hints import did_you_mean
from tpcgen.program.params import Params, constant_scope
from tpcgen.program.places import Places
from tpcgen.program.sizes import EvaluationError, bind, evaluate
from tpcgen.syntax import ast


@dataclass(frozen=True)
class Check:
    """Sizes and attributes to check at. `ops` are the ops of the file it binds completely."""

    name: str
    values: dict[str, int | float]
    ops: tuple[str, ...]


@dataclass(frozen=True)
class Vjp:
    """`op`'s gradient with respect to `inputs`, as written."""

    op: str
    inputs: tuple[str, ...]
    span: Span


def resolve_checks(
    file: FileScope, params: Params, programs: Mapping[str, ir.Program | None], places: Places, found: Diagnostics
) -> tuple[Check, ...]:
    checks: dict[str, Check] = {}
    first: dict[str, ast.Check] = {}
    for item in file.file.items:
        if not isinstance(item, ast.Check):
            continue
        if item.name in first:
            label = Label(places.word(first[item.name].span, item.name), "first here")
            found.error(
                "E202", f"the check {item.name} is defined twice", places.word(item.span, item.name), "", (label,)
            )
            continue
        first[item.name] = item
        values = _values(item, file, params, places, found)
        known = [p for p in programs.values() if p is not None]
        if values is None or (not known and programs):
            continue
        _unused(item, values, programs, places, found)
        ops = _applicable(item, values, known, len(known) == len(programs), places, found)
        checks[item.name] = Check(item.name, values, ops)
    return tuple(checks.values())


def resolve_vjps(
    file: FileScope, programs: Mapping[str, ir.Program | None], places: Places, found: Diagnostics
) -> tuple[Vjp, ...]:
    first: dict[str, ast.Vjp] = {}
    for item in file.file.items:
        if not isinstance(item, ast.Vjp):
            continue
        place = places.word(item.span, item.op)
        if item.op not in programs:
            hint = did_you_mean(item.op, programs)
            if item.op in file.ops:
                hint = "it is defined in another file: put the vjp there"
            found.error("E234", f"there is no op {item.op} in this file", place, hint)
        elif item.op in first:
            label = Label(first[item.op].span, "first here")
            found.error("E202", f"{item.op} has two vjps", item.span, "list all inputs in one", (label,))
        elif f"{item.op}_vjp" in file.ops:
            label = Label(file.ops[f"{item.op}_vjp"].node.span, "this op")
            found.error("E202", f"vjp {item.op} defines {item.op}_vjp, which exists", item.span, "", (label,))
        else:
            first[item.op] = item
            program = programs[item.op]
            if program is not None:
                _wrt(item, program, places, found)
    return tuple(Vjp(item.op, item.inputs, item.span) for item in first.values())


def _wrt(item: ast.Vjp, program: ir.Program, places: Places, found: Diagnostics) -> None:
    inputs = {t.name: t for t in program.inputs}
    for i, name in enumerate(item.inputs):
        place = places.word(item.span, name, after="wrt", nth=item.inputs[:i].count(name))
        if name in item.inputs[:i]:
            found.error("E234", f"{name} is listed twice", place)
        elif name not in inputs:
            hint = did_you_mean(name, inputs) or f"its inputs are {', '.join(inputs)}"
            found.error("E234", f"{item.op} has no input {name}", place, hint)
        elif not inputs[name].dtype.is_float:
            label = Label(inputs[name].span, "declared here")
            found.error(
                "E234", f"{name} is {inputs[name].dtype}: only real inputs have a gradient", place, "", (label,)
            )
    if not any(t.dtype.is_float for t in program.outputs):
        found.error("E234", f"{item.op} has no real output to differentiate", places.word(item.span, item.op))


def _values(
    item: ast.Check, file: FileScope, params: Params, places: Places, found: Diagnostics
) -> dict[str, int | float] | None:
    values: dict[str, int | float] = {}
    scope = constant_scope(file, params, places, found)
    right = True
    for name, node in item.values:
        e = Expressions(scope, f"the value of {name}").resolve(node)
        if e is None:
            right = False
            continue
        if name in values:
            place = places.word(item.span, name, after="{", nth=1)
            found.error("E202", f"{name} is bound twice", place)
            right = False
            continue
        try:
            value = evaluate(e, {})
        except EvaluationError as error:
            found.error("E316", str(error), error.span)
            right = False
            continue
        if isinstance(value, bool):
            found.error("E206", f"{name} must be a number, this is a boolean", node.span)
            right = False
            continue
        values[name] = value
    return values if right else None


def _unused(
    item: ast.Check,
    values: Mapping[str, object],
    programs: Mapping[str, ir.Program | None],
    places: Places,
    found: Diagnostics,
) -> None:
    if None in programs.values():
        return
    known = {n for p in programs.values() if p is not None for n in (*p.sizes, *(a.name for a in p.attributes))}
    for name in values:
        if name not in known:
            place = places.word(item.span, name, after="{")
            found.warning(
                "W109", f"no op of this file has a size or attribute {name}", place, did_you_mean(name, known)
            )


def _applicable(
    item: ast.Check,
    values: Mapping[str, int | float],
    programs: list[ir.Program],
    all_right: bool,
    places: Places,
    found: Diagnostics,
) -> tuple[str, ...]:
    ops: list[str] = []
    skipped: list[tuple[str, list[str]]] = []
    place = places.word(item.span, item.name)
    for program in programs:
        needed = [*program.sizes, *(a.name for a in program.attributes if a.default is None)]
        missing = [n for n in needed if n not in values]
        if missing:
            skipped.append((program.name, missing))
            continue
        ops.append(program.name)
        names = {*program.sizes, *(a.name for a in program.attributes)}
        try:
            bind(program, {n: v for n, v in values.items() if n in names})
        except DiagnosticError as error:
            for d in error.diagnostics:
                _at_check(d, item, found)
    if not ops and all_right:
        hint = "; ".join(f"{op} needs {', '.join(missing)}" for op, missing in skipped)
        found.error("E235", f"the check {item.name} binds no op of this file", place, hint)
        return ()
    for op, missing in skipped:
        found.warning("W108", f"the check {item.name} skips {op}: it does not bind {', '.join(missing)}", place)
    return tuple(ops)


def _at_check(d: Diagnostic, item: ast.Check, found: Diagnostics) -> None:
    label = (Label(d.span, "needed here"),) if d.span.line else ()
    found.error(d.id, f"at the check {item.name}, {d.message}", item.span, d.hint, (*label, *d.labels))
