"""Special functions on the host device: what docs/functions.md says of them, over all bf16 and a sample of f32."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.kernel.device import compile_kernels
from tools.measure_functions import (
    FUNCTIONS,
    PAGE,
    Array,
    Measured,
    apply,
    arguments,
    every_bf16,
    kernels_of,
    measure,
    operations,
)
from tpcgen.host.api import HostLibrary, Session
from tpcgen.kernel.functions import SIGMOID_SLOPE
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.presence import explicit
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Call, Read, walk
from tpcgen.rewrite.vjp.derivatives import derivative

DTYPES = ("f32", "bf16")
NAMES = tuple(f.name for f in FUNCTIONS)
NAN, INF = float("nan"), float("inf")
Results = Mapping[str, Array]


@dataclass(frozen=True)
class Claim:
    """One row of the table; steps back are None where the function is not monotone."""

    error: Mapping[str, float]
    back: Mapping[str, float | None]
    operations: tuple[int, ...]


def claims() -> dict[str, Claim]:
    rows = re.findall(
        r"^\| (\w+) \| ([\d.]+) \| \S+ \| (.+?) \| ([\d.]+) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.M
    )
    steps = {"not monotone": None}
    return {
        name: Claim(
            {"f32": float(wide), "bf16": float(narrow)},
            {"f32": steps[b] if b in steps else float(b), "bf16": steps[c] if c in steps else float(c)},
            tuple(map(int, slots.split(" / "))),
        )
        for name, wide, b, narrow, c, slots in rows
    }


class Bench:
    """All functions, built once."""

    def __init__(self, session: Session, library: HostLibrary, kernels: Mapping[str, tuple[Kernel, ...]]) -> None:
        self.session, self.library, self.kernels = session, library, kernels

    def measure(self, dtype: str, samples: int) -> dict[str, Measured]:
        xs = arguments(samples) if dtype == "f32" else iter([every_bf16()])
        return {m.name: m for m in measure(self.session, self.library, self.kernels[dtype], dtype, xs)}

    def apply(self, dtype: str, x: Array) -> dict[str, Array]:
        return apply(self.session, self.library, self.kernels[dtype], x)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    kernels = {dtype: kernels_of(dtype) for dtype in DTYPES}
    every = [k for both in kernels.values() for k in both]
    library = compile_kernels(every, "gaudi2", tmp_path_factory.mktemp("functions"))
    with Session() as session:
        yield Bench(session, library, kernels)


@pytest.fixture(scope="module")
def measured(bench: Bench) -> dict[str, dict[str, Measured]]:
    return {dtype: bench.measure(dtype, 60_000) for dtype in DTYPES}


def test_the_page_names_every_function() -> None:
    assert tuple(claims()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_operations_are_those_of_the_page(name: str, bench: Bench) -> None:
    counts = [operations(bench.kernels[dtype], name) for dtype in DTYPES]
    assert tuple(dict.fromkeys(counts)) == claims()[name].operations


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_error_is_at_most_that_of_the_page(name: str, dtype: str, measured: dict[str, dict[str, Measured]]) -> None:
    found, claim = measured[dtype][name], claims()[name]
    assert found.error <= claim.error[dtype] + 0.005, found
    assert found.back <= (claim.back[dtype] or 0) + 0.05, found
    assert found.samples > 10_000


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_correctly_rounded_but_for_ties_and_monotone(
    name: str, measured: dict[str, dict[str, Measured]]
) -> None:
    found = measured["bf16"][name]
    assert found.error <= 1.0, found
    assert found.back == 0, found
    assert claims()[name].error["bf16"] == pytest.approx(found.error, abs=0.001), "the argument set is complete"


@pytest.mark.parametrize("name", NAMES)
def test_only_tiny_results_are_flushed(name: str, measured: dict[str, dict[str, Measured]]) -> None:
    largest = {"silu": 2.0**-119, "gelu": 2.0**-123}.get(name, 2.0**-125.5)
    assert all(measured[dtype][name].flushed <= largest for dtype in DTYPES)


@pytest.mark.full
def test_the_page_is_what_ten_million_samples_give(bench: Bench) -> None:
    for name, found in bench.measure("f32", 10_000_000).items():
        claim = claims()[name]
        assert claim.error["f32"] == pytest.approx(found.error, abs=0.006), found
        assert (claim.back["f32"] or 0) == pytest.approx(found.back, abs=0.06), found


# at 0, -0, inf, -inf, 1, -1; None where the argument is outside the function's domain
SPECIAL: dict[str, tuple[float | None, ...]] = {
    "exp": (1, 1, INF, 0, np.e, 1 / np.e),
    "exp2": (1, 1, INF, 0, 2, 0.5),
    "log": (-INF, -INF, INF, NAN, 0, NAN),
    "sqrt": (0, 0, INF, NAN, 1, NAN),
    "rsqrt": (INF, -INF, 0, NAN, 1, NAN),
    "recip": (INF, -INF, 0, 0, 1, -1),
    "tanh": (0, 0, 1, -1, np.tanh(1), -np.tanh(1)),
    "sigmoid": (0.5, 0.5, 1, 0, 1 / (1 + 1 / np.e), 1 / (1 + np.e)),
    "silu": (0, 0, INF, NAN, 1 / (1 + 1 / np.e), -1 / (1 + np.e)),
    "elu": (0, 0, INF, -1, 1, 1 / np.e - 1),
    "softplus": (np.log(2), np.log(2), INF, 0, 1.3132616875182228, 0.3132616875182228),
    "erf": (0, 0, 1, -1, 0.8427007929497149, -0.8427007929497149),
    "gelu": (0, 0, INF, 0, 0.8413447460685429, -0.15865525393145707),
    "exp_nonpositive": (1, 1, None, 0, None, 1 / np.e),
    "recip_positive": (None, None, None, None, 1, None),
    "log_at_least_one": (None, None, None, None, 0, None),
    "sigmoid_slope": (0.25, 0.25, 0, 0, np.e / (1 + np.e) ** 2, np.e / (1 + np.e) ** 2),
}
EXACT = (0.0, 1.0, -1.0, 0.5, 2.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name: str, dtype: str, bench: Bench) -> None:
    at = np.array([0.0, -0.0, INF, -INF, 1, -1]).astype(every_bf16().dtype if dtype == "bf16" else np.float32)
    made = bench.apply(dtype, at)[name]
    for x, got, expected in zip(at.astype(np.float64), made, SPECIAL[name], strict=True):
        if expected is None:
            continue
        if expected in EXACT or not np.isfinite(expected):
            np.testing.assert_equal(got + 0.0, float(expected), err_msg=f"{name}({x})")
        else:
            assert got == pytest.approx(expected, rel=3e-7 if dtype == "f32" else 2.0**-8), f"{name}({x})"


@pytest.mark.parametrize("name", NAMES)
def test_every_nan_gives_nan(name: str, bench: Bench) -> None:
    bits = np.arange(1 << 16)
    x = every_bf16()[(bits & 0x7FFF) > 0x7F80]
    assert len(x) == 254
    assert np.isnan(bench.apply("bf16", x)[name]).all()
    payloads = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32)
    assert np.isnan(bench.apply("f32", payloads.view(np.float32))[name]).all()


def test_powers_of_two_are_exact(bench: Bench) -> None:
    n = np.arange(-125, 128, dtype=np.float32)
    made: Any = bench.apply("f32", n)["exp2"]
    np.testing.assert_array_equal(made, 2.0 ** n.astype(np.float64))


@pytest.mark.parametrize("name", ["exp", "exp_nonpositive"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_is_zero_at_underflow(name: str, dtype: str, bench: Bench) -> None:
    x = -np.concatenate([np.linspace(87.4, 200, 1000), np.geomspace(200, 3e38, 1000), [INF]])
    made = bench.apply(dtype, x.astype(every_bf16().dtype if dtype == "bf16" else np.float32))[name]
    assert (made[np.arange(len(x)) >= 10] == 0).all()
    assert (made >= 0).all()


@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
def test_a_derivative_is_one_function(function: str) -> None:
    of = derivative(function, Read("x", (), DType.F32))
    assert of is not None
    assert [x.function for x in walk(explicit(of).value) if isinstance(x, Call)] == [SIGMOID_SLOPE]
