"""Declares the names of an op and resolves its signature: inputs, outputs, sizes, attributes; then lets and indices."""

from __future__ import annotations

from tpcgen.diagnostics import Label
from tpcgen.program import ir
from tpcgen.program.astwalk import walk
from tpcgen.program.dtypes import DType
from tpcgen.program.expressions import Expressions, finish, is_too_large
from tpcgen.program.hints import did_you_mean
from tpcgen.program.scope import Declared, Kind, OpScope, TensorInfo, index_mentions, index_place
from tpcgen.syntax import ast

_ATTRIBUTE_TYPES = {"int": DType.I32, "i32": DType.I32, "f32": DType.F32}


def resolve_signature(scope: OpScope) -> None:
    """Fills names, sizes, attributes and the tensors of the signature."""
    for name in scope.params:
        scope.names[name] = Declared(Kind.PARAM, scope.file.params[name].span)
    inputs = [p for p in scope.op.parameters if isinstance(p, ast.TensorParameter)]
    attributes = [p for p in scope.op.parameters if isinstance(p, ast.Attribute)]
    for p in scope.op.parameters:
        kind = Kind.TENSOR if isinstance(p, ast.TensorParameter) else Kind.ATTRIBUTE
        scope.declare(p.name, kind, scope.places.word(p.span, p.name))
    for attribute in attributes:
        scope.attributes.setdefault(
            attribute.name, ir.Attribute(attribute.name, _attribute_type(attribute, scope), None)
        )
    _declare_sizes(scope, inputs)
    for output in scope.op.outputs:
        scope.declare(output.name, Kind.TENSOR, scope.places.word(output.span, output.name))
    declare_body(scope)
    for attribute in attributes:
        _default(attribute, scope)
    for p in inputs:
        _tensor(p, ir.Role.INPUT, scope)


def resolve_outputs(scope: OpScope) -> None:
    """Outputs come after the lets, which their shapes may use."""
    for p in scope.op.outputs:
        _tensor(p, ir.Role.OUTPUT, scope)


def _attribute_type(attribute: ast.Attribute, scope: OpScope) -> DType:
    if attribute.dtype in _ATTRIBUTE_TYPES:
        return _ATTRIBUTE_TYPES[attribute.dtype]
    place = scope.places.word(attribute.span, attribute.dtype, after=":")
    hint = f"a tensor has its shape in brackets: {attribute.name}: {attribute.dtype}[...]"
    scope.found.error("E229", f"an attribute is int or f32, not {attribute.dtype}", place, hint)
    return DType.F32


def _declare_sizes(scope: OpScope, inputs: list[ast.TensorParameter]) -> None:
    for p in inputs:
        for e in p.shape:
            if not isinstance(e, ast.Name) or e.id in scope.sizes:
                continue
            if scope.kind_of(e.id) in (Kind.ATTRIBUTE, Kind.PARAM):
                continue
            if scope.declare(e.id, Kind.SIZE, e.span):
                scope.sizes[e.id] = e.span


def declare_body(scope: OpScope) -> None:
    """Lets, tensors and indices of the body: all are known before anything is resolved."""
    for statement in _flat(scope.op.body):
        match statement:
            case ast.Let():
                scope.declare(statement.name, Kind.LET, scope.places.word(statement.span, statement.name))
            case ast.Equation() | ast.State():
                name = statement.target if isinstance(statement, ast.Equation) else statement.name
                if scope.kind_of(name) is not Kind.TENSOR:
                    scope.declare(name, Kind.TENSOR, scope.places.word(statement.span, name))
            case ast.Application():
                for name in statement.targets:
                    if scope.kind_of(name) is not Kind.TENSOR:
                        scope.declare(name, Kind.TENSOR, scope.places.word(statement.span, name))
            case _:
                pass
    for name, node, nth in index_mentions(scope.op):
        kind = scope.kind_of(name)
        if kind is not Kind.INDEX:
            scope.declare(name, Kind.INDEX, index_place(scope.places, name, node, nth))

    for contract in scope.op.contracts:
        for name in _alone_in_reads(contract):
            if scope.kind_of(name.id) is None:
                scope.declare(name.id, Kind.INDEX, name.span)


def resolve_lets(scope: OpScope) -> None:
    """Lets in text order; each may use earlier ones."""
    for statement in _flat(scope.op.body):
        if not isinstance(statement, ast.Let) or statement.name in scope.lets:
            continue
        value = Expressions(scope, f"the let {statement.name}").resolve(statement.value)
        if value is not None and is_too_large(value):
            hint = "it holds what the lets it uses hold"
            scope.found.error("E233", f"the let {statement.name} is too large", statement.value.span, hint)
            value = None
        scope.lets[statement.name] = finish(value) if value is not None else None


def _alone_in_reads(e: ast.Expr) -> list[ast.Name]:
    reads = [node for node in walk(e) if isinstance(node, ast.Subscript)]
    return [i for read in reads for i in read.indices if isinstance(i, ast.Name)]


def _flat(body: tuple[ast.Statement, ...]) -> list[ast.Node]:
    flat: list[ast.Node] = []
    for statement in body:
        flat.append(statement)
        if isinstance(statement, ast.Scan):
            flat += statement.body
    return flat


def _default(attribute: ast.Attribute, scope: OpScope) -> None:
    known = scope.attributes[attribute.name]
    default = None
    if attribute.default is not None:
        what = f"the default of {attribute.name}"
        value = Expressions(scope, what).of_type(attribute.default, known.type, what)
        default = finish(value) if value is not None else None
    scope.attributes[attribute.name] = ir.Attribute(known.name, known.type, default, span=attribute.span)


def _tensor(p: ast.TensorParameter, role: ir.Role, scope: OpScope) -> None:
    dtype = scope.dtype(p.dtype, p.span)
    what = f"the shape of {p.name}"
    shape = tuple(_extent(e, what, scope) for e in p.shape)
    if p.name in scope.tensors:
        return
    broken = dtype is None or any(e is None for e in shape)
    scope.tensors[p.name] = TensorInfo(p.name, role, p.span, len(shape), shape, dtype, annotated=True, broken=broken)


class _Extents(Expressions):
    def _unknown(self, e: ast.Name) -> None:
        hint = did_you_mean(e.id, self.scope.named(Kind.SIZE, Kind.ATTRIBUTE, Kind.LET, Kind.PARAM))
        hint = hint or f"a size is bound by an axis that is its bare name: x: f32[{e.id}]"
        self.scope.found.error("E209", f"the size {e.id} is bound by no input", e.span, hint)


def _extent(e: ast.Expr, what: str, scope: OpScope) -> ir.Expr | None:
    if isinstance(e, ast.Name) and scope.kind_of(e.id) is Kind.TENSOR:
        _tensor_as_extent(e, scope)
        return None
    extent = _Extents(scope, what).of_type(e, DType.I32, "an extent")
    if isinstance(extent, ir.Literal) and extent.value < 0:
        scope.found.error("E244", f"an extent cannot be negative, this is {extent.value}", e.span)
        return None
    return finish(extent) if extent is not None else None


def _tensor_as_extent(e: ast.Name, scope: OpScope) -> None:
    """In an input's shape the name would be a size too, which `declare` has reported."""
    bare = (size for p in scope.op.parameters if isinstance(p, ast.TensorParameter) for size in p.shape)
    if any(isinstance(size, ast.Name) and size.id == e.id for size in bare):
        return
    label = Label(scope.names[e.id].span, "the tensor")
    hint = "a size is the bare name of an axis of an input; no tensor has the same name"
    scope.found.error("E217", f"{e.id} is a tensor, an extent is a size", e.span, hint, (label,))
