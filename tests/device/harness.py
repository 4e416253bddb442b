"""Every plan of a program on the strict host device, judged against the interpreter.

One library per target holds the kernels of all plans of all programs and the glue for them. The interpreter's two
answers are computed once per inputs and judge every plan on every target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpcgen.compiler import Options, compile_stage
from tpcgen.emit import glue
from tpcgen.emit.artifact import KernelText, Variant
from tpcgen.execute import Executor, StageError
from tpcgen.host.api import Session
from tpcgen.interpreter.compare import FORMATS, ULPS, Verdict, judge
from tpcgen.interpreter.inputs import Family, draw
from tpcgen.interpreter.run import run
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import Plan, TpcStage
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Program
from tpcgen.program.sizes import Binding, bind
from tpcgen.toolchain.host import build as build_library

Array = NDArray[Any]
Values = Mapping[str, int | float]
TARGETS = ("gaudi", "gaudi2")
SEED = 20261


@dataclass(frozen=True)
class Built:
    """One plan of a program for one target, ready to run."""

    target: str
    variant: Variant
    executor: Executor

    @property
    def label(self) -> str:
        return self.variant.plan.label

    def run(self, values: Values, inputs: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
        """The outputs; StageError for whatever the strict device finds."""
        return self.executor.run(self.variant, bind(self.variant.plan.program, dict(values)), inputs, seed)


@dataclass(frozen=True)
class Outcome:
    """One output of one plan. `share`: how much of what the pass rule allows was used where it was nearest to it."""

    target: str
    plan: str
    case: str
    output: str
    share: float
    reason: str

    def __str__(self) -> str:
        return f"{self.target}, {self.plan}, {self.case}, {self.output}: {self.reason}"


def build(
    programs: Mapping[str, Program],
    folder: Path,
    session: Session,
    targets: Sequence[str] = TARGETS,
    wanted: Callable[[str, str, int], bool] = lambda name, target, number: True,
    edit: Callable[[str, KernelText], KernelText] = lambda name, kernel: kernel,
) -> dict[str, list[Built]]:
    """The wanted plans, else all of enumerate_plans, of each program for each target, keyed as `programs` is.

    `edit` may change what is emitted for a program. DiagnosticError for what is not lowered.
    """
    result: dict[str, list[Built]] = {name: [] for name in programs}
    for target in targets:
        variants = {
            name: [
                variant(name, number, plan, edit)
                for number, plan in enumerate(enumerate_plans(program, target))
                if wanted(name, target, number)
            ]
            for name, program in programs.items()
        }
        for name, built in built_together(variants, target, folder / target, session).items():
            result[name] += built
    return result


def variant(
    name: str,
    number: int,
    plan: Plan,
    edit: Callable[[str, KernelText], KernelText] = lambda name, kernel: kernel,
) -> Variant:
    """The kernels of a plan. DiagnosticError for what is not lowered."""
    options = Options(target=plan.target, prefix="t")
    stages = [s for s in plan.stages if isinstance(s, TpcStage)]
    kernels = tuple(edit(name, compile_stage(s, f"{name}_{number}", "x", options)[1]) for s in stages)
    return Variant("x", plan, kernels, {})


def built_together(
    variants: Mapping[str, Sequence[Variant]], target: str, folder: Path, session: Session
) -> dict[str, list[Built]]:
    """One library of all of them, which are for one target."""
    kernels = [k for of_one in variants.values() for v in of_one for k in v.kernels]
    executor = Executor(session, _library(kernels, target, folder), target)
    return {name: [Built(target, v, executor) for v in of_one] for name, of_one in variants.items()}


def _library(kernels: Sequence[KernelText], target: str, folder: Path) -> Any:
    texts = {f"glue/{n}": t for n, t in glue.files("all", target, "all.dsl", [k.glue for k in kernels], "0", 1).items()}
    texts |= {f"kernels/{k.glue.guid}.c": k.text for k in kernels}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sources = [folder / name for name in texts]
    return build_library(
        [s for s in sources if s.suffix == ".cpp"],
        [s for s in sources if s.suffix == ".c"],
        target=target,
        out=folder,
        mode="strict",
    )


def drawn(program: Program, values: Values, family: Family, draw_number: int = 0) -> dict[str, Array]:
    """Inputs of a family, the same in every process; others for another `draw_number`."""
    binding = bind(program, dict(values))
    seed = np.array([*binding.values.values()], np.float64).view(np.uint32).tolist()
    return draw(program, binding, np.random.default_rng([SEED + draw_number, *family.encode(), *seed]), family)


def judged(
    built: Sequence[Built], values: Values, inputs: Mapping[str, Array], case: str = "", program: Program | None = None
) -> Iterator[Outcome]:
    """Every output of every plan against `program`, else the program they are plans of."""
    program = program or built[0].variant.plan.program
    binding: Binding = bind(program, dict(values))
    attributes = {a.name: binding.values[a.name] for a in program.attributes}
    truth = run(program, inputs, attributes)
    device = run(program, inputs, attributes, mode="device")
    for b in built:
        try:
            results = b.run(values, inputs)
        except StageError as failed:
            yield Outcome(b.target, b.label, case, "-", np.inf, str(failed))
            continue
        for name, expected in truth.items():
            verdict = judge(results[name], expected, device[name])
            share = _share(results[name], expected, verdict)
            yield Outcome(b.target, b.label, case, name, share, verdict.reason)


def _share(y: Array, truth: Array, verdict: Verdict) -> float:
    if verdict.where is None:
        return 0.0
    got, expected = float(y[verdict.where]), float(truth[verdict.where])
    if got == expected or (np.isnan(got) and np.isnan(expected)):
        return 0.0
    return abs(got - expected) / verdict.bound if verdict.bound > 0 else np.inf


def failures(outcomes: Iterable[Outcome]) -> list[str]:
    return [str(o) for o in outcomes if o.reason]


def wrong_gradients(built: Sequence[Built], values: Values, inputs: Mapping[str, Array], program: Program) -> list[str]:
    """What the pass rule refuses of gradients; `program`: what the plans compute. One that is inconclusive as a whole
    (softmax over one key: 0 but for rounding) may be off by twice device mode's worst error, as one row of it.
    """
    attributes = {a.name: values[a.name] for a in program.attributes}
    truth, device = (run(program, inputs, attributes, mode=mode) for mode in ("exact", "device"))
    wrong: list[str] = []
    for plan in built:
        found = plan.run(values, inputs)
        for output in program.outputs:
            y, expected, rounded = (x[output.name] for x in (found, truth, device))
            verdict = judge(y, expected, rounded, gradient=True)
            known = not verdict.reason.startswith("inconclusive")
            if not (verdict.passed if known else _near_as_one_row(y, expected, rounded, output.dtype)):
                wrong.append(f"{plan.target}, {plan.label}, {values}, {output.name}: {verdict.reason}")
    return wrong


def _near_as_one_row(y: Array, truth: Array, device: Array, dtype: DType) -> bool:
    mantissa, _ = FORMATS[dtype]
    ulps = ULPS[dtype] * 2.0 ** (np.frexp(np.abs(truth).max())[1] - 1 - mantissa)
    error, usual = (np.abs(x.astype(np.float64) - truth).max() for x in (y, device))
    return bool(error <= 2 * usual + ulps)
