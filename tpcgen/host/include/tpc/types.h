// TPC-C's types as C++ classes.
//
// A vector register is 2048 bits: 64 x 32, 128 x 16 or 256 x 8 bit lanes. It is kept as a row of native SIMD registers, so
// that every operation is straight-line SIMD without help from a loop vectoriser. A predicate register (bool64, bool128,
// bool256) is kept as one mask per lane, all ones or all zeros, in 256 bytes as well: a bool64 applied to a vector
// of bytes then covers four bytes per lane, as the device's predicates do.
//
// What tpc-clang refuses (lane access, vector conditions, arithmetic on predicates and pairs, braces round a vector) is
// a compile error here too, with the way out in its text.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "tpc/runtime.h"

#define TPC_FN inline __attribute__((always_inline))
// An intrinsic. Audited code compiles three times faster where each one used is compiled once, and hardly runs slower.
#if TPCGEN_STRICT
#define TPC_INTRINSIC inline __attribute__((noinline))
#else
#define TPC_INTRINSIC TPC_FN
#endif

#if defined(__AVX512BW__) && defined(__AVX512DQ__)
#define TPC_NATIVE 64
#define TPC_EACH(...)                                                                                                  \
    { constexpr int i = 0; __VA_ARGS__ } { constexpr int i = 1; __VA_ARGS__ }                                          \
    { constexpr int i = 2; __VA_ARGS__ } { constexpr int i = 3; __VA_ARGS__ }
#elif defined(__AVX2__)
#define TPC_NATIVE 32
#define TPC_EACH(...)                                                                                                  \
    { constexpr int i = 0; __VA_ARGS__ } { constexpr int i = 1; __VA_ARGS__ }                                          \
    { constexpr int i = 2; __VA_ARGS__ } { constexpr int i = 3; __VA_ARGS__ }                                          \
    { constexpr int i = 4; __VA_ARGS__ } { constexpr int i = 5; __VA_ARGS__ }                                          \
    { constexpr int i = 6; __VA_ARGS__ } { constexpr int i = 7; __VA_ARGS__ }
#else
#define TPC_NATIVE 16
#define TPC_EACH(...)                                                                                                  \
    { constexpr int i = 0; __VA_ARGS__ } { constexpr int i = 1; __VA_ARGS__ }                                          \
    { constexpr int i = 2; __VA_ARGS__ } { constexpr int i = 3; __VA_ARGS__ }                                          \
    { constexpr int i = 4; __VA_ARGS__ } { constexpr int i = 5; __VA_ARGS__ }                                          \
    { constexpr int i = 6; __VA_ARGS__ } { constexpr int i = 7; __VA_ARGS__ }                                          \
    { constexpr int i = 8; __VA_ARGS__ } { constexpr int i = 9; __VA_ARGS__ }                                          \
    { constexpr int i = 10; __VA_ARGS__ } { constexpr int i = 11; __VA_ARGS__ }                                        \
    { constexpr int i = 12; __VA_ARGS__ } { constexpr int i = 13; __VA_ARGS__ }                                        \
    { constexpr int i = 14; __VA_ARGS__ } { constexpr int i = 15; __VA_ARGS__ }
#endif

