"""Probes of the silicon: for each assumption of assumptions.toml that one kernel can test, that kernel, what it is
given and what it gives if the assumption holds.

A probe is one member of an index space. It reads rows of 256 bytes from tensors `a`, `b`, `c` and writes rows of `out`,
all as bits in i32 unless the tensor says otherwise. What is expected is worked out here in NumPy from the register's
words; the host must agree with it (tests/host/test_conformance.py), and `tpcgen conformance` takes the same kernels to
a Gaudi.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy

np: Any = numpy  # bits are looked at as one dtype and as another, which pyright follows only in part
Array = Any

ROWS, LANES = 16, 64
BF16 = np.dtype(ml_dtypes.bfloat16)
F8, H8 = np.dtype(ml_dtypes.float8_e4m3), np.dtype(ml_dtypes.float8_e5m2)

HEADER = """\
// A row of 256 bytes as a vector, and back.
#define LOAD(type, x, tensor, row)                  \\
    int5 at_##x = {0, row, 0, 0, 0};                \\
    type x = (type)v_i32_ld_tnsr_b(at_##x, tensor)
#define STORE(row, x)                                            \\
    do {                                                         \\
        int5 at_out = {0, row, 0, 0, 0};                         \\
        v_i32_st_tnsr(at_out, out, (int64)(x));                  \\
    } while (0)
"""


@dataclass(frozen=True)
class Probe:
    """`inputs` by tensor name; those left out are zeros. `expected`: the first rows of `out`, as bits.

    `compare`: "bits", or "f32" / "bf16" where any NaN is as good as another, or "ulp:N" of f32. `findings`: kinds that
    the strict device reports of it, rightly.
    """

    name: str
    assumption: str
    body: str
    inputs: Mapping[str, Array]
    expected: Array
    compare: str = "bits"
    targets: tuple[str, ...] = ("gaudi", "gaudi2")
    findings: tuple[str, ...] = field(default=())

    @property
    def kernel(self) -> str:
        """The kernel's text."""
        return kernel(self.body)

    def tensors(self) -> tuple[Array, Array, Array]:
        """a, b and c in torch order."""
        a, b, c = (self.inputs.get(name, np.zeros((ROWS, LANES), np.int32)) for name in "abc")
        return a, b, c


def kernel(body: str) -> str:
    """main around `body`: three tensors in, one out."""
    lines = "\n".join(f"    {line}" if line else "" for line in body.strip().splitlines())
    return f'#include "probe.h"\n\nvoid main(tensor a, tensor b, tensor c, tensor out)\n{{\n{lines}\n}}\n'


# --- making data ------------------------------------------------------------------------------------------------------


def words(*rows: Array) -> Array:
    """Rows of 256 bytes, any dtype, as i32 words."""
    return np.concatenate([np.ascontiguousarray(r).reshape(-1).view(np.int32) for r in rows]).reshape(-1, LANES)


def given(*rows: Array) -> Array:
    """`words` padded with zero rows to a whole input."""
    made = words(*rows)
    return np.concatenate([made, np.zeros((ROWS - len(made), LANES), np.int32)])


def normal(count: int, dtype: Any, seed: int, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(count) * scale).astype(dtype)


def repeated(values: Sequence[float], dtype: Any, count: int = LANES) -> Array:
    return np.resize(np.array(values, dtype), count)


def exact(x: Array) -> Array:
    return x.astype(np.float64)


# --- the probes -------------------------------------------------------------------------------------------------------


def _lanes_of_pairs() -> Probe:
    x, y = normal(128, BF16, 1), normal(128, BF16, 2)
    product = (exact(x) * exact(y)).astype(np.float32)
    wide = x.astype(np.float32)
    return Probe(
        "interleaved_lanes",
        "interleaved_lanes",
        """
LOAD(bfloat128, x, a, 0);
LOAD(bfloat128, y, b, 0);
float128 zero = {0};
float128 sum = v_bf16_mac_acc32_b(x, y, zero);
float128 wide = v_convert_bf16_to_f32_all_b(x);
bfloat128 back = v_convert_f32_to_bf16_all_b(wide);
STORE(0, sum.v1);
STORE(1, sum.v2);
STORE(2, wide.v1);
STORE(3, wide.v2);
STORE(4, back);
""",
        {"a": given(x), "b": given(y)},
        words(product[0::2], product[1::2], wide[0::2], wide[1::2], x),
    )


def _exponent_byte() -> Probe:
    n = np.random.default_rng(3).integers(-60, 60, LANES)
    noise = np.random.default_rng(4).integers(1, 2**23, LANES)
    exponent = ((noise << 8) | (n & 0xFF)).astype(np.uint32)
    p = np.random.default_rng(5).uniform(1, 2, LANES).astype(np.float32)
    return Probe(
        "form_fp_num_exponent_byte",
        "form_fp_num_exponent_byte",
        """
LOAD(char256, exponent, a, 0);
LOAD(float64, p, b, 0);
STORE(0, v_f32_form_fp_num_ie_b(exponent, p, p, SW_ADD_BIAS));
""",
        {"a": given(exponent), "b": given(p)},
        words(np.ldexp(p, n).astype(np.float32)),
    )


def _fused_mac() -> Probe:
    x, y = normal(LANES, np.float32, 6), normal(LANES, np.float32, 7)
    rounded = x * y
    residue = (exact(x) * exact(y) - exact(rounded)).astype(np.float32)
    assert residue.any()
    return Probe(
        "f32_mac_fused",
        "f32_mac_fused",
        """
LOAD(float64, x, a, 0);
LOAD(float64, y, b, 0);
LOAD(float64, minus, c, 0);
STORE(0, v_f32_mac_b(x, y, minus));
""",
        {"a": given(x), "b": given(y), "c": given(-rounded)},
        words(residue),
    )


def _bf16_rounding() -> tuple[Probe, Probe]:
    x, y, z = normal(128, BF16, 8), normal(128, BF16, 9), normal(128, BF16, 10)
    arithmetic = Probe(
        "bf16_arithmetic_rounding",
        "bf16_arithmetic_rounding",
        """
LOAD(bfloat128, x, a, 0);
LOAD(bfloat128, y, b, 0);
STORE(0, v_bf16_add_b(x, y));
STORE(1, v_bf16_sub_b(x, y));
STORE(2, v_bf16_mul_b(x, y));
""",
        {"a": given(x), "b": given(y)},
        words(*((f(exact(x), exact(y))).astype(BF16) for f in (np.add, np.subtract, np.multiply))),
    )
    mac = Probe(
        "bf16_mac_rounding",
        "bf16_mac_rounding",
        """
LOAD(bfloat128, x, a, 0);
LOAD(bfloat128, y, b, 0);
LOAD(bfloat128, z, c, 0);
STORE(0, v_bf16_mac_b(x, y, z));
""",
        {"a": given(x), "b": given(y), "c": given(z)},
        words((exact(x) * exact(y) + exact(z)).astype(np.float32).astype(BF16)),
    )
    return arithmetic, mac


def _denormals() -> Probe:
    x = repeated([1e-40, -1e-40, 1.2e-38, -1.2e-38, 1.0], np.float32)
    y = repeated([1.0, 1e-40, 0.5, 0.25, 1e-39], np.float32)

    def flushed(v: Array) -> Array:
        v = v.astype(np.float32)
        return np.where(np.abs(v) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), v), v)

    return Probe(
        "denormals_flushed",
        "denormals_flushed",
        """
LOAD(float64, x, a, 0);
LOAD(float64, y, b, 0);
STORE(0, v_f32_add_b(x, y));
STORE(1, v_f32_mul_b(x, y));
STORE(2, v_f32_mov_b(x));
""",
        {"a": given(x), "b": given(y)},
        words(flushed(flushed(x) + flushed(y)), flushed(exact(flushed(x)) * exact(flushed(y))), x),
    )


