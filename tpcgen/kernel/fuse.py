"""A bf16 vector minus what a loop does not change, in the operation that widens it: MADD of bf16 with f32 results takes
1 as the other factor and the negative, made in front of the loop, as the addend. One rounding, as of the subtraction.
What is the same in all lanes stays: as a pair it would take two registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tpcgen.kernel.ir import (
    Imm,
    Kernel,
    Lanes,
    Load,
    Loop,
    Reg,
    Statement,
    VectorOp,
    VType,
    innermost_replaced,
    registers_read,
    walk,
)


def widening_subtractions(kernel: Kernel) -> Kernel:
    """The same kernel. Its results are in the lanes of `Lanes.EVEN_ODD`; gaudi has no such MADD."""
    if kernel.target == "gaudi" or kernel.lanes is not Lanes.EVEN_ODD:
        return kernel
    reads = Counter(name for s in walk(kernel.body) for name in registers_read(s))
    return replace(kernel, body=innermost_replaced(kernel.body, lambda loop: _fused(loop, reads)))


def _fused(loop: Loop, reads: Counter[str]) -> Iterator[Statement]:
    changed = {s.dest.name for s in loop.body if isinstance(s, VectorOp | Load)}
    widened = {s.dest.name: s for s in loop.body if isinstance(s, VectorOp) and s.op == "widen"}
    negatives: dict[str, Reg] = {}
    body: list[Statement] = []
    for s in loop.body:
        match s:
            case VectorOp(op="sub", args=(Reg() as x, Reg() as y), pred=None) if (
                x.name in widened and reads[x.name] == 1 and y.parts == 2 and y.name not in changed
            ):
                if y.name not in negatives:
                    negatives[y.name] = Reg(f"minus_{y.name}.{loop.var}", VType.F32, 2, uniform=False)
                    yield VectorOp(negatives[y.name], "mul", (y, Imm(-1.0)))
                body.remove(widened[x.name])
                body.append(replace(s, op="widen_add", args=(*widened[x.name].args, negatives[y.name])))
            case _:
                body.append(s)
    yield replace(loop, body=tuple(body))
