"""Equations of one tensor may not overlap, anywhere, visited or not. What cannot be proved is checked at run time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tpcgen.diagnostics import Diagnostic, Label
from tpcgen.interpreter.errors import InterpreterError
from tpcgen.interpreter.frame import Axis, Box, Frame
from tpcgen.interpreter.value import Array, holds
from tpcgen.program import ir

if TYPE_CHECKING:
    from tpcgen.interpreter.evaluate import Evaluator


def covered(evaluator: Evaluator, equation: ir.Equation, box: Box, outer: Frame) -> Array:
    """Where in a box of its target the domain of an equation holds; `outer` are axes of one value around it."""
    axes = tuple(Axis(name, *span) for name, span in zip(equation.indices, box, strict=True))
    shape = tuple(a.size for a in axes)
    mask = np.ones(shape, np.bool_)
    for at, axis in enumerate(axes):
        low, high = evaluator.range_of(axis.name)
        points = np.arange(axis.low, axis.low + axis.size)
        outside = (points < low) | (points >= high)
        mask[(slice(None),) * at + (outside,)] = False
    if equation.domain is not None:
        held = holds(evaluator.evaluate(equation.domain, outer + axes))
        mask &= np.reshape(held, held.shape[len(outer) :])
    return mask


def check_overlap(one: ir.Equation, a: Array, other: ir.Equation, b: Array, box: Box) -> None:
    """InterpreterError E353 where both cover a point of the box."""
    both = a & b
    if not both.any():
        return
    point = [low + int(i) for (low, _), i in zip(box, np.argwhere(both)[0], strict=True)]
    message = f"two equations define {one.target}{point}"
    hint = "their domains must be disjoint at every point, visited or not"
    raise InterpreterError((Diagnostic("E353", message, other.span, hint, (Label(one.span, "the other one"),)),))


@dataclass
class Cover:
    """What the equations of a scan have covered so far."""

    evaluator: Evaluator
    _seen: dict[str, list[tuple[ir.Equation, Box, Array]]] = field(
        default_factory=dict[str, list[tuple[ir.Equation, Box, Array]]]
    )

    def forget(self, tensor: str) -> None:
        self._seen.pop(tensor, None)

    def add(self, equation: ir.Equation, box: Box, outer: Frame) -> None:
        """InterpreterError E353 where another equation covered the same point at the same box."""
        if not self.evaluator.is_piecewise(equation.target):
            return
        mask = covered(self.evaluator, equation, box, outer)
        earlier = [x for x in self._seen.get(equation.target, []) if x[1] == box]
        for other, _, its in earlier:
            check_overlap(other, its, equation, mask, box)
        for other in self.evaluator.equations_of(equation.target):
            check_overlap(other, covered(self.evaluator, other, box, ()), equation, mask, box)
        self._seen[equation.target] = [*earlier, (equation, box, mask)]
