"""Is what was emitted right? Every op of an artifact run on the host device and judged against the interpreter."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np

from tpcgen.compiler import Case
from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.emit.artifact import Artifact, Variant, dispatched
from tpcgen.execute import Executor, StageError
from tpcgen.host.api import RunReport, Session
from tpcgen.host.launch import Array
from tpcgen.host.passed import fingerprint, mark_passed
from tpcgen.interpreter.compare import judge
from tpcgen.interpreter.inputs import Family, draw, families
from tpcgen.interpreter.run import run
from tpcgen.partition.table import size
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

    Kernels without findings are marked as passed: the CPU op runs them fast from now on.
    Raises ToolchainError when the host build fails, InterpreterError when a case has no inputs that satisfy the
    contracts, DiagnosticError when it does not fit the program, or its tensors this machine's memory (E527). `eager`
    computes PyTorch's answer, for comparison.
    """
    for variant in artifact.variants:
        for case in cases:
            _fits_memory(variant.plan.program, case)
    progress("building for the host device")
    library = build(
        sorted((folder / "glue").glob("*.cpp")),
        sorted((folder / "kernels").glob("*.c")),
        target=artifact.target,
        out=folder / "host",
        mode="strict",
    )
    outcomes: list[Outcome] = []
    reports: list[tuple[str, RunReport]] = []
    with Session() as session:
        executor = Executor(session, library, artifact.target)
        runs = list(_runs(artifact, cases))
        for n, (variant, case, family) in enumerate(runs, start=1):
            progress(f"checking {variant.dtype} {case.name} {family} ({n} of {len(runs)})")
            outcomes += _check_one(executor, artifact, variant, case, family, reports, eager)
    for guid in {guid for guid, _ in reports} - {guid for guid, report in reports if not report.ok}:
        mark_passed(fingerprint(guid, folder))
    padded, dropped = sum(r.padded_reads for _, r in reports), sum(r.dropped_writes for _, r in reports)
    return Result(tuple(outcomes), padded, dropped)


def _runs(artifact: Artifact, cases: Sequence[Case]) -> Iterator[tuple[Variant, Case, Family]]:
    for variants in artifact.alike():
        program = variants[0].plan.program
        for case in cases:
            binding = bind(program, case.values)
            variant = dispatched(variants, binding.values)
            largest = max(prod(binding.shape(t)) for t in program.tensors)
            for family in families(program) if largest <= _LARGE else ("normal",):
                yield variant, case, family


def _fits_memory(program: ir.Program, case: Case) -> None:
    binding = bind(program, case.values)
    needed = sum(prod(binding.shape(t)) * t.dtype.size for t in program.tensors)
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > held:
        message = f"a check at the sizes of {case.name} needs {size(needed)} at least, this machine has {size(held)}"
        hint = "check at smaller sizes, or compile with --no-check"
        raise DiagnosticError((Diagnostic("E527", message, NOWHERE, hint),))


def _check_one(
    executor: Executor,
    artifact: Artifact,
    variant: Variant,
    case: Case,
    family: Family,
    reports: list[tuple[str, RunReport]],
    eager: Eager | None,
) -> Iterator[Outcome]:
    program = variant.plan.program
    binding = bind(program, case.values)
    attributes = {a.name: binding.values[a.name] for a in program.attributes}
    saving, cotangents = _saving(artifact, variant), _cotangents(artifact, variant)

    def interpreted(smaller: Collection[str] = ()) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
        rng = np.random.default_rng([SEED, *family.encode(), *(_bits(v) for v in binding.values.values())])
        inputs = draw(program, binding, rng, family, smaller)
        if saving is not None:
            inputs |= _saved(saving, program, binding, inputs)
        return inputs, run(program, inputs, attributes), run(program, inputs, attributes, mode="device")

    inputs, truth, device = interpreted()
    if family == "large" and cotangents and _overflows(truth, device):
        inputs, truth, device = interpreted(cotangents)
    guids = {k.stage.name: k.glue.guid for k in variant.kernels}
    try:
        results = executor.run(
            variant, binding, inputs, observe=lambda stage, report: reports.append((guids[stage], report))
        )
        failure = ""
    except StageError as failed:
        results, failure = {}, str(failed)
    torch: Mapping[str, Array] = eager(program, binding, inputs) if eager is not None else {}
    for tensor in program.outputs:
        name = tensor.name
        where = (variant.dtype, case.name, family, name, truth[name].shape, _largest(truth[name]))
        reference = _worst(torch[name], truth[name]) if name in torch else None
        if failure:
            yield Outcome(*where, float("nan"), _worst(device[name], truth[name]), reference, failure)
            continue
        verdict = judge(results[name], truth[name], device[name], gradient=artifact.is_gradient(variant.op))
        unknown = verdict.inconclusive
        yield Outcome(*where, verdict.error, verdict.device_error, reference, verdict.reason, unknown)


def _cotangents(artifact: Artifact, variant: Variant) -> set[str]:
    """What a gradient takes beside its op's inputs and what the forward keeps."""
    if not artifact.is_gradient(variant.op):
        return set()
    forward = (v.plan.program for v in artifact.variants if not artifact.is_gradient(v.op))
    known = {t.name for program in forward for t in (*program.inputs, *program.outputs)}
    return {t.name for t in variant.plan.program.inputs} - known


def _overflows(truth: Mapping[str, Array], device: Mapping[str, Array]) -> bool:
    """Whether something on the way to an output overflows, as an f16 does at 65,520: infinities became NaN."""
    return any((np.isnan(device[name]) & ~np.isnan(truth[name])).any() for name in truth)


def _saving(artifact: Artifact, variant: Variant) -> ir.Program | None:
    """The forward that keeps what a backward takes."""
    if artifact.saving_op is None or not artifact.is_gradient(variant.op):
        return None
    alike = (v for v in artifact.variants if v.dtype == variant.dtype)
    return next(v.plan.program for v in alike if v.op == artifact.saving_op)


def _saved(saving: ir.Program, program: ir.Program, binding: Binding, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the forward keeps at these inputs: no other values go with them."""
    attributes = {a.name: binding.values[a.name] for a in program.attributes}
    found = run(saving, {t.name: inputs[t.name] for t in saving.inputs}, attributes)
    own = {t.name: t.dtype.numpy for t in program.inputs}
    return {name: value.astype(own[name]) for name, value in found.items() if name in own}


def _bits(value: float) -> int:
    """A seed from a size or attribute, the same in every process."""
    return int.from_bytes(struct.pack("<d", value), "little")


def _worst(y: Array, truth: Array) -> float:
    with np.errstate(invalid="ignore"):
        distance = np.abs(y.astype(np.float64) - truth.astype(np.float64))
    return float(np.max(distance, initial=0.0))


def _largest(truth: Array) -> float:
    size = np.abs(truth.astype(np.float64))
    return float(np.max(np.where(np.isfinite(size), size, 0), initial=0.0))
