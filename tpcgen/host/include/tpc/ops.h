// What the intrinsics do: one static function per instruction family, over vectors, pairs and scalars of every type.
// intrinsics.h (generated) gives each intrinsic its exact signature and calls these.
//
// Assumptions about the silicon are named [like_this]; tpcgen/host/assumptions.toml says where each comes from and what
// breaks if it is wrong.
#pragma once

#include <cmath>
#include <cstdio>
#include <limits>

#include "tpc/switches.h"
#include "tpc/types.h"

namespace tpc {

using rt_pointer = tpcgen::rt::GlobalPtr;

constexpr int andn_switch = 1 << 1;  // SW_ANDN, which gaudi does not name

// --- native helpers --------------------------------------------------------------------------------------------------------

TPC_FN fn fused(fn a, fn b, fn c)
{
#if defined(__FMA__) && TPC_NATIVE == 32
    return (fn)__builtin_ia32_vfmaddps256(a, b, c);
#elif defined(__FMA__) && TPC_NATIVE == 16
    return (fn)__builtin_ia32_vfmaddps(a, b, c);
#else
    fn o;
    for (unsigned k = 0; k < sizeof(fn) / 4; ++k) o[k] = __builtin_fmaf(a[k], b[k], c[k]);
    return o;
#endif
}

template <int Mode> TPC_FN fn rounded(fn x)
{
#if defined(__AVX__) && TPC_NATIVE == 32
    if constexpr (Mode < 4) {
        constexpr int imm = Mode == 0 ? 8 : Mode == 1 ? 11 : Mode == 2 ? 10 : 9;
        return (fn)__builtin_ia32_roundps256(x, imm);
    }
#endif
    fn o;
    for (unsigned k = 0; k < sizeof(fn) / 4; ++k) {
        o[k] = Mode == 1 ? __builtin_truncf(x[k]) : Mode == 2 ? __builtin_ceilf(x[k]) : Mode == 3 ? __builtin_floorf(x[k])
             : Mode == 6 ? __builtin_roundf(x[k]) : __builtin_nearbyintf(x[k]);
    }
    return o;
}
TPC_FN fn rounded(fn x, int mode)
{
    switch (mode) {
    case 1: return rounded<1>(x);
    case 2: return rounded<2>(x);
    case 3: return rounded<3>(x);
    case 6: return rounded<6>(x);
    default: return rounded<0>(x);
    }
}

TPC_FN fn choose(in m, fn x, fn y) { return (fn)(((in)x & m) | ((in)y & ~m)); }

// f32 to i32: rounded by `mode`, saturated, NaN gives 0 [convert_float_to_int].
TPC_FN in to_i32(fn x, int mode)
{
    const fn whole = rounded(x, mode);
    const in inside = (in)((whole >= -2147483648.0f) & (whole < 2147483648.0f));
    const in kept = __builtin_convertvector(choose(inside, whole, fn{}), in);
    const in high = (in)(whole >= 2147483648.0f) & 0x7fffffff;
    const in low = (in)(whole < -2147483648.0f) & int32_t(0x80000000);
    return (kept & inside) | high | low;
}

constexpr int mode_of(int switches) { return (switches >> 16) & 7; }
constexpr bool clips(int switches) { return (switches & SW_CLIP_FP) != 0; }

// --- tuples ------------------------------------------------------------------------------------------------------------------

template <class T> struct shape { static constexpr int registers_of = 1; using first = T; };
template <class A, class B> struct shape<pair<A, B>> { static constexpr int registers_of = 2; using first = A; };
template <class A> struct shape<quad<A>> { static constexpr int registers_of = 4; using first = A; };
template <class T> using element_of = typename shape<T>::first::element;

// Lane k of a tuple whose registers hold interleaved lanes: lane k sits in register k % n, place k / n [interleaved_lanes].
template <class T> TPC_FN element_of<T>& lane(T& t, int k)
{
    constexpr int n = shape<T>::registers_of;
    using E = element_of<T>;
    return reinterpret_cast<E*>(&t)[(k % n) * (256 / int(sizeof(E))) + k / n];
}
template <class T> TPC_FN const element_of<T>& lane(const T& t, int k) { return lane(const_cast<T&>(t), k); }

// The part of a predicate that governs register `part` of `parts` interleaved ones, as a predicate of that register.
template <int N, int Parts> TPC_FN mask<N / Parts> part_of(const mask<N>& m, int part)
{
    using W = typename mask<N / Parts>::word;
    constexpr int bits = 8 * sizeof(W), sub = bits / Parts;
    mask<N / Parts> o;
    const int left = bits - (part + 1) * sub;
    TPC_EACH(o.r[i] = ((native<W>)m.r[i] << left) >> (bits - sub);)
    return o;
}

// --- conversions of one value ----------------------------------------------------------------------------------------------------

// A value of any lane type as double, exactly.
template <class S> TPC_FN double exact(S x)
{
    if constexpr (is_small<S>) return float(x);
    else return double(x);
}

template <class D, class S> TPC_FN D convert(S x, int switches)
{
    const auto mode = rounding(mode_of(switches));
    if constexpr (std::is_same_v<D, S>) {
        return x;
    } else if constexpr (is_small<D>) {
        if constexpr (is_float<S>) {
            return D::from_bits(D::narrow(float(x), mode, clips(switches)));
        } else {
            return D::from_bits(D::narrow(double(x), mode, clips(switches)));
        }
    } else if constexpr (std::is_same_v<D, float>) {
        if constexpr (is_float<S>) {
            return float(x);
        } else {
            const double d = double(x);
            const float near = float(d);
            const bool over = double(near) > d, under = double(near) < d;
            switch (mode) {
            case rounding::zero: return (d > 0 && over) || (d < 0 && under) ? __builtin_nextafterf(near, 0.0f) : near;
            case rounding::up: return under ? __builtin_nextafterf(near, __builtin_inff()) : near;
            case rounding::down: return over ? __builtin_nextafterf(near, -__builtin_inff()) : near;
            default: return near;
            }
        }
    } else {
        constexpr double low = double(std::numeric_limits<D>::lowest()), high = double(std::numeric_limits<D>::max());
        double d = exact(x);
        if (d != d) return 0;
        if constexpr (is_float<S>) {
            switch (mode) {
            case rounding::zero: d = __builtin_trunc(d); break;
            case rounding::up: d = __builtin_ceil(d); break;
            case rounding::down: d = __builtin_floor(d); break;
            case rounding::half_away: d = __builtin_round(d); break;
            case rounding::stochastic:
            case rounding::stochastic_rne: d = __builtin_floor(d + double(next_random()) * 0x1p-32); break;
            default: d = __builtin_nearbyint(d);
            }
        }
        return d < low ? std::numeric_limits<D>::lowest() : d > high ? std::numeric_limits<D>::max() : D(d);
    }
}

// --- the families --------------------------------------------------------------------------------------------------------------

struct impl {
    // Predication. A lane is written where predicate != polarity.
    template <int N> static TPC_FN mask<N> on(const mask<N>& p, bool polarity) { return polarity ? ~p : p; }

    template <class V, int N> static TPC_FN V blend(const mask<N>& m, const V& x, const V& income)
    {
        V o;
        if constexpr (is_pair<V>) {
            constexpr int lanes = std::remove_cvref_t<decltype(x.v1)>::lanes;
            if constexpr (N == 2 * lanes) {
                o.v1 = blend(part_of<N, 2>(m, 0), x.v1, income.v1);
                o.v2 = blend(part_of<N, 2>(m, 1), x.v2, income.v2);
            } else {
                static_assert(N == lanes);
                o.v1 = blend(m, x.v1, income.v1);
                o.v2 = blend(m, x.v2, income.v2);
            }
        } else if constexpr (is_quad<V>) {
            static_assert(N == 4 * std::remove_cvref_t<decltype(x.v1)>::lanes);
            o.v1 = blend(part_of<N, 4>(m, 0), x.v1, income.v1);
            o.v2 = blend(part_of<N, 4>(m, 1), x.v2, income.v2);
            o.v3 = blend(part_of<N, 4>(m, 2), x.v3, income.v3);
            o.v4 = blend(part_of<N, 4>(m, 3), x.v4, income.v4);
        } else {
            TPC_EACH(o.r[i] = (decltype(o.r[i] + o.r[i]))(((in)x.r[i] & (in)m.r[i]) | ((in)income.r[i] & ~(in)m.r[i]));)
        }
        return o;
    }
    static TPC_FN float blend(bool m, float x, float income) { return m ? x : income; }

    // --- add, sub, mul, mac, madd ---------------------------------------------------------------------------------------------

    template <class T> static TPC_FN T saturate(int64_t wide)
    {
        constexpr int64_t low = std::numeric_limits<T>::lowest(), high = std::numeric_limits<T>::max();
        return T(wide < low ? low : wide > high ? high : wide);
    }
    template <class T> static TPC_FN T narrow_to(int64_t wide, bool saturating) { return saturating ? saturate<T>(wide) : T(wide); }

    template <class T> static TPC_FN T add(const T& a, const T& b, int sw)
    {
        if constexpr (is_vec<T>) {
            using E = typename T::element;
            if constexpr (!is_float<E>) {
                if (sw & SW_SAT) return by_lane(a, b, [](E x, E y) { return saturate<E>(int64_t(x) + y); });
            }
            return plus(a, b);
        } else if constexpr (is_float<T>) {
            return T(a + b);
        } else {
            return narrow_to<T>(int64_t(a) + b, sw & SW_SAT);
        }
    }
    template <class T> static TPC_FN T sub(const T& a, const T& b, int sw)
    {
        const bool negate = sw & SW_NEG;
        if constexpr (is_vec<T>) {
            using E = typename T::element;
            if constexpr (!is_float<E>) {
                if (sw & SW_SAT) return by_lane(a, b, [negate](E x, E y) { return saturate<E>(negate ? int64_t(y) - x : int64_t(x) - y); });
            }
            return negate ? minus(b, a) : minus(a, b);
        } else if constexpr (is_float<T>) {
            return negate ? T(b - a) : T(a - b);
        } else {
            return narrow_to<T>(negate ? int64_t(b) - a : int64_t(a) - b, sw & SW_SAT);
        }
    }
    // f32 accumulators with 8-bit float operands: add and sub take (float256, minifloat256) or (float, minifloat).
    template <class E> static TPC_SLOW vec<float> widened(const vec<E>& x, int part, int parts)
    {
        vec<float> o;
        for (int k = 0; k < 64; ++k) lanes_of(o)[k] = float(lanes_of(x)[k * parts + part]);
        return o;
    }
    template <class E> static TPC_FN quad<vec<float>> widened4(const vec<E>& x)
    {
        return {widened(x, 0, 4), widened(x, 1, 4), widened(x, 2, 4), widened(x, 3, 4)};
    }
    template <class E> static TPC_SLOW quad<vec<float>> add_f8(const quad<vec<float>>& a, const vec<E>& b, int)
    {
        const auto w = widened4(b);
        return {plus(a.v1, w.v1), plus(a.v2, w.v2), plus(a.v3, w.v3), plus(a.v4, w.v4)};
    }
    template <class E> static TPC_SLOW quad<vec<float>> sub_f8(const quad<vec<float>>& a, const vec<E>& b, int sw)
    {
        const auto w = widened4(b);
        return {sub(a.v1, w.v1, sw), sub(a.v2, w.v2, sw), sub(a.v3, w.v3, sw), sub(a.v4, w.v4, sw)};
    }
    template <class E, class = std::enable_if_t<is_small<E>>> static TPC_FN float add_f8(float a, E b, int) { return a + float(b); }
    template <class E, class = std::enable_if_t<is_small<E>>> static TPC_FN float sub_f8(float a, E b, int sw) { return sub(a, float(b), sw); }

