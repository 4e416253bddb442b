"""Pieces of a tensor computed apart: the same outputs before and after, each point visited once, readable as text."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tpcgen.interpreter import InterpreterError, run
from tpcgen.interpreter.inputs import draw, families
from tpcgen.machine import MACHINES
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.estimate import estimate
from tpcgen.partition.plan import CopyStage
from tpcgen.partition.price import price, waits
from tpcgen.program import ir, load_text, sizes
from tpcgen.program import print as program_text
from tpcgen.program.verify import verify
from tpcgen.rewrite import split_pieces as own
from tpcgen.rewrite.copies import copy_of
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.split_pieces import split_pieces

GFORMER = """
op gformer(Q: bf16[B, H, N, D], K: bf16[B, G, N, D], V: bf16[B, G, N, E], snk: f32[H], Hs: int, W: int = 5)
    -> O: bf16[B, H, N, E]
    where 0 <= Hs <= H, H % G == 0
{
    let R = H // G
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h // R,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q sink snk[h]](S[b,h,q,k])
    A[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h // R,k,e])
    L[b,h,q,k] = sum[d](relu(Q[b,h,q,d]) * relu(K[b,h // R,k,d])) where k <= q
    C[b,h,q,e] = sum[k](L[b,h,q,k] * V[b,h // R,k,e]) / (sum[k](L[b,h,q,k]) + 1)
    O[b,h,q,e] = A[b,h,q,e] where h < Hs
    O[b,h,q,e] = C[b,h,q,e] where h >= Hs
}
"""

SHARED = """
op shared(Q: f32[H, N, D], K: f32[N, D], V: f32[N, E], Hs: int, Ht: int) -> O: f32[H, N, E], L: f32[H, N]
    where 0 <= Hs <= Ht <= H
{
    F[k,d] = tanh(K[k,d])
    S[h,q,k] = sum[d](Q[h,q,d] * F[k,d])
    P[h,q,k] = softmax[k where k <= q](S[h,q,k])
    O[h,q,e] = sum[k](S[h,q,k] * V[k,e]) where not (h < Ht) and q > 1
    O[h,q,e] = sum[k](P[h,q,k] * V[k,e]) where h < Hs
    O[h,q,e] = V[q,e] where Hs <= h < Ht
    L[h,q] = logsumexp[k where k <= q](S[h,q,k]) where h < Hs
    L[i,q] = sum[k](S[i,q,k]) where i >= Hs and i < Ht
    L[h,q] = 1.0 where h >= Ht
}
"""

ROWS = """
op rows(Q: f32[H, N, D], K: f32[H, N, D], T: int) -> O: f32[H, N, D]
    where 0 <= T <= N
{
    S[h,q,k] = sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[k where k <= q](S[h,q,k])
    M[h,q] = max[k](S[h,q,k])
    Z[h,q] = M[h,q] * sum[i in_use](M[h,i])
    O[h,q,d] = sum[k](P[h,q,k] * K[h,k,d]) where q < T
    O[h,q,d] = Z[h,q] * Q[h,q,d] where q >= T
}
""".replace("i in_use", "i")

NESTED = """
op nested(Q: f32[H, N, D], K: f32[H, N, D], Hs: int, T: int) -> O: f32[H, N, D]
    where 0 <= Hs <= H, 0 <= T <= N
{
    S[h,q,k] = sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[k where k <= q](S[h,q,k])
    A[h,q,d] = sum[k](P[h,q,k] * K[h,k,d]) where q < T
    A[h,q,d] = -Q[h,q,d] where q >= T
    O[h,q,d] = A[h,q,d] where h < Hs
    O[h,q,d] = A[h,q,d] + K[h,q,d] where h >= Hs
}
"""

RECURRENT = """
op recurrent(Q: f32[H, N, D], K: f32[H, N, D], V: f32[H, N, E], g: f32[H, N], Hs: int) -> O: f32[H, N, E]
    where 0 <= Hs <= H, 0 < g[h,t] <= 1
{
    X[h,t,e] = tanh(V[h,t,e])
    scan t in 0 .. N {
        state S[h,d,e]: f32 = X[h,0,e] * K[h,0,d]
        U[h,d] = 2 * K[h,t,d]
        S[h,d,e] := g[h,t] * S[h,d,e] + U[h,d] * X[h,t,e]
        C[h,t,e] = sum[d](Q[h,t,d] * S[h,d,e])
    }
    P[h,q,k] = softmax[k where k <= q](sum[d](Q[h,q,d] * K[h,k,d]))
    O[h,q,e] = C[h,q,e] where h < Hs
    O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e]) where h >= Hs
}
"""

TIED = """
op tied(Q: f32[H, N, D], K: f32[H, N, D], V: f32[H, N, E], g: f32[H, N], Hs: int)
    -> O: bf16[H, N, E], M: f32[H, N], L: f32[H, N, E]
    where 0 <= Hs <= H, 0 < g[h,t] <= 1
{
    S[h,q,k] = sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[h](S[h,q,k])
    M[h,q] = max[k](S[h,q,k])
    A[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
    scan t in 0 .. N {
        state T[h,d]: f32 = 0
        U[h,d] = 2 * K[h,t,d]
        T[h,d] := g[h,t] * T[h,d] + U[H - 1 - h,d]
        C[h,t,e] = sum[d](T[h,d]) * V[h,t,e]
    }
    scan u in 0 .. N {
        state X[h,e]: f32 = 0
        X[h,e] := g[h,u] * X[h,e] + sum[h](V[h,u,e])
        Y[h,u,e] = X[h,e]
    }
    O[h,q,e] = A[h,q,e] where h < Hs
    O[h,q,e] = C[h,q,e] + Y[h,q,e] + M[h,q] where h >= Hs
    L[h,q,e] = A[h,q,e] + 1 where h < Hs
    L[h,q,e] = Y[h,q,e] where h >= Hs
}
"""

SIZES = {"B": 2, "H": 6, "G": 3, "N": 7, "D": 3, "E": 2}
CUTS = [
    (GFORMER, [{"Hs": hs, "W": w} for hs in range(7) for w in (1, 5)]),
    (SHARED, [{"Hs": a, "Ht": b} for a in range(0, 7, 2) for b in range(a, 7, 3)]),
    (ROWS, [{"T": t} for t in (0, 1, 4, 7)]),
    (NESTED, [{"Hs": a, "T": b} for a in (0, 2, 6) for b in (0, 3, 7)]),
    (RECURRENT, [{"Hs": a} for a in (0, 1, 6)]),
    (TIED, [{"Hs": a} for a in (0, 1, 6)]),
]
NAMES = ["gformer", "shared", "rows", "nested", "recurrent", "tied"]


def program_of(text):
    module = load_text(text)
    return module.program(module.ops[0])


def cut(program):
    result = split_pieces(program)
    assert isinstance(result, ir.Program), result
    return verify(result)


def own_values(program, values):
    names = {*program.sizes, *(a.name for a in program.attributes)}
    return {k: v for k, v in (SIZES | values).items() if k in names}


def assert_same(before, after, values, family="normal", mode="exact", tolerance=1e-12):
    bound = own_values(before, values)
    inputs = draw(before, bound, np.random.default_rng(1), family)
    attributes = {a.name: bound[a.name] for a in before.attributes}
    expected, got = (run(p, inputs, attributes, mode=mode) for p in (before, after))
    for name, value in expected.items():
        scale = max(1.0, float(np.nanmax(np.abs(value.astype(np.float64)), initial=0)))
        a, b = got[name].astype(np.float64), value.astype(np.float64)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale, err_msg=f"{name} {values} {family}")


@pytest.mark.parametrize(("text", "choices"), CUTS, ids=NAMES)
def test_the_outputs_are_the_same(text, choices):
    program = program_of(text)
    after = cut(program)
    for values in choices:
        for family in families(program):
            assert_same(program, after, values, family)
        assert_same(program, after, values, mode="device", tolerance=0)


@pytest.mark.parametrize("text", [text for text, _ in CUTS], ids=NAMES)
def test_the_result_is_text_of_the_language_and_final(text):
    after = cut(program_of(text))
    assert program_of(program_text.program(after)) == after
    again = split_pieces(after)
    assert isinstance(again, Refused)
    assert "apart already" in again.reason
    several = {e.target for e in after.body if isinstance(e, ir.Equation)}
    for target in several:
        pieces = [e for e in after.body if isinstance(e, ir.Equation) and e.target == target]
        assert len(pieces) == 1 or copy_of(pieces, after) is not None, target


def test_each_piece_has_its_own_heads_only():
    after = cut(program_of(GFORMER))
    shapes = {t.name: program_text.expression(t.shape[1]) for t in after.tensors if t.role is ir.Role.INTERMEDIATE}
    assert shapes == {"S_1": "Hs", "P_1": "Hs", "A_1": "Hs", "L_2": "H - Hs", "C_2": "H - Hs"}
    text = program_text.program(after)
    assert "sink snk[h_1]" in text
    assert "K[b, h_2 // (H // G), k, d]" not in text
    assert "K[b, (h_2 + Hs) // (H // G), k, d]" in text
    assert "O[b, h, q, e] = C_2[b, h - Hs, q, e] where h >= Hs" in text


def test_what_every_reader_divides_is_divided_and_what_one_needs_whole_is_not():
    names = {t.name for t in cut(program_of(SHARED)).tensors}
    assert {"F", "S_1", "S_2", "S_3", "P_1"} <= names
    assert not names & {"S", "P", "F_1", "P_2"}
    rows = {t.name for t in cut(program_of(ROWS)).tensors}
    assert {"M", "S", "Z_2", "P_1"} <= rows  # M is read at every row, and S by M
    assert not rows & {"M_1", "M_2", "S_1", "P", "Z"}


def test_what_ties_the_pieces_together_stays_whole():
    """A softmax along the heads, a state that reads another head, a sum over heads in a scan, an uncut reader."""
    names = {t.name for t in cut(program_of(TIED)).tensors}
    assert {"S", "P", "A_1", "T", "U", "C", "X", "Y"} <= names


def test_a_recurrence_is_divided_with_its_states():
    after = cut(program_of(RECURRENT))
    (scan,) = (s for s in after.body if isinstance(s, ir.Scan))
    assert [s.state for s in scan.states] == ["S_1"]
    assert {"X_1", "C_1", "U_1", "P_2"} <= {t.name for t in after.tensors}


def test_pins_follow_their_tensors():
    pinned = GFORMER.replace("\n}\n", "\n    schedule { place S mme; lane P q; place L mme; }\n}\n")
    program = program_of(pinned)
    words = [(p.verb, *p.words) for p in cut(program).pins]
    assert words == [("place", "S_1", "mme"), ("lane", "P_1", "q"), ("place", "L_2", "mme")]


@pytest.mark.parametrize("seed", range(40))
def test_random_divisions(seed):
    """Two to four pieces along heads or rows, each of another kind, thresholds anywhere."""
    rng = np.random.default_rng(seed)
    along = "h" if rng.random() < 0.6 else "q"
    extent = {"h": "H", "q": "N"}[along]
    count = int(rng.integers(2, 5))
    names = [f"T{i}" for i in range(1, count)]
    kinds = {
        "A[h,q,e]": "window",
        "C[h,q,e]": "linear",
        "V[h,q,e]": "an input",
        "tanh(V[h,q,e]) + A[h,q,e]": "both",
        "2 * C[h,q,e]": "scaled",
        "sum[k where k <= q](S[h,q,k] * V[h,k,e])": "in place",
    }
    lines: list[str] = []
    for i in rng.permutation(count):
        low = f"{along} >= {names[i - 1]}" if i > 0 else ""
        high = f"{along} < {names[i]}" if i < count - 1 else ""
        more = "e != q" if rng.random() < 0.3 else ""
        where = " and ".join(x for x in (low, high, more) if x)
        value = "A[h,q,e]" if not lines else rng.choice(list(kinds))  # one piece at least computes something
        lines.append(f"O[h,q,e] = {value} where {where}")
    body = "\n    ".join(lines)
    text = f"""
    op f(Q: f32[H, N, D], K: f32[H, N, D], V: f32[H, N, E], {", ".join(f"{n}: int" for n in names)}) -> O: f32[H, N, E]
        where 0 <= {" <= ".join(names)} <= {extent}
    {{
        S[h,q,k] = sum[d](Q[h,q,d] * K[h,k,d])
        P[h,q,k] = softmax[k where q - 3 < k <= q](S[h,q,k])
        A[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
        L[h,q,k] = sum[d](relu(Q[h,q,d]) * relu(K[h,k,d])) where k <= q
        C[h,q,e] = sum[k](L[h,q,k] * V[h,k,e]) / (sum[k](L[h,q,k]) + 1)
        {body}
    }}
    """
    program = program_of(text)
    after = cut(program)
    assert program_of(program_text.program(after)) == after
    for _ in range(4):
        ends = np.sort(rng.integers(0, SIZES[extent] + 1, len(names)))
        assert_same(program, after, dict(zip(names, map(int, ends), strict=True)))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_difference", lambda a, b: a),
        ("_shifted", lambda index, piece: ir.Index(index)),
        (
            "_inside",
            lambda index, piece: ir.Binary("<" if piece.number == 1 else ">", ir.Index(index), piece.thresholds[1]),
        ),
        ("_covers", lambda pieces, extent: True),
    ],
)
def test_a_wrong_place_is_seen(name, wrong, monkeypatch):
    """What the tests above are worth: pieces as long as the axis, a head that no piece has, nothing cut."""
    monkeypatch.setattr(own, name, wrong)
    with pytest.raises((AssertionError, InterpreterError)):
        test_the_outputs_are_the_same(GFORMER, [{"Hs": 2, "W": 3}])
        test_each_piece_has_its_own_heads_only()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("where 0 <= Hs <= H, ", "where "), "nothing says that 0 <= Hs"),
        (("where 0 <= Hs <= H, ", "where Hs >= 0, "), "nothing says that Hs <= H"),
        (("where h >= Hs", "where h >= Hs + 1"), "do not divide one index"),
        (("where h >= Hs", "where h >= Hs and h < H - 1"), "do not divide one index"),
        (("where h < Hs", "where q < Hs"), "do not divide one index"),
        (("where h < Hs", "where snk[h] > 0"), "do not divide one index"),
        (("    O[b,h,q,e] = A[b,h,q,e] where h < Hs\n", ""), "no tensor is defined by several"),
    ],
)
def test_refusals_say_why(change, reason):
    program = program_of(GFORMER.replace(*change))
    refused = split_pieces(program)
    assert isinstance(refused, Refused)
    assert reason in refused.reason


def test_a_reduction_along_the_divided_index_is_refused():
    text = (
        "op f(x: f32[H, N], T: int) -> y: f32[H, N] where 0 <= T <= N {\n"
        "    y[h,n] = softmax[n](x[h,n]) where n < T\n    y[h,n] = x[h,n] where n >= T\n}\n"
    )
    refused = split_pieces(program_of(text))
    assert isinstance(refused, Refused)
    assert "a reduction of y runs over n" in refused.reason


def test_pieces_that_are_maps_are_left_to_one_kernel():
    text = (
        "op f(x: f32[H, N], T: int) -> y: f32[H, N] where 0 <= T <= N {\n"
        "    y[h,n] = exp(x[h,n]) where n < T\n    y[h,n] = 2 * x[h,n] where n >= T\n}\n"
    )
    refused = split_pieces(program_of(text))
    assert isinstance(refused, Refused)
    assert "are maps" in refused.reason


def test_pieces_that_are_copies_of_inputs_are_left_as_they_are():
    text = (
        "op f(x: f32[H, N], z: f32[H, N], T: int) -> y: f32[H, N] where 0 <= T <= H {\n"
        "    y[h,n] = x[h,n] where h < T\n    y[h,n] = z[h,n] where h >= T\n}\n"
    )
    refused = split_pieces(program_of(text))
    assert isinstance(refused, Refused)
    assert "apart already" in refused.reason


@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
@pytest.mark.parametrize("hs", [0, 2, 6])
def test_plans_compute_the_pieces(hs, target, execute, random_inputs):
    program = program_of(GFORMER)
    after = cut(program)
    values = own_values(program, {"Hs": hs, "W": 3})
    inputs = random_inputs(program, values)
    expected = run(program, inputs, {"Hs": hs, "W": 3})["O"]
    for plan in enumerate_plans(after, target):
        np.testing.assert_allclose(execute(plan, inputs, values, "exact")["O"], expected, rtol=1e-11, atol=1e-12)
        joined = [s for s in plan.stages if isinstance(s, CopyStage) and s.copy.target == "O"]
        assert [len(s.copy.pieces) for s in joined] == [2]


def test_the_macs_are_those_of_the_pieces():
    """Two matmuls over N x N points per head, whichever piece it belongs to: the whole op would take twice that."""
    program = program_of(GFORMER)
    values = own_values(program, {"W": 3}) | {"N": 64}
    plan = enumerate_plans(program, "gaudi2")[0]
    per_head = values["B"] * 64 * 64 * (values["D"] + values["E"])
    for hs, idle in ((0, "a_1"), (2, ""), (6, "c_2_dot")):
        priced = price(plan, MACHINES["gaudi2"], sizes.bind(program, values | {"Hs": hs}), estimate)
        seconds = {s.name: s.seconds for s in priced.stages if s.engine == "MME"}
        assert all(seconds[name] > 0 for name in ("a_1", "c_2_dot") if name != idle)
        assert seconds.get(idle, 0) == 0
        assert priced.macs == values["H"] * per_head


def test_pieces_wait_for_nothing_of_each_other():
    plan = enumerate_plans(cut(program_of(GFORMER)), "gaudi2")[0]
    after = waits(plan)
    behind: list[set[int]] = []
    for position in range(len(plan.stages)):
        behind.append({position}.union(*(behind[p] for p in after[position])))
    joined = plan.stages[-1]
    assert isinstance(joined, CopyStage)
    (one, other) = after[-1]
    assert not behind[one] & behind[other]
    assert len(behind[one] | behind[other]) == len(plan.stages) - 1


def test_thresholds_in_order():
    """Pieces written in any order have the numbers of their places."""
    after = cut(program_of(SHARED))
    lows = [program_text.expression(t.shape[0]) for t in after.tensors if t.name in ("O_1", "O_2", "O_3")]
    assert sorted(lows) == ["H - Ht", "Hs", "Ht - Hs"]
    assert all(a != b for a, b in pairwise(lows))
