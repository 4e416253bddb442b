"""What a machine is: numbers only, each with its source.

Sources: R read in the primary source, S in a secondary text, I inferred here, A assumed for lack of anything better.
IG3 is HabanaAI/Intel_Gaudi3_Software, TLLVM HabanaAI/tpc_llvm. To change a number, use `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpcgen.program.dtypes import DType


@dataclass(frozen=True, slots=True)
class Tile:
    """One way the MME engines work together: `gemms` results at a time, each `height` rows by `width` columns.

    For 2-byte inputs; see `Mme.wide_input_scale`. With `port_constrained` the operands need more input ports than there
    are. `width_fits` / `height_fits`: only for results no wider / higher than the tile.
    """

    name: str
    width: int
    height: int
    gemms: int = 1
    port_constrained: bool = False
    width_fits: bool = False
    height_fits: bool = False


@dataclass(frozen=True)
class Mme:
    """The matrix engines together.

    `rollup`: cycles to empty an accumulator tile, the least a tile takes. `cycles_per_element`: cycles per element of
    the common dimension, by input dtype. `minimum_common`: elements of the common dimension below which time does not
    fall, by (input, output) dtype. `wide_input_scale`: tile sides for 4-byte inputs relative to 2-byte ones.
    `alignment`: elements the common dimension is padded to, by input dtype. `line`: bytes of a memory line; rows that
    do not start on one cost two reads. `port_rows`: rows or columns one input port feeds.
    """

    clock_hz: float
    tiles: tuple[Tile, ...]
    rollup: int
    cycles_per_element: Mapping[DType, float]
    minimum_common: Mapping[tuple[DType, DType], int]
    wide_input_scale: float
    alignment: Mapping[DType, int]
    line: int
    port_rows: int
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Tpc:
    """The tensor processors.

    `access_cycles`: cycles per 256-byte global load or store of one TPC, sustained. `vector_memory`: bytes of vector
    local memory; `vector_memory_lookup` once a special function uses LOOKUP. `launch_seconds`: node to node.
    """

    clock_hz: float
    engines: int
    vector_bytes: int
    access_cycles: float
    vector_memory: int
    vector_memory_lookup: int
    launch_seconds: float
    sources: Mapping[str, str]


GATHER_ROW = 256
"""Bytes that an access to global memory moves however few are wanted (gaudi.md, section 3)."""


@dataclass(frozen=True)
class Memory:
    """Bytes and bytes per second; `dma_seconds` is the least time of a copy."""

    hbm_bytes: int
    hbm_rate: float
    sram_bytes: int
    sram_rate: float
    dma_rate: float
    dma_seconds: float
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Network:
    """The cards of one box, each pair connected by links of its own.

    `link_rate`: bytes per second of one link, one way; all links work at a time. `collective_seconds`: what a
    collective takes beside its bytes.
    """

    box_cards: int
    links_per_pair: int
    link_rate: float
    collective_seconds: float
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Machine:
    """`fused_sdpa`: whether the vendor's fused attention exists."""

    name: str
    mme: Mme
    tpc: Tpc
    memory: Memory
    network: Network
    fused_sdpa: bool
    sources: Mapping[str, str]
