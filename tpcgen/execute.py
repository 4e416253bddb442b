"""A plan run stage by stage on NumPy arrays: TPC stages strictly on the host device through the artifact's glue, MME
stages as matmuls, moves as copies.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tpcgen import interpreter
from tpcgen.emit.artifact import Variant
from tpcgen.host.api import HostLibrary, Launch, RunReport, Session
from tpcgen.host.launch import Array
from tpcgen.partition.plan import Buffer, CopyStage, MmeStage, MoveStage, Operand, Plan, TpcStage
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import Binding, bind_shapes


class StageError(Exception):
    """A TPC stage had findings on the host device."""

    def __init__(self, stage: str, report: RunReport) -> None:
        self.stage = stage
        self.report = report
        super().__init__(f"stage {stage}: " + "; ".join(str(f) for f in report.findings))


@dataclass(frozen=True)
class Executor:
    """Runs variants of one artifact whose kernels and glue are in `library`."""

    session: Session
    library: HostLibrary
    target: str
    timeout_s: float = 300.0

    def run(
        self,
        variant: Variant,
        binding: Binding,
        inputs: Mapping[str, Array],
        seed: int = 0,
        observe: Callable[[str, RunReport], None] = lambda stage, report: None,
    ) -> dict[str, Array]:
        """The op's outputs. Arrays between stages are contiguous in the memory order of their buffers.

        `observe` is told of every TPC stage's report. A TPC stage that has no element to write is not launched.

        Raises StageError when the host device has an error to report.
        """
        plan = variant.plan
        guids = {k.stage.name: k.glue.guid for k in variant.kernels}
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for stage in plan.stages:
            match stage:
                case MmeStage():
                    arrays[stage.out.buffer] = _matmul(plan, stage, binding, arrays)
                case MoveStage():
                    arrays[stage.target] = _move(plan, stage, arrays[stage.source])
                case CopyStage():
                    arrays[stage.copy.target] = _copy(plan, stage, binding, arrays)
                case TpcStage():
                    launch = self._launch(stage, guids[stage.name], binding, arrays)
                    arrays |= self._outputs(stage, launch, seed, observe)
        return {t.name: arrays[t.name] for t in plan.program.outputs}

    def _launch(self, stage: TpcStage, guid: str, binding: Binding, arrays: Mapping[str, Array]) -> Launch:
        program = stage.program
        given = tuple(arrays[t.name] for t in program.inputs)
        attributes = {a.name: binding.values[a.name] for a in program.attributes}
        own = bind_shapes(program, {t.name: a.shape for t, a in zip(program.inputs, given, strict=True)}, attributes)
        packing = "<" + "".join("i" if a.type is DType.I32 else "f" for a in program.attributes)
        return Launch(
            guid=guid,
            target=self.target,
            inputs=given,
            outputs=tuple((own.shape(t), t.dtype.numpy) for t in program.outputs),
            params=struct.pack(packing, *attributes.values()),
        )

    def _outputs(
        self, stage: TpcStage, launch: Launch, seed: int, observe: Callable[[str, RunReport], None]
    ) -> dict[str, Array]:
        names = [t.name for t in stage.program.outputs]
        if not any(math.prod(shape) for shape, _ in launch.outputs):
            return {name: np.zeros(shape, dtype) for name, (shape, dtype) in zip(names, launch.outputs, strict=True)}
        report = self.session.run(self.library, launch, seed=seed, timeout_s=self.timeout_s)
        observe(stage.name, report)
        if not report.ok:
            raise StageError(stage.name, report)
        return dict(zip(names, report.outputs, strict=True))


def _move(plan: Plan, stage: MoveStage, array: Array) -> Array:
    source, target = plan.buffer(stage.source).order, plan.buffer(stage.target).order
    return np.ascontiguousarray(np.transpose(array, [source.index(axis) for axis in target]))


def _copy(plan: Plan, stage: CopyStage, binding: Binding, arrays: Mapping[str, Array]) -> Array:
    """By its equations: nothing is computed, so the interpreter is as good as any copy."""
    given = {t.name: _program_order(plan.buffer(t.name), arrays[t.name]) for t in stage.program.inputs}
    scalars = {a.name: binding.values[a.name] for a in stage.program.attributes}
    (made,) = interpreter.run(stage.program, given, scalars, mode="device").values()
    return np.ascontiguousarray(np.transpose(made, plan.buffer(stage.copy.target).order))


def _program_order(buffer: Buffer, array: Array) -> Array:
    return np.transpose(array, np.argsort(buffer.order))


def _matmul(plan: Plan, stage: MmeStage, binding: Binding, arrays: Mapping[str, Array]) -> Array:
    """Of the operands as stored, summed in float64 and rounded once to f32; in the memory order of the result's buffer.

    The MME accumulates in f32 in an order that is its own. That of a host's BLAS is another one for every shape, and
    over hundreds of terms its noise would be several ulps: more than what the kernels around it may lose.
    """
    extent = {f.name: int(binding.value(f.extent)) for f in stage.factors}

    def matrix(operand: Operand, rows: tuple[str, ...], columns: tuple[str, ...]) -> Array:
        have = _factors(operand, plan.buffer(operand.buffer))
        split = np.reshape(arrays[operand.buffer].astype(np.float64), [extent[f] for f in have])
        own = [f for f in stage.batch if f in have]
        ordered = np.transpose(split, [have.index(f) for f in (*own, *rows, *columns)])
        batch = [extent[f] if f in have else 1 for f in stage.batch]
        return np.reshape(ordered, (*batch, _product(extent, rows), _product(extent, columns)))

    out = plan.buffer(stage.out.buffer)
    with np.errstate(all="ignore"):
        product = matrix(stage.lhs, stage.m, stage.k) @ matrix(stage.rhs, stage.k, stage.n)
        rounded = product.astype(np.float32).astype(out.dtype.numpy)
    made = (*stage.batch, *stage.m, *stage.n)
    split = np.reshape(rounded, [extent[f] for f in made])
    ordered = np.transpose(split, [made.index(f) for f in _factors(stage.out, out)])
    shape = [int(binding.value(out.shape[axis])) for axis in out.order]
    return np.reshape(np.ascontiguousarray(ordered), shape)


def _factors(operand: Operand, buffer: Buffer) -> list[str]:
    """The factors of a buffer in its memory order."""
    return [factor for axis in buffer.order for factor in operand.axes[axis]]


def _product(extent: Mapping[str, int], group: tuple[str, ...]) -> int:
    result = 1
    for factor in group:
        result *= extent[factor]
    return result