    template <class T> static TPC_FN T mul_float(const T& a, const T& b, int)
    {
        if constexpr (is_vec<T>) return times(a, b);
        else return T(a * b);
    }
    // Integer products. 32 x 32: v1 holds the low words, v2 the high ones [mul_i32_words]. Narrower: 32-bit products, interleaved.
    template <class R, class E> static TPC_SLOW R mul_int(const vec<E>& a, const vec<E>& b, int)
    {
        R o;
        if constexpr (sizeof(E) == 4) {
            using wide = std::conditional_t<std::is_signed_v<E>, int64_t, uint64_t>;
            for (int k = 0; k < 64; ++k) {
                const wide p = wide(lanes_of(a)[k]) * wide(lanes_of(b)[k]);
                lanes_of(o.v1)[k] = E(p);
                lanes_of(o.v2)[k] = E(p >> 32);
            }
        } else {
            for (int k = 0; k < vec<E>::lanes; ++k) lane(o, k) = element_of<R>(lanes_of(a)[k]) * element_of<R>(lanes_of(b)[k]);
        }
        return o;
    }
    template <class R, class T> static TPC_FN R mul_int_s(T a, T b, int sw)
    {
        if constexpr (sizeof(T) == 4) {
            using wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
            const wide p = wide(a) * wide(b);
            return sw & SW_UPPER32 ? R(p >> 32) : R(p);
        } else {
            return R(a) * R(b);
        }
    }
    // Doubled, rounded upper half of the product (round half up) [mul_round].
    template <class E> static TPC_SLOW vec<E> mul_round(const vec<E>& a, const vec<E>& b, int)
    {
        return by_lane(a, b, [](E x, E y) {
            using wide = std::conditional_t<std::is_signed_v<E>, __int128, unsigned __int128>;
            const wide p = (wide(x) * wide(y) * 2 + (wide(1) << 31)) >> 32;
            constexpr wide low = std::numeric_limits<E>::lowest(), high = std::numeric_limits<E>::max();
            return E(p < low ? low : p > high ? high : p);
        });
    }

    static TPC_FN vec<float> fma(const vec<float>& a, const vec<float>& b, const vec<float>& c, bool negate)
    {
        vec<float> o;
        if (negate) {
            TPC_EACH(o.r[i] = fused(-a.r[i], b.r[i], c.r[i]);)
        } else {
            TPC_EACH(o.r[i] = fused(a.r[i], b.r[i], c.r[i]);)
        }
        return o;
    }

    // c + a*b, or c - a*b with SW_NEG [f32_mac_fused]. The accumulator's type says how: same type as the operands, or wider and interleaved.
    template <class A, class E> static TPC_FN A mac(const vec<E>& a, const vec<E>& b, const A& c, int sw)
    {
        const bool negate = sw & SW_NEG;
        if constexpr (std::is_same_v<A, vec<float>>) {
            return fma(a, b, c, negate);
        } else if constexpr (std::is_same_v<A, vec<E>> && std::is_same_v<E, small<8, 7>>) {
            vec<E> o;  // one f32 fma, then one rounding to bf16 [bf16_mac_rounding]
            TPC_EACH(const fn e = even_f32(a.r[i]); const fn d = odd_f32(a.r[i]);
                     o.r[i] = join_bf16(round_upper(fused(negate ? -e : e, even_f32(b.r[i]), even_f32(c.r[i]))),
                                        round_upper(fused(negate ? -d : d, odd_f32(b.r[i]), odd_f32(c.r[i]))));)
            return o;
        } else if constexpr (std::is_same_v<A, pair<vec<float>>> && std::is_same_v<E, small<8, 7>>) {
            A o;
            TPC_EACH(const fn e = even_f32(a.r[i]); const fn d = odd_f32(a.r[i]);
                     o.v1.r[i] = fused(negate ? -e : e, even_f32(b.r[i]), c.v1.r[i]);
                     o.v2.r[i] = fused(negate ? -d : d, odd_f32(b.r[i]), c.v2.r[i]);)
            return o;
        } else {
            return mac_lanes(a, b, c, sw);
        }
    }
    template <class A, class E> static TPC_SLOW A mac_lanes(const vec<E>& a, const vec<E>& b, const A& c, int sw)
    {
        const bool negate = sw & SW_NEG;
        A o;
        for (int k = 0; k < vec<E>::lanes; ++k) {
            if constexpr (std::is_same_v<A, vec<E>>) {
                const double x = float(lanes_of(a)[k]);
                lanes_of(o)[k] = E::from_bits(E::narrow((negate ? -x : x) * float(lanes_of(b)[k]) + float(lanes_of(c)[k])));
            } else if constexpr (std::is_same_v<element_of<A>, float>) {
                const float x = float(lanes_of(a)[k]);
                lane(o, k) = __builtin_fmaf(negate ? -x : x, float(lanes_of(b)[k]), lane(c, k));
            } else {
                const int64_t p = int64_t(lanes_of(a)[k]) * lanes_of(b)[k];
                lane(o, k) = narrow_to<element_of<A>>(negate ? lane(c, k) - p : lane(c, k) + p, sw & SW_SAT);
            }
        }
        return o;
    }
    template <class A, class T, class = std::enable_if_t<is_scalar<T>>> static TPC_FN A mac(T a, T b, A c, int sw)
    {
        const bool negate = sw & SW_NEG;
        if constexpr (std::is_same_v<A, float>) {
            return __builtin_fmaf(negate ? -float(a) : float(a), float(b), c);
        } else if constexpr (is_small<A>) {
            return A(__builtin_fmaf(negate ? -float(a) : float(a), float(b), float(c)));
        } else {
            const int64_t p = int64_t(a) * b;
            return narrow_to<A>(negate ? c - p : c + p, sw & SW_SAT);
        }
    }
    // The product alone, in f32: an fma with -0, which keeps the sign of a zero product.
    template <class R, class T> static TPC_FN R mul_wide(const T& a, const T& b)
    {
        if constexpr (is_pair<R>) return mac(a, b, R{-0.0f, -0.0f}, 0);
        else if constexpr (is_quad<R>) return mac(a, b, R{-0.0f, -0.0f, -0.0f, -0.0f}, 0);
        else return mac(a, b, R(-0.0f), 0);
    }
    // c + a*b + a*zp; SW_NEG negates the first product and the second with it, SW_NEG_ZP the second again.
    template <class A, class E> static TPC_SLOW A mac_zp(const vec<E>& a, const vec<E>& b, const vec<E>& zp, const A& c, int sw)
    {
        const bool n1 = sw & SW_NEG, n2 = n1 != bool(sw & SW_NEG_ZP);
        A o;
        for (int k = 0; k < vec<E>::lanes; ++k) {
            const int64_t p = int64_t(lanes_of(a)[k]) * lanes_of(b)[k], z = int64_t(lanes_of(a)[k]) * lanes_of(zp)[k];
            lane(o, k) = narrow_to<element_of<A>>(lane(c, k) + (n1 ? -p : p) + (n2 ? -z : z), sw & SW_SAT);
        }
        return o;
    }
    // Integer x2: acc + a*b + c*d in one instruction, saturated once.
    template <class A, class E> static TPC_SLOW A mac_x2_int(const vec<E>& a, const vec<E>& b, const vec<E>& c, const vec<E>& d, const A& acc, int sw)
    {
        const bool negate = sw & SW_NEG;
        A o;
        for (int k = 0; k < vec<E>::lanes; ++k) {
            const int64_t p = int64_t(lanes_of(a)[k]) * lanes_of(b)[k] + int64_t(lanes_of(c)[k]) * lanes_of(d)[k];
            lane(o, k) = narrow_to<element_of<A>>(lane(acc, k) + (negate ? -p : p), sw & SW_SAT);
        }
        return o;
    }
    template <class A, class E>
    static TPC_SLOW A mac_x2_zp(const vec<E>& a, const vec<E>& b, const vec<E>& c, const vec<E>& d, const vec<E>& zp, const A& acc, int sw)
    {
        const bool n1 = sw & SW_NEG, n2 = n1 != bool(sw & SW_NEG_ZP);
        A o;
        for (int k = 0; k < vec<E>::lanes; ++k) {
            const int64_t p = int64_t(lanes_of(a)[k]) * lanes_of(b)[k] + int64_t(lanes_of(c)[k]) * lanes_of(d)[k];
            const int64_t z = (int64_t(lanes_of(a)[k]) + lanes_of(c)[k]) * lanes_of(zp)[k];
            lane(o, k) = narrow_to<element_of<A>>(lane(acc, k) + (n1 ? -p : p) + (n2 ? -z : z), sw & SW_SAT);
        }
        return o;
    }

    using f64 = vec<float>;
    using f128 = pair<vec<float>>;
    static TPC_FN f128 add_x2(const f128& a, const f64& b, const f64& c, int) { return {plus(a.v1, b), plus(a.v2, c)}; }
    static TPC_FN f128 sub_x2(const f128& a, const f64& b, const f64& c, int sw) { return {sub(a.v1, b, sw), sub(a.v2, c, sw)}; }
    static TPC_FN f128 mul_x2(const f128& a, const f64& b, const f64& c, int) { return {times(a.v1, b), times(a.v2, c)}; }
    static TPC_FN f128 mul_x2(float a, const f64& b, const f64& c, int) { return {times(f64(a), b), times(f64(a), c)}; }
    static TPC_FN f128 mac_x2(const f128& a, const f64& b, const f64& c, const f128& acc, int sw)
    {
        return {fma(a.v1, b, acc.v1, sw & SW_NEG), fma(a.v2, c, acc.v2, sw & SW_NEG)};
    }
    static TPC_FN f128 mac_x2(float a, const f64& b, const f64& c, const f128& acc, int sw) { return mac_x2(f128{a, a}, b, c, acc, sw); }
    static TPC_FN f128 madd_x2(const f128& a, const f64& b, const f128& c, const f64& d, int sw)
    {
        return {fma(a.v1, b, c.v1, sw & SW_NEG), fma(a.v2, d, c.v2, sw & SW_NEG)};
    }
    static TPC_FN f128 madd_x2(float a, const f64& b, const f128& c, const f64& d, int sw) { return madd_x2(f128{a, a}, b, c, d, sw); }
    static TPC_FN f128 madd_x2(const f128& a, const f64& b, float c, const f64& d, int sw) { return madd_x2(a, b, f128{c, c}, d, sw); }

    // c = ((a*b)*2^n1 + c)*2^n2, or ((a*b) + c*2^n1)*2^n2 with SW_NORMALIZE_C; n1, n2 <= 0 [msac].
    template <class E> static TPC_SLOW vec<E> msac(const vec<E>& a, const vec<E>& b, const vec<int8_t>& n1, const vec<int8_t>& n2, int sw, const vec<E>& c)
    {
        constexpr int step = int(sizeof(E));
        vec<E> o;
        for (int k = 0; k < vec<E>::lanes; ++k) {
            const int s1 = -lanes_of(n1)[k * step], s2 = -lanes_of(n2)[k * step];
            const auto down = [sw](int64_t x, int s) { return s <= 0 ? x : ((sw & SW_RHU ? x + (int64_t(1) << (s - 1)) : x) >> s); };
            const int64_t p = int64_t(lanes_of(a)[k]) * lanes_of(b)[k], acc = lanes_of(c)[k];
            lanes_of(o)[k] = saturate<E>(down(sw & SW_NORMALIZE_C ? p + down(acc, s1) : down(p, s1) + acc, s2));
        }
        return o;
    }

