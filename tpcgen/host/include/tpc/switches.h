// Instruction switches: names and values of the public interface (tpc_llvm, clang/lib/Headers/tpc-defs.h).
// Flags of different instructions share values.
#pragma once

enum : int {
    RMW_DT_BF16 = 0x6, RMW_DT_FP16 = 0x8, RMW_DT_FP32 = 0x7, RMW_DT_FP8_152 = 0x9, RMW_DT_INT16 = 0x1, RMW_DT_INT32
    = 0x2, RMW_DT_INT8 = 0x0, RMW_DT_UINT16 = 0x4, RMW_DT_UINT32 = 0x5, RMW_DT_UINT8 = 0x3, RMW_OP_ADD = 0x0,
    RMW_OP_MAX = 0x30, RMW_OP_MAX_0_ADD = 0x40, RMW_OP_MIN = 0x20, RMW_OP_SUB = 0x10, RMW_TNSR_DT = 0x80,
    SW_ADD_BIAS = 0x100, SW_ALL_LANES_SRCB = 0x0, SW_AUTO_INC_1_V = 0x1, SW_AUTO_INC_2_V = 0x2, SW_AUTO_INC_4_V =
    0x3, SW_BF16 = 0x1, SW_BIASED = 0x1, SW_BOOL = 0x6, SW_BORROW = 0x8, SW_BV16 = 0x1, SW_BV32 = 0x0, SW_BV64 =
    0x10, SW_BV8_0 = 0x2, SW_BV8_1 = 0x3, SW_CARRY = 0x2, SW_CLIP_FP = 0x100000, SW_CNT_ONLY = 0x1, SW_COUNT_ONES =
    0x1, SW_COUNT_ZEROS = 0x0, SW_CSR = 0x50000, SW_D = 0x2, SW_DEC = 0x100, SW_DIV = 0x6, SW_DIV_MODE_BOTH = 0x2,
    SW_DIV_MODE_DIV = 0x0, SW_DIV_MODE_MOD = 0x1, SW_DT_BF16 = 0x6, SW_DT_FP16 = 0x8, SW_DT_FP32 = 0x7,
    SW_DT_FP8_143 = 0xa, SW_DT_FP8_152 = 0x9, SW_DT_INT16 = 0x1, SW_DT_INT32 = 0x2, SW_DT_INT64 = 0xb, SW_DT_INT8 =
    0x0, SW_DT_OVERRIDE = 0x10, SW_DT_UINT16 = 0x4, SW_DT_UINT32 = 0x5, SW_DT_UINT8 = 0x3, SW_DUAL_GROUP0_EN = 0x4,
    SW_DUAL_GROUP1_EN = 0x8, SW_DUAL_GROUP2_EN = 0x10, SW_DUAL_GROUP3_EN = 0x20, SW_ELEMENT_STRIDE = 0x200,
    SW_EV_HINT = 0x40, SW_EXP = 0x4, SW_EXP_IS_NUM = 0x800, SW_FIND_ONE = 0x1, SW_FIND_ZERO = 0x0, SW_FLUSH = 0x10,
    SW_FORCE_SIGN0 = 0x200, SW_FORCE_SIGN1 = 0x400, SW_FP16 = 0xb, SW_FP32 = 0x0, SW_FP8_143 = 0xd, SW_FP8_152 =
    0xc, SW_GROUP0_EN = 0x1, SW_GROUP1_EN = 0x2, SW_GROUP_0 = 0x0, SW_GROUP_1 = 0x100, SW_GROUP_HALF = 0x400,
    SW_GROUP_HALF_0 = 0x0, SW_GROUP_HALF_1 = 0x400, SW_GROUP_RND32 = 0x3, SW_GROUP_SOURCE = 0x100, SW_INC = 0x0,
    SW_INC_1 = 0x1, SW_INC_2 = 0x2, SW_INC_4 = 0x3, SW_INC_8 = 0x4, SW_INT16 = 0x7, SW_INT32 = 0x2, SW_INT4 = 0x9,
    SW_INT64 = 0xe, SW_INT8 = 0x4, SW_INV_LOG = 0x40, SW_KEEP_RS = 0x2, SW_KEEP_RS_FOR_ADD = 0x3, SW_L0CD = 0x20,
    SW_L0CS = 0x20, SW_L2 = 0x8, SW_LANE_0 = 0x0, SW_LANE_1 = 0x1, SW_LANE_2 = 0x2, SW_LANE_3 = 0x3, SW_LD_G_PARTIAL
    = 0x80, SW_LINEAR = 0x1000000, SW_LOCK = 0x2, SW_LOG = 0x3, SW_LOWER32 = 0x0, SW_LOWER_LANES = 0x80, SW_LSB =
    0x0, SW_LU = 0x4, SW_LUT_LOG = 0x8000, SW_LUT_PTR = 0x8, SW_LUT_SIN_COS = 0x6000, SW_LUT_SQRT_RSQRT = 0x4000,
    SW_LUT_TANH = 0x2000, SW_MASK_EQ_ZERO = 0x1, SW_MMIO = 0x1, SW_MSB = 0x2, SW_NEG = 0x2, SW_NEG_ZP = 0x40,
    SW_NORMALIZE_AB = 0x0, SW_NORMALIZE_C = 0x4, SW_NO_BORROW_GEN = 0x4, SW_NO_CARRY_GEN = 0x4, SW_NO_INV = 0x1,
    SW_NO_NEG = 0x0, SW_NO_ROUND = 0x0, SW_NO_SAT = 0x1, SW_NUM_LANES_SRCB = 0x40, SW_PACK = 0x4, SW_PACK21 = 0x0,
    SW_PACK41 = 0x4, SW_PACK_DT = 0x30, SW_PAD = 0x40, SW_PCK_16_TO_8 = 0x10, SW_PCK_32_TO_16 = 0x0, SW_PCK_32_TO_8
    = 0x20, SW_PCK_8_TO_4 = 0x30, SW_PD = 0x8000, SW_POST_RECIP = 0x8100, SW_POST_RSQRT = 0x6200, SW_POST_SQRT =
    0x4200, SW_POW = 0x7, SW_PRE_LOG = 0x2, SW_PRE_LOG_FUNC = 0xa000, SW_PRE_SQRT_RSQRT = 0x2200, SW_RD = 0x30000,
    SW_READ_ONLY = 0x1, SW_RECIP = 0x0, SW_RHAZ = 0x60000, SW_RHNE = 0x0, SW_RHU = 0x2, SW_RSQRT = 0x1,
    SW_RST_D_PREF = 0x10, SW_RST_LU = 0x8, SW_RU = 0x20000, SW_RZ = 0x10000, SW_SAT = 0x1, SW_SB = 0x1, SW_SBCD =
    0x20, SW_SIGN_LSB = 0x1000, SW_SINGLE_LANE_SRCB = 0x40, SW_SLM = 0x0, SW_SPU = 0x0, SW_SQRT = 0x2, SW_SR =
    0x40000, SW_SR_RNE = 0x70000, SW_STRIDE_2 = 0x0, SW_STRIDE_4 = 0x200, SW_ST_TNSR_S_BV64 = 0x4, SW_SUBTRACT_BIAS
    = 0x1, SW_SUP_NAN = 0x4, SW_TANH = 0x5, SW_TYPE = 0xf, SW_UINT16 = 0x8, SW_UINT32 = 0x3, SW_UINT4 = 0xa,
    SW_UINT8 = 0x5, SW_UNLOCK = 0x2, SW_UNPACK = 0x10, SW_UNPACK_EVEN_LANES = 0x0, SW_UNPACK_LANE_0 = 0x0,
    SW_UNPACK_LANE_1 = 0x800, SW_UNPACK_LANE_2 = 0x1000, SW_UNPACK_LANE_3 = 0x1800, SW_UNPACK_ODD_LANES = 0x4,
    SW_UNPCK_16_TO_32 = 0x0, SW_UNPCK_4_TO_8 = 0x6, SW_UNPCK_8_TO_16 = 0x2, SW_UNPCK_8_TO_32 = 0x4, SW_UPPER32 =
    0x4, SW_UPPER_HALF = 0x4, SW_UPPER_LANES = 0xc0, SW_VPU = 0x200, SW_WR_LOWER_GROUP = 0x1000, SW_WR_LOWER_GROUP0
    = 0x10000, SW_WR_LOWER_GROUP1 = 0x40000, SW_WR_LOWER_GROUP2 = 0x100000, SW_WR_LOWER_GROUP3 = 0x400000,
    SW_WR_UPPER_GROUP = 0x2000, SW_WR_UPPER_GROUP0 = 0x20000, SW_WR_UPPER_GROUP1 = 0x80000, SW_WR_UPPER_GROUP2 =
    0x200000, SW_WR_UPPER_GROUP3 = 0x800000, SW_X2 = 0x10, SW_X2_UDIV_4STEP = 0x40,
#if defined(__gaudi2__)
    RMW_SET = 0x100, SW_ANDN = 0x2, SW_CLIP_X2 = 0x80000, SW_DIRECT = 0x40, SW_IRF44_HIGH = 0x1, SW_LUT_EXP0 = 0x2,
    SW_LUT_OPT = 0x1,
#else
    RMW_SET = 0x40,
#endif
};

