"""Conversions: every float format against ml_dtypes, every rounding mode, saturation, interleaved and linear lane order."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

DTYPES = {
    "f32": np.dtype(np.float32),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype(np.float16),
    "f8": np.dtype(ml_dtypes.float8_e4m3),
    "h8": np.dtype(ml_dtypes.float8_e5m2),
    "i32": np.dtype(np.int32),
    "u32": np.dtype(np.uint32),
    "i16": np.dtype(np.int16),
    "u16": np.dtype(np.uint16),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
}
VECTOR = {
    "f32": "float64",
    "bf16": "bfloat128",
    "f16": "half128",
    "f8": "minifloat256",
    "h8": "minihalf256",
    "i32": "int64",
    "u32": "uint64",
    "i16": "short128",
    "u16": "ushort128",
    "i8": "char256",
    "u8": "uchar256",
}
NARROW = ["bf16", "f16", "f8", "h8"]
MODES = {"SW_RHNE": "nearest", "SW_RZ": "zero", "SW_RU": "up", "SW_RD": "down", "SW_RHAZ": "away"}


def wide_type(t: str, ways: int) -> str:
    """The tuple that holds 64*ways 32-bit lanes, say float128."""
    base = {"f32": "float", "i32": "int", "u32": "uint"}[t]
    return f"{base}{64 * ways}"


@pytest.fixture(scope="module")
def unit(build_unit):
    text = []
    for t in NARROW:
        ways = 4 // DTYPES[t].itemsize
        for mode in MODES:
            text.append(f"UNIT(f32_{t}_{mode}, put(out, v_convert_f32_to_{t}_all_b(in<float{64 * ways}>(p), {mode}));)")
        text.append(f"UNIT(f32_{t}_clip, put(out, v_convert_f32_to_{t}_all_b(in<float{64 * ways}>(p), SW_CLIP_FP));)")
        text.append(f"UNIT({t}_f32, put(out, v_convert_{t}_to_f32_all_b(in<{VECTOR[t]}>(p)));)")
        text.append(f"UNIT({t}_f32_first, put(out, v_convert_{t}_to_f32_b(in<{VECTOR[t]}>(p)));)")
        text.append(
            f"UNIT(f32_{t}_lane, put(out, v_convert_f32_to_{t}_b(in<float64>(p), {ways - 1}, 0, in<{VECTOR[t]}>(p, 1)));)"
        )
    for mode in MODES:
        text.append(f"UNIT(f32_i32_{mode}, put(out, v_convert_f32_to_i32_b(in<float64>(p), {mode}));)")
        text.append(f"UNIT(i32_f32_{mode}, put(out, v_convert_i32_to_f32_b(in<int64>(p), {mode}));)")
        text.append(f"UNIT(nearbyint_{mode}, put(out, v_f32_nearbyint_b(in<float64>(p), {mode}));)")
        text.append(
            f"UNIT(int32_{mode}, put(out, v_convert_int32_to_i16_all_b(in<int128>(p), in<short128>(p, 2), {mode}));)"
        )
    text.append("UNIT(i32_i16, put(out, v_convert_i32_to_i16_all_b(in<int128>(p)));)")
    text.append("UNIT(i16_i32, put(out, v_convert_i16_to_i32_all_b(in<short128>(p)));)")
    text.append("UNIT(i32_u8, put(out, v_convert_i32_to_u8_all_b(in<int256>(p)));)")
    text.append("UNIT(linear_up, put(out, convert_bfloat128_to_float128(in<bfloat128>(p), SW_LINEAR));)")
    text.append("UNIT(linear_down, put(out, convert_float128_to_bfloat128(in<float128>(p), SW_LINEAR));)")
    text.append("UNIT(swizzled_up, put(out, convert_bfloat128_to_float128(in<bfloat128>(p), 0));)")
    text.append("UNIT(linear_fp8, put(out, convert_minifloat256_to_float256(in<minifloat256>(p), SW_LINEAR));)")
    text.append("UNIT(single, put(out, v_convert_f32_to_bf16_single_b(in<float64>(p), 0, in<bfloat128>(p, 1)));)")
    text.append(
        "UNIT(by_lane, put(out, v_convert_bf16_to_f32_all_vb(in<bfloat128>(p), 0, in<float128>(p, 1),"
        " v_bf16_cmp_grt_b(in<bfloat128>(p), 0.0f), 0));)"
    )
    text.append("UNIT(stochastic, put(out, v_convert_f32_to_bf16_all_b(in<float128>(p), SW_SR));)")
    text.append("UNIT(f16_i16, put(out, v_convert_f16_to_i16_b(in<half128>(p), SW_RHNE));)")
    return build_unit("\n".join(text))


def floats(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(count) * 10.0 ** rng.integers(-9, 6, count)).astype(np.float32)
    special = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1.00390625,
        1.01171875,
        -1.00390625,
        2049.0,
        2051.0,
        240.0,
        248.0,
        264.0,
        65504.0,
        65519.0,
        65520.0,
        57344.0,
        61440.0,
        1e30,
        -1e30,
        2.0**-9,
        2.0**-10,
        3 * 2.0**-11,
        2.0**-16,
        2.0**-17,
    ]
    x[: len(special)] = special
    return x


def interleave(x: np.ndarray, ways: int) -> np.ndarray:
    """Registers of interleaved lanes -> lanes in order."""
    return x.reshape(ways, -1).T.ravel()


def spread(x: np.ndarray, ways: int) -> np.ndarray:
    return x.reshape(-1, ways).T.ravel()


def same(a: np.ndarray, e: np.ndarray) -> None:
    a, e = a.astype(np.float64), e.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(e))
    np.testing.assert_array_equal(a[~np.isnan(e)], e[~np.isnan(e)])
    np.testing.assert_array_equal(np.signbit(a[~np.isnan(e)]), np.signbit(e[~np.isnan(e)]))


def all_values(dtype: np.dtype) -> np.ndarray:
    """Finite values of a small float format in order."""
    bits = np.arange(2 ** (8 * dtype.itemsize), dtype=np.uint16 if dtype.itemsize == 2 else np.uint8)
    with np.errstate(invalid="ignore"):
        values = bits.view(dtype).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def directed(x: np.ndarray, dtype: np.dtype, mode: str) -> np.ndarray:
    """Rounding by search among the format's values; overflow goes to infinity or to the largest value as the mode says."""
    grid = all_values(dtype)
    out = np.empty(len(x))
    for i, v in enumerate(x.astype(np.float64)):
        if not np.isfinite(v):
            out[i] = v
            continue
        at = np.searchsorted(grid, v)
        if at < len(grid) and grid[at] == v:
            out[i] = v
            continue
        below = grid[at - 1] if at > 0 else -np.inf
        above = grid[at] if at < len(grid) else np.inf
        if mode == "up":
            out[i] = above
        elif mode == "down":
            out[i] = below
        elif mode == "zero":
            out[i] = below if v > 0 else above
        else:  # away from zero on ties
            step = grid[-1] - grid[-2]
            lo = below if np.isfinite(below) else grid[0] - step
            hi = above if np.isfinite(above) else grid[-1] + step
            toward_hi = Fraction(hi) - Fraction(v) < Fraction(v) - Fraction(lo) or (
                Fraction(hi) - Fraction(v) == Fraction(v) - Fraction(lo) and v > 0
            )
            out[i] = above if toward_hi else below
        if out[i] == 0:
            out[i] = np.copysign(0.0, v)
    return out


