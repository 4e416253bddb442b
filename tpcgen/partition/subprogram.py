"""The piece of a program that a stage computes, as a program of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import rewrite
from tpcgen.rewrite.edit import reads, writes

Order = tuple[int, ...]


def subprogram(
    program: ir.Program,
    statements: Sequence[ir.Statement],
    name: str,
    orders: Mapping[str, Order] | None = None,
    names: Mapping[str, str] | None = None,
    local: frozenset[str] = frozenset(),
) -> ir.Program:
    """A program with the statements' targets as outputs and everything else they read as inputs. States and temporaries
    of a scan stay what they are, as do the targets that are `local`.

    `orders`: per tensor (by its name here) the memory order its axes are declared in; program order where absent.
    `names`: tensor of the program to buffer. Sizes that no input binds by a bare name become int attributes. Contracts
    of the program that speak of nothing else come along, those on values too. What reads no tensor has one of the
    program's inputs all the same: PyTorch asks an op's inputs where it runs.
    """
    names = names or {}
    orders = orders or {}
    made = dict.fromkeys(t for s in statements for t in _in_order(s))
    outside = frozenset[str]().union(*(reads(s) for s in statements)) - set(made)
    read = list(dict.fromkeys(r.tensor for s in statements for r in _reads(s) if r.tensor in outside))
    read = read or [min(program.inputs, key=lambda t: len(t.shape)).name]
    local |= _local(statements)
    targets = [t for t in made if t not in local]
    inputs = [_tensor(program.tensor(t), ir.Role.INPUT, names, orders) for t in read]
    outputs = [_tensor(program.tensor(t), ir.Role.OUTPUT, names, orders) for t in targets]
    kept = [program.tensor(t) for t in made if t in local]
    body = [_statement(s, names, orders) for s in statements]
    used = _indices(statements)
    ranges = [r for r in program.indices if r.name in used]
    bound = {e.name for t in inputs for e in t.shape if isinstance(e, ir.Size)}
    parts: list[ir.Expr] = [e for t in (*inputs, *outputs, *kept) for e in t.shape]
    parts += [e for r in ranges for e in (r.low, r.high)]
    parts += [e for s in statements for e in _expressions(s)]
    mentioned = {x.name for p in parts for x in ir.walk(p) if isinstance(x, ir.Size | ir.Attr)}
    contracts = [c for c in program.contracts if _speaks_of(c, {*read}, mentioned, program)]
    ranges += [r for r in program.indices if r.name not in used and any(r.name in c.indices for c in contracts)]
    passed = [s for s in program.sizes if s in mentioned and s not in bound]
    attributes = [ir.Attribute(s, DType.I32, None) for s in passed]
    attributes += [replace(a, default=None) for a in program.attributes if a.name in mentioned]
    piece = ir.Program(
        name,
        tuple(s for s in program.sizes if s in bound),
        tuple(attributes),
        (*inputs, *outputs, *kept),
        tuple(ranges),
        tuple(replace(c, condition=rewrite(c.condition, _buffers(names, orders))) for c in contracts),
        tuple(body),
        span=program.span,
    )
    return _as_attributes(piece, frozenset(passed))


def _speaks_of(c: ir.Contract, tensors: set[str], names: set[str], program: ir.Program) -> bool:
    """Of nothing else, neither itself nor where its indices run."""
    ends = [e for r in program.indices if r.name in c.indices for e in (r.low, r.high)]
    reads = {x.tensor for x in ir.walk(c.condition) if isinstance(x, ir.Read)}
    return reads <= tensors and all(_names(e) <= names for e in (c.condition, *ends))


def unnamed(piece: ir.Program) -> ir.Program:
    """The program of a stage without its name and with numbers for those of its inputs and outputs: pieces that do the
    same to other buffers are equal then.
    """
    names = {t.name: str(n) for n, t in enumerate(piece.tensors) if t.role in (ir.Role.INPUT, ir.Role.OUTPUT)}
    tensors = tuple(replace(t, name=names.get(t.name, t.name)) for t in piece.tensors)
    contracts = tuple(replace(c, condition=rewrite(c.condition, _buffers(names, {}))) for c in piece.contracts)
    body = tuple(_statement(s, names, {}) for s in piece.body)
    return replace(piece, name="", tensors=tensors, contracts=contracts, body=body)


def _in_order(s: ir.Statement) -> list[str]:
    """What a statement defines, in text order, states last."""
    if isinstance(s, ir.Equation):
        return [s.target]
    return [*(e.target for e in s.body if isinstance(e, ir.Equation)), *(i.state for i in s.states)]


def _local(statements: Sequence[ir.Statement]) -> frozenset[str]:
    """States and the temporaries of a step: they live in a kernel alone."""
    scans = [s for s in statements if isinstance(s, ir.Scan)]
    outlive = {e.target for s in scans for e in s.body if isinstance(e, ir.Equation) and s.index in e.indices}
    return frozenset[str]().union(*(writes(s) for s in scans)) - outlive


def _expressions(s: ir.Statement) -> list[ir.Expr]:
    """Every expression of a statement, domains before values."""
    match s:
        case ir.Equation():
            return [e for e in (s.domain, s.value) if e is not None]
        case ir.Scan():
            own = [i.initial for i in s.states]
            return own + [e for x in s.body for e in (x.domain, x.value) if e is not None]


def _reads(s: ir.Statement) -> list[ir.Read]:
    return [x for e in _expressions(s) for x in ir.walk(e) if isinstance(x, ir.Read)]


def _names(e: ir.Expr) -> set[str]:
    return {x.name for x in ir.walk(e) if isinstance(x, ir.Size | ir.Attr)}


def _indices(statements: Sequence[ir.Statement]) -> set[str]:
    used: set[str] = set()
    for s in statements:
        match s:
            case ir.Equation():
                used |= set(s.indices)
            case ir.Scan():
                used |= {s.index, *(i for x in (*s.states, *s.body) for i in x.indices)}
        for e in _expressions(s):
            used |= {x.name for x in ir.walk(e) if isinstance(x, ir.Index)}
            used |= {i for x in ir.walk(e) if isinstance(x, ir.Reduce) for i in x.indices}
    return used


def _tensor(t: ir.Tensor, role: ir.Role, names: Mapping[str, str], orders: Mapping[str, Order]) -> ir.Tensor:
    name = names.get(t.name, t.name)
    return replace(t, name=name, shape=_permuted(t.shape, orders.get(name)), role=role)


def _permuted(items: tuple[ir.Expr, ...], order: Order | None) -> tuple[ir.Expr, ...]:
    return items if order is None else tuple(items[axis] for axis in order)


def _buffers(names: Mapping[str, str], orders: Mapping[str, Order]) -> Callable[[ir.Expr], ir.Expr]:
    """What puts reads of buffers for those of tensors."""

    def leaf(x: ir.Expr) -> ir.Expr:
        if not isinstance(x, ir.Read):
            return x
        name = names.get(x.tensor, x.tensor)
        order = orders.get(name)
        if name == x.tensor and order is None:
            return x
        return replace(x, tensor=name, indices=_permuted(x.indices, order))

    return leaf


def _statement(s: ir.Statement, names: Mapping[str, str], orders: Mapping[str, Order]) -> ir.Statement:
    leaf = _buffers(names, orders)

    def equation(e: ir.Equation) -> ir.Equation:
        target = names.get(e.target, e.target)
        order = orders.get(target)
        indices = e.indices if order is None else tuple(e.indices[axis] for axis in order)
        domain = rewrite(e.domain, leaf) if e.domain is not None else None
        return replace(e, target=target, indices=indices, value=rewrite(e.value, leaf), domain=domain)

    def update(u: ir.Update) -> ir.Update:
        domain = rewrite(u.domain, leaf) if u.domain is not None else None
        return replace(u, value=rewrite(u.value, leaf), domain=domain)

    match s:
        case ir.Equation():
            return equation(s)
        case ir.Scan():
            states = tuple(replace(i, initial=rewrite(i.initial, leaf)) for i in s.states)
            body = tuple(equation(x) if isinstance(x, ir.Equation) else update(x) for x in s.body)
            return replace(s, states=states, body=body)


def _as_attributes(p: ir.Program, names: frozenset[str]) -> ir.Program:
    if not names:
        return p

    def leaf(e: ir.Expr) -> ir.Expr:
        return ir.Attr(e.name, DType.I32, span=e.span) if isinstance(e, ir.Size) and e.name in names else e

    def visit(e: ir.Expr) -> ir.Expr:
        return e if names.isdisjoint(_names(e)) else rewrite(e, leaf)

    def inner(s: ir.Equation | ir.Update) -> ir.Equation | ir.Update:
        return replace(s, value=visit(s.value), domain=visit(s.domain) if s.domain is not None else None)

    def statement(s: ir.Statement) -> ir.Statement:
        if isinstance(s, ir.Equation):
            return replace(s, value=visit(s.value), domain=visit(s.domain) if s.domain is not None else None)
        states = tuple(replace(i, initial=visit(i.initial)) for i in s.states)
        return replace(s, states=states, body=tuple(inner(x) for x in s.body))

    return replace(
        p,
        tensors=tuple(replace(t, shape=tuple(visit(e) for e in t.shape)) for t in p.tensors),
        indices=tuple(replace(r, low=visit(r.low), high=visit(r.high)) for r in p.indices),
        contracts=tuple(replace(c, condition=visit(c.condition)) for c in p.contracts),
        body=tuple(statement(s) for s in p.body),
    )