    // --- compare, select, min, max ----------------------------------------------------------------------------------------------

    struct eq { template <class T> TPC_FN auto operator()(const T& a, const T& b) const { return a == b; } };
    struct neq { template <class T> TPC_FN auto operator()(const T& a, const T& b) const { return a != b; } };
    struct less { template <class T> TPC_FN auto operator()(const T& a, const T& b) const { return a < b; } };
    struct leq { template <class T> TPC_FN auto operator()(const T& a, const T& b) const { return a <= b; } };
    struct grt { template <class T> TPC_FN auto operator()(const T& a, const T& b) const { return a > b; } };
    struct geq { template <class T> TPC_FN auto operator()(const T& a, const T& b) const { return a >= b; } };

    template <class Op, class E> static TPC_FN mask<vec<E>::lanes> cmp(const vec<E>& a, const vec<E>& b, int sw)
    {
        using M = mask<vec<E>::lanes>;
        using W = native<typename M::word>;
        M o;
        if constexpr (std::is_same_v<Op, eq>) {
            if (sw & SW_MASK_EQ_ZERO) {
                using S = native<typename integer_of<sizeof(E)>::s>;
                TPC_EACH(o.r[i] = (W)(((S)a.r[i] & (S)b.r[i]) == 0);)
                return o;
            }
        }
        if constexpr (std::is_same_v<E, small<8, 7>>) {
            TPC_EACH(o.r[i] = (W)((((un)(in)Op{}(even_f32(a.r[i]), even_f32(b.r[i]))) & 0xffffu) |
                                  (((un)(in)Op{}(odd_f32(a.r[i]), odd_f32(b.r[i]))) & 0xffff0000u));)
        } else if constexpr (is_small<E>) {
            o = map_lanes<M>([](E x, E y) { return typename M::word(-int(Op{}(float(x), float(y)))); }, a, b);
        } else {
            TPC_EACH(o.r[i] = (W)Op{}(a.r[i], b.r[i]);)
        }
        return o;
    }
    template <class Op, class T, class = std::enable_if_t<is_scalar<T>>> static TPC_FN bool cmp(T a, T b, int sw)
    {
        if constexpr (is_small<T>) {
            if (std::is_same_v<Op, eq> && (sw & SW_MASK_EQ_ZERO)) return (a.bits & b.bits) == 0;
            return Op{}(float(a), float(b));
        } else {
            using U = typename integer_of<sizeof(T)>::u;
            if (std::is_same_v<Op, eq> && (sw & SW_MASK_EQ_ZERO)) return (bits_as<U>(a) & bits_as<U>(b)) == 0;
            return Op{}(a, b);
        }
    }
    template <class Op, class A, class V> static TPC_FN V sel(const A& a, const A& b, const V& c, const V& d, int sw)
    {
        return blend(cmp<Op>(a, b, sw & ~int(SW_SUP_NAN)), c, d);
    }
    // v1 is chosen from c and d, v2 from a and b, as the published reductions use it.
    template <class Op, class A, class V> static TPC_FN pair<V, A> sel2(const A& a, const A& b, const V& c, const V& d, int sw)
    {
        const auto m = cmp<Op>(a, b, sw & ~int(SW_SUP_NAN));
        return {blend(m, c, d), blend(m, a, b)};
    }
    // A NaN operand gives NaN; with SW_SUP_NAN the other operand [max_nan].
    template <class Op, class T> static TPC_FN T extreme(const T& a, const T& b, int sw)
    {
        if constexpr (is_vec<T>) {
            if constexpr (is_float<typename T::element>) {
                const auto nan = cmp<neq>(a, a, 0);
                const auto first = cmp<Op>(a, b, 0);
                if (sw & SW_SUP_NAN) return blend((first & ~nan) | cmp<neq>(b, b, 0), a, b);
                return blend(first | nan, a, b);
            } else {
                T o;
                TPC_EACH(o.r[i] = Op{}(a.r[i], b.r[i]) ? a.r[i] : b.r[i];)
                return o;
            }
        } else if constexpr (is_float<T>) {
            const bool an = float(a) != float(a), bn = float(b) != float(b);
            if (an || bn) return (sw & SW_SUP_NAN) ? (an ? b : a) : (an ? a : b);
            return Op{}(float(a), float(b)) ? a : b;
        } else {
            return Op{}(a, b) ? a : b;
        }
    }
    template <class T> static TPC_FN T max(const T& a, const T& b, int sw) { return extreme<grt>(a, b, sw); }
    template <class T> static TPC_FN T min(const T& a, const T& b, int sw) { return extreme<less>(a, b, sw); }

    template <class T> static TPC_FN T abs(const T& a, int sw)
    {
        if constexpr (is_vec<T>) {
            using E = typename T::element;
            using U = typename integer_of<sizeof(E)>::u;
            T o;
            if constexpr (is_float<E>) {
                TPC_EACH(o.r[i] = (decltype(o.r[i] + o.r[i]))((native<U>)a.r[i] & U(U(~U(0)) >> 1));)
            } else {
                // |lowest| saturates unless SW_NO_SAT.
                TPC_EACH(const native<E> n = (native<E>)(native<U>{} - (native<U>)a.r[i]); native<E> v = a.r[i] < 0 ? n : a.r[i];
                         if (!(sw & SW_NO_SAT)) { v = v < 0 ? native<E>{} + std::numeric_limits<E>::max() : v; } o.r[i] = v;)
            }
            return o;
        } else if constexpr (is_small<T>) {
            return T::from_bits(a.bits & ((1u << (8 * sizeof(T) - 1)) - 1));
        } else if constexpr (is_float<T>) {
            return __builtin_fabsf(a);
        } else {
            return a >= 0 ? a : (sw & SW_NO_SAT) ? T(-int64_t(a)) : saturate<T>(-int64_t(a));
        }
    }

    // --- bits ------------------------------------------------------------------------------------------------------------------------

    template <class T> using raw = typename integer_of<int(sizeof(T))>::u;
    template <class T> static TPC_FN T from_raw(raw<T> x) { return bits_as<T>(x); }

#define TPC_BITWISE(NAME, EXPR)                                                                                        \
    template <class T> static TPC_FN T NAME(const T& a, const T& b, int sw)                                            \
    {                                                                                                                  \
        (void)sw;                                                                                                      \
        if constexpr (is_vec<T> || is_mask<T>) {                                                                       \
            T o;                                                                                                       \
            TPC_EACH(const un x = (un)a.r[i]; const un y = (un)b.r[i]; o.r[i] = (decltype(o.r[i] + o.r[i]))(EXPR);)    \
            return o;                                                                                                  \
        } else if constexpr (std::is_same_v<T, bool>) {                                                                \
            const unsigned x = a, y = b;                                                                               \
            return (EXPR) & 1;                                                                                         \
        } else {                                                                                                       \
            const raw<T> x = bits_as<raw<T>>(a), y = bits_as<raw<T>>(b);                                               \
            return from_raw<T>(raw<T>(EXPR));                                                                          \
        }                                                                                                              \
    }
    TPC_BITWISE(bit_and, (sw & andn_switch) ? (x & ~y) : (x & y))
    TPC_BITWISE(bit_or, x | y)
    TPC_BITWISE(bit_xor, x ^ y)
#undef TPC_BITWISE
    template <class T> static TPC_FN T bit_not(const T& a, int)
    {
        if constexpr (is_vec<T> || is_mask<T>) {
            T o;
            TPC_EACH(o.r[i] = (decltype(o.r[i] + o.r[i]))(~(un)a.r[i]);)
            return o;
        } else if constexpr (std::is_same_v<T, bool>) {
            return !a;
        } else {
            return from_raw<T>(raw<T>(~bits_as<raw<T>>(a)));
        }
    }

    // A shift by the lane width or more gives 0 (for signed shr: the sign); a negative count shifts the other way [shift_counts].
    template <class T> static TPC_FN T shifted(T a, int left)
    {
        constexpr int bits = 8 * sizeof(T);
        const raw<T> x = bits_as<raw<T>>(a);
        if (left >= 0) return from_raw<T>(left >= bits ? raw<T>(0) : raw<T>(x << left));
        const int right = -left;
        if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) return T(a >> (right >= bits ? bits - 1 : right));
        else return from_raw<T>(right >= bits ? raw<T>(0) : raw<T>(x >> right));
    }
    template <class T> static TPC_FN T shifted_left(T a, int count) { return shifted(a, count); }
    template <class T> static TPC_FN T shifted_right(T a, int count) { return shifted(a, -count); }
    template <class E, class C> static TPC_FN vec<E> shl(const vec<E>& a, const vec<C>& b, int)
    {
        if constexpr (sizeof(E) == 4) {
            using U = native<uint32_t>;
            vec<E> o;
            TPC_EACH(const in n = (in)b.r[i]; const in right = -n; const U x = (U)a.r[i];
                     const U up = (x << (U)(n & 31)) & (U)((n >= 0) & (n < 32));
                     U down; if constexpr (std::is_same_v<E, int32_t>) { down = (U)((in)x >> (right > 31 ? in{} + 31 : right & 31)); }
                     else { down = (x >> (U)(right & 31)) & (U)(right < 32); }
                     o.r[i] = (decltype(o.r[i] + o.r[i]))((up & (U)(n >= 0)) | (down & (U)(n < 0)));)
            return o;
        } else {
            return map_lanes<vec<E>>([](E x, C n) { return shifted(x, n); }, a, b);
        }
    }
    template <class E, class C> static TPC_FN vec<E> shr(const vec<E>& a, const vec<C>& b, int)
    {
        if constexpr (sizeof(E) == 4) {
            vec<int32_t> n;
            TPC_EACH(n.r[i] = -(in)b.r[i];)
            return shl(a, n, 0);
        } else {
            return map_lanes<vec<E>>([](E x, C n) { return shifted(x, -n); }, a, b);
        }
    }
    template <class T, class = std::enable_if_t<is_scalar<T>>> static TPC_FN T shl(T a, int b, int) { return shifted_left(a, b); }
    template <class T, class = std::enable_if_t<is_scalar<T>>> static TPC_FN T shr(T a, int b, int) { return shifted_right(a, b); }

    // a * 2^b: left with saturation, right with optional round half up.
    template <class T> static TPC_FN T ash_one(T a, int b, int sw)
    {
        if (b >= 0) {
            if (b > 32) b = 32;
            return saturate<T>(int64_t(a) << b);
        }
        const int s = -b;
        if (s > 40) return (sw & SW_RHU) || a >= 0 ? T(0) : T(-1);
        return T(((sw & SW_RHU) ? int64_t(a) + (int64_t(1) << (s - 1)) : int64_t(a)) >> s);
    }
    template <class E> static TPC_SLOW vec<E> ash(const vec<E>& a, const vec<int8_t>& b, int sw)
    {
        vec<E> o;  // the count is the low byte of the lane [byte_operand_of_wide_lane]
        for (int k = 0; k < vec<E>::lanes; ++k) lanes_of(o)[k] = ash_one(lanes_of(a)[k], lanes_of(b)[k * int(sizeof(E))], sw);
        return o;
    }
    template <class T, class = std::enable_if_t<is_scalar<T>>> static TPC_FN T ash(T a, int b, int sw) { return ash_one(a, b, sw); }

