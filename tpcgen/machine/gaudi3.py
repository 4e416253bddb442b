"""Gaudi 3. No open compiler for its TPC exists; what is said here is what its published sources say."""

from __future__ import annotations

from tpcgen.machine.model import Machine, Memory, Mme, Network, Tile, Tpc
from tpcgen.program.dtypes import DType

_EIGHT = (DType.F8_143, DType.F8_152)
_OUTPUTS = (DType.BF16, DType.F16, DType.F32, *_EIGHT)

GAUDI3 = Machine(
    name="gaudi3",
    mme=Mme(
        clock_hz=1.6e9,
        tiles=(
            Tile("2xw", 1024, 512),
            Tile("4xw", 2048, 256),
            Tile("2xh", 512, 1024),
            Tile("4xh", 256, 2048),
            Tile("2xw, 2 batches", 512, 512, 2, width_fits=True),
            Tile("2xw, 4 batches", 256, 512, 4, width_fits=True),
            Tile("2xw, 8 batches", 256, 256, 8, width_fits=True, height_fits=True),
            Tile("2xw, 16 batches", 128, 128, 16, width_fits=True, height_fits=True),
        ),
        rollup=512,
        cycles_per_element={DType.BF16: 1, **dict.fromkeys(_EIGHT, 1), DType.F16: 4, DType.F32: 8},
        minimum_common={
            **{(i, o): 256 * o.size for i in (DType.BF16, *_EIGHT) for o in _OUTPUTS},
            **{(DType.F16, o): 64 * o.size for o in _OUTPUTS},
            **{(DType.F32, o): 32 * o.size for o in _OUTPUTS},
        },
        wide_input_scale=1.0,
        alignment={DType.BF16: 8, **dict.fromkeys(_EIGHT, 8), DType.F16: 2, DType.F32: 1},
        line=128,
        port_rows=64,
        sources={
            "clock_hz": "R: IG3 mme, clock of the Gaudi 3 model, 1600 MHz",
            "tiles": "R: IG3 mme gaudi3 geometry attributes: eight engines of 256x256; concurrency of batched gemms",
            "rollup": "R: IG3 mme_brain, roll-up time, marked there as to be verified",
            "cycles_per_element": "I: 8 x 65536 MACs a cycle are the published 1677 TFLOP/s in bf16 and fp8; other "
            "dtypes by the width of the reduction tree",
            "minimum_common": "R: IG3 synapse gaudi3 hal reader, minimum common dimension",
            "wide_input_scale": "R: IG3 mme gaudi3 geometry attributes: tiles do not depend on the dtype",
            "alignment": "R: IG3 mme gaudi3 hal reader, common-dimension alignment",
            "line": "R: IG3 mme gaudi3 hal reader, cache line size",
            "port_rows": "I: as on Gaudi 2",
        },
    ),
    tpc=Tpc(
        clock_hz=1.75e9,
        engines=64,
        vector_bytes=256,
        access_cycles=4,
        vector_memory=80 * 1024,
        vector_memory_lookup=16 * 1024,
        launch_seconds=1e-6,
        sources={
            "clock_hz": "I: 64 TPCs of 128 bf16 MACs at this clock are the published 28.7 TFLOP/s",
            "engines": "R: vendor slides; IG3 synapse hal",
            "vector_bytes": "R: IG3 synapse hal, TPC vector size",
            "access_cycles": "I: as on Gaudi 2",
            "vector_memory": "I: as on Gaudi 2",
            "vector_memory_lookup": "I: as on Gaudi 2",
            "launch_seconds": "A: between nodes of one graph; not published",
        },
    ),
    memory=Memory(
        hbm_bytes=128 * 2**30,
        hbm_rate=2918e9,
        sram_bytes=96 * 2**20,
        sram_rate=12.8e12,
        dma_rate=2918e9,
        dma_seconds=0.3e-6,
        sources={
            "hbm_bytes": "R: vendor slides",
            "hbm_rate": "R: IG3 synapse hal, what the vendor's compiler plans with (3.67 TB/s in the slides)",
            "sram_bytes": "R: vendor slides; a cache on Gaudi 3",
            "sram_rate": "R: vendor slides",
            "dma_rate": "I: copies are bound by HBM; the compiler has no DMA engines of its own (IG3 hal)",
            "dma_seconds": "I: as on Gaudi 2",
        },
    ),
    network=Network(
        box_cards=8,
        links_per_pair=3,
        link_rate=25e9,
        collective_seconds=7e-6,
        sources={
            "box_cards": "R: docs.habana.ai, Intel Gaudi Network Configuration",
            "links_per_pair": "R: as above: 21 of 24 ports connect to the other seven, all to all",
            "link_rate": "R: as above: 21 * 200 Gb/s are 525 GB/s one way",
            "collective_seconds": "I: docs.habana.ai, Collectives Performance: an all-gather of 16 MiB among 8 takes "
            "230.6 us, 1000 in a row; what its bytes at these rates leave of it",
        },
    ),
    fused_sdpa=True,
    sources={"fused_sdpa": "R: gaudi-pytorch-bridge"},
)
