"""Kernels of benchmarks/kernels/*.dsl beside the goals of the project and hand-written ones: writes docs/kernels.md.

    TPC_CLANG=.../tpc-clang python benchmarks/kernels.py            # rewrite the tables of the page
    TPC_CLANG=.../tpc-clang python benchmarks/kernels.py softmax    # print the rows whose names have that in them

Bundles are those of tpc-clang's assembly at -O2, each as often as it is passed at the shape of the row. Hand-written
kernels are compiled where $HABANA_CUSTOM_KERNEL is a checkout of Habana's examples.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from assembled import Passed, Totals, UnmatchedError, assembly, totals
from products import shares

from tpcgen.kernel.cycles import loop_bundles, stage_cost
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.lower import lower
from tpcgen.partition.choose import choose
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load
from tpcgen.program.sizes import bind
from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.assembly import machine_loops

ROOT = Path(__file__).resolve().parents[1]
SPECS = ROOT / "benchmarks" / "kernels"
PAGE = ROOT / "docs" / "kernels.md"
BEGIN, END = "<!-- table: benchmarks/kernels.py -->\n", "<!-- end of table -->\n"
BEGIN_SHARES = "<!-- shares: benchmarks/kernels.py -->\n"
CYCLES_PER_ACCESS = 4
"""Of a global vector access (tpcgen/machine/tpc.py)."""


@dataclass(frozen=True)
class ByHand:
    """A file of $HABANA_CUSTOM_KERNEL/kernels; its innermost loops do `units` of a row's units per pass, those before
    the one of number `first` left out.
    """

    file: str
    units: int
    first: int = 0


@dataclass(frozen=True)
class Row:
    """`work`: the sizes whose product counts what `unit` counts, "128 bf16"; `goal`: bundles per unit at most."""

    name: str
    op: str
    sizes: Mapping[str, int]
    work: str
    unit: str
    goal: float | None
    by_hand: ByHand | None = None
    dtype: str | None = None


_SQUARE = {"M": 4096, "N": 1024}
_STATES = {"B": 8, "C": 64, "D": 64, "E": 64}
_SOFTMAX = ByHand("gaudi2/softmax_non_fcd_bf16_gaudi2.c", 1)
_MATRIX_MUL = ByHand("gaudi/matrix_mul_fwd_f32.c", 6)
_RELU = ByHand("gaudi2/relu_fwd_bf16_gaudi2.c", 4)
ROWS = (
    Row("softmax, other dim", "softmax_rows", _SQUARE, "MN", "128 bf16", 30, _SOFTMAX),
    Row("softmax, other dim, few rows", "softmax_rows", {"M": 64, "N": 1024}, "MN", "128 bf16", 26),
    Row("softmax, bounded scores", "softmax_bounded", _SQUARE, "MN", "128 bf16", 28),
    Row("softmax, lanes", "softmax_lanes", {"M": 1024, "N": 2048}, "MN", "128 bf16", 28),
    Row("scale, cap, ALiBi, mask, softmax", "scores", {"H": 8, "M": 128, "N": 128}, "HMN", "128 bf16", 46),
    Row("division", "division", _SQUARE, "MN", "64 f32", 14, ByHand("gaudi/customdiv_fwd_f32.c", 1)),
    Row("cast bf16 to f32", "widen", _SQUARE, "MN", "128 bf16", 3, ByHand("gaudi/cast_bf16_to_f32.c", 1)),
    Row("cast f32 to bf16", "narrow", _SQUARE, "MN", "128 bf16", 3, ByHand("gaudi/cast_f32_to_bf16.c", 1)),
    Row("relu bf16", "rectify", _SQUARE, "MN", "128 bf16", 3, _RELU, "bf16"),
    Row("relu f32", "rectify", _SQUARE, "MN", "64 f32", 3, ByHand("gaudi2/relu_fwd_f32_gaudi2.c", 4), "f32"),
    Row("leakyrelu f32", "leaky", _SQUARE, "MN", "64 f32", 3, ByHand("gaudi/leakyrelu_f32_gaudi.c", 4)),
    Row("add f32", "sums", _SQUARE, "MN", "64 f32", 2, ByHand("gaudi2/add_f32_gaudi2.c", 4)),
    Row("batch norm f32", "batch_norm", _SQUARE, "MN", "64 f32", 2.25, ByHand("gaudi/batch_norm_fwd_f32.c", 4, 2)),
    Row("RoPE", "rope", {"B": 1, "H": 16, "N": 1024, "D": 128}, "BHND", "128 bf16", 5),
    Row("RMSNorm, rows of 4096", "rms_norm", {"M": 1024, "N": 4096}, "MN", "128 bf16", 8),
    Row("RMSNorm, rows of 128", "rms_norm", {"M": 4096, "N": 128}, "MN", "128 bf16", 20),
    Row("decayed scan", "decayed_scan", _STATES, "BCDE", "64 f32", 3.5),
    Row("matrix_mul f32", "matrix_mul", {"M": 512, "N": 512, "K": 512}, "MNK", "64 MACs", 1.2, _MATRIX_MUL),
    Row("outer products f32", "outer_products", {**_STATES, "L": 64}, "BCLDE", "64 MACs", 1.25, None, "f32"),
    Row("outer products bf16", "outer_products", {**_STATES, "L": 64}, "BCLDE", "128 MACs", 1.25, None, "bf16"),
)  # fmt: skip
_WINDOW = {"B": 1, "H": 1, "N": 4096, "D": 64, "E": 64, "W": 256}
WINDOWS = tuple(
    Row(f"windowed attention W=256 D=64, {dtype}", "windowed", _WINDOW, "", f"{lanes} MACs", None, None, dtype)
    for dtype, lanes in (("bf16", 128), ("f32", 64))
)
"""Attention as one kernel; what counts is which share of its bundles multiplies."""


@dataclass(frozen=True)
class Measured:
    row: Row
    kernel: Kernel
    totals: Totals
    units: float
    by_hand: float | None

    @property
    def per_unit(self) -> float:
        return self.totals.bundles / self.units


def measure(compiler: tpc_clang.TpcClang, rows: Sequence[Row], folder: Path) -> Iterator[Measured]:
    """In order; a message on stderr for what the compiler made too much of to be counted."""
    for row in rows:
        kernel, values = kernel_of(row)
        try:
            found = totals(kernel, assembly(compiler, kernel, folder), values)
        except UnmatchedError as error:
            print(f"{row.name}: {error}", file=sys.stderr)
            continue
        units = prod(row.sizes[s] for s in row.work) / int(row.unit.split()[0])
        yield Measured(row, kernel, found, units, _by_hand(compiler, row, folder))


def kernel_of(row: Row, target: str = "gaudi2") -> tuple[Kernel, Mapping[str, int | float]]:
    """Of the plan that is compiled at the row's sizes, with these and the attributes."""
    (module,) = (m for m in map(load, map(str, sorted(SPECS.glob("*.dsl")))) if row.op in m.ops)
    program = module.program(row.op, **({} if row.dtype is None else {"T": row.dtype}))
    binding = bind(program, row.sizes)
    plan = choose(program, target, binding, cost=stage_cost).plan
    (stage,) = (s for s in plan.stages if isinstance(s, TpcStage))
    return lower(stage, target=target, name=row.op), binding.values


