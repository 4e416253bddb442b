"""Inlines an applied op: its statements under new names, its sizes replaced by the caller's extents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import equal
from tpcgen.program.substitute import FreshNames, Renaming


@dataclass(frozen=True)
class Inlined:
    """What an application adds to its caller. `results` are the callee's outputs under the targets' names."""

    statements: tuple[ir.Statement, ...]
    indices: tuple[ir.IndexRange, ...]
    intermediates: tuple[ir.Tensor, ...]
    results: tuple[ir.Tensor, ...]
    contracts: tuple[ir.Contract, ...]
    pins: tuple[ir.Pin, ...]


def inline(
    callee: ir.Program,
    arguments: Mapping[str, ir.Tensor],
    values: Mapping[str, ir.Expr],
    targets: tuple[str, ...],
    fresh: FreshNames,
) -> Inlined:
    """`arguments` has the caller's tensor for each input, `values` its expression for each size and attribute."""
    prefix = targets[0]
    indices = {r.name: fresh.fresh(f"{prefix}_{r.name}") for r in callee.indices}
    sizes = Renaming(indices, {}, values)
    tensors: dict[str, ir.Tensor] = dict(arguments)
    intermediates: list[ir.Tensor] = []
    results: list[ir.Tensor] = []
    copies: list[ir.Equation] = []
    ranges = [
        replace(r, name=indices[r.name], low=sizes.expression(r.low), high=sizes.expression(r.high))
        for r in callee.indices
    ]
    by_output = dict(zip((t.name for t in callee.outputs), targets, strict=True))
    for t in callee.tensors:
        if t.role is ir.Role.INPUT:
            continue
        shape = tuple(sizes.expression(e) for e in t.shape)
        if t.role is not ir.Role.OUTPUT:
            tensors[t.name] = replace(t, name=fresh.fresh(f"{prefix}_{t.name}"), shape=shape)
            intermediates.append(tensors[t.name])
            continue
        result = replace(t, name=by_output[t.name], shape=shape, role=ir.Role.INTERMEDIATE)
        results.append(result)
        written = _shape_of_left_side(t.name, callee, sizes)
        if written == shape:
            tensors[t.name] = result
            continue
        inner = replace(result, name=fresh.fresh(f"{result.name}_{t.name}"), shape=written)
        tensors[t.name] = inner
        intermediates.append(inner)
        copy, new = _copy(result, inner, fresh)
        copies.append(copy)
        ranges += new
    names = Renaming(indices, tensors, values)
    statements = (*(_statement(s, names) for s in callee.body), *copies)
    contracts = tuple(c for contract in callee.contracts if (c := _contract(contract, names)) is not None)
    pins = tuple(replace(p, words=tuple(_word(w, indices, tensors) for w in p.words)) for p in callee.pins)
    return Inlined(statements, tuple(ranges), tuple(intermediates), tuple(results), contracts, pins)


def _shape_of_left_side(output: str, callee: ir.Program, sizes: Renaming) -> tuple[ir.Expr, ...]:
    """The shape an intermediate with the output's first equation has: the high ends of its left side's ranges."""
    for statement in callee.body:
        for step in (statement,) if isinstance(statement, ir.Equation) else statement.body:
            if isinstance(step, ir.Equation) and step.target == output:
                return tuple(sizes.expression(callee.range_of(i).high) for i in step.indices)
    raise KeyError(output)


def _copy(result: ir.Tensor, inner: ir.Tensor, fresh: FreshNames) -> tuple[ir.Equation, list[ir.IndexRange]]:
    """`result[..] = inner[..]` over the declared shape, where the declared range of an index made them differ."""
    zero = ir.Literal(0, DType.I32)
    names = [fresh.fresh(f"{result.name}_i{axis}") for axis in range(len(result.shape))]
    ranges = [ir.IndexRange(n, zero, e) for n, e in zip(names, result.shape, strict=True)]
    domain: ir.Expr | None = None
    for name, wanted, written in zip(names, result.shape, inner.shape, strict=True):
        if equal(wanted, written):
            continue
        inside = ir.Binary("<", ir.Index(name), written)
        domain = inside if domain is None else ir.Binary("and", domain, inside)
    indices = tuple(ir.Index(n) for n in names)
    value = ir.Read(inner.name, indices, inner.dtype, span=inner.span)
    return ir.Equation(result.name, tuple(names), value, domain, span=inner.span), ranges


def _statement(s: ir.Statement, names: Renaming) -> ir.Statement:
    if isinstance(s, ir.Equation):
        return _equation(s, names)
    states = tuple(
        replace(
            i,
            state=names.tensors[i.state].name,
            indices=_renamed(i.indices, names),
            initial=names.expression(i.initial),
        )
        for i in s.states
    )
    body = tuple(_equation(b, names) if isinstance(b, ir.Equation) else _update(b, names) for b in s.body)
    return replace(s, index=names.index(s.index), states=states, body=body)


def _equation(e: ir.Equation, names: Renaming) -> ir.Equation:
    return replace(
        e,
        target=names.tensors[e.target].name,
        indices=_renamed(e.indices, names),
        value=names.expression(e.value),
        domain=names.expression(e.domain) if e.domain is not None else None,
    )


def _update(u: ir.Update, names: Renaming) -> ir.Update:
    return replace(
        u,
        state=names.tensors[u.state].name,
        indices=_renamed(u.indices, names),
        value=names.expression(u.value),
        domain=names.expression(u.domain) if u.domain is not None else None,
    )


def _contract(contract: ir.Contract, names: Renaming) -> ir.Contract | None:
    """A contract of the callee becomes one of the caller where it speaks of sizes and of the caller's inputs only."""
    condition = names.expression(contract.condition)
    reads = [e.tensor for e in ir.walk(condition) if isinstance(e, ir.Read)]
    if any(
        names_tensor.role is not ir.Role.INPUT for names_tensor in names.tensors.values() if names_tensor.name in reads
    ):
        return None
    return replace(contract, condition=condition, indices=_renamed(contract.indices, names))


def _word(word: str, indices: Mapping[str, str], tensors: Mapping[str, ir.Tensor]) -> str:
    if word in indices:
        return indices[word]
    return tensors[word].name if word in tensors else word


def _renamed(indices: tuple[str, ...], names: Renaming) -> tuple[str, ...]:
    return tuple(names.index(i) for i in indices)
