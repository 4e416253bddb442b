"""Sizes and attributes of a run: what the shapes of the inputs bind, what the caller gives, and their agreement."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tpcgen.interpreter.errors import fail
from tpcgen.interpreter.evaluate import Evaluator, Mode
from tpcgen.interpreter.value import Array
from tpcgen.program import ir


def bind(
    program: ir.Program, inputs: Mapping[str, Array], values: Mapping[str, int | float], mode: Mode, limit: int
) -> Evaluator:
    """An evaluator for inputs that fit the program. InterpreterError E355 where they do not."""
    _names_agree(program, inputs)
    known = _bound(program, inputs, values)
    _attributes(program, known)
    evaluator = Evaluator(program, inputs, known, mode, limit)
    for tensor in program.inputs:
        _fits(evaluator, tensor, inputs[tensor.name])
    return evaluator


def _names_agree(program: ir.Program, inputs: Mapping[str, Array]) -> None:
    expected = {t.name: t for t in program.inputs}
    for name, tensor in expected.items():
        if name not in inputs:
            raise fail("E355", f"input {name} of {program.name} is missing", tensor.span)
    for name in inputs:
        if name not in expected:
            raise fail("E355", f"{program.name} has no input {name}; its inputs are {', '.join(expected)}", program.span)


def _bound(
    program: ir.Program, inputs: Mapping[str, Array], values: Mapping[str, int | float]
) -> dict[str, int | float]:
    known = dict(values)
    for tensor in program.inputs:
        shape = inputs[tensor.name].shape
        if len(shape) != len(tensor.shape):
            message = f"{tensor.name} has {len(shape)} axes, the program says {len(tensor.shape)}"
            raise fail("E355", message, tensor.span)
        for extent, n in zip(tensor.shape, shape, strict=True):
            if isinstance(extent, ir.Size) and known.setdefault(extent.name, n) != n:
                message = f"size {extent.name} is {n} in the shape of {tensor.name} and {known[extent.name]} elsewhere"
                raise fail("E355", message, tensor.span)
    for size in program.sizes:
        if size not in known:
            raise fail("E355", f"size {size} of {program.name} is bound by no input and not given", program.span)
    return known


def _attributes(program: ir.Program, known: dict[str, int | float]) -> None:
    for attribute in program.attributes:
        if attribute.name in known:
            continue
        if attribute.default is None:
            raise fail("E355", f"attribute {attribute.name} of {program.name} is not given", attribute.span)
        known[attribute.name] = constant(attribute.default, known)


def constant(e: ir.Expr, values: Mapping[str, int | float]) -> int | float:
    """An expression of sizes and attributes, in float64 and i32."""
    nothing = ir.Program("", (), (), (), (), (), ())
    return Evaluator(nothing, {}, values, "exact", 1).evaluate(e, ()).data.item()


def _fits(evaluator: Evaluator, tensor: ir.Tensor, array: Array) -> None:
    shape = evaluator.shape_of(tensor.name)
    if array.shape != shape:
        raise fail("E355", f"{tensor.name} has shape {list(array.shape)}, the program says {list(shape)}", tensor.span)
    wide = evaluator.mode == "exact" and tensor.dtype.is_float and array.dtype in (np.float64, np.float32)
    if array.dtype != tensor.dtype.numpy and not wide:
        message = f"{tensor.name} has dtype {array.dtype}, the program says {tensor.dtype}"
        hint = "exact mode also takes float64 and float32" if tensor.dtype.is_float else ""
        raise fail("E355", message, tensor.span, hint)