@pytest.mark.parametrize("t", NARROW)
def test_down_nearest_even(unit, t: str) -> None:
    ways = 4 // DTYPES[t].itemsize
    x = floats(64 * ways)
    with np.errstate(all="ignore"):
        same(unit(f"f32_{t}_SW_RHNE", spread(x, ways), out=DTYPES[t]), x.astype(DTYPES[t]))


@pytest.mark.parametrize("t", NARROW)
@pytest.mark.parametrize("mode", ["SW_RZ", "SW_RU", "SW_RD", "SW_RHAZ"])
def test_down_directed(unit, t: str, mode: str) -> None:
    ways = 4 // DTYPES[t].itemsize
    x = floats(64 * ways, 1)
    same(unit(f"f32_{t}_{mode}", spread(x, ways), out=DTYPES[t]), directed(x, DTYPES[t], MODES[mode]))


@pytest.mark.parametrize("t", NARROW)
def test_clip_keeps_results_finite(unit, t: str) -> None:
    ways = 4 // DTYPES[t].itemsize
    x = floats(64 * ways, 2)
    largest = all_values(DTYPES[t])[-1]
    with np.errstate(all="ignore"):
        expected = np.clip(x.astype(DTYPES[t]).astype(np.float64), -largest, largest)
    same(unit(f"f32_{t}_clip", spread(x, ways), out=DTYPES[t]), np.where(np.isnan(x), np.nan, expected))