def _by_hand(compiler: tpc_clang.TpcClang, row: Row, folder: Path) -> float | None:
    """Bundles per unit in the innermost loops of a hand-written kernel: what is outside of them is left out."""
    checkout, made = os.environ.get("HABANA_CUSTOM_KERNEL"), folder / "by_hand.s"
    if checkout is None or row.by_hand is None:
        return None
    kernels = Path(checkout) / "kernels"
    command = [compiler.path, "-march=gaudi2", "-O2", "-S", f"-I{kernels / 'include'}", "-o", made]
    subprocess.run([*command, kernels / row.by_hand.file], check=True, capture_output=True)
    loops = [loop for loop in machine_loops(made.read_text()) if loop.innermost][row.by_hand.first :]
    return sum(loop.words for loop in loops) / row.by_hand.units


def table(found: Sequence[Measured]) -> Iterator[str]:
    yield "| kernel | shape | unit | **bundles per unit** | goal | slot bound | memory floor | idle | by hand | ratio |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for m in found:
        shape = " ".join(f"{name}={size}" for name, size in m.row.sizes.items())
        goal = "" if m.row.goal is None else f"{m.row.goal:g}"
        floor = CYCLES_PER_ACCESS * m.totals.accesses / m.units
        by_hand = "" if m.by_hand is None else f"{m.by_hand:.1f}"
        ratio = "" if m.by_hand is None else f"{m.per_unit / m.by_hand:.2f}"
        numbers = [f"**{m.per_unit:.2f}**", goal, f"{m.totals.slots / m.units:.2f}", f"{floor:.2f}"]
        yield f"| {' | '.join([m.row.name, shape, m.row.unit, *numbers, f'{m.totals.idle:.0%}', by_hand, ratio])} |"


