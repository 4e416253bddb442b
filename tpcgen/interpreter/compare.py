"""When is a result right? The pass rule: as close to the truth as honest arithmetic in the program's dtypes comes.

The truth is the interpreter in exact mode; what honest rounding costs is measured by the interpreter in device mode.
Elementwise, a row being the last axis:

    |y - truth| <= 2 * max|device - truth| + k ulp of the output dtype at the row's largest |truth| + UNDERFLOW

The maximum is over the tensor, as a share of a row's largest |truth|: what a row of this magnitude loses at worst, and
never more than any row loses. A maximum over the row alone would ask a short row to be as lucky as device mode was; one
over the tensor alone would let a small row be all wrong beside a large one.

Where device mode itself is off by more than a tenth of a row, nothing can be said of that row: it is inconclusive, and
an output that has such a row fails. A gradient may have some, at most a tenth of its rows that are not 0: the first
query of linear attention sees one key, whatever it asks, and its gradient is 0 but for rounding; so is that of a weight
next to 1, which a soft cap leaves alone beside gradients of 0. They are counted in the verdict, and whoever shows it
shows them; their error may be twice device mode's worst in the whole tensor, and nothing that device mode loses in them
is allowed to another row. A gradient whose other rows do not reach a tenth of it is inconclusive as a whole.

A gradient is a difference of what is as large as its other rows, and f32 arithmetic rounds each of the two: 4 ulp of
f32 at the largest |truth| of a row that is known are allowed everywhere. Device mode rounds where the program stores:
it does not show that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpcgen.interpreter.value import Array
from tpcgen.program.dtypes import DType

ULPS = {DType.F32: 4, DType.BF16: 1, DType.F16: 1, DType.F8_143: 1, DType.F8_152: 1}
"""k of the rule. Integers and booleans get none."""

FORMATS = {
    DType.F32: (23, -126),
    DType.BF16: (7, -126),
    DType.F16: (10, -14),
    DType.F8_143: (3, -6),
    DType.F8_152: (2, -14),
}
"""Stored mantissa bits, and the exponent of the least normal number."""

UNDERFLOW = 2.0**-116
"""What f32 arithmetic that flushes denormals, as the TPC's does (toolchain.md 1.5), may lose in a sum of a thousand
terms. Device mode keeps them: a state that has decayed to 1e-38 would be judged by digits that no TPC has.
"""

INCONCLUSIVE = 0.1
"""Share of the row's largest |truth| above which device mode is itself too wrong to judge by, share of the rows of a
gradient that are not 0 above which too few are left, and share of its largest |truth| that one of those must reach.

