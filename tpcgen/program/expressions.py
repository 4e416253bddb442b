"""AST expression -> IR expression: names looked up, types checked, fns inlined.

Every method returns None after reporting an error; nothing more is reported about an expression that holds a None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tpcgen.diagnostics import Label, Span
from tpcgen.program import affine, ir
from tpcgen.program.contractions import round_operands
from tpcgen.program.dtypes import DType
from tpcgen.program.files import DTYPES, FunctionDefinition
from tpcgen.program.hints import did_you_mean
from tpcgen.program.scope import Kind, OpScope, article, index_place
from tpcgen.program.substitute import with_children
from tpcgen.program.typerules import ARITIES, NAMES, TAKES_SINK, VARIADIC, is_identity_cast, problem
from tpcgen.syntax import ast

_MAX_NODES = 20_000
_MAX_LEVELS = 200
_MAX_CALLS = 5_000
"""Limits of an expression after its fns are inlined, and of the calls inlined in one op: sizes multiply."""


class Reader(Protocol):
    """How names of tensors are read at one place of the op."""

    def read(self, e: ast.Subscript, indices: tuple[ir.Expr, ...]) -> ir.Expr | None: ...

    def has_written_dtype(self, read: ir.Read) -> bool: ...


@dataclass(frozen=True)
class Expressions:
    """Resolves expressions at one place. `reader` is None where no tensor may be read; `place` names it in messages.

    `bound` are the indices in scope; None where any index of the op may stand free (contracts).
    """

    scope: OpScope
    place: str
    reader: Reader | None = None
    bound: frozenset[str] | None = frozenset()

    @property
    def functions(self) -> Mapping[str, FunctionDefinition]:
        return self.scope.file.functions

    @property
    def dtypes(self) -> Mapping[str, DType]:
        """Dtype variables by name, and the dtypes themselves."""
        return {**DTYPES, **self.scope.dtypes}

    def of_type(self, e: ast.Expr, wanted: DType, what: str) -> ir.Expr | None:
        """The expression if its type is `wanted`; a real is also given by an integer."""
        resolved = self.resolve(e)
        if resolved is None:
            return None
        kind = ir.type_of(resolved)
        if kind is wanted or (wanted is DType.F32 and kind is DType.I32):
            return resolved
        hint = "cast it: i32(...)" if wanted is DType.I32 and kind is DType.F32 else ""
        if hint and isinstance(e, ast.Binary) and e.operator == "/":
            hint = "`//` divides integers, `/` is the real division"
        self._error("E206", f"{what} must be {NAMES[wanted]}, this is {NAMES[kind]}", e.span, hint)
        return None

    def resolve(self, e: ast.Expr) -> ir.Expr | None:
        match e:
            case ast.Number():
                return self._number(e)
            case ast.Name():
                return self._name(e)
            case ast.Subscript():
                return self._subscript(e)
            case ast.Unary():
                return self._unary(e)
            case ast.Binary() | ast.Logical():
                left, right = self.resolve(e.left), self.resolve(e.right)
                if left is None or right is None or self._divides_by_zero(e, right):
                    return None
                return self._checked(ir.Binary(e.operator, left, right, span=e.span))
            case ast.Compare():
                return self._comparison(e)
            case ast.Call():
                return self._call(e)
            case ast.Reduce():
                return self._reduce(e)

    def _error(self, id: str, message: str, span: Span, hint: str = "", labels: tuple[Label, ...] = ()) -> None:
        self.scope.found.error(id, message, span, hint, labels)

    def _checked(self, e: ir.Expr) -> ir.Expr | None:
        wrong = problem(e)
        if wrong is None:
            return e
        self._error("E206", wrong.message, wrong.culprit.span, wrong.hint)
        return None

    def _divides_by_zero(self, e: ast.Binary | ast.Logical, right: ir.Expr) -> bool:
        if e.operator not in ("//", "%") or ir.type_of(right) is not DType.I32 or affine.polynomial(right):
            return False
        self._error("E245", "the divisor is 0", e.right.span)
        return True

    def _number(self, e: ast.Number) -> ir.Expr:
        if isinstance(e.value, int):
            return ir.Literal(e.value, DType.I32, span=e.span)
        return ir.Literal(e.value, DType.F32, span=e.span)

    def _name(self, e: ast.Name) -> ir.Expr | None:
        scope = self.scope
        match scope.kind_of(e.id):
            case Kind.SIZE:
                return ir.Size(e.id, span=e.span)
            case Kind.ATTRIBUTE:
                return ir.Attr(e.id, scope.attributes[e.id].type, span=e.span) if e.id in scope.attributes else None
            case Kind.LET:
                return self._let(e)
            case Kind.PARAM:
                value = scope.params[e.id]
                return replace(value, span=e.span) if value is not None else None
            case Kind.TENSOR:
                rank = scope.tensors[e.id].rank if e.id in scope.tensors else 0
                hint = f"read an element: {e.id}[{', '.join(['...'] * rank)}]"
                self._error("E217", f"{e.id} is a tensor, here a value is expected", e.span, hint)
                return None
            case Kind.INDEX:
                return self._index(e)
            case None:
                return self._unknown(e)

    def _let(self, e: ast.Name) -> ir.Expr | None:
        if e.id not in self.scope.lets:
            label = Label(self.scope.names[e.id].span, "defined here")
            self._error("E215", f"{e.id} is used before it is defined", e.span, "move the let up", (label,))
            return None
        value = self.scope.lets[e.id]
        return replace(value, span=e.span) if value is not None else None

    def _index(self, e: ast.Name) -> ir.Expr | None:
        if self.bound is None or e.id in self.bound:
            return ir.Index(e.id, span=e.span) if self.scope.ranges.get(e.id) is not None else None
        if self.reader is None:
            self._error("E230", f"{self.place} may use sizes and attributes only, {e.id} is an index", e.span)
            return None
        hint = f"reduce over it (sum[{e.id}](...)) or put it on the left side"
        self._error("E212", f"the index {e.id} is not bound here", e.span, hint)
        return None

    def _unknown(self, e: ast.Name) -> None:
        known = self.scope.named(Kind.SIZE, Kind.ATTRIBUTE, Kind.LET, Kind.PARAM, Kind.INDEX)
        hint = did_you_mean(e.id, known)
        if not hint and (e.id in self.functions or e.id in ARITIES or e.id in self.dtypes):
            hint = f"{e.id} is a function: call it, {e.id}(...)"
        self._error("E201", f"{e.id} is neither a size, an attribute, a let, a param nor an index", e.span, hint)

    def _subscript(self, e: ast.Subscript) -> ir.Expr | None:
        if self.reader is None:
            self._error("E230", f"{self.place} may use sizes and attributes only, {e.tensor} is read", e.span)
            return None
        kind = self.scope.kind_of(e.tensor)
        if kind is not Kind.TENSOR:
            self._not_a_tensor(e, kind)
            return None
        indices = tuple(self._subscript_index(i) for i in e.indices)
        info = self.scope.tensors[e.tensor]
        if len(indices) != info.rank:
            axes = f"{info.rank} {'axis' if info.rank == 1 else 'axes'}"
            message = (
                f"{e.tensor} has {axes}, {len(indices)} {'index is' if len(indices) == 1 else 'indices are'} given"
            )
            self._error("E207", message, e.span, labels=(Label(info.span, "declared here"),))
            return None
        read = self.reader.read(e, tuple(i for i in indices if i is not None))
        if read is None or any(i is None for i in indices):
            return None
        return self._checked(read)

    def _subscript_index(self, e: ast.Expr) -> ir.Expr | None:
        if not isinstance(e, ast.Name) or self.scope.kind_of(e.id) is not None:
            return self.resolve(e)
        hint = did_you_mean(e.id, self.scope.named(Kind.INDEX, Kind.SIZE, Kind.LET, Kind.ATTRIBUTE))
        hint = hint or f"reduce over it (sum[{e.id}](...)) or put it on the left side"
        self._error("E212", f"the index {e.id} is not bound here", e.span, hint)
        return None

    def _not_a_tensor(self, e: ast.Subscript, kind: Kind | None) -> None:
        if kind is not None:
            self._error("E218", f"{e.tensor} is {article(kind)}, not a tensor", e.span, "drop the brackets")
            return
        hint = did_you_mean(e.tensor, self.scope.named(Kind.TENSOR))
        self._error("E208", f"there is no tensor {e.tensor}", e.span, hint)

    def _unary(self, e: ast.Unary) -> ir.Expr | None:
        operand = self.resolve(e.operand)
        if operand is None:
            return None
        if e.operator == "-" and isinstance(operand, ir.Literal) and operand.type is not DType.BOOL:
            return ir.Literal(-operand.value, operand.type, span=e.span)
        return self._checked(ir.Unary(e.operator, operand, span=e.span))

    def _comparison(self, e: ast.Compare) -> ir.Expr | None:
        operands = [self.resolve(o) for o in e.operands]
        result: ir.Expr | None = None
        for operator, left, right in zip(e.operators, operands, operands[1:], strict=False):
            if left is None or right is None:
                return None
            link = self._checked(
                _compare(operator, left, right, e.span if len(e.operators) == 1 else left.span.to(right.span))
            )
            if link is None:
                return None
            result = link if result is None else ir.Binary("and", result, link, span=e.span)
        return result

    def _call(self, e: ast.Call) -> ir.Expr | None:
        named = next((a for a in e.arguments if a.name is not None), None)
        if named is not None:
            self._error("E204", f"{e.function} takes its arguments by position", named.span, "drop the name")
            return None
        arguments = [self.resolve(a.value) for a in e.arguments]
        if e.function in self.functions:
            return self._inline(e, self.functions[e.function], arguments)
        if e.function in self.dtypes:
            return self._cast(e, arguments)
        if e.function in ARITIES:
            return self._builtin(e, arguments)
        self._unknown_function(e)
        return None

    def _unknown_function(self, e: ast.Call) -> None:
        known = [*ARITIES, *self.functions, *self.dtypes]
        hint = did_you_mean(e.function, known)
        if self.scope.file.incomplete and not hint:
            return
        if e.function in self.scope.file.ops:
            hint = f"{e.function} is an op: apply it in a statement of its own, A = {e.function}(...)"
        self._error("E203", f"there is no function {e.function}", e.span, hint)

    def _arity(self, e: ast.Call, wanted: int, least: bool = False) -> bool:
        given = len(e.arguments)
        if given == wanted or (least and given > wanted):
            return True
        arguments = "argument" if wanted == 1 else "arguments"
        message = f"{e.function} takes {'at least ' if least else ''}{wanted} {arguments}, {given} given"
        self._error("E204", message, e.span)
        return False

    def _builtin(self, e: ast.Call, arguments: list[ir.Expr | None]) -> ir.Expr | None:
        if not self._arity(e, ARITIES[e.function], e.function in VARIADIC):
            return None
        known = tuple(a for a in arguments if a is not None)
        if len(known) < len(arguments):
            return None
        return self._checked(ir.Call(e.function, known, span=e.span))

    def _cast(self, e: ast.Call, arguments: list[ir.Expr | None]) -> ir.Expr | None:
        if not self._arity(e, 1) or arguments[0] is None:
            return None
        return ir.Cast(self.dtypes[e.function], arguments[0], span=e.span)

    def _inline(self, e: ast.Call, function: FunctionDefinition, arguments: list[ir.Expr | None]) -> ir.Expr | None:
        if not self._arity(e, len(function.node.parameters)):
            return None
        known = [a for a in arguments if a is not None]
        if len(known) < len(arguments) or function.broken:
            return None
        self.scope.inlined_calls += 1
        local = dict(zip(function.node.parameters, known, strict=True))
        endless = self.scope.inlined_calls > _MAX_CALLS
        inside = _FunctionBody(self.scope, self.place, function=function, local=local)
        body = inside.resolve(function.node.body) if not endless else None
        if self.scope.inlined_calls > _MAX_CALLS or (body is not None and is_too_large(body)):
            hint = "name a part of it in an equation of its own"
            self._error("E233", f"{e.function} makes the expression too large when it is inlined", e.span, hint)
            return None
        return replace(body, span=e.span) if body is not None else None

    def _reduce(self, e: ast.Reduce) -> ir.Expr | None:
        if self.reader is None:
            self._error("E230", f"{self.place} may use sizes and attributes only, not {e.kind}", e.span)
            return None
        if not self._reduction_indices(e):
            return None
        inner = self
        if self.bound is not None:
            inner = replace(self, bound=self.bound | set(e.indices))
        domain = inner.of_type(e.domain, DType.BOOL, "a domain") if e.domain is not None else None
        sink = self._sink(e) if e.sink is not None else None
        body = inner.resolve(e.body)
        missing = (e.domain is not None and domain is None) or (e.sink is not None and sink is None)
        if body is None or missing or any(self.scope.ranges.get(i) is None for i in e.indices):
            return None
        reduce = ir.Reduce(e.kind, e.indices, domain, sink, body, span=e.span)
        if self._checked(reduce) is None:
            return None
        return round_operands(reduce, self.reader.has_written_dtype)

    def _reduction_indices(self, e: ast.Reduce) -> bool:
        for i, name in enumerate(e.indices):
            if name in e.indices[:i]:
                place = index_place(self.scope.places, name, e, nth=1)
                self._error("E213", f"{e.kind} reduces over {name} twice", place)
                return False
        if e.kind not in ir.KEEPS_INDICES or self.bound is None:
            return True
        for name in e.indices:
            if name not in self.bound:
                place = index_place(self.scope.places, name, e)
                message = f"{e.kind} keeps its index {name}, which is not bound here"
                self._error("E212", message, place, f"put {name} on the left side or reduce over it")
                return False
        return True

    def _sink(self, e: ast.Reduce) -> ir.Expr | None:
        assert e.sink is not None
        if e.kind not in TAKES_SINK:
            self._error("E243", f"{e.kind} takes no sink", e.sink.span, "softmax and logsumexp do")
            return None
        inner = self if self.bound is None else replace(self, bound=self.bound | set(e.indices))
        sink = inner.resolve(e.sink)
        if sink is None:
            return None
        reduced = sorted(ir.free_indices(sink) & set(e.indices))
        if reduced:
            message = f"the sink may not use the reduced index {reduced[0]}"
            self._error("E243", message, e.sink.span, "a sink is one logit for the whole reduction")
            return None
        return sink


@dataclass(frozen=True)
class _FunctionBody(Expressions):
    """The body of a fn with its arguments put in. `functions.py` has checked its names."""

    function: FunctionDefinition | None = None
    local: Mapping[str, ir.Expr] | None = None

    @property
    def functions(self) -> Mapping[str, FunctionDefinition]:
        assert self.function is not None
        return self.function.file.functions

    @property
    def dtypes(self) -> Mapping[str, DType]:
        return DTYPES

    def _name(self, e: ast.Name) -> ir.Expr | None:
        assert self.local is not None and self.function is not None
        if e.id in self.local:
            return self.local[e.id]
        value = self.scope.all_params[self.function.file.file.path].get(e.id)
        return replace(value, span=e.span) if value is not None else None


def finish(e: ir.Expr) -> ir.Expr:
    """Without casts of a real to f32: they only tell `round_operands` that a dtype is written."""
    if not any(isinstance(x, ir.Cast) and is_identity_cast(x) for x in ir.walk(e)):
        return e
    return _strip(e)


def _strip(e: ir.Expr) -> ir.Expr:
    if isinstance(e, ir.Cast) and is_identity_cast(e):
        return _strip(e.operand)
    return with_children(e, [_strip(c) for c in ir.children(e)])


def _compare(operator: str, left: ir.Expr, right: ir.Expr, span: Span) -> ir.Expr:
    """A comparison; `0 == 0` and `0 != 0` are how the printer writes true and false."""
    zero = ir.Literal(0, DType.I32)
    if left == right == zero and operator in ("==", "!="):
        return ir.Literal(operator == "==", DType.BOOL, span=span)
    return ir.Binary(operator, left, right, span=span)


def is_too_large(e: ir.Expr) -> bool:
    """More parts or levels than every pass can take."""
    nodes = 0
    stack = [(1, e)]
    while stack:
        level, top = stack.pop()
        nodes += 1
        if nodes > _MAX_NODES or level > _MAX_LEVELS:
            return True
        stack.extend((level + 1, child) for child in ir.children(top))
    return False