def loop_table(found: Sequence[Measured]) -> Iterator[str]:
    yield "| kernel | passes | bundles | empty | slot bound | predicted |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for m in found:
        yield from (_loop(m, passed) for passed in m.totals.hot if passed.iterations)


def _loop(m: Measured, passed: Passed) -> str:
    bound, predicted = passed.bound(m.kernel), loop_bundles(m.kernel, passed.loop)
    made = passed.made
    return f"| {m.row.name} | {passed.iterations:.0f} | {made.words} | {made.idle} | {bound:.0f} | {predicted:.0f} |"


def share_table(compiler: tpc_clang.TpcClang, rows: Sequence[Row], folder: Path) -> Iterator[str]:
    yield "| kernel | target | bundles | innermost loops | complete tiles | whole kernel | useful of executed MACs |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for row, target in product(rows, ("gaudi2", "gaudi")):
        kernel, values = kernel_of(row, target)
        (tile,) = (a.rows for a in kernel.arrays if a.name == "scores")
        text = assembly(compiler, kernel, folder)
        n, w, columns = row.sizes["N"], row.sizes["W"], row.sizes["D"] + row.sizes["E"]
        visited = sum(min(q + 1, w) for q in range(n)) * columns // int(row.unit.split()[0])
        found = shares(kernel, text, values, (row.sizes["D"], tile), visited)
        bundles = totals(kernel, text, values).bundles
        percent = [f"{x:.0%}" for x in (found.innermost, found.tiles, found.whole, found.useful)]
        yield f"| {' | '.join([row.name, target, f'{bundles:,.0f}', *percent])} |"


def main(arguments: Sequence[str]) -> int:
    compiler = tpc_clang.find()
    if compiler is None:
        print("there is no tpc-clang: set TPC_CLANG", file=sys.stderr)
        return 1
    wanted = [row for row in ROWS if not arguments or any(a in row.name for a in arguments)]
    with tempfile.TemporaryDirectory() as folder:
        found = list(measure(compiler, wanted, Path(folder)))
        windows = [row for row in WINDOWS if not arguments or any(a in row.name for a in arguments)]
        parts = "\n".join(share_table(compiler, windows, Path(folder))) + "\n" if windows else ""
    text = "\n".join([*table(found), "", "Loops without loops inside:", "", *loop_table(found)]) + "\n"
    if arguments:
        print(text if found else "", parts, sep="\n", end="")
        return 0
    page = PAGE.read_text()
    before, rest = page.split(BEGIN_SHARES)
    PAGE.write_text(f"{before}{BEGIN_SHARES}\n{compiler.version}, -O2.\n\n{parts}\n{END}{rest.split(END, 1)[1]}")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{compiler.version}, -O2, gaudi2.\n\n{text}\n{END}{rest.split(END, 1)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
