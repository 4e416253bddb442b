"""One op, its dtype variables chosen -> a program. Applied ops are resolved first and inlined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tpcgen.diagnostics import Diagnostics, Label, Severity
from tpcgen.program import ir
from tpcgen.program.applications import Match, bind_sizes, match_arguments, shapes_known
from tpcgen.program.astwalk import walk
from tpcgen.program.contracts import contract_of, is_false, is_true, resolve_contracts
from tpcgen.program.definitions import find_definitions
from tpcgen.program.dtypes import DType
from tpcgen.program.files import DTYPES, FileScope, OpDefinition
from tpcgen.program.hints import did_you_mean
from tpcgen.program.inline import inline
from tpcgen.program.places import Places
from tpcgen.program.print import expression as text
from tpcgen.program.ranges import find_ranges
from tpcgen.program.schedule import resolve_schedule
from tpcgen.program.scope import OpScope, Position, TensorInfo
from tpcgen.program.signature import resolve_lets, resolve_outputs, resolve_signature
from tpcgen.program.sizes import equal
from tpcgen.program.statements import Body
from tpcgen.program.substitute import FreshNames, Renaming
from tpcgen.syntax import ast

Dtypes = Mapping[str, DType]


@dataclass
class Linker:
    """Resolves ops on demand, each once per choice of its dtype variables; None for an op with errors."""

    found: Diagnostics
    places: Places
    params: Mapping[str, Mapping[str, ir.Literal | None]]
    _done: dict[tuple[OpDefinition, tuple[tuple[str, DType], ...]], ir.Program | None] = field(
        default_factory=dict["tuple[OpDefinition, tuple[tuple[str, DType], ...]]", "ir.Program | None"]
    )
    _open: list[OpDefinition] = field(default_factory=list[OpDefinition])

    def program(self, definition: OpDefinition, dtypes: Dtypes) -> ir.Program | None:
        """The program of an op; errors go to `found` once."""
        key = (definition, tuple(sorted(dtypes.items())))
        if key not in self._done:
            self._open.append(definition)
            self._done[key] = _Resolver(self, definition, dtypes).resolve()
            self._open.pop()
        return self._done[key]

    def recursion(self, definition: OpDefinition) -> list[OpDefinition]:
        """The ops being resolved from `definition` on, when applying it would recur."""
        return self._open[self._open.index(definition) :] if definition in self._open else []


def dtype_variables(definition: OpDefinition) -> dict[str, tuple[DType, ...]]:
    """The dtype variables the text of an op names, with their choices."""
    named: set[str] = set()
    for node in walk(definition.node):
        match node:
            case ast.TensorParameter():
                named.add(node.dtype)
            case ast.Equation() | ast.State() if node.dtype is not None:
                named.add(node.dtype)
            case ast.Call():
                named.add(node.function)
            case _:
                pass
    return {name: choices for name, choices in definition.file.dtype_variables.items() if name in named}


def default_dtypes(definition: OpDefinition) -> dict[str, DType]:
    return {name: choices[0] for name, choices in dtype_variables(definition).items()}


_MAX_STATEMENTS = 1_000


class _Resolver:
    """The passes over one op, in order."""

    def __init__(self, linker: Linker, definition: OpDefinition, dtypes: Dtypes) -> None:
        self._linker = linker
        self._file: FileScope = definition.file
        self._scope = OpScope(definition.node, definition.file, dtypes, linker.params, linker.found, linker.places)
        self._fresh = FreshNames()
        self._matches: dict[int, Match | None] = {}
        self._indices: list[ir.IndexRange] = []
        self._contracts: list[ir.Contract] = []
        self._pins: list[ir.Pin] = []
        self._tensors: dict[str, ir.Tensor] = {}
        self._statements = _size(definition.node.body)
        self._incomplete = False
        """An applied op has errors of its own, reported where it was resolved first."""

    def resolve(self) -> ir.Program | None:
        errors = _errors(self._linker.found)
        scope = self._scope
        if _size(scope.op.body) > _MAX_STATEMENTS:
            self._too_large(scope.op)
            return None
        resolve_signature(scope)
        resolve_lets(scope)
        resolve_outputs(scope)
        find_definitions(scope, self._output_ranks)
        find_ranges(scope, self._shapes)
        self._fresh.reserve([*scope.names, *DTYPES, *scope.file.dtype_variables])
        statements = Body(scope, self._apply).resolve()
        contracts = resolve_contracts(scope)
        pins = resolve_schedule(scope)
        if self._incomplete or _errors(self._linker.found) > errors:
            return None
        own = [r for r in scope.ranges.values() if r is not None]
        return ir.Program(
            name=scope.op.name,
            sizes=tuple(scope.sizes),
            attributes=tuple(scope.attributes.values()),
            tensors=self._all_tensors(statements),
            indices=(*own, *self._indices),
            contracts=tuple(dict.fromkeys((*contracts, *self._contracts))),
            body=tuple(statements),
            pins=(*pins, *self._pins),
            span=self._linker.places.word(scope.op.span, scope.op.name),
        )

    def _too_large(self, node: ast.Node) -> None:
        name = self._scope.op.name
        message = f"{name} has more than {_MAX_STATEMENTS} statements, those of the ops it applies included"
        self._scope.found.error("E233", message, self._linker.places.word(node.span, name))

    def _all_tensors(self, statements: list[ir.Statement]) -> tuple[ir.Tensor, ...]:
        infos = self._scope.tensors
        inputs = [p.name for p in self._scope.op.parameters if isinstance(p, ast.TensorParameter)]
        outputs = [p.name for p in self._scope.op.outputs]
        names = dict.fromkeys([*inputs, *outputs, *defined_names(statements)])
        return tuple(self._tensors[n] if n in self._tensors else _tensor(infos[n]) for n in names)

    # Applied ops

    def _callee(self, application: ast.Application, report: bool) -> OpDefinition | None:
        scope = self._scope
        definition = self._file.ops.get(application.callee)
        if definition is None:
            if report and not self._file.incomplete:
                place = scope.places.word(application.span, application.callee, after="=")
                hint = did_you_mean(application.callee, self._file.ops)
                scope.found.error("E223", f"there is no op {application.callee}", place, hint)
            return None
        cycle = self._linker.recursion(definition)
        if cycle:
            if report:
                path = " -> ".join(d.node.name for d in (*cycle, definition))
                hint = "an op cannot recur; write a scan"
                scope.found.error("E222", f"{definition.node.name} applies itself: {path}", application.span, hint)
            return None
        return definition

    def _output_ranks(self, application: ast.Application) -> tuple[int, ...] | None:
        callee = self._callee(application, report=True)
        if callee is None:
            return None
        outputs = callee.node.outputs
        if len(outputs) != len(application.targets):
            message = (
                f"{callee.node.name} has {len(outputs)} output{'s' if len(outputs) > 1 else ''}, "
                f"{len(application.targets)} name{'s' if len(application.targets) > 1 else ''} on the left side"
            )
            label = Label(callee.node.span, "defined here")
            self._scope.found.error("E224", message, application.span, labels=(label,))
        return tuple(len(o.shape) for o in outputs)

    def _match(self, application: ast.Application, callee: OpDefinition) -> Match | None:
        key = id(application)
        if key not in self._matches:
            self._matches[key] = match_arguments(application, callee, self._scope)
        return self._matches[key]

    def _shapes(self, application: ast.Application) -> tuple[tuple[ir.Expr, ...], ...] | None:
        callee = self._callee(application, report=False)
        match = self._match(application, callee) if callee is not None else None
        if callee is None or match is None or not shapes_known(match, self._scope):
            return None
        program = self._linker.program(callee, default_dtypes(callee))
        values = bind_sizes(application, program, match, self._scope) if program is not None else None
        if program is None or values is None:
            return None
        sizes = Renaming({}, {}, values)
        return tuple(tuple(sizes.expression(e) for e in t.shape) for t in program.outputs)

    def _apply(self, application: ast.Application, at: Position) -> list[ir.Statement]:
        statements = self._inlined(application, at)
        self._incomplete |= statements is None
        return statements or []

    def _inlined(self, application: ast.Application, at: Position) -> list[ir.Statement] | None:
        """None when it cannot be, here or in the op itself."""
        scope = self._scope
        callee = self._callee(application, report=False)
        match = self._match(application, callee) if callee is not None else None
        dtypes = (
            self._callee_dtypes(application, callee, match, at) if callee is not None and match is not None else None
        )
        program = self._linker.program(callee, dtypes) if callee is not None and dtypes is not None else None
        values = bind_sizes(application, program, match, scope) if program is not None and match is not None else None
        if program is None or match is None or values is None or len(program.outputs) != len(application.targets):
            for name in application.targets:
                if name in scope.tensors:
                    scope.tensors[name].broken = True
            return None
        arguments = {p: _tensor(scope.tensors[name.id]) for p, name in match.tensors.items()}
        self._statements += _size(program.body)
        if self._statements > _MAX_STATEMENTS:
            self._too_large(application)
            return None
        result = inline(program, arguments, values, application.targets, self._fresh)
        fits = [self._result(t, application) for t in result.results]
        if not all(fits):
            return None
        self._indices += result.indices
        self._tensors |= {t.name: t for t in result.intermediates}
        self._pins += result.pins
        self._add_contracts(result.contracts, application)
        return list(result.statements)

    def _callee_dtypes(
        self, application: ast.Application, callee: OpDefinition, match: Match, at: Position
    ) -> dict[str, DType] | None:
        """Chooses the callee's dtype variables by its arguments; checks dtypes and that arguments are defined above."""
        scope = self._scope
        variables = dtype_variables(callee)
        chosen: dict[str, tuple[DType, str]] = {}
        right = True
        for p in callee.node.parameters:
            if not isinstance(p, ast.TensorParameter):
                continue
            name = match.tensors[p.name]
            info = scope.tensors.get(name.id)
            if info is None or info.broken:
                right = False
                continue
            if info.role is not ir.Role.INPUT and info.last >= at:
                label = Label(scope.defined_at(info), "defined here")
                hint = "a tensor is read only below its last equation"
                scope.found.error("E215", f"{info.name} is read before its last equation", name.span, hint, (label,))
                right = False
                continue
            if info.temporary:
                label = Label(info.span, "defined here")
                message = f"{info.name} lives one step of the scan and cannot be read after it"
                scope.found.error("E240", message, name.span, "", (label,))
                right = False
                continue
            if info.dtype is None:
                right = False
                continue
            wanted = variables.get(p.dtype) or ((DTYPES[p.dtype],) if p.dtype in DTYPES else None)
            if wanted is None:
                right = False
            elif info.dtype not in wanted:
                names = " or ".join(d.value for d in wanted)
                hint = f"store it as {wanted[0]} first: X[...]: {wanted[0]} = {info.name}[...]"
                label = Label(p.span, "the parameter")
                message = f"{p.name} of {callee.node.name} is {names}, {info.name} is {info.dtype}"
                scope.found.error("E226", message, name.span, hint, (label,))
                right = False
            elif p.dtype in chosen and chosen[p.dtype][0] is not info.dtype:
                other, by = chosen[p.dtype]
                label = Label(p.span, "the parameter")
                message = f"{p.dtype} of {callee.node.name} is {other} for {by} and {info.dtype} for {info.name}"
                scope.found.error("E226", message, name.span, "", (label,))
                right = False
            elif p.dtype in variables:
                chosen.setdefault(p.dtype, (info.dtype, info.name))
        if not right:
            return None
        result: dict[str, DType] = {}
        for variable, choices in variables.items():
            inherited = scope.dtypes.get(variable)
            fallback = inherited if inherited in choices else choices[0]
            result[variable] = chosen[variable][0] if variable in chosen else fallback
        return result

    def _result(self, t: ir.Tensor, application: ast.Application) -> bool:
        """Records what is known of a result; False when the op's own output differs from it."""
        scope = self._scope
        info = scope.tensors.get(t.name)
        if info is None or info.definition is not application:
            return False
        if info.role is not ir.Role.OUTPUT:
            info.shape, info.dtype = t.shape, t.dtype
            info.span = t.span if info.span.line == 0 else info.span
            return True
        place = scope.places.word(application.span, t.name)
        labels = (Label(info.span, "declared here"), Label(t.span, f"the result of {application.callee}"))
        if info.dtype is not t.dtype:
            message = f"{t.name} is {info.dtype}, the result of {application.callee} is {t.dtype}"
            scope.found.error("E226", message, place, "apply it to a new name and assign that", labels)
            return False
        same = all(a is not None and equal(a, b) for a, b in zip(info.shape, t.shape, strict=False))
        if not same or len(info.shape) != len(t.shape):
            shape = ", ".join(text(e) for e in t.shape)
            message = f"the result of {application.callee} has shape [{shape}], {t.name} is declared otherwise"
            scope.found.error("E225", message, place, labels=labels)
            return False
        return True

    def _add_contracts(self, contracts: tuple[ir.Contract, ...], application: ast.Application) -> None:
        for contract in contracts:
            if not contract.indices and is_true(contract.condition):
                continue
            if not contract.indices and is_false(contract.condition):
                label = Label(contract.span, "the contract")
                message = f"a contract of {application.callee} never holds for these arguments"
                self._scope.found.error("E306", message, application.span, labels=(label,))
                continue
            self._contracts.append(replace(contract_of(contract.condition), span=contract.span))


def defined_names(statements: list[ir.Statement] | tuple[ir.Statement, ...]) -> list[str]:
    """Tensors and states in the order of their first definition."""
    names: list[str] = []
    for statement in statements:
        if isinstance(statement, ir.Equation):
            names.append(statement.target)
            continue
        names += [s.state for s in statement.states]
        names += [s.target for s in statement.body if isinstance(s, ir.Equation)]
    return list(dict.fromkeys(names))


def _size(body: tuple[ast.Statement, ...] | tuple[ir.Statement, ...]) -> int:
    """Statements, those in scans included."""
    return sum(1 + len(s.body) if isinstance(s, ast.Scan | ir.Scan) else 1 for s in body)


def _tensor(info: TensorInfo) -> ir.Tensor:
    assert info.dtype is not None
    return ir.Tensor(info.name, tuple(e for e in info.shape if e is not None), info.dtype, info.role, span=info.span)


def _errors(found: Diagnostics) -> int:
    return sum(d.severity is Severity.ERROR for d in found)
