"""Movement between lanes, selection by predicates, bits, and the parts of floating-point numbers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

BF16 = np.dtype(ml_dtypes.bfloat16)
TYPES = {
    "f32": ("float64", np.dtype(np.float32)),
    "bf16": ("bfloat128", BF16),
    "f16": ("half128", np.dtype(np.float16)),
    "i32": ("int64", np.dtype(np.int32)),
    "u32": ("uint64", np.dtype(np.uint32)),
    "i16": ("short128", np.dtype(np.int16)),
    "u16": ("ushort128", np.dtype(np.uint16)),
    "i8": ("char256", np.dtype(np.int8)),
    "u8": ("uchar256", np.dtype(np.uint8)),
}
COMPARE = {
    "eq": np.equal,
    "neq": np.not_equal,
    "less": np.less,
    "leq": np.less_equal,
    "grt": np.greater,
    "geq": np.greater_equal,
}
INTS = [t for t in TYPES if t[0] in "iu"]


@pytest.fixture(scope="module")
def unit(build_unit):
    text = []
    for t, (v, _) in TYPES.items():
        text.append(f"UNIT({t}_shuffle, put(out, v_{t}_shuffle_b(in<{v}>(p), in<uchar256>(p, 1), 0, in<{v}>(p, 2)));)")
        text.append(
            f"UNIT({t}_groups, auto a = in<{v}>(p); auto o = in<{v}>(p, 1);"
            f" put(out, v_{t}_mov_dual_group_all_b(a, 0xFFFFFFFF, 1, 0, 3, 2, MkWrA(3, 3, 3, 3), o));"
            f" put(out, v_{t}_mov_dual_group_all_b(a, 0xFFFF00FF, 2, 2, 0, 0, MkWrA(1, 2, 0, 3), o), 1);"
            f" put(out, v_{t}_mov_dual_group_b(a, 0xFFFFFFFF, 3, 1, MkWr(1, 0), o), 2);"
            f" put(out, v_{t}_mov_group_b(a, 0xFFFFFFFF, 63, o), 3);"
            f" put(out, v_{t}_mov_group_b(a, 0x0000FFFF, SW_GROUP1_EN | SW_DUAL_GROUP2_EN, o), 4);)"
        )
        for c in COMPARE:
            text.append(
                f"UNIT({t}_{c}, put(out, v_{t}_sel_{c}_{t}_b(in<{v}>(p), in<{v}>(p, 1), in<{v}>(p, 2), in<{v}>(p, 3)));"
                f" put(out, v_{t}_mov_vb(in<{v}>(p, 2), 0, in<{v}>(p, 3), v_{t}_cmp_{c}_b(in<{v}>(p), in<{v}>(p, 1)), 0), 1);)"
            )
        if t not in ("i32", "u32", "f32"):
            text.append(
                f"UNIT({t}_unpack, put(out, v_{t}_unpack_b(in<{v}>(p), SW_GROUP_0 | SW_STRIDE_2, in<{v}>(p, 1)));"
                f" put(out, v_{t}_unpack_b(in<{v}>(p), SW_GROUP_1 | SW_STRIDE_2 | SW_UNPACK_LANE_1, in<{v}>(p, 1)), 1);)"
            )
    for t in INTS:
        v, d = TYPES[t]
        text.append(
            f"UNIT({t}_bits, auto a = in<{v}>(p); auto b = in<{v}>(p, 1); put(out, v_{t}_and_b(a, b)); put(out, v_{t}_or_b(a, b), 1);"
            f" put(out, v_{t}_xor_b(a, b), 2); put(out, v_{t}_not_b(a), 3); put(out, v_{t}_and_b(a, b, SW_ANDN), 4);)"
        )
        count = {4: "int64", 2: "short128", 1: "char256"}[d.itemsize]
        text.append(
            f"UNIT({t}_shift, auto a = in<{v}>(p); auto b = in<{count}>(p, 1); put(out, v_{t}_shl_b(a, b)); put(out, v_{t}_shr_b(a, b), 1);)"
        )
        text.append(
            f"UNIT({t}_count, auto a = in<{v}>(p); put(out, v_{t}_popcnt_b(a, SW_COUNT_ONES)); put(out, v_{t}_find_first_b(a, SW_FIND_ONE | SW_LSB), 1);"
            f" put(out, v_{t}_find_first_b(a, SW_FIND_ONE | SW_MSB), 2); put(out, v_{t}_brev_b(a), 3); put(out, v_{t}_popcnt_b(a, SW_COUNT_ZEROS), 4);)"
        )
    text.append(
        "UNIT(sel2, put(out, v_u32_sel2_grt_f32_b(in<float64>(p), in<float64>(p, 1), in<uint64>(p, 2), in<uint64>(p, 3)));"
        " put(out, v_f32_sel_less_i32_b(in<int64>(p, 2), in<int64>(p, 3), in<float64>(p), in<float64>(p, 1)), 2);"
        " put(out, v_f32_cmp_eq_b(in<float64>(p), in<float64>(p, 1), SW_MASK_EQ_ZERO), 3);)"
    )
    text.append("UNIT(ids, put(out, V_LANE_ID_32); put(out, V_LANE_ID_16, 1); put(out, V_LANE_ID_8, 2);)")
    text.append(
        "UNIT(parts, auto a = in<float64>(p); auto b = in<float64>(p, 1); auto e = in<int64>(p, 2);"
        " put(out, v_f32_extract_exp_b(a)); put(out, v_f32_extract_exp_b(a, SW_BIASED), 1); put(out, v_f32_fclass_b(a), 2);"
        " put(out, v_f32_form_fp_num_ie_b((char256)e, b, a, SW_ADD_BIAS), 3);"
        " put(out, v_f32_form_fp_num_ie_b((char256)e, b, a, SW_FORCE_SIGN1), 4);"
        " put(out, v_f32_form_fp_num_b(b, a, a), 5); put(out, v_f32_form_fp_num_b(b, a, a, SW_FORCE_SIGN0), 6);"
        " put(out, v_f32_abs_b(a), 7);)"
    )
    text.append(
        "UNIT(special, auto a = in<float64>(p); auto b = in<float64>(p, 1); auto c = in<float64>(p, 2); auto x = v_f32_fclass_b(a); auto y = v_f32_fclass_b(b);"
        " put(out, v_f32_calc_fp_special_b(x, y, SW_RECIP, c)); put(out, v_f32_calc_fp_special_b(x, y, SW_RSQRT, c), 1);"
        " put(out, v_f32_calc_fp_special_b(x, y, SW_SQRT, c), 2); put(out, v_f32_calc_fp_special_b(x, y, SW_LOG, c), 3);"
        " put(out, v_f32_calc_fp_special_b(x, y, SW_EXP, c), 4); put(out, v_f32_calc_fp_special_b(x, y, SW_TANH, c), 5);"
        " put(out, v_f32_calc_fp_special_b(x, y, SW_DIV, c), 6);)"
    )
    text.append(
        "UNIT(bf16_parts, auto a = in<bfloat128>(p); put(out, v_bf16_extract_exp_b(a)); put(out, v_bf16_abs_b(a), 1);"
        " put(out, v_bf16_nearbyint_b(a, SW_RD), 2);)"
    )
    text.append(
        "UNIT(predicates, bool256 a = from_bool64(v_f32_cmp_grt_b(in<float64>(p), 0.0f)); bool256 b = from_bool64(v_f32_cmp_less_b(in<float64>(p), 2.0f));"
        " float64 one = 1.0f; put(out, v_f32_mov_vb(one, 0, 0.0f, to_bool64(v_i1_and_b(a, b)), 0));"
        " put(out, v_f32_mov_vb(one, 0, 0.0f, to_bool64(a | ~b), 0), 1);)"
    )
    return build_unit("\n".join(text))


def values(dtype: np.dtype, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = 256 // dtype.itemsize
    if dtype.kind in "iu":
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, n, dtype=dtype, endpoint=True)
    x = (rng.integers(-4, 5, n)).astype(dtype)
    x[:4] = [np.nan, np.inf, -0.0, 0.0]
    return x


def raw(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint8).reshape(-1)


@pytest.mark.parametrize("t", TYPES)
def test_shuffle_stays_in_a_dual_group(unit, t: str) -> None:
    dtype = TYPES[t][1]
    size, n = dtype.itemsize, 256 // dtype.itemsize
    a, income = values(dtype, 1), values(dtype, 2)
    control = np.random.default_rng(3).integers(0, 256, 256).astype(np.uint8)
    expected = income.copy()
    dual, group = 64 // size, 32 // size
    for k in range(n):
        c = control[k * size]
        if c & 0x80:
            expected[k] = a[k // dual * dual + ((c >> 5) & 1) * group + (c & (group - 1))]
    np.testing.assert_array_equal(raw(unit(f"{t}_shuffle", a, control, income, out=dtype)), raw(expected))


@pytest.mark.parametrize("t", TYPES)
def test_group_moves(unit, t: str) -> None:
    dtype = TYPES[t][1]
    a, income = raw(values(dtype, 4)).reshape(4, 2, 32), raw(values(dtype, 5)).reshape(4, 2, 32)
    got = unit(f"{t}_groups", a, income, out=np.uint8, count=5).reshape(5, 4, 2, 32)
    np.testing.assert_array_equal(got[0], a[[1, 0, 3, 2]])
    partial = income.copy()
    keep = np.array([(0xFFFF00FF >> k) & 1 for k in range(32)], bool)
    for dst, src, groups in [(0, 2, [0]), (1, 2, [1]), (3, 0, [0, 1])]:
        for g in groups:
            partial[dst, g] = np.where(keep, a[src, g], income[dst, g])
    np.testing.assert_array_equal(got[1], partial)
    one = income.copy()
    one[1, 0] = a[3, 0]
    np.testing.assert_array_equal(got[2], one)
    np.testing.assert_array_equal(got[3], a[:, ::-1])
    half = income.copy()
    half[2, 1, :16] = a[2, 0, :16]
    np.testing.assert_array_equal(got[4], half)


@pytest.mark.parametrize("t", TYPES)
@pytest.mark.parametrize("c", COMPARE)
def test_compare_and_select(unit, t: str, c: str) -> None:
    dtype = TYPES[t][1]
    a, b, x, y = (values(dtype, s) for s in (6, 7, 8, 9))
    b[::3] = a[::3]
    wide = (lambda v: v) if dtype.kind in "iu" else (lambda v: v.astype(np.float32))
    with np.errstate(invalid="ignore"):
        expected = np.where(COMPARE[c](wide(a), wide(b)), x, y)
    got = unit(f"{t}_{c}", a, b, x, y, out=dtype, count=2).reshape(2, -1)
    np.testing.assert_array_equal(raw(got[0]), raw(expected))
    np.testing.assert_array_equal(raw(got[1]), raw(expected))


@pytest.mark.parametrize("t", ["bf16", "f16", "i16", "u16", "i8", "u8"])
def test_unpack_spreads_a_group_over_its_dual_group(unit, t: str) -> None:
    dtype = TYPES[t][1]
    a, income = values(dtype, 10), values(dtype, 11)
    duals, out = a.reshape(4, 2, -1), unit(f"{t}_unpack", a, income, out=dtype, count=2).reshape(2, 4, -1)
    for which, place in ((0, 0), (1, 1)):
        expected = income.reshape(4, -1).copy()
        expected[:, place::2] = duals[:, which]
        np.testing.assert_array_equal(raw(out[which].copy()), raw(expected))


@pytest.mark.parametrize("t", INTS)
def test_bits(unit, t: str) -> None:
    dtype = TYPES[t][1]
    a, b = values(dtype, 12), values(dtype, 13)
    got = unit(f"{t}_bits", a, b, out=dtype, count=5).reshape(5, -1)
    for g, e in zip(got, [a & b, a | b, a ^ b, ~a, a & ~b], strict=True):
        np.testing.assert_array_equal(g, e)
    width = 8 * dtype.itemsize
    n = (np.arange(len(a)) % (width + 3) - 1).astype(f"i{dtype.itemsize}")
    shifted = unit(f"{t}_shift", a, n, out=dtype, count=2).reshape(2, -1)
    mask = 2**width - 1

    def left(v: int, s: int) -> int:
        return (v << s) & mask if s >= 0 else right(v, -s)

    def right(v: int, s: int) -> int:
        return (v >> s) & mask if s >= 0 else left(v, -s)

    for g, f in zip(shifted, (left, right), strict=True):
        e = np.array([f(int(v), int(s)) for v, s in zip(a, n, strict=True)], np.uint64).astype(f"u{dtype.itemsize}")
        np.testing.assert_array_equal(g.view(e.dtype), e)
    u = a.view(f"u{dtype.itemsize}").copy()
    u[:2] = [0, mask]
    bits = [format(int(v), f"0{width}b") for v in u]
    counted = unit(f"{t}_count", u, out=np.uint8, count=5).reshape(5, len(u), dtype.itemsize)
    np.testing.assert_array_equal(counted[0, :, 0], [s.count("1") for s in bits])
    np.testing.assert_array_equal(counted[1, :, 0], [s[::-1].find("1") if "1" in s else width for s in bits])
    np.testing.assert_array_equal(counted[2, :, 0], [s.find("1") if "1" in s else width for s in bits])
    np.testing.assert_array_equal(
        counted[3].copy().view(u.dtype).ravel(), np.array([int(s[::-1], 2) for s in bits], u.dtype)
    )
    np.testing.assert_array_equal(counted[4, :, 0], [s.count("0") for s in bits])
    assert not counted[:3, :, 1:].any()


def test_select_pairs_and_mixed_types(unit) -> None:
    rng = np.random.default_rng(14)
    a, b = rng.standard_normal(64).astype(np.float32), rng.standard_normal(64).astype(np.float32)
    b[:8] = a[:8]
    x, y = np.arange(64, dtype=np.uint32), np.arange(64, dtype=np.uint32)[::-1].copy()
    got = unit("sel2", a, b, x, y, out=np.uint32, count=4).reshape(4, 64)
    np.testing.assert_array_equal(got[0], np.where(a > b, x, y))
    np.testing.assert_array_equal(got[1].view(np.float32), np.maximum(a, b))
    np.testing.assert_array_equal(got[2].view(np.float32), np.where(x < y, a, b))
    np.testing.assert_array_equal(got[3] != 0, (a.view(np.uint32) & b.view(np.uint32)) == 0)


def test_lane_ids(unit) -> None:
    got = unit("ids", out=np.uint8, count=3)
    np.testing.assert_array_equal(got[:256].view(np.uint32), np.arange(64))
    np.testing.assert_array_equal(got[256:512].view(np.uint16), np.arange(128))
    np.testing.assert_array_equal(got[512:], np.arange(256))


CLASS = [-np.inf, -1.5, -1e-40, -0.0, 0.0, 1e-40, 1.5, np.inf]


def test_parts_of_a_float(unit) -> None:
    rng = np.random.default_rng(15)
    a = (rng.standard_normal(64) * 10.0 ** rng.integers(-30, 30, 64)).astype(np.float32)
    b = (rng.standard_normal(64) * 100).astype(np.float32)
    a[:8] = np.array(CLASS, np.float32)
    a.view(np.uint32)[8:10] = [0x7F800001, 0x7FC00000]
    e = rng.integers(-100, 100, 64).astype(np.int32)
    got = unit("parts", a, b, e, out=np.uint32, count=8).reshape(8, 64)
    w, s = a.view(np.uint32), b.view(np.uint32) & 0x80000000
    field = (w >> 23) & 0xFF
    np.testing.assert_array_equal(got[0].view(np.int32), field.astype(np.int32) - 127)
    np.testing.assert_array_equal(got[1], field)
    np.testing.assert_array_equal(got[2][:10], [1 << k for k in range(10)])
    exponent = ((e + 127) & 0xFF).astype(np.uint32) << 23
    np.testing.assert_array_equal(got[3], s | exponent | (w & 0x7FFFFF))
    np.testing.assert_array_equal(got[4], 0x80000000 | ((e & 0xFF).astype(np.uint32) << 23) | (w & 0x7FFFFF))
    np.testing.assert_array_equal(got[5], (w & 0x807FFFFF) | (b.view(np.uint32) & 0x7F800000))
    np.testing.assert_array_equal(got[6], (w & 0x7FFFFF) | (b.view(np.uint32) & 0x7F800000))
    np.testing.assert_array_equal(got[7], w & 0x7FFFFFFF)


def test_special_values(unit) -> None:
    points = np.array([-np.inf, -2.0, -0.0, 0.0, 2.0, np.inf, np.nan], np.float32)
    a, b = (g.ravel().astype(np.float32) for g in np.meshgrid(points, points))
    a, b = np.pad(a, (0, 15)), np.pad(b, (0, 15))
    marker = np.full(64, 123, np.float32)
    got = unit("special", a, b, marker, out=np.float32, count=7).reshape(7, 64)
    with np.errstate(all="ignore"):
        expected = [1 / a, 1 / np.sqrt(a), np.sqrt(a), np.log(a), np.exp(a), np.tanh(a), a / b]
        special = ~np.isfinite(a) | (a == 0)
        for g, e in zip(got[:6], expected[:6], strict=True):
            np.testing.assert_array_equal(g[special], e[special])
            normal = np.isfinite(a) & (a > 0)
            np.testing.assert_array_equal(g[normal], 123)
        special = ~np.isfinite(a) | (a == 0) | ~np.isfinite(b) | (b == 0)
        np.testing.assert_array_equal(got[6][special], expected[6][special])


def test_bf16_parts(unit) -> None:
    x = (np.random.default_rng(16).standard_normal(128) * 20).astype(BF16)
    got = unit("bf16_parts", x, out=np.uint16, count=3).reshape(3, 128)
    np.testing.assert_array_equal(got[0].view(np.int16), ((x.view(np.uint16) >> 7) & 0xFF).astype(np.int16) - 127)
    np.testing.assert_array_equal(got[1], x.view(np.uint16) & 0x7FFF)
    np.testing.assert_array_equal(got[2].view(BF16).astype(np.float32), np.floor(x.astype(np.float32)))


def test_predicate_registers(unit) -> None:
    x = np.linspace(-4, 4, 64).astype(np.float32)
    got = unit("predicates", x, out=np.float32, count=2).reshape(2, 64)
    np.testing.assert_array_equal(got[0], (x > 0) & (x < 2))
    np.testing.assert_array_equal(got[1], (x > 0) | ~(x < 2))
