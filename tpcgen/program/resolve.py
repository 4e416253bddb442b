"""A file -> a module: ops resolved and typed, checks, vjps, warnings. The way into the program package.

module = load("examples/causal.dsl", params={"W": 128})
program = module.program("causal", T="bf16")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tpcgen.diagnostics import Diagnostic, DiagnosticError, Diagnostics, Span
from tpcgen.program import ir
from tpcgen.program.analyses import analyse
from tpcgen.program.checks import Check, Vjp, resolve_checks, resolve_vjps
from tpcgen.program.dtypes import DType
from tpcgen.program.files import FileScope, Loader, OpDefinition, beside_or_shipped
from tpcgen.program.functions import check_functions
from tpcgen.program.hints import did_you_mean
from tpcgen.program.op import Linker, default_dtypes, dtype_variables
from tpcgen.program.params import apply_overrides, evaluate_params
from tpcgen.program.places import Places
from tpcgen.syntax.parser import parse
from tpcgen.syntax.source import read_source

_MAX_INSTANCES = 16
"""Choices of dtype variables resolved while loading; further ones are when they are asked for."""


@dataclass(frozen=True, eq=False)
class Module:
    """One file, resolved. `ops` are its own, not those of used files; `sources` maps every file read to its text."""

    path: str
    ops: tuple[str, ...]
    checks: tuple[Check, ...]
    vjps: tuple[Vjp, ...]
    warnings: tuple[Diagnostic, ...]
    sources: dict[str, str]
    _scope: FileScope
    _linker: Linker

    def dtype_variables(self, op: str) -> dict[str, tuple[str, ...]]:
        """The dtype variables of an op with their choices, in the file's order. DiagnosticError for an unknown op."""
        return {name: tuple(d.value for d in choices) for name, choices in dtype_variables(self._op(op)).items()}

    def program(self, op: str, **dtypes: str) -> ir.Program:
        """The program of an op; a dtype variable that is not given takes its first choice.

        DiagnosticError for an unknown op or variable, a dtype that is no choice, or an error of this instance.
        """
        definition = self._op(op)
        variables = dtype_variables(definition)
        chosen = default_dtypes(definition)
        for name, value in dtypes.items():
            choices = [d.value for d in variables.get(name, ())]
            if str(value) not in choices:
                known = ", ".join(f"{v} in {', '.join(d.value for d in c)}" for v, c in variables.items()) or "none"
                raise _error("E205", f"{value} is no choice of a dtype variable {name} of {op}", definition, known)
            chosen[name] = DType(str(value))
        self._linker.found.found.clear()
        program = _instance(self._linker, definition, chosen)
        if program is None:
            self._linker.found.raise_if_errors()
            raise _error("E205", f"{op} has errors for {chosen}", definition, "")
        return program

    def _op(self, name: str) -> OpDefinition:
        for definition in self._scope.own_ops:
            if definition.node.name == name:
                return definition
        hint = did_you_mean(name, self.ops) or f"its ops are {', '.join(self.ops)}"
        raise DiagnosticError((Diagnostic("E223", f"{self.path} has no op {name}", _start(self.path), hint),))


def load(path: str | Path, *, params: Mapping[str, object] = {}) -> Module:
    """Parse and resolve a file. `params` override params of the files and defaults of its ops' attributes.

    `std/NAME.dsl` is one of the variants that come with tpcgen where there is no such file. DiagnosticError carries
    everything found, warnings included; E501 and E101 for a file that cannot be read.
    """
    found = beside_or_shipped(Path(path), Path(path))
    return load_text(read_source(found), str(found), params=params)


def load_text(text: str, path: str = "<text>", *, params: Mapping[str, object] = {}) -> Module:
    """Parse and resolve text; `path` is shown in diagnostics, and files the text uses are looked for beside it."""
    found = Diagnostics()
    loader = Loader(parse, found)
    scope = loader.load(text, path)
    places = Places(loader.sources)
    files = list(loader.scopes.values())
    for file in files:
        check_functions(file, places, found)
    apply_overrides(scope, params, files, found)
    values = evaluate_params(files, params, places, found)
    linker = Linker(found, places, values)
    programs = {d.node.name: _instances(linker, d) for d in scope.own_ops}
    own = values[scope.file.path]
    checks = resolve_checks(scope, own, programs, places, found)
    vjps = resolve_vjps(scope, programs, places, found)
    found.raise_if_errors()
    warnings = tuple(sorted(found, key=lambda d: (d.span.file, d.span.line, d.span.column)))
    return Module(path, tuple(programs), checks, vjps, warnings, loader.sources, scope, linker)


def _instances(linker: Linker, definition: OpDefinition) -> ir.Program | None:
    """Resolves an op for all choices of its dtype variables; returns the first, None if any has an error."""
    variables = dtype_variables(definition)
    first: ir.Program | None = None
    for number, choice in enumerate(product(*variables.values())):
        if number == _MAX_INSTANCES:
            break
        program = _instance(linker, definition, dict(zip(variables, choice, strict=True)))
        if program is None:
            return None
        first = first if first is not None else program
    return first


def _instance(linker: Linker, definition: OpDefinition, dtypes: Mapping[str, DType]) -> ir.Program | None:
    program = linker.program(definition, dtypes)
    if program is None or not analyse(program, linker.found):
        return None
    return program


def _start(path: str) -> Span:
    return Span(path, 1, 1, 1, 1)


def _error(id: str, message: str, definition: OpDefinition, hint: str) -> DiagnosticError:
    return DiagnosticError((Diagnostic(id, message, definition.node.span, hint),))