A row that is smaller than the least normal number of its dtype counts as that: nothing can be exact below it.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`error` and `device_error` are the worst |y - truth| and |device - truth|, NaN where shapes or NaNs disagree.

    `where` is the element that decides: the one furthest over its bound, or nearest to it; None for an empty output.
    `bound` is what the rule allows there. `reason` is empty when it passed. `inconclusive` counts the rows that device
    mode is too wrong to judge: 0 in what passed, unless it is a gradient.
    """

    passed: bool
    error: float
    device_error: float
    bound: float
    where: tuple[int, ...] | None
    reason: str
    inconclusive: int = 0


def judge(y: Array, truth: Array, device: Array, *, gradient: bool = False) -> Verdict:
    """Whether `y`, in the output's dtype, is right. `truth` and `device` are of the interpreter's two modes. Where the
    dtype overflows, the truth is an infinity.

    `gradient`: it is one, of which a few rows may be inconclusive.
    """
    if y.shape != truth.shape or device.shape != truth.shape:
        return _refused(None, f"shape {list(y.shape)}, expected {list(truth.shape)}")
    if y.dtype != device.dtype:
        return _refused(None, f"dtype {y.dtype}, expected {device.dtype}")
    if y.size == 0:
        return Verdict(True, 0.0, 0.0, 0.0, None, "")
    got, expected, rounded = (np.asarray(a).astype(np.float64) for a in (y, _held(truth, y.dtype), device))
    return _judged(got, expected, rounded, y.dtype, gradient)


def _judged(y: Array, truth: Array, device: Array, dtype: np.dtype[np.generic], gradient: bool) -> Verdict:
    where = _first(np.isnan(y) != np.isnan(truth))
    if where is not None:
        return _refused(where, f"{y[where]} at {list(where)}, where the truth is {truth[where]}")
    where = _first(np.isnan(device) != np.isnan(truth))
    if where is not None:
        return _refused(where, f"inconclusive: device mode gives {device[where]}, the truth is {truth[where]}")
    error, device_error = _distance(y, truth), _distance(device, truth)
    finite = np.where(np.isfinite(truth), np.abs(truth), 0)
    magnitude = finite.max(axis=-1, keepdims=True) if truth.ndim else finite
    row_error = device_error.max(axis=-1, keepdims=True) if truth.ndim else device_error
    scale = _at_least_normal(magnitude, dtype)
    floor = UNDERFLOW if _kind(dtype).is_float else 0.0
    known = row_error <= INCONCLUSIVE * scale
    largest = magnitude.max(where=known, initial=0)
    if gradient:
        floor += _ulps(largest, DType.F32.numpy)
    usual = np.where(known, _usual_error(row_error, scale, known), row_error.max())
    bound = np.broadcast_to(2 * usual + _ulps(magnitude, dtype) + floor, truth.shape)
    some = (truth != 0).any(axis=-1) if truth.ndim else truth != 0
    few = (~known).sum() <= INCONCLUSIVE * some.sum() and largest >= INCONCLUSIVE * magnitude.max()
    doubtful = _first(np.broadcast_to(~known, truth.shape))
    excess = np.where(error == 0, -np.inf, error - bound)
    where = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    reason = ""
    if doubtful is not None and not (gradient and few):
        where = doubtful
        row = (*where[:-1], 0) if where else ()
        reason = f"inconclusive: device mode is off by {row_error[row]:.3g} where the row reaches {magnitude[row]:.3g}"
    elif error[where] > bound[where]:
        reason = f"{y[where]:.9g} at {list(where)}, the truth is {truth[where]:.9g}, {bound[where]:.3g} is allowed"
    elif not y.any() and _rounded(truth, dtype).any():
        reason = "all zero, and the truth is not"
    worst, rounding, unknown = float(error.max()), float(device_error.max()), int((~known).sum())
    return Verdict(not reason, worst, rounding, float(bound[where]), where, reason, unknown)


def _distance(a: Array, b: Array) -> Array:
    """|a - b|; 0 between two NaN or two infinities of one sign, inf between an infinity and anything else."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(a - b))


def _usual_error(row_error: Array, scale: Array, known: Array) -> Array:
    """Per row, the worst share of its scale that any known row loses, times its own scale; at most the worst error of
    those.
    """
    share = np.divide(row_error, scale, out=np.zeros_like(row_error), where=known & (scale > 0))
    worst = row_error.max(where=known, initial=0)
    return np.maximum(row_error, np.minimum(share.max() * scale, worst))


def _rounded(truth: Array, dtype: np.dtype[np.generic]) -> Array:
    """0 where the truth underflows."""
    with np.errstate(all="ignore"):
        return truth.astype(dtype)


def _held(truth: Array, dtype: np.dtype[np.generic]) -> Array:
    """The truth, an infinity where it overflows the dtype."""
    if not _kind(dtype).is_float:
        return truth
    rounded = _rounded(truth, dtype)
    return np.where(np.isinf(rounded), rounded.astype(np.float64), truth)


def _kind(dtype: np.dtype[np.generic]) -> DType:
    return next(d for d in DType if d.numpy == dtype)


def _at_least_normal(magnitude: Array, dtype: np.dtype[np.generic]) -> Array:
    kind = _kind(dtype)
    return np.maximum(magnitude, 2.0 ** FORMATS[kind][1]) if kind.is_float else magnitude


def _ulps(magnitude: Array, dtype: np.dtype[np.generic]) -> Array:
    """k times the spacing of the dtype at a magnitude."""
    kind = _kind(dtype)
    if not kind.is_float:
        return np.zeros_like(magnitude)
    mantissa, least = FORMATS[kind]
    _, exponent = np.frexp(magnitude)
    exponent = np.where(magnitude == 0, least, np.maximum(exponent - 1, least))
    return ULPS[kind] * np.ldexp(1.0, exponent - mantissa)


def _first(wrong: Array) -> tuple[int, ...] | None:
    if not wrong.any():
        return None
    return tuple(int(i) for i in np.argwhere(wrong)[0])


def _refused(where: tuple[int, ...] | None, reason: str) -> Verdict:
    return Verdict(False, np.nan, np.nan, np.nan, where, reason)
