"""Bundles per vector of the softmax kernels of four specs, from tpc-clang's assembly: writes docs/kernels.md's table.

    TPC_CLANG=.../tpc-clang python benchmarks/kernel_bundles.py            # rewrite the table
    TPC_CLANG=.../tpc-clang python benchmarks/kernel_bundles.py --check    # status 1 where the page differs

Per pass of a kernel (row maximum, sum, output) the loop where all points are present and the one that tests a
condition, as the compiler made them at -O2: bundles of one iteration over its vectors of 128 elements.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpcgen.kernel.cycles import block_slots, loop_bundles
from tpcgen.kernel.ir import Kernel, Load, Loop, Note, Statement, VectorOp
from tpcgen.kernel.lower import lower
from tpcgen.kernel.tpc_c import render
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load
from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.assembly import HardwareLoop, hardware_loops

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kernels.md"
BEGIN, END = "<!-- table: benchmarks/kernel_bundles.py -->\n", "<!-- end of table -->\n"
SPECS = ("full", "causal", "alibi_causal", "window")


@dataclass(frozen=True)
class Row:
    """One loop. `vectors` of 128 elements per iteration; `slots`: the bound of its slots alone."""

    kernel: str
    work: str
    masked: bool
    vectors: float
    bundles: int
    idle: int
    slots: float
    predicted: float


def rows(compiler: tpc_clang.TpcClang, folder: Path) -> Iterator[Row]:
    for target, spec, dtype in itertools.product(("gaudi2", "gaudi"), SPECS, ("bf16", "f32")):
        module = load(str(ROOT / "examples" / f"{spec}.dsl"))
        program = module.program(spec, **dict.fromkeys(module.dtype_variables(spec), dtype))
        for plan in enumerate_plans(program, target):
            for stage in (s for s in plan.stages if isinstance(s, TpcStage) and s.lane in ("k", "q")):  # of the square
                kernel = lower(stage, target=target, name=f"{spec}_{stage.name}")
                along = "lanes" if stage.lane == "k" else "rows"
                yield from _rows(compiler, folder, f"{spec} {dtype}, softmax along {along}, {target}", kernel)


def _rows(compiler: tpc_clang.TpcClang, folder: Path, name: str, kernel: Kernel) -> Iterator[Row]:
    source, assembly = folder / "kernel.c", folder / "kernel.s"
    source.write_text(render(kernel))
    tpc_clang.compile_kernel(compiler, source, kernel.target, assembly, {})
    found = [loop for loop in hardware_loops(assembly.read_text()) if loop.innermost]
    expected = list(_innermost(kernel.body, ""))
    if len(found) != len(expected):
        raise SystemExit(f"{name}: {len(expected)} loops became {len(found)}")
    pairs = list(zip(expected, found, strict=True))
    for work in dict.fromkeys(w for (_, w), _ in pairs):
        mine = [(loop, words) for (loop, w), words in pairs if w == work and _loads(loop)]
        for masked in (False, True):
            candidates = [(loop, words) for loop, words in mine if _masked(loop) == masked]
            if candidates:
                loop, words = max(candidates, key=lambda item: _loads(item[0]))
                yield _row(name, kernel, work, masked, loop, words)


def _row(name: str, kernel: Kernel, work: str, masked: bool, loop: Loop, words: HardwareLoop) -> Row:
    vectors = _loads(loop) * kernel.lanes.step / 128
    slots, predicted = block_slots(kernel, loop.body).bundles, loop_bundles(kernel, loop)
    return Row(name, work, masked, vectors, words.words, words.idle, slots, predicted)


def _innermost(statements: Sequence[Statement], work: str) -> Iterator[tuple[Loop, str]]:
    """Loops without a loop inside, with the comment they stand under."""
    for s in statements:
        if isinstance(s, Note):
            work = s.text if s.text.startswith(("row maximum", "sum")) else "output"
        if isinstance(s, Loop):
            yield from list(_innermost(s.body, work)) or [(s, work)]


def _loads(loop: Loop) -> int:
    return sum(isinstance(s, Load) for s in loop.body)


def _masked(loop: Loop) -> bool:
    return any(isinstance(s, VectorOp) and s.pred is not None for s in loop.body)


def table(found: Sequence[Row]) -> str:
    lines = [
        "| kernel | pass | points | vectors | bundles | empty | slot bound | predicted | **per vector** |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in found:
        points = "tested" if r.masked else "all"
        lines.append(
            f"| {r.kernel} | {r.work} | {points} | {r.vectors:g} | {r.bundles} | {r.idle} | {r.slots:.0f} | "
            f"{r.predicted:.0f} | **{r.bundles / r.vectors:.1f}** |"
        )
    lines += ["", "Sum over the passes, all points present, per vector of 128 elements:", ""]
    lines += ["| kernel | bundles per vector | empty | slot bound |", "| --- | ---: | ---: | ---: |"]
    for name in dict.fromkeys(r.kernel for r in found):
        mine = [r for r in found if r.kernel == name and not r.masked]
        per = sum(r.bundles / r.vectors for r in mine)
        idle = sum(r.idle / r.vectors for r in mine) / per
        lines.append(f"| {name} | {per:.1f} | {idle:.0%} | {sum(r.slots / r.vectors for r in mine):.1f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    compiler = tpc_clang.find()
    if compiler is None:
        print("there is no tpc-clang: set TPC_CLANG", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        made = f"\n{compiler.version}, -O2.\n\n" + table(list(rows(compiler, Path(folder)))) + "\n"
    before, rest = PAGE.read_text().split(BEGIN)
    old, after = rest.split(END)
    if "--check" in arguments:
        return int(old != made)
    PAGE.write_text(before + BEGIN + made + END + after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
