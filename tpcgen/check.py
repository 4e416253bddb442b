"""Is what was emitted right? Every op of an artifact run on the host device and judged against the interpreter."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tpcgen.compiler import Case
from tpcgen.emit.artifact import Artifact, Variant
from tpcgen.execute import Executor, StageError
from tpcgen.host.api import RunReport, Session
from tpcgen.host.launch import Array
from tpcgen.interpreter.compare import judge
from tpcgen.interpreter.inputs import Family, draw, families
from tpcgen.interpreter.run import run
from tpcgen.program import ir
from tpcgen.program.sizes import Binding, bind
from tpcgen.report.results import Outcome, Result
from tpcgen.toolchain.host import build

SEED = 20260

# Above this many elements in the largest tensor a case is run with one family of inputs only.
_LARGE = 1 << 21


Eager = Callable[[ir.Program, Binding, Mapping[str, Array]], Mapping[str, Array]]


def check(
    artifact: Artifact,
    folder: Path,
    cases: Sequence[Case],
    *,
    eager: Eager | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Result:
    """Build the artifact in `folder` for the host's strict device and run all cases for every dtype.

    Raises ToolchainError when the host build fails, InterpreterError when a case has no inputs that satisfy the
    contracts, DiagnosticError when it does not fit the program. `eager` computes PyTorch's answer, for comparison.
    """
    progress("building for the host device")
    library = build(
        sorted((folder / "glue").glob("*.cpp")),
        sorted((folder / "kernels").glob("*.c")),
        target=artifact.target,
        out=folder / "host",
        mode="strict",
    )
    outcomes: list[Outcome] = []
    reports: list[RunReport] = []
    with Session() as session:
        executor = Executor(session, library, artifact.target)
        for variant, case, family in _runs(artifact, cases):
            progress(f"{variant.dtype} {case.name} {family}")
            outcomes += _check_one(executor, variant, case, family, reports, eager)
    return Result(tuple(outcomes), sum(r.padded_reads for r in reports), sum(r.dropped_writes for r in reports))


def _runs(artifact: Artifact, cases: Sequence[Case]) -> Iterator[tuple[Variant, Case, Family]]:
    for variant in artifact.variants:
        program = variant.plan.program
        for case in cases:
            binding = bind(program, case.values)
            largest = max(_elements(binding.shape(t)) for t in program.tensors)
            for family in families(program) if largest <= _LARGE else ("normal",):
                yield variant, case, family


def _check_one(
    executor: Executor, variant: Variant, case: Case, family: Family, reports: list[RunReport], eager: Eager | None
) -> Iterator[Outcome]:
    program = variant.plan.program
    binding = bind(program, case.values)
    rng = np.random.default_rng([SEED, *family.encode(), *(_bits(v) for v in binding.values.values())])
    inputs = draw(program, binding, rng, family)
    try:
        results = executor.run(variant, binding, inputs, observe=lambda stage, report: reports.append(report))
        failure = ""
    except StageError as failed:
        results, failure = {}, str(failed)
    attributes = {a.name: binding.values[a.name] for a in program.attributes}
    truth = run(program, inputs, attributes)
    device = run(program, inputs, attributes, mode="device")
    torch: Mapping[str, Array] = eager(program, binding, inputs) if eager is not None else {}
    for tensor in program.outputs:
        name = tensor.name
        where = (variant.dtype, case.name, family, name, truth[name].shape)
        reference = _worst(torch[name], truth[name]) if name in torch else None
        if failure:
            yield Outcome(*where, float("nan"), _worst(device[name], truth[name]), reference, failure)
            continue
        verdict = judge(results[name], truth[name], device[name])
        yield Outcome(*where, verdict.error, verdict.device_error, reference, verdict.reason)


def _bits(value: float) -> int:
    """A seed from a size or attribute, the same in every process."""
    return int.from_bytes(struct.pack("<d", value), "little")


def _worst(y: Array, truth: Array) -> float:
    with np.errstate(invalid="ignore"):
        distance = np.abs(y.astype(np.float64) - truth.astype(np.float64))
    return float(np.max(distance, initial=0.0))


def _elements(shape: tuple[int, ...]) -> int:
    result = 1
    for extent in shape:
        result *= extent
    return result
