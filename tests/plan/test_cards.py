"""Several cards: which operators they can share, what each sends, how long that takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.machine import GAUDI3, MACHINES
from tpcgen.machine.network import collective_seconds
from tpcgen.partition.cards import Cards, Share, own_sizes, transfers
from tpcgen.program import load, load_text, sizes
from tpcgen.program.heads import head_axes
from tpcgen.report.cards import Shared, lines

ROOT = Path(__file__).parents[2]
GATED = "examples/gated_linear_cards.dsl"

REFUSED = {"gformer": "E543", "mamba1": "E542", "paged_decode": "E542"}


@pytest.mark.parametrize("path", sorted((ROOT / "std").glob("*.dsl")), ids=lambda path: path.stem)
def test_the_library_by_heads(path):
    module = load(path)
    for op in module.ops:
        program = module.program(op)
        if op in REFUSED:
            with pytest.raises(DiagnosticError, match=REFUSED[op]):
                head_axes(program, "H", ("M", "N"))
            continue
        found = head_axes(program, "H", ("M", "N"))
        assert found.groups == ({"G"} if op in ("gqa", "mamba2", "decode") or path.stem == "hf" else set())


SPEC = """
op f(X: f32[H, N], K: f32[G, N], t: f32[N], W: int = {default}) -> Y: f32[H, N]
    where H % G == 0
{{
    {index}
    Y[h,n] = {value}
}}
"""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("X[h,n] + K[h // (H // G), n]", None),
        ("X[h,n] * W + t[n] * N", None),
        ("X[h,n] where h < W", "h, the number of a head, is a value here"),
        ("X[h,n] * h", "h, the number of a head, is a value here"),
        ("X[h,n] / H", "H, how many heads there are, is a value here"),
        ("X[h,n] * K[h // (H // G), n] * G", "G, how many heads there are, is a value here"),
        ("X[h,n] + sum[o](X[o,n])", "sum goes over heads"),
        ("softmax[h](X[h,n])", "softmax goes over heads"),
        ("X[H - 1 - h, n]", "X is read at a head that is not the one computed"),
        ("X[0,n] + X[h,n]", "X is read at a head that is not the one computed"),
        ("X[h,n] + K[h % G, n] + K[h // (H // G), n]", "K is read at a head that is not the one computed"),
        ("X[h,n] + t[h // 2]", "h, the number of a head, is a value here"),
    ],
)
def test_heads_that_depend_on_each_other(value, reason):
    index = "index o in 0 .. H" if "[o]" in value else ""
    module = load_text(SPEC.format(value=value, index=index, default=2))
    if reason is None:
        head_axes(module.program("f"), "H", ("N",))
        return
    with pytest.raises(DiagnosticError, match="E543") as caught:
        head_axes(module.program("f"), "H", ("N",))
    (found,) = caught.value.diagnostics
    assert found.message == f"the heads of f cannot be divided among cards: {reason}"
    assert found.span.line == 6


def test_a_default_that_counts_the_heads():
    module = load_text(SPEC.format(value="X[h,n] * W", index="", default="H"))
    with pytest.raises(DiagnosticError, match="how many heads there are"):
        head_axes(module.program("f"), "H", ("N",))


def test_a_scan_over_heads():
    text = """