def _nan_bits() -> Probe:
    x = repeated([np.inf, 1.0, -np.inf], np.float32)
    y = repeated([np.inf, 2.0, -np.inf], np.float32)
    with np.errstate(invalid="ignore"):
        nan = x - y
    return Probe(
        "nan_bits",
        "nan_bits",
        """
LOAD(float64, x, a, 0);
LOAD(float64, y, b, 0);
float64 d = v_f32_sub_b(x, y);
float128 pair = {0};
pair.v1 = d;
pair.v2 = d;
STORE(0, v_convert_f32_to_bf16_all_b(pair));
""",
        {"a": given(x), "b": given(y)},
        words(np.where(np.isnan(nan), np.uint16(0x7FFF), nan.astype(BF16).view(np.uint16)).astype(np.uint16).repeat(2)),
    )


def _max_nan() -> Probe:
    x = repeated([np.nan, 1.0, np.nan, -np.inf, 0.0, -0.0, 2.0], np.float32)
    y = repeated([1.0, np.nan, np.nan, 3.0, -0.0, 0.0, -2.0], np.float32)
    larger = np.where(x > y, x, y)
    with np.errstate(invalid="ignore"):
        either = np.where(np.isnan(x) | np.isnan(y), np.float32(np.nan), larger)
        other = np.where(np.isnan(x), y, np.where(np.isnan(y), x, larger))
    return Probe(
        "max_nan",
        "max_nan",
        """
LOAD(float64, x, a, 0);
LOAD(float64, y, b, 0);
STORE(0, v_f32_max_b(x, y));
STORE(1, v_f32_max_b(x, y, SW_SUP_NAN));
""",
        {"a": given(x), "b": given(y)},
        words(either.astype(np.float32), other.astype(np.float32)),
        compare="f32",
    )


