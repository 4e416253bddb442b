"""Whatever the input, the resolver answers with a module or with diagnostics."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import files
from tpcgen.diagnostics import DiagnosticError, render
from tpcgen.program import load_text
from tpcgen.syntax.format import print_file


def resolve(text: str) -> None:
    try:
        load_text(text)
    except DiagnosticError as error:
        for diagnostic in error.diagnostics:
            assert render(diagnostic, {"<text>": text})


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(files)
def test_files_that_mean_nothing(file: object) -> None:
    resolve(print_file(file))


NAMES = st.sampled_from(["N", "M", "x", "y", "a", "s", "i", "j", "t", "W", "R", "f", "g", "p", "n"])
LEAVES = st.one_of(
    st.sampled_from(
        ["N", "M", "W", "R", "i", "j", "t", "x[i]", "a[i, j]", "n[j]", "s[]", "z[i]", "0", "1", "2.5", "inf"]
    ),
    NAMES,
)


def _larger(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(part, st.sampled_from(["+", "-", "*", "/", "//", "%", "<", "==", "and", "or"]), part)
    kinds = st.sampled_from(["sum", "max", "softmax", "logsumexp", "rank", "any"])
    return st.one_of(
        two.map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
        st.tuples(kinds, NAMES, part, part).map(lambda p: f"{p[0]}[{p[1]} where {p[2]}]({p[3]})"),
        st.tuples(st.sampled_from(["exp", "floor", "i32", "bf16", "g", "not", "-"]), part).map(
            lambda p: f"{p[0]}({p[1]})"
        ),
        st.tuples(st.sampled_from(["x", "a", "n", "z"]), part, part).map(lambda p: f"{p[0]}[{p[1]}, {p[2]}]"),
        st.tuples(part, part, part).map(lambda p: f"select({', '.join(p)})"),
    )


EXPRESSIONS = st.recursive(LEAVES, _larger, max_leaves=6)
TARGETS = st.sampled_from(["y[i]", "z[i]", "z[i, j]", "c[]", "s[]", "x[i]", "y[t]", "b[j]: bf16"])
EQUATIONS = st.tuples(TARGETS, EXPRESSIONS, st.none() | EXPRESSIONS).map(
    lambda p: f"{p[0]} = {p[1]}" + (f" where {p[2]}" if p[2] else "")
)
UPDATES = st.tuples(st.sampled_from(["s[]", "v[j]", "y[t]"]), EXPRESSIONS).map(lambda p: f"{p[0]} := {p[1]}")
STATES = st.tuples(st.sampled_from(["s[]", "v[j]"]), EXPRESSIONS).map(lambda p: f"state {p[0]} = {p[1]}")
STEPS = st.lists(st.one_of(STATES, UPDATES, EQUATIONS), max_size=4).map("\n".join)
SCANS = st.tuples(EXPRESSIONS, STEPS).map(lambda p: f"scan t in 0 .. {p[0]} {{ {p[1]} }}")
OTHERS = st.one_of(
    EXPRESSIONS.map(lambda e: f"let R = {e}"),
    st.tuples(NAMES, EXPRESSIONS).map(lambda p: f"index {p[0]} in 0 .. {p[1]}"),
    st.tuples(NAMES, NAMES, NAMES).map(lambda p: f"{p[0]} = g({p[1]}, {p[2]})"),
    st.tuples(NAMES, NAMES).map(lambda p: f"schedule {{ tile {p[0]} 64; place {p[1]} tpc; }}"),
)
STATEMENTS = st.lists(st.one_of(EQUATIONS, EQUATIONS, SCANS, OTHERS), min_size=1, max_size=5).map("\n".join)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(STATEMENTS, EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_ops_that_nearly_mean_something(body: str, contract: str, default: str, extent: str) -> None:
    resolve(
        f"""
        fn g(p) = {default} + p
        op g(x: f32[N], a: f32[M, N]) -> o: f32[N] {{ o[i] = x[i] }}
        op f(x: f32[N], a: f32[N, M], n: i32[M], W: int = {default}) -> y: f32[{extent}]
            where {contract}
        {{
            {body}
        }}
        vjp f wrt x, a
        check small {{ N = 4, M = 3, W = {default} }}
        """
    )


@pytest.mark.parametrize(
    "text",
    [
        "op f() -> y: f32[] { y[] = 1 }",
        "op f(x: f32[]) -> y: f32[] { y[] = x[] }",
        "op f(x: f32[N]) -> y: f32[N] { }",
        "op f() -> y: f32[2] { y[i] = i }",
        "op f() -> y: f32[2] { index i in 2147483647 .. -2147483647\n y[i] = i }",
        "op f(x: f32[N]) -> y: f32[N * N * N * N * N * N * N * N] { y[i] = x[i // N // N // N] }",
        "op f(x: f32[N]) -> y: f32[N] { y[i] = x[" + " * ".join(["(i + N + 1)"] * 30) + "] }",
        "op f(x: f32[N]) -> y: f32[N] { y[i] = x[i] where " + " and ".join(["(i < 1 or i > 2)"] * 40) + " }",
        "op f(x: f32[N]) -> y: f32[N] { y[i] = x[i] where " + " or ".join(["(i < 1 and i > 2)"] * 40) + " }",
        "op f(x: f32[N]) -> y: f32[N] {" + "\n".join(f"y[i] = x[i] where i == {k}" for k in range(30)) + "}",
        "op f(x: f32[N]) -> y: f32[N] {"
        + "\n".join(f"a{k}[i] = a{k - 1}[i] + a{k - 1}[i]" for k in range(1, 40)).replace("a0[", "x[")
        + "\ny[i] = a39[i] }",
        "op f(x: f32[N]) -> y: f32[N] { a0[i] = x[i] where i > 0\n"
        + "\n".join(f"a{k}[i] = a{k - 1}[i] + a{k - 1}[N - 1 - i]" for k in range(1, 12))
        + "\ny[i] = a11[i] }",
    ],
)
def test_extremes(text: str) -> None:
    resolve(text)


def test_long_chains_of_fns_are_refused_not_followed() -> None:
    fns = "fn g0(x) = x + x\n" + "\n".join(f"fn g{k}(x) = g{k - 1}(x) + g{k - 1}(x)" for k in range(1, 60))
    with pytest.raises(DiagnosticError) as caught:
        load_text(fns + "\nop f(x: f32[N]) -> y: f32[N] { y[i] = g59(x[i]) }")
    assert {d.id for d in caught.value.diagnostics} == {"E233"}


@pytest.mark.parametrize(
    "deep",
    [
        " + ".join(["x[i]"] * 190),
        "-" * 190 + "x[i]",
        "exp(" * 190 + "x[i]" + ")" * 190,
        "x[" * 90 + "i" + "]" * 90,
        "f32(" * 190 + "x[i]" + ")" * 190,
        "select(x[i] > 0, " * 95 + "x[i]" + ", 0)" * 95,
        "sum[j](" * 95 + "x[j]" + ")" * 95,
        "max[j where j <= i](" * 95 + "x[j]" + ")" * 95,
        "x[i // 2" + " + i // 3" * 180 + "]",
    ],
)
def test_deep_expressions_pass_every_check(deep: str) -> None:
    resolve(f"op f(x: f32[N]) -> y: f32[N] {{ a[i] = {deep}\n b[i] = a[i] where i < 4\n y[i] = b[i] }}")
