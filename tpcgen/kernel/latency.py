"""How long one pass of a block takes when nothing but dependencies holds it back: the pipeline is exposed, and the open
compiler does not overlap one iteration of a loop with the next.

Latencies from producer to consumer are those of the compiler's tables (toolchain.md 3.2).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from tpcgen.kernel.coordinates import Coords, accesses
from tpcgen.kernel.ir import (
    Broadcast,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Operand,
    Reg,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
    VectorOp,
)
from tpcgen.program.ir import Expr, Index, children, free_indices

_VPU = 4
_MULTIPLY = 6
_SHUFFLE = 5
_MOVE_DUAL_GROUP = 6
_COMPARE = 2
_LOAD = 4
_BROADCAST = 1 + _LOAD
_SCALAR_LOAD = 11
"""Of gen_addr and ld_g, to all lanes and to a scalar register."""
_SPU, _SET_INDEX = 4, 1
_LATENCY = {
    "mul": _MULTIPLY,
    "mac": _MULTIPLY,
    "mac_by_parts": _MULTIPLY,
    "bmac": _MULTIPLY,
    "madd": _MULTIPLY,
    "nmadd": _MULTIPLY,
    "widen_add": _MULTIPLY,
    "bmul": _MULTIPLY,
    "bneg": _MULTIPLY,
    "imul": _MULTIPLY,
    "shuffle": _SHUFFLE,
    "swap_groups": _SHUFFLE,
    "swap_dual_groups_near": _MOVE_DUAL_GROUP,
    "swap_dual_groups_far": _MOVE_DUAL_GROUP,
    "first_near": _MOVE_DUAL_GROUP,
    "first_far": _MOVE_DUAL_GROUP,
    "second_near": _MOVE_DUAL_GROUP,
    "second_far": _MOVE_DUAL_GROUP,
    "pick_dual_group": _MOVE_DUAL_GROUP,
    "first_groups": _SHUFFLE,
    "second_groups": _SHUFFLE,
    "bits": 0,
    "unbits": 0,
    "part1": 0,
    "part2": 0,
}


def critical_path(
    kernel: Kernel, statements: Sequence[Statement], var: str = "", carried: Container[int] | None = None
) -> int:
    """Bundles from the first to the last issue along the longest chain of a block, loops in it left out.

    `var`: of the loop around the block; `carried`: numbers of the accesses whose coordinates are at hand
    (`coordinates.Plan.uses`), all where it is None.
    """
    return max(issues(kernel, statements, var, carried), default=0) + 1


def issues(
    kernel: Kernel, statements: Sequence[Statement], var: str = "", carried: Container[int] | None = None
) -> list[int]:
    """When each statement is issued if it waits for its operands only, arguments as of `critical_path`; calls written
    out as `inlined` does. Loads count as issued at once, stores as if their value came in the next bundle.
    """
    ready: dict[str, int] = {var: 0}
    found: list[int] = []
    for s, places in inlined(kernel, statements, carried):
        addressed = max((_built(c, ready) for c in places), default=0)
        issue = 0
        match s:
            case ScalarLet():
                ready[s.name] = _arithmetic(s.value, ready)
            case ScalarLoad():
                ready[s.name] = addressed + _SCALAR_LOAD
            case Load():
                ready[s.dest.name] = addressed + _LOAD
            case LocalLoad():
                ready[s.dest.name] = _LOAD
            case Broadcast():
                ready[s.dest.name] = addressed + _BROADCAST
            case VectorOp():
                for o in (*s.args, s.pred):
                    if isinstance(o, Reg):
                        issue = max(issue, ready.get(o.name, 0))
                ready[s.dest.name] = issue + latency(s.op)
            case Store() | LocalStore():
                issue = max(0, ready.get(s.value.name, 0) - _VPU + 1)
            case _:
                pass
        found.append(issue)
    return found


def _built(coords: Coords, ready: Mapping[str, int]) -> int:
    """When coordinates that are built in place are: arithmetic, then SET_INDX."""
    return max((_arithmetic(c, ready) for c in coords), default=0) + _SET_INDEX


def _arithmetic(e: Expr, ready: Mapping[str, int]) -> int:
    """When an integer expression is known; what the loop does not change is there."""
    if isinstance(e, Index):
        return ready.get(e.name, 0)
    if free_indices(e).isdisjoint(ready):
        return 0
    return max(_arithmetic(x, ready) for x in children(e)) + _SPU


def latency(op: str) -> int:
    """Bundles until a VPU operand can be the result."""
    return _COMPARE if "cmp_" in op else _LATENCY.get(op, _VPU)


def inlined(
    kernel: Kernel, statements: Sequence[Statement], carried: Container[int] | None
) -> Iterator[tuple[Statement, list[Coords]]]:
    """Statements with the coordinates they build. Calls are replaced by what they do; registers of a call have its
    result's name in theirs.
    """
    number = 0
    for s in statements:
        if not isinstance(s, Invoke):
            places = accesses(kernel, s)
            built = [c for n, c in enumerate(places, number) if carried is not None and n not in carried]
            number += len(places)
            yield s, built
            continue
        f = kernel.function(s.function)
        names = {p.name: a.name for p, a in zip(f.parameters, s.arguments, strict=True)}
        names[f.result.name] = s.dest.name
        for op in f.body:
            args = tuple(_renamed(a, names, s.dest.name) for a in op.args)
            dest = _renamed_reg(op.dest, names, s.dest.name)
            yield VectorOp(dest, op.op, args, op.pred, op.fresh), []


def _renamed(o: Operand, names: dict[str, str], call: str) -> Operand:
    return _renamed_reg(o, names, call) if isinstance(o, Reg) else o


def _renamed_reg(r: Reg, names: dict[str, str], call: str) -> Reg:
    return Reg(names.get(r.name, f"{r.name}.{call}"), r.type, r.parts, r.uniform)