    // v1 is the value, v2 holds the discarded bits of a product (its low word); the shift rounds half away from zero [mul_i32_words].
    template <class E> static TPC_SLOW vec<E> ash_rhaz(const pair<vec<E>>& a, const vec<int8_t>& b, int sw)
    {
        vec<E> o;
        for (int k = 0; k < 64; ++k) {
            const int n = lanes_of(b)[k * 4];
            if (n >= 0) {
                lanes_of(o)[k] = ash_one(lanes_of(a.v1)[k], n, sw);
                continue;
            }
            const int s = -n > 62 ? 62 : -n;
            const int64_t x = lanes_of(a.v1)[k], half = int64_t(1) << (s - 1);
            lanes_of(o)[k] = E(x >= 0 ? (x + half) >> s : -((-x + half) >> s));
        }
        return o;
    }
    template <class T> static TPC_FN T udiv(T a, T b, int sw)
    {
        // Division by zero gives all ones, the remainder a [udiv_by_zero].
        return (sw & 3) == SW_DIV_MODE_MOD ? (b ? T(a % b) : a) : b ? T(a / b) : T(~T(0));
    }

    // Four steps of a long division, bits `step` to `step` - 3 of the quotient: v1 holds what is left of the dividend, v2 the
    // quotient so far [udiv_steps].
    template <class T> static TPC_FN pair<uint32_t> udiv_4step(T divisor, uint32_t step, const pair<uint32_t>& income)
    {
        pair<uint32_t> o = income;
        for (int bit = int(step), last = bit - 3; bit >= last && bit >= 0; --bit) {
            if ((T(o.v1) >> bit) < divisor) continue;
            o.v1 = T(o.v1 - (uint64_t(divisor) << bit));
            o.v2 |= 1u << bit;
        }
        return o;
    }

    // Counts and positions come back in the low byte of each lane, the other bytes 0 [byte_result_of_wide_lane].
    template <class E, class F> static TPC_SLOW vec<uint8_t> byte_result(const vec<E>& a, F f)
    {
        vec<uint8_t> o = 0;
        for (int k = 0; k < vec<E>::lanes; ++k) lanes_of(o)[k * int(sizeof(E))] = f(bits_as<raw<E>>(lanes_of(a)[k]));
        return o;
    }
    template <class U> static TPC_FN uint8_t count_bits(U x, int sw)
    {
        const int ones = __builtin_popcount(x);
        return uint8_t(sw & SW_COUNT_ONES ? ones : 8 * int(sizeof(U)) - ones);
    }
    template <class U> static TPC_FN uint8_t first_bit(U x, int sw)
    {
        constexpr int bits = 8 * int(sizeof(U));
        const U want = sw & SW_FIND_ONE ? x : U(~x);
        if (want == 0) return uint8_t(bits);
        return uint8_t(sw & SW_MSB ? bits - 1 - (31 - __builtin_clz(uint32_t(want))) : __builtin_ctz(uint32_t(want)));
    }
    template <class U> static TPC_FN U reversed(U x)
    {
        U o = 0;
        for (int k = 0; k < 8 * int(sizeof(U)); ++k) o = U(o << 1) | ((x >> k) & 1);
        return o;
    }
    template <class T> static TPC_FN auto popcnt(const T& a, int sw)
    {
        if constexpr (is_vec<T>) return byte_result(a, [sw](auto x) { return count_bits(x, sw); });
        else return count_bits(bits_as<raw<T>>(a), sw);
    }
    template <class T> static TPC_FN auto find_first(const T& a, int sw)
    {
        if constexpr (is_vec<T>) return byte_result(a, [sw](auto x) { return first_bit(x, sw); });
        else return first_bit(bits_as<raw<T>>(a), sw);
    }
    template <class R, class T> static TPC_FN R brev(const T& a, int)
    {
        if constexpr (is_vec<T>) {
            using E = typename T::element;
            return map_lanes<R>([](E x) { return typename R::element(reversed(bits_as<raw<E>>(x))); }, a);
        } else {
            return R(reversed(bits_as<raw<T>>(a)));
        }
    }

    // --- convert ---------------------------------------------------------------------------------------------------------------------

    // Same width, lane by lane; with a wider result, lanes 0, n, 2n, ... [convert_up_lanes].
    template <class R, class E> static TPC_FN R convert_vec(const vec<E>& a, int sw)
    {
        using D = typename R::element;
        R o;
        if constexpr (std::is_same_v<D, float> && std::is_same_v<E, int32_t>) {
            if (mode_of(sw) == 0) {
                TPC_EACH(o.r[i] = __builtin_convertvector(a.r[i], fn);)
                return o;
            }
        } else if constexpr (std::is_same_v<D, int32_t> && std::is_same_v<E, float>) {
            const int mode = mode_of(sw);
            if (mode < 4 || mode == 6) {
                TPC_EACH(o.r[i] = to_i32(a.r[i], mode);)
                return o;
            }
        }
        return convert_lanes<R>(a, sw);
    }
    template <class R, class E> static TPC_SLOW R convert_lanes(const vec<E>& a, int sw)
    {
        constexpr int step = int(sizeof(typename R::element) / sizeof(E));
        R o;
        for (int k = 0; k < R::lanes; ++k) lanes_of(o)[k] = convert<typename R::element>(lanes_of(a)[k * step], sw);
        return o;
    }
    // Narrower result: written to lanes lane, lane + n, ...; the others keep income.
    template <class R, class E> static TPC_SLOW R convert_lane(const vec<E>& a, int place, int sw, const R& income)
    {
        using D = typename R::element;
        constexpr int step = int(sizeof(E) / sizeof(D));
        R o = income;
        for (int k = 0; k < vec<E>::lanes; ++k) lanes_of(o)[k * step + place] = convert<D>(lanes_of(a)[k], sw);
        return o;
    }
    // All lanes; wide values spread over interleaved registers [interleaved_lanes].
    template <class R, class S> static TPC_FN R convert_all(const S& a, int sw)
    {
        R o;
        if constexpr (std::is_same_v<R, pair<vec<float>>> && std::is_same_v<S, vec<small<8, 7>>>) {
            TPC_EACH(o.v1.r[i] = even_f32(a.r[i]); o.v2.r[i] = odd_f32(a.r[i]);)
            return o;
        } else if constexpr (std::is_same_v<R, vec<small<8, 7>>> && std::is_same_v<S, pair<vec<float>>>) {
            if (mode_of(sw) == 0 && !clips(sw)) {
                TPC_EACH(o.r[i] = join_bf16(round_upper(a.v1.r[i]), round_upper(a.v2.r[i]));)
                return o;
            }
        }
        return convert_interleaved<R>(a, sw);
    }
    template <class R, class S> static TPC_SLOW R convert_interleaved(const S& a, int sw)
    {
        constexpr int total = shape<R>::registers_of * 256 / int(sizeof(element_of<R>));
        static_assert(total == shape<S>::registers_of * 256 / int(sizeof(element_of<S>)));
        R o;
        for (int k = 0; k < total; ++k) lane(o, k) = convert<element_of<R>>(lane(a, k), sw);
        return o;
    }
    // Register by register.
    template <class R, class S> static TPC_SLOW R convert_registers(const S& a, int sw)
    {
        using D = element_of<R>;
        using E = element_of<S>;
        R o;
        constexpr int total = shape<R>::registers_of * 256 / int(sizeof(D));
        const E* from = reinterpret_cast<const E*>(&a);
        D* to = reinterpret_cast<D*>(&o);
        for (int k = 0; k < total; ++k) to[k] = convert<D>(from[k], sw);
        return o;
    }
    // The high-level forms: interleaved, or memory order with SW_LINEAR.
    template <class R, class S> static TPC_FN R convert_high(const S& a, int options)
    {
        if constexpr (shape<R>::registers_of == shape<S>::registers_of) {
            return convert_registers<R>(a, options);
        } else {
            if (!(options & SW_LINEAR)) return convert_all<R>(a, options);
            return convert_registers<R>(a, options);
        }
    }
    template <class R, class T> static TPC_FN R convert_scalar(T a, int sw) { return convert<R>(a, sw); }

    // CONVERT_INT: value * 2^shift for a shift <= 0, rounded and saturated [convert_int_shift].
    template <class D, class E> static TPC_FN D scaled(E x, int shift, int sw)
    {
        if (shift >= 0) return saturate<D>(int64_t(x) << (shift > 31 ? 31 : shift));
        const int s = -shift > 40 ? 40 : -shift;
        const int64_t floor = int64_t(x) >> s;
        const int64_t rest = int64_t(x) - (floor << s), half = int64_t(1) << (s - 1);
        bool up = false;
        switch (rounding(mode_of(sw))) {
        case rounding::zero: up = x < 0 && rest; break;
        case rounding::up: up = rest; break;
        case rounding::down: break;
        case rounding::half_away: up = rest > half || (rest == half && x >= 0); break;
        case rounding::stochastic:
        case rounding::stochastic_rne: up = uint64_t(rest) > (uint64_t(next_random()) & ((uint64_t(1) << s) - 1)); break;
        default: up = rest > half || (rest == half && (floor & 1));
        }
        return saturate<D>(floor + up);
    }
    template <class R, class E, class C> static TPC_SLOW R convert_int_lane(const vec<E>& a, const vec<C>& shift, int place, int sw, const R& income)
    {
        using D = typename R::element;
        constexpr int step = int(sizeof(E) / sizeof(D)), sstep = int(sizeof(E) / sizeof(C));
        R o = income;
        for (int k = 0; k < vec<E>::lanes; ++k)
            lanes_of(o)[k * step + place] = scaled<D>(lanes_of(a)[k], int8_t(lanes_of(shift)[k * sstep]), sw);
        return o;
    }
    template <class R, class S, class C> static TPC_SLOW R convert_int_all(const S& a, const vec<C>& shift, int sw)
    {
        R o;
        constexpr int sstep = int(sizeof(element_of<R>) / sizeof(C));
        static_assert(sstep >= 1);
        for (int k = 0; k < R::lanes; ++k) lanes_of(o)[k] = scaled<element_of<R>>(lane(a, k), int8_t(lanes_of(shift)[k * sstep]), sw);
        return o;
    }
    template <class R, class T> static TPC_FN R convert_int_scalar(T a, int shift, int sw) { return scaled<R>(a, shift, sw); }

    // --- moves -------------------------------------------------------------------------------------------------------------------------

    template <class T> static TPC_FN T mov(const T& a, int) { return a; }
    static TPC_FN mask<256> mov_broadcast(bool a) { return mask<256>(a); }
    // 4 bits of the predicate register per 32-bit lane, in the low bits of the lane [predicate_nibbles].
    static TPC_SLOW mask<256> mov_to_predicate(const vec<uint32_t>& a)
    {
        mask<256> o;
        for (int k = 0; k < 256; ++k) lanes_of(o)[k] = int8_t(-int((lanes_of(a)[k / 4] >> (k % 4)) & 1));
        return o;
    }
    static TPC_SLOW vec<uint32_t> mov_from_predicate(const mask<256>& a)
    {
        vec<uint32_t> o = 0;
        for (int k = 0; k < 256; ++k) lanes_of(o)[k / 4] |= uint32_t(lanes_of(a)[k] & 1) << (k % 4);
        return o;
    }
    static TPC_SLOW mask<256> mov_flavor(int32_t a, int flavor, const mask<256>& income)
    {
        mask<256> o = income;
        for (int k = 0; k < 256; ++k)
            if (flavor == 8 || k / 32 == flavor) lanes_of(o)[k] = int8_t(-int((uint32_t(a) >> (k % 32)) & 1));
        return o;
    }

