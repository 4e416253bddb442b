"""How long moving bytes takes: HBM traffic of a stage, and copies."""

from __future__ import annotations

from math import ceil

from tpcgen.machine.model import Machine

LINE = 128
"""Bytes of a cache line, to which transfers are rounded up (IG3 dma cost model)."""


def copy_seconds(machine: Machine, payload: int) -> float:
    """A copy of `payload` bytes within HBM: read and written once, and the least time of a copy.

    Bounded by DMA bandwidth and by HBM for both directions (IG3 dma cost model, restated in gaudi.md section 1).
    """
    memory = machine.memory
    lines = ceil(payload / LINE) * LINE
    return max(lines / memory.dma_rate, 2 * lines / memory.hbm_rate) + memory.dma_seconds


def traffic_seconds(machine: Machine, hbm: int, sram: int) -> float:
    """Time for a stage's traffic, bytes by the memory they live in."""
    return max(hbm / machine.memory.hbm_rate, sram / machine.memory.sram_rate)
