"""Derives the coefficients of tpcgen/kernel/functions.py: minimax fits by linearised least squares on Chebyshev nodes,
reweighted towards the largest error (Lawson). Prints coefficients and the largest relative error of the fit itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from mpmath import erf, erfc, mp, mpf

mp.dps = 40


def nodes(low: float, high: float, count: int = 2000) -> np.ndarray:
    k = np.arange(count)
    return (low + high) / 2 + (high - low) / 2 * np.cos(math.pi * (k + 0.5) / count)


def rational(x: np.ndarray, y: np.ndarray, p: int, q: int, fixed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients (ascending) of P/Q ~ y in relative error, Q(0) = 1. `fixed`: P(0) = y(0) = 1 when set."""
    scale = np.max(np.abs(x))
    u = x / scale
    lawson = np.ones_like(x)
    den = np.ones_like(x)
    best = (np.zeros(1), np.ones(1), math.inf)
    for _ in range(60):
        rows = [u**i for i in range(fixed, p + 1)] + [-y * u**i for i in range(1, q + 1)]
        weight = np.sqrt(lawson) / np.abs(y * den)
        a = np.stack(rows, 1) * weight[:, None]
        target = (y - (1.0 if fixed else 0.0)) * weight
        c, *_ = np.linalg.lstsq(a, target, rcond=None)
        num_c = np.concatenate([np.ones(fixed), c[: p + 1 - fixed]])
        den_c = np.concatenate([[1.0], c[p + 1 - fixed :]])
        num = np.polyval(num_c[::-1], u)
        den = np.polyval(den_c[::-1], u)
        error = np.abs(num / den / y - 1)
        worst = float(error.max())
        if worst < best[2]:
            best = (num_c / scale ** np.arange(p + 1), den_c / scale ** np.arange(q + 1), worst)
        lawson = lawson * (error / worst + 1e-3)
        lawson /= lawson.mean()
    return best


def show(name: str, fit: tuple[np.ndarray, np.ndarray, float]) -> None:
    p, q, worst = fit
    print(f"{name}: relative error {worst:.2e}")
    print("  P", ", ".join(f"{c:.10g}" for c in p))
    if len(q) > 1:
        print("  Q", ", ".join(f"{c:.10g}" for c in q))


def exact(f: Callable[[mpf], mpf], x: np.ndarray) -> np.ndarray:
    return np.array([float(f(mpf(float(v)))) for v in x])


def main() -> None:
    f = nodes(-0.5, 0.5)
    for degree in (3, 4, 5, 6):
        show(f"2^f degree {degree}", rational(f, np.exp2(f), degree, 0))
    show("2^f degree 6, 1 at 0", rational(f, np.exp2(f), 6, 0, fixed=1))
    g = nodes(math.sqrt(0.5) - 1, math.sqrt(2) - 1, 600)
    g = g[np.abs(g) > 1e-3]
    show("(log1p(g) - g + g^2/2) / g^3", rational(g, exact(lambda v: (mp.log1p(v) - v + v * v / 2) / v**3, g), 8, 0))
    t = nodes(1e-8, 0.4, 600)
    show("(tanh(x)/x - 1)/x^2", rational(t, exact(lambda v: (mp.tanh(mp.sqrt(v)) / mp.sqrt(v) - 1) / v, t), 5, 0))
    v = nodes(-0.5, 0.5, 600)
    v = v[np.abs(v) > 1e-4]
    show("(expm1(x)/x - 1)/x", rational(v, exact(lambda a: (mp.expm1(a) / a - 1) / a, v), 5, 0))
    r = v[np.abs(v) < math.log(2) / 2]
    show("the same, |x| <= ln2 / 2", rational(r, exact(lambda a: (mp.expm1(a) / a - 1) / a, r), 3, 0))
    z = nodes(0.0, 10.0, 800)
    s = 1 / (1 + 0.5 * z)
    e = exact(lambda a: mp.exp(a * a) * erfc(a) * (1 + a / 2), z)
    for p in (8, 9, 10, 11):
        show(f"erfcx(z) (1 + z/2) in 1/(1+z/2), {p}", rational(s, e, p, 0))
    w = nodes(1e-8, 1.0, 600)
    show("erf(x)/x in x^2, |x| <= 1", rational(w, exact(lambda a: erf(mp.sqrt(a)) / mp.sqrt(a), w), 6, 0))


if __name__ == "__main__":
    main()