@pytest.mark.parametrize("t", NARROW)
def test_up_is_exact_for_every_value(unit, t: str) -> None:
    dtype = DTYPES[t]
    ways, n = 4 // dtype.itemsize, 256 // dtype.itemsize
    bits = np.arange(2 ** (8 * dtype.itemsize), dtype=np.uint16 if dtype.itemsize == 2 else np.uint8)
    for block in bits.reshape(-1, n)[:: 1 if len(bits) == 256 else 37]:
        x = block.view(dtype)
        same(interleave(unit(f"{t}_f32", x, out=np.float32, count=ways), ways), x.astype(np.float32))
        same(unit(f"{t}_f32_first", x, out=np.float32), x.astype(np.float32)[::ways])


@pytest.mark.parametrize("t", NARROW)
def test_one_lane_keeps_the_others(unit, t: str) -> None:
    dtype = DTYPES[t]
    ways, n = 4 // dtype.itemsize, 256 // dtype.itemsize
    x, income = floats(64), np.arange(n).astype(dtype)
    with np.errstate(all="ignore"):
        expected = income.copy()
        expected[ways - 1 :: ways] = x.astype(dtype)
    same(unit(f"f32_{t}_lane", x, income, out=dtype), expected)


ROUND = {
    "nearest": np.rint,
    "zero": np.trunc,
    "up": np.ceil,
    "down": np.floor,
    "away": lambda v: np.trunc(v + np.copysign(0.5, v)),
}


@pytest.mark.parametrize("mode", MODES)
def test_float_and_int(unit, mode: str) -> None:
    x = floats(64, 3)
    x[30:40] = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2147483520.0, 2147483648.0, -2147483648.0, -3e9]
    with np.errstate(all="ignore"):
        whole = ROUND[MODES[mode]](x.astype(np.float64))
        expected = np.clip(
            np.nan_to_num(whole, nan=0.0, posinf=2**31 - 1, neginf=-(2**31)), -(2**31), 2**31 - 1
        ).astype(np.int32)
    np.testing.assert_array_equal(unit(f"f32_i32_{mode}", x, out=np.int32), expected)
    np.testing.assert_array_equal(unit(f"nearbyint_{mode}", x, out=np.float32), whole.astype(np.float32))
    rng = np.random.default_rng(4)
    i = rng.integers(-(2**31), 2**31, 64).astype(np.int32)
    i[:4] = [2**24 + 1, -(2**24 + 1), 2**24 + 3, 2**31 - 1]
    got = unit(f"i32_f32_{mode}", i, out=np.float32).astype(np.float64)
    exact, ulp = i.astype(np.float64), np.spacing(np.abs(i.astype(np.float32))).astype(np.float64)
    if mode in ("SW_RHNE", "SW_RHAZ"):
        assert (np.abs(got - exact) <= ulp / 2).all()
    elif mode == "SW_RU":
        assert ((got >= exact) & (got - exact < ulp)).all()
    elif mode == "SW_RD":
        assert ((got <= exact) & (exact - got < ulp)).all()
    else:
        assert ((np.abs(got) <= np.abs(exact)) & (np.abs(exact - got) < ulp)).all()


