"""Which elements of the inputs a run visits: from the outputs down, at least those that language.md says.

The second way to the same rules as the presence algebra of `value.py`, from readers to what they read. Where it is not
exact it errs on the side of a visit: an element it does not name may hold anything.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from tpcgen.interpreter import value
from tpcgen.interpreter.evaluate import Evaluator, factors_of
from tpcgen.interpreter.frame import Axis, Frame
from tpcgen.interpreter.value import Array
from tpcgen.program import ir


def visited(evaluator: Evaluator) -> dict[str, Array]:
    """A mask for each input. Evaluates whole tensors at once: for sizes at which that is cheap."""
    search = _Search(evaluator)
    with evaluator.unbounded(), np.errstate(all="ignore"):
        for tensor in evaluator.program.outputs:
            search.mask(tensor.name)[...] = True
        for statement in reversed(evaluator.program.body):
            search.statement(statement)
    return {t.name: search.mask(t.name) for t in evaluator.program.inputs}


@dataclass
class _Search:
    evaluator: Evaluator
    _masks: dict[str, Array] = field(default_factory=dict[str, Array])

    def mask(self, tensor: str) -> Array:
        if tensor not in self._masks:
            self._masks[tensor] = np.zeros(self.evaluator.shape_of(tensor), np.bool_)
        return self._masks[tensor]

    def statement(self, s: ir.Statement) -> None:
        match s:
            case ir.Scan():
                self._scan(s)
            case ir.Equation():
                frame = self._frame(s.indices)
                mask = self.mask(s.target)[(..., *(slice(a.low, a.low + a.size) for a in frame))]
                self._under(s.domain, frame, mask, s.value)

    def _scan(self, scan: ir.Scan) -> None:
        """Everything a scan reads counts as visited, everywhere."""
        initials = [s.initial for s in scan.states]
        domains = [s.domain for s in scan.body if s.domain is not None]
        for e in (*initials, *domains, *(s.value for s in scan.body)):
            for x in ir.walk(e):
                if isinstance(x, ir.Read):
                    self.mask(x.tensor)[...] = True

    def _frame(self, names: tuple[str, ...]) -> Frame:
        return tuple(Axis(name, *self.evaluator.range_of(name)) for name in names)

    def _under(self, domain: ir.Expr | None, frame: Frame, mask: Array, body: ir.Expr) -> None:
        """`body` is visited where `domain`, which is, holds."""
        if domain is not None:
            self._visit(domain, frame, mask)
            mask = mask & value.holds(self.evaluator.evaluate(domain, frame))
        self._visit(body, frame, mask)

    def _visit(self, e: ir.Expr, frame: Frame, mask: Array) -> None:
        """`mask` has the shape of the frame."""
        if not any(isinstance(x, ir.Read) for x in ir.walk(e)):
            return
        match e:
            case ir.Read():
                self._read(e, frame, mask)
            case ir.Binary(operator="*"):
                self._product(factors_of(e), frame, mask)
            case ir.Call(function="select"):
                condition, a, b = e.arguments
                chosen = self.evaluator.evaluate(condition, frame)
                known = True if chosen.present is None else chosen.present
                self._visit(condition, frame, mask)
                self._visit(a, frame, mask & known & chosen.data)
                self._visit(b, frame, mask & known & ~chosen.data)
            case ir.Call(function="default"):
                x, v = e.arguments
                there = self.evaluator.evaluate(x, frame).present
                self._visit(x, frame, mask)
                if there is not None:
                    self._visit(v, frame, mask & ~there)
            case ir.Reduce():
                self._reduce(e, frame, mask)
            case _:
                for child in ir.children(e):
                    self._visit(child, frame, mask)

    def _product(self, factors: list[ir.Expr], frame: Frame, mask: Array) -> None:
        """A factor is not visited where another one is absent, unless it is absent too: one of them says so."""
        missing = [value.absent(self.evaluator.evaluate(f, frame)) for f in factors]
        for i, factor in enumerate(factors):
            others = [m for j, m in enumerate(missing) if j != i and m is not None]
            own = missing[i]
            unseen = functools.reduce(np.logical_or, others, np.False_)
            self._visit(factor, frame, mask & ~(unseen if own is None else unseen & ~own))

    def _read(self, e: ir.Read, frame: Frame, mask: Array) -> None:
        where = [self.evaluator.evaluate(i, frame) for i in e.indices]
        for i in e.indices:
            self._visit(i, frame, mask)
        for w, extent in zip(where, self.evaluator.shape_of(e.tensor), strict=True):
            mask = mask & (w.data >= 0) & (w.data < extent)
            mask = mask if w.present is None else mask & w.present
        self.mask(e.tensor)[(..., *(np.broadcast_to(w.data, mask.shape)[mask] for w in where))] = True

    def _reduce(self, e: ir.Reduce, frame: Frame, mask: Array) -> None:
        inner = frame + tuple(Axis(name, *self.evaluator.range_of(name)) for name in e.indices)
        if e.kind in ir.KEEPS_INDICES:
            hidden = tuple(i for i, a in enumerate(frame) if a.name in e.indices)
            mask = np.asarray(mask.any(axis=hidden, keepdims=True))
        mask = np.reshape(mask, mask.shape + (1,) * len(e.indices))
        spread = np.broadcast_to(mask, mask.shape[: len(frame)] + tuple(a.size for a in inner[len(frame) :]))
        if e.sink is not None:
            self._visit(e.sink, frame, np.reshape(mask, mask.shape[: len(frame)]))
        self._under(e.domain, inner, spread, e.body)