def _pads() -> tuple[Probe, Probe]:
    x = np.arange(ROWS * LANES, dtype=np.int32).reshape(ROWS, LANES) + 1
    beyond = np.concatenate([x[0, 32:], np.zeros(32, np.int32)])
    default = Probe(
        "pad_value_default",
        "pad_value_default",
        """
int5 right = {32, 0, 0, 0, 0};
int5 below = {0, 16, 0, 0, 0};
int5 left = {-8, 0, 0, 0, 0};
STORE(0, v_i32_ld_tnsr_b(right, a));
STORE(1, v_i32_ld_tnsr_b(below, a));
STORE(2, v_i32_ld_tnsr_b(left, a));
""",
        {"a": x},
        words(beyond, np.zeros(LANES, np.int32), np.concatenate([np.zeros(8, np.int32), x[0, :-8]])),
    )
    narrow = normal(ROWS * 128, BF16, 11).reshape(ROWS, 128)
    pad = np.full(96, -1.5, BF16)
    width = Probe(
        "pad_value_width",
        "pad_value_width",
        """
set_pad_value_bf16(a, -1.5f);
int5 right = {96, 0, 0, 0, 0};
STORE(0, v_bf16_ld_tnsr_b(right, a));
set_pad_value_float(b, -2.5f);
int5 outside = {0, 99, 0, 0, 0};
STORE(1, v_i32_ld_tnsr_b(outside, b));
""",
        {"a": narrow},
        words(np.concatenate([narrow[0, 96:], pad]), np.full(LANES, -2.5, np.float32)),
    )
    return default, width


def _partial_loads() -> tuple[Probe, Probe, Probe]:
    x = np.arange(ROWS * LANES, dtype=np.int32).reshape(ROWS, LANES) + 1
    income = np.arange(LANES, dtype=np.int32) - 1000
    part = income.copy()
    part[16:24] = x[0, :8]
    partial = Probe(
        "partial_lanes_keep_income",
        "partial_lanes_keep_income",
        """
LOAD(int64, income, b, 0);
int5 at = {0, 0, 0, 0, 0};
STORE(0, v_i32_ld_tnsr_partial_b(at, a, 7, 16, 0, income));
STORE(1, v_i32_ld_tnsr_low_b(at, a, 0, income));
""",
        {"a": x, "b": given(income)},
        words(part, np.concatenate([x[0, :32], income[32:]])),
    )
    narrow = normal(ROWS * 128, BF16, 12).reshape(ROWS, 128)
    spread = np.empty(128, BF16)
    spread[0::2], spread[1::2] = narrow[3, :64], narrow[3, 64:]
    unpack = Probe(
        "unpack_on_load",
        "unpack_on_load",
        """
int5 at = {0, 3, 0, 0, 0};
STORE(0, v_bf16_ld_tnsr_b(at, a, SW_UNPACK | SW_UNPCK_16_TO_32));
""",
        {"a": narrow},
        words(spread),
        targets=("gaudi2",),
    )
    bits = narrow.view(np.int32)
    descriptor = Probe(
        "descriptor_elements",
        "descriptor_elements",
        """
int5 at = {64, 2, 0, 0, 0};
float64 zero = 0.0f;
STORE(0, v_f32_ld_tnsr_low_b(at, a, 0, zero));
""",
        {"a": narrow},
        words(np.concatenate([bits[2, 32:], np.zeros(32, np.int32)])),
        findings=("element_size",),
    )
    return partial, unpack, descriptor


