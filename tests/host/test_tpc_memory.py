"""Tensor, global and local memory intrinsics: padding, partial accesses, packing, addresses, read-modify-write."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

BF16 = np.dtype(ml_dtypes.bfloat16)

# Tensor 0 is the 4 KB after the first register of the input, tensor 1 the output from register 16 on; sizes are fixed per unit.
SETUP = """
using namespace tpcgen::rt;
static void tensors(const void* p, void* out, int elem, int w, int h, unsigned pad) {
  context.tensors = 2;
  for (int t = 0; t < 2; ++t) {
    Tensor& d = context.tensor[t];
    d = Tensor{};
    d.base = t ? (uint8_t*)out : (uint8_t*)p;
    for (int i = 0; i < 5; ++i) { d.size[i] = 1; d.stride[i] = w * h; }
    d.size[0] = w; d.size[1] = h; d.stride[0] = 1; d.stride[1] = w; d.rank = 2; d.elem = elem; d.pad = pad;
  }
}
"""


@pytest.fixture(scope="module")
def unit(build_unit):
    text = [SETUP]
    text.append(
        "UNIT(f32_loads, tensors(p, 0, 4, 70, 3, 0xbf800000u); int5 c = {0, 1, 0, 0, 0}; put(out, v_f32_ld_tnsr_b(c, 0)); c[0] = 30;"
        " put(out, v_f32_ld_tnsr_b(c, 0), 1); c[0] = -10; put(out, v_f32_ld_tnsr_b(c, 0), 2); c[1] = 3; put(out, v_f32_ld_tnsr_b(c, 0), 3);"
        " int5 d = {5, 2, 0, 0, 0}; put(out, v_f32_ld_tnsr_partial_b(d, 0, 9, 20, 0, 7.0f), 4);"
        " put(out, v_f32_ld_tnsr_low_b(d, 0, 0, 7.0f), 5); put(out, v_f32_ld_tnsr_high_b(d, 0, 0, 7.0f), 6);"
        " put(out, v_f32_ld_tnsr_b(d, 0, 0, 7.0f, 0), 7); put(out, v_f32_ld_tnsr_vb(d, 0, 0, 7.0f, v_u32_cmp_less_b(V_LANE_ID_32, 5u), 0), 8);"
        " d[4] = 1; put(out, v_f32_ld_tnsr_b(d, 0), 9);)"
    )
    text.append(
        "UNIT(unpack, tensors(p, 0, 2, 70, 3, 0x3f80); int5 c = {0, 1, 0, 0, 0}; put(out, v_bf16_ld_tnsr_b(c, 0, SW_UNPACK | SW_UNPCK_16_TO_32));"
        " put(out, v_bf16_ld_tnsr_b(c, 0), 1);)"
    )
    text.append(
        "UNIT(f32_stores, tensors(0, out, 4, 70, 4, 0); float64 v = v_convert_u32_to_f32_b(V_LANE_ID_32) + 1.0f; int5 c = {30, 1, 0, 0, 0};"
        " v_f32_st_tnsr(c, 1, v); c[0] = -60; c[1] = 0; v_f32_st_tnsr(c, 1, v); c[0] = 3; c[1] = 2; v_f32_st_tnsr_partial(c, 1, v, 4, 10);"
        " c[0] = 0; c[1] = 3; v_f32_st_tnsr_low(c, 1, v); c[0] = 40; v_f32_st_tnsr_high(c, 1, v); c[1] = 4; v_f32_st_tnsr(c, 1, v);"
        " c[1] = 0; c[0] = 10; v_f32_st_tnsr(c, 1, v, 0, 0); s_f32_st_tnsr_s(c, 1, 99.0f);)"
    )
    text.append(
        "UNIT(bf16_pack, tensors(0, out, 2, 70, 2, 0); bfloat128 v = in<bfloat128>(p); int5 c = {0, 1, 0, 0, 0};"
        " v_bf16_st_tnsr(c, 1, v, SW_PACK | SW_PCK_32_TO_16);)"
    )
    text.append(
        "UNIT(rmw, tensors(0, out, 4, 70, 2, 0); float64 v = 2.0f; int5 c = {0, 1, 0, 0, 0}; for (int i = 0; i < 3; ++i)"
        " v_f32_st_tnsr_rmw(c, 1, v, MkRMW(RMW_DT_FP32, RMW_OP_ADD >> 4, 1, 0)); c[1] = 0;"
        " v_f32_st_tnsr(c, 1, 5.0f); v_f32_st_tnsr_rmw(c, 1, v, MkRMW(RMW_DT_FP32, RMW_OP_SUB >> 4, 1, 0));"
        " v_f32_st_tnsr_partial_rmw(c, 1, v, MkRMW(RMW_DT_FP32, RMW_OP_MIN >> 4, 1, 0), 9, 0);)"
    )
    text.append(
        "UNIT(global, tensors(p, out, 4, 70, 3, 0); int5 c = {2, 1, 0, 0, 0}; __global__ float* a = (__global__ float*)gen_addr(c, 0);"
        " float x = s_f32_ld_g(a); float64 all = x; put(out, all); put(out, v_f32_ld_g(a), 1); float64 two = s_f32_ld_g_inc(&a);"
        " put(out, two, 2); float64 three = s_f32_ld_g(a); put(out, three, 3); put(out, v_f32_ld_g_partial_b(a, 3, 8, 0, 1.0f), 4);"
        " put(out, v_f32_ld_g(gen_addr(c, 0), 0, 5.0f, 0), 5); int5 o = {0, 6, 0, 0, 0};"
        " context.tensor[1].stride[1] = 64; context.tensor[1].size[1] = 7; context.tensor[1].size[0] = 64;"
        " s_f32_st_g(gen_addr(o, 1), 42.0f);)"
    )
    text.append(
        "UNIT(local, v_f32_st_l_v(512, in<float64>(p)); v_f32_st_l_v_low(0, in<float64>(p, 1)); v_f32_st_l_v_vb(512, in<float64>(p, 1), 0,"
        " v_u32_cmp_less_b(V_LANE_ID_32, 5u), 0); put(out, v_f32_ld_l_v_b(512)); put(out, v_f32_ld_l_v_high_b(512, 0, 3.0f), 1);"
        " s_f32_st_l(8, 2.5f); float64 x = s_f32_ld_l(8); put(out, x, 2); s_i1_st_l(12, 1); int64 y = s_i1_ld_l(12); put(out, y, 3);)"
    )
    text.append(
        "UNIT(descriptors, tensors(p, out, 4, 70, 3, 0); set_pad_value_float(0, -INFINITY); int5 c = {64, 0, 0, 0, 0};"
        " put(out, v_f32_ld_tnsr_b(c, 0)); int64 w = get_dim_size(0, 0); put(out, w, 1); int64 s = get_dim_stride(0, 1); put(out, s, 2);"
        " float64 q = get_pad_value_float(0); put(out, q, 3); set_dim_size(0, 0, 5); c[0] = 0; put(out, v_f32_ld_tnsr_b(c, 0), 4);"
        " set_pad_value_bf16(0, (bf16)1.0f); int64 z = get_pad_value_int(0); put(out, z, 5);)"
    )
    text.append(
        "UNIT(index, context.offset[0] = 3; context.offset[4] = 9; context.size[1] = 4; int5 a = get_index_space_offset(); int5 b = a + get_index_space_size();"
        " int64 r = a[0] + 10 * b[1] + 100 * a[4]; put(out, r); a += 1; a = i_i32_add(a, b, 3, 0, a); int64 s = a[0] * 10000 + a[1] * 100 + a[2]; put(out, s, 1);"
        " int5 m = {7, 8, 9}; m = set_indx(5, m, 2, 0); int64 t = m[0] * 100 + m[1] * 10 + m[4]; put(out, t, 2); int64 u = mov_irf_dim(m, 0, 0); put(out, u, 3);)"
    )
    return build_unit("\n".join(text))


def test_loads_pad_and_keep_income(unit) -> None:
    x = np.arange(210, dtype=np.float32)
    got = unit("f32_loads", x, out=np.float32, count=10).reshape(10, 64)
    row = np.concatenate([np.full(64, -1), x[70:140], np.full(64, -1)])
    np.testing.assert_array_equal(got[0], row[64:128])
    np.testing.assert_array_equal(got[1], row[94:158])
    np.testing.assert_array_equal(got[2], row[54:118])
    np.testing.assert_array_equal(got[3], -1)
    partial = np.full(64, 7.0)
    partial[20:30] = x[145:155]
    np.testing.assert_array_equal(got[4], partial)
    np.testing.assert_array_equal(got[5], np.concatenate([x[145:177], np.full(32, 7)]))
    np.testing.assert_array_equal(got[6], np.concatenate([np.full(32, 7), x[145:177]]))
    np.testing.assert_array_equal(got[7], 7)
    np.testing.assert_array_equal(got[8], np.where(np.arange(64) < 5, x[145:209], 7))
    np.testing.assert_array_equal(got[9], -1)


def test_unpack_on_load(unit) -> None:
    x = np.arange(210).astype(BF16)
    got = unit("unpack", x, out=BF16, count=2).reshape(2, 128).astype(int)
    row = np.concatenate([np.arange(70, 140), np.ones(58)])
    np.testing.assert_array_equal(got[1], row)
    np.testing.assert_array_equal(got[0][0::2], row[:64])
    np.testing.assert_array_equal(got[0][1::2], row[64:])


def test_stores_drop_what_is_outside(unit) -> None:
    got = unit("f32_stores", out=np.float32, count=8)[:280].reshape(4, 70)
    v = np.arange(1, 65)
    expected = np.zeros((4, 70))
    expected[1, 30:70] = v[:40]
    expected[0, :4] = v[60:]
    expected[0, 10] = 99
    expected[2, 3:8] = v[10:15]
    expected[3, :32] = v[:32]
    expected[3, 40:70] = v[32:62]
    np.testing.assert_array_equal(got, expected)


def test_pack_on_store(unit) -> None:
    x = np.arange(128).astype(BF16)
    got = unit("bf16_pack", x, out=BF16, count=4)[:140].reshape(2, 70)
    np.testing.assert_array_equal(got[1].astype(int), [*range(0, 128, 2), *range(1, 12, 2)])


def test_read_modify_write(unit) -> None:
    got = unit("rmw", out=np.float32, count=4)[:140].reshape(2, 70)
    np.testing.assert_array_equal(got[1], np.where(np.arange(70) < 64, 6, 0))
    np.testing.assert_array_equal(got[0], np.where(np.arange(70) < 10, 2, np.where(np.arange(70) < 64, 3, 0)))


def test_global_addresses(unit) -> None:
    x = np.arange(210, dtype=np.float32)
    got = unit("global", x, out=np.float32, count=7).reshape(7, 64)
    for k, value in enumerate([72, 72, 72, 73]):
        np.testing.assert_array_equal(got[k], value)
    np.testing.assert_array_equal(got[4], np.where((np.arange(64) >= 8) & (np.arange(64) < 12), 73, 1))
    np.testing.assert_array_equal(got[5], 5)
    assert got[6, 0] == 42


def test_local_memory(unit) -> None:
    a, b = np.arange(64, dtype=np.float32), np.arange(100, 164, dtype=np.float32)
    got = unit("local", a, b, out=np.float32, count=4).reshape(4, 64)
    mixed = np.where(np.arange(64) < 5, b, a)
    np.testing.assert_array_equal(got[0], mixed)
    np.testing.assert_array_equal(got[1], np.concatenate([np.full(32, 3), mixed[:32]]))
    np.testing.assert_array_equal(got[2], 2.5)
    np.testing.assert_array_equal(got[3].view(np.int32), 1)


def test_descriptors(unit) -> None:
    x = np.arange(210, dtype=np.float32)
    got = unit("descriptors", x, out=np.float32, count=6).reshape(6, 64)
    np.testing.assert_array_equal(got[0], np.concatenate([x[64:70], np.full(58, -np.inf)]))
    assert got[1].view(np.int32)[0] == 70
    assert got[2].view(np.int32)[0] == 70
    assert got[3][0] == -np.inf
    np.testing.assert_array_equal(got[4], np.concatenate([x[:5], np.full(59, -np.inf)]))
    assert got[5].view(np.uint32)[0] == 0x3F803F80


def test_index_registers(unit) -> None:
    got = unit("index", out=np.int32, count=4).reshape(4, 64)[:, 0]
    assert got[0] == 3 + 10 * 4 + 900
    assert list(got[1:]) == [7 * 10000 + 5 * 100 + 1, 750, 7]
