// The library that every TPC-C kernel may call: special functions and reductions.
//
// Functions that the device computes from lookup tables, whose contents are not public, are correctly rounded here (libm in
// double precision, one rounding) and noted as LOOKUP users, since one of them shrinks vector memory to 16 KB:
//   v_exp_f32, v_exp_fast_f32, v_reciprocal*, v_sqrt*, v_rsqrt*, v_tanh*, v_sigmoid_f32, v_sin*, v_cos*, v_log2*, v_pow*, v_div*,
//   v_expm1_f32, v_mod_f32, v_sinh/cosh/asinh/acosh/atanh, and all v_*_reduce_*.
// v_exp_cephes*_f32 follows the Cephes expf operation by operation and is faithful. v_log*_f32 and the cephes inverse
// functions are arithmetic on the device too, but are taken from libm here. The "fast" forms of the device do not treat
// zero, infinities and NaN; here they do.
// Names without v_ (exp_f32, ...) exist in newer tools than the open compiler. All are templates, so that a kernel's own
// function of the same name comes first.
#pragma once

#include "tpc/intrinsics.h"

namespace tpc {

template <class F> TPC_SLOW vec<float> by_double(vec<float> x, F f)
{
    vec<float> o;
    for (int k = 0; k < 64; ++k) lanes_of(o)[k] = float(f(double(lanes_of(x)[k])));
    return o;
}
template <class F> TPC_SLOW vec<float> by_double(vec<float> x, vec<float> y, F f)
{
    vec<float> o;
    for (int k = 0; k < 64; ++k) lanes_of(o)[k] = float(f(double(lanes_of(x)[k]), double(lanes_of(y)[k])));
    return o;
}
// bf16 and f16 through double: one rounding.
template <class E, class F> TPC_SLOW vec<E> small_by_double(vec<E> x, F f)
{
    vec<E> o;
    for (int k = 0; k < vec<E>::lanes; ++k) lanes_of(o)[k] = E::from_bits(E::narrow(f(double(float(lanes_of(x)[k])))));
    return o;
}

// Cephes expf: x = n ln2 + r with ln2 in two parts, degree-6 polynomial, exponent added to the bits.
TPC_FN fn exp_cephes(fn x)
{
    const fn one = fn{} + 1.0f;
    const fn n = rounded<3>(fused(x, fn{} + 1.44269504088896341f, fn{} + 0.5f));
    fn r = fused(-n, fn{} + 0.693359375f, x);
    r = fused(-n, fn{} + -2.12194440e-4f, r);
    fn p = fused(r, fn{} + 1.9875691500e-4f, fn{} + 1.3981999507e-3f);
    p = fused(p, r, fn{} + 8.3334519073e-3f);
    p = fused(p, r, fn{} + 4.1665795894e-2f);
    p = fused(p, r, fn{} + 1.6666665459e-1f);
    p = fused(p, r, fn{} + 5.0000001201e-1f);
    p = fused(p, r * r, r + one);
    return (fn)((in)p + (to_i32(n, 3) << 23));
}

// x reduced over all lanes in the published order: dual groups 0<->1 and 2<->3, then 0<->2 and 1<->3, the two groups of each
// dual group, then inside a group with partners 1, 2, 4, ... lanes away [reduction_butterfly]. All lanes get the result.
template <class E, class F> TPC_SLOW vec<E> reduce(vec<E> x, F f)
{
    constexpr int n = vec<E>::lanes, dual = n / 4, group = n / 8;
    const auto step = [&](int distance) {
        vec<E> partner;
        for (int k = 0; k < n; ++k) lanes_of(partner)[k] = lanes_of(x)[k ^ distance];
        x = f(x, partner);
    };
    step(dual);
    step(2 * dual);
    step(group);
    for (int d = 1; d < group; d *= 2) step(d);
    return x;
}
// Index and value of the extreme: inside groups first, then groups, then dual groups; ties keep the earlier register side.
template <class Op, class Index, class E> TPC_SLOW pair<vec<Index>, vec<E>> reduce_arg(vec<E> x)
{
    constexpr int n = vec<E>::lanes, dual = n / 4, group = n / 8;
    vec<Index> at = impl::lane_id<vec<Index>>();
    const auto step = [&](int distance) {
        vec<E> px;
        vec<Index> pa;
        for (int k = 0; k < n; ++k) {
            lanes_of(px)[k] = lanes_of(x)[k ^ distance];
            lanes_of(pa)[k] = lanes_of(at)[k ^ distance];
        }
        const auto m = impl::cmp<Op>(px, x, 0);
        x = impl::blend(m, px, x);
        at = impl::blend(m, pa, at);
    };
    for (int d = 1; d < group; d *= 2) step(d);
    step(group);
    step(dual);
    step(2 * dual);
    return {vec<Index>(lanes_of(at)[0]), vec<E>(lanes_of(x)[0])};
}

}  // namespace tpc

