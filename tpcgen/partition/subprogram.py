"""The piece of a program that a stage computes, as a program of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import rewrite, with_children

Order = tuple[int, ...]


def subprogram(
    program: ir.Program,
    equations: Sequence[ir.Equation],
    name: str,
    orders: Mapping[str, Order] | None = None,
    names: Mapping[str, str] | None = None,
) -> ir.Program:
    """A program with the equations' targets as outputs and everything else they read as inputs.

    `orders`: per tensor (by its name here) the memory order its axes are declared in; program order where absent.
    `names`: tensor of the program to buffer. Sizes that no input binds by a bare name become int attributes. Contracts
    of the program that speak of nothing else come along.
    """
    names = names or {}
    orders = orders or {}
    targets = [e.target for e in equations]
    read = dict.fromkeys(r.tensor for e in equations for r in _reads(e) if r.tensor not in targets)
    inputs = [_tensor(program.tensor(t), ir.Role.INPUT, names, orders) for t in read]
    outputs = [_tensor(program.tensor(t), ir.Role.OUTPUT, names, orders) for t in targets]
    body = [_equation(e, names, orders) for e in equations]
    used = _indices(equations)
    ranges = [r for r in program.indices if r.name in used]
    bound = {e.name for t in inputs for e in t.shape if isinstance(e, ir.Size)}
    parts: list[ir.Expr] = [e for t in (*inputs, *outputs) for e in t.shape]
    parts += [e for r in ranges for e in (r.low, r.high)]
    parts += [s for e in equations for s in (e.value, e.domain) if s is not None]
    mentioned = {x.name for p in parts for x in ir.walk(p) if isinstance(x, ir.Size | ir.Attr)}
    contracts = [c for c in program.contracts if not c.indices and not c.on_values and _names(c.condition) <= mentioned]
    passed = [s for s in program.sizes if s in mentioned and s not in bound]
    attributes = [ir.Attribute(s, DType.I32, None) for s in passed]
    attributes += [replace(a, default=None) for a in program.attributes if a.name in mentioned]
    made = ir.Program(
        name,
        tuple(s for s in program.sizes if s in bound),
        tuple(attributes),
        (*inputs, *outputs),
        tuple(ranges),
        tuple(contracts),
        tuple(body),
        span=program.span,
    )
    return _as_attributes(made, frozenset(passed))


def _reads(e: ir.Equation) -> list[ir.Read]:
    sides = [s for s in (e.domain, e.value) if s is not None]
    return [x for s in sides for x in ir.walk(s) if isinstance(x, ir.Read)]


def _names(e: ir.Expr) -> set[str]:
    return {x.name for x in ir.walk(e) if isinstance(x, ir.Size | ir.Attr)}


def _indices(equations: Sequence[ir.Equation]) -> set[str]:
    used = {i for e in equations for i in e.indices}
    for e in equations:
        for side in (e.value, e.domain):
            if side is None:
                continue
            used |= {x.name for x in ir.walk(side) if isinstance(x, ir.Index)}
            used |= {i for x in ir.walk(side) if isinstance(x, ir.Reduce) for i in x.indices}
    return used


def _tensor(t: ir.Tensor, role: ir.Role, names: Mapping[str, str], orders: Mapping[str, Order]) -> ir.Tensor:
    name = names.get(t.name, t.name)
    return replace(t, name=name, shape=_permuted(t.shape, orders.get(name)), role=role)


def _permuted(items: tuple[ir.Expr, ...], order: Order | None) -> tuple[ir.Expr, ...]:
    return items if order is None else tuple(items[axis] for axis in order)


def _equation(e: ir.Equation, names: Mapping[str, str], orders: Mapping[str, Order]) -> ir.Equation:
    target = names.get(e.target, e.target)
    order = orders.get(target)
    indices = e.indices if order is None else tuple(e.indices[axis] for axis in order)

    def leaf(x: ir.Expr) -> ir.Expr:
        if not isinstance(x, ir.Read):
            return x
        name = names.get(x.tensor, x.tensor)
        return replace(x, tensor=name, indices=_permuted(x.indices, orders.get(name)))

    domain = rewrite(e.domain, leaf) if e.domain is not None else None
    return replace(e, target=target, indices=indices, value=rewrite(e.value, leaf), domain=domain)


def _as_attributes(p: ir.Program, names: frozenset[str]) -> ir.Program:
    if not names:
        return p

    def visit(e: ir.Expr) -> ir.Expr:
        if isinstance(e, ir.Size) and e.name in names:
            return ir.Attr(e.name, DType.I32, span=e.span)
        return with_children(e, [visit(c) for c in ir.children(e)])

    def equation(s: ir.Statement) -> ir.Statement:
        assert isinstance(s, ir.Equation)
        return replace(s, value=visit(s.value), domain=visit(s.domain) if s.domain is not None else None)

    return replace(
        p,
        tensors=tuple(replace(t, shape=tuple(visit(e) for e in t.shape)) for t in p.tensors),
        indices=tuple(replace(r, low=visit(r.low), high=visit(r.high)) for r in p.indices),
        contracts=tuple(replace(c, condition=visit(c.condition)) for c in p.contracts),
        body=tuple(equation(s) for s in p.body),
    )
