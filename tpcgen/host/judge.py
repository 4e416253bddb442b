"""Whether a probe gave what was expected. Needs NumPy only: a copy goes into the kit of `tpcgen conformance`."""

from __future__ import annotations

from typing import Any

import numpy

np: Any = numpy  # bits are looked at as one dtype and as another, which pyright follows only in part


def agrees(actual: Any, expected: Any, compare: str) -> str:
    """Empty if `actual`, rows of i32 words, is what was expected; else where they first differ."""
    got = actual[: len(expected)].view(np.uint32)
    want = expected.view(np.uint32)
    if compare == "bits":
        wrong = got != want
    elif compare == "bf16":
        wrong = _differ(got.view(np.uint16), want.view(np.uint16), 0x7F80).reshape(*got.shape, 2).any(-1)
    elif compare == "f32":
        wrong = _differ(got, want, 0x7F800000)
    else:
        allowed = float(compare.removeprefix("ulp:"))
        g, w = got.view(np.float32).astype(np.float64), want.view(np.float32)
        wrong = ~(np.abs(g - w) <= allowed * np.spacing(np.abs(w)).astype(np.float64)) & (got != want)
    if not wrong.any():
        return ""
    row, word = (int(i) for i in np.argwhere(wrong)[0])
    return (
        f"row {row}, word {word}: {got[row, word]:#010x}, expected {want[row, word]:#010x}; {wrong.sum()} words differ"
    )


def _differ(got: Any, want: Any, infinity: int) -> Any:
    magnitude = 0x7FFF if infinity == 0x7F80 else 0x7FFFFFFF
    both_nan = ((got & magnitude) > infinity) & ((want & magnitude) > infinity)
    return (got != want) & ~both_nan