namespace tpc {

constexpr int registers = 256 / TPC_NATIVE;

template <class S> struct native_of { typedef S type __attribute__((vector_size(TPC_NATIVE))); };
template <class S> using native = typename native_of<S>::type;

template <class...> constexpr bool never = false;

template <class To, class From> TPC_FN To bits_as(const From& x)
{
    static_assert(sizeof(To) == sizeof(From), "a bit cast needs two types of the same size");
    To out;
    __builtin_memcpy(&out, &x, sizeof(To));
    return out;
}

// --- scalars narrower than f32 -------------------------------------------------------------------------------------

enum class rounding { nearest_even = 0, zero = 1, up = 2, down = 3, stochastic = 4, csr = 5, half_away = 6, stochastic_rne = 7 };

// One 32-bit word of a stream used by stochastic rounding; per thread so that members stay independent.
TPC_FN uint32_t& random_state()
{
    static thread_local uint32_t state = 0x2545F491u;
    return state;
}
TPC_FN uint32_t next_random()
{
    uint32_t& state = random_state();
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

// A number rounded to a float of `E` exponent and `M` mantissa bits (IEEE-like: infinities, NaN, subnormals), as its bits.
template <int E, int M> inline uint32_t narrow_bits(double x, rounding mode = rounding::nearest_even, bool clip = false)
{
    constexpr int bias = (1 << (E - 1)) - 1;
    constexpr uint32_t infinity = ((1u << E) - 1) << M;
    const uint64_t word = bits_as<uint64_t>(x);
    const uint32_t sign = uint32_t(word >> 63) << (E + M);
    const uint64_t magnitude = word & 0x7fffffffffffffffull;
    if (magnitude > 0x7ff0000000000000ull) return infinity | ((1u << M) - 1);
    if (magnitude == 0x7ff0000000000000ull) return sign | (clip ? infinity - 1 : infinity);
    if (magnitude < 0x0010000000000000ull) return sign;
    const int exponent = int(magnitude >> 52) - 1023;
    const uint64_t mantissa = (magnitude & 0xfffffffffffffull) | 0x10000000000000ull;
    const bool subnormal = exponent < 1 - bias;
    const int drop = 52 - M + (subnormal ? 1 - bias - exponent : 0);
    const int shift = drop > 60 ? 60 : drop;
    uint64_t kept = mantissa >> shift;
    const uint64_t lost = mantissa & ((uint64_t(1) << shift) - 1), half = uint64_t(1) << (shift - 1);
    const bool nearest = lost > half || (lost == half && (kept & 1));
    switch (mode) {
    case rounding::zero: break;
    case rounding::up: kept += lost && !sign; break;
    case rounding::down: kept += lost && sign; break;
    case rounding::half_away: kept += lost >= half; break;
    case rounding::stochastic_rne:
        if (subnormal) {
            kept += nearest;
            break;
        }
        [[fallthrough]];
    case rounding::stochastic: {
        const uint64_t random = uint64_t(next_random()) << 32 | next_random();
        kept += lost > (random >> (64 - shift));
        break;
    }
    default: kept += nearest;
    }
    // A subnormal has no implicit bit: its exponent field is 0 and a carry out of the mantissa makes it 1 by itself.
    const uint64_t field = subnormal ? kept : kept + (uint64_t(exponent + bias - 1) << M);
    if (field < infinity) return sign | uint32_t(field);
    const bool stays_finite = mode == rounding::zero || (mode == rounding::up && sign) || (mode == rounding::down && !sign);
    return sign | (clip || stays_finite ? infinity - 1 : infinity);
}

template <int E, int M> TPC_FN float widen_bits(uint32_t word)
{
    constexpr int bias = (1 << (E - 1)) - 1;
    constexpr uint32_t exponent_all = (1u << E) - 1;
    const uint32_t sign = (word >> (E + M)) << 31;
    const uint32_t exponent = (word >> M) & exponent_all;
    const uint32_t mantissa = word & ((1u << M) - 1);
    if (exponent == exponent_all) return bits_as<float>(mantissa ? 0x7fffffffu : sign | 0x7f800000u);
    if (exponent == 0) {
        const float value = float(mantissa) * bits_as<float>(uint32_t(127 - bias + 1 - M) << 23);
        return bits_as<float>(bits_as<uint32_t>(value) | sign);
    }
    return bits_as<float>(sign | ((exponent + 127 - bias) << 23) | (mantissa << (23 - M)));
}

template <int E, int M> struct small {
    using bits_type = std::conditional_t<(E + M > 7), uint16_t, uint8_t>;
    bits_type bits;

    small() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> TPC_FN small(T x) : bits(bits_type(narrow(double(x)))) {}
    template <int E2, int M2, class = std::enable_if_t<(E2 != E || M2 != M)>> TPC_FN explicit small(small<E2, M2> x) : small(float(x)) {}
    TPC_FN operator float() const { return widen_bits<E, M>(bits); }

    static TPC_FN uint32_t narrow(double x, rounding mode = rounding::nearest_even, bool clip = false)
    {
        if constexpr (E == 8 && M == 7) {
            if (mode == rounding::nearest_even && !clip && double(float(x)) == x) {
                const uint32_t w = bits_as<uint32_t>(float(x));
                return (w + 0x7fffu + ((w >> 16) & 1u)) >> 16;
            }
        }
        return narrow_bits<E, M>(x, mode, clip);
    }
    static TPC_FN small from_bits(uint32_t b)
    {
        small out;
        out.bits = bits_type(b);
        return out;
    }
    TPC_FN small operator-() const { return from_bits(bits ^ (1u << (E + M))); }
    TPC_FN small& operator+=(small o) { return *this = small(float(*this) + float(o)); }
    TPC_FN small& operator-=(small o) { return *this = small(float(*this) - float(o)); }
    TPC_FN small& operator*=(small o) { return *this = small(float(*this) * float(o)); }
};

// bf16 is the upper half of an f32, denormals included.
template <> TPC_FN float widen_bits<8, 7>(uint32_t word) { return bits_as<float>(word << 16); }

template <int E, int M> TPC_FN small<E, M> operator+(small<E, M> a, small<E, M> b) { return small<E, M>(float(a) + float(b)); }
template <int E, int M> TPC_FN small<E, M> operator-(small<E, M> a, small<E, M> b) { return small<E, M>(float(a) - float(b)); }
template <int E, int M> TPC_FN small<E, M> operator*(small<E, M> a, small<E, M> b) { return small<E, M>(float(a) * float(b)); }
template <int E, int M> TPC_FN small<E, M> operator/(small<E, M> a, small<E, M> b) { return small<E, M>(float(a) / float(b)); }

template <class T> constexpr bool is_small = false;
template <int E, int M> constexpr bool is_small<small<E, M>> = true;
template <class T> constexpr bool is_scalar = std::is_arithmetic_v<T> || is_small<T>;
template <class T> constexpr bool is_float = std::is_floating_point_v<T> || is_small<T>;

template <class T> struct storage_of { using type = T; };
template <int E, int M> struct storage_of<small<E, M>> { using type = typename small<E, M>::bits_type; };
template <class T> using storage = typename storage_of<T>::type;

template <int Bytes> struct integer_of;
template <> struct integer_of<1> { using s = int8_t; using u = uint8_t; };
template <> struct integer_of<2> { using s = int16_t; using u = uint16_t; };
template <> struct integer_of<4> { using s = int32_t; using u = uint32_t; };
template <> struct integer_of<8> { using s = int64_t; using u = uint64_t; };

}  // namespace tpc

// --- vectors ---------------------------------------------------------------------------------------------------------

namespace tpc {

template <class E> struct vec;
template <int N> struct mask;

template <class T> constexpr bool is_vec = false;
template <class E> constexpr bool is_vec<vec<E>> = true;

// Never defined: naming it in a constant expression is the diagnostic.
void a_vector_is_not_initialised_with_braces_but_zero();

template <class E> struct no_lane_access_except_in_printf { const E value; };

template <class E> struct alignas(64) vec : tpcgen::rt::Cell<256> {
    using element = E;
    using stored = storage<E>;
    static constexpr int lanes = 256 / int(sizeof(E));
    native<stored> r[registers];

    vec() = default;
    template <class T, class = std::enable_if_t<is_scalar<T>>> TPC_FN vec(T x)
    {
        const stored s = bits_as<stored>(E(x));
        const native<stored> n = s - native<stored>{};
        TPC_EACH(r[i] = n;)
    }
    template <class U, class = std::enable_if_t<!std::is_same_v<U, E>>> TPC_FN explicit vec(vec<U> x)
    {
        TPC_EACH(r[i] = (native<stored>)x.r[i];)
    }
    template <class T> consteval vec(std::initializer_list<T> list) : r{}
    {
        if (list.size() != 1 || *list.begin() != 0) a_vector_is_not_initialised_with_braces_but_zero();
    }

    // Only printf may look at one lane; anything else fails on this type's name.
    TPC_FN no_lane_access_except_in_printf<E> operator[](int lane) const { return {reinterpret_cast<const E*>(r)[lane & (lanes - 1)]}; }

    template <class I, class = std::enable_if_t<std::is_same_v<I, bool>>> explicit operator I() const
    {
        static_assert(never<I>, "TPC-C: a vector is not a condition; use v_*_sel_* for a choice per lane");
        return false;
    }

    friend TPC_FN vec operator+(vec a, vec b) { return plus(a, b); }
    friend TPC_FN vec operator-(vec a, vec b) { return minus(a, b); }
    friend TPC_FN vec operator*(vec a, vec b)
    {
        static_assert(is_float<E> || sizeof(E) == 4, "TPC-C: `*` on integer vectors exists for 32-bit lanes only; use v_*_mul_b");
        return times(a, b);
    }
    friend TPC_FN vec operator/(vec a, vec b)
    {
        static_assert(std::is_same_v<E, float>, "TPC-C: `/` on vectors exists for float64 only");
        vec o;
        TPC_EACH(o.r[i] = a.r[i] / b.r[i];)
        return o;
    }
    friend TPC_FN vec operator&(vec a, vec b) { return bitwise<'&'>(a, b); }
    friend TPC_FN vec operator|(vec a, vec b) { return bitwise<'|'>(a, b); }
    friend TPC_FN vec operator^(vec a, vec b) { return bitwise<'^'>(a, b); }
    TPC_FN vec operator~() const
    {
        static_assert(!is_float<E>, "TPC-C: bitwise operators need integer lanes");
        vec o;
        TPC_EACH(o.r[i] = ~r[i];)
        return o;
    }
    friend TPC_FN vec operator<<(vec a, vec b)
    {
        static_assert(!is_float<E>, "TPC-C: shifts need integer lanes");
        vec o;
        TPC_EACH(o.r[i] = a.r[i] << b.r[i];)
        return o;
    }
    friend TPC_FN vec operator>>(vec a, vec b)
    {
        static_assert(!is_float<E>, "TPC-C: shifts need integer lanes");
        vec o;
        TPC_EACH(o.r[i] = a.r[i] >> b.r[i];)
        return o;
    }
    TPC_FN vec operator+() const { return *this; }
    TPC_FN vec operator-() const
    {
        if constexpr (is_float<E>) {
            using u = typename integer_of<sizeof(E)>::u;
            vec o;
            TPC_EACH(o.r[i] = (native<stored>)((native<u>)r[i] ^ (u(1) << (8 * sizeof(E) - 1)));)
            return o;
        } else {
            return minus(vec(0), *this);
        }
    }
    TPC_FN vec& operator+=(vec b) { return *this = *this + b; }
    TPC_FN vec& operator-=(vec b) { return *this = *this - b; }
    TPC_FN vec& operator*=(vec b) { return *this = *this * b; }
    TPC_FN vec& operator/=(vec b) { return *this = *this / b; }
    TPC_FN vec& operator&=(vec b) { return *this = *this & b; }
    TPC_FN vec& operator|=(vec b) { return *this = *this | b; }
    TPC_FN vec& operator^=(vec b) { return *this = *this ^ b; }
    TPC_FN vec& operator<<=(vec b) { return *this = *this << b; }
    TPC_FN vec& operator>>=(vec b) { return *this = *this >> b; }

#define TPC_NO_COMPARE(OP)                                                                                             \
    template <class T, class = std::enable_if_t<is_scalar<T> || std::is_same_v<T, vec>>> friend int operator OP(const vec&, const T&)                       \
    {                                                                                                                  \
        static_assert(never<T>, "TPC-C: no comparison operators on vectors here; use v_*_cmp_* for a predicate, v_*_sel_* for a choice per lane");          \
        return 0;                                                                                                      \
    }                                                                                                                  \
    template <class T, class = std::enable_if_t<is_scalar<T>>, class = void> friend int operator OP(const T&, const vec&)                                   \
    {                                                                                                                  \
        static_assert(never<T>, "TPC-C: no comparison operators on vectors here; use v_*_cmp_* for a predicate, v_*_sel_* for a choice per lane");          \
        return 0;                                                                                                      \
    }
    TPC_NO_COMPARE(<)
    TPC_NO_COMPARE(>)
    TPC_NO_COMPARE(<=)
    TPC_NO_COMPARE(>=)
    TPC_NO_COMPARE(==)
    TPC_NO_COMPARE(!=)
#undef TPC_NO_COMPARE

private:
    template <char Op> static TPC_FN vec bitwise(const vec& a, const vec& b)
    {
        static_assert(!is_float<E>, "TPC-C: bitwise operators need integer lanes");
        vec o;
        if constexpr (Op == '&') { TPC_EACH(o.r[i] = a.r[i] & b.r[i];) }
        if constexpr (Op == '|') { TPC_EACH(o.r[i] = a.r[i] | b.r[i];) }
        if constexpr (Op == '^') { TPC_EACH(o.r[i] = a.r[i] ^ b.r[i];) }
        return o;
    }
};

template <class E> TPC_FN E* lanes_of(vec<E>& x) { return reinterpret_cast<E*>(&x); }
template <class E> TPC_FN const E* lanes_of(const vec<E>& x) { return reinterpret_cast<const E*>(&x); }

// --- bf16 in terms of f32: a register of 16-bit lanes is two f32 halves, even and odd lanes ------------------------------

using fn = native<float>;
using in = native<int32_t>;
using un = native<uint32_t>;
using hn = native<uint16_t>;

TPC_FN fn even_f32(hn x) { return (fn)((un)x << 16); }
TPC_FN fn odd_f32(hn x) { return (fn)((un)x & 0xffff0000u); }

// Round to nearest even; the result sits in the upper half of each 32-bit lane, the lower half is rubbish. NaN gives 0x7fff.
TPC_FN un round_upper(fn x)
{
    const un w = (un)x;
    const un rounded = w + (0x7fffu + ((w >> 16) & 1u));
    const un nan = (un)(in)(x != x);
    return (rounded & ~nan) | (nan & 0x7fff0000u);
}
TPC_FN hn join_bf16(un even_upper, un odd_upper) { return (hn)((even_upper >> 16) | (odd_upper & 0xffff0000u)); }

// What has no SIMD form goes lane by lane, compiled once per operation and type, not once per use.
#define TPC_SLOW __attribute__((noinline))

template <class R, class F, class... V> TPC_SLOW R map_lanes(F f, const V&... v)
{
    R o;
    for (int k = 0; k < R::lanes; ++k) lanes_of(o)[k] = f(lanes_of(v)[k]...);
    return o;
}
template <class E, class F> TPC_FN vec<E> by_lane(const vec<E>& a, const vec<E>& b, F f)
{
    return map_lanes<vec<E>>([f](E x, E y) { return E(f(x, y)); }, a, b);
}

#define TPC_ARITHMETIC(NAME, OP)                                                                                       \
    template <class E> TPC_FN vec<E> NAME(const vec<E>& a, const vec<E>& b)                                            \
    {                                                                                                                  \
        vec<E> o;                                                                                                      \
        if constexpr (std::is_same_v<E, float>) {                                                                      \
            TPC_EACH(o.r[i] = a.r[i] OP b.r[i];)                                                                       \
        } else if constexpr (std::is_same_v<E, small<8, 7>>) {                                                         \
            TPC_EACH(o.r[i] = join_bf16(round_upper(even_f32(a.r[i]) OP even_f32(b.r[i])), round_upper(odd_f32(a.r[i]) OP odd_f32(b.r[i])));)               \
        } else if constexpr (is_small<E>) {                                                                            \
            o = by_lane(a, b, [](float x, float y) { return x OP y; });                                                \
        } else {                                                                                                       \
            using u = native<typename integer_of<sizeof(E)>::u>;                                                       \
            TPC_EACH(o.r[i] = (native<E>)((u)a.r[i] OP (u)b.r[i]);)                                                    \
        }                                                                                                              \
        return o;                                                                                                      \
    }
TPC_ARITHMETIC(plus, +)
TPC_ARITHMETIC(minus, -)
TPC_ARITHMETIC(times, *)
#undef TPC_ARITHMETIC

// --- predicates --------------------------------------------------------------------------------------------------------

template <int N> struct alignas(64) mask : tpcgen::rt::Cell<256> {
    static constexpr int lanes = N;
    using word = typename integer_of<256 / N>::s;
    native<word> r[registers];

    mask() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> TPC_FN mask(T x)
    {
        if constexpr (std::is_same_v<T, bool>) {
            const word w = word(-int(x));
            const native<word> n = w - native<word>{};
            TPC_EACH(r[i] = n;)
        } else {
            // A predicate is a vector of bytes to the compiler: a number gives every group of eight lanes the same eight bits.
            word* w = reinterpret_cast<word*>(r);
            for (int k = 0; k < N; ++k) w[k] = word(-int((uint64_t(x) >> (k & 7)) & 1));
        }
    }
    friend TPC_FN mask operator&(mask a, mask b) { mask o; TPC_EACH(o.r[i] = a.r[i] & b.r[i];) return o; }
    friend TPC_FN mask operator|(mask a, mask b) { mask o; TPC_EACH(o.r[i] = a.r[i] | b.r[i];) return o; }
    friend TPC_FN mask operator^(mask a, mask b) { mask o; TPC_EACH(o.r[i] = a.r[i] ^ b.r[i];) return o; }
    TPC_FN mask operator~() const { mask o; TPC_EACH(o.r[i] = ~r[i];) return o; }
    TPC_FN mask& operator&=(mask b) { return *this = *this & b; }
    TPC_FN mask& operator|=(mask b) { return *this = *this | b; }
    TPC_FN mask& operator^=(mask b) { return *this = *this ^ b; }

    template <class I> void operator[](I) const
    {
        static_assert(never<I>, "TPC-C has no access to a single bit of a vector predicate");
    }
    template <class I, class = std::enable_if_t<std::is_same_v<I, bool>>> explicit operator I() const
    {
        static_assert(never<I>, "TPC-C: a vector predicate is not a condition; pass it to an _vb intrinsic");
        return false;
    }
#define TPC_NO_PREDICATE(OP)                                                                                           \
    template <class T> friend mask operator OP(const mask& a, const T&)                                                \
    {                                                                                                                  \
        static_assert(never<T>, "TPC-C: only & | ^ ~ exist on vector predicates");                                     \
        return a;                                                                                                      \
    }
    TPC_NO_PREDICATE(+)
    TPC_NO_PREDICATE(-)
    TPC_NO_PREDICATE(*)
    TPC_NO_PREDICATE(/)
    TPC_NO_PREDICATE(<<)
    TPC_NO_PREDICATE(>>)
    TPC_NO_PREDICATE(<)
    TPC_NO_PREDICATE(>)
    TPC_NO_PREDICATE(==)
    TPC_NO_PREDICATE(!=)
#undef TPC_NO_PREDICATE
};

template <class T> constexpr bool is_mask = false;
template <int N> constexpr bool is_mask<mask<N>> = true;

template <int N> TPC_FN typename mask<N>::word* lanes_of(mask<N>& x) { return reinterpret_cast<typename mask<N>::word*>(&x); }
template <int N> TPC_FN const typename mask<N>::word* lanes_of(const mask<N>& x) { return reinterpret_cast<const typename mask<N>::word*>(&x); }

// --- index registers -----------------------------------------------------------------------------------------------------

void an_int5_has_elements_0_to_4();

// An index into an int5: a constant from 0 to 4, checked by the compiler.
struct dimension {
    int value;
    consteval dimension(int d) : value(d)
    {
        if (d < 0 || d > 4) an_int5_has_elements_0_to_4();
    }
};

struct indices {
    int32_t v[5];

