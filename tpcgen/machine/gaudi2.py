"""Gaudi 2."""

from __future__ import annotations

from tpcgen.machine.model import Machine, Memory, Mme, Network, Tile, Tpc
from tpcgen.program.dtypes import DType

_SIXTEEN = (DType.BF16, DType.F16)
_EIGHT = (DType.F8_143, DType.F8_152)
_OUTPUTS = (DType.BF16, DType.F16, DType.F32, *_EIGHT)

GAUDI2 = Machine(
    name="gaudi2",
    mme=Mme(
        clock_hz=1.65e9,
        tiles=(
            Tile("2xw", 512, 256),
            Tile("2xh", 256, 512),
            Tile("4xw", 1024, 128, port_constrained=True),
            Tile("4xh", 128, 1024, port_constrained=True),
            Tile("2xw, 2 batches", 256, 256, 2, width_fits=True),
            Tile("2xh, 2 batches", 256, 256, 2, height_fits=True),
            Tile("4xw, 2 batches", 512, 128, 2, port_constrained=True, width_fits=True),
            Tile("4xh, 2 batches", 128, 512, 2, port_constrained=True, height_fits=True),
            Tile("2xw, 4 batches", 128, 128, 4, width_fits=True, height_fits=True),
            Tile("4xw, 4 batches", 256, 64, 4, width_fits=True, height_fits=True),
            Tile("4xh, 4 batches", 64, 256, 4, width_fits=True, height_fits=True),
            Tile("8 batches", 64, 64, 8, width_fits=True, height_fits=True),
        ),
        rollup=256,
        cycles_per_element={**dict.fromkeys(_SIXTEEN, 1.0), **dict.fromkeys(_EIGHT, 0.5), DType.F32: 4.0},
        minimum_common={
            **{(i, o): 256 * o.size // i.size for i in (*_SIXTEEN, *_EIGHT) for o in _OUTPUTS},
            **{(DType.F32, o): 64 * o.size // 4 for o in _OUTPUTS},
        },
        wide_input_scale=1.0,
        alignment={**dict.fromkeys(_SIXTEEN, 8), **dict.fromkeys(_EIGHT, 16), DType.F32: 2},
        line=128,
        port_rows=64,
        sources={
            "clock_hz": "R: IG3 mme, clock of the Gaudi 2 model, 1650 MHz",
            "tiles": "R: IG3 mme gaudi2 geometry attributes: two engines of 256x256; batch concurrency",
            "rollup": "R: IG3 mme_brain, roll-up time",
            "cycles_per_element": "I: 2 x 65536 MACs a cycle are the published 432 TFLOP/s in bf16; other dtypes by "
            "the width of the reduction tree, 16, 8 and 2 elements (fp8 gives the published 865)",
            "minimum_common": "R: IG3 synapse gaudi2 hal reader, minimum common dimension",
            "wide_input_scale": "R: IG3 mme gaudi2 geometry attributes: tiles do not depend on the dtype",
            "alignment": "R: IG3 mme gaudi2 hal reader, common-dimension alignment",
            "line": "R: IG3 synapse hal, cache line size",
            "port_rows": "R: IG3 mme gaudi2 geometry attributes: half a cache line of elements",
        },
    ),
    tpc=Tpc(
        clock_hz=1.79e9,
        engines=24,
        vector_bytes=256,
        access_cycles=4,
        vector_memory=80 * 1024,
        vector_memory_lookup=16 * 1024,
        launch_seconds=1e-6,
        sources={
            "clock_hz": "I: 24 TPCs of 128 bf16 MACs at this clock are the published 11 TFLOP/s (hal: 2000 MHz)",
            "engines": "R: vendor slides; IG3 synapse hal",
            "vector_bytes": "R: IG3 synapse hal, TPC vector size",
            "access_cycles": "S: TPC guide, one 256-byte access per 4 cycles and TPC",
            "vector_memory": "R: TLLVM README",
            "vector_memory_lookup": "R: TLLVM README",
            "launch_seconds": "A: between nodes of one graph; not published",
        },
    ),
    memory=Memory(
        hbm_bytes=96 * 2**30,
        hbm_rate=1945e9,
        sram_bytes=48 * 2**20,
        sram_rate=6554e9,
        dma_rate=970e9,
        dma_seconds=0.3e-6,
        sources={
            "hbm_bytes": "R: vendor slides",
            "hbm_rate": "R: IG3 synapse hal, what the vendor's compiler plans with (2.46 TB/s in the slides)",
            "sram_bytes": "R: vendor slides",
            "sram_rate": "R: IG3 synapse hal",
            "dma_rate": "R: IG3 synapse hal",
            "dma_seconds": "R: IG3 dma cost model, least overhead",
        },
    ),
    network=Network(
        box_cards=8,
        links_per_pair=3,
        link_rate=12.5e9,
        collective_seconds=7e-6,
        sources={
            "box_cards": "R: docs.habana.ai, Intel Gaudi Network Configuration",
            "links_per_pair": "R: as above: 21 of 24 ports connect to the other seven, all to all",
            "link_rate": "R: as above: 21 * 100 Gb/s are 262.5 GB/s one way",
            "collective_seconds": "I: as on Gaudi 3; none published for Gaudi 2",
        },
    ),
    fused_sdpa=True,
    sources={"fused_sdpa": "R: gaudi-pytorch-bridge"},
)
