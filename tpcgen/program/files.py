"""A file and the files it uses -> one scope per file: its params, dtype variables, fns and ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tpcgen.diagnostics import Diagnostics, Label, Span
from tpcgen.program.dtypes import DType
from tpcgen.program.hints import did_you_mean
from tpcgen.program.places import Places
from tpcgen.program.typerules import ARITIES
from tpcgen.syntax import ast
from tpcgen.syntax.parser import plain
from tpcgen.version import ROOT

Parse = Callable[[str, str], ast.File]

DTYPES: Mapping[str, DType] = {d.value: d for d in DType}

STD = "std"
"""The first part of a path that `use` looks for among the variants that come with tpcgen, when it is not beside."""


@dataclass(eq=False)
class FunctionDefinition:
    node: ast.Function
    file: FileScope
    broken: bool = False


@dataclass(eq=False)
class OpDefinition:
    node: ast.Op
    file: FileScope


@dataclass(eq=False)
class FileScope:
    """What the text of one file can name. `functions` and `ops` hold those of used files too.

    `incomplete`: a file it uses could not be read, so that an unknown op or fn is no further error.
    """

    file: ast.File
    params: dict[str, ast.Param] = field(default_factory=dict[str, ast.Param])
    dtype_variables: dict[str, tuple[DType, ...]] = field(default_factory=dict[str, "tuple[DType, ...]"])
    functions: dict[str, FunctionDefinition] = field(default_factory=dict[str, FunctionDefinition])
    ops: dict[str, OpDefinition] = field(default_factory=dict[str, OpDefinition])
    own_ops: list[OpDefinition] = field(default_factory=list[OpDefinition])
    incomplete: bool = False


Definition = TypeVar("Definition", FunctionDefinition, OpDefinition)


@dataclass
class Loader:
    """Reads files once each. `sources` maps every file read to its text; `found` collects what is wrong."""

    parse: Parse
    found: Diagnostics
    sources: dict[str, str] = field(default_factory=dict[str, str])
    scopes: dict[Path, FileScope] = field(default_factory=dict[Path, FileScope])
    _open: list[Path] = field(default_factory=list[Path])

    def load(self, text: str, path: str) -> FileScope:
        """Parse and scope `text`; used files are read from disk, relative to `path`. DiagnosticError on bad syntax."""
        self.sources[path] = plain(text)
        key = Path(path).resolve()
        self._open.append(key)
        scope = self._scope(self.parse(text, path))
        self._open.pop()
        self.scopes[key] = scope
        return scope

    def _scope(self, file: ast.File) -> FileScope:
        scope = FileScope(file)
        for item in file.items:
            match item:
                case ast.Use():
                    self._use(item, scope)
                case ast.DtypeVariable():
                    self._dtype_variable(item, scope)
                case ast.Param():
                    if self._claim(item, scope.params.get(item.name)):
                        scope.params[item.name] = item
                case ast.Function():
                    self._function(item, scope)
                case ast.Op():
                    self._op(item, scope)
                case ast.Vjp() | ast.Check():
                    continue
        return scope

    def _use(self, item: ast.Use, scope: FileScope) -> None:
        target = Path(scope.file.path).parent / item.path
        try:
            target = beside_or_shipped(target, Path(item.path))
            key = target.resolve()
            known = key in self._open or key in self.scopes
            text = "" if known else target.read_text(encoding="utf-8")
        except (OSError, ValueError, RuntimeError) as error:
            scope.incomplete = True
            reason = getattr(error, "strerror", None) or str(error)
            hint = f"the path is relative to the file that uses it, or {STD}/NAME.dsl of those that come with tpcgen"
            self.found.error("E231", f"cannot read {item.path}: {reason}", item.span, hint)
            return
        if key in self._open:
            scope.incomplete = True
            self.found.error("E231", f"{item.path} uses itself, directly or through another file", item.span)
            return
        if not known:
            self.load(text, str(target))
        used = self.scopes[key]
        self._import(used.functions, scope.functions, item)
        self._import(used.ops, scope.ops, item)

    def _import(self, used: dict[str, Definition], known: dict[str, Definition], use: ast.Use) -> None:
        for name, definition in used.items():
            if name not in known:
                known[name] = definition
            elif known[name] is not definition:
                here, there = self._name_of(definition.node), self._name_of(known[name].node)
                labels = (Label(there, "defined here"), Label(here, "and here"))
                self.found.error("E202", f"{use.path} defines {name}, which is already defined", use.span, "", labels)

    def _dtype_variable(self, item: ast.DtypeVariable, scope: FileScope) -> None:
        if item.name in DTYPES or item.name in ARITIES:
            message = f"{item.name} is a built-in name and cannot be a dtype variable"
            self.found.error("E202", message, self._name_of(item), "rename it")
            return
        if item.name in scope.dtype_variables:
            self.found.error("E202", f"{item.name} is defined twice", self._name_of(item), "rename one of them")
            return
        choices: list[DType] = []
        for name in item.choices:
            place = Places(self.sources).word(item.span, name, after="in")
            if name not in DTYPES:
                self.found.error("E205", f"{name} is not a dtype", place, did_you_mean(name, DTYPES))
            elif DTYPES[name] in choices:
                self.found.error("E202", f"{name} is listed twice", place)
            else:
                choices.append(DTYPES[name])
        scope.dtype_variables[item.name] = tuple(choices) or (DType.F32,)

    def _function(self, item: ast.Function, scope: FileScope) -> None:
        if item.name in DTYPES or item.name in ARITIES or item.name in scope.dtype_variables:
            message = f"{item.name} is already a function or a cast"
            self.found.error("E202", message, self._name_of(item), "rename the fn")
            return
        definition = FunctionDefinition(item, scope)
        known = scope.functions.get(item.name)
        if self._claim(item, known.node if known is not None else None):
            scope.functions[item.name] = definition

    def _op(self, item: ast.Op, scope: FileScope) -> None:
        definition = OpDefinition(item, scope)
        known = scope.ops.get(item.name)
        if self._claim(item, known.node if known is not None else None):
            scope.ops[item.name] = definition
            scope.own_ops.append(definition)

    def _claim(self, item: ast.Param | ast.Function | ast.Op, known: ast.Node | None) -> bool:
        if known is None:
            return True
        label = Label(Places(self.sources).word(known.span, item.name), "first defined here")
        message = f"{item.name} is defined twice"
        self.found.error("E202", message, self._name_of(item), "rename one of them", (label,))
        return False

    def _name_of(self, item: ast.Param | ast.Function | ast.Op | ast.DtypeVariable) -> Span:
        return Places(self.sources).word(item.span, item.name)


def beside_or_shipped(beside: Path, path: Path) -> Path:
    """A file beside the one that uses it comes first. OSError or ValueError for a path that cannot be looked up."""
    shipped = library() / path.name
    named = path.parts == (STD, path.name)
    return shipped if named and not beside.exists() and shipped.is_file() else beside


def library() -> Path:
    """Where the variants lie that come with tpcgen: in the package when installed, beside it in a checkout."""
    installed = ROOT / STD
    return installed if installed.is_dir() else ROOT.parent / STD
