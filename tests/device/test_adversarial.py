"""Specs and inputs meant to break a kernel: rows without keys, sinks of every kind, infinities, empty tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.harness import TARGETS, Array, Built, build, drawn, failures, judged
from tpcgen.execute import StageError
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.interpreter.run import run
from tpcgen.program import load, load_text

EXAMPLES = Path(__file__).parents[2] / "examples"
QK = "rsqrt(D) * sum[d](Q[h,q,d] * K[h,k,d])"
PV = "O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])"
SINK = ", snk: f32[H]"
LENGTHS = ", len: i32[H]"


def spec(t: str, weights: str, scores: str = QK, more: str = "", outputs: str = "", body: str = "") -> str:
    """Attention in dtype `t`: M queries, N keys, H heads."""
    return f"""op f(Q: {t}[H, M, D], K: {t}[H, N, D], V: {t}[H, N, E]{more}) -> O: {t}[H, M, E]{outputs} {{
        index h in 0 .. H
        index q in 0 .. M
        index k in 0 .. N
        {body}
        S[h,q,k] = {scores}
        P[h,q,k] = {weights}
        O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
    }}"""


SPECS = {
    "late": spec("bf16", "softmax[k where k <= q - 3](S[h,q,k])"),
    "never": spec("f32", "softmax[k where k < q - N - M](S[h,q,k])"),
    "lengths": spec("bf16", "softmax[k where k < len[h]](S[h,q,k])", more=LENGTHS),
    "lengths_sink": spec("f32", "softmax[k where k < len[h] sink snk[h]](S[h,q,k])", more=LENGTHS + SINK),
    "some_sinks": spec(
        "f32", "softmax[k where k <= q sink T[h]](S[h,q,k])", more=SINK, body="T[h] = snk[h] where h > 0"
    ),
    "everywhere_sink": spec("bf16", "softmax[k sink snk[h]](S[h,q,k])", more=SINK),
    "statistics": spec(
        "bf16",
        "softmax[k where q - W < k <= q](S[h,q,k])\n"
        "L[h,q] = default(logsumexp[k where q - W < k <= q](S[h,q,k]), -1.0)\n"
        "m[h,q] = default(max[k where q - W < k <= q](S[h,q,k]), 0.5)",
        more=", W: int = 5",
        outputs=", L: f32[H, M], m: f32[H, M]",
    ),
    "cap": spec(
        "f32", "softmax[k where k <= q + w](S[h,q,k])", f"cap * tanh({QK} / cap)", more=", cap: f32 = 30, w: int = 0"
    ),
    "rounded": spec(
        "f32", "softmax[k where k <= q](f32(bf16(S[h,q,k] * 0.5)) + Z[h,q,k])", body="", more=", X: bf16[H, M, N]"
    ).replace("P[h,q,k] =", "Z[h,q,k]: bf16 = X[h,q,k] * 3\n P[h,q,k] =", 1),
    "islands": spec("bf16", "softmax[k where k <= q - 70 or k == q + 2](S[h,q,k])"),
}
ATTRIBUTES: dict[str, list[dict[str, float]]] = {
    "statistics": [{"W": 5}, {"W": 1}, {"W": 500}],
    "cap": [{"cap": 2.5, "w": 0}, {"cap": 0.125, "w": -2}, {"cap": 100.0, "w": 1000}],
}
SIZES = ((1, 1), (7, 130), (130, 7), (127, 65), (65, 127))
QUICK_SIZES = ((1, 1), (7, 130), (127, 65))
Specs = Mapping[str, list[Built]]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


@pytest.fixture(scope="module")
def one_plan(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Specs:
    """Every spec by one plan on one target, turn and turn about."""
    programs = {name: load_text(text).program("f") for name, text in SPECS.items()}
    result: dict[str, list[Built]] = {}
    for position, target in enumerate(TARGETS):
        mine = {name: p for n, (name, p) in enumerate(programs.items()) if n % 2 == position}
        order = list(mine)

        def wanted(name: str, _target: str, number: int, order: list[str] = order) -> bool:
            return number == order.index(name) % 2

        result |= build(mine, tmp_path_factory.mktemp(target), session, (target,), wanted)
    return result


@pytest.fixture(scope="module")
def all_plans(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Specs:
    programs = {name: load_text(text).program("f") for name, text in SPECS.items()}
    return build(programs, tmp_path_factory.mktemp("all"), session)


def wrong(name: str, built: list[Built], sizes: tuple[tuple[int, int], ...]) -> list[str]:
    program = built[0].variant.plan.program
    found: list[str] = []
    for (m, n), attributes, family in itertools.product(sizes, ATTRIBUTES.get(name, [{}]), families(program)):
        values = {"H": 3, "M": m, "N": n, "D": 16, "E": 24, **attributes}
        inputs = drawn(program, values, family)
        found += failures(judged(built, values, inputs, f"{name} {values} {family}"))
    return found


@pytest.mark.parametrize("name", SPECS)
def test_a_plan_at_a_few_sizes(name: str, one_plan: Specs) -> None:
    assert not wrong(name, one_plan[name], QUICK_SIZES)


@pytest.mark.full
@pytest.mark.parametrize("name", SPECS)
def test_every_plan(name: str, all_plans: Specs) -> None:
    assert not wrong(name, all_plans[name], SIZES)


# Sinks


@pytest.mark.parametrize("name", ["lengths_sink", "some_sinks", "everywhere_sink"])
def test_sinks_of_every_kind(name: str, one_plan: Specs) -> None:
    """One head each: no weight for the sink, all of it, a little."""
    built = one_plan[name]
    values = {"H": 4, "M": 9, "N": 66, "D": 16, "E": 24}
    inputs = drawn(built[0].variant.plan.program, values, "normal")
    inputs["snk"] = np.array([0.5, -np.inf, 1e5, -1e5], np.float32)
    assert not failures(judged(built, values, inputs))
    inputs["snk"] = np.array([np.nan, np.inf, 0.0, np.nan], np.float32)
    assert not failures(judged(built, values, inputs, "NaN and infinite sinks"))


# Windows and head groups of the examples


@pytest.fixture(scope="module")
def examples(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Specs:
    """A window along the keys, causal attention along the queries."""
    programs = {n: load(str(EXAMPLES / f"{n}.dsl")).program(n, T=t) for n, t in (("window", "f32"), ("causal", "bf16"))}
    order = list(programs)
    folder = tmp_path_factory.mktemp("examples")
    return build(programs, folder, session, ("gaudi2",), lambda name, _target, number: number == order.index(name))


@pytest.mark.parametrize("w", [1, 2, 63, 64, 65, 66, 1000])
def test_windows_of_every_width(w: int, examples: Specs) -> None:
    """Narrower than a vector, and wider than the sequence."""
    built = examples["window"]
    program = built[0].variant.plan.program
    for n, family in itertools.product((1, 65, 127), families(program)):
        values = {"B": 1, "H": 2, "N": n, "D": 8, "E": 24, "W": w}
        assert not failures(judged(built, values, drawn(program, values, family), f"N{n} W{w} {family}"))


@pytest.mark.parametrize("groups", [6, 3, 2, 1])
def test_grouped_heads(groups: int, examples: Specs) -> None:
    built = examples["causal"]
    program = built[0].variant.plan.program
    for (m, n), family in itertools.product(((1, 1), (7, 127), (65, 66)), families(program)):
        values = {"B": 2, "H": 6, "G": groups, "M": m, "N": n, "D": 8, "E": 24}
        assert not failures(judged(built, values, drawn(program, values, family), f"G{groups} M{m} N{n} {family}"))


# NaN and infinities (decisions.md 11)


def poisoned(program: Any, values: Mapping[str, int]) -> dict[str, Array]:
    """Scores S[q,k] = Q[q,0] K[k,0] + ordinary ones, with NaN and infinities of either sign in chosen rows and keys."""
    inputs = drawn(program, values, "normal")
    q, k = inputs["Q"], inputs["K"]
    q[..., 0], k[..., 0] = 1, 1
    q[..., 20, 1] = np.nan  # a row of NaN
    q[..., 21, 0] = np.inf  # a row of +inf
    q[..., 22, 0] = -np.inf  # a row of -inf only
    k[..., 30, 0] = -np.inf  # one weight of 0 in the rows that visit it; +inf in the row of -inf
    k[..., 40, 2] = np.nan  # NaN for all rows that visit it
    k[..., 50, 0] = np.inf
    return inputs


@pytest.mark.parametrize("name", ["causal", "window"])
def test_nan_and_infinities_where_the_interpreter_has_them(name: str, examples: Specs) -> None:
    built = examples[name]
    program = built[0].variant.plan.program
    sizes = {"G": 2, "M": 66} if name == "causal" else {"W": 13}
    values = {"B": 1, "H": 2, "N": 66, "D": 8, "E": 24, **sizes}
    inputs = poisoned(program, values)
    truth = run(program, inputs, {"W": 13} if name == "window" else {})["O"]
    bad = ~np.isfinite(truth).all(-1)
    assert bad.any() and not bad.all()
    assert not failures(judged(built, values, inputs))


# Nothing to do


EMPTY = [
    ("causal", {"B": 0, "H": 2, "G": 2, "M": 3, "N": 5}),
    ("causal", {"B": 2, "H": 2, "G": 1, "M": 0, "N": 5}),
    ("causal", {"B": 2, "H": 2, "G": 1, "M": 0, "N": 0}),
    ("window", {"B": 1, "H": 2, "N": 0, "W": 4}),
    ("window", {"B": 1, "H": 0, "N": 3, "W": 4}),
]


@pytest.mark.parametrize(("name", "sizes"), EMPTY)
def test_empty_tensors(name: str, sizes: dict[str, int], examples: Specs) -> None:
    built = examples[name]
    values = {"D": 8, "E": 24, **sizes}
    assert not failures(judged(built, values, drawn(built[0].variant.plan.program, values, "normal")))


@pytest.mark.parametrize("name", ["lengths", "late", "everywhere_sink"])
def test_without_keys_every_row_is_zero(name: str, one_plan: Specs) -> None:
    built = one_plan[name]
    values = {"H": 2, "M": 5, "N": 0, "D": 8, "E": 24}
    inputs = drawn(built[0].variant.plan.program, values, "normal")
    for b in built:
        assert not b.run(values, inputs)["O"].any()
    assert not failures(judged(built, values, inputs))


def test_without_a_head_dim_the_scale_is_infinite_and_the_glue_refuses(examples: Specs) -> None:
    built = examples["causal"]
    values = {"B": 1, "H": 2, "G": 1, "M": 3, "N": 5, "D": 0, "E": 24}
    inputs = drawn(built[0].variant.plan.program, values, "normal")
    for b in built:
        with pytest.raises(StageError, match="InstantiateTpcKernel refused"):
            b.run(values, inputs)


# Long sums


@pytest.mark.full
def test_equal_weights_over_thousands_of_keys(session: Session, tmp_path: Path) -> None:
    program = load(str(EXAMPLES / "full.dsl")).program("full", T="f32")
    built = build({"full": program}, tmp_path, session, ("gaudi2",))["full"]
    values = {"B": 1, "H": 2, "M": 2, "N": 16384, "D": 64, "E": 64}
    assert not failures(judged(built, values, drawn(program, values, "equal")))
