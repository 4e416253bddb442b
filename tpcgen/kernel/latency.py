"""How long one pass of a block takes when nothing but dependencies holds it back: the pipeline is exposed, and the open
compiler does not overlap one iteration of a loop with the next.

Latencies from producer to consumer are those of the compiler's tables (toolchain.md 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tpcgen.kernel.ir import (
    Broadcast,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Operand,
    Reg,
    Statement,
    Store,
    VectorOp,
)

_VPU = 4
_MULTIPLY = 6
_SHUFFLE = 5
_MOVE_DUAL_GROUP = 6
_COMPARE = 2
_LOAD = 4
_BROADCAST = 11
_LATENCY = {
    "mul": _MULTIPLY,
    "mac": _MULTIPLY,
    "madd": _MULTIPLY,
    "nmadd": _MULTIPLY,
    "imul": _MULTIPLY,
    "shuffle": _SHUFFLE,
    "swap_groups": _SHUFFLE,
    "swap_dual_groups_near": _MOVE_DUAL_GROUP,
    "swap_dual_groups_far": _MOVE_DUAL_GROUP,
    "bits": 0,
    "unbits": 0,
    "part1": 0,
    "part2": 0,
}


def critical_path(kernel: Kernel, statements: Sequence[Statement]) -> int:
    """Bundles from the first to the last issue along the longest chain of a block, loops in it left out."""
    ready: dict[str, int] = {}
    last = 0
    for s in _inlined(kernel, statements):
        match s:
            case Load():
                ready[s.dest.name] = _LOAD
            case LocalLoad():
                ready[s.dest.name] = _LOAD
            case Broadcast():
                ready[s.dest.name] = _BROADCAST
            case VectorOp():
                operands: list[Operand | None] = [*s.args, s.pred]
                issue = max((ready.get(o.name, 0) for o in operands if isinstance(o, Reg)), default=0)
                ready[s.dest.name] = issue + latency(s.op)
                last = max(last, issue)
            case Store() | LocalStore():
                last = max(last, ready.get(s.value.name, 0) - _VPU + 1)
            case _:
                pass
    return last + 1


def latency(op: str) -> int:
    """Bundles until a VPU operand can be the result."""
    return _COMPARE if "cmp_" in op else _LATENCY.get(op, _VPU)


def _inlined(kernel: Kernel, statements: Sequence[Statement]) -> Iterator[Statement]:
    """Calls replaced by what they do; registers of a call have its result's name in theirs."""
    for s in statements:
        if not isinstance(s, Invoke):
            yield s
            continue
        f = kernel.function(s.function)
        names = {p.name: a.name for p, a in zip(f.parameters, s.arguments, strict=True)}
        names[f.result.name] = s.dest.name
        for op in f.body:
            args = tuple(_renamed(a, names, s.dest.name) for a in op.args)
            yield replace(op, dest=_renamed_reg(op.dest, names, s.dest.name), args=args)


def _renamed(o: Operand, names: dict[str, str], call: str) -> Operand:
    return _renamed_reg(o, names, call) if isinstance(o, Reg) else o


def _renamed_reg(r: Reg, names: dict[str, str], call: str) -> Reg:
    return replace(r, name=names.get(r.name, f"{call}.{r.name}"))
