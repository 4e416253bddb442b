"""Arithmetic intrinsics against NumPy and ml_dtypes: one rounding per operation, fused multiply-add, predicates."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = {"f32": np.dtype(np.float32), "bf16": BF16, "f16": np.dtype(np.float16)}
INTS = {f"{s}{w}": np.dtype(f"{s}{w // 8}") for s in "iu" for w in (8, 16, 32)}
VECTOR = {
    "f32": "float64",
    "bf16": "bfloat128",
    "f16": "half128",
    "i32": "int64",
    "u32": "uint64",
    "i16": "short128",
    "u16": "ushort128",
    "i8": "char256",
    "u8": "uchar256",
}
PREDICATE = {4: "bool64", 2: "bool128", 1: "bool256"}


def lanes(dtype: np.dtype) -> int:
    return 256 // dtype.itemsize


def sample(dtype: np.dtype, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = lanes(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, n, dtype=dtype, endpoint=True)
        x[:3] = [info.min, info.max, 0]
        return x
    x = (rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4, n)).astype(dtype)
    x[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]
    return x


def same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits, except that any NaN equals any NaN."""
    if actual.dtype.kind in "iu":
        np.testing.assert_array_equal(actual, expected)
        return
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(e))
    ok = ~np.isnan(e)
    np.testing.assert_array_equal(a[ok], e[ok])
    np.testing.assert_array_equal(np.signbit(a[ok]), np.signbit(e[ok]))


def wide(x: np.ndarray) -> np.ndarray:
    """Exactly representable products and sums: f32 for the small floats (then one rounding), f64 for f32."""
    return x.astype(np.float64)


