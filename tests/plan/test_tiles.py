"""Tiles of a domain against every point of it."""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.program import ir, load_text
from tpcgen.report.tiles import TILE, NotDrawableError, tiles

SPEC = """
op f(x: f32[M, N]%s) -> y: f32[M, N]
{
    y[q,k] = softmax[k where %s](x[q,k])
}
"""


def reduction(domain, more=""):
    program = load_text(SPEC % (more, domain)).program("f")
    (equation,) = program.body
    return program, equation.value


@pytest.mark.parametrize("rows", [1, 127, 128, 300])
@pytest.mark.parametrize("columns", [1, 129, 513])
@pytest.mark.parametrize(
    "domain",
    [
        "k <= q",
        "q - W < k <= q",
        "k > q + N",
        "abs(q - k) < W or k < 3",
        "not k == q",
        "(q - k) % 7 == 0",
        "k // 100 == q // 100",
        "2 * k - q >= -W and min(q, k) < 200",
        "k != q and k * 2 < W * 4",
    ],
)
def test_classes_are_those_of_the_points(domain, rows, columns):
    program, reduce = reduction(domain, ", W: int = 130")
    found = tiles(program, reduce, {"M": rows, "N": columns, "W": 130})
    q, k = np.indices((rows, columns))
    W, N = 130, columns
    python = domain.replace("q - W < k <= q", "(q - W < k) and (k <= q)").replace("min(q, k)", "np.minimum(q, k)")
    for word, sign in ((" and ", ") & ("), (" or ", ") | ("), ("not ", "~(")):
        python = python.replace(word, sign)
    python = python.replace("~(k == q", "~(k == q)") if python.startswith("~") else python
    inside = eval(f"({python})", {"np": np, "abs": abs, "q": q, "k": k, "W": W, "N": N})
    assert found.points == int(inside.sum())
    for r, c in np.ndindex(*found.classes.shape):
        part = inside[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE]
        assert found.classes[r, c] == (2 if part.all() else (1 if part.any() else 0)), (r, c)
    assert found.full + found.partial + found.empty == found.classes.size
    assert len(found.picture()) == found.classes.shape[0]


def test_a_long_band_is_counted_without_its_square():
    program, reduce = reduction("q - W < k <= q", ", W: int = 1024")
    n = 65536
    found = tiles(program, reduce, {"M": n, "N": n, "W": 1024})
    assert found.points == n * 1024 - 1024 * 1023 // 2
    assert found.partial == 2 * (n // TILE) - 8
    assert found.full == 7 * (n // TILE) - sum(range(1, 8))


def test_what_cannot_be_drawn_says_why():
    program, reduce = reduction("k < len[q]", ", len: i32[M]")
    with pytest.raises(NotDrawableError, match="reads tensors"):
        tiles(program, reduce, {"M": 4, "N": 4})
    program, reduce = reduction("k < 5")
    with pytest.raises(NotDrawableError, match="one index alone"):
        tiles(program, reduce, {"M": 4, "N": 4})
    (equation,) = load_text(SPEC.replace(" where %s", "") % "").program("f").body
    assert isinstance(equation.value, ir.Reduce)
    with pytest.raises(NotDrawableError, match="no domain"):
        tiles(program, equation.value, {})
