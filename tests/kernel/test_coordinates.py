"""Coordinates that move with a loop are at the place of every access when it comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.kernel.examples import SPECS, every_kernel
from tpcgen.kernel import coordinates
from tpcgen.kernel.ir import Kernel, Load, Loop, Statement, Store, walk
from tpcgen.program.ir import Expr
from tpcgen.program.sizes import evaluate

KERNELS = [k for op in SPECS for dtype in ("f32", "bf16") for _, k in every_kernel(op, dtype, "gaudi2")]
LOOPS = [(k, s) for k in KERNELS for s in walk(k.body) if isinstance(s, Loop)]


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


@given(st.integers(0, len(LOOPS) - 1), st.integers(1, 4), st.integers(0, 50))
def test_every_access_is_where_its_coordinates_say(which: int, trips: int, first: int) -> None:
    kernel, loop = LOOPS[which]
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