#if defined(__gaudi2__)
#define MkRMW(dt, op, rmw, dl) ((dt) | ((op) << 4) | ((rmw) << 8) | ((dl) << 7))
#define LUT_PTR SW_LUT_PTR
#define X2 SW_X2
#else
#define MkRMW(dt, op, rmw, dl) ((dt) | ((op) << 4) | ((rmw) << 6) | ((dl) << 7))
#endif
#define UPPER_HALF SW_UPPER_HALF
#define MkWr(l, u) (((l) ? SW_WR_LOWER_GROUP : 0) | ((u) ? SW_WR_UPPER_GROUP : 0))
#define MkWrA(w0, w1, w2, w3) (((w0) << 16) | ((w1) << 18) | ((w2) << 20) | ((w3) << 22))

inline unsigned MdgCtrlSingle(unsigned src, unsigned dst, unsigned lower, unsigned upper) { return src | (dst << 2) | (lower << 4) | (upper << 5); }
inline unsigned MdgCtrlAll(unsigned d0, unsigned d1, unsigned d2, unsigned d3) { return d0 | (d1 << 2) | (d2 << 4) | (d3 << 6); }

// Older spellings of switch values, and the ids of the lookup functions (tpc_llvm, clang/lib/Headers/tpc-special.h).
enum : int {
    e_round_half_ne = 0, e_round_zero = 1, e_round_up = 2, e_round_down = 3, e_round_stochastic = 4, e_round_half_az
    = 6, e_no_negation = 0, e_with_negation = 1, e_aso_prefetch = 0, e_aso_commit = 1, e_return_lower_32 = 0,
    e_return_upper_32 = 1, e_group_0 = 0, e_group_1 = 1, e_every_second_element = 0, e_every_forth_element = 1,
    e_lower_half_group = 0, e_higher_half_group = 1, e_normalize_ab = 0, e_normalize_c = 1, e_access_slm = 0,
    e_access_mmio = 1, e_no_saturation = 0, e_saturate = 1, e_compare_bit_0 = 0, e_compare_bit_1 = 1,
    e_start_from_lsb = 0, e_start_from_msb = 1, e_bits_0_31 = 0, e_bits_32_63 = 1, e_bits_64_95 = 2, e_bits_96_127 =
    3, e_bits_128_159 = 4, e_bits_160_191 = 5, e_bits_192_223 = 6, e_bits_224_255 = 7, e_standard_mov = 8,
    e_aso_increment = 0, e_aso_decrement = 1, e_count_zeros = 0, e_count_ones = 1, e_mul_default = 0,
    e_doube_and_round = 1, e_lookup_fp32 = 0, e_lookup_bv16 = 1, e_fp32_tanh = 0, e_fp32_rsqrt = 1, e_fp32_log2 = 2,
    e_i8_sqrt = 3, e_u16_sqrt = 4, e_u32_power4 = 5, e_i8_sqrt_c0 = 6, e_u16_sqrt_c0 = 7, e_fp32_sqrt = 128,
    e_fp32_rcp = 129, e_fp32_sin_cos = 130, e_bf16_rcp_scalar_m7 = 131, e_bf16_sin_cos_scalar_m7 = 132,
    e_bf16_sin_cos_linear_m6 = 133, e_bf16_sin_cos_poly2_m6_c2c1 = 134, e_bf16_sin_cos_poly2_m6_c0 = 135,
    e_bf16_log2_linear_interleaved_m5 = 136, e_fp32_pow2 = 256, e_bf16_tanh = 257, e_i16_tanh = 258, e_i16_sigmoid =
    259, e_i16_exp_neg = 260, e_i16_rcp = 261, e_i8_tanh_linear = 262, e_i8_sigmoid_linear = 263, e_i8_exp_linear =
    264, e_bf16_tanh_c0 = 265, e_i16_tanh_c0 = 266, e_i16_sigmoid_c0 = 267, e_i16_exp_neg_c0 = 268, e_i16_rcp_c0 =
    269, e_i8_tanh_linear_c0 = 270, e_i8_sigmoid_linear_c0 = 271, e_i8_exp_linear_c0 = 272, e_bf16_tanh_linear_m4 =
    273, e_bf16_tanh_poly2_m4_c2c1 = 274, e_bf16_tanh_poly2_m4_c0 = 275, e_bf16_sqrt_scalar_m6 = 276,
    e_bf16_log2_linear_m5 = 277, e_bf16_sin_cos_linear_m5 = 278, e_bf16_sin_cos_poly_m5_c2c1 = 279,
    e_bf16_sin_cos_poly2_m5_co = 280, e_bf16_rcp_m7_c0 = 288, e_bf16_rsqrt = 384, e_bf16_log2 = 385, e_bf16_sqrt =
    386, e_f16_sqrt_poly_m2_c2c1 = 386, e_bf16_rcp = 387, e_bf16_sin_cos = 388, e_bf16_pow2 = 389, e_i8_tanh = 390,
    e_bf16_rsqrt_c0 = 391, e_bf16_log2_c0 = 392, e_bf16_sqrt_c0 = 393, e_f16_sqrt_poly_m2_c0 = 393, e_bf16_rcp_c0 =
    394, e_bf16_sin_cos_c0 = 395, e_bf16_pow2_c0 = 396, e_i8_tanh_c0 = 397, e_bf16_rcp_scalar = 398,
    e_f16_rcp_poly_m3_c2c1 = 398, e_bf16_rcp_linear_m2 = 399, e_bf16_rcp_linear_m3 = 400, e_bf16_rcp_linear_m4 =
    401, e_bf16_rcp_poly_m2_c2c1 = 402, e_bf16_rcp_poly_m3_c2c1 = 403, e_bf16_rcp_poly_m4_c2c1 = 404,
    e_bf16_rcp_poly_m2_c0 = 405, e_bf16_rcp_poly_m3_c0 = 406, e_bf16_rcp_poly_m4_c0 = 407, e_f16_rcp_poly_m3_c0 =
    408, e_bf16_sqrt_linear_m2 = 409, e_bf16_sqrt_linear_m3 = 410, e_bf16_sqrt_linear_m4 = 411,
    e_bf16_sqrt_poly2_m2_c2c1 = 412, e_bf16_sqrt_poly2_m3_c2c1 = 413, e_bf16_sqrt_poly2_m4_c2c1 = 414,
    e_bf16_sqrt_poly2_m2_c0 = 415, e_bf16_sqrt_poly2_m3_c0 = 416, e_bf16_sqrt_poly2_m4_c0 = 417,
    e_bf16_tanh_linear_m2 = 418, e_bf16_tanh_linear_m3 = 419, e_bf16_tanh_poly2_m2_c2c1 = 421,
    e_bf16_tanh_poly2_m3_c2c1 = 422, e_bf16_tanh_poly2_m2_c0 = 424, e_bf16_tanh_poly2_m3_c0 = 425,
    e_bf16_log2ml_linear_m4 = 426, e_bf16_sin_cos_linear_m2 = 427, e_bf16_sin_cos_linear_m3 = 428,
    e_bf16_sin_cos_linear_m4 = 429, e_bf16_sin_cos_poly2_m2_c2c1 = 430, e_bf16_sin_cos_poly2_m2_c0 = 431,
    e_bf16_sin_cos_poly2_m3_c2c1 = 432, e_bf16_sin_cos_poly2_m3_c0 = 433, e_bf16_sin_cos_poly2_m4_c2c1 = 434,
    e_bf16_sin_cos_poly2_m4_c0 = 435, e_f16_rsqrt_poly_m3_c2c1 = 440, e_f16_rsqrt_poly_m3_c0 = 441,
    e_f16_pow2_poly_m2_c2c1 = 444, e_f16_pow2_poly_m2_c0 = 445, e_func_variant_default = 0, e_func_variant_tanh = 1,
    e_func_variant_sqrt_rsqrt = 2, e_func_variant_sin_cos = 3, e_fp_nan = 0, e_fp_pos_inf = 1, e_fp_neg_inf = 2,
    e_fp_negative = 3, e_fp_zero = 4, e_fp_positive = 5, e_fp_denormalized = 6, e_prefetch_l1 = 0, e_prefetch_l2 =
    1, e_prefetch_l3 = 3, e_fp_recip = 0, e_fp_rsqrt = 1, e_fp_sqrt = 2, e_fp_log = 3, e_fp_exp = 4, e_fp_tanh = 5,
    e_fp_div = 6, e_fp_pow = 7, e_rmw_int8 = 0, e_rmw_int16 = 1, e_rmw_int32 = 2, e_rmw_uint8 = 3, e_rmw_uint16 = 4,
    e_rmw_uint32 = 5, e_rmw_bf16 = 6, e_rmw_fp32 = 7, e_rmw_add = 0, e_rmw_sub = 1, e_rmw_min = 2, e_rmw_max = 3,
    e_rmw_plain = 0, e_rmw_atomic = 1, e_tnsr_dt_srf = 0, e_tnsr_dt_desc = 1,
};

#define LFSR read_lfsr_b()
#define LFSR_NO_CHANGE read_lfsr_b(SW_READ_ONLY)
#define S_LFSR s_read_lfsr()
#define S_LFSR_NO_CHANGE s_read_lfsr(SW_READ_ONLY)
#define V_LANE_ID_32 read_lane_id_4b_b()
#define V_LANE_ID_16 read_lane_id_2b_b()
#define V_LANE_ID_8 read_lane_id_1b_b()
