"""The body of an op, statement by statement: AST -> IR, reads checked against what is defined above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tpcgen.diagnostics import Label
from tpcgen.program import affine, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.expressions import Expressions, finish
from tpcgen.program.print import expression as text
from tpcgen.program.scope import OpScope, Position, TensorInfo
from tpcgen.program.typerules import NAMES, storable
from tpcgen.syntax import ast

Apply = Callable[[ast.Application, Position], list[ir.Statement]]
"""Inlines an applied op and returns its statements; what is wrong is reported."""


@dataclass(frozen=True)
class _Reader:
    """Reads at one position of the body: in `scan`, if any, and in a state's `initial` value or not."""

    scope: OpScope
    at: Position
    scan: ast.Scan | None = None
    initial: bool = False

    def read(self, e: ast.Subscript, indices: tuple[ir.Expr, ...]) -> ir.Expr | None:
        info = self.scope.tensors[e.tensor]
        if not self._readable(e, info):
            return None
        if info.broken or info.dtype is None or len(indices) < info.rank:
            return None
        if not _inside(e, indices, info, self.scope) or not self._at_this_step(e, indices, info):
            return None
        return ir.Read(e.tensor, indices, info.dtype, span=e.span)

    def has_written_dtype(self, read: ir.Read) -> bool:
        return self.scope.tensors[read.tensor].annotated

    def _readable(self, e: ast.Subscript, info: TensorInfo) -> bool:
        if info.role is ir.Role.INPUT:
            return True
        found, here = self.scope.found, self._in_scan_of(info)
        label = Label(self.scope.defined_at(info), "defined here")
        if info.temporary and not here and info.definition is not None and info.last < self.at:
            hint = "put the scan's index on its left side to keep every step, or use a state"
            message = f"{e.tensor} lives one step of the scan and cannot be read after it"
            found.error("E240", message, e.span, hint, (label,))
            return False
        if info.role is ir.Role.STATE:
            defined = info.first[0] < self.at[0] or (here and not self.initial)
        else:
            defined = info.definition is not None and info.last < self.at
        if not defined and info.definition is not None:
            hint = "a tensor is read only below its last equation"
            if info.last == self.at:
                hint = "a recurrence is a scan with a state"
            found.error("E215", f"{e.tensor} is read before its last equation", e.span, hint, (label,))
        return defined

    def _in_scan_of(self, info: TensorInfo) -> bool:
        return self.scan is not None and info.scan == self.at[0]

    def _at_this_step(self, e: ast.Subscript, indices: tuple[ir.Expr, ...], info: TensorInfo) -> bool:
        if not self._in_scan_of(info) or info.scan_axis is None or info.role is ir.Role.STATE:
            return True
        assert self.scan is not None
        step = indices[info.scan_axis]
        if step == ir.Index(self.scan.index):
            return True
        message = f"{e.tensor} is written in this scan, so it can be read here at {self.scan.index} only"
        hint = "carry the value over in a state"
        self.scope.found.error(
            "E239", message, e.indices[info.scan_axis].span, hint, (Label(self.scope.defined_at(info), "written here"),)
        )
        return False


