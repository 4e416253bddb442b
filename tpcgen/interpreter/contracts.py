"""Contracts of a program on the values of its inputs. Those that read no tensor are checked when sizes are bound."""

from __future__ import annotations

import numpy as np

from tpcgen.interpreter.errors import fail
from tpcgen.interpreter.evaluate import Axis, Evaluator
from tpcgen.program import ir


def check(evaluator: Evaluator) -> None:
    """InterpreterError E354 at the first contract that is violated, with the point."""
    for contract in evaluator.program.contracts:
        if not contract.on_values:
            continue
        point = violation(evaluator, contract)
        if point is not None:
            place = ", ".join(f"{name} = {i}" for name, i in point.items())
            raise fail("E354", "the inputs violate this contract" + (f" at {place}" if place else ""), contract.span)


def violation(evaluator: Evaluator, contract: ir.Contract) -> dict[str, int] | None:
    """The first point where the contract does not hold. It is silent where its reads leave their tensors."""
    frame = tuple(Axis(name, *evaluator.range_of(name)) for name in contract.indices)
    held = evaluator.evaluate(contract.condition, frame)
    wrong = ~held.data if held.present is None else ~held.data & held.present
    wrong = np.broadcast_to(wrong, tuple(a.size for a in frame))
    if not wrong.any():
        return None
    place = np.argwhere(wrong)[0]
    return {a.name: a.low + int(i) for a, i in zip(frame, place, strict=True)}
