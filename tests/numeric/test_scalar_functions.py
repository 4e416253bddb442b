"""Every function, operator and cast against PyTorch or Python, at odd and awkward arguments."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F

SOME = np.array([-30.0, -3.5, -1.0, -0.25, -1e-4, 0.0, 1e-4, 0.5, 1.0, 2.75, 8.0, 30.0, 88.0, -88.0])
POSITIVE = np.array([1e-30, 1e-4, 0.5, 1.0, 2.0, 3.0, 1e4, 1e30])

FUNCTIONS = {
    "exp": (torch.exp, SOME),
    "exp2": (torch.exp2, SOME),
    "log": (torch.log, POSITIVE),
    "sqrt": (torch.sqrt, POSITIVE),
    "rsqrt": (torch.rsqrt, POSITIVE),
    "recip": (torch.reciprocal, POSITIVE),
    "tanh": (torch.tanh, SOME),
    "sigmoid": (torch.sigmoid, SOME),
    "erf": (torch.erf, SOME),
    "gelu": (lambda x: x * torch.special.erfc(-x * 0.5**0.5) / 2, SOME),
    "silu": (F.silu, SOME),
    "relu": (torch.relu, SOME),
    "elu": (F.elu, SOME),
    "softplus": (lambda x: F.softplus(x, threshold=1e9), SOME[np.abs(SOME) < 50]),
    "sin": (torch.sin, SOME),
    "cos": (torch.cos, SOME),
    "abs": (torch.abs, SOME),
    "floor": (torch.floor, SOME),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode, dtype, tolerance", [("exact", "f8", 1e-14), ("device", "f4", 2e-6)])
def test_a_function_of_one_argument_is_that_of_torch(evaluate, name, mode, dtype, tolerance):
    of_torch, x = FUNCTIONS[name]
    x = x.astype(np.float32)
    y = evaluate(f"op f(x: f32[N]) -> y: f32[N] {{ y[i] = {name}(x[i]) }}", x=x, mode=mode)["y"]
    assert y.dtype == np.dtype(dtype)
    expected = of_torch(torch.from_numpy(x.astype(dtype))).numpy()
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=1e-37)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_nan_is_nan(evaluate, name):
    x = np.array([np.nan], np.float32)
    assert np.isnan(evaluate(f"op f(x: f32[N]) -> y: f32[N] {{ y[i] = {name}(x[i]) }}", x=x)["y"]).all()


@pytest.mark.parametrize(
    "expression, of_python",
    [
        ("min(x[i], z[i])", min),
        ("max(x[i], z[i])", max),
        ("clamp(x[i], z[i], 1.5)", lambda x, z: min(max(x, z), 1.5)),
        ("x[i] / z[i]", lambda x, z: x / z),
        ("-x[i] * z[i]", lambda x, z: -x * z),
        ("x[i] - z[i] + 1", lambda x, z: x - z + 1),
        ("select(x[i] < z[i], x[i], 2)", lambda x, z: x if x < z else 2),
        ("select(x[i] == z[i] or not (x[i] != 3), 1, 0)", lambda x, z: float(x == z or x == 3)),
        ("select(x[i] >= 1 and z[i] > 0, 1, 0)", lambda x, z: float(x >= 1 and z > 0)),
        ("select(0 < x[i] <= z[i] < 4, 1, 0)", lambda x, z: float(0 < x <= z < 4)),
    ],
)
def test_operators_on_reals(evaluate, expression, of_python):
    grid = [-2.0, 0.5, 1.0, 3.0, 4.0]
    x, z = (np.array(a, np.float32) for a in zip(*((a, b) for a in grid for b in grid), strict=True))
    y = evaluate(f"op f(x: f32[N], z: f32[N]) -> y: f32[N] {{ y[i] = {expression} }}", x=x, z=z)["y"]
    np.testing.assert_array_equal(y, [of_python(float(a), float(b)) for a, b in zip(x, z, strict=True)])


@pytest.mark.parametrize("name", ["min", "max"])
def test_min_and_max_of_nan_are_nan(evaluate, name):
    x = np.array([np.nan, 1.0], np.float32)
    z = np.array([1.0, np.nan], np.float32)
    y = evaluate(f"op f(x: f32[N], z: f32[N]) -> y: f32[N] {{ y[i] = {name}(x[i], z[i]) }}", x=x, z=z)["y"]
    assert np.isnan(y).all()


@pytest.mark.parametrize(
    "expression, of_python",
    [
        ("x[i] // z[i]", lambda x, z: math.floor(x / z)),
        ("x[i] % z[i]", lambda x, z: x - z * math.floor(x / z)),
        ("x[i] * z[i] - x[i]", lambda x, z: x * z - x),
        ("abs(x[i]) + min(x[i], z[i]) - max(x[i], z[i], 2)", lambda x, z: abs(x) + min(x, z) - max(x, z, 2)),
        ("clamp(x[i], -1, 2)", lambda x, z: min(max(x, -1), 2)),
        ("select(x[i] < z[i], x[i], z[i])", lambda x, z: min(x, z)),
        ("-x[i]", lambda x, z: -x),
        ("x[i] + i", None),
    ],
)
def test_integer_arithmetic_is_exact_and_floors(evaluate, expression, of_python):
    grid = [-7, -3, -1, 1, 2, 5]
    x, z = (np.array(a, np.int32) for a in zip(*((a, b) for a in grid for b in grid), strict=True))
    y = evaluate(f"op f(x: i32[N], z: i32[N]) -> y: i32[N] {{ y[i] = {expression} }}", x=x, z=z)["y"]
    assert y.dtype == np.int32
    pairs = zip(x.tolist(), z.tolist(), strict=True)
    expected = x + np.arange(len(x)) if of_python is None else [of_python(a, b) for a, b in pairs]
    np.testing.assert_array_equal(y, expected)


def test_i32_wraps_around(evaluate):
    x = np.array([2**31 - 1, -(2**31)], np.int32)
    y = evaluate("op f(x: i32[N]) -> y: i32[N] { y[i] = x[i] * 2 + 3 }", x=x)["y"]
    np.testing.assert_array_equal(y, [1, 3])


def test_division_of_integers_by_slash_is_real(evaluate):
    x = np.array([7, -7], np.int32)
    np.testing.assert_array_equal(evaluate("op f(x: i32[N]) -> y: f32[N] { y[i] = x[i] / 2 }", x=x)["y"], [3.5, -3.5])


ROUNDED = {"bf16": torch.bfloat16, "f16": torch.float16, "f8_152": torch.float8_e5m2}
AWKWARD = np.array([0.1, 1.0 + 2**-9, -3.14159, 1e-3, 100.3, 255.9, 1 / 3, -1e-6], np.float32)


@pytest.mark.parametrize("dtype", ROUNDED)
def test_a_cast_rounds_in_device_mode_and_only_there(evaluate, dtype):
    text = f"op f(x: f32[N]) -> y: f32[N] {{ y[i] = {dtype}(x[i]) }}"
    np.testing.assert_array_equal(evaluate(text, x=AWKWARD)["y"], AWKWARD.astype("f8"))
    expected = torch.from_numpy(AWKWARD).to(ROUNDED[dtype]).float().numpy()
    np.testing.assert_array_equal(evaluate(text, x=AWKWARD, mode="device")["y"], expected)


@pytest.mark.parametrize("dtype", ROUNDED)
def test_stores_round_in_device_mode(evaluate, dtype):
    text = f"op f(x: f32[N]) -> y: f32[N], z: {dtype}[N] {{ T[i]: {dtype} = x[i]  y[i] = T[i]  z[i] = x[i] }}"
    found = evaluate(text, x=AWKWARD, mode="device")
    expected = torch.from_numpy(AWKWARD).to(ROUNDED[dtype]).float().numpy()
    np.testing.assert_array_equal(found["y"], expected)
    np.testing.assert_array_equal(found["z"].astype(np.float32), expected)
    assert found["z"].dtype.itemsize == ROUNDED[dtype].itemsize
    np.testing.assert_array_equal(evaluate(text, x=AWKWARD)["z"], AWKWARD.astype("f8"))


def test_f8_143_has_three_mantissa_bits_and_an_infinity(evaluate):
    x = np.array([1.0, 1.0625, 1.07, 1.9, 17.0, 240.0, 1000.0, 2.0**-9, 2.0**-11], np.float32)
    y = evaluate("op f(x: f32[N]) -> y: f32[N] { y[i] = f8_143(x[i]) }", x=x, mode="device")["y"]
    np.testing.assert_array_equal(y, [1.0, 1.0, 1.125, 1.875, 16.0, 240.0, np.inf, 2.0**-9, 0.0])


def test_integer_casts_truncate_and_saturate_in_both_modes(evaluate):
    x = np.array([2.9, -2.9, 300.0, -300.0, 4e9, np.nan], np.float32)
    for mode in ("exact", "device"):
        for dtype, low, high in (("i32", -(2**31), 2**31 - 1), ("i16", -(2**15), 2**15 - 1), ("u8", 0, 255)):
            y = evaluate(f"op f(x: f32[N]) -> y: i32[N] {{ y[i] = {dtype}(x[i]) }}", x=x, mode=mode)["y"]
            expected = [min(max(v, low), high) for v in (2, -2, 300, -300, 4 * 10**9)]
            np.testing.assert_array_equal(y, [*expected, 0])


@pytest.mark.parametrize("dtype", ["i16", "i8", "u8"])
def test_small_integers_read_and_store(evaluate, dtype):
    info = np.iinfo(dtype.replace("i", "int").replace("u", "uint") if dtype[0] != "u" else "uint8")
    x = np.array([info.min, 0, 3, info.max], info.dtype)
    found = evaluate(f"op f(x: {dtype}[N]) -> y: i32[N], z: {dtype}[N] {{ y[i] = x[i] * 2  z[i] = x[i] }}", x=x)
    np.testing.assert_array_equal(found["y"], x.astype(np.int32) * 2)
    assert found["z"].dtype == info.dtype
    np.testing.assert_array_equal(found["z"], x)


def test_booleans(evaluate):
    x = np.array([True, False, True])
    text = "op f(x: bool[N]) -> y: bool[N], z: f32[N] { y[i] = not x[i]  z[i] = select(x[i], 2, 3) }"
    found = evaluate(text, x=x)
    assert found["y"].dtype == np.bool_
    np.testing.assert_array_equal(found["y"], ~x)
    np.testing.assert_array_equal(found["z"], [2, 3, 2])


@pytest.mark.parametrize(
    "dtype, numpy", [("bf16", ml_dtypes.bfloat16), ("f16", np.float16), ("f8_152", ml_dtypes.float8_e5m2)]
)
def test_narrow_inputs_read_exactly_and_f64_is_taken_in_exact_mode_alone(evaluate, dtype, numpy):
    text = f"op f(x: {dtype}[N]) -> y: f32[N] {{ y[i] = x[i] * 3 }}"
    x = AWKWARD.astype(numpy)
    np.testing.assert_array_equal(evaluate(text, x=x)["y"], x.astype("f8") * 3)
    np.testing.assert_array_equal(evaluate(text, x=AWKWARD.astype("f8"))["y"], AWKWARD.astype("f8") * 3)


def test_exact_mode_keeps_what_float32_would_lose(evaluate):
    x = np.array([1.0], np.float32)
    text = "op f(x: f32[N]) -> y: f32[N] { y[i] = (x[i] + 0.00000000001) - x[i] }"
    assert evaluate(text, x=x)["y"][0] == pytest.approx(1e-11, rel=1e-4)
    assert evaluate(text, x=x, mode="device")["y"][0] == 0
