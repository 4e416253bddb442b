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
        "UNIT(direct_loads, tensors(p, 0, 4, 70, 3, 0); int5 c = {5, 1, 0, 0, 0}; uint32_t_pair_t a = get_addr(gen_addr(c, 0)); auto l = a.v1, h = a.v2;"
        " bool64 few = v_u32_cmp_less_b(V_LANE_ID_32, 5u); put(out, v_f32_ld_tnsr_direct_b(l, h)); put(out, v_f32_ld_tnsr_direct_vb(l, h, 0, 7.0f, few, 0), 1);"
        " put(out, v_f32_ld_tnsr_partial_direct_b(l, h, 9, 20, 0, 7.0f), 2); put(out, v_f32_ld_tnsr_low_direct_b(l, h, 0, 7.0f), 3);"
        " put(out, v_f32_ld_tnsr_high_direct_b(l, h, 0, 7.0f), 4); put(out, v_f32_ld_tnsr_low_partial_direct_b(l, h, 2, 1, 0, 7.0f), 5);"
        " put(out, v_f32_ld_tnsr_high_partial_direct_b(l, h, 2, 1, 0, 7.0f), 6); put(out, v_f32_ld_tnsr_direct_b(l, h, 0, 7.0f, 1, 1), 7);"
        " put(out, v_u8_ld_tnsr_direct_b(l, h), 8); put(out, v_i16_ld_tnsr_direct_b(l, h, SW_UNPACK | SW_UNPCK_8_TO_16), 9);)"
    )
    text.append(
        "UNIT(direct_stores, tensors(0, out, 4, 64, 8, 0); float64 v = v_convert_u32_to_f32_b(V_LANE_ID_32) + 1.0f; int5 c = {0};"
        " uint32_t_pair_t a[8]; for (int i = 0; i < 8; ++i) { c[1] = i; a[i] = get_addr(gen_addr(c, 1)); }"
        " v_f32_st_tnsr_direct(a[0].v1, a[0].v2, v); v_f32_st_tnsr_low_direct(a[1].v1, a[1].v2, v); v_f32_st_tnsr_high_direct(a[2].v1, a[2].v2, v);"
        " v_f32_st_tnsr_partial_direct(a[3].v1, a[3].v2, v, 4, 10); v_f32_st_tnsr_direct(a[4].v1, a[4].v2, v, 0, 0);"
        " const int add = MkRMW(RMW_DT_FP32, RMW_OP_ADD >> 4, 1, 0), min = MkRMW(RMW_DT_FP32, RMW_OP_MIN >> 4, 1, 0);"
        " for (int i = 0; i < 3; ++i) v_f32_st_tnsr_rmw_direct(a[4].v1, a[4].v2, v, add); v_f32_st_tnsr_low_rmw_direct(a[4].v1, a[4].v2, v, min);"
        " v_f32_st_tnsr_high_rmw_direct(a[5].v1, a[5].v2, v, add); v_f32_st_tnsr_partial_rmw_direct(a[6].v1, a[6].v2, v, add, 4, 10);"
        " v_i1_st_tnsr_direct(a[7].v1, a[7].v2, v_u8_cmp_less_b(V_LANE_ID_8, (uint8_t)12));)"
    )
    text.append(
        "UNIT(addresses, tensors(p, 0, 4, 70, 3, 0); int5 c = {2, 1, 0, 0, 0}, d = {0, 2, 0, 0, 0}, keep = {5, 5, 5, 5, 5}; __global__ void* a = gen_addr(c, 0);"
        " int5 x = i_i32_ld_g_inc(&a, 3, 0, keep); int5 y = i_i32_ld_g_inc(&a, 16, 0, keep); int5 z = i_i32_ld_g_inc(&a, 31, 0, keep, 0);"
        " int64 r = x[0] * 1000 + x[1] * 10 + x[2]; put(out, r); int64 s = y[4] * 10 + y[0]; put(out, s, 1); int64 t = z[0]; put(out, t, 2);"
        " update_addr(&a, get_addr(gen_addr(d, 0))); int64 u = s_i32_ld_g((__global__ int*)a); put(out, u, 3);"
        " update_addr(&a, get_addr(gen_addr(c, 0)), 0, 0); int64 w = s_i32_ld_g((__global__ int*)a); put(out, w, 4);)"
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
        " int5 m = {7, 8, 9}; m = set_indx(5, m, 2, 0); int64 t = m[0] * 100 + m[1] * 10 + m[4]; put(out, t, 2); int64 u = mov_irf_dim(m, 0, 0); put(out, u, 3);"
        " int5 n = {10, 11, 12, 13, 14}, k = {1, 1, 1, 1, 1}; int5 q = prmt_indx(n, 4 | 3 << 3 | 0 << 6 | 1 << 9 | 2 << 12, 0);"
        " int64 e = q[0] + 100 * (q[1] + 100 * (q[2] + 100 * (q[3] + 100 * q[4]))); put(out, e, 4); int64 g = prmt_indx(n, 0, 0, k, 0)[3]; put(out, g, 5);)"
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


def test_vector_loads_by_address(unit) -> None:
    x = np.arange(210, dtype=np.float32)
    got = unit("direct_loads", x, out=np.float32, count=10).reshape(10, 64)
    lane, at = np.arange(64), x[75:]
    np.testing.assert_array_equal(got[0], at[:64])
    np.testing.assert_array_equal(got[1], np.where(lane < 5, at[:64], 7))
    np.testing.assert_array_equal(got[2], np.where((lane >= 20) & (lane < 30), at[lane - 20], 7))
    np.testing.assert_array_equal(got[3], np.where(lane < 32, at[:64], 7))
    np.testing.assert_array_equal(got[4], np.where(lane >= 32, at[lane - 32], 7))
    np.testing.assert_array_equal(got[5], np.where((lane >= 1) & (lane < 4), at[lane - 1], 7))
    np.testing.assert_array_equal(got[6], np.where((lane >= 33) & (lane < 36), at[lane - 33], 7))
    np.testing.assert_array_equal(got[7], 7)
    raw = at[:64].view(np.uint8)
    np.testing.assert_array_equal(got[8].view(np.uint8), raw)
    np.testing.assert_array_equal(got[9].view(np.uint8), np.stack([raw[:128], raw[128:]], -1).ravel())


def test_vector_stores_by_address(unit) -> None:
    got = unit("direct_stores", out=np.float32, count=8).reshape(8, 64)
    lane, v = np.arange(64), np.arange(1, 65)
    np.testing.assert_array_equal(got[0], v)
    np.testing.assert_array_equal(got[1], np.where(lane < 32, v, 0))
    np.testing.assert_array_equal(got[2], np.where(lane < 32, v + 32, 0))
    np.testing.assert_array_equal(got[3], np.where(lane < 5, v + 10, 0))
    np.testing.assert_array_equal(got[4], np.where(lane < 32, v, 3 * v))
    np.testing.assert_array_equal(got[5], got[2])
    np.testing.assert_array_equal(got[6], got[3])
    assert list(got[7].view(np.uint8)[:34]) == [255, 15, *[0] * 32]


def test_address_registers(unit) -> None:
    got = unit("addresses", np.arange(210, dtype=np.int32), out=np.int32, count=5).reshape(5, 64)[:, 0]
    assert list(got) == [72 * 1000 + 72 * 10 + 5, 73 * 10 + 5, 5, 140, 140]


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
    got = unit("index", out=np.int32, count=6).reshape(6, 64)[:, 0]
    assert got[0] == 3 + 10 * 4 + 900
    assert list(got[1:4]) == [7 * 10000 + 5 * 100 + 1, 750, 7]
    assert list(got[4:]) == [12_11_10_13_14, 1]
