"""Predicted cycles of innermost loops beside the words that tpc-clang makes of them: writes docs/cycles.md.

    TPC_CLANG=.../tpc-clang python benchmarks/validate_cycles.py            # rewrite the page
    TPC_CLANG=.../tpc-clang python benchmarks/validate_cycles.py --check    # status 1 where a bound is broken

The TPC kernels of every plan of every example that is lowered, f32 and bf16, gaudi and gaudi2, at -O2. A loop of the
kernel IR and a hardware loop of the assembly are the same when both programs have as many innermost loops, in order.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from assembled import assembly, predicted

from tpcgen.diagnostics import DiagnosticError
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.lower import lower
from tpcgen.kernel.tpc_c import render
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load
from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.assembly import MachineLoop, machine_loops

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cycles.md"
MEDIAN_BOUND, WORST_BOUND = 0.05, 0.20


@dataclass(frozen=True)
class Measured:
    """An innermost loop: cycles as predicted, words of the assembly and how many of them are empty."""

    kernel: str
    target: str
    number: int
    predicted: float
    words: int
    idle: int

    @property
    def error(self) -> float:
        return self.predicted / self.words - 1


@dataclass(frozen=True)
class Unmatched:
    """A kernel whose loops the compiler changed: unrolled, removed or made of jumps."""

    kernel: str
    target: str
    expected: int
    found: int


def kernels() -> Iterator[tuple[str, Kernel]]:
    """(name, kernel), one of those whose texts differ in numbers only: bands of 64 for those of 128 and 256."""
    seen: set[str] = set()
    for path in sorted((ROOT / "examples").glob("*.dsl")):
        module = load(str(path))
        for op, target in itertools.product(module.ops, tpc_clang.TARGETS):
            variables = module.dtype_variables(op)
            for choice in itertools.product(*variables.values()):
                program = module.program(op, **dict(zip(variables, choice, strict=True)))
                try:
                    plans = enumerate_plans(program, target)
                except DiagnosticError:
                    continue  # not lowered yet
                for stage in (s for plan in plans for s in plan.stages if isinstance(s, TpcStage)):
                    kernel = lower(stage, target=target, name=f"{op}_{stage.name}")
                    text = target + re.sub(r"_?\d+", "", render(kernel))
                    if text not in seen:
                        seen.add(text)
                        yield f"{op} {'_'.join(choice)} {stage.name} along {stage.lane}", kernel


def measure(compiler: tpc_clang.TpcClang) -> tuple[list[Measured], list[Unmatched]]:
    measured: list[Measured] = []
    unmatched: list[Unmatched] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = [(name, kernel, pool.submit(_assembly, compiler, kernel)) for name, kernel in kernels()]
        for name, kernel, made in compiled:
            text = made.result()
            print(f"{name} on {kernel.target}", file=sys.stderr, flush=True)
            expected = predicted(kernel)
            found = [loop for loop in machine_loops(text) if loop.innermost]
            if len(expected) != len(found):
                unmatched.append(Unmatched(name, kernel.target, len(expected), len(found)))
                continue
            measured += _pairs(name, kernel, expected, found)
    return measured, unmatched


def _assembly(compiler: tpc_clang.TpcClang, kernel: Kernel) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return assembly(compiler, kernel, Path(folder))


def _pairs(name: str, kernel: Kernel, expected: Sequence[float], found: Sequence[MachineLoop]) -> Iterator[Measured]:
    for number, (cycles, words) in enumerate(zip(expected, found, strict=True), 1):
        yield Measured(name, kernel.target, number, cycles, words.words, words.idle)


def broken(measured: Sequence[Measured]) -> list[str]:
    errors = [abs(m.error) for m in measured]
    if not errors:
        return ["no loop was measured"]
    found: list[str] = []
    if median(errors) > MEDIAN_BOUND:
        found.append(f"median error {median(errors):.1%}, at most {MEDIAN_BOUND:.0%}")
    worst = max(measured, key=lambda m: abs(m.error))
    if abs(worst.error) > WORST_BOUND:
        place = f"{worst.kernel} on {worst.target}, loop {worst.number}"
        found.append(f"worst error {worst.error:+.1%} ({place}), at most {WORST_BOUND:.0%}")
    return found


def page(compiler: tpc_clang.TpcClang, measured: Sequence[Measured], unmatched: Sequence[Unmatched]) -> str:
    errors = sorted(abs(m.error) for m in measured)
    within = sum(e <= WORST_BOUND for e in errors)
    lines = [
        "# Predicted cycles beside the real compiler's words",
        "",
        f"Written by `python benchmarks/validate_cycles.py` with {compiler.version}, -O2. A row per innermost loop of",
        "each kernel of every plan of the examples, one of those that differ in numbers only. A word is a cycle but",
        "for stalls.",
        "",
        f"{len(measured)} loops: median error {median(errors):.1%} (bound {MEDIAN_BOUND:.0%}), worst {errors[-1]:.1%}",
        f"(bound {WORST_BOUND:.0%}), {within} of {len(errors)} within {WORST_BOUND:.0%}.",
        f"{len(unmatched)} kernels are not compared because the compiler has another number of innermost loops.",
        "",
        f"## More than {WORST_BOUND:.0%} off",
        "",
        *_table(sorted((m for m in measured if abs(m.error) > WORST_BOUND), key=lambda m: -abs(m.error))),
        "",
        "## All loops",
        "",
        *_table(measured),
    ]
    if unmatched:
        lines += ["", "| kernel | device | loops of the IR | of the assembly |", "| --- | --- | ---: | ---: |"]
        lines += [f"| {u.kernel} | {u.target} | {u.expected} | {u.found} |" for u in unmatched]
    return "\n".join(lines) + "\n"


def _table(measured: Sequence[Measured]) -> Iterator[str]:
    yield "| kernel | device | loop | predicted | words | empty | error |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for m in measured:
        numbers = f"{m.number} | {m.predicted:.0f} | {m.words} | {m.idle} | {m.error:+.0%}"
        yield f"| {m.kernel} | {m.target} | {numbers} |"


def main(arguments: Sequence[str]) -> int:
    compiler = tpc_clang.find()
    if compiler is None:
        print("there is no tpc-clang: set TPC_CLANG", file=sys.stderr)
        return 1
    measured, unmatched = measure(compiler)
    problems = broken(measured)
    if "--check" not in arguments and measured:
        PAGE.write_text(page(compiler, measured, unmatched))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