@pytest.fixture(scope="module")
def unit(build_unit):
    text = []
    for t in [*FLOATS, *INTS]:
        v = VECTOR[t]
        for op in ("add", "sub"):
            text.append(f"UNIT({t}_{op}, put(out, v_{t}_{op}_b(in<{v}>(p), in<{v}>(p, 1)));)")
            text.append(
                f"UNIT({t}_{op}_vb, put(out, v_{t}_{op}_vb(in<{v}>(p), in<{v}>(p, 1), 0, in<{v}>(p, 2),"
                f" v_{t}_cmp_grt_b(in<{v}>(p), in<{v}>(p, 1)), 0)); put(out, v_{t}_{op}_vb(in<{v}>(p), in<{v}>(p, 1), 0,"
                f" in<{v}>(p, 2), v_{t}_cmp_grt_b(in<{v}>(p), in<{v}>(p, 1)), 1), 1);)"
            )
            text.append(
                f"UNIT({t}_{op}_off, put(out, v_{t}_{op}_b(in<{v}>(p), in<{v}>(p, 1), 0, in<{v}>(p, 2), 0)); "
                f"put(out, v_{t}_{op}_b(in<{v}>(p), in<{v}>(p, 1), 0, in<{v}>(p, 2), 1, 1), 1); "
                f"put(out, v_{t}_{op}_b(in<{v}>(p), in<{v}>(p, 1), 0, in<{v}>(p, 2), 0, 1), 2);)"
            )
        text.append(f"UNIT({t}_neg, put(out, v_{t}_sub_b(in<{v}>(p), in<{v}>(p, 1), SW_NEG));)")
        text.append(
            f"UNIT({t}_max, put(out, v_{t}_max_b(in<{v}>(p), in<{v}>(p, 1))); put(out, v_{t}_min_b(in<{v}>(p), in<{v}>(p, 1)), 1);)"
        )
    for t in FLOATS:
        v = VECTOR[t]
        text.append(f"UNIT({t}_mul, put(out, v_{t}_mul_b(in<{v}>(p), in<{v}>(p, 1)));)")
        text.append(
            f"UNIT({t}_mac, put(out, v_{t}_mac_b(in<{v}>(p), in<{v}>(p, 1), in<{v}>(p, 2))); "
            f"put(out, v_{t}_mac_b(in<{v}>(p), in<{v}>(p, 1), in<{v}>(p, 2), SW_NEG), 1); "
            f"put(out, v_{t}_madd_b(in<{v}>(p), in<{v}>(p, 1), in<{v}>(p, 2)), 2);)"
        )
        text.append(
            f"UNIT({t}_ops, auto a = in<{v}>(p), b = in<{v}>(p, 1); put(out, a + b); put(out, a - b, 1); put(out, a * b, 2); put(out, -a, 3);)"
        )
    for t in ("bf16", "f16"):
        v = VECTOR[t]
        text.append(
            f"UNIT({t}_acc32, auto a = in<{v}>(p); auto b = in<{v}>(p, 1); auto c = in<float128>(p, 2); put(out, v_{t}_mac_acc32_b(a, b, c));"
            f" put(out, v_{t}_mac_acc32_b(a, b, c, SW_NEG), 2); put(out, v_{t}_mul_acc32_b(a, b), 4); put(out, v_{t}_madd_acc32_b(a, b, c), 6);"
            f" put(out, v_{t}_mac_acc32_vb(a, b, c, 0, v_{t}_cmp_grt_b(a, b), 0), 8);)"
        )
    for t in INTS:
        v = VECTOR[t]
        text.append(
            f"UNIT({t}_sat, put(out, v_{t}_add_b(in<{v}>(p), in<{v}>(p, 1), SW_SAT)); put(out, v_{t}_sub_b(in<{v}>(p), in<{v}>(p, 1), SW_SAT), 1);)"
        )
        count = {"32": 2, "16": 2, "8": 4}[t[1:]]
        text.append(f"UNIT({t}_mul, put(out, v_{t}_mul_b(in<{v}>(p), in<{v}>(p, 1)));)")
        if t[0] == "i":
            text.append(
                f"UNIT({t}_abs, put(out, v_{t}_abs_b(in<{v}>(p))); put(out, v_{t}_abs_b(in<{v}>(p), SW_NO_SAT), 1);)"
            )
        if count > 2 or t[1:] == "16":
            acc = {"i16": "int128", "u16": "uint128", "i8": "int256", "u8": "uint256"}[t]
            text.append(f"UNIT({t}_mac, put(out, v_{t}_mac_b(in<{v}>(p), in<{v}>(p, 1), in<{acc}>(p, 2)));)")
    for f in ("f8", "h8"):
        v = {"f8": "minifloat256", "h8": "minihalf256"}[f]
        text.append(
            f"UNIT({f}_acc32, auto a = in<{v}>(p); auto b = in<{v}>(p, 1); auto c = in<float256>(p, 2);"
            f" put(out, v_{f}_mac_acc32_b(a, b, c)); put(out, v_{f}_mul_acc32_b(a, b), 4); put(out, v_{f}_add_b(c, b), 8);)"
        )
    text.append(
        "UNIT(x2, auto a = in<float128>(p); auto b = in<float64>(p, 2); auto c = in<float64>(p, 3); auto d = in<float128>(p, 4);"
        " put(out, v_f32_add_x2_b(a, b, c)); put(out, v_f32_sub_x2_b(a, b, c), 2); put(out, v_f32_mul_x2_b(a, b, c), 4);"
        " put(out, v_f32_mac_x2_b(a, b, c, d), 6); put(out, v_f32_mac_x2_b(a, b, c, d, SW_NEG), 8);"
        " put(out, v_f32_madd_x2_b(a, b, d, c), 10); put(out, v_f32_madd_x2_vvsv_b(a, b, 0.75f, c, SW_NEG), 12);"
        " put(out, v_f32_madd_x2_svvv_b(1.5f, b, d, c), 14); put(out, v_f32_mul_x2_svv_b(1.5f, b, c), 16);"
        " put(out, v_f32_sub_x2_b(a, b, c, SW_NEG), 18);)"
    )
    text.append(
        "UNIT(scalars, auto a = in<float64>(p); float x = 3.0f; float y = 1.0f / 3.0f; float64 o = s_f32_mac(x, y, -1.0f); put(out, o);"
        " float64 q = s_f32_add(x, y, 0, 7.0f, 0); put(out, q, 1); float64 r = (float)s_bf16_mul((bf16)1.01f, (bf16)1.01f); put(out, r, 2);"
        " int64 s = s_i32_add(2000000000, 2000000000, SW_SAT); put(out, s, 3); int64 t = s_i32_sub(5, 7, SW_NEG); put(out, t, 4);)"
    )
    return build_unit("\n".join(text))


