"""The self-test of an emitted operator: does what is installed here compute what the mathematics says?"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tpcgen.host.launch import Array
from tpcgen.interpreter import run
from tpcgen.interpreter.compare import judge
from tpcgen.interpreter.inputs import draw
from tpcgen.program import load, sizes
from tpcgen.program.ir import Program
from tpcgen.torch.arrays import array, tensor

_SEED = 20260


def selftest(
    spec: Path,
    functions: Mapping[str, Callable[..., Any]],
    gradients: Mapping[str, Callable[..., Any]],
    values: Mapping[str, int | float],
    *,
    load_hpu: Callable[[], None],
) -> None:
    """Run every function, by the name of its op in `spec`, at these sizes and attributes, on HPU where there is one.
    `gradients` are judged as such.

    ImportError that names each output which is further from the truth than the pass rule of interpreter/compare.py
    allows, or 0 everywhere where the truth is not.
    """
    device = "hpu" if importlib.util.find_spec("habana_frameworks") is not None else "cpu"
    if device == "hpu":
        load_hpu()
    module = load(spec)
    wrong = [
        line
        for made, is_gradient in ((functions, False), (gradients, True))
        for op, f in made.items()
        for line in _wrong(module.program(op), f, values, device, is_gradient)
    ]
    if wrong:
        raise ImportError("the self-test failed on " + device + ":\n" + "\n".join(wrong))


def _wrong(
    program: Program,
    function: Callable[..., Any],
    values: Mapping[str, int | float],
    device: str,
    gradient: bool,
) -> list[str]:
    binding = sizes.bind(program, values)
    inputs = draw(program, binding, np.random.default_rng(_SEED))
    attributes = {a.name: binding.values[a.name] for a in program.attributes}
    with torch.no_grad():
        found: Any = function(*(tensor(inputs[t.name]).to(device) for t in program.inputs), *attributes.values())
    results: tuple[torch.Tensor, ...] = (found,) if isinstance(found, torch.Tensor) else found
    truth, rounded = run(program, inputs, attributes), run(program, inputs, attributes, mode="device")
    lines: list[str] = []
    for t, result in zip(program.outputs, results, strict=True):
        made: Array = array(result.cpu().contiguous())
        verdict = judge(made, truth[t.name], rounded[t.name], gradient=gradient)
        if not verdict.passed:
            lines.append(f"{program.name}: {t.name}: {verdict.reason}")
    return lines
