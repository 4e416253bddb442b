"""Substitution in IR expressions, and fresh names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import starmap
from operator import is_

from tpcgen.program import ir


def with_children(e: ir.Expr, children: Sequence[ir.Expr]) -> ir.Expr:
    """The node with other subexpressions, given in the order of `ir.children`; itself if they are the same objects."""
    if all(starmap(is_, zip(ir.children(e), children, strict=True))):
        return e
    match e:
        case ir.Read():
            return ir.Read(e.tensor, tuple(children), e.dtype, span=e.span)
        case ir.Unary():
            return ir.Unary(e.operator, children[0], span=e.span)
        case ir.Cast():
            return ir.Cast(e.dtype, children[0], span=e.span)
        case ir.Binary():
            return ir.Binary(e.operator, children[0], children[1], span=e.span)
        case ir.Call():
            return ir.Call(e.function, tuple(children), span=e.span)
        case ir.Reduce():
            rest = list(children)
            domain = rest.pop(0) if e.domain is not None else None
            sink = rest.pop(0) if e.sink is not None else None
            return ir.Reduce(e.kind, e.indices, domain, sink, rest[0], span=e.span)
        case _:
            return e


def rewrite(e: ir.Expr, leaf: Callable[[ir.Expr], ir.Expr]) -> ir.Expr:
    """Bottom-up: children first, then `leaf` on the node itself. Bound indices are not renamed."""
    below = ir.children(e)
    return leaf(with_children(e, [rewrite(c, leaf) for c in below]) if below else e)


def substitute(e: ir.Expr, values: Mapping[str, ir.Expr]) -> ir.Expr:
    """Free indices replaced by values.

    Indices bound by a sum-like reduction hide theirs. A reduction that keeps its indices, or one that would capture an
    index of a value, is a function of the replaced name through its result only: ValueError, it cannot be written.
    """
    if ir.free_indices(e).isdisjoint(values):
        return e
    match e:
        case ir.Index():
            return values.get(e.name, e)
        case ir.Reduce():
            return _substitute_reduce(e, values)
        case _:
            return with_children(e, [substitute(c, values) for c in ir.children(e)])


def _substitute_reduce(e: ir.Reduce, values: Mapping[str, ir.Expr]) -> ir.Expr:
    moved = [i for i in e.indices if i in values and values[i] != ir.Index(i)]
    if e.kind in ir.KEEPS_INDICES and moved:
        raise ValueError(f"{e.kind} keeps {moved[0]}")
    free = {name: value for name, value in values.items() if name not in e.indices and name in ir.free_indices(e)}
    captured = frozenset[str]().union(*(ir.free_indices(v) for v in free.values())) & set(e.indices)
    if captured:
        raise ValueError(f"{e.kind} binds {sorted(captured)[0]}")
    domain = substitute(e.domain, free) if e.domain is not None else None
    sink = substitute(e.sink, free) if e.sink is not None else None
    return ir.Reduce(e.kind, e.indices, domain, sink, substitute(e.body, free), span=e.span)


@dataclass
class FreshNames:
    """Hands out identifiers that are not in use."""

    used: set[str] = field(default_factory=set[str])

    def reserve(self, names: Iterable[str]) -> None:
        self.used.update(names)

    def fresh(self, wanted: str) -> str:
        """`wanted` if it is free, else with the least number that makes it so."""
        name, number = wanted, 1
        while name in self.used:
            number += 1
            name = f"{wanted}_{number}"
        self.used.add(name)
        return name


@dataclass(frozen=True)
class Renaming:
    """Replaces names of one program by those of another: indices, tensors, sizes and attributes."""

    indices: Mapping[str, str]
    tensors: Mapping[str, ir.Tensor]
    values: Mapping[str, ir.Expr]

    def expression(self, e: ir.Expr) -> ir.Expr:
        """Every index is renamed, bound ones included; a read takes the dtype of the tensor it now reads."""
        return rewrite(e, self._leaf)

    def index(self, name: str) -> str:
        return self.indices.get(name, name)

    def _leaf(self, e: ir.Expr) -> ir.Expr:
        match e:
            case ir.Index():
                return replace(e, name=self.index(e.name))
            case ir.Size() | ir.Attr():
                return self.values.get(e.name, e)
            case ir.Read() if e.tensor in self.tensors:
                tensor = self.tensors[e.tensor]
                return replace(e, tensor=tensor.name, dtype=tensor.dtype)
            case ir.Reduce():
                return replace(e, indices=tuple(self.index(i) for i in e.indices))
            case _:
                return e
