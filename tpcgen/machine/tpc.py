"""How long a TPC kernel takes, from what it issues and what it moves; costs of operations without a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from tpcgen.machine.model import Machine


@dataclass(frozen=True, slots=True)
class TpcCost:
    """Totals over all members of the index space, as if one TPC ran them all.

    `bundles`: VLIW bundles; `accesses`: 256-byte global loads and stores; `members`: index-space members, the grain in
    which work goes to the engines; `known_by`: how the bundles are known ("schedule estimate", "slot estimate").
    """

    bundles: float
    accesses: float
    members: int
    known_by: str


@dataclass(frozen=True, slots=True)
class TpcTime:
    """`bound`: "TPC slots" or "TPC loads and stores"."""

    seconds: float
    bound: str
    formula: str


def tpc_time(machine: Machine, cost: TpcCost) -> TpcTime:
    """Engine time of the busiest TPC: cycles = max(bundles, 4 * accesses) of its members (toolchain.md 3.1)."""
    tpc = machine.tpc
    members = max(cost.members, 1)
    share = ceil(members / tpc.engines) / members
    slots, accesses = cost.bundles * share, tpc.access_cycles * cost.accesses * share
    cycles = max(slots, accesses)
    bound = "TPC slots" if slots >= accesses else "TPC loads and stores"
    formula = f"max({round(slots)} bundles, {tpc.access_cycles:g} * {round(cost.accesses * share)} accesses) per TPC"
    return TpcTime(cycles / tpc.clock_hz, bound, f"{formula} ({cost.known_by})")


@dataclass(frozen=True, slots=True)
class Words:
    """Issue words per vector of 64 lanes of 32 bits, by slot, when enough vectors are in flight."""

    vpu: float
    load: float = 0


SIMPLE = Words(1)
"""Addition, multiplication, comparison, select, and, minimum, maximum (toolchain.md 3.2)."""

FUNCTIONS: Mapping[str, Words] = {
    "exp": Words(22, 7),
    "exp2": Words(34, 8),
    "log": Words(37, 12),
    "sqrt": Words(18, 7),
    "rsqrt": Words(18, 7),
    "recip": Words(19, 6),
    "tanh": Words(15, 5),
    "sigmoid": Words(17, 6),
    "erf": Words(34, 8),
    "gelu": Words(36, 8),
    "silu": Words(18, 6),
    "elu": Words(24, 7),
    "softplus": Words(60, 19),
    "sin": Words(34, 7),
    "cos": Words(34, 7),
    "/": Words(30, 6),
}
"""Words per vector at gaudi2's saturated rate: toolchain.md 3.3, library functions; erf, gelu, silu, elu, softplus are
sums of what they are made of (I)."""

LANE_REDUCTION = Words(12, 2)
"""v_f32_reduce_add and _max, one vector (toolchain.md 3.3)."""

CONVERT = Words(1)
"""Half a bf16 <-> f32 conversion of 128 lanes (toolchain.md 3.3)."""