@pytest.mark.parametrize("t", [*FLOATS, *INTS])
@pytest.mark.parametrize("op", ["add", "sub"])
def test_add_sub(unit, t: str, op: str) -> None:
    dtype = (FLOATS | INTS)[t]
    a, b, income = sample(dtype, 1), sample(dtype, 2), sample(dtype, 3)
    with np.errstate(all="ignore"):
        if dtype.kind in "iu":
            expected = a + b if op == "add" else a - b
        else:
            exact = wide(a) + wide(b) if op == "add" else wide(a) - wide(b)
            expected = exact.astype(np.float32).astype(dtype) if dtype != np.float32 else exact.astype(np.float32)
    same(unit(f"{t}_{op}", a, b, out=dtype), expected)
    off = unit(f"{t}_{op}_off", a, b, income, out=dtype, count=3).reshape(3, -1)
    for got, want in zip(off, [income, income, expected], strict=True):
        same(got, want)
    by_lane = unit(f"{t}_{op}_vb", a, b, income, out=dtype, count=2).reshape(2, -1)
    with np.errstate(invalid="ignore"):
        on = a > b
    same(by_lane[0], np.where(on, expected, income))
    same(by_lane[1], np.where(on, income, expected))


@pytest.mark.parametrize("t", FLOATS)
def test_negated_sub_and_operators(unit, t: str) -> None:
    dtype = FLOATS[t]
    a, b = sample(dtype, 4), sample(dtype, 5)
    with np.errstate(all="ignore"):
        same(unit(f"{t}_neg", a, b, out=dtype), (b.astype(np.float32) - a.astype(np.float32)).astype(dtype))
        ops = unit(f"{t}_ops", a, b, out=dtype, count=4).reshape(4, -1)
        x, y = a.astype(np.float32), b.astype(np.float32)
        for got, want in zip(ops, [x + y, x - y, x * y, -x], strict=True):
            same(got, want.astype(dtype))


@pytest.mark.parametrize("t", FLOATS)
def test_fused_multiply_add(unit, t: str) -> None:
    dtype = FLOATS[t]
    a, b, c = sample(dtype, 6), sample(dtype, 7), sample(dtype, 8)
    with np.errstate(all="ignore"):
        if dtype == np.float32:
            # longdouble holds the product exactly and the sum of these samples closely enough for one rounding
            x, y, z = (v.astype(np.longdouble) for v in (a, b, c))
        else:
            x, y, z = wide(a), wide(b), wide(c)
        rounded = lambda v: v.astype(np.float32).astype(dtype) if t == "bf16" else v.astype(dtype)  # noqa: E731
        same(unit(f"{t}_mul", a, b, out=dtype), rounded(x * y))
        got = unit(f"{t}_mac", a, b, c, out=dtype, count=3).reshape(3, -1)
        same(got[0], rounded(z + x * y))
        same(got[1], rounded(z - x * y))
        same(got[2], rounded(z + x * y))


def test_f32_mac_is_fused(unit) -> None:
    a = np.full(64, 1 + 2.0**-12, np.float32)
    c = np.full(64, -(1 + 2.0**-11), np.float32)
    np.testing.assert_array_equal(unit("f32_mac", a, a, c, out=np.float32, count=3)[:64], np.float32(2.0**-24))


@pytest.mark.parametrize("t", ["bf16", "f16"])
def test_acc32_interleaves_even_and_odd_lanes(unit, t: str) -> None:
    dtype = FLOATS[t]
    a, b = sample(dtype, 9), sample(dtype, 10)
    c = np.concatenate([sample(np.dtype(np.float32), 11), sample(np.dtype(np.float32), 12)])
    with np.errstate(all="ignore"):
        x, y = wide(a), wide(b)
        product = x * y
        acc = np.empty(128)
        acc[0::2], acc[1::2] = c[:64], c[64:]

        def split(v: np.ndarray) -> np.ndarray:
            v = v.astype(np.float32)
            return np.concatenate([v[0::2], v[1::2]])

        got = unit(f"{t}_acc32", a, b, c, out=np.float32, count=10).reshape(5, 128)
        same(got[0], split(acc + product))
        same(got[1], split(acc - product))
        same(got[2], split(product))
        same(got[3], split(acc + product))
        same(got[4], split(np.where(a > b, acc + product, acc)))