def _conversions() -> tuple[Probe, ...]:
    x = repeated([2.5, 3.5, -2.5, 1e10, -1e10, np.inf, -np.inf, np.nan, 0.49999997, 7.9999995], np.float32)

    def whole(rounded: Array) -> Array:
        clipped = np.clip(np.nan_to_num(rounded.astype(np.float64), nan=0.0), -(2.0**31), 2.0**31 - 1)
        return clipped.astype(np.int32)

    to_int = Probe(
        "convert_float_to_int",
        "convert_float_to_int",
        """
LOAD(float64, x, a, 0);
STORE(0, v_convert_f32_to_i32_b(x, SW_RHNE));
STORE(1, v_convert_f32_to_i32_b(x, SW_RZ));
STORE(2, v_convert_f32_to_i32_b(x, SW_RD));
""",
        {"a": given(x)},
        words(whole(np.rint(x)), whole(np.trunc(x)), whole(np.floor(x))),
    )
    narrow = normal(128, BF16, 13)
    up = Probe(
        "convert_up_lanes",
        "convert_up_lanes",
        """
LOAD(bfloat128, x, a, 0);
STORE(0, v_convert_bf16_to_f32_b(x));
""",
        {"a": given(narrow)},
        words(narrow[0::2].astype(np.float32)),
        targets=("gaudi2",),
    )
    i = repeated([1, -1, 40000, -40000, 2**31 - 1, -(2**31)], np.int32)
    income = np.arange(128, dtype=np.int16)
    even = income.copy()
    even[0::2] = np.clip(i, -(2**15), 2**15 - 1)
    between = Probe(
        "convert_between_integers",
        "convert_between_integers",
        """
LOAD(int64, x, a, 0);
LOAD(short128, income, b, 0);
STORE(0, v_convert_i32_to_i16_b(x, 0, 0, income));
""",
        {"a": given(i), "b": given(income)},
        words(even),
        targets=("gaudi2",),
    )
    pair = np.random.default_rng(14).integers(-30000, 30000, 128).astype(np.int32)
    shift = np.random.default_rng(15).integers(-12, 1, 128).astype(np.int16)
    scaled = np.clip(np.rint(pair * 2.0 ** shift.astype(np.float64)), -(2**15), 2**15 - 1).astype(np.int16)
    by_shift = Probe(
        "convert_int_shift",
        "convert_int_shift",
        """
int128 x = {0};
LOAD(int64, even, a, 0);
LOAD(int64, odd, a, 1);
x.v1 = even;
x.v2 = odd;
LOAD(short128, shift, b, 0);
STORE(0, v_convert_int32_to_i16_all_b(x, shift, SW_RHNE));
""",
        {"a": given(pair[0::2], pair[1::2]), "b": given(shift)},
        words(scaled),
        targets=("gaudi2",),
    )
    f = repeated([0.0, 1.0, -1.0, 240.0, 248.0, 2.0**-9, 3 * 2.0**-10, 57344.0, 1e30, 0.1, -3.3], np.float32, 256)
    eighths = Probe(
        "fp8_formats",
        "fp8_formats",
        """
float256 x = {0};
LOAD(float64, x1, a, 0);
LOAD(float64, x2, a, 1);
LOAD(float64, x3, a, 2);
LOAD(float64, x4, a, 3);
x.v1 = x1;
x.v2 = x2;
x.v3 = x3;
x.v4 = x4;
STORE(0, v_convert_f32_to_f8_all_b(x));
STORE(1, v_convert_f32_to_h8_all_b(x));
""",
        {"a": given(*(f[k::4].copy() for k in range(4)))},
        words(f.astype(F8), f.astype(H8)),
        targets=("gaudi2",),
    )
    return to_int, up, between, by_shift, eighths


