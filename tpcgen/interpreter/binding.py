"""The inputs of a run against what the program says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tpcgen.interpreter.errors import fail
from tpcgen.interpreter.evaluate import Mode
from tpcgen.interpreter.value import Array
from tpcgen.program import ir, sizes


def bind(
    program: ir.Program, inputs: Mapping[str, Array], values: Mapping[str, int | float], mode: Mode
) -> sizes.Binding:
    """Sizes from the shapes of the inputs and from `values`, attributes from `values`.

    DiagnosticError as `sizes.bind_shapes` raises it (shapes, sizes, contracts that read no tensor), and E355 for a
    dtype that is not the program's.
    """
    binding = sizes.bind_shapes(program, {name: array.shape for name, array in inputs.items()}, values)
    for tensor in program.inputs:
        _has_dtype(tensor, inputs[tensor.name].dtype, mode)
    return binding


def _has_dtype(tensor: ir.Tensor, given: np.dtype[Any], mode: Mode) -> None:
    wide = mode == "exact" and tensor.dtype.is_float and given in (np.dtype(np.float64), np.dtype(np.float32))
    if given == tensor.dtype.numpy or wide:
        return
    hint = "exact mode takes float64 and float32 too" if tensor.dtype.is_float else ""
    raise fail("E355", f"{tensor.name} has dtype {given}, the program says {tensor.dtype}", tensor.span, hint)
