"""Inputs drawn for a check satisfy every contract, whatever its kind; families differ where they can."""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.interpreter import InterpreterError, run
from tpcgen.interpreter.inputs import draw, families

CONTRACTS = {
    "offsets": (
        "x: f32[T], cu: i32[C]",
        "cu[c] <= cu[c + 1], cu[0] == 0, cu[C - 1] == T",
        {"T": 9, "C": 4},
        lambda v: (np.diff(v["cu"]) >= 0).all() and v["cu"][0] == 0 and v["cu"][-1] == 9,
    ),
    "falling": (
        "x: f32[T], n: i32[C]",
        "n[c] > n[c + 1], n[c] < T",
        {"T": 9, "C": 4},
        lambda v: (np.diff(v["n"]) < 0).all() and (v["n"] < 9).all(),
    ),
    "gate": ("x: f32[T]", "0 < x[t] <= 1", {"T": 65}, lambda v: ((v["x"] > 0) & (v["x"] <= 1)).all()),
    "not zero": ("x: f32[T]", "x[t] != 0", {"T": 65}, lambda v: (v["x"] != 0).all()),
    "spans": (
        "x: f32[T], start: i32[B], len: i32[B]",
        "0 <= start[b], start[b] + len[b] <= T, len[b] > 0",
        {"T": 9, "B": 7},
        lambda v: ((v["start"] >= 0) & (v["len"] > 0) & (v["start"] + v["len"] <= 9)).all(),
    ),
    "one after the other": (
        "x: f32[T], y: f32[T]",
        "x[t] <= y[t], y[t] < 4",
        {"T": 65},
        lambda v: ((v["x"] <= v["y"]) & (v["y"] < 4)).all(),
    ),
    "either": (
        "x: f32[T], n: i32[T]",
        "n[t] < 0 or 3 <= n[t] < 5",
        {"T": 9},
        lambda v: ((v["n"] < 0) | ((v["n"] >= 3) & (v["n"] < 5))).all(),
    ),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_drawn_inputs_satisfy_the_contracts(load, name):
    parameters, contract, values, holds = CONTRACTS[name]
    program = load(f"op f({parameters}) -> o: f32[T] where {contract} {{ o[t] = x[t] where t > 0 }}")
    drawn = []
    for family in families(program):
        inputs = draw(program, values, np.random.default_rng(5), family)
        assert holds(inputs), (family, inputs)
        run(program, inputs, {}, check_values=True)
        drawn.append(inputs["x"])
    assert any((drawn[0] != other).any() for other in drawn[1:])


def test_wide_inputs_spread_scores_over_tens(load):
    program = load("op f(Q: bf16[M, D], K: bf16[N, D]) -> S: f32[M, N] { S[q,k] = rsqrt(D) * sum[d](Q[q,d] * K[k,d]) }")
    inputs = draw(program, {"M": 64, "N": 64, "D": 64}, np.random.default_rng(1), "wide")
    scores = run(program, inputs, {})["S"]
    assert 20 < np.abs(scores).max() < 80 and 5 < scores.std() < 15


def test_the_same_seed_draws_the_same(load):
    program = load("op f(x: f32[T], n: i32[T]) -> o: f32[T] where n[t] < T { o[t] = x[t] * n[t] }")
    one, two = (draw(program, {"T": 33}, np.random.default_rng(7)) for _ in range(2))
    assert all((one[name] == two[name]).all() for name in one)


def test_a_contract_that_no_drawing_meets_is_an_error_that_shows_it(load):
    text = "op f(x: f32[T]) -> o: f32[T] where sum[t](x[t]) == 0.125 { o[t] = x[t] }"
    with pytest.raises(InterpreterError) as caught:
        draw(load(text), {"T": 5}, np.random.default_rng(0))
    (found,) = caught.value.diagnostics
    assert found.id == "E356"
    assert text[found.span.column - 1 : found.span.end_column - 1] == "sum[t](x[t]) == 0.125"