@pytest.mark.parametrize(("t", "dtype"), [("f8", ml_dtypes.float8_e4m3), ("h8", ml_dtypes.float8_e5m2)])
def test_fp8_accumulates_in_f32(unit, t: str, dtype: type) -> None:
    rng = np.random.default_rng(13)
    a, b = rng.standard_normal(256).astype(dtype), rng.standard_normal(256).astype(dtype)
    c = rng.standard_normal((4, 64)).astype(np.float32)
    x, y, acc = wide(a), wide(b), c.T.ravel().astype(np.float64)
    spread = lambda v: v.astype(np.float32).reshape(64, 4).T  # noqa: E731
    got = unit(f"{t}_acc32", a, b, c, out=np.float32, count=12).reshape(3, 4, 64)
    same(got[0], spread(acc + x * y))
    same(got[1], spread(x * y))
    same(got[2], spread(acc + y))


def test_x2_forms(unit) -> None:
    f = np.dtype(np.float32)
    a = np.stack([sample(f, 20), sample(f, 21)])
    b, c = sample(f, 22), sample(f, 23)
    d = np.stack([sample(f, 24), sample(f, 25)])
    got = unit("x2", a, b, c, d, out=f, count=20).reshape(10, 2, 64)
    with np.errstate(all="ignore"):
        bc = np.stack([b, c])
        A, B, D = (v.astype(np.longdouble) for v in (a, bc, d))
        expected = [
            a + bc,
            a - bc,
            a * bc,
            D + A * B,
            D - A * B,
            D + A * B,
            0.75 - A * B,
            D + 1.5 * B,
            np.float32(1.5) * bc,
            bc - a,
        ]
        for g, e in zip(got, expected, strict=True):
            same(g, e.astype(f))


@pytest.mark.parametrize("t", INTS)
def test_integer_saturation_and_products(unit, t: str) -> None:
    dtype = INTS[t]
    info = np.iinfo(dtype)
    a, b = sample(dtype, 30), sample(dtype, 31)
    x, y = a.astype(object), b.astype(object)
    clamp = lambda v: np.array([min(max(int(e), info.min), info.max) for e in v], dtype)  # noqa: E731
    got = unit(f"{t}_sat", a, b, out=dtype, count=2).reshape(2, -1)
    same(got[0], clamp(x + y))
    same(got[1], clamp(x - y))
    products = [int(e) for e in x * y]
    if dtype.itemsize == 4:
        low = np.array([p & 0xFFFFFFFF for p in products], np.uint32)
        high = np.array([(p >> 32) & 0xFFFFFFFF for p in products], np.uint32)
        np.testing.assert_array_equal(unit(f"{t}_mul", a, b, out=np.uint32, count=2), np.concatenate([low, high]))
        return
    ways = 4 // dtype.itemsize
    result = np.dtype(np.int32 if dtype.kind == "i" else np.uint32)
    spread = lambda v: np.array(v, result).reshape(64, ways).T  # noqa: E731
    np.testing.assert_array_equal(unit(f"{t}_mul", a, b, out=result, count=ways).reshape(ways, 64), spread(products))
    acc = np.arange(64 * ways, dtype=result).reshape(ways, 64) * 1000
    sums = [p + int(c) for p, c in zip(products, acc.T.ravel(), strict=True)]
    np.testing.assert_array_equal(unit(f"{t}_mac", a, b, acc, out=result, count=ways).reshape(ways, 64), spread(sums))


@pytest.mark.parametrize("t", ["i8", "i16", "i32"])
def test_abs(unit, t: str) -> None:
    dtype = INTS[t]
    a = sample(dtype, 32)
    got = unit(f"{t}_abs", a, out=dtype, count=2).reshape(2, -1)
    magnitude = np.abs(a.astype(np.int64))
    same(got[0], np.minimum(magnitude, np.iinfo(dtype).max).astype(dtype))
    same(got[1], magnitude.astype(dtype))


