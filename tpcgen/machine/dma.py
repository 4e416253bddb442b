"""How long moving bytes takes: HBM traffic of a stage, and copies."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tpcgen.machine.model import Machine

LINE = 128
"""Bytes of a cache line, to which transfers are rounded up (IG3 dma cost model)."""


@dataclass(frozen=True, slots=True)
class Copy:
    """`seconds` of the DMA engine, `least` what any copy takes on top, `hbm` bytes read and written."""

    seconds: float
    least: float
    hbm: int


def copy(machine: Machine, payload: int) -> Copy:
    """A copy of `payload` bytes within HBM (IG3 dma cost model, restated in gaudi.md section 1)."""
    lines = ceil(payload / LINE) * LINE
    return Copy(lines / machine.memory.dma_rate, machine.memory.dma_seconds, 2 * lines)


def copy_seconds(machine: Machine, payload: int) -> float:
    """Alone: bounded by DMA bandwidth and by HBM for both directions, plus the least time of a copy."""
    work = copy(machine, payload)
    return max(work.seconds, work.hbm / machine.memory.hbm_rate) + work.least


def traffic_seconds(machine: Machine, hbm: int, sram: int) -> float:
    """Time for a stage's traffic, bytes by the memory they live in."""
    return max(hbm / machine.memory.hbm_rate, sram / machine.memory.sram_rate)
