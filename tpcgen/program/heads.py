"""Heads that several cards can share: those that an op computes each for itself, and where its tensors have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tpcgen.diagnostics import Diagnostic, DiagnosticError, Span
from tpcgen.program import ir
from tpcgen.program.hints import did_you_mean
from tpcgen.program.ir import Binary, Expr, Index, Program, Read, Reduce, Size, Tensor, walk


@dataclass(frozen=True)
class Axes:
    """Where a tensor has the heads and the sequence, None where it has none.

    `size` names its number of heads: the op's heads, or fewer of them that groups share; "" where it has none.
    """

    tensor: Tensor
    heads: int | None
    size: str
    sequence: int | None


@dataclass(frozen=True)
class HeadAxes:
    """`heads` is the size that is shared, `groups` the sizes G of tensors that are read at head h // (heads // G)."""

    heads: str
    groups: frozenset[str]
    inputs: tuple[Axes, ...]
    outputs: tuple[Axes, ...]


def head_axes(program: Program, heads: str, sequence: Sequence[str]) -> HeadAxes:
    """Where the tensors of an op have its heads and its sequence, whose sizes are called so.

    A part of the heads must be the op itself at fewer heads: no reduction over heads, no use of a head's number or of
    the number of heads as a value. A tensor with several axes of the sequence has it along the first.

    DiagnosticError: E542 where the op has no such sizes, E543 where its heads depend on each other or on their number.
    """
    if heads not in program.sizes:
        known = ", ".join(program.sizes)
        hint = did_you_mean(heads, program.sizes) or f"its sizes are {known}; say which one counts the heads"
        raise _error("E542", f"{program.name} has no size {heads}", program.span, hint)
    shared = _Shared(program, heads)
    problem = next(shared.problems(), None)
    if problem is not None:
        span, reason = problem
        message = f"the heads of {program.name} cannot be divided among cards: {reason}"
        raise _error("E543", message, span, "a card computes its heads as if there were no others")
    found = HeadAxes(
        heads,
        shared.groups,
        tuple(_axes(t, shared.sizes, sequence) for t in program.inputs),
        tuple(_axes(t, shared.sizes, sequence) for t in program.outputs),
    )
    if all(a.sequence is None or a.heads is None for a in (*found.inputs, *found.outputs)):
        names = " or ".join(sequence)
        hint = f"its sizes are {', '.join(program.sizes)}; say which ones count the sequence"
        raise _error("E542", f"no tensor of {program.name} has an axis {names} beside {heads}", program.span, hint)
    return found


def has_axis(tensor: Tensor, sizes: Sequence[str]) -> bool:
    """Whether one of the sizes is the extent of an axis."""
    return any(isinstance(e, Size) and e.name in sizes for e in tensor.shape)


def _axes(tensor: Tensor, sizes: frozenset[str], sequence: Sequence[str]) -> Axes:
    names = [e.name if isinstance(e, Size) else "" for e in tensor.shape]
    heads = next((i for i, name in enumerate(names) if name in sizes), None)
    along = next((i for i, name in enumerate(names) if name in sequence), None)
    return Axes(tensor, heads, names[heads] if heads is not None else "", along)


class _Shared:
    """`sizes` are the heads and their groups, `_counts` maps each index over one of them to that size."""

    def __init__(self, program: Program, heads: str) -> None:
        self._program = program
        self._heads = heads
        self.groups = frozenset[str]()
        self._counts = self._indices_of(frozenset({heads}))
        self.groups = frozenset(g for e in _expressions(program) for x in walk(e) if (g := self._group(x)))
        self.sizes = self.groups | {heads}
        self._counts = self._indices_of(self.sizes)

    def problems(self) -> Iterator[tuple[Span, str]]:
        """Where a head is more than one of many that are alike, and why."""
        for tensor in self._program.tensors:
            for extent in tensor.shape:
                if not isinstance(extent, Size):
                    yield from self._values(extent)
            if sum(isinstance(e, Size) and e.name in self.sizes for e in tensor.shape) > 1:
                yield tensor.span, f"{tensor.name} has more than one axis of heads"
        for r in self._program.indices:
            if r.name not in self._counts:
                yield from (p for e in (r.low, r.high) for p in self._values(e))
        for attribute in self._program.attributes:
            if attribute.default is not None:
                yield from self._values(attribute.default)
        for statement in self._program.body:
            if isinstance(statement, ir.Scan) and statement.index in self._counts:
                yield statement.span, f"the scan over {statement.index} goes from head to head"
        for e in _expressions(self._program):
            yield from self._values(e)

    def _values(self, e: Expr) -> Iterator[tuple[Span, str]]:
        match e:
            case Index() if e.name in self._counts:
                yield e.span, f"{e.name}, the number of a head, is a value here"
            case Size() if e.name in self.sizes:
                yield e.span, f"{e.name}, how many heads there are, is a value here"
            case Reduce() if any(i in self._counts for i in e.indices):
                yield e.span, f"{e.kind} goes over heads"
            case Read():
                shape = self._program.tensor(e.tensor).shape
                for extent, i in zip(shape, e.indices, strict=True):
                    yield from self._place(e.tensor, extent, i)
                return
            case _:
                pass
        for child in ir.children(e):
            yield from self._values(child)

    def _place(self, tensor: str, extent: Expr, i: Expr) -> Iterator[tuple[Span, str]]:
        """An index of a read: along heads it is that of a head, or of a head's group."""
        if not (isinstance(extent, Size) and extent.name in self.sizes):
            yield from self._values(i)
        elif extent.name not in (self._number(i), self._group(i)):
            yield i.span, f"{tensor} is read at a head that is not the one computed"

    def _number(self, e: Expr) -> str:
        """H of an index over H heads, "" for anything else."""
        return self._counts.get(e.name, "") if isinstance(e, Index) else ""

    def _group(self, e: Expr) -> str:
        """G of `h // (heads // G)`, "" for anything else."""
        match e:
            case Binary("//", h, Binary("//", Size(n), Size(g))) if self._number(h) == n == self._heads:
                return g
            case _:
                return ""

    def _indices_of(self, sizes: frozenset[str]) -> dict[str, str]:
        return {
            r.name: r.high.name
            for r in self._program.indices
            if isinstance(r.high, Size) and r.high.name in sizes and isinstance(r.low, ir.Literal) and r.low.value == 0
        }


def _expressions(program: Program) -> Iterator[Expr]:
    """Everything that is computed, contracts apart: a card checks them at its own sizes."""
    for statement in program.body:
        match statement:
            case ir.Equation():
                yield from _present(statement.value, statement.domain)
            case ir.Scan():
                yield from (s.initial for s in statement.states)
                for step in statement.body:
                    yield from _present(step.value, step.domain)


def _present(*parts: Expr | None) -> Iterator[Expr]:
    return (p for p in parts if p is not None)


def _error(id: str, message: str, span: Span, hint: str) -> DiagnosticError:
    return DiagnosticError((Diagnostic(id, message, span, hint),))