    template <class V> static TPC_FN uint8_t* bytes(V& x) { return reinterpret_cast<uint8_t*>(&x); }
    template <class V> static TPC_FN const uint8_t* bytes(const V& x) { return reinterpret_cast<const uint8_t*>(&x); }

    // Control per lane: low byte of the lane [shuffle_control_byte]; bits 0-4 element, 5 group, 7 enable; inside the lane's dual group.
    template <class E> static TPC_SLOW vec<E> shuffle(const vec<E>& a, const vec<uint8_t>& b, int, const vec<E>& income)
    {
        constexpr int size = int(sizeof(E)), group = 32 / size, dual = 64 / size;
        vec<E> o = income;
        for (int k = 0; k < vec<E>::lanes; ++k) {
            const uint8_t c = bytes(b)[k * size];
            if (c & 0x80) lanes_of(o)[k] = lanes_of(a)[k / dual * dual + ((c >> 5) & 1) * group + (c & (group - 1))];
        }
        return o;
    }

    // The 32-byte groups of a register, `per_group` native registers each (two groups share one where those have 64 bytes).
    static TPC_SLOW void copy_bytes(uint8_t* to, const uint8_t* from, uint32_t byte_mask)
    {
        for (int k = 0; k < 32; ++k)
            if ((byte_mask >> k) & 1) to[k] = from[k];
    }
    template <class V> static TPC_FN void copy_group(V& o, int to, const V& a, int from, uint32_t byte_mask)
    {
        if (byte_mask == 0xffffffffu) {
            if constexpr (TPC_NATIVE == 32) {
                o.r[to] = a.r[from];
            } else {
                __builtin_memcpy(bytes(o) + 32 * to, bytes(a) + 32 * from, 32);
            }
        } else {
            copy_bytes(bytes(o) + 32 * to, bytes(a) + 32 * from, byte_mask);
        }
    }
    template <class V> static TPC_FN V mov_dual_group(const V& a, uint32_t b, int from, int to, int sw, const V& income)
    {
        V o = income;
        if (sw & SW_WR_LOWER_GROUP) copy_group(o, 2 * (to & 3), a, 2 * (from & 3), b);
        if (sw & SW_WR_UPPER_GROUP) copy_group(o, 2 * (to & 3) + 1, a, 2 * (from & 3) + 1, b);
        return o;
    }
    template <class V> static TPC_FN V mov_dual_group_all(const V& a, uint32_t b, int d0, int d1, int d2, int d3, int sw, const V& income)
    {
        V o = income;
        if (sw & SW_WR_LOWER_GROUP0) copy_group(o, 0, a, 2 * (d0 & 3), b);
        if (sw & SW_WR_UPPER_GROUP0) copy_group(o, 1, a, 2 * (d0 & 3) + 1, b);
        if (sw & SW_WR_LOWER_GROUP1) copy_group(o, 2, a, 2 * (d1 & 3), b);
        if (sw & SW_WR_UPPER_GROUP1) copy_group(o, 3, a, 2 * (d1 & 3) + 1, b);
        if (sw & SW_WR_LOWER_GROUP2) copy_group(o, 4, a, 2 * (d2 & 3), b);
        if (sw & SW_WR_UPPER_GROUP2) copy_group(o, 5, a, 2 * (d2 & 3) + 1, b);
        if (sw & SW_WR_LOWER_GROUP3) copy_group(o, 6, a, 2 * (d3 & 3), b);
        if (sw & SW_WR_UPPER_GROUP3) copy_group(o, 7, a, 2 * (d3 & 3) + 1, b);
        return o;
    }
    // Swaps the two groups of each enabled dual group.
    template <class V> static TPC_FN V mov_group(const V& a, uint32_t b, int sw, const V& income)
    {
        V o = income;
#define TPC_SWAP(D)                                                                                                    \
        if (sw & SW_DUAL_GROUP##D##_EN) {                                                                              \
            if (sw & SW_GROUP0_EN) copy_group(o, 2 * D, a, 2 * D + 1, b);                                              \
            if (sw & SW_GROUP1_EN) copy_group(o, 2 * D + 1, a, 2 * D, b);                                              \
        }
        TPC_SWAP(0) TPC_SWAP(1) TPC_SWAP(2) TPC_SWAP(3)
#undef TPC_SWAP
        return o;
    }
    // In each dual group: a group's elements (half of them at stride 4) spread to every 2nd or 4th lane [unpack_layout].
    template <class E> static TPC_SLOW vec<E> unpack(const vec<E>& a, int sw, const vec<E>& income)
    {
        constexpr int dual = 64 / int(sizeof(E)), group = dual / 2;
        const int stride = sw & SW_STRIDE_4 ? 4 : 2, count = dual / stride;
        const int start = (sw & SW_GROUP_1 ? group : 0) + (stride == 4 && (sw & SW_GROUP_HALF_1) ? count : 0);
        const int place = (sw >> 11) & 3;
        vec<E> o = income;
        for (int d = 0; d < 4; ++d)
            for (int k = 0; k < count; ++k) lanes_of(o)[d * dual + k * stride + place % stride] = lanes_of(a)[d * dual + start + k];
        return o;
    }
    // The inverse: every 2nd or 4th lane of the dual group goes to a group (half of it at stride 4) [pack_layout].
    template <class E> static TPC_SLOW vec<E> pack(const vec<E>& a, int sw, const vec<E>& income)
    {
        constexpr int dual = 64 / int(sizeof(E)), group = dual / 2;
        const int stride = sw & SW_STRIDE_4 ? 4 : 2, count = group / stride;
        const int from = sw & SW_GROUP_1 ? group : 0;
        vec<E> o = income;
        for (int d = 0; d < 4; ++d)
            for (int k = 0; k < count; ++k) lanes_of(o)[d * dual + (sw & SW_GROUP_1 ? count : 0) + k] = lanes_of(a)[d * dual + from + k * stride];
        return o;
    }

    template <class E> struct lane_numbers {
        alignas(64) E at[256 / sizeof(E)];
        constexpr lane_numbers() : at()
        {
            for (unsigned k = 0; k < 256 / sizeof(E); ++k) at[k] = E(k);
        }
    };
    template <class V> static TPC_FN V lane_id()
    {
        using E = typename V::element;
        static constexpr lane_numbers<E> numbers{};
        V o;
        TPC_EACH(o.r[i] = reinterpret_cast<const native<E>*>(numbers.at)[i];)
        return o;
    }

    // --- parts of floating-point numbers -------------------------------------------------------------------------------------------------

    template <class E> struct format;
    template <int Eb, int Mb> struct layout {
        static constexpr int exponent_bits = Eb, mantissa_bits = Mb, bias = (1 << (Eb - 1)) - 1;
    };

    template <class E> static TPC_FN int exponent_of(E x, int sw)
    {
        using F = format<E>;
        const uint32_t w = bits_as<raw<E>>(x);
        const int biased = int((w >> F::mantissa_bits) & ((1u << F::exponent_bits) - 1));
        return sw & SW_BIASED ? biased : biased - F::bias;
    }
    template <class R, class T> static TPC_FN R extract_exp(const T& a, int sw)
    {
        if constexpr (is_vec<T>) {
            using E = typename T::element;
            if constexpr (std::is_same_v<E, float>) {
                R o;
                const int32_t bias = sw & SW_BIASED ? 0 : 127;
                TPC_EACH(o.r[i] = (in)(((un)a.r[i] >> 23) & 0xffu) - bias;)
                return o;
            } else {
                return map_lanes<R>([sw](E x) { return typename R::element(exponent_of(x, sw)); }, a);
            }
        } else {
            return R(exponent_of(a, sw));
        }
    }
    template <class E> static TPC_FN uint32_t class_of(E x)
    {
        using F = format<E>;
        const uint32_t w = bits_as<raw<E>>(x);
        const bool negative = (w >> (F::exponent_bits + F::mantissa_bits)) & 1;
        const uint32_t exponent = (w >> F::mantissa_bits) & ((1u << F::exponent_bits) - 1), mantissa = w & ((1u << F::mantissa_bits) - 1);
        const bool all = exponent == (1u << F::exponent_bits) - 1;
        const int bit = all && mantissa ? ((mantissa >> (F::mantissa_bits - 1)) ? 9 : 8)
                      : all ? (negative ? 0 : 7) : exponent ? (negative ? 1 : 6) : mantissa ? (negative ? 2 : 5) : (negative ? 3 : 4);
        if constexpr (sizeof(E) > 1) return 1u << bit;
        constexpr uint8_t narrow[10] = {0, 1, 2, 3, 3, 4, 5, 6, 7, 7};
        return 1u << narrow[bit];
    }
    // The class mask is an integer in the lane's bits.
    template <class T> static TPC_FN T fclass(const T& a, int)
    {
        if constexpr (is_vec<T>) {
            using E = typename T::element;
            return map_lanes<T>([](E x) { return from_raw<E>(raw<E>(class_of(x))); }, a);
        } else {
            return from_raw<T>(raw<T>(class_of(a)));
        }
    }
    template <class E> static TPC_SLOW vec<E> fclass_limit(const vec<E>& a, const vec<E>& high, const vec<E>& low, int)
    {
        vec<E> o;
        for (int k = 0; k < vec<E>::lanes; ++k) {
            const E x = lanes_of(a)[k];
            uint32_t c = class_of(x);
            const bool number = float(x) == float(x);
            constexpr bool wide = sizeof(E) > 1;
            if (number && __builtin_fabsf(float(x)) >= float(lanes_of(high)[k])) c = float(x) < 0 ? 1 : wide ? 1 << 7 : 1 << 6;
            else if (number && float(exponent_of(x, 0)) <= float(lanes_of(low)[k])) c = wide && !(float(x) < 0) ? 1 << 4 : 1 << 3;
            lanes_of(o)[k] = from_raw<E>(raw<E>(c));
        }
        return o;
    }

