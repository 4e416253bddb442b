"""Gradients against central differences, both in float64 by the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tpcgen.interpreter import run
from tpcgen.interpreter.inputs import draw
from tpcgen.program import ir, sizes

STEP = 1e-5


def widened(program: ir.Program, inputs: Mapping[str, Any]) -> dict[str, Any]:
    real = {t.name for t in program.inputs if t.dtype.is_float}
    return {name: x.astype(np.float64) if name in real else x for name, x in inputs.items()}


def compare(program: ir.Program, gradient: ir.Program, values: Mapping[str, int | float], seed: int = 0) -> None:
    """Every gradient along a random direction, at inputs that satisfy the contracts, for a random cotangent.

    Differences of a loss of size 1 are off by STEP ** 2 and by 1e-16 / STEP.
    """
    rng = np.random.default_rng(seed)
    binding = sizes.bind(program, values)
    inputs = widened(program, draw(program, binding, rng))
    attributes = {a.name: binding.values[a.name] for a in program.attributes}
    found = run(program, inputs, attributes)
    real = [t for t in program.outputs if t.dtype.is_float]
    cotangents = {f"d{t.name}": rng.standard_normal(found[t.name].shape) for t in real}
    made = run(gradient, {**inputs, **cotangents}, attributes)
    assert len(made) == len(gradient.outputs)

    def loss(name: str, at: Any) -> float:
        results = run(program, {**inputs, name: at}, attributes)
        return sum(float((results[t.name] * cotangents[f"d{t.name}"]).sum()) for t in real)

    for output in gradient.outputs:
        name = output.name.removeprefix("d")
        x, dx = inputs[name], made[output.name]
        assert dx.shape == x.shape and np.isfinite(dx).all(), name
        direction = rng.choice([-1.0, 1.0], x.shape) * rng.uniform(0.5, 1.0, x.shape)
        step = STEP * max(np.abs(x).min(initial=1.0), 1e-2)
        slope = (loss(name, x + step * direction) - loss(name, x - step * direction)) / (2 * step)
        expected = float((dx * direction).sum())
        size = np.abs(dx * direction).sum() + np.abs(loss(name, x)) * 1e-3 + 1e-3
        assert abs(slope - expected) <= 1e-6 * size, f"{name}: {expected} by vjp, {slope} by differences"