op f(X: f32[N, H]) -> Y: f32[N, H]
{
    scan h in 0 .. H {
        state s[n]: f32 = 0
        s[n] := s[n] + X[n,h]
        Y[n,h] = s[n]
    }
}
"""
    with pytest.raises(DiagnosticError, match="goes from head to head"):
        head_axes(load_text(text).program("f"), "H", ("N",))


HEADS = {"B": 1, "H": 12, "G": 3, "M": 1024, "N": 1024, "D": 64, "E": 64, "W": 256}


def shared(path, op, cards, values, target="gaudi2", wrt=()):
    module = load(ROOT / path)
    program = module.program(op, **dict.fromkeys(module.dtype_variables(op), "bf16"))
    names = {*program.sizes, *(a.name for a in program.attributes)}
    own = sizes.bind(program, own_sizes(program, {n: v for n, v in values.items() if n in names}, cards))
    return own, tuple(transfers(own, cards, MACHINES[target], wrt))


@pytest.mark.parametrize(
    ("path", "op", "share", "target", "wrt"),
    [
        ("examples/causal.dsl", "causal", Share.HEADS, "gaudi2", ("Q", "K", "V")),
        ("examples/window.dsl", "window", Share.HEADS, "gaudi", ("Q", "K", "V", "snk")),
        ("std/rope.dsl", "rope", Share.HEADS, "gaudi3", ()),
        (GATED, "gated_linear_part", Share.SEQUENCE, "gaudi3", ("K", "V", "g")),
        (GATED, "gated_linear_from", Share.SEQUENCE, "gaudi2", ("Q", "K", "V", "g", "S0")),
        (GATED, "gated_linear_carry", Share.SEQUENCE, "gaudi2", ("S0",)),
    ],
    ids=["causal", "window", "rope", "part", "step", "carry"],
)
def test_text(path, op, share, target, wrt, golden):
    cards = Cards(4, share)
    own, sent = shared(path, op, cards, HEADS, target, wrt)
    golden("\n".join(lines(Shared(cards, sent), own.values, 1e-4, MACHINES[target])) + "\n")


def test_sizes_of_a_card():
    for count, heads, groups in ((2, 6, 3), (3, 4, 1), (4, 3, 3), (6, 2, 1)):
        own, _ = shared("examples/causal.dsl", "causal", Cards(count, Share.HEADS), HEADS | {"M": 60, "N": 120})
        assert (own.values["H"], own.values["G"], own.values["N"]) == (heads, groups, 120)
    own, _ = shared(GATED, "gated_linear_part", Cards(4, Share.SEQUENCE), HEADS)
    assert (own.values["H"], own.values["N"]) == (12, 256)


@pytest.mark.parametrize(
    ("share", "values", "said"),
    [
        (Share.HEADS, {"H": 6}, "4 cards cannot share H = 6"),
        (Share.HEADS, {"N": 1026}, "4 cards cannot share N = 1026"),
        (Share.SEQUENCE, {"N": 1026}, "4 cards cannot share N = 1026"),
    ],
)
def test_sizes_that_the_cards_do_not_divide(share, values, said):
    with pytest.raises(DiagnosticError, match="E544") as caught:
        shared("examples/causal.dsl", "causal", Cards(4, share), HEADS | values)
    assert said in caught.value.diagnostics[0].message


def test_more_cards_than_a_box_has():
    with pytest.raises(DiagnosticError, match="E545"):
        shared("examples/causal.dsl", "causal", Cards(16, Share.HEADS), HEADS | {"H": 16, "G": 16})


def test_an_exchange_by_hand():
    """Each of 4 cards has 1/4 of Q and sends 1/4 of that to each of 3 others, over three links of 100 Gb/s to each."""
    _, (q, k, v, o) = shared("examples/causal.dsl", "causal", Cards(4, Share.HEADS), HEADS | {"G": 12})
    whole = 12 * 1024 * 64 * 2
    for t in (q, k, v, o):
        assert (t.collective, t.sent) == ("all-to-all", whole // 4 // 4 * 3)
        assert t.seconds == pytest.approx(7e-6 + whole / 16 / (3 * 100e9 / 8))


def test_the_rates_give_the_published_time_of_an_all_reduce():
    """docs.habana.ai, Collectives Performance: 256 MiB among 8 Gaudi 3, 0.915792 s for 1000."""
    assert 2 * collective_seconds(GAUDI3, 2**28 // 8) == pytest.approx(0.915792e-3, rel=0.01)
    slower = replace(GAUDI3, network=replace(GAUDI3.network, link_rate=GAUDI3.network.link_rate / 2))
    assert collective_seconds(slower, 2**28) > 1.9 * collective_seconds(GAUDI3, 2**28)
