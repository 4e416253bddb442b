"""Scans: step by step, states and what outlives the scan stored whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tpcgen.interpreter import value
from tpcgen.interpreter.disjoint import Cover
from tpcgen.interpreter.frame import Axis, Box
from tpcgen.interpreter.value import Value
from tpcgen.program import ir

if TYPE_CHECKING:
    from tpcgen.interpreter.evaluate import Evaluator


def defined_by(scan: ir.Scan) -> list[str]:
    """States and the tensors that outlive the scan."""
    return [s.state for s in scan.states] + list(dict.fromkeys(s.target for s in _outliving(scan)))


def _outliving(scan: ir.Scan) -> list[ir.Equation]:
    return [s for s in scan.body if isinstance(s, ir.Equation) and scan.index in s.indices]


def run(evaluator: Evaluator, scan: ir.Scan) -> None:
    """Run all steps, once: `evaluator.stored` gets the last states and everything written at t."""
    low, high = evaluator.range_of(scan.index)
    passing = {s.target for s in scan.body if isinstance(s, ir.Equation)} - {s.target for s in _outliving(scan)}
    cover = Cover(evaluator)
    with evaluator.unbounded():
        _start(evaluator, scan)
        for t in range(high - 1, low - 1, -1) if scan.reverse else range(low, high):
            for name in passing:
                evaluator.stored.pop(name, None)
                cover.forget(name)
            for s in scan.body:
                _step(evaluator, s, Axis(scan.index, t, t + 1), cover)
    for name in passing:
        evaluator.stored.pop(name, None)


def _start(evaluator: Evaluator, scan: ir.Scan) -> None:
    for state in scan.states:
        shape = evaluator.shape_of(state.state)
        axes = tuple(Axis(name, 0, n) for name, n in zip(state.indices, shape, strict=True))
        initial = evaluator.round(evaluator.evaluate(state.initial, axes), evaluator.dtype_of(state.state))
        evaluator.stored[state.state] = _dense(initial, shape)
    for s in _outliving(scan):
        if s.target not in evaluator.stored:
            shape, kind = evaluator.shape_of(s.target), evaluator.kind(evaluator.dtype_of(s.target))
            evaluator.stored[s.target] = Value(np.zeros(shape, kind), np.zeros(shape, np.bool_))


def _step(evaluator: Evaluator, s: ir.Equation | ir.Update, t: Axis, cover: Cover) -> None:
    stored = evaluator.stored
    match s:
        case ir.Update():
            shape = evaluator.shape_of(s.state)
            axes = (t, *(Axis(name, 0, n) for name, n in zip(s.indices, shape, strict=True)))
            new = evaluator.round(evaluator.where(s.value, s.domain, axes), evaluator.dtype_of(s.state))
            new = new.map(lambda a: a[0])
            stored[s.state] = _dense(value.default(new, stored[s.state]), shape)
        case ir.Equation() if t.name in s.indices:
            shape = evaluator.shape_of(s.target)
            box = tuple((t.low, t.high) if i == t.name else (0, n) for i, n in zip(s.indices, shape, strict=True))
            cover.add(s, box, ())
            stored[s.target] = _write(stored[s.target], evaluator.equation(s, box, ()), box)
        case ir.Equation():
            box = tuple((0, n) for n in evaluator.shape_of(s.target))
            cover.add(s, box, (t,))
            new = evaluator.equation(s, box, (t,))
            old = stored.get(s.target)
            stored[s.target] = new if old is None else value.merge(old, new)


def _dense(v: Value, shape: tuple[int, ...]) -> Value:
    return v.map(lambda a: np.broadcast_to(a, shape))


def _write(whole: Value, part: Value, box: Box) -> Value:
    """`part` written over a box of arrays that nobody else holds."""
    at = (..., *(slice(*s) for s in box))
    old = Value(whole.data[at], None if whole.present is None else whole.present[at])
    merged = value.merge(old, part)
    assert whole.present is not None
    whole.data[at] = merged.data
    whole.present[at] = True if merged.present is None else merged.present
    fault = whole.fault
    if merged.fault is not None:
        fault = np.zeros(whole.data.shape, np.int64) if fault is None else fault
        fault[at] = np.maximum(fault[at], merged.fault)
    return Value(whole.data, whole.present, fault)
