"""`tune --balance`: ranges from contracts, the fastest value, what GFormer's rule would take, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.machine import MACHINES
from tpcgen.partition.balance import _busiest, _pieces, attribute_range, balance, mac_rate
from tpcgen.partition.choose import choose, choose_among, space
from tpcgen.partition.estimate import estimate
from tpcgen.partition.price import StagePrice, price
from tpcgen.program import load_text, sizes
from tpcgen.program.dtypes import DType

ROOT = Path(__file__).parents[2]

PIECES = """
op pieces(Q: bf16[H, N, D], K: bf16[H, N, D], V: bf16[H, N, D], Hs: int, W: int = 8) -> O: bf16[H, N, D]
    where 0 <= Hs <= H
{
    S[h,q,k] = sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[k](S[h,q,k])
    A[h,q,d]: bf16 = sum[k](P[h,q,k] * V[h,k,d])
    T[h,d,c]: bf16 = sum[k](K[h,k,d] * V[h,k,c])
    C[h,q,c]: bf16 = sum[d](Q[h,q,d] * T[h,d,c])
    O[h,q,d] = A[h,q,d] where h < Hs
    O[h,q,d] = C[h,q,d] where h >= Hs
    schedule { sums d whole; }
}
"""
APART = """
op apart(Q: bf16[H, N, D], K: bf16[H, N, D], V: bf16[H, N, D], Hs: int) -> O: bf16[H, N, D]
    where 0 <= Hs <= H
{
    A[h,q,d]: bf16 = softmax[d](Q[h,q,d]) + softmax[d](K[h,q,d]) + softmax[d](V[h,q,d])
    L[h,q,k]: bf16 = sum[d](Q[h,q,d] * K[h,k,d])
    C[h,q,d]: bf16 = sum[k](L[h,q,k] * V[h,k,d])
    O[h,q,d] = A[h,q,d] where h < Hs
    O[h,q,d] = C[h,q,d] where h >= Hs
    schedule { sums k whole; }
}
"""
SIZES = {"H": 5, "N": 296, "D": 64}


def program_of(text):
    module = load_text(text)
    return module.program(module.ops[0])


@pytest.mark.parametrize(
    ("contract", "expected"),
    [
        ("0 <= Hs <= H", (0, 5)),
        ("Hs >= 1, Hs < H", (1, 4)),
        ("Hs > -3 and 2 * Hs <= N", (-2, 148)),
        ("D * Hs < N, Hs + H >= 4", (-1, 4)),
        ("Hs <= W, W - Hs <= 11", (-3, 8)),
        ("Hs == H - 2", (3, 3)),
        ("0 <= Hs, Hs % 2 == 0, Hs * Hs < 9, Hs <= H", (0, 5)),
    ],
)
def test_the_range_is_what_the_contracts_leave(contract, expected):
    program = program_of(
        PIECES.replace("0 <= Hs <= H", contract).replace("h < Hs", "h < 0").replace("h >= Hs", "h >= 0")
    )
    assert attribute_range(program, SIZES, "Hs") == expected


def test_a_given_range_is_cut_to_the_contracts():
    program = program_of(PIECES)
    assert attribute_range(program, SIZES, "Hs", (-4, 3)) == (0, 3)
    assert attribute_range(program, SIZES, "W", (1, 64)) == (1, 64)


@pytest.mark.parametrize(
    ("attribute", "limits", "id", "words", "marked"),
    [
        ("Ws", None, "E540", "no int attribute Ws", None),
        ("H", None, "E540", "no int attribute H", None),
        ("W", None, "E541", "what the least value of W is", "W: int = 8"),
        ("Hs", (6, 9), "E541", "no value of Hs keeps the contracts", "Hs: int"),
    ],
)
def test_errors_say_what_is_missing_and_where(attribute, limits, id, words, marked):
    with pytest.raises(DiagnosticError) as raised:
        balance(program_of(PIECES), MACHINES["gaudi"], SIZES, attribute, limits, cost=estimate)
    (found,) = raised.value.diagnostics
    assert found.id == id
    assert words in found.message
    assert found.hint or id == "E541"
    if marked is not None:
        assert PIECES.split("\n")[found.span.line - 1][found.span.column - 1 :].startswith(marked)


def test_every_value_of_a_short_range_is_tried_and_the_fastest_named():
    program = program_of(PIECES)
    found = balance(program, MACHINES["gaudi"], SIZES, "Hs", cost=estimate)
    assert [p.value for p in found.points] == [0, 1, 2, 3, 4, 5]
    assert found.bound is None
    assert found.loss == 1
    for point in found.points:
        choice = choose(program, "gaudi", sizes.bind(program, {**SIZES, "Hs": point.value}), cost=estimate)
        assert point.seconds == choice.price.seconds, point
        assert point.label == choice.plan.label
        assert (point.mme, point.tpc) == (choice.price.busy.get("MME", 0), choice.price.busy.get("TPC", 0))
    assert found.best.seconds == min(p.seconds for p in found.points)


def test_values_that_break_a_contract_are_left_out():
    program = program_of(PIECES.replace("0 <= Hs <= H", "0 <= Hs <= H, Hs % 2 == 1"))
    found = balance(program, MACHINES["gaudi2"], SIZES, "Hs", cost=estimate)
    assert [p.value for p in found.points] == [1, 3, 5]


def test_the_rule_of_gformer_is_about_the_first_piece_alone_on_the_tpcs():
    found = balance(program_of(PIECES), MACHINES["gaudi"], SIZES, "Hs", cost=estimate)
    first, second = ([p.rule[side] for p in found.points] for side in (0, 1))
    assert first[0] == 0 == second[-1]
    assert first == sorted(first)
    for point, time in list(zip(found.points, first, strict=True))[1:]:
        macs = point.value * 296 * 296 * 64 * 2
        assert time > macs / (8 * 1.8e9 * 128)
    rule = found.gformer
    assert rule is not None
    assert all(abs(rule.rule[0] - rule.rule[1]) <= abs(a - b) for a, b in zip(first, second, strict=True))


def test_the_first_piece_takes_its_own_stages_and_macs_the_second_its_matmuls():
    program = program_of(PIECES)
    (plan, *_) = space(program, MACHINES["gaudi"]).plans
    binding = sizes.bind(program, {**SIZES, "Hs": 2})
    cost = price(plan, MACHINES["gaudi"], binding, estimate)
    seconds = {s.name: s.seconds for s in cost.stages}
    macs = 2 * 296 * 296 * 64 * 2
    on_tpc, on_mme = _pieces(plan, cost, 1e12)
    assert on_tpc == pytest.approx(seconds["softmax"] + macs / 1e12)
    assert on_mme == pytest.approx(seconds["t_2"] + seconds["c_2"])
    assert mac_rate(MACHINES["gaudi"], DType.BF16) == 8 * 1.8e9 * 128


def test_a_long_range_is_searched_with_a_bound_that_holds():
    program = program_of(APART)
    bound = {"H": 150, "N": 1000, "D": 64}
    found = balance(program, MACHINES["gaudi"], bound, "Hs", cost=estimate)
    assert (found.low, found.high) == (0, 150)
    assert {0, 150} <= {p.value for p in found.points}
    assert len(found.points) <= 41
    everything = space(program, MACHINES["gaudi"])
    times = [
        choose_among(everything, sizes.bind(program, {**bound, "Hs": hs}), cost=estimate).price.seconds
        for hs in range(151)
    ]
    assert 20 < found.best.value < 130  # neither engine alone
    assert found.bound is not None
    assert found.bound <= min(times) <= found.best.seconds
    assert found.best.seconds <= found.loss * min(times) * (1 + 1e-9)
    tried = {p.value: p.seconds for p in found.points}
    values = sorted(tried)
    for low, high in pairwise(values):  # what the bound stands on, at every stretch that was left alone
        inside = times[low + 1 : high]
        assert not inside or min(inside) >= found.bound


def test_the_bound_takes_each_stage_at_its_better_end():
    def stages(*seconds):
        return [StagePrice("s", e, "", t, "", 0, 0, "") for e, t in zip(("MME", "TPC", "MME"), seconds, strict=True)]

    assert _busiest(stages(3, 4, 1), stages(2, 9, 4)) == 4
    assert _busiest(stages(3, 4, 3), stages(2, 1, 4)) == 5
    assert _busiest([], []) == 0


def run(*arguments):
    command = [sys.executable, "-m", "tpcgen.cli", "tune", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


def test_the_command(tmp_path):
    spec = tmp_path / "pieces.dsl"
    spec.write_text(PIECES)
    done = run(spec, "--balance", "Hs", "--bind", "H=3,N=65,D=64", "--target", "gaudi", "--json")
    assert done.returncode == 0, done.stderr
    (data,) = json.loads(done.stdout)["balances"]
    assert (data["attribute"], data["range"], data["device"]) == ("Hs", [0, 3], "gaudi")
    assert [p["value"] for p in data["points"]] == [0, 1, 2, 3]
    best = min(data["points"], key=lambda p: p["seconds"])
    assert data["best"] == best["value"]
    text = run(spec, "--balance", "Hs=1..2", "--bind", "H=3,N=65,D=64", "--target", "gaudi")
    assert text.returncode == 0, text.stderr
    assert "pieces bf16 on gaudi at H=3 N=65 D=64: Hs from 1 to 2" in text.stdout
    assert "fastest: Hs = " in text.stdout
    assert "GFormer's rule" in text.stdout
    assert "2 of 2 values" in text.stdout


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (("--balance", "Hx"), "E540"),
        (("--balance", "W"), "E541"),
        (("--balance", "Hs=3..1"), "E521"),
        (("--balance", "Hs=a..b"), "E521"),
        (("--balance", "Hs=3"), "E521"),
        (("--balance", "Hs", "--target", "gaudi9"), "E528"),
        (("--balance", "Hs", "--bind", "H=3"), "E311"),
        (("--balance", "Hs", "--bind", "Z=3"), "E526"),
    ],
)
def test_bad_input_is_an_error_of_the_user(arguments, id, tmp_path):
    spec = tmp_path / "pieces.dsl"
    spec.write_text(PIECES)
    bind = () if "--bind" in arguments else ("--bind", "H=3,N=65,D=64")
    done = run(spec, *arguments, *bind)
    assert done.returncode == 2, done.stdout
    assert f"[{id}]" in done.stderr
    assert "Traceback" not in done.stderr