@dataclass
class Body:
    """Resolves the statements of an op. Results are appended to `statements`."""

    scope: OpScope
    apply: Apply
    statements: list[ir.Statement] = field(default_factory=list[ir.Statement])

    def resolve(self) -> list[ir.Statement]:
        for number, statement in enumerate(self.scope.op.body):
            match statement:
                case ast.Equation():
                    equation = self._equation(statement, (number, -1), None)
                    self.statements += [equation] if equation is not None else []
                case ast.Application():
                    self.statements += self.apply(statement, (number, -1))
                case ast.Scan():
                    self._scan(statement, number)
                case _:
                    pass
        return self.statements

    def _equation(self, e: ast.Equation, at: Position, scan: ast.Scan | None) -> ir.Equation | None:
        info = self.scope.tensors.get(e.target)
        if info is None:
            return None
        parts = self._value(e, _Reader(self.scope, at, scan), scan)
        if parts is None:
            info.broken = True
            return None
        value, domain = parts
        if info.role in (ir.Role.INPUT, ir.Role.STATE) or not self._store(e, value, info):
            return None
        return ir.Equation(e.target, e.indices, value, domain, span=e.span)

    def _value(
        self, e: ast.Equation | ast.Update, reader: _Reader, scan: ast.Scan | None
    ) -> tuple[ir.Expr, ir.Expr | None] | None:
        bound = frozenset(e.indices) | ({scan.index} if scan is not None else set[str]())
        expressions = Expressions(self.scope, f"the equation of {e.target}", reader, bound)
        value = expressions.resolve(e.value)
        domain = expressions.of_type(e.domain, DType.BOOL, "a domain") if e.domain is not None else None
        if value is None or (e.domain is not None and domain is None):
            return None
        if any(self.scope.ranges.get(i) is None for i in e.indices):
            return None
        return finish(value), finish(domain) if domain is not None else None

    def _store(self, e: ast.Equation | ast.Update | ast.State, value: ir.Expr, info: TensorInfo) -> bool:
        """Whether the tensor can hold the value; an unannotated one takes the type of its values."""
        kind = ir.type_of(value)
        if info.dtype is None:
            info.dtype = kind
        elif not info.annotated and info.role is ir.Role.INTERMEDIATE and info.dtype is not kind:
            if DType.BOOL in (info.dtype, kind):
                message = f"{info.name} holds {NAMES[info.dtype]} in one equation and {NAMES[kind]} in another"
                self.scope.found.error("E219", message, value.span, labels=(Label(info.span, "first equation here"),))
                return False
            info.dtype = DType.F32
        if storable(kind, info.dtype):
            return True
        hint = f"cast it: {info.dtype}(...)"
        label = Label(info.span, f"{info.name} is {info.dtype}")
        message = f"{info.name} holds {info.dtype}, the value is {NAMES[kind]}"
        self.scope.found.error("E219", message, value.span, hint, (label,))
        return False

    def _scan(self, scan: ast.Scan, number: int) -> None:
        states: list[ir.StateInit] = []
        steps: list[ir.Equation | ir.Update] = []
        for step, statement in enumerate(scan.body):
            match statement:
                case ast.State():
                    state = self._state(statement, (number, step), scan)
                    states += [state] if state is not None else []
                case ast.Update():
                    update = self._update(statement, (number, step), scan)
                    steps += [update] if update is not None else []
                case ast.Equation():
                    equation = self._equation(statement, (number, step), scan)
                    steps += [equation] if equation is not None else []
                case _:
                    pass
        self.statements.append(ir.Scan(scan.index, scan.reverse, tuple(states), tuple(steps), span=scan.span))

    def _state(self, s: ast.State, at: Position, scan: ast.Scan) -> ir.StateInit | None:
        info = self.scope.tensors.get(s.name)
        if info is None or info.definition is not s:
            return None
        reader = _Reader(self.scope, at, scan, initial=True)
        bound = frozenset(s.indices) - {scan.index}
        initial = Expressions(self.scope, f"the initial value of {s.name}", reader, bound).resolve(s.initial)
        if initial is None or not self._store(s, initial, info):
            return None
        return ir.StateInit(s.name, s.indices, finish(initial), span=s.span)

    def _update(self, u: ast.Update, at: Position, scan: ast.Scan) -> ir.Update | None:
        info = self.scope.tensors.get(u.target)
        if info is None or info.role is not ir.Role.STATE:
            return None
        parts = self._value(u, _Reader(self.scope, at, scan), scan)
        if parts is None or not self._store(u, parts[0], info):
            return None
        return ir.Update(u.target, u.indices, *parts, span=u.span)


def _inside(e: ast.Subscript, indices: tuple[ir.Expr, ...], info: TensorInfo, scope: OpScope) -> bool:
    """False, reported, for an index without free indices that is outside its axis whatever the sizes."""
    for axis, (index, extent) in enumerate(zip(indices, info.shape, strict=True)):
        if extent is None or ir.free_indices(index) or ir.type_of(index) is not DType.I32:
            continue
        position = affine.polynomial(index)
        below = affine.Facts().prove(affine.add(affine.scale(position, -1), affine.constant(-1)))
        beyond = affine.Facts().prove(affine.subtract(position, affine.polynomial(extent)))
        if below or beyond:
            message = f"the index {text(index)} is outside axis {axis} of {info.name}, which has extent {text(extent)}"
            hint = f"0 .. {text(extent)} is half-open"
            label = Label(info.span, "declared here")
            scope.found.error("E244", message, e.indices[axis].span, hint, (label,))
            return False
    return True
