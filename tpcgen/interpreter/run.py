"""Running a program on NumPy arrays, output block by output block."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from tpcgen.interpreter import binding, contracts
from tpcgen.interpreter.disjoint import check_overlap, covered
from tpcgen.interpreter.errors import InterpreterError
from tpcgen.interpreter.evaluate import Evaluator, Mode, TooLargeError
from tpcgen.interpreter.frame import Box
from tpcgen.interpreter.value import Array
from tpcgen.program import ir

BLOCK = 1 << 22
"""Elements of the largest array made at once: 32 MB in float64. A block of an output is made smaller until it fits."""


def run(
    program: ir.Program,
    inputs: Mapping[str, Array],
    values: Mapping[str, int | float],
    *,
    mode: Mode = "exact",
    check_values: bool = False,
    block: int = BLOCK,
) -> dict[str, Array]:
    """The outputs of a program, absent elements stored as 0.

    `inputs`: one array per input tensor, in its dtype (exact mode takes float64 and float32 for any float dtype).
    `values`: attributes without a default, and the sizes that no shape binds.
    exact: computed in float64 without rounding; float outputs are float64. device: float32 arithmetic, rounded where
    the program stores or casts; outputs have their own dtypes.
    `check_values`: contracts on the values of inputs are checked too.
    Raises DiagnosticError for inputs that do not fit the program, InterpreterError (E351 to E354) while it runs.
    """
    evaluator = Evaluator(binding.bind(program, inputs, values, mode), inputs, mode, block)
    with np.errstate(all="ignore"):
        if check_values:
            contracts.check(evaluator)
        for tensor in program.tensors:
            _check_disjoint(evaluator, tensor.name)
        return {tensor.name: _output(evaluator, tensor) for tensor in program.outputs}


def _output(evaluator: Evaluator, tensor: ir.Tensor) -> Array:
    shape = evaluator.shape_of(tensor.name)
    wide = evaluator.mode == "exact" and tensor.dtype.is_float
    result = np.zeros(shape, np.float64 if wide else tensor.dtype.numpy)

    def store(box: Box) -> None:
        part = evaluator.box(tensor.name, box)
        if part.fault is not None and part.fault.any():
            raise InterpreterError((evaluator.faults.diagnostic(int(part.fault[part.fault != 0].min())),))
        data = part.data if part.present is None else np.where(part.present, part.data, part.data.dtype.type(0))
        result[(..., *(slice(*s) for s in box))] = data.astype(result.dtype)

    over_blocks(evaluator, tuple((0, n) for n in shape), store)
    return result


def over_blocks(evaluator: Evaluator, box: Box, visit: Callable[[Box], None]) -> None:
    """Visit a box in blocks small enough for `visit` not to raise TooLargeError; outer axes are split first.

    An axis whose halving does not lessen the need is left whole; where none does, the limit is lifted.
    """
    steps = [high - low for low, high in box]
    if not all(steps):
        return
    candidates = list(range(len(steps)))
    needed, halved = 0, 0
    while True:
        try:
            visit(tuple((low, low + step) for (low, _), step in zip(box, steps, strict=True)))
            break
        except TooLargeError as refused:
            if refused.elements == needed:
                steps[candidates.pop(0)] = halved
            needed = refused.elements
            while candidates and steps[candidates[0]] == 1:
                candidates.pop(0)
            if not candidates:
                with evaluator.unbounded():
                    visit(tuple((low, low + step) for (low, _), step in zip(box, steps, strict=True)))
                break
            halved = steps[candidates[0]]
            steps[candidates[0]] = (halved + 1) // 2
    blocks = itertools.product(*(range(low, high, step) for (low, high), step in zip(box, steps, strict=True)))
    for corner in itertools.islice(blocks, 1, None):
        part = tuple((at, min(at + step, high)) for at, step, (_, high) in zip(corner, steps, box, strict=True))
        over_blocks(evaluator, part, visit)


def _check_disjoint(evaluator: Evaluator, tensor: str) -> None:
    """Equations outside scans; those inside are checked at each step."""
    whole = tuple((0, n) for n in evaluator.shape_of(tensor))
    for one, other in itertools.combinations(evaluator.equations_of(tensor), 2):

        def visit(box: Box, one: ir.Equation = one, other: ir.Equation = other) -> None:
            masks = (covered(evaluator, e, box, ()) for e in (one, other))
            check_overlap(one, next(masks), other, next(masks), box)

        over_blocks(evaluator, whole, visit)