    // Exponent from a, sign from b, mantissa from c.
    template <class E> static TPC_FN E form_one(uint32_t exponent, E sign_of, E mantissa_of, int sw)
    {
        using F = format<E>;
        constexpr uint32_t all = (1u << F::exponent_bits) - 1;
        const uint32_t b = bits_as<raw<E>>(sign_of), c = bits_as<raw<E>>(mantissa_of);
        constexpr int top = F::exponent_bits + F::mantissa_bits;
        uint32_t sign = sw & SW_SIGN_LSB ? b & 1 : b >> top;
        if (sw & SW_FORCE_SIGN0) sign = 0;
        if (sw & SW_FORCE_SIGN1) sign = 1;
        if (sw & SW_ADD_BIAS) exponent += F::bias;
        return from_raw<E>(raw<E>((sign << top) | ((exponent & all) << F::mantissa_bits) | (c & ((1u << F::mantissa_bits) - 1))));
    }
    static TPC_FN fn form_f32(un exponent, fn sign_of, fn mantissa_of, int sw)
    {
        const uint32_t keep = sw & (SW_FORCE_SIGN0 | SW_FORCE_SIGN1) ? 0 : 0x80000000u, set = sw & SW_FORCE_SIGN1 ? 0x80000000u : 0;
        const uint32_t bias = sw & SW_ADD_BIAS ? 127u : 0u;
        return (fn)(((un)sign_of & keep) | set | (((exponent + bias) & 0xffu) << 23) | ((un)mantissa_of & 0x7fffffu));
    }
    template <class E> static TPC_FN vec<E> form_fp_num(const vec<E>& a, const vec<E>& b, const vec<E>& c, int sw)
    {
        if (sw & SW_EXP_IS_NUM) return form_fp_num_ie(vec<int8_t>(a), b, c, sw);
        if constexpr (std::is_same_v<E, float>) {
            if ((sw & ~(SW_ADD_BIAS | SW_FORCE_SIGN0 | SW_FORCE_SIGN1)) == 0) {
                vec<E> o;
                TPC_EACH(o.r[i] = form_f32((un)a.r[i] >> 23, b.r[i], c.r[i], sw);)
                return o;
            }
        }
        return map_lanes<vec<E>>([sw](E x, E y, E z) { return form_one(uint32_t(bits_as<raw<E>>(x)) >> format<E>::mantissa_bits, y, z, sw); }, a, b, c);
    }
    // The exponent is an int8 in the low byte of each lane [form_fp_num_exponent_byte].
    template <class E> static TPC_FN vec<E> form_fp_num_ie(const vec<int8_t>& a, const vec<E>& b, const vec<E>& c, int sw)
    {
        if constexpr (std::is_same_v<E, float>) {
            if ((sw & ~(SW_ADD_BIAS | SW_FORCE_SIGN0 | SW_FORCE_SIGN1 | SW_EXP_IS_NUM)) == 0) {
                vec<E> o;
                TPC_EACH(o.r[i] = form_f32((un)a.r[i], b.r[i], c.r[i], sw);)
                return o;
            }
        }
        return form_fp_num_bytes(a, b, c, sw);
    }
    template <class E> static TPC_SLOW vec<E> form_fp_num_bytes(const vec<int8_t>& a, const vec<E>& b, const vec<E>& c, int sw)
    {
        vec<E> o;
        for (int k = 0; k < vec<E>::lanes; ++k)
            lanes_of(o)[k] = form_one(uint32_t(int32_t(lanes_of(a)[k * int(sizeof(E))])), lanes_of(b)[k], lanes_of(c)[k], sw);
        return o;
    }

    template <class T> static TPC_FN T nearbyint(const T& a, int sw)
    {
        const int mode = mode_of(sw);
        if constexpr (std::is_same_v<T, vec<float>>) {
            T o;
            TPC_EACH(o.r[i] = rounded(a.r[i], mode);)
            return o;
        } else if constexpr (is_vec<T>) {
            using E = typename T::element;
            return map_lanes<T>([sw](E x) { return nearbyint(x, sw); }, a);
        } else {
            const float x = float(a);
            return T(mode == 1 ? __builtin_truncf(x) : mode == 2 ? __builtin_ceilf(x) : mode == 3 ? __builtin_floorf(x)
                   : mode == 6 ? __builtin_roundf(x) : __builtin_nearbyintf(x));
        }
    }
    template <class R, class E> static TPC_FN R nearbyint_cnvrt(const vec<E>& a, int sw)
    {
        R o;
        o.v1 = nearbyint(a, sw);
        o.v2 = convert_vec<decltype(o.v2)>(a, sw);
        return o;
    }

    // --- special values of functions, by class masks ------------------------------------------------------------------------------------

    // [calc_fp_special] Result of function `sw & 7` for operands of the given classes, or nothing where neither is special. Classes as FCLASS gives them.
    static TPC_FN bool special_value(uint32_t a, uint32_t b, int function, float& out)
    {
        constexpr uint32_t ninf = 1, nnorm = 2, nden = 4, nzero = 8, pzero = 16, pden = 32, pnorm = 64, pinf = 128, nan = 0x300;
        const float inf = __builtin_inff(), qnan = bits_as<float>(uint32_t(0x7fffffff));
        const bool az = a & (nzero | pzero | nden | pden), an = a & (ninf | nnorm | nden | nzero), ai = a & (ninf | pinf);
        const bool bz = b & (nzero | pzero | nden | pden), bn = b & (ninf | nnorm | nden | nzero), bi = b & (ninf | pinf);
        const auto give = [&out](float x) { out = x; return true; };
        if (a & nan) return give(qnan);
        switch (function) {
        case SW_RECIP: return az ? give(an ? -inf : inf) : ai ? give(an ? -0.0f : 0.0f) : false;
        case SW_RSQRT: return az ? give(an ? -inf : inf) : an ? give(qnan) : ai ? give(0.0f) : false;
        case SW_SQRT: return az ? give(an ? -0.0f : 0.0f) : an ? give(qnan) : ai ? give(inf) : false;
        case SW_LOG: return az ? give(-inf) : an ? give(qnan) : ai ? give(inf) : false;
        case SW_EXP: return az ? give(1.0f) : ai ? give(an ? 0.0f : inf) : false;
        case SW_TANH: return az ? give(an ? -0.0f : 0.0f) : ai ? give(an ? -1.0f : 1.0f) : false;
        case SW_DIV:
            if (b & nan) return give(qnan);
            if ((az && bz) || (ai && bi)) return give(qnan);
            if (az || bi) return give(an != bn ? -0.0f : 0.0f);
            if (bz || ai) return give(an != bn ? -inf : inf);
            return false;
        default: return false;
        }
    }
    template <class T> static TPC_FN T calc_fp_special(const T& a, const T& b, int sw, const T& income)
    {
        if constexpr (is_vec<T>) {
            using E = typename T::element;
            return map_lanes<T>([sw](E x, E y, E z) { return calc_fp_special(x, y, sw, z); }, a, b, income);
        } else {
            float x;
            return special_value(bits_as<raw<T>>(a), bits_as<raw<T>>(b), sw & 7, x) ? T(x) : income;
        }
    }

    // --- lookup tables --------------------------------------------------------------------------------------------------------------------

    // The vendor's tables are not public. A kernel that brings its own (set_lut_32) reads them here; of the vendor's, only
    // e_fp32_sin_cos is stood in for, by the quadratic expansion at the interval's start [lut_sin_cos].
    static int& lut_tensor()
    {
        static int number = -1;
        return number;
    }
    static TPC_FN uint32_t lut_word(int32_t at)
    {
        const int32_t coords[5] = {at, 0, 0, 0, 0};
        uint32_t x = 0;
        if (lut_tensor() >= 0) tpcgen::rt::load(lut_tensor(), coords, &x, 1, 4);
        return x;
    }
    // Interval index in v1, its start in v2: the bits of x above `shift`. For sin and cos, 64 intervals of [0, 1).
    static TPC_SLOW pair<vec<uint32_t>, vec<float>> lut_interval(const vec<float>& x, int shift, int sw)
    {
        pair<vec<uint32_t>, vec<float>> o;
        for (int k = 0; k < 64; ++k) {
            const float v = lanes_of(x)[k];
            const uint32_t w = bits_as<uint32_t>(v);
            if (((sw >> 13) & 7) == (SW_LUT_SIN_COS >> 13)) {
                const uint32_t at = v >= 0 && v < 1 ? uint32_t(v * 64.0f) : 63;
                lanes_of(o.v1)[k] = at;
                lanes_of(o.v2)[k] = float(at) / 64.0f;
            } else {
                lanes_of(o.v1)[k] = (w >> shift) & ((1u << (23 - shift)) - 1);
                lanes_of(o.v2)[k] = bits_as<float>(w >> shift << shift);
            }
        }
        return o;
    }
    // Coefficient c of entry `at`: sin(x)/x in entries 0 to 63, cos(x) from 64 on.
    static float sin_cos_coefficient(uint32_t at, int c)
    {
        const double x = (at & 63) / 64.0;
        if (at >= 64) return float(c == 0 ? std::cos(x) : c == 1 ? -std::sin(x) : -0.5 * std::cos(x));
        if (x == 0) return float(c == 0 ? 1.0 : c == 1 ? 0.0 : -1.0 / 6);
        const double s = std::sin(x), q = std::cos(x);
        return float(c == 0 ? s / x : c == 1 ? (x * q - s) / (x * x) : 0.5 * ((2 - x * x) * s - 2 * x * q) / (x * x * x));
    }
#if TPCGEN_STRICT
    static TPC_FN void this_lookup_table_is_not_public() { tpcgen::rt::private_table(); }
#else
    static void this_lookup_table_is_not_public() __attribute__((error("TPC-C: the contents of this vendor lookup table are not public; call the v_*_f32 function instead")));
#endif
    // Entries of user tables: one word each in groups of 64, or three words, ten entries to a line of 32 words [user_lut_layout].
    template <class R> static TPC_SLOW R lookup_words(const vec<uint32_t>& at, int fid, int sw, int coefficient, bool triples)
    {
        using E = typename R::element;
        tpcgen::rt::note_lookup("LOOKUP");
        R o;
        if (sw & (1 << 3)) {  // SW_LUT_PTR
            for (int k = 0; k < 64; ++k) {
                const int e = int(lanes_of(at)[k]), base = (fid >> 2) * 64;
                lanes_of(o)[k] = bits_as<E>(lut_word(triples ? base + e / 10 * 32 + e % 10 * 3 + coefficient : base + e));
            }
            return o;
        }
        for (int k = 0; k < 64; ++k) lanes_of(o)[k] = E(sin_cos_coefficient(lanes_of(at)[k], coefficient));
        return o;
    }
    static TPC_FN void only_public_tables(int fid, int sw)
    {
        if (!(sw & (1 << 3)) && fid != e_fp32_sin_cos) this_lookup_table_is_not_public();
    }
    template <class R> static TPC_FN R lookup(const vec<uint32_t>& at, int fid, int sw)
    {
        only_public_tables(fid, sw);
        return lookup_words<R>(at, fid, sw, 0, false);
    }
    template <class R> static TPC_FN R lookup_1c(const vec<uint32_t>& at, int fid, int sw)
    {
        only_public_tables(fid, sw);
        return lookup_words<R>(at, fid, sw, 0, true);
    }
    template <class R> static TPC_FN R lookup_2c(const vec<uint32_t>& at, int fid, int sw)
    {
        only_public_tables(fid, sw);
        using V = decltype(R::v1);
        return {lookup_words<V>(at, fid, sw, 1, true), lookup_words<V>(at, fid, sw, 2, true)};
    }

    // --- tensors ------------------------------------------------------------------------------------------------------------------------

    // [unpack_on_load] Sizes of an element in the tensor and of its place in the register, from an (UN)PACK switch.
    static constexpr int unpack_from(int sw) { const int t = sw & (3 << 1); return t == SW_UNPCK_16_TO_32 ? 2 : 1; }
    static constexpr int unpack_to(int sw) { const int t = sw & (3 << 1); return t == SW_UNPCK_8_TO_16 ? 2 : 4; }
    static constexpr int pack_from(int sw) { const int t = sw & (3 << 4); return t == SW_PCK_16_TO_8 ? 2 : 4; }
    static constexpr int pack_to(int sw) { const int t = sw & (3 << 4); return t == SW_PCK_32_TO_16 ? 2 : 1; }