    indices() = default;
    template <class... T, class = std::enable_if_t<(sizeof...(T) > 1 && sizeof...(T) <= 5 && (std::is_convertible_v<T, int64_t> && ...))>>
    TPC_FN indices(T... x) : v{int32_t(x)...} {}
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> TPC_FN indices(T x)
    {
        for (int32_t& d : v) d = int32_t(x);
    }
    // `int5 c = {x}` sets element 0 and clears the others, as an initialiser list does; `int5 c = x` sets all five.
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> TPC_FN indices(std::initializer_list<T> list) : v{}
    {
        int d = 0;
        for (T x : list) if (d < 5) v[d++] = int32_t(x);
    }
    TPC_FN int32_t& operator[](dimension d) { return v[d.value]; }
    TPC_FN const int32_t& operator[](dimension d) const { return v[d.value]; }

#define TPC_INDEX_OP(OP)                                                                                               \
    friend TPC_FN indices operator OP(const indices& a, const indices& b)                                              \
    {                                                                                                                  \
        indices o;                                                                                                     \
        for (int d = 0; d < 5; ++d) o.v[d] = int32_t(uint32_t(a.v[d]) OP uint32_t(b.v[d]));                            \
        return o;                                                                                                      \
    }                                                                                                                  \
    TPC_FN indices& operator OP##=(const indices& b) { return *this = *this OP b; }
    TPC_INDEX_OP(+)
    TPC_INDEX_OP(-)
    TPC_INDEX_OP(*)
    TPC_INDEX_OP(&)
    TPC_INDEX_OP(|)
    TPC_INDEX_OP(^)
#undef TPC_INDEX_OP
    TPC_FN indices operator-() const { return indices(0) - *this; }
};

// --- pairs and quads -------------------------------------------------------------------------------------------------------

template <class A, class B = A> struct pair {
    A v1;
    B v2;
};
template <class A> struct quad {
    A v1;
    A v2;
    A v3;
    A v4;
};

template <class T> constexpr bool is_pair = false;
template <class A, class B> constexpr bool is_pair<pair<A, B>> = true;
template <class T> constexpr bool is_quad = false;
template <class A> constexpr bool is_quad<quad<A>> = true;
template <class T> constexpr bool is_tuple = is_pair<T> || is_quad<T>;

#define TPC_NO_TUPLE(OP)                                                                                               \
    template <class A, class T, class = std::enable_if_t<is_tuple<A> || is_tuple<T>>> A operator OP(const A& a, const T&)                                   \
    {                                                                                                                  \
        static_assert(never<T>, "TPC-C: no operators on register pairs; work on .v1 and .v2");                         \
        return a;                                                                                                      \
    }
TPC_NO_TUPLE(+)
TPC_NO_TUPLE(-)
TPC_NO_TUPLE(*)
TPC_NO_TUPLE(/)
TPC_NO_TUPLE(&)
TPC_NO_TUPLE(|)
TPC_NO_TUPLE(<)
TPC_NO_TUPLE(>)
TPC_NO_TUPLE(==)
#undef TPC_NO_TUPLE

}  // namespace tpc

// --- the names of the language -------------------------------------------------------------------------------------------

typedef tpcgen::rt::TensorId tensor;
typedef tpc::indices int5;

typedef tpc::vec<float> float64;
typedef tpc::vec<int32_t> int64;
typedef tpc::vec<uint32_t> uint64;
typedef tpc::vec<int16_t> short128;
typedef tpc::vec<uint16_t> ushort128;
typedef tpc::vec<int8_t> char256;
typedef tpc::vec<uint8_t> uchar256;
typedef tpc::mask<64> bool64;
typedef tpc::mask<128> bool128;
typedef tpc::mask<256> bool256;

typedef tpc::small<8, 7> bf16, bfloat, _BFloat16;
typedef tpc::vec<bf16> bfloat128;
#if defined(__gaudi2__)
typedef tpc::small<5, 10> half;
typedef tpc::small<4, 3> minifloat, _Float8_143;
typedef tpc::small<5, 2> minihalf, _Float8_152;
typedef tpc::vec<half> half128;
typedef tpc::vec<minifloat> minifloat256;
typedef tpc::vec<minihalf> minihalf256;
#endif

// A pair of registers has up to three names: float128 = float64_pair_t = float64_float64_pair_t.
#define TPC_SAME(VECTOR, DOUBLE) typedef tpc::pair<VECTOR> VECTOR##_pair_t, VECTOR##_##VECTOR##_pair_t, DOUBLE;
#define TPC_MIXED(A, B) typedef tpc::pair<A, B> A##_##B##_pair_t, A##_##B;
TPC_SAME(float64, float128)
TPC_SAME(int64, int128)
TPC_SAME(uint64, uint128)
TPC_SAME(short128, short256)
TPC_SAME(ushort128, ushort256)
TPC_SAME(char256, char512)
TPC_SAME(uchar256, uchar512)
TPC_SAME(bfloat128, bfloat256)
typedef tpc::quad<float64> float256;
typedef tpc::quad<int64> int256;
typedef tpc::quad<uint64> uint256;
TPC_MIXED(float64, int64)
TPC_MIXED(float64, uint64)
TPC_MIXED(int64, float64)
TPC_MIXED(int64, uint64)
TPC_MIXED(uint64, float64)
TPC_MIXED(uint64, int64)
TPC_MIXED(bfloat128, short128)
TPC_MIXED(bfloat128, ushort128)
TPC_MIXED(short128, bfloat128)
TPC_MIXED(short128, ushort128)
TPC_MIXED(ushort128, bfloat128)
TPC_MIXED(ushort128, short128)
TPC_MIXED(char256, uchar256)
TPC_MIXED(uchar256, char256)
#if defined(__gaudi2__)
TPC_SAME(half128, half256)
TPC_SAME(minifloat256, minifloat512)
TPC_SAME(minihalf256, minihalf512)
TPC_MIXED(bfloat128, half128)
TPC_MIXED(half128, bfloat128)
TPC_MIXED(half128, short128)
TPC_MIXED(half128, ushort128)
TPC_MIXED(short128, half128)
TPC_MIXED(ushort128, half128)
TPC_MIXED(minifloat256, minihalf256)
TPC_MIXED(minifloat256, char256)
TPC_MIXED(minifloat256, uchar256)
TPC_MIXED(minihalf256, minifloat256)
TPC_MIXED(minihalf256, char256)
TPC_MIXED(minihalf256, uchar256)
TPC_MIXED(char256, minifloat256)
TPC_MIXED(char256, minihalf256)
TPC_MIXED(uchar256, minifloat256)
TPC_MIXED(uchar256, minihalf256)
#endif
#undef TPC_SAME
#undef TPC_MIXED
typedef tpc::pair<int32_t> int32_t_pair_t;
typedef tpc::pair<uint32_t> uint32_t_pair_t, uint16_t_pair_t, uint8_t_pair_t;

// Each engine has its own copy of the kernel, so a file-scope variable is that engine's local memory.
#define __local__
#define __local
#define __global__
#define __global

#define as_char(x) ::tpc::bits_as<int8_t>(x)
#define as_uchar(x) ::tpc::bits_as<uint8_t>(x)
#define as_short(x) ::tpc::bits_as<int16_t>(x)
#define as_ushort(x) ::tpc::bits_as<uint16_t>(x)
#define as_int(x) ::tpc::bits_as<int32_t>(x)
#define as_uint(x) ::tpc::bits_as<uint32_t>(x)
#define as_float(x) ::tpc::bits_as<float>(x)
#define as_bf16(x) ::tpc::bits_as<bf16>(x)
#define as_bfloat(x) ::tpc::bits_as<bf16>(x)
#define as_half(x) ::tpc::bits_as<half>(x)
#define as_float64(x) ((float64)(x))
#define as_int64(x) ((int64)(x))
#define as_uint64(x) ((uint64)(x))
#define as_short128(x) ((short128)(x))
#define as_ushort128(x) ((ushort128)(x))
#define as_char256(x) ((char256)(x))
#define as_uchar256(x) ((uchar256)(x))
#define as_bfloat128(x) ((bfloat128)(x))
#define as_half128(x) ((half128)(x))
