"""Gaudi 1."""

from __future__ import annotations

from tpcgen.machine.model import Machine, Memory, Mme, Network, Tile, Tpc
from tpcgen.program.dtypes import DType

GAUDI = Machine(
    name="gaudi",
    mme=Mme(
        clock_hz=1.8e9,
        tiles=(
            Tile("2wx2h", 128, 128),
            Tile("4wx1h", 256, 64, port_constrained=True),
            Tile("1wx4h", 64, 256, port_constrained=True),
            Tile("2wx2h, 2 batches high", 128, 64, 2, width_fits=True, height_fits=True),
            Tile("2wx2h, 2 batches wide", 64, 128, 2, width_fits=True, height_fits=True),
        ),
        rollup=128,
        cycles_per_element={DType.BF16: 1, DType.F32: 1},
        minimum_common={
            (DType.BF16, DType.BF16): 128,
            (DType.BF16, DType.F32): 256,
            (DType.F32, DType.F32): 64,
            (DType.F32, DType.BF16): 32,
        },
        wide_input_scale=0.5,
        alignment={DType.BF16: 1, DType.F32: 1},
        line=128,
        port_rows=64,
        sources={
            "clock_hz": "R: IG3 mme, clock of the Gaudi model, 1800 MHz",
            "tiles": "R: IG3 mme gaudi geometry attributes: 4 units of 64x64; 2-batch unroll of the symmetric one",
            "rollup": "R: IG3 mme_brain, roll-up time",
            "cycles_per_element": "I: 128x128 MACs a cycle are the published 60 TFLOP/s; f32 has a quarter tile",
            "minimum_common": "R: IG3 synapse gaudi1 hal reader, minimum common dimension",
            "wide_input_scale": "R: IG3 mme gaudi geometry attributes: units of 32x32 for f32",
            "alignment": "I: no alignment of the common dimension in the Gaudi model",
            "line": "R: IG3 synapse hal, cache line size",
            "port_rows": "R: IG3 mme gaudi geometry attributes: a port feeds a unit's whole side",
        },
    ),
    tpc=Tpc(
        clock_hz=1.8e9,
        engines=8,
        vector_bytes=256,
        access_cycles=4,
        vector_memory=80 * 1024,
        vector_memory_lookup=16 * 1024,
        launch_seconds=1e-6,
        sources={
            "clock_hz": "I: gaudi.md section 1, the table of devices",
            "engines": "R: vendor slides; IG3 synapse hal",
            "vector_bytes": "R: IG3 synapse hal, TPC vector size",
            "access_cycles": "S: TPC guide, one 256-byte access per 4 cycles and TPC",
            "vector_memory": "R: TLLVM README",
            "vector_memory_lookup": "R: TLLVM README",
            "launch_seconds": "A: between nodes of one graph; not published",
        },
    ),
    memory=Memory(
        hbm_bytes=32 * 2**30,
        hbm_rate=950e9,
        sram_bytes=20 * 2**20,
        sram_rate=1045e9,
        dma_rate=894e9,
        dma_seconds=0.3e-6,
        sources={
            "hbm_bytes": "R: vendor slides",
            "hbm_rate": "R: IG3 synapse hal, what the vendor's compiler plans with",
            "sram_bytes": "R: driver header (24 MB in the slides)",
            "sram_rate": "R: IG3 synapse hal",
            "dma_rate": "R: IG3 synapse hal",
            "dma_seconds": "I: Gaudi 2's minimum, IG3 dma cost model; none given for Gaudi 1",
        },
    ),
    network=Network(
        box_cards=8,
        links_per_pair=1,
        link_rate=12.5e9,
        collective_seconds=7e-6,
        sources={
            "box_cards": "R: docs.habana.ai, TensorFlow, Distributed Training Overview",
            "links_per_pair": "R: as above: seven of a device's ten ports connect to the other seven, all to all",
            "link_rate": "R: as above: 100 Gigabit Ethernet ports, in bytes",
            "collective_seconds": "I: as on Gaudi 3; none published for Gaudi 1",
        },
    ),
    fused_sdpa=False,
    sources={"fused_sdpa": "R: gaudi-pytorch-bridge: not on Gaudi 1"},
)
