"""Running plans on NumPy: matmuls by einsum over factors, TPC stages by the interpreter on the stage's own program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tpcgen.interpreter import run
from tpcgen.partition.plan import CopyStage, MmeStage, MoveStage, Operand, Plan, TpcStage
from tpcgen.program import ir, load, sizes

EXAMPLES = Path(__file__).parents[2] / "examples"


def _example(name: str, dtype: str = "bf16") -> ir.Program:
    return load(str(EXAMPLES / f"{name}.dsl")).program(name, T=dtype)


def _random_inputs(program: ir.Program, values: Mapping[str, float], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    binding = sizes.bind(program, dict(values))
    return {t.name: rng.standard_normal(binding.shape(t)).astype(t.dtype.numpy) for t in program.inputs}


def _execute(
    plan: Plan, inputs: Mapping[str, np.ndarray], values: Mapping[str, float], mode: str
) -> dict[str, np.ndarray]:
    """Outputs of a plan. Arrays between stages have their buffers' memory order, as torch tensors would."""
    bound = sizes.bind(plan.program, dict(values)).values
    arrays = {name: np.asarray(a) for name, a in inputs.items()}
    for stage in plan.stages:
        match stage:
            case MmeStage():
                arrays[stage.out.buffer] = _matmul(plan, stage, arrays, bound, mode)
            case TpcStage():
                given = {t.name: arrays[t.name] for t in stage.program.inputs}
                scalars = {a.name: bound[a.name] for a in stage.program.attributes}
                arrays |= run(stage.program, given, scalars, mode=mode)
            case CopyStage():
                sources = {t.name: plan.buffer(t.name).order for t in stage.program.inputs}
                given = {name: arrays[name].transpose(np.argsort(order)) for name, order in sources.items()}
                scalars = {a.name: bound[a.name] for a in stage.program.attributes}
                (made,) = run(stage.program, given, scalars, mode=mode).values()
                arrays[stage.copy.target] = made.transpose(plan.buffer(stage.copy.target).order)
            case MoveStage():
                source, target = plan.buffer(stage.source), plan.buffer(stage.target)
                axes = [source.order.index(a) for a in target.order]
                arrays[stage.target] = np.ascontiguousarray(arrays[stage.source].transpose(axes))
    for name, array in arrays.items():
        buffer = plan.buffer(name)
        assert array.shape == tuple(sizes.evaluate(buffer.shape[a], bound) for a in buffer.order), name
    return {t.name: arrays[t.name] for t in plan.program.outputs}


def _matmul(
    plan: Plan, stage: MmeStage, arrays: dict[str, np.ndarray], bound: Mapping[str, float], mode: str
) -> np.ndarray:
    extent = {f.name: int(sizes.evaluate(f.extent, bound)) for f in stage.factors}
    letters = {f.name: chr(ord("a") + i) for i, f in enumerate(stage.factors)}
    wide = np.float64 if mode == "exact" else np.float32

    def memory(o: Operand) -> list[str]:
        return [f for axis in plan.buffer(o.buffer).order for f in o.axes[axis]]

    def split(o: Operand) -> np.ndarray:
        return arrays[o.buffer].astype(wide).reshape([extent[f] for f in memory(o)])

    def word(o: Operand) -> str:
        return "".join(letters[f] for f in memory(o))

    word_of_all = f"{word(stage.lhs)},{word(stage.rhs)}->{word(stage.out)}"
    with np.errstate(all="ignore"):
        result = np.einsum(word_of_all, split(stage.lhs), split(stage.rhs), optimize=True)
    out = plan.buffer(stage.out.buffer)
    shape = [int(sizes.evaluate(out.shape[a], bound)) for a in out.order]
    return result.reshape(shape).astype(wide if mode == "exact" else out.dtype.numpy)


@pytest.fixture
def example() -> Callable[..., ir.Program]:
    """`example("causal", "f32")`: the program of an example."""
    return _example


@pytest.fixture
def random_inputs() -> Callable[..., dict[str, np.ndarray]]:
    """`random_inputs(program, sizes_and_attributes, seed=0)`: normal values in the inputs' dtypes."""
    return _random_inputs


@pytest.fixture
def execute() -> Callable[..., dict[str, np.ndarray]]:
    """`execute(plan, inputs, sizes_and_attributes, mode)`."""
    return _execute
