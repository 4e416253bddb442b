"""How long a batched matmul takes on the MME.

The vendor's expected-cycles formula (IG3 mme_brain, restated in gaudi.md section 2), over every tile the machine has:

    steps  = ceil(n / width) * ceil(m / height) * ceil(batch / gemms)
    cycles = steps * max(cycles per element * k, rollup, minimum) + port term

It is a lower bound: against published timings within 1 % for large matmuls, 10 % low for grouped ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, gcd

from tpcgen.machine.model import Machine, Mme, Tile
from tpcgen.program.dtypes import DType


@dataclass(frozen=True, slots=True)
class Matmul:
    """out[batch, m, n] = sum over k of lhs[batch, m, k] * rhs[batch, k, n].

    `lhs_common_last`, `rhs_common_last`: whether k is the operand's FCD; the MME then transposes it on the way in.
    """

    batch: int
    m: int
    n: int
    k: int
    inputs: DType
    output: DType
    lhs_common_last: bool = True
    rhs_common_last: bool = False


@dataclass(frozen=True, slots=True)
class MmeCost:
    """`bound` is what the cycles are spent on: "compute", "rollup" or "input read". `formula` has the numbers in it."""

    cycles: float
    seconds: float
    tile: Tile
    bound: str
    utilisation: float
    formula: str


def mme_cost(machine: Machine, matmul: Matmul) -> MmeCost:
    """The cheapest legal tile. KeyError for a dtype the MME does not take."""
    legal = [t for t in _tiles(machine.mme, matmul.inputs) if _is_legal(t, matmul)]
    return min((_cost(machine.mme, matmul, t) for t in legal), key=lambda c: c.cycles)


def choices(machine: Machine, matmul: Matmul) -> tuple[tuple[str, Matmul, MmeCost], ...]:
    """The same product in other ways a plan or a spec could ask for it: operand order, layouts, output dtype, heads.

    Packing puts two batches side by side along k and n, the second operand block-diagonal: twice the common dimension
    for twice the columns.
    """
    other = DType.F32 if matmul.output is not DType.F32 else matmul.inputs
    ways = {
        "operands swapped": Matmul(
            matmul.batch,
            matmul.n,
            matmul.m,
            matmul.k,
            matmul.inputs,
            matmul.output,
            matmul.rhs_common_last,
            matmul.lhs_common_last,
        ),
        "first operand transposed": replace(matmul, lhs_common_last=not matmul.lhs_common_last),
        "second operand transposed": replace(matmul, rhs_common_last=not matmul.rhs_common_last),
        f"{other} result": replace(matmul, output=other),
    }
    if matmul.batch % 2 == 0:
        ways["two heads packed"] = replace(matmul, batch=matmul.batch // 2, n=2 * matmul.n, k=2 * matmul.k)
    known = machine.mme.minimum_common
    return tuple(
        (name, m, mme_cost(machine, m)) for name, m in ways.items() if m != matmul and (m.inputs, m.output) in known
    )


def least_step(mme: Mme, matmul: Matmul) -> int:
    """Cycles below which no step falls, however short the common dimension is."""
    per_element = mme.cycles_per_element[matmul.inputs]
    return max(mme.rollup, ceil(mme.minimum_common[matmul.inputs, matmul.output] * per_element))


def _tiles(mme: Mme, inputs: DType) -> list[Tile]:
    if inputs.size < 4 or mme.wide_input_scale == 1:
        return list(mme.tiles)
    return [_scaled(t, mme.wide_input_scale) for t in mme.tiles]


def _scaled(t: Tile, scale: float) -> Tile:
    sides = int(t.width * scale), int(t.height * scale)
    return Tile(t.name, *sides, t.gemms, t.port_constrained, t.width_fits, t.height_fits)


def _is_legal(t: Tile, matmul: Matmul) -> bool:
    too_wide = t.width_fits and matmul.n > t.width
    too_high = t.height_fits and matmul.m > t.height
    return not too_wide and not too_high


def _cost(mme: Mme, matmul: Matmul, t: Tile) -> MmeCost:
    per_element = mme.cycles_per_element[matmul.inputs]
    columns, rows = ceil(matmul.n / t.width), ceil(matmul.m / t.height)
    batches = ceil(matmul.batch / t.gemms)
    aligned = _up(matmul.k, mme.alignment[matmul.inputs])
    common = ceil(aligned * per_element)
    floor = least_step(mme, matmul)
    step = max(common, floor)
    constrained = min(rows, columns) if t.port_constrained and matmul.inputs.size < 4 else 0
    constrained_step = max(ceil(common * _port_factor(mme, matmul)), floor)
    compute = ((columns * rows - constrained) * step + constrained * constrained_step) * batches
    read = _read_cycles(mme, matmul, t, columns, rows)
    cycles = max(compute, read)
    bound = "input read" if read > compute else ("rollup" if floor > common else "compute")
    formula = f"ceil({matmul.n}/{t.width}) * ceil({matmul.m}/{t.height}) * ceil({matmul.batch}/{t.gemms}) * {step}"
    if constrained:
        formula += f" + {constrained * batches} port-bound steps * {constrained_step - step}"
    if read > compute:
        formula = f"reading operands with unaligned rows, {round(read)}"
    ideal = matmul.batch * matmul.m * matmul.n * matmul.k * per_element / (t.width * t.height * t.gemms)
    return MmeCost(cycles, cycles / mme.clock_hz, t, bound, ideal / cycles if cycles else 0.0, formula)


def _port_factor(mme: Mme, matmul: Matmul) -> float:
    """How much longer the common dimension takes on a step that is short of input ports."""
    lhs = 1 + ceil(matmul.m / 4) / mme.port_rows if matmul.lhs_common_last else 2.0
    rhs = 1 + min(matmul.n, mme.port_rows) / mme.port_rows if matmul.rhs_common_last else 2.0
    return min(lhs, rhs, 2.0)


def _read_cycles(mme: Mme, matmul: Matmul, t: Tile, columns: int, rows: int) -> float:
    """One operand stays in the engines' buffers, the other is read once per step; unaligned rows take more reads.

    A port brings 64 two-byte elements a cycle (a memory line), 64 four-byte ones in two.
    """
    scale = matmul.k * matmul.batch / t.gemms * matmul.inputs.size / 2
    lhs = scale * matmul.m / t.height * _penalty(mme, matmul, matmul.lhs_common_last, matmul.m)
    rhs = scale * matmul.n / t.width * _penalty(mme, matmul, matmul.rhs_common_last, matmul.n)
    join = sum if t.port_constrained and matmul.inputs.size < 4 else max
    return min(join((lhs * columns, rhs)), join((lhs, rhs * rows)))


def _penalty(mme: Mme, matmul: Matmul, common_last: bool, other: int) -> float:
    """Rows that start on a line read once, the others twice (IG3 mme_brain, recurring misalignment)."""
    row = (matmul.k if common_last else other) * matmul.inputs.size
    starts = mme.line // gcd(mme.line, row) if row else 1
    return (1 + 2 * (starts - 1)) / starts


def _up(value: int, to: int) -> int:
    return -(-value // to) * to
