"""Plans of long sequences: memory linear in the length, and graphs that do not grow with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tpcgen.emit.composite import function
from tpcgen.kernel.cycles import stage_cost
from tpcgen.machine import GAUDI2
from tpcgen.partition.choose import choose
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.estimate import estimate
from tpcgen.partition.plan import TpcStage
from tpcgen.partition.price import price
from tpcgen.program import load, sizes
from tpcgen.rewrite.vjp import vjp

STD = Path(__file__).parents[2] / "std"
LONG, W, HEADS = 131072, 1024, 8
BYTES = 10
"""Of a point of the band, at D = E = 64: a score of 4 bytes, a weight of 2 or 4, and the rest for copies, inputs and
outputs.
"""
GRADIENT_BYTES = {"f32": 23, "bf16": 16}


def program(name: str, dtype: str):
    return load(str(STD / f"{name}.dsl")).program(name, T=dtype)


def window_of(n: int) -> dict[str, int]:
    return {"B": 1, "H": HEADS, "N": n, "D": 64, "E": 64, "W": W}


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_memory_of_a_window_is_that_of_its_band(dtype):
    """At most 10 bytes for each of the H N (W + block) points: 10.6 to 12.5 GiB at N = 131,072 and W = 1,024, where the
    square takes 768 GiB or more.
    """
    window = program("window", dtype)
    plans = enumerate_plans(window, "gaudi2")
    peaks = {
        n: {p.label: price(p, GAUDI2, sizes.bind(window, window_of(n)), estimate).peak for p in plans}
        for n in (LONG // 2, LONG)
    }
    banded = {label: int(found[1]) for label in peaks[LONG] if (found := re.match(r"bands of (\d+):", label))}
    assert set(banded.values()) == {64, 128, 256}
    for label, block in banded.items():
        assert peaks[LONG][label] <= BYTES * HEADS * LONG * (W + block)
        assert peaks[LONG][label] == 2 * peaks[LONG // 2][label]
    assert choose(window, "gaudi2", sizes.bind(window, window_of(LONG))).plan.label in banded
    square = 4 * HEADS * LONG * LONG
    fused = {label for label in peaks[LONG] if label.startswith("one kernel")}
    assert len(fused) == 2
    assert all(peak > square for label, peak in peaks[LONG].items() if label not in fused | {*banded})
    assert max(peaks[LONG][label] for label in fused) < min(peaks[LONG][label] for label in banded) / 3


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_memory_of_the_gradient_of_a_window_is_that_of_its_band(dtype):
    """A score and its cotangent of 4 bytes, a weight and a gradient of 2 or 4, what each block adds to keys and values,
    and copies: 15.7 to 23.5 GiB, where squares take 1,536 GiB or more.
    """
    gradient = vjp(program("window", dtype), ("Q", "K", "V"))
    plans = enumerate_plans(gradient, "gaudi2")
    peaks = {
        n: {p.label: price(p, GAUDI2, sizes.bind(gradient, window_of(n)), estimate).peak for p in plans}
        for n in (LONG // 2, LONG)
    }
    banded = {label: int(found[1]) for label in peaks[LONG] if (found := re.match(r"bands of (\d+):", label))}
    assert set(banded.values()) == {64, 128, 256}
    for label, block in banded.items():
        assert peaks[LONG][label] <= GRADIENT_BYTES[dtype] * HEADS * LONG * (W + block)
        assert peaks[LONG][label] == 2 * peaks[LONG // 2][label]
    assert choose(gradient, "gaudi2", sizes.bind(gradient, window_of(LONG))).plan.label in banded
    square = 4 * HEADS * LONG * LONG
    assert all(peak > square for label, peak in peaks[LONG].items() if label not in banded)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(
    ("file", "op", "band", "slabs"), [("longformer", "longformer_first", 2 * W, 2), ("sinks", "streaming", W, 1)]
)
@pytest.mark.parametrize("backward", [False, pytest.param(True, marks=pytest.mark.full)])
def test_the_memory_of_a_union_is_that_of_its_parts(backward, file, op, band, slabs, dtype):
    """As of a window, with rows or columns of all tokens for each slab, and 4 bytes of each value of a part.

    Backward streaming attention takes 16.2 to 17.5 GiB in bf16, where squares take 705 or more.
    """
    union = load(str(STD / f"{file}.dsl")).program(op, T=dtype)
    union, of_a_point = (vjp(union, ("Q", "K", "V")), GRADIENT_BYTES[dtype]) if backward else (union, BYTES)
    own = {*union.sizes, *(a.name for a in union.attributes)}
    plans = enumerate_plans(union, "gaudi2")
    first = 64
    peaks = {p.label: price(p, GAUDI2, bound_to(union, LONG, own, first), estimate).peak for p in plans}
    banded = {label: int(found[1]) for label in peaks if (found := re.match(r"merged parts, bands of (\d+):", label))}
    assert set(banded.values()) == {64, 128, 256}
    for label, block in banded.items():
        assert peaks[label] <= of_a_point * HEADS * LONG * (band + block + slabs * first) + 4 * HEADS * LONG * 64
    assert choose(union, "gaudi2", bound_to(union, LONG, own, first)).plan.label in banded
    square = 4 * HEADS * LONG * (LONG // 2)
    assert all(peak > square for label, peak in peaks.items() if label not in banded)


def bound_to(union, n, own, first):
    values = window_of(n) | {"G": first, "C": first}
    return sizes.bind(union, {k: v for k, v in values.items() if k in own})


@pytest.mark.parametrize(
    ("file", "op"),
    [("block_sparse", "block_sparse"), ("document", "document"), ("varlen", "varlen"), ("varlen", "varlen_cross")],
)
def test_a_mask_of_data_costs_no_more_than_the_square(file, op):
    """Twice the length is four times the time, of which no part is a search per point of the square."""
    spec = load(str(STD / f"{file}.dsl")).program(op, T="bf16")
    own = {*spec.sizes, *(a.name for a in spec.attributes)}
    time = {}
    for n in (8192, 16384):
        values = window_of(n) | {"M": n, "C": 5, "BS": 64}
        bound = sizes.bind(spec, {k: v for k, v in values.items() if k in own})
        time[n] = choose(spec, "gaudi2", bound, cost=stage_cost).price.seconds
    assert time[16384] < 4.3 * time[8192]
    assert time[16384] < 0.1


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", ["window", "gated_linear", "retnet"])
def test_the_graph_does_not_grow_with_the_length(name, dtype):
    """The plan chosen at each length has as many stages, and what calls them has no loop."""
    spec = program(name, dtype)
    own = {*spec.sizes, *(a.name for a in spec.attributes)}
    chosen = [
        choose(spec, "gaudi2", sizes.bind(spec, {k: v for k, v in window_of(n).items() if k in own})).plan
        for n in (8192, 32768, LONG)
    ]
    assert len({len(plan.stages) for plan in chosen}) == 1
    for plan in chosen:
        assert "of" in plan.label  # bands of 64, chunks of 128
        lines = function(plan, "op", lambda stage: stage.name).splitlines()
        code = "\n".join(line for line in lines if not line.strip().startswith("#"))
        assert all(stage.name in code for stage in plan.stages if isinstance(stage, TpcStage))
        assert not re.search(r"\b(for|while|range)\b", code), code
