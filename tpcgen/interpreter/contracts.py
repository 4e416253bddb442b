"""Contracts of a program on the values of its inputs. Those that read no tensor are checked when sizes are bound."""

from __future__ import annotations

import numpy as np

from tpcgen.interpreter.errors import fail
from tpcgen.interpreter.evaluate import Evaluator
from tpcgen.interpreter.frame import Axis, Frame
from tpcgen.interpreter.value import Array
from tpcgen.program import ir


def check(evaluator: Evaluator) -> None:
    """InterpreterError E354 at the first contract that is violated, with the point."""
    for contract in evaluator.program.contracts:
        if not contract.on_values:
            continue
        frame, wrong = violations(evaluator, contract)
        if wrong.any():
            point = np.argwhere(wrong)[0]
            place = ", ".join(f"{a.name} = {a.low + int(i)}" for a, i in zip(frame, point, strict=True))
            raise fail("E354", "the inputs violate this contract" + (f" at {place}" if place else ""), contract.span)


def violations(evaluator: Evaluator, contract: ir.Contract) -> tuple[Frame, Array]:
    """The frame of the contract's indices and where in it the contract does not hold.

    It says nothing where its reads leave their tensors.
    """
    frame = tuple(Axis(name, *evaluator.range_of(name)) for name in contract.indices)
    with np.errstate(all="ignore"):
        held = evaluator.evaluate(contract.condition, frame)
    wrong = ~held.data if held.present is None else ~held.data & held.present
    return frame, np.broadcast_to(wrong, tuple(a.size for a in frame))
