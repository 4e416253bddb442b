"""Reductions across the lanes of a vector: every lane ends with the result of all.

Of one register by a butterfly: dual groups, groups, then the 8 lanes of a group exchange what they have. Several
registers, of the rows in flight, share it: in a step two of them become one, in which the lanes of either half go on
with one row each, so that the work halves with every step. Their results are then in one register, one to a dual group
or to a group, from where each is spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tpcgen.kernel.ir import Imm, Operand, Reg, VectorOp, VType
from tpcgen.kernel.scopes import Scopes

_SWAPS = {"near": "swap_dual_groups_near", "far": "swap_dual_groups_far", "groups": "swap_groups"}
MOST = 1 << len(_SWAPS)
"""Rows that can share one."""

Merge = Callable[[int, Reg, Operand], None]
"""Reduces the second register into the first, at a block's level."""


def across_lanes(scopes: Scopes, level: int, totals: Sequence[Reg], merge: Merge) -> list[Reg]:
    """Of each register of one part, in order; a power of two of them, `MOST` or fewer, share the work."""
    shared = [*totals]
    steps = [*_SWAPS]
    halvings = len(totals).bit_length() - 1
    for step in steps[:halvings]:
        shared = [_halves(scopes, level, step, a, b, merge) for a, b in zip(shared[::2], shared[1::2], strict=True)]
    (result,) = shared
    for step in steps[halvings:]:
        merge(level, result, scopes.emit(level, _SWAPS[step], (result,)))
    for distance in (1, 2, 4):
        merge(level, result, scopes.emit(level, "shuffle", (result, _exchange(scopes, distance))))
    if not halvings:
        return [replace(result, uniform=True)]
    return [_spread(scopes, level, result, row, halvings) for row in range(len(totals))]


def _halves(scopes: Scopes, level: int, step: str, a: Reg, b: Reg, merge: Merge) -> Reg:
    """Both halves of `a` in its first half, those of `b` in the second."""
    result = scopes.emit(level, f"first_{step}", (a, b), "both")
    merge(level, result, scopes.emit(level, f"second_{step}", (a, b)))
    return result


def _spread(scopes: Scopes, level: int, shared: Reg, row: int, halvings: int) -> Reg:
    """Row's bit 0 is that of its dual group's number, bit 1 the other one, bit 2 the group."""
    if halvings == len(_SWAPS):
        group = row >> 2
        found = scopes.recall(
            level,
            ("group", shared, group),
            lambda: scopes.emit(level, "shuffle", (shared, _of_group(scopes, group)), "picked"),
        )
        assert isinstance(found, Reg)
        shared = found
    dual_group = row % 4 if halvings > 1 else row
    return replace(_pick(scopes, level, shared, dual_group), uniform=True)


def _pick(scopes: Scopes, level: int, shared: Reg, dual_group: int) -> Reg:
    dest = scopes.register("row", VType.F32, 1, uniform=True)
    scopes.append(level, VectorOp(dest, "pick_dual_group", (shared, Imm(dual_group))))
    return dest


def _exchange(scopes: Scopes, distance: int) -> Operand:
    """Control of SHUFFLE that exchanges lanes of a group at a distance."""
    return _control(scopes, f"exchange_{distance}", "shuffle_control", distance)


def _of_group(scopes: Scopes, group: int) -> Operand:
    """Control of SHUFFLE that puts the first lane of a group of each dual group in all its lanes."""
    return _control(scopes, f"group_{group}", "group_control", group)


def _control(scopes: Scopes, name: str, op: str, value: int) -> Operand:
    def make() -> Reg:
        dest = scopes.register(name, VType.CTRL, 1)
        scopes.append(0, VectorOp(dest, op, (Imm(value),)))
        return dest

    return scopes.recall(0, (op, value), make)
