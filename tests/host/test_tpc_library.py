"""Special functions and reductions: correctly rounded where the device uses tables, bit for bit where it is arithmetic."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

BF16 = np.dtype(ml_dtypes.bfloat16)
UNARY = {
    "v_exp_f32": np.exp,
    "v_reciprocal_f32": lambda x: 1 / x,
    "v_sqrt_f32": np.sqrt,
    "v_rsqrt_f32": lambda x: 1 / np.sqrt(x),
    "v_log_f32": np.log,
    "v_log2_f32": np.log2,
    "v_pow2_f32": np.exp2,
    "v_sin_f32": np.sin,
    "v_cos_f32": np.cos,
    "v_tanh_f32": np.tanh,
    "v_sigmoid_f32": lambda x: 1 / (1 + np.exp(-x)),
    "v_expm1_f32": np.expm1,
    "exp_f32": np.exp,
    "log_f32": np.log,
}
REDUCE = {
    "f32": ("float64", np.dtype(np.float32), ("add", "mul", "min", "max")),
    "bf16": ("bfloat128", BF16, ("add", "min", "max", "nolut_add", "nolut_max")),
    "i32": ("int64", np.dtype(np.int32), ("add", "max")),
    "u16": ("ushort128", np.dtype(np.uint16), ("add",)),
    "i8": ("char256", np.dtype(np.int8), ("min", "max")),
    "f16": ("half128", np.dtype(np.float16), ("add", "max")),
}


@pytest.fixture(scope="module")
def unit(build_unit):
    text = [f"UNIT({f}, put(out, {f}(in<float64>(p)));)" for f in UNARY]
    text.append("UNIT(cephes, put(out, v_exp_cephes_f32(in<float64>(p)));)")
    text.append(
        "UNIT(two, put(out, v_div_f32(in<float64>(p), in<float64>(p, 1))); put(out, v_pow_f32(in<float64>(p), in<float64>(p, 1)), 1);)"
    )
    text.append("UNIT(small, auto x = in<bfloat128>(p); put(out, exp_bf16(x)); put(out, sigmoid_bf16(x), 1);)")
    for t, (v, _, ops) in REDUCE.items():
        text += [f"UNIT({t}_{op}, put(out, v_{t}_reduce_{op}(in<{v}>(p)));)" for op in ops]
    text.append(
        "UNIT(arg, put(out, v_f32_reduce_argmin(in<float64>(p))); put(out, v_f32_reduce_argmax(in<float64>(p)), 2);)"
    )
    return build_unit("\n".join(text))


@pytest.mark.parametrize("f", UNARY)
def test_correctly_rounded(unit, f: str) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(64) * 10.0 ** rng.integers(-4, 2, 64)).astype(np.float32)
    x[:6] = [0, -0.0, np.inf, -np.inf, np.nan, 1]
    with np.errstate(all="ignore"):
        expected = UNARY[f](x.astype(np.longdouble)).astype(np.float32)
        got = unit(f, x, out=np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    ok = ~np.isnan(expected)
    # libm's double may sit on the other side of a rounding boundary once in 2^29 times: one ulp is the limit, equality the rule.
    np.testing.assert_array_max_ulp(got[ok & np.isfinite(expected)], expected[ok & np.isfinite(expected)], 1)
    assert (got[ok] == expected[ok]).mean() > 0.98


def cephes(x: np.ndarray) -> np.ndarray:
    """Cephes expf with fused multiply-adds, in longdouble with one rounding per operation."""
    f = np.float32

    def fma(a, b, c):
        return (np.longdouble(a) * np.longdouble(b) + np.longdouble(c)).astype(f)

    n = np.floor(fma(x, f(1.44269504088896341), f(0.5)))
    r = fma(-n, f(0.693359375), x)
    r = fma(-n, f(-2.12194440e-4), r)
    y = fma(r, f(1.9875691500e-4), f(1.3981999507e-3))
    for c in (8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        y = fma(y, r, f(c))
    y = fma(y, (r * r).astype(f), (r + f(1)).astype(f))
    return (y.view(np.int32) + (n.astype(np.int32) << 23)).view(f)


def test_cephes_exp_is_bit_exact(unit) -> None:
    x = np.random.default_rng(2).uniform(-87, 88, 64).astype(np.float32)
    x[:3] = [0, -1, 1]
    np.testing.assert_array_equal(unit("cephes", x, out=np.float32), cephes(x))
    edge = np.array([-np.inf, -1e5, -87.4, 88.8, 1e5, np.inf, np.nan] + [0.0] * 57, np.float32)
    np.testing.assert_array_equal(unit("cephes", edge, out=np.float32)[:7], [0, 0, 0, np.inf, np.inf, np.inf, np.nan])


def test_two_operands_and_bf16(unit) -> None:
    rng = np.random.default_rng(3)
    a, b = np.abs(rng.standard_normal(64)).astype(np.float32), rng.standard_normal(64).astype(np.float32)
    got = unit("two", a, b, out=np.float32, count=2).reshape(2, 64)
    np.testing.assert_array_equal(got[0], a / b)
    np.testing.assert_array_max_ulp(got[1], np.power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32), 1)
    x = rng.standard_normal(128).astype(BF16)
    got = unit("small", x, out=BF16, count=2).reshape(2, 128)
    w = x.astype(np.float64)
    np.testing.assert_array_equal(got[0].astype(np.float32), np.exp(w).astype(BF16).astype(np.float32))
    np.testing.assert_array_equal(got[1].astype(np.float32), (1 / (1 + np.exp(-w))).astype(BF16).astype(np.float32))


def tree(x: np.ndarray, op) -> np.ndarray:
    """The published order: dual groups, groups, then neighbours inside a group, rounding at every step."""
    n = len(x)
    k = np.arange(n)
    distances = [n // 4, n // 2, n // 8]
    d = 1
    while d < n // 8:
        distances.append(d)
        d *= 2
    for d in distances:
        x = op(x, x[k ^ d])
    return x


@pytest.mark.parametrize(("t", "op"), [(t, op) for t, (_, _, ops) in REDUCE.items() for op in ops])
def test_reduction_tree(unit, t: str, op: str) -> None:
    dtype = REDUCE[t][1]
    rng = np.random.default_rng(4)
    n = 256 // dtype.itemsize
    if dtype.kind in "iu":
        x = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, n, dtype=dtype)
    else:
        x = (1 + rng.standard_normal(n) * 0.1).astype(dtype)
    rounding = {"add": lambda a, b: a + b, "mul": lambda a, b: a * b, "min": np.minimum, "max": np.maximum}[
        op.removeprefix("nolut_")
    ]

    def step(a, b):
        if dtype.kind in "iu" or dtype == np.float32:
            return rounding(a, b)
        return rounding(a.astype(np.float32), b.astype(np.float32)).astype(dtype)

    got = unit(f"{t}_{op}", x, out=dtype)
    np.testing.assert_array_equal(got.view(np.uint8), tree(x, step).view(np.uint8))
    assert len(np.unique(got.view(np.uint8).reshape(n, -1), axis=0)) == 1


def test_arg_reductions(unit) -> None:
    x = np.random.default_rng(5).permutation(64).astype(np.float32)
    got = unit("arg", x, out=np.uint32, count=4).reshape(4, 64)
    assert (got[0] == x.argmin()).all()
    assert (got[1].view(np.float32) == 0).all()
    assert (got[2] == x.argmax()).all()
    assert (got[3].view(np.float32) == 63).all()
