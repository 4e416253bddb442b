"""Coordinates that move with a loop are at the place of every access when it comes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.kernel.examples import SPECS, every_kernel, kernels_of
from tpcgen.kernel import coordinates
from tpcgen.kernel.bounds import integer
from tpcgen.kernel.ir import Kernel, Load, Loop, ScalarLet, Statement, Store, walk
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import load_text
from tpcgen.program.ir import Expr, free_indices
from tpcgen.program.sizes import evaluate

KERNELS = [k for op in SPECS for dtype in ("f32", "bf16") for _, k in every_kernel(op, dtype, "gaudi2")]
LOOPS = [(k, s) for k in KERNELS for s in walk(k.body) if isinstance(s, Loop)]
REVERSE = """op f(X: f32[N, D]) -> O: f32[N, D] {
    scan t in 0 .. N reverse { state S[d]: f32 = 0  S[d] := 0.5 * S[d] + X[t,d]  O[t,d] = S[d] }
}"""
BACKWARDS = [
    (k, s)
    for p in enumerate_plans(load_text(REVERSE).program("f"), "gaudi2")
    for _, k in kernels_of(p, "f32")
    for s in walk(k.body)
    if isinstance(s, Loop) and coordinates.plan(k, s).uses
]


class _Values(dict[str, int]):
    """A number for every name, the same each time."""

    def __missing__(self, name: str) -> int:
        return 3 + sum(map(ord, name)) % 89


def at(coords: tuple[Expr, ...], values: _Values) -> list[int]:
    return [int(evaluate(c, values)) for c in coords]


def places(kernel: Kernel, body: tuple[Statement, ...]) -> list[coordinates.Coords]:
    return [c for s in body for c in coordinates.accesses(kernel, s)]


def test_hot_loops_build_no_coordinates() -> None:
    """All vector accesses of loops without loops inside are carried."""
    for kernel, loop in LOOPS:
        if any(isinstance(s, Loop) for s in loop.body) or not any(isinstance(s, Load | Store) for s in loop.body):
            continue
        assert len(coordinates.plan(kernel, loop).uses) == len(places(kernel, loop.body))


EXACT = [(k, s) for k, s in LOOPS if s.exact]


@given(st.integers(0, len(EXACT) - 1), st.integers(0, 4), st.integers(0, 50))
def test_variables_are_behind_an_exact_loop_where_the_next_pass_would_start(which: int, trips: int, first: int) -> None:
    kernel, loop = EXACT[which]
    values = _Values()
    ends = replace(loop, low=integer(first), high=integer(first + trips * loop.step))
    for m in coordinates.plan(kernel, ends).moving:
        moved = at(m.start, values)
        for steps in m.advances.values():
            for dim, by in steps:
                moved[dim] += by * trips
        assert at(coordinates.behind(ends, m), values) == moved
    for start in coordinates.continuing(kernel, loop):
        assert not any(isinstance(s, ScalarLet) and s.name in free_indices(c) for s in loop.body for c in start)


def test_only_loops_that_end_at_their_bounds_are_exact() -> None:
    assert EXACT
    for kernel, loop in EXACT:
        for sizes in range(0, 600, 37):
            values = _Values(dict.fromkeys((s.name for s in kernel.scalars), sizes))
            for s in walk(kernel.body):
                if isinstance(s, ScalarLet):
                    values[s.name] = int(evaluate(s.value, values))
            low, high = (int(evaluate(e, values)) for e in (loop.low, loop.high))
            assert high >= low and (high - low) % loop.step == 0


@given(st.integers(0, len(LOOPS) - 1), st.integers(1, 4), st.integers(0, 50))
def test_every_access_is_where_its_coordinates_say(which: int, trips: int, first: int) -> None:
    _check(*LOOPS[which], trips, first)


@given(st.integers(0, len(BACKWARDS) - 1), st.integers(1, 4))
def test_so_it_is_where_steps_go_backwards(which: int, trips: int) -> None:
    _check(*BACKWARDS[which], trips, 0)


def _check(kernel: Kernel, loop: Loop, trips: int, first: int) -> None:
    plan = coordinates.plan(kernel, loop)
    values = _Values(dict.fromkeys(("k", "q"), first))
    low = int(evaluate(loop.low, values))
    variables = [at(m.start, values) for m in plan.moving]
    for trip in range(trips):
        inside = _Values({**values, loop.var: low + trip * loop.step})
        for number, coords in enumerate(places(kernel, loop.body)):
            used = plan.uses.get(number)
            if used is None:
                continue
            assert variables[used] == at(coords, inside)
            for dim, by in plan.moving[used].advances.get(number, ()):
                variables[used][dim] += by