@pytest.mark.parametrize("t", [*FLOATS, *INTS])
def test_max_min(unit, t: str) -> None:
    dtype = (FLOATS | INTS)[t]
    a, b = sample(dtype, 40), sample(dtype, 41)
    got = unit(f"{t}_max", a, b, out=dtype, count=2).reshape(2, -1)
    with np.errstate(invalid="ignore"):
        x, y = (a, b) if dtype.kind in "iu" else (a.astype(np.float32), b.astype(np.float32))
        for g, e in zip(got, [np.maximum(x, y), np.minimum(x, y)], strict=True):
            zero = e == 0
            np.testing.assert_array_equal(g.astype(e.dtype)[~zero], e[~zero])
            np.testing.assert_array_equal(g.astype(e.dtype)[zero], 0)


def test_scalars(unit) -> None:
    got = unit("scalars", np.zeros(64, np.float32), out=np.float32, count=5).reshape(5, 64)
    third = np.float32(1) / np.float32(3)
    assert got[0, 0] == np.float32(np.longdouble(third) * 3 - 1)
    assert got[1, 0] == 7
    x = np.float32(np.array(1.01, BF16))
    assert got[2, 0] == np.float32((x * x).astype(BF16))
    assert got[3].view(np.int32)[0] == 2**31 - 1
    assert got[4].view(np.int32)[0] == 2


@pytest.mark.parametrize("t", ["u32", "u16", "u8"])
def test_division_in_steps(build_unit, t: str) -> None:
    bits = int(t[1:])
    unit = build_unit(
        f"UNIT(divide, const auto* n = (const uint32_t*)p; uint32_t q[64], r[64];"
        f" for (int k = 0; k < 64; ++k) {{ {t[0]}int{bits}_t_pair_t s = {{n[k], 0}}; for (int step = {bits - 1}; step >= 0; step -= 4) s = {t}_udiv_4step(n[64 + k], step, 0, s);"
        f" r[k] = s.v1; q[k] = s.v2; }} put(out, q); put(out, r, 1);)"
        f" UNIT(skipped, {t[0]}int{bits}_t_pair_t s = {{77, 5}}; s = {t}_udiv_4step(3, {bits - 1}, 0, s, 0); int64 x = s.v1 * 100 + s.v2; put(out, x);)",
        "gaudi",
    )
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 2**bits, (2, 64)).astype(np.uint32)
    b[::3] >>= bits // 2
    b[:2] = [0, 1]
    q, r = unit("divide", a, b, out=np.uint32, count=2).reshape(2, 64)
    b[0] = 1
    np.testing.assert_array_equal(q[1:], (a // b)[1:])
    np.testing.assert_array_equal(r[1:], (a % b)[1:])
    assert (q[0], r[0]) == (2**bits - 1, a[0])
    assert unit("skipped", out=np.int32)[0] == 7705


def test_random_registers(build_unit) -> None:
    unit = build_unit(
        "UNIT(seeds, write_lfsr_b(in<char256>(p)); write_lfsr_vb(in<char256>(p, 1), v_u8_cmp_less_b(V_LANE_ID_8, (uint8_t)100), 0);"
        " put(out, read_lfsr_b(SW_READ_ONLY)); put(out, read_lfsr_b(), 1); put(out, read_lfsr_b(), 2); write_lfsr_s(11); int64 x = s_read_lfsr();"
        " int64 y = s_read_lfsr(); write_lfsr_s(12, 0); write_lfsr_s(11); int64 z = s_read_lfsr(); put(out, x, 3); put(out, y, 4); put(out, z, 5);)"
    )
    a, b = sample(np.dtype(np.int8), 1), sample(np.dtype(np.int8), 2)
    got = unit("seeds", a, b, out=np.int8, count=6).reshape(6, 256)
    np.testing.assert_array_equal(got[0], np.where(np.arange(256) < 100, b, a))
    assert (got[1] != got[2]).any()
    assert (got[3] != got[4]).any()
    np.testing.assert_array_equal(got[3], got[5])