#define TPC_UNARY(NAME, LOOKUP, EXPR)                                                                                  \
    template <class I = ::tpc::impl> inline float64 NAME(float64 input)                                                \
    {                                                                                                                  \
        if (LOOKUP) ::tpcgen::rt::note_lookup(#NAME);                                                                  \
        return ::tpc::by_double(input, [](double x) { return EXPR; });                                                 \
    }
#define TPC_BINARY(NAME, EXPR)                                                                                         \
    template <class I = ::tpc::impl> inline float64 NAME(float64 a, float64 b)                                         \
    {                                                                                                                  \
        ::tpcgen::rt::note_lookup(#NAME);                                                                              \
        return ::tpc::by_double(a, b, [](double x, double y) { return EXPR; });                                        \
    }

TPC_UNARY(v_exp_fast_f32, true, std::exp(x))
TPC_UNARY(v_exp_f32, true, std::exp(x))
TPC_UNARY(v_reciprocal_fast_f32, true, 1.0 / x)
TPC_UNARY(v_reciprocal_f32, true, 1.0 / x)
TPC_UNARY(v_sqrt_fast_f32, true, std::sqrt(x))
TPC_UNARY(v_sqrt_f32, true, std::sqrt(x))
TPC_UNARY(v_rsqrt_fast_f32, true, 1.0 / std::sqrt(x))
TPC_UNARY(v_rsqrt_f32, true, 1.0 / std::sqrt(x))
TPC_UNARY(v_log_fast_f32, false, std::log(x))
TPC_UNARY(v_log_f32, false, std::log(x))
TPC_UNARY(v_log2_fast_f32, true, std::log2(x))
TPC_UNARY(v_log2_f32, true, std::log2(x))
TPC_UNARY(v_pow2_fast_f32, true, std::exp2(x))
TPC_UNARY(v_pow2_f32, true, std::exp2(x))
TPC_UNARY(v_cos_fast_f32, true, std::cos(x))
TPC_UNARY(v_cos_f32, true, std::cos(x))
TPC_UNARY(v_sin_fast_f32, true, std::sin(x))
TPC_UNARY(v_sin_f32, true, std::sin(x))
TPC_UNARY(v_tanh_fast_f32, true, std::tanh(x))
TPC_UNARY(v_tanh_f32, true, std::tanh(x))
TPC_UNARY(v_sigmoid_f32, true, 1.0 / (1.0 + std::exp(-x)))
TPC_UNARY(v_expm1_f32, true, std::expm1(x))
TPC_UNARY(v_asin_cephes_f32, true, std::asin(x))
TPC_UNARY(v_acos_cephes_f32, true, std::acos(x))
TPC_UNARY(v_atan_cephes_f32, true, std::atan(x))
TPC_UNARY(v_tan_cephes_f32, true, std::tan(x))
TPC_UNARY(v_asinh_f32, true, std::asinh(x))
TPC_UNARY(v_acosh_f32, true, std::acosh(x))
TPC_UNARY(v_atanh_f32, true, std::atanh(x))
TPC_UNARY(v_sinh_cephes_f32, true, std::sinh(x))
TPC_UNARY(v_cosh_cephes_f32, true, std::cosh(x))
TPC_BINARY(v_div_fast_f32, x / y)
TPC_BINARY(v_div_f32, x / y)
TPC_BINARY(v_pow_fast_f32, std::pow(x, y))
TPC_BINARY(v_pow_f32, std::pow(x, y))
TPC_BINARY(v_mod_f32, std::fmod(x, y))

template <class I = ::tpc::impl> inline float64 v_tanh_fast_abs_in_f32(float64 input, float64) { return v_tanh_fast_f32(input); }

template <class I = ::tpc::impl> TPC_SLOW float64 v_exp_cephes_fast_f32(float64 input)
{
    float64 o;
    TPC_EACH(o.r[i] = ::tpc::exp_cephes(input.r[i]);)
    return o;
}
// The published limits of the special cases.
template <class I = ::tpc::impl> TPC_SLOW float64 v_exp_cephes_f32(float64 input)
{
    using namespace tpc;
    float64 o;
    TPC_EACH(const fn x = input.r[i]; fn y = exp_cephes(x);
             y = choose((in)(x <= -87.336f), fn{}, y);
             y = choose((in)(x >= 88.722f), fn{} + __builtin_inff(), y);
             o.r[i] = choose((in)(x != x), x, y);)
    return o;
}

// Newer tools.
TPC_UNARY(exp_f32, false, std::exp(x))
TPC_UNARY(log_f32, false, std::log(x))
#undef TPC_UNARY
#undef TPC_BINARY
#define TPC_SMALL(NAME, VECTOR, EXPR)                                                                                  \
    template <class I = ::tpc::impl> inline VECTOR NAME(VECTOR input)                                                  \
    {                                                                                                                  \
        return ::tpc::small_by_double(input, [](double x) { return EXPR; });                                           \
    }
TPC_SMALL(exp_bf16, bfloat128, std::exp(x))
TPC_SMALL(log_bf16, bfloat128, std::log(x))
TPC_SMALL(sigmoid_bf16, bfloat128, 1.0 / (1.0 + std::exp(-x)))
#undef TPC_SMALL

#define TPC_REDUCE(DTYPE, VECTOR, NAME, LOOKUP, ...)                                                                   \
    template <class I = ::tpc::impl> inline VECTOR v_##DTYPE##_reduce_##NAME(VECTOR x)                                 \
    {                                                                                                                  \
        if (LOOKUP) ::tpcgen::rt::note_lookup("v_" #DTYPE "_reduce_" #NAME);                                           \
        return ::tpc::reduce(x, [](const VECTOR& a, const VECTOR& b) { return __VA_ARGS__; });                         \
    }
#define TPC_REDUCE_ARG(DTYPE, VECTOR, INDEX)                                                                           \
    template <class I = ::tpc::impl> inline auto v_##DTYPE##_reduce_argmin(VECTOR x)                                   \
    {                                                                                                                  \
        ::tpcgen::rt::note_lookup("v_" #DTYPE "_reduce_argmin");                                                       \
        return ::tpc::reduce_arg<::tpc::impl::less, INDEX>(x);                                                         \
    }                                                                                                                  \
    template <class I = ::tpc::impl> inline auto v_##DTYPE##_reduce_argmax(VECTOR x)                                   \
    {                                                                                                                  \
        ::tpcgen::rt::note_lookup("v_" #DTYPE "_reduce_argmax");                                                       \
        return ::tpc::reduce_arg<::tpc::impl::grt, INDEX>(x);                                                          \
    }
TPC_REDUCE(f32, float64, add, true, ::tpc::plus(a, b))
TPC_REDUCE(f32, float64, mul, true, ::tpc::times(a, b))
TPC_REDUCE(f32, float64, min, true, ::tpc::impl::min(a, b, 0))
TPC_REDUCE(f32, float64, max, true, ::tpc::impl::max(a, b, 0))
TPC_REDUCE_ARG(f32, float64, uint32_t)
TPC_REDUCE(i32, int64, add, true, ::tpc::plus(a, b))
TPC_REDUCE(i32, int64, max, true, ::tpc::impl::max(a, b, 0))
TPC_REDUCE_ARG(i32, int64, uint32_t)
TPC_REDUCE(u32, uint64, add, true, ::tpc::plus(a, b))
TPC_REDUCE(bf16, bfloat128, add, true, ::tpc::plus(a, b))
TPC_REDUCE(bf16, bfloat128, min, true, ::tpc::impl::min(a, b, 0))
TPC_REDUCE(bf16, bfloat128, max, true, ::tpc::impl::max(a, b, 0))
TPC_REDUCE(bf16, bfloat128, nolut_add, false, ::tpc::plus(a, b))
TPC_REDUCE(bf16, bfloat128, nolut_max, false, ::tpc::impl::max(a, b, 0))
#if defined(__gaudi2__)
TPC_REDUCE(f16, half128, add, true, ::tpc::plus(a, b))
TPC_REDUCE(f16, half128, min, true, ::tpc::impl::min(a, b, 0))
TPC_REDUCE(f16, half128, max, true, ::tpc::impl::max(a, b, 0))
#endif
TPC_REDUCE(i16, short128, min, true, ::tpc::impl::min(a, b, 0))
TPC_REDUCE(i16, short128, max, true, ::tpc::impl::max(a, b, 0))
TPC_REDUCE(u16, ushort128, add, true, ::tpc::plus(a, b))
TPC_REDUCE(i8, char256, min, true, ::tpc::impl::min(a, b, 0))
TPC_REDUCE(i8, char256, max, true, ::tpc::impl::max(a, b, 0))
TPC_REDUCE(u8, uchar256, min, true, ::tpc::impl::min(a, b, 0))
TPC_REDUCE(u8, uchar256, max, true, ::tpc::impl::max(a, b, 0))
#undef TPC_REDUCE
#undef TPC_REDUCE_ARG

template <class I = ::tpc::impl> TPC_FN float s_div_fast_f32(float x, float y, float) { return x / y; }
