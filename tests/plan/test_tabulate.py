"""What tables and remainders pick is looked up once where fewer indices decide it than the reader has."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plan.test_band import inputs_of
from tests.std.library import VARIANTS
from tpcgen.interpreter import run
from tpcgen.program import ir, load_text
from tpcgen.program import print as text
from tpcgen.rewrite.copies import Repeated, copy_of
from tpcgen.rewrite.tabulate import tabulate

HEAD = "op f(x: f32[B, N, D], c: f32[R, F], t: i32[R], w: f32[B, N, N]) -> O: f32[B, N, D]\n    where F >= 1"
INDICES = "index n in 0 .. N\n    index m in 0 .. N\n    index d in 0 .. D"


def made_of(value: str, contracts: str) -> tuple[ir.Program, ir.Program]:
    spec = f"{HEAD}{contracts}\n{{\n    {INDICES}\n    O[b,n,d] = {value}\n}}\n"
    program = load_text(spec).program("f")
    return program, tabulate(program)


def tables(program: ir.Program) -> list[str]:
    return [e.target for e in program.body if isinstance(e, ir.Equation) and e.target.endswith("_at")]


CASES = {
    "a table of a table": ("x[b,n,d] * c[t[n], d]", ", N <= R, D <= F, 0 <= t[r] < R", 1),
    "at a sum of indices": ("x[b,n,d] * c[t[n + d], 0]", ", N + D <= R + 1, 0 <= t[r] < R", 1),
    "a quotient": ("x[b,n,d] * c[n, d // 2]", ", N <= R, D <= 2 * F", 1),
    "two halves": ("x[b,n,d] * c[n, d % F]", ", N <= R, D <= 2 * F", 1),
    "a remainder": ("x[b,n,d] * c[n, d % F]", ", N <= R", 1),
    "in a sum": ("sum[m](w[b,n,m] * c[t[m], d] * x[b,m,d])", ", N <= R, D <= F, 0 <= t[r] < R", 1),
    "twice the same": ("x[b,n,d] * c[n, d % F] + c[n, d % F]", ", N <= R", 1),
    "two places of one axis": ("x[b,n,d] * c[n, d % F] + c[n + 1, d % F]", ", N < R", 1),
    "in a condition": ("x[b,n,d] where t[t[n]] <= n + N + 1", ", N <= R, 0 <= t[r] < R", 1),
    "a quotient in a condition": ("x[b,n,d] where c[n, d // 2] < 9", ", N <= R, D <= 2 * F", 0),
    "every index decides": ("x[b,n,d] * w[b, n, (n + d) // 2]", ", D <= N", 0),
    "no lane is divided": ("x[b,n,d] * c[n // 2, d]", ", N <= R, D <= F", 0),
    "the batch decides too": ("x[b,n,d] * c[t[n + b], d]", ", N + B <= R + 1, D <= F, 0 <= t[r] < R", 1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_same_values(name, n):
    value, contracts, count = CASES[name]
    program, made = made_of(value, contracts)
    assert len(dict.fromkeys(tables(made))) == count
    assert load_text(text.program(made)).program("f") == made
    values = {"B": 2, "N": n, "D": n, "R": 2 * n + 2, "F": (n + 1) // 2 if "D <= F" not in contracts else n}
    inputs = inputs_of(program, values)
    inputs["t"] = np.random.default_rng(n).integers(0, values["R"], values["R"], np.int32)
    before, after = (run(p, inputs, {})["O"] for p in (program, made))
    assert np.any(before)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", ["two halves", "a quotient"])
def test_torch_copies_halves_and_repeats(name):
    value, contracts, _ = CASES[name]
    _, made = made_of(value, contracts)
    equations = [e for e in made.body if isinstance(e, ir.Equation) and e.target == "c_at"]
    assert len(equations) == (2 if name == "two halves" else 1)
    copy = copy_of(equations, made)
    assert copy is not None
    assert (name == "a quotient") == any(isinstance(a, Repeated) for p in copy.pieces for a in p.axes)


def test_a_remainder_of_more_rounds_is_no_copy():
    _, made = made_of("x[b,n,d] * c[n, d % F]", ", N <= R, D <= 3 * F")
    assert tables(made) == ["c_at"]


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [("rope", ["c_at", "c_at", "s_at", "s_at"]), ("rope_pairs", ["c_at", "s_at"]), ("t5_bias", ["table_at"])],
)
def test_variants_look_up_once(variant, wanted):
    """Queries and keys share the tables of their positions."""
    assert tables(tabulate(VARIANTS[variant].program("f32"))) == wanted