    // Place of element k of `count`: the first of `ways` parts goes to lanes 0, ways, 2 ways, ..., the next one lane further.
    static constexpr int interleaved(int k, int count, int ways) { return k % (count / ways) * ways + k / (count / ways); }

    // Where a vector access goes: the place of an index in a tensor, or an address [direct_access].
    struct indexed {
        const indices& ndx;
        int tensor;
        TPC_FN void load(void* to, int n, int elem) const { tpcgen::rt::load(tensor, ndx.v, to, n, elem); }
        TPC_FN void store(const void* from, int n, int elem) const { tpcgen::rt::store(tensor, ndx.v, from, n, elem); }
        TPC_FN void combine(const void* from, int n, int elem, tpcgen::rt::Combine with) const
        {
            tpcgen::rt::store_rmw(tensor, ndx.v, from, n, elem, nullptr, with);
        }
    };
    struct addressed {
        rt_pointer at;
        TPC_FN void load(void* to, int n, int elem) const { tpcgen::rt::load_direct(at, to, n * elem); }
        TPC_FN void store(const void* from, int n, int elem) const { tpcgen::rt::store_direct(at, from, n, elem, nullptr); }
        TPC_FN void combine(const void* from, int n, int elem, tpcgen::rt::Combine with) const
        {
            tpcgen::rt::store_direct(at, from, n, elem, with);
        }
    };
    static TPC_FN indexed place(const indices& ndx, int tensor) { return {ndx, tensor}; }
    static TPC_FN addressed place(uint32_t low, uint32_t high) { return {pointer_of({low, high})}; }

    // [partial_lanes_keep_income] Reads lanes [first, first + n) of the result from n elements at `at`; the other lanes are those of `o`.
    template <class V, class At> static TPC_FN void load_lanes(V& o, const At& at, int first, int n, int sw)
    {
        if constexpr (is_mask<V>) {
            uint8_t bits[32];  // one bit per lane, low bit first; n counts bytes here
            at.load(bits, n, 1);
            for (int k = 0; k < 8 * n; ++k) lanes_of(o)[first * 8 + k] = int8_t(-((bits[k / 8] >> (k % 8)) & 1));
        } else if (sw & SW_UNPACK) {
            const int from = unpack_from(sw), ways = unpack_to(sw) / from, count = n * int(sizeof(typename V::element)) / from;
            alignas(64) uint8_t linear[256];
            at.load(linear, count, from);
            uint8_t* to = bytes(o) + first * int(sizeof(typename V::element));
            for (int k = 0; k < count; ++k) __builtin_memcpy(to + interleaved(k, count, ways) * from, linear + k * from, from);
        } else {
            at.load(lanes_of(o) + first, n, int(sizeof(typename V::element)));
        }
    }
    template <class V> static constexpr int units() { return is_mask<V> ? 32 : V::lanes; }

    template <class V, class At> static TPC_FN V ld_tnsr(const At& at, int sw, const V&)
    {
        V o;
        load_lanes(o, at, 0, units<V>(), sw);
        return o;
    }
    template <class V, class At> static TPC_FN V ld_tnsr_partial(const At& at, int size, int offset, int sw, const V& income)
    {
        V o = income;
        load_lanes(o, at, uint8_t(offset), uint8_t(size) + 1, sw);
        return o;
    }
    template <class V, class At> static TPC_FN V ld_tnsr_low(const At& at, int sw, const V& income)
    {
        V o = income;
        load_lanes(o, at, 0, units<V>() / 2, sw);
        return o;
    }
    template <class V, class At> static TPC_FN V ld_tnsr_high(const At& at, int sw, const V& income)
    {
        V o = income;
        load_lanes(o, at, units<V>() / 2, units<V>() / 2, sw);
        return o;
    }
    template <class V, class At> static TPC_FN V ld_tnsr_low_partial(const At& at, int size, int offset, int sw, const V& income)
    {
        return ld_tnsr_partial(at, size, offset, sw, income);
    }
    template <class V, class At> static TPC_FN V ld_tnsr_high_partial(const At& at, int size, int offset, int sw, const V& income)
    {
        V o = income;
        load_lanes(o, at, units<V>() / 2 + uint8_t(offset), uint8_t(size) + 1, sw);
        return o;
    }

    template <class V, class Put> static TPC_FN void store_lanes(const V& value, int first, int n, int sw, Put put)
    {
        if constexpr (is_mask<V>) {
            uint8_t bits[32] = {};
            for (int k = 0; k < 8 * n; ++k) bits[k / 8] |= uint8_t((lanes_of(value)[first * 8 + k] & 1) << (k % 8));
            put(bits, n, 1);
        } else if (sw & SW_PACK) {
            const int to = pack_to(sw), ways = pack_from(sw) / to, count = n * int(sizeof(typename V::element)) / to;
            alignas(64) uint8_t linear[256];
            const uint8_t* at = bytes(value) + first * int(sizeof(typename V::element));
            for (int k = 0; k < count; ++k) __builtin_memcpy(linear + k * to, at + interleaved(k, count, ways) * to, to);
            put(linear, count, to);
        } else {
            put(lanes_of(value) + first, n, int(sizeof(typename V::element)));
        }
    }
    template <class V, class At> static TPC_FN void st_lanes(const At& at, const V& value, int first, int n, int sw)
    {
        store_lanes(value, first, n, sw, [&](const void* p, int count, int elem) { at.store(p, count, elem); });
    }
    template <class V, class At> static TPC_FN void st_tnsr(const At& at, const V& value, int sw) { st_lanes(at, value, 0, units<V>(), sw); }
    template <class V, class At> static TPC_FN void st_tnsr_low(const At& at, const V& value, int sw) { st_lanes(at, value, 0, units<V>() / 2, sw); }
    template <class V, class At> static TPC_FN void st_tnsr_high(const At& at, const V& value, int sw) { st_lanes(at, value, units<V>() / 2, units<V>() / 2, sw); }
    template <class V, class At> static TPC_FN void st_tnsr_partial(const At& at, const V& value, int size, int offset, int sw)
    {
        st_lanes(at, value, uint8_t(offset), uint8_t(size) + 1, sw);
    }
    template <class T> static TPC_FN void st_tnsr_s(const indices& ndx, int tensor, T value, int) { tpcgen::rt::store(tensor, ndx.v, &value, 1, int(sizeof(T))); }

    // Read-modify-write: the operation and its dtype are in `rmw`.
    template <class E, int Op> static void combine_as(void* dst, const void* src)
    {
        E old, x;
        __builtin_memcpy(&old, dst, sizeof(E));
        __builtin_memcpy(&x, src, sizeof(E));
        E r;
        if constexpr (Op == 0) r = impl::add(old, x, 0);
        if constexpr (Op == 1) r = impl::sub(old, x, 0);
        if constexpr (Op == 2) r = impl::min(old, x, 0);
        if constexpr (Op == 3) r = impl::max(old, x, 0);
        if constexpr (Op == 4) r = impl::add(impl::max(old, E(0), 0), x, 0);
        __builtin_memcpy(dst, &r, sizeof(E));
    }
    template <class E> static TPC_FN tpcgen::rt::Combine combine_of(int op)
    {
        switch (op) {
        case RMW_OP_SUB >> 4: return combine_as<E, 1>;
        case RMW_OP_MIN >> 4: return combine_as<E, 2>;
        case RMW_OP_MAX >> 4: return combine_as<E, 3>;
        case RMW_OP_MAX_0_ADD >> 4: return combine_as<E, 4>;
        default: return combine_as<E, 0>;
        }
    }
    template <class E> static TPC_FN tpcgen::rt::Combine combine_for(int rmw)
    {
        const int op = (rmw >> 4) & 7;
        if (rmw & RMW_TNSR_DT) return combine_of<E>(op);
        switch (rmw & 15) {
        case RMW_DT_INT8: return combine_of<int8_t>(op);
        case RMW_DT_INT16: return combine_of<int16_t>(op);
        case RMW_DT_INT32: return combine_of<int32_t>(op);
        case RMW_DT_UINT8: return combine_of<uint8_t>(op);
        case RMW_DT_UINT16: return combine_of<uint16_t>(op);
        case RMW_DT_UINT32: return combine_of<uint32_t>(op);
        case RMW_DT_BF16: return combine_of<small<8, 7>>(op);
        case RMW_DT_FP16: return combine_of<small<5, 10>>(op);
        case RMW_DT_FP8_152: return combine_of<small<5, 2>>(op);
        default: return combine_of<float>(op);
        }
    }
    template <class V, class At> static TPC_FN void st_rmw_lanes(const At& at, const V& value, int rmw, int first, int n, int sw)
    {
        if (!(rmw & RMW_SET)) return st_lanes(at, value, first, n, sw);
        store_lanes(value, first, n, sw, [&](const void* p, int count, int elem) {
            at.combine(p, count, elem, combine_for<typename V::element>(rmw));
        });
    }
    template <class V, class At> static TPC_FN void st_tnsr_rmw(const At& at, const V& value, int rmw, int sw) { st_rmw_lanes(at, value, rmw, 0, V::lanes, sw); }
    template <class V, class At> static TPC_FN void st_tnsr_low_rmw(const At& at, const V& value, int rmw, int sw) { st_rmw_lanes(at, value, rmw, 0, V::lanes / 2, sw); }
    template <class V, class At> static TPC_FN void st_tnsr_high_rmw(const At& at, const V& value, int rmw, int sw) { st_rmw_lanes(at, value, rmw, V::lanes / 2, V::lanes / 2, sw); }
    template <class V, class At> static TPC_FN void st_tnsr_partial_rmw(const At& at, const V& value, int rmw, int size, int offset, int sw)
    {
        st_rmw_lanes(at, value, rmw, uint8_t(offset), uint8_t(size) + 1, sw);
    }
    template <class T> static TPC_FN void st_tnsr_s_rmw(const indices& ndx, int tensor, T value, int rmw, int)
    {
        if (!(rmw & RMW_SET)) return tpcgen::rt::store(tensor, ndx.v, &value, 1, int(sizeof(T)));
        tpcgen::rt::store_rmw(tensor, ndx.v, &value, 1, int(sizeof(T)), nullptr, combine_for<T>(rmw));
    }

    // --- global and local memory by address ---------------------------------------------------------------------------------------------

