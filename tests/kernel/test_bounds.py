"""Bounds of loops against every point: tight, and exact about where no condition needs a test."""

from __future__ import annotations

import pytest

from tests.kernel.stages import stage_of
from tpcgen.kernel.bounds import Bounds, bounds, integer
from tpcgen.kernel.presence import conjuncts
from tpcgen.program.ir import Binary, Equation, Expr, Reduce, Size
from tpcgen.program.sizes import evaluate
from tpcgen.program.substitute import substitute

# Conditions that are intervals of k at every q: their bounds must be the interval.
INTERVALS = (
    "k <= q",
    "q - W < k and k <= q",
    "k // 2 <= q",
    "k // 2 < q - W",
    "q // 8 <= k // 8",
    "k // 12 == q // 12",
    "q // 7 - 1 <= (k + 3) // 7 and (k + 3) // 7 <= q // 7",
    "3 * k <= q + W and q < 2 * k",
    "k == q - W",
    "16 * (q // 16) <= k and k < 16 * (q // 16) + 16",
    "W - k // 4 >= q",
    "k // W <= q // W",
    "min(q, W) <= k and k < max(q, W)",
    "q < W and k <= q",
    "q // 2 >= W and 2 <= k",
    "W == q and k < 5",
    "k <= q or k < W",
    "q - W < k or k >= W",
    "(k <= q or k < 3 or 2 * k < W) and k > q - W",
)
# Others: some of their conjuncts are no bounds and must be tested at every point.
TESTED = {
    "k % 3 == 0 and k <= q": 1,
    "k != q": 1,
    "k <= q * q and k >= 2": 1,
    "k <= -q % 5": 1,
    "k < 3 or k > q": 1,
    "k <= q or q == W": 1,
}
RUN = 4


def domain_of(condition: str) -> Expr:
    text = f"op c(S: f32[M, N], T: f32[W]) -> P: f32[M, N] {{ P[q,k] = softmax[k where {condition}](S[q,k] * T[0]) }}"
    (equation,) = stage_of(text, "k").program.body
    assert isinstance(equation, Equation) and isinstance(equation.value, Reduce)
    assert equation.value.domain is not None
    return equation.value.domain


def at(e: Expr, q: int, sizes: dict[str, int]) -> int:
    return int(evaluate(substitute(e, {"q": integer(q)}), sizes))


def holds(conditions: tuple[Expr, ...], q: int, k: int, sizes: dict[str, int]) -> bool:
    return all(_true(substitute(c, {"q": integer(q), "k": integer(k)}), sizes) for c in conditions)


def _true(e: Expr, sizes: dict[str, int]) -> bool:
    match e:
        case Binary(operator="or"):
            return _true(e.left, sizes) or _true(e.right, sizes)
        case Binary(operator="and"):
            return _true(e.left, sizes) and _true(e.right, sizes)
        case Binary():
            a, b = evaluate(e.left, sizes), evaluate(e.right, sizes)
            return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[e.operator]
        case _:
            raise AssertionError(e)


def found(condition: str, run: int) -> tuple[Bounds, tuple[Expr, ...]]:
    domain = domain_of(condition)
    return bounds(domain, "k", integer(0), Size("N"), {"q": run} if run > 1 else {}), conjuncts(domain)


@pytest.mark.parametrize("run", [1, RUN])
@pytest.mark.parametrize("condition", [*INTERVALS, *TESTED])
def test_no_point_is_lost_and_none_is_let_in(condition: str, run: int) -> None:
    b, conditions = found(condition, run)
    for n, w in ((1, 1), (40, 3), (37, 8)):
        sizes = {"N": n, "W": w}
        for first in range(0, 40, run):
            rows = range(first, first + run)
            begin, end, all_begin, all_end = (at(e, first, sizes) for e in (b.begin, b.end, b.all_begin, b.all_end))
            inside = {k: [holds(conditions, q, k, sizes) for q in rows] for k in range(n)}
            assert all(begin <= k < end for k, rows_in in inside.items() if any(rows_in))
            full = range(max(all_begin, 0), min(all_end, n))
            assert all(inside[k] == [holds(b.everywhere, q, k, sizes) for q in rows] for k in full)
            assert b.mask or b.everywhere


@pytest.mark.parametrize("condition", INTERVALS)
def test_intervals_are_tight(condition: str) -> None:
    b, conditions = found(condition, 1)
    assert not b.everywhere
    for n, w in ((1, 1), (40, 3), (37, 8)):
        sizes = {"N": n, "W": w}
        for q in range(40):
            points = [k for k in range(n) if holds(conditions, q, k, sizes)]
            begin, end = at(b.begin, q, sizes), at(b.end, q, sizes)
            assert list(range(begin, end)) == points


@pytest.mark.parametrize(("condition", "count"), TESTED.items())
def test_what_is_no_bound_is_tested_everywhere(condition: str, count: int) -> None:
    assert len(found(condition, RUN)[0].everywhere) == count