def test_between_integers_saturates(unit) -> None:
    rng = np.random.default_rng(5)
    i = rng.integers(-100000, 100000, 128).astype(np.int32)
    np.testing.assert_array_equal(
        unit("i32_i16", spread(i, 2), out=np.int16), np.clip(i, -32768, 32767).astype(np.int16)
    )
    s = rng.integers(-32768, 32768, 128).astype(np.int16)
    np.testing.assert_array_equal(interleave(unit("i16_i32", s, out=np.int32, count=2), 2), s.astype(np.int32))
    b = rng.integers(-300, 600, 256).astype(np.int32)
    np.testing.assert_array_equal(unit("i32_u8", spread(b, 4), out=np.uint8), np.clip(b, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("mode", MODES)
def test_shifting_convert(unit, mode: str) -> None:
    rng = np.random.default_rng(6)
    i = rng.integers(-(2**20), 2**20, 128).astype(np.int32)
    shift = -rng.integers(0, 8, 128).astype(np.int16)
    exact = i * 2.0**shift
    rounded = {"nearest": np.rint, "zero": np.trunc, "up": np.ceil, "down": np.floor}.get(MODES[mode])
    value = rounded(exact) if rounded else np.where(exact >= 0, np.floor(exact + 0.5), np.ceil(exact - 0.5))
    expected = np.clip(value, -32768, 32767).astype(np.int16)
    np.testing.assert_array_equal(unit(f"int32_{mode}", spread(i, 2), shift, out=np.int16), expected)


def test_linear_order(unit) -> None:
    x = np.arange(128).astype(DTYPES["bf16"])
    np.testing.assert_array_equal(unit("linear_up", x, out=np.float32, count=2), np.arange(128))
    np.testing.assert_array_equal(
        unit("linear_down", np.arange(128, dtype=np.float32), out=DTYPES["bf16"]).astype(int), np.arange(128)
    )
    np.testing.assert_array_equal(unit("swizzled_up", x, out=np.float32, count=2), spread(np.arange(128), 2))
    f8 = (np.arange(256) % 16).astype(DTYPES["f8"])
    np.testing.assert_array_equal(unit("linear_fp8", f8, out=np.float32, count=4), np.arange(256) % 16)


def test_single_and_predicate(unit) -> None:
    bf16 = DTYPES["bf16"]
    income = np.full(128, -1).astype(bf16)
    got = unit("single", np.arange(64, dtype=np.float32), income, out=bf16).astype(int)
    np.testing.assert_array_equal(got[0::2], np.arange(64))
    np.testing.assert_array_equal(got[1::2], -1)
    x = np.where(np.arange(128) % 3 == 0, -1.0, np.arange(128) + 1).astype(bf16)
    other = np.full(128, 7, np.float32)
    expected = np.where(x.astype(np.float32) > 0, x.astype(np.float32), 7)
    np.testing.assert_array_equal(interleave(unit("by_lane", x, other, out=np.float32, count=2), 2), expected)


def test_stochastic_rounding_is_unbiased(unit) -> None:
    x = np.full(128, 1 + 2.0**-9, np.float32)  # a quarter of the way from 1 to the next bf16
    got = np.concatenate([unit("stochastic", x, out=DTYPES["bf16"]).astype(np.float64) for _ in range(100)])
    assert set(np.unique(got)) == {1.0, 1 + 2.0**-7}
    assert abs((got > 1).mean() - 0.25) < 0.02


def test_f16_to_i16(unit) -> None:
    x = np.linspace(-40, 40, 128).astype(np.float16)
    np.testing.assert_array_equal(unit("f16_i16", x, out=np.int16), np.rint(x.astype(np.float64)).astype(np.int16))