def _movements() -> tuple[Probe, ...]:
    x = normal(LANES, np.float32, 16)
    element = np.random.default_rng(17).integers(0, 8, LANES)
    group = np.random.default_rng(18).integers(0, 2, LANES)
    noise = np.random.default_rng(19).integers(1, 2**23, LANES)
    control = ((noise << 8) | 0x80 | (group << 5) | element).astype(np.uint32)
    lane = np.arange(LANES)
    shuffle = Probe(
        "shuffle_control_byte",
        "shuffle_control_byte",
        """
LOAD(float64, x, a, 0);
LOAD(uchar256, control, b, 0);
STORE(0, v_f32_shuffle_b(x, control, 0, x));
""",
        {"a": given(x), "b": given(control)},
        words(x[lane // 16 * 16 + group * 8 + element]),
    )
    narrow, income = normal(128, BF16, 20), normal(128, BF16, 21)
    duals = narrow.reshape(4, 2, 16)
    spread = np.stack([income, income]).reshape(2, 4, 32).copy()
    packed = np.stack([income, income]).reshape(2, 4, 2, 16).copy()
    for g in (0, 1):
        spread[g, :, 0::2] = duals[:, g]
        packed[g, :, 0, 8 * g : 8 * g + 8] = duals[:, g, 0::2]
    unpack = Probe(
        "unpack_layout",
        "unpack_layout",
        """
LOAD(bfloat128, x, a, 0);
LOAD(bfloat128, income, b, 0);
STORE(0, v_bf16_unpack_b(x, SW_GROUP_0 | SW_STRIDE_2, income));
STORE(1, v_bf16_unpack_b(x, SW_GROUP_1 | SW_STRIDE_2, income));
""",
        {"a": given(narrow), "b": given(income)},
        words(spread),
    )
    pack = Probe(
        "pack_layout",
        "pack_layout",
        """
LOAD(bfloat128, x, a, 0);
LOAD(bfloat128, income, b, 0);
STORE(0, v_bf16_pack_b(x, SW_GROUP_0 | SW_STRIDE_2, income));
STORE(1, v_bf16_pack_b(x, SW_GROUP_1 | SW_STRIDE_2, income));
""",
        {"a": given(narrow), "b": given(income)},
        words(packed),
    )
    ids = Probe(
        "lane_ids",
        "lane_ids",
        """
STORE(0, V_LANE_ID_32);
STORE(1, V_LANE_ID_16);
STORE(2, V_LANE_ID_8);
""",
        {},
        words(np.arange(64, dtype=np.uint32), np.arange(128, dtype=np.uint16), np.arange(256, dtype=np.uint8)),
    )
    return shuffle, unpack, pack, ids


def butterfly(x: Array, combine: Callable[[Array, Array], Array]) -> Array:
    """The published order of a lane reduction: dual groups, groups, then lanes 1, 2 and 4 away."""
    lane = np.arange(LANES)
    for distance in (16, 32, 8, 1, 2, 4):
        x = combine(x, x[lane ^ distance])
    return x


def _reductions() -> tuple[Probe, Probe]:
    x = normal(LANES, np.float32, 22, 100.0)
    tree = Probe(
        "reduction_butterfly",
        "reduction_butterfly",
        """
LOAD(float64, x, a, 0);
STORE(0, v_f32_reduce_add(x));
STORE(1, v_f32_reduce_max(x));
""",
        {"a": given(x)},
        words(butterfly(x, np.add), np.full(LANES, x.max(), np.float32)),
    )
    y = np.abs(normal(LANES, np.float32, 23, 3.0)) + np.float32(0.1)
    functions = (np.exp, np.reciprocal, np.sqrt, np.tanh)
    tables = Probe(
        "lut_functions",
        "lut_functions",
        """
LOAD(float64, x, a, 0);
STORE(0, v_exp_f32(x));
STORE(1, v_reciprocal_f32(x));
STORE(2, v_sqrt_f32(x));
STORE(3, v_tanh_f32(x));
""",
        {"a": given(y)},
        words(*(f(exact(y)).astype(np.float32) for f in functions)),
        compare="ulp:4",
    )
    return tree, tables


def _predicates() -> tuple[Probe, ...]:
    x = normal(LANES, np.float32, 24)
    marked = np.where(x > 0, x, np.float32(-7))
    bits = Probe(
        "predicate_bits",
        "predicate_bits",
        """
LOAD(float64, x, a, 0);
float64 other = -7.0f;
bool256 wide = from_bool64(v_f32_cmp_grt_b(x, 0.0f));
STORE(0, v_f32_mov_vb(x, 0, other, to_bool64(wide), 0));
""",
        {"a": given(x)},
        words(marked),
    )
    w = np.random.default_rng(25).integers(0, 16, LANES).astype(np.uint32)
    nibbles = Probe(
        "predicate_nibbles",
        "predicate_nibbles",
        """
LOAD(uint64, x, a, 0);
STORE(0, v_u32_mov_i1_b(v_i1_mov_u32_b(x)));
LOAD(char256, y, b, 0);
char256 zero = 0;
STORE(1, v_i8_mov_vb(y, 0, zero, v_i1_mov_u32_b(x), 0));
""",
        {"a": given(w | 0xABCDEF00), "b": given(np.full(256, 5, np.int8))},
        words(w, np.where((w[:, None] >> np.arange(4)) & 1, 5, 0).astype(np.int8)),
        targets=("gaudi2",),
    )
    y, z = normal(LANES, np.float32, 26), normal(LANES, np.float32, 27)
    p = np.random.default_rng(28).integers(0, 2, 128).astype(np.int16)
    pairs = Probe(
        "predicate_of_pairs",
        "predicate_of_pairs",
        """
LOAD(float64, x, a, 0);
LOAD(float64, y, a, 1);
LOAD(float64, z, a, 2);
LOAD(short128, p, b, 0);
float128 pair = {0};
pair.v1 = x;
pair.v2 = y;
float128 income = {0};
float128 sum = v_f32_add_x2_vb(pair, z, z, 0, income, v_i16_cmp_grt_b(p, 0), 0);
STORE(0, sum.v1);
STORE(1, sum.v2);
""",
        {"a": given(x, y, z), "b": given(p)},
        words(np.where(p[0::2] > 0, x + z, np.float32(0)), np.where(p[1::2] > 0, y + z, np.float32(0))),
        targets=("gaudi2",),
    )
    return bits, nibbles, pairs


def _integers() -> tuple[Probe, ...]:
    rng = np.random.default_rng(29)
    x, y = rng.integers(-(2**31), 2**31, (2, LANES)).astype(np.int32)
    product = x.astype(np.int64) * y
    halves = Probe(
        "mul_i32_words",
        "mul_i32_words",
        """
LOAD(int64, x, a, 0);
LOAD(int64, y, b, 0);
int128 product = v_i32_mul_b(x, y);
STORE(0, product.v1);
STORE(1, product.v2);
""",
        {"a": given(x), "b": given(y)},
        words((product & 0xFFFFFFFF).astype(np.uint32), (product >> 32).astype(np.int32)),
    )
    doubled = [min(max((2 * int(p) + 2**31) >> 32, -(2**31)), 2**31 - 1) for p in product]
    rounded = Probe(
        "mul_round",
        "mul_round",
        """
LOAD(int64, x, a, 0);
LOAD(int64, y, b, 0);
STORE(0, v_i32_mul_round_b(x, y));
""",
        {"a": given(x), "b": given(y)},
        words(np.array(doubled, np.int32)),
    )
    counts = repeated([0, 1, 31, 32, 33, -1, -4, -32], np.int32)

    def shifted(v: int, n: int) -> int:
        return (v << n if n >= 0 else v >> -n) & 0xFFFFFFFF if abs(n) < 64 else 0

    left = np.array([shifted(int(v), int(n)) for v, n in zip(x, counts, strict=True)], np.uint32)
    right = np.array([shifted(int(v), -int(n)) for v, n in zip(x, counts, strict=True)], np.uint32)
    shifts = Probe(
        "shift_counts",
        "shift_counts",
        """
LOAD(int64, x, a, 0);
LOAD(int64, n, b, 0);
STORE(0, v_i32_shl_b(x, n));
STORE(1, v_i32_shr_b(x, n));
""",
        {"a": given(x), "b": given(counts)},
        words(left, right),
    )
    low = rng.integers(-8, 8, LANES)
    amount = ((rng.integers(1, 2**23, LANES) << 8) | (low & 0xFF)).astype(np.uint32)
    ash = np.array([shifted(int(v), int(n)) for v, n in zip(x >> 9, low, strict=True)], np.uint32)
    operand = Probe(
        "byte_operand_of_wide_lane",
        "byte_operand_of_wide_lane",
        """
LOAD(int64, x, a, 0);
LOAD(char256, n, b, 0);
STORE(0, v_i32_ash_b(x, n));
""",
        {"a": given(x >> 9), "b": given(amount)},
        words(ash),
    )
    z = np.where(np.arange(LANES) % 9 == 0, 0, x).astype(np.int32)
    ones = [bin(int(v) & 0xFFFFFFFF).count("1") for v in z]
    first = [(int(v) & -int(v)).bit_length() - 1 if v else 32 for v in z]
    result = Probe(
        "byte_result_of_wide_lane",
        "byte_result_of_wide_lane",
        """
LOAD(int64, x, a, 0);
STORE(0, v_i32_popcnt_b(x, SW_COUNT_ONES));
STORE(1, v_i32_find_first_b(x, SW_FIND_ONE | SW_LSB));
""",
        {"a": given(z)},
        words(np.array(ones, np.uint32), np.array(first, np.uint32)),
    )
    division = Probe(
        "udiv_by_zero",
        "udiv_by_zero",
        """
uint32_t_pair_t none = {0};
unsigned zero = get_dim_size(b, 4) - 1;
uint32_t_pair_t both = u32_udiv_both(17, zero, 0, none);
uint32_t_pair_t fine = u32_udiv_both(17, 5, 0, none);
int64 q = (int)both.v1;
int64 r = (int)both.v2;
int64 q5 = (int)fine.v1;
int64 r5 = (int)fine.v2;
STORE(0, q);
STORE(1, r);
STORE(2, q5);
STORE(3, r5);
""",
        {},
        words(*(np.full(LANES, v, np.int32) for v in (-1, 17, 3, 2))),
        targets=("gaudi2",),
    )
    p, q, acc = rng.integers(-(2**15), 2**15, (3, 128)).astype(np.int64)
    sum_ = ((p * q + 2**9) >> 10) + acc
    msac = Probe(
        "msac",
        "msac",
        """
LOAD(short128, x, a, 0);
LOAD(short128, y, b, 0);
LOAD(short128, sum, c, 0);
short128 ten = -10;
short128 one = -1;
STORE(0, v_i16_msac_b(x, y, (char256)ten, (char256)one, SW_RHU | SW_NORMALIZE_AB, sum));
""",
        {"a": given(p.astype(np.int16)), "b": given(q.astype(np.int16)), "c": given(acc.astype(np.int16))},
        words(np.clip((sum_ + 1) >> 1, -(2**15), 2**15 - 1).astype(np.int16)),
        targets=("gaudi2",),
    )
    return halves, rounded, shifts, operand, result, division, msac


def _addresses() -> Sequence[Probe]:
    fields = Probe(
        "prmt_indx_fields",
        "prmt_indx_fields",
        """
int5 x = {10, 11, 12, 13, 14};
int5 y = prmt_indx(x, 4 | 3 << 3 | 0 << 6 | 1 << 9 | 2 << 12, 0);
int64 low = y[0] + 100 * y[1];
int64 high = y[2] + 100 * (y[3] + 100 * y[4]);
STORE(0, low);
STORE(1, high);
""",
        {},
        words(np.full(LANES, 13_14, np.int32), np.full(LANES, 12_11_10, np.int32)),
    )
    steps = Probe(
        "udiv_steps",
        "udiv_steps",
        """
uint16_t_pair_t s = {0};
s.v1 = 1000;
s = u16_udiv_4step(7, 15, 0, s);
s = u16_udiv_4step(7, 11, 0, s);
s = u16_udiv_4step(7, 7, 0, s);
int64 left = (int)s.v1;
int64 quotient = (int)s.v2;
s = u16_udiv_4step(7, 3, 0, s);
int64 remainder = (int)s.v1;
int64 whole = (int)s.v2;
STORE(0, left);
STORE(1, quotient);
STORE(2, remainder);
STORE(3, whole);
""",
        {},
        words(*(np.full(LANES, v, np.int32) for v in (1000 - 7 * 128, 128, 1000 % 7, 1000 // 7))),
        targets=("gaudi",),
    )
    x = np.arange(2 * LANES, dtype=np.int32)
    direct = Probe(
        "direct_access",
        "direct_access",
        """
int5 second = {5, 0, 0, 0, 0};
uint32_t_pair_t from = get_addr(gen_addr(second, a));
int64 x = v_i32_ld_tnsr_direct_b(from.v1, from.v2);
int5 first = {0, 0, 0, 0, 0};
uint32_t_pair_t to = get_addr(gen_addr(first, out));
v_i32_st_tnsr_direct(to.v1, to.v2, x);
""",
        {"a": given(x)},
        words(x[5 : 5 + LANES]),
        targets=("gaudi2",),
    )
    return fields, steps, direct


def _special_values() -> Probe:
    x = repeated([-np.inf, -2.0, -0.0, 0.0, 2.0, np.inf, np.nan], np.float32)
    income = np.full(LANES, 123, np.float32)
    with np.errstate(all="ignore"):
        ieee = [1 / x, 1 / np.sqrt(x), np.sqrt(x), np.log(x), np.exp(x)]
    finite = np.isfinite(x) & (x != 0)
    fails = [np.zeros(LANES, bool), x < 0, x < 0, x < 0, np.zeros(LANES, bool)]
    expected = [
        np.where(finite & ~fail, income, value).astype(np.float32) for value, fail in zip(ieee, fails, strict=True)
    ]
    return Probe(
        "calc_fp_special",
        "calc_fp_special",
        """
LOAD(float64, x, a, 0);
float64 kind = v_f32_fclass_b(x);
float64 income = 123.0f;
STORE(0, v_f32_calc_fp_special_b(kind, kind, SW_RECIP, income));
STORE(1, v_f32_calc_fp_special_b(kind, kind, SW_RSQRT, income));
STORE(2, v_f32_calc_fp_special_b(kind, kind, SW_SQRT, income));
STORE(3, v_f32_calc_fp_special_b(kind, kind, SW_LOG, income));
STORE(4, v_f32_calc_fp_special_b(kind, kind, SW_EXP, income));
""",
        {"a": given(x)},
        words(*expected),
        compare="f32",
    )


PROBES: tuple[Probe, ...] = (
    _lanes_of_pairs(),
    _exponent_byte(),
    _fused_mac(),
    *_bf16_rounding(),
    _denormals(),
    _nan_bits(),
    _max_nan(),
    *_pads(),
    *_partial_loads(),
    *_conversions(),
    *_movements(),
    *_reductions(),
    *_predicates(),
    *_integers(),
    *_addresses(),
    _special_values(),
)


# --- rates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """A kernel whose time tells a number of the cost model. It runs `b[0, 0]` iterations on each member of dim 0 of
    the index space and writes a row of `out` a member.

    `cycles`: of one iteration, where the schedule alone decides (toolchain.md 3.2), else 0. `accesses`: 256-byte
    accesses or scalar loads of one.
    """

    name: str
    body: str
    cycles: int
    accesses: int

    @property
    def kernel(self) -> str:
        """The kernel's text."""
        body = "\n".join(f"        {line}" for line in self.body.strip().splitlines())
        return kernel(_RATE.format(body=body))


# Vectors of tensor `a` in a rate's run, as a power of two: the loads wrap round.
RATE_ROWS = 1 << 14

_RATE = """
const int5 start = get_index_space_offset();
const int5 end = get_index_space_size() + start;
int5 first = {{0, 0, 0, 0, 0}};
const int iterations = s_i32_ld_g((__global__ int*)gen_addr(first, b));
for (int member = start[0]; member < end[0]; member++) {{
    float64 x = 1.0f;
    float64 y = 0.0f;
{body}
    STORE(member, v_f32_add_b(x, y));
}}
"""

_CHAIN = """
for (int i = 0; i < iterations; i++) {
    #pragma unroll(16)
    for (int k = 0; k < 16; k++) {
        x = v_f32_add_b(x, 1.0f);
    }
}
"""

_LOADS = f"""
int5 at = {{0, 0, 0, 0, 0}};
for (int i = 0; i < iterations; i++) {{
    #pragma unroll(8)
    for (int k = 0; k < 8; k++) {{
        at[1] = (i * 8 + k) & {RATE_ROWS - 1};
        x = v_f32_max_b(x, (float64)v_i32_ld_tnsr_b(at, a));
    }}
}}
"""

_SCALAR_LOADS = f"""
int5 at = {{0, 0, 0, 0, 0}};
for (int i = 0; i < iterations; i++) {{
    #pragma unroll(8)
    for (int k = 0; k < 8; k++) {{
        at[0] = k;
        at[1] = i & {RATE_ROWS - 1};
        y = v_f32_max_b(y, v_f32_ld_g(gen_addr(at, a)));
    }}
}}
"""

RATES: tuple[Rate, ...] = (
    Rate("chain", _CHAIN, cycles=64, accesses=0),
    Rate("loads", _LOADS, cycles=0, accesses=8),
    Rate("scalar_loads", _SCALAR_LOADS, cycles=0, accesses=8),
)
"""chain: 16 dependent VPU additions of latency 4. loads: 256-byte tensor loads. scalar_loads: LD_G broadcasts."""
