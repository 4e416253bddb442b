"""Special functions as sequences of vector operations: no LOOKUP, so local memory stays at 80 KB.

Coefficients come from tools/fit_functions.py; largest errors, measured, are in docs/functions.md. Results below the
smallest normal number are 0, as the TPC flushes them. NaN gives NaN everywhere: bounds are applied by comparisons that
are false for NaN and therefore keep it, never by max or min.

    exp               2^n 2^f, |f| <= 1/2, degree 6; 0 where n <= -126, inf above 88.73
    exp_nonpositive   the same for x <= 0 (a score minus its row's maximum), 0 where n <= -127;
                      at bf16 precision degree 3 and one constant for log2 e
    exp_scaled        the same of c x, c folded into the constants
    exp_in_reach      the same for x known to be in [-88, 0]
    recip             bit trick 0x7EEE0000 - x, tuned step, 2 Newton
    rsqrt             bit trick 0x5F375A86 - x/2, 3 Newton
    log               exponent + degree 8 of log1p on [sqrt(1/2), sqrt(2)]
    tanh              h / (h + 1), h = expm1(2 |x|) / 2, degree 5; at bf16 precision degree 3
    sigmoid           1 / (1 + e) or e / (1 + e), e = exp(-|x|)
    erf, gelu         erfc(z) = exp(-z^2) erfcx(z), degree 11 in 1/(1 + z/2); x P6(x^2) for |x| < 1
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from tpcgen.kernel.ir import Imm, Operand


class Precision(Enum):
    """Accuracy that the outputs of a kernel can show: bf16 has 8 significant bits, f32 has 24."""

    F32 = "f32"
    BF16 = "bf16"


class Builder(Protocol):
    """Appends one vector operation and returns its destination, called `hint` in the text."""

    def op(self, name: str, *args: Operand, hint: str = "") -> Operand: ...


Function = Callable[[Builder, Precision, tuple[Operand, ...]], Operand]

LOG2E = 1.4426950408889634
LOWEST = -88.0
"""exp is 0 from here down, in f32."""
_LOG2E_HIGH = 1.44269502162933349609375  # the nearest f32
_LOG2E_LOW = LOG2E - _LOG2E_HIGH
_LN2_HIGH = 0.693359375  # 9 bits, so that its product with an exponent is exact
_LN2_LOW = math.log(2) - _LN2_HIGH
_MAGIC = 12582912.0  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the sum
_LARGEST_RECIP = 2.0**126  # above it the reciprocal is not normal

_EXP2_6 = (1.0, 0.6931472029, 0.2402264791, 0.0555033247, 0.009618437366, 0.001339887487, 0.0001535336061)
_EXP2_3 = (0.999928074, 0.6932609938, 0.2426111187, 0.05517162365)
_LOG1P = (
    0.3333333117, -0.24999994, 0.2000071484, -0.1666805731, 0.1424932065,
    -0.1242014769, 0.1167702378, -0.1151457149, 0.07037571289,
)  # fmt: skip
_TANH_IS_ONE = 10.0  # from 9.01 on tanh rounds to 1
_EXPM1 = (0.500000012, 0.1666666545, 0.04166579595, 0.008333452315, 0.001398199721, 0.0001987558359)
_EXPM1_3 = (0.4999975459, 0.1666677338, 0.04183220057, 0.008341069005)
_ERFCX = (
    0.2820987728, 0.2819695299, 0.2485753218, 0.1621617241, 0.1582493318, -0.2712394637,
    0.6035268445, -1.168884015, 1.218219761, -0.7056671034, 0.2202563378, -0.0292670412,
)  # fmt: skip
_ERF = (
    1.128379166, -0.3761262582, 0.1128358515, -0.02685381187, 0.005188327555, -0.0008010192479, 7.853857573e-05,
)  # fmt: skip


def horner(b: Builder, x: Operand, coefficients: tuple[float, ...]) -> Operand:
    """c0 + x (c1 + x (c2 + ...)), one rounding per step."""
    result: Operand = Imm(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = b.op("madd", result, x, Imm(c), hint="p")
    return result


def at_least(b: Builder, x: Operand, low: float) -> Operand:
    """max(x, low) that keeps NaN."""
    return _at_least(b, Precision.F32, (x, Imm(low)))


def _at_least(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x, low = args
    return b.op("sel_less", x, low, low, x, hint="bounded")


def at_most(b: Builder, x: Operand, high: float) -> Operand:
    """min(x, high) that keeps NaN."""
    return b.op("sel_grt", x, Imm(high), Imm(high), x, hint="bounded")


def _power(b: Builder, t: Operand, minus_f: Operand, precision: Precision, bias: int = 127) -> Operand:
    """2^(n + f), given n + bias in the low bits of t and -f, |f| <= 1/2; 0 for n + bias = 0, n + bias < 255.

    2^n is made by moving n + bias to the exponent field; what `bias` lacks of 127 goes to the polynomial. The scale is
    applied by a multiplication, not by adding to the bits, so that NaN stays NaN.
    """
    coefficients = _EXP2_6 if precision is Precision.F32 else _EXP2_3
    lacking = 2.0 ** (127 - bias)
    p = horner(b, minus_f, tuple(lacking * c * (-1) ** n for n, c in enumerate(coefficients)))
    scale = b.op("unbits", b.op("ishl", b.op("bits", t), Imm(23), hint="scale"))
    return b.op("mul", p, scale, hint="result")


def _exp_bounded(b: Builder, x: Operand, precision: Precision, bias: int = 127) -> Operand:
    """exp(x) for x log2 e + bias in [0, 255)."""
    shifted = Imm(_MAGIC + bias)
    t = b.op("madd", x, Imm(_LOG2E_HIGH), shifted, hint="shifted")
    minus_f = b.op("nmadd", x, Imm(_LOG2E_HIGH), b.op("sub", t, shifted, hint="n"), hint="minus_f")
    if precision is Precision.F32:
        minus_f = b.op("nmadd", x, Imm(_LOG2E_LOW), minus_f, hint="minus_f")
    return _power(b, t, minus_f, precision, bias)


def _exp_nonpositive(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return _exp_bounded(b, at_least(b, args[0], LOWEST), precision)


def _exp_in_reach(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return _exp_bounded(b, args[0], precision)


def _exp_scaled(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """One constant for c log2 e: its rounding costs 2^-25 |c x|, as much as that of c x would."""
    x, lowest, log2e = args
    bounded = b.op("sel_less", x, lowest, lowest, x, hint="bounded")
    shifted = Imm(_MAGIC + 127)
    t = b.op("madd", bounded, log2e, shifted, hint="shifted")
    minus_f = b.op("nmadd", bounded, log2e, b.op("sub", t, shifted, hint="n"), hint="minus_f")
    return _power(b, t, minus_f, precision)


def _exp(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return _exp_bounded(b, at_most(b, at_least(b, args[0], -87.3), 89.0), Precision.F32, bias=126)


def _exp2(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x = at_most(b, at_least(b, args[0], -126.0), 128.0)
    shifted = Imm(_MAGIC + 126)
    t = b.op("add", x, shifted)
    return _power(b, t, b.op("sub", b.op("sub", t, shifted), x), Precision.F32, bias=126)


def _newton_reciprocal(b: Builder, x: Operand, steps: int = 2) -> Operand:
    """1/x of a positive normal number; with one step to 2^-19."""
    r = b.op("unbits", b.op("isub", Imm(0x7EEE0000), b.op("bits", x), hint="guess"))
    step = b.op("nmadd", b.op("mul", x, r, hint="xr"), Imm(1.05128489), Imm(2.05178416), hint="step")
    r = b.op("mul", r, step, hint="r")
    for _ in range(steps):
        r = b.op("madd", r, b.op("nmadd", x, r, Imm(1.0), hint="residual"), r, hint="r")
    return r


def _recip_positive(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return _newton_reciprocal(b, args[0])


def _signed_infinity(b: Builder, x: Operand) -> Operand:
    """inf with the sign of a zero."""
    return b.op("unbits", b.op("ior", b.op("bits", x), Imm(0x7F800000)))


def _recip(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x = args[0]
    r = _newton_reciprocal(b, x)
    r = b.op("sel_grt", b.op("abs", x), Imm(_LARGEST_RECIP), Imm(0.0), r)
    return b.op("sel_eq", x, Imm(0.0), _signed_infinity(b, x), r)


def _rsqrt(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x = args[0]
    y = b.op("unbits", b.op("isub", Imm(0x5F375A86), b.op("ishr", b.op("bits", x), Imm(1))))
    for _ in range(3):
        residual = b.op("nmadd", b.op("mul", x, y), y, Imm(1.0))  # neither x/2 nor y squared need be normal
        y = b.op("madd", b.op("mul", y, Imm(0.5)), residual, y)
    y = b.op("sel_eq", x, Imm(math.inf), Imm(0.0), y)
    y = b.op("sel_less", x, Imm(0.0), Imm(math.nan), y)
    return b.op("sel_eq", x, Imm(0.0), _signed_infinity(b, x), y)


def _sqrt(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x = args[0]
    y = b.op("mul", x, _rsqrt(b, precision, args))
    y = b.op("sel_eq", x, Imm(0.0), x, y)
    return b.op("sel_eq", x, Imm(math.inf), x, y)


_SQRT_HALF_BITS = 0x3F3504F3


def _log_positive(b: Builder, x: Operand) -> Operand:
    """log of a positive normal number: x = 2^e (1 + g) with 1 + g in [sqrt(1/2), sqrt(2))."""
    bits = b.op("iadd", b.op("bits", x), Imm(0x3F800000 - _SQRT_HALF_BITS))
    e = b.op("itof", b.op("isub", b.op("ishr", bits, Imm(23)), Imm(127)))
    m = b.op("unbits", b.op("iadd", b.op("iand", bits, Imm(0x7FFFFF)), Imm(_SQRT_HALF_BITS)))
    g = b.op("sub", m, Imm(1.0))
    square = b.op("mul", g, g)
    tail = b.op("mul", b.op("mul", square, g), horner(b, g, _LOG1P))
    tail = b.op("madd", e, Imm(_LN2_LOW), tail)
    tail = b.op("nmadd", square, Imm(0.5), tail)
    return b.op("madd", e, Imm(_LN2_HIGH), b.op("add", g, tail))


def _log(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x = args[0]
    y = b.op("sel_eq", x, Imm(math.inf), x, _log_positive(b, x))
    nonpositive = b.op("sel_eq", x, Imm(0.0), Imm(-math.inf), Imm(math.nan))
    return b.op("sel_grt", x, Imm(0.0), y, nonpositive)


def _log_at_least_one(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """log of a number known to be at least 1, or NaN."""
    x = args[0]
    return b.op("sel_geq", x, Imm(1.0), _log_positive(b, x), x)


def _tanh(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """With |x| = n ln2 / 2 + r and p = expm1(2 r) / 2, h = 2^n p + (2^n - 1) / 2. What h is off by matters less the
    nearer tanh is to 1, where a gradient has 1 - tanh^2; a soft cap multiplies it by the cap.
    """
    x, wide = args[0], precision is Precision.F32
    a = at_most(b, b.op("abs", x), _TANH_IS_ONE)
    shifted = Imm(_MAGIC + 127)
    t = b.op("madd", a, Imm(2 * LOG2E), shifted, hint="shifted")
    r = b.op("nmadd", b.op("sub", t, shifted, hint="n"), Imm(math.log(2) / 2), a, hint="r")
    tail = horner(b, r, tuple(2.0 ** (n + 1) * c for n, c in enumerate(_EXPM1 if wide else _EXPM1_3)))
    p = b.op("madd", b.op("mul", r, r), tail, r, hint="p")
    scale = b.op("unbits", b.op("ishl", b.op("bits", t), Imm(23), hint="scale"))
    h = b.op("madd", scale, p, b.op("madd", scale, Imm(0.5), Imm(-0.5)), hint="h")
    inverse = _newton_reciprocal(b, b.op("add", h, Imm(1.0)), steps=2 if wide else 1)
    sign = b.op("iand", b.op("bits", x), Imm(-0x80000000))
    signed = b.op("unbits", b.op("ior", b.op("bits", h), sign))
    y = b.op("mul", signed, inverse)
    if not wide:
        return y
    residual = b.op("sub", b.op("nmadd", y, h, signed), y, hint="residual")  # of y (h + 1)
    return b.op("madd", residual, inverse, y)


def _shares(b: Builder, x: Operand, exp: Precision, precision: Precision) -> tuple[Operand, Operand]:
    """(e, 1 / (1 + e)) of e = exp(-|x|)."""
    minus = b.op("unbits", b.op("ior", b.op("bits", x), Imm(-0x80000000)), hint="minus_abs")
    e = _exp_nonpositive(b, exp, (minus,))
    return e, _newton_reciprocal(b, b.op("add", e, Imm(1.0)), steps=2 if precision is Precision.F32 else 1)


def _sigmoid(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """1 / (1 + e) or, of negative x, e / (1 + e). With exp for bf16 some results near a tie would be rounded away."""
    e, share = _shares(b, args[0], Precision.F32, precision)
    return b.op("mul", b.op("sel_less", args[0], Imm(0.0), e, Imm(1.0)), share)


def _sigmoid_slope(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """1 / (2 + exp(x) + exp(-x)) as e / (1 + e)^2."""
    e, share = _shares(b, args[0], precision, precision)
    return b.op("mul", b.op("mul", e, share), share)


def _silu(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return b.op("mul", args[0], _sigmoid(b, precision, args))


def _relu(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return at_least(b, args[0], 0.0)


def _elu(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x = args[0]
    small = b.op("madd", b.op("mul", x, x), horner(b, x, _EXPM1), x)
    large = b.op("sub", _exp_nonpositive(b, Precision.F32, args), Imm(1.0))
    negative = b.op("sel_less", x, Imm(-0.5), large, small)
    del precision
    return b.op("sel_grt", x, Imm(0.0), x, negative)


def _softplus(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """max(x, 0) + log1p(e), e = exp(-|x|); log1p(e) = log(u) + (e - (u - 1)) / u with u = 1 + e rounded."""
    x = args[0]
    e = _exp_nonpositive(b, Precision.F32, (b.op("mul", b.op("abs", x), Imm(-1.0)),))
    u = b.op("add", e, Imm(1.0))
    lost = b.op("sub", e, b.op("sub", u, Imm(1.0)))
    y = b.op("madd", lost, _newton_reciprocal(b, u), _log_positive(b, u))
    return b.op("add", at_least(b, x, 0.0), y)


def _erfc_positive(b: Builder, a: Operand, scale: float) -> Operand:
    """erfc of z = scale a in [0, 10]. exp(-z^2) is taken from a^2 with its rounding error, or that would cost 2^-24 z^2
    relative; scale^2 is a power of two."""
    z = b.op("mul", a, Imm(scale)) if scale != 1.0 else a
    t = _newton_reciprocal(b, b.op("madd", z, Imm(0.5), Imm(1.0)))
    square = b.op("mul", a, a)
    low = b.op("mul", b.op("nmadd", a, a, square), Imm(round(scale * scale, 6)))
    e = _exp_bounded(b, at_least(b, b.op("mul", square, Imm(-round(scale * scale, 6))), -87.3), Precision.F32)
    e = b.op("madd", e, low, e)
    return b.op("mul", b.op("mul", e, t), horner(b, t, _ERFCX))


def _erf(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    x = args[0]
    z = at_most(b, b.op("abs", x), 9.0)
    small = b.op("mul", x, horner(b, b.op("mul", x, x), _ERF))
    large = b.op("sub", Imm(1.0), _erfc_positive(b, z, 1.0))
    large = b.op("sel_less", x, Imm(0.0), b.op("mul", large, Imm(-1.0)), large)
    return b.op("sel_less", b.op("abs", x), Imm(1.0), small, large)


def _gelu(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """x/2 erfc(-x/sqrt 2): for negative x nothing cancels, for positive x it is x - |x|/2 erfc(|x|/sqrt 2)."""
    x = args[0]
    a = b.op("abs", x)
    bounded = at_most(b, a, 13.2)
    tail = b.op("mul", b.op("mul", bounded, Imm(0.5)), _erfc_positive(b, bounded, math.sqrt(0.5)))
    return b.op("sub", at_least(b, x, 0.0), tail)


def _abs(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return b.op("abs", args[0])


def _floor(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return b.op("floor", args[0])


def _max(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    """NaN where an argument is: a > b is false for NaN in either, b == b tells which."""
    result = args[0]
    for x in args[1:]:
        kept = b.op("sel_geq", result, x, result, x)
        result = b.op("sel_eq", result, result, kept, result)
    return result


def _min(b: Builder, _precision: Precision, args: tuple[Operand, ...]) -> Operand:
    result = args[0]
    for x in args[1:]:
        kept = b.op("sel_leq", result, x, result, x)
        result = b.op("sel_eq", result, result, kept, result)
    return result


def _clamp(b: Builder, precision: Precision, args: tuple[Operand, ...]) -> Operand:
    return _min(b, precision, (_max(b, precision, args[:2]), args[2]))


EXP_NONPOSITIVE = "exp_nonpositive"
EXP_IN_REACH = "exp_in_reach"
EXP_SCALED = "exp_scaled"
"""exp(c x) of x <= 0, c > 0 the same everywhere: arguments x, `LOWEST` / c and c `LOG2E`."""
RECIP_POSITIVE = "recip_positive"
LOG_AT_LEAST_ONE = "log_at_least_one"
SIGMOID_SLOPE = "sigmoid_slope"
"""The derivative of sigmoid."""

AT_LEAST = "at_least"
"""max(x, low), the same in f32 as in bf16; NaN where x is, as low has none then."""

INLINE = frozenset({"abs", "floor", "relu", "max", "min", "clamp", AT_LEAST})
"""Functions of an operation or two per argument, written in place instead of as a function of the kernel's text."""

FUNCTIONS: dict[str, Function] = {
    "exp": _exp,
    "exp2": _exp2,
    "log": _log,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "recip": _recip,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "relu": _relu,
    "elu": _elu,
    "softplus": _softplus,
    "erf": _erf,
    "gelu": _gelu,
    "abs": _abs,
    "floor": _floor,
    "max": _max,
    "min": _min,
    "clamp": _clamp,
    EXP_NONPOSITIVE: _exp_nonpositive,
    EXP_SCALED: _exp_scaled,
    EXP_IN_REACH: _exp_in_reach,
    AT_LEAST: _at_least,
    RECIP_POSITIVE: _recip_positive,
    LOG_AT_LEAST_ONE: _log_at_least_one,
    SIGMOID_SLOPE: _sigmoid_slope,
}
