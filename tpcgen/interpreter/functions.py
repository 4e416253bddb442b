"""The built-in scalar functions on arrays, computed in the dtype of the argument (float32 or float64)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tpcgen.interpreter.value import Array

_erf_of_object = np.frompyfunc(math.erf, 1, 1)
_erfc_of_object = np.frompyfunc(math.erfc, 1, 1)


def _erf(x: Array) -> Array:
    return np.asarray(_erf_of_object(x)).astype(x.dtype)


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, np.ones_like(x)) / (1 + small)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(x: Array) -> Array:
    """x * Phi(x), Phi the normal distribution function: the exact form, not the tanh approximation."""
    twice_phi = np.asarray(_erfc_of_object(x * x.dtype.type(-math.sqrt(0.5)))).astype(x.dtype)
    return x.dtype.type(0.5) * x * twice_phi


def _elu(x: Array) -> Array:
    """alpha = 1."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


REAL: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "recip": lambda x: 1 / x,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": _erf,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
    "elu": _elu,
    "softplus": _softplus,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
}
"""Functions of one real argument."""


def _minimum(*arguments: Array) -> Array:
    result = arguments[0]
    for a in arguments[1:]:
        result = np.minimum(result, a)
    return result


def _maximum(*arguments: Array) -> Array:
    result = arguments[0]
    for a in arguments[1:]:
        result = np.maximum(result, a)
    return result


def _clamp(x: Array, low: Array, high: Array) -> Array:
    return np.minimum(np.maximum(x, low), high)


JOINED: dict[str, Callable[..., Array]] = {
    "abs": np.abs,
    "min": _minimum,
    "max": _maximum,
    "clamp": _clamp,
}
"""Functions of arguments of one type, integer or real. All of them hand a NaN through."""