    static TPC_FN rt_pointer gen_addr(const indices& ndx, int tensor, int) { return tpcgen::rt::gen_addr(tensor, ndx.v); }
    template <class T> static TPC_FN T ld_g(const rt_pointer& p)
    {
        if constexpr (is_vec<T>) {
            typename T::element x;
            tpcgen::rt::load_g(p, &x, int(sizeof(x)));
            return T(x);
        } else if constexpr (is_mask<T>) {
            return T(ld_g<bool>(p));
        } else if constexpr (std::is_same_v<T, bool>) {
            uint8_t x;
            tpcgen::rt::load_g(p, &x, 1);
            return x & 1;
        } else {
            T x;
            tpcgen::rt::load_g(p, &x, int(sizeof(T)));
            return x;
        }
    }
    template <class T> static TPC_FN void st_g(const rt_pointer& p, const T& value)
    {
        if constexpr (std::is_same_v<T, bool>) {
            const uint8_t x = value;
            tpcgen::rt::store_g(p, &x, 1);
        } else {
            tpcgen::rt::store_g(p, &value, int(sizeof(T)));
        }
    }
    // Step of an _inc access: the switch, or the size of the value.
    static constexpr int step_of(int sw, int size) { const int s = sw & 7; return s == 0 ? size : 1 << (s - 1); }
    template <class P> static TPC_FN rt_pointer step(P** at, int sw, int size)
    {
        const rt_pointer p(*at);
        *at = reinterpret_cast<P*>(reinterpret_cast<uintptr_t>(*at) + step_of(sw, size));
        return p;
    }
    template <class T, class P> static TPC_FN T ld_g_inc(P** at, int sw) { return ld_g<T>(step(at, sw, int(sizeof(T)))); }
    template <class T, class P> static TPC_FN void st_g_inc(P** at, const T& value, int sw) { st_g(step(at, sw, int(sizeof(T))), value); }
    template <class V> static TPC_SLOW V ld_g_partial(const rt_pointer& p, int size, int offset, const V& income)
    {
        typename V::element x;
        tpcgen::rt::load_g(p, &x, int(sizeof(x)));
        V o = income;
        for (int k = 0; k <= uint8_t(size) && uint8_t(offset) + k < V::lanes; ++k) lanes_of(o)[uint8_t(offset) + k] = x;
        return o;
    }
    template <class V, class P> static TPC_FN V ld_g_inc_partial(P** at, int size, int offset, int sw, const V& income)
    {
        return ld_g_partial(step(at, sw, int(sizeof(typename V::element))), size, offset, income);
    }
    static TPC_FN indices ld_g_indices_inc(void** at, int dimmask, int sw, const indices& income)
    {
        return ld_g_indices(step(at, sw, 4), dimmask, income);
    }
    static TPC_FN indices ld_g_indices(const rt_pointer& p, int dimmask, const indices& income)
    {
        int32_t x;
        tpcgen::rt::load_g(p, &x, 4);
        indices o = income;
        for (int d = 0; d < 5; ++d) if ((dimmask >> d) & 1) o.v[d] = x;
        return o;
    }

    static uint32_t& control_word(uint32_t address)
    {
        static uint32_t words[1024];
        return words[(address >> 2) & 1023];
    }
    template <class T> static TPC_FN T ld_l(uint32_t address, int sw)
    {
        if (sw & SW_MMIO) {
            return bits_as<T>(raw<T>(control_word(address)));
        } else if constexpr (std::is_same_v<T, bool>) {
            uint8_t x;
            tpcgen::rt::load_l(false, address, &x, 1);
            return x & 1;
        } else {
            T x;
            tpcgen::rt::load_l(false, address, &x, int(sizeof(T)));
            return x;
        }
    }
    template <class T> static TPC_FN void st_l(uint32_t address, T value, int sw)
    {
        if (sw & SW_MMIO) {
            control_word(address) = bits_as<raw<T>>(value);
        } else if constexpr (std::is_same_v<T, bool>) {
            const uint8_t x = value;
            tpcgen::rt::store_l(false, address, &x, 1);
        } else {
            tpcgen::rt::store_l(false, address, &value, int(sizeof(T)));
        }
    }
    // Part 0 is the whole register, 1 its low half, 2 its high half.
    template <class V, int Part> static TPC_FN V ld_l_v(uint32_t address, const V& income)
    {
        constexpr int size = is_mask<V> ? 32 : 256;
        if constexpr (is_mask<V>) {
            uint8_t bits[32];
            V o = income;
            constexpr int n = Part ? 16 : 32, first = Part == 2 ? 16 : 0;
            tpcgen::rt::load_l(true, address, bits, n);
            for (int k = 0; k < 8 * n; ++k) lanes_of(o)[first * 8 + k] = int8_t(-((bits[k / 8] >> (k % 8)) & 1));
            return o;
        } else if constexpr (Part == 0) {
            V o;
            tpcgen::rt::load_l(true, address, &o, size);
            return o;
        } else {
            V o = income;
            tpcgen::rt::load_l(true, address, bytes(o) + (Part == 2 ? 128 : 0), 128);
            return o;
        }
    }
    template <int Part, class V> static TPC_FN void st_l_v(uint32_t address, const V& value, const uint8_t* byte_mask = nullptr)
    {
        if constexpr (is_mask<V>) {
            uint8_t bits[32] = {};
            for (int k = 0; k < 256; ++k) bits[k / 8] |= uint8_t((lanes_of(value)[k] & 1) << (k % 8));
            tpcgen::rt::store_l(true, address, bits + (Part == 2 ? 16 : 0), Part ? 16 : 32);
        } else {
            constexpr int at = Part == 2 ? 128 : 0;
            tpcgen::rt::store_l(true, address, bytes(value) + at, Part ? 128 : 256, byte_mask ? byte_mask + at : nullptr);
        }
    }

    // --- descriptors and random numbers ---------------------------------------------------------------------------------------------------

    template <class T> static TPC_FN T pad_value(int tensor) { return bits_as<T>(raw<T>(tpcgen::rt::pad_value(tensor))); }
    // A narrow pad value fills the word [pad_value_width].
    template <class T> static TPC_FN void set_pad_value(int tensor, T value)
    {
        const uint32_t w = bits_as<raw<T>>(value);
        tpcgen::rt::set_pad_value(tensor, sizeof(T) == 1 ? w * 0x01010101u : sizeof(T) == 2 ? w * 0x00010001u : w);
    }
    // The generator's sequence is not public [lfsr_sequence]; the seed is fixed so that runs repeat.
    static vec<uint32_t>& lfsr()
    {
        static thread_local vec<uint32_t> state = [] {
            vec<uint32_t> s;
            for (int k = 0; k < 64; ++k) lanes_of(s)[k] = 0x9E3779B9u * uint32_t(k + 1) | 1u;
            return s;
        }();
        return state;
    }
    static TPC_SLOW vec<int8_t> read_lfsr(int sw)
    {
        vec<uint32_t>& state = lfsr();
        if (!(sw & SW_READ_ONLY)) {
            TPC_EACH(un x = state.r[i]; x ^= x << 13; x ^= x >> 17; x ^= x << 5; state.r[i] = x;)
        }
        return vec<int8_t>(state);
    }
    static TPC_FN int32_t read_lfsr_s(int) { return int32_t(next_random()); }
    static TPC_FN void write_lfsr(const vec<int8_t>& x) { lfsr() = vec<uint32_t>(x); }
    static TPC_FN void write_lfsr(const vec<int8_t>& x, const mask<256>& m) { write_lfsr(blend(m, x, vec<int8_t>(lfsr()))); }
    static TPC_FN void write_lfsr_s(int32_t x) { random_state() = uint32_t(x); }

    // Registers that a kernel may write and read back; they do nothing here [control_registers].
    static uint32_t& hardware_prefetch(int tensor)
    {
        static uint32_t stride[16];
        return stride[tensor & 15];
    }
    static int32_t& semaphore() { static int32_t value = 0; return value; }
    static int32_t& csr() { static int32_t value = 0; return value; }
    static int32_t& convert_csr() { static int32_t value = 0; return value; }
    static pair<uint32_t> address_words(const rt_pointer& p)
    {
        const uint64_t a = reinterpret_cast<uintptr_t>(p.address);
        return {uint32_t(a), uint32_t(a >> 32)};
    }
    static rt_pointer pointer_of(const pair<uint32_t>& words)
    {
        return reinterpret_cast<uint8_t*>(uint64_t(words.v2) << 32 | words.v1);
    }
    static TPC_FN void update_addr(void** at, const pair<uint32_t>& words) { *at = pointer_of(words); }

    // --- index registers ------------------------------------------------------------------------------------------------------------------

    // Dim d of the result is the dim of `x` that bits 3 d to 3 d + 2 of `order` name [prmt_indx_fields].
    static TPC_FN indices permute(const indices& x, int order)
    {
        indices o;
        for (int d = 0; d < 5; ++d) {
            const int from = (order >> 3 * d) & 7;
            o.v[d] = from < 5 ? x.v[from] : 0;
        }
        return o;
    }
    template <class F> static TPC_FN indices index_op(const indices& a, const indices& b, int dimmask, const indices& income, F f)
    {
        indices o = income;
        for (int d = 0; d < 5; ++d) if ((dimmask >> d) & 1) o.v[d] = f(a.v[d], b.v[d]);
        return o;
    }
    template <class F> static TPC_FN bool index_cmp(const indices& a, const indices& b, int dimmask, F f)
    {
        // Holds for every dimension of the mask [index_compare].
        bool all = true;
        for (int d = 0; d < 5; ++d) if ((dimmask >> d) & 1) all = all && f(a.v[d], b.v[d]);
        return all;
    }
};

template <> struct impl::format<float> : impl::layout<8, 23> {};
template <int E, int M> struct impl::format<small<E, M>> : impl::layout<E, M> {};

}  // namespace tpc

template <class I = tpc::impl> TPC_FN void set_lut_32(tensor table) { I::lut_tensor() = table; }

// --- builtins that are not in the intrinsics table --------------------------------------------------------------------------------

TPC_FN int5 get_index_space_offset()
{
    int5 o;
    for (int d = 0; d < 5; ++d) o.v[d] = tpcgen::rt::index_space_offset()[d];
    return o;
}
TPC_FN int5 get_index_space_size()
{
    int5 o;
    for (int d = 0; d < 5; ++d) o.v[d] = tpcgen::rt::index_space_size()[d];
    return o;
}

// A bool64 or bool128 out of a predicate register and back. A predicate of 32-bit lanes uses bits 0, 4, 8, ... [predicate_bits].
TPC_FN bool64 to_bool64(bool256 x) { return tpc::part_of<256, 4>(x, 0); }
TPC_FN bool128 to_bool128(bool256 x) { return tpc::part_of<256, 2>(x, 0); }
TPC_FN bool256 from_bool64(bool64 x) { return tpc::bits_as<bool256>(x); }
TPC_FN bool256 from_bool128(bool128 x) { return tpc::bits_as<bool256>(x); }

TPC_FN void printf_i(const char* format, int x) { std::printf(format, x); }
TPC_FN void printf_ui(const char* format, unsigned x) { std::printf(format, x); }
TPC_FN void printf_s(const char* format, short x) { std::printf(format, x); }
TPC_FN void printf_us(const char* format, unsigned short x) { std::printf(format, x); }
TPC_FN void printf_c(const char* format, int8_t x) { std::printf(format, x); }
TPC_FN void printf_uc(const char* format, uint8_t x) { std::printf(format, x); }
TPC_FN void printf_f(const char* format, float x) { std::printf(format, double(x)); }
TPC_FN void printf_bf(const char* format, bf16 x) { std::printf(format, double(float(x))); }
TPC_FN void printf_st(const char* text) { std::fputs(text, stdout); }
template <class E> inline void printf(const char* format, tpc::no_lane_access_except_in_printf<E> lane)
{
    if constexpr (tpc::is_float<E>) std::printf(format, double(float(lane.value)));
    else std::printf(format, lane.value);
}
template <int E, int M> inline void printf(const char* format, tpc::small<E, M> x) { std::printf(format, double(float(x))); }
#if defined(__gaudi2__)
TPC_FN void printf_h(const char* format, half x) { std::printf(format, double(float(x))); }
TPC_FN void printf_f8(const char* format, minifloat x) { std::printf(format, double(float(x))); }
TPC_FN void printf_h8(const char* format, minihalf x) { std::printf(format, double(float(x))); }
#endif
