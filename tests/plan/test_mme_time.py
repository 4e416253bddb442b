"""The vendor's MME formula against other people's measurements (published_timings.md) and by hand."""

from __future__ import annotations

import dataclasses

import pytest

from tpcgen.machine import GAUDI, GAUDI2, GAUDI3, MACHINES
from tpcgen.machine.dma import copy_seconds
from tpcgen.machine.mme import Matmul, choices, mme_cost
from tpcgen.machine.tpc import TpcCost, tpc_time
from tpcgen.program.dtypes import DType

BF16, F32, F8 = DType.BF16, DType.F32, DType.F8_143

PUBLISHED = {
    "T1 gemm 8192^3 bf16": (Matmul(1, 8192, 8192, 8192, BF16, BF16), 2563e-6),
    "T4 grouped gemm, long K": (Matmul(8, 1024, 512, 6144, BF16, F32), 133.1e-6),
    "T5 grouped gemm, short K": (Matmul(8, 1024, 6144, 256, BF16, F32), 130.7e-6),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_gemms_within_15_percent(row):
    matmul, measured = PUBLISHED[row]
    predicted = mme_cost(GAUDI2, matmul).seconds
    assert abs(predicted - measured) < 0.15 * measured
    assert predicted < measured, "the formula is a lower bound"


def test_peaks_are_the_published_ones():
    """gaudi.md section 1: 60, 432 and 1677 TFLOP/s in bf16, 865 in fp8 on Gaudi 2."""
    for machine, dtype, tflops in ((GAUDI, BF16, 60), (GAUDI2, BF16, 432), (GAUDI2, F8, 865), (GAUDI3, BF16, 1677)):
        seconds = mme_cost(machine, Matmul(1, 16384, 16384, 16384, dtype, BF16)).seconds
        assert 2 * 16384**3 / seconds / 1e12 == pytest.approx(tflops, rel=0.02)


def test_head_dim_64_runs_at_a_quarter_of_the_peak_and_half_of_that_with_f32_scores():
    """gaudi.md section 2, inferred from the minimum common dimension."""
    bf16 = mme_cost(GAUDI2, Matmul(16, 1024, 1024, 64, BF16, BF16, rhs_common_last=True))
    f32 = mme_cost(GAUDI2, Matmul(16, 1024, 1024, 64, BF16, F32, rhs_common_last=True))
    assert bf16.bound == f32.bound == "rollup"
    assert bf16.utilisation == pytest.approx(0.25)
    assert f32.utilisation == pytest.approx(0.125)


def test_by_hand():
    one = mme_cost(GAUDI2, Matmul(1, 1000, 1000, 512, BF16, BF16))
    assert (one.tile.name, one.cycles) == ("2xw", 2 * 4 * 512)
    batched = mme_cost(GAUDI2, Matmul(32, 64, 64, 1024, BF16, BF16))
    assert (batched.tile.gemms, batched.cycles) == (8, 4 * 1024)
    halves = mme_cost(GAUDI2, Matmul(6, 1024, 256, 1024, BF16, BF16))
    assert halves.cycles == 4 * 3 * 1024


def test_tiles_that_need_too_many_ports_cost_twice_on_their_constrained_steps():
    wide = Matmul(1, 128, 2048, 4096, BF16, BF16, lhs_common_last=False)
    cost = mme_cost(GAUDI2, wide)
    assert cost.tile.name == "4xw"
    assert cost.cycles == 2 * 4096 + 1 * 4096
    symmetric = -(-2048 // 512) * 4096
    assert cost.cycles < symmetric


def test_odd_rows_are_read_twice():
    aligned = mme_cost(GAUDI2, Matmul(1, 2048, 2048, 2048, BF16, BF16))
    odd = mme_cost(GAUDI2, Matmul(1, 2048, 2047, 2047, BF16, BF16))
    assert aligned.bound == "compute"
    assert odd.bound == "input read"
    assert odd.seconds > aligned.seconds


def test_time_never_falls_with_a_dimension():
    for machine in MACHINES.values():
        for dtype in (BF16, F32):
            for field in ("batch", "m", "n", "k"):
                base = Matmul(4, 256, 256, 256, dtype, F32)
                times = [
                    mme_cost(machine, dataclasses.replace(base, **{field: size})).seconds
                    for size in (64, 128, 256, 512, 1024)
                ]
                assert times == sorted(times), (machine.name, dtype, field)


def test_every_number_of_a_machine_has_a_source():
    for machine in MACHINES.values():
        for part in (machine.mme, machine.tpc, machine.memory):
            fields = {f.name for f in dataclasses.fields(part)} - {"sources"}
            assert fields == set(part.sources)
            assert all(s[:3] in ("R: ", "S: ", "I: ", "A: ") for s in part.sources.values())
        assert set(machine.sources) == {"fused_sdpa"}


def test_stream_add_is_bound_by_accesses_and_copies_by_memory():
    """T13: an addition of two arrays moves three vectors per operation: 12 cycles, whatever the slots do."""
    time = tpc_time(GAUDI2, TpcCost(bundles=1000, accesses=3000, members=24, known_by="test"))
    assert time.bound == "TPC loads and stores"
    assert time.seconds == pytest.approx(3000 / 24 * 4 / 1.79e9)
    ragged = tpc_time(GAUDI2, TpcCost(bundles=2500, accesses=0, members=25, known_by="test"))
    assert ragged.seconds == pytest.approx(200 / 1.79e9)
    assert copy_seconds(GAUDI2, 0) == GAUDI2.memory.dma_seconds
    assert copy_seconds(GAUDI2, 970 * 10**6) == pytest.approx(1e-3, rel=0.01)


def test_other_ways_to_ask_for_a_product_are_priced():
    """Scores of head dim 64: a bf16 result halves the time, packing two heads gains nothing, it only computes zeros."""
    scores = Matmul(16, 1024, 1024, 64, BF16, F32, rhs_common_last=True)  # the same with its operands swapped
    own = mme_cost(GAUDI2, scores).seconds
    found = {name: cost.seconds for name, _, cost in choices(GAUDI2, scores)}
    assert set(found) == {
        "first operand transposed",
        "second operand transposed",
        "bf16 result",
        "two heads packed",
    }
    assert found["bf16 result"] == pytest.approx(own / 2)
    assert found["two heads packed"] == pytest.approx(own)
    wide = Matmul(1, 128, 2048, 4096, BF16, BF16, lhs_common_last=False)
    by_name = {name: (m, cost) for name, m, cost in choices(GAUDI2, wide)}
    assert "two heads packed" not in by_name
    swapped, cost = by_name["operands swapped"]
    assert (swapped.m, swapped.n, swapped.lhs_common_last, swapped.rhs_common_last) == (2048, 128, False, False)
    assert cost.seconds == mme_cost(GAUDI2, swapped).seconds
    assert by_name["f32 result"][1].seconds >= mme_cost(GAUDI2, wide).seconds
    odd = Matmul(1, 2048, 2047, 2047, BF16, BF16)
    better = {name: cost.seconds for name, _, cost in choices(GAUDI2, odd)}["first operand transposed"]
    assert better < 0.6 * mme_cost(GAUDI2, odd).seconds, "rows of 2048 elements start on memory lines, of 2047 not"
