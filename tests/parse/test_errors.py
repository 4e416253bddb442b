"""Several errors at a time, each once, each at its place."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import files
from tpcgen.diagnostics import DiagnosticError, render
from tpcgen.syntax.format import format_text, print_file
from tpcgen.syntax.lexer import MOST_ERRORS
from tpcgen.syntax.parser import parse

EXAMPLES = [path.read_text() for path in sorted((Path(__file__).parents[2] / "examples").glob("*.dsl"))]
PIECES = (
    '( ) [ ] { } , : ; = := == < .. + - * // # " where sink sum op scan state let index if x 1 1. 2x é \0 \n'.split(" ")
)


def places(text: str) -> list[tuple[str, int, int]]:
    with pytest.raises(DiagnosticError) as caught:
        parse(text, "spec.dsl")
    return [(d.id, d.span.line, d.span.column) for d in caught.value.diagnostics]


def test_one_error_per_statement_and_the_next_statement_is_read() -> None:
    text = "op f(x: f32[N]) -> y: f32[N]\n{\n    let a = )\n    y[i] = x[i\n    let b = 2 ]\n    y[i] = = 3\n}\n"
    assert places(text) == [("E106", 3, 13), ("E105", 5, 5), ("E106", 5, 15), ("E104", 6, 12)]


def test_errors_in_several_items() -> None:
    text = "fn f(x = 1\nop g(x) -> y: f32[N] { y[i] = 1 }\ncheck c { N == 3 }\nparam p: f32 = 1\nvjp g Q\n"
    assert places(text) == [("E105", 1, 8), ("E126", 2, 7), ("E110", 3, 13), ("E104", 5, 7)]


def test_a_wrong_signature_does_not_make_its_body_wrong() -> None:
    assert places("op f(x) -> y: f32[N]\n{\n    y[i] = x[i]\n}\nfn g(x) = 1\n") == [("E126", 1, 7)]


def test_a_scan_is_left_where_it_ends() -> None:
    text = "op f(x: f32[N]) -> y: f32[N]\n{\n    scan t in N {\n        y[t] = 1\n    }\n    let 3\n}\n"
    assert places(text) == [("E104", 3, 17), ("E104", 6, 9)]


def test_a_reserved_parameter_is_no_item() -> None:
    assert places("op f(\n    param: f32[N],\n) -> y: f32[N]\n{\n}\n") == [("E108", 2, 5)]


def test_errors_of_characters_and_of_words_come_together_in_order() -> None:
    text = "fn f(x) = x $ 1\nfn g(x) = = 2\nfn h(x) = 1.x\n"
    assert places(text) == [("E102", 1, 13), ("E104", 2, 11), ("E103", 3, 11)]


def test_there_is_an_end_to_complaints() -> None:
    assert len(places("fn f(x) = )\n" * 1000)) == MOST_ERRORS
    assert len(places("fn f(x) = $\n" * 1000)) <= MOST_ERRORS


def test_the_other_side_of_a_bracket_is_shown() -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse("fn f(x) = max(\n    x, 1\nfn g(x) = 2\n", "spec.dsl")
    (diagnostic,) = caught.value.diagnostics
    (label,) = diagnostic.labels
    assert (diagnostic.span.line, label.span.line, label.span.column) == (3, 1, 14)


def mutated(text: str, seed: int) -> str:
    rng = random.Random(seed)
    for _ in range(rng.randrange(1, 6)):
        at, until = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        match rng.randrange(4):
            case 0:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[min(until, at + rng.randrange(1, 9)) :]
            case 2:
                text = text[:at] + text[at : at + 12] + text[at:]
            case _:
                text = text[:at] if rng.random() < 0.2 else text[:at] + rng.choice(PIECES) + text[at + 1 :]
    return text


def only_diagnostics(text: str) -> None:
    """Parsing and formatting give a result, or diagnostics that lie in the text and can be shown."""
    for work in (parse, format_text):
        try:
            work(text, "spec.dsl")
        except DiagnosticError as error:
            assert error.diagnostics
            lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            for diagnostic in error.diagnostics:
                assert 1 <= diagnostic.span.line <= len(lines)
                assert 1 <= diagnostic.span.column <= len(lines[diagnostic.span.line - 1]) + 2
                assert "^" in render(diagnostic, {"spec.dsl": text})
                assert "expected , found" not in diagnostic.message


@given(st.sampled_from(EXAMPLES), st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_mutated_examples_give_diagnostics_only(text: str, seed: int) -> None:
    only_diagnostics(mutated(text, seed))


@given(files, st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_mutated_files_give_diagnostics_only(file, seed: int) -> None:
    only_diagnostics(mutated(print_file(file), seed))


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_gives_diagnostics_only(text: str) -> None:
    only_diagnostics(text)


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_any_words_give_diagnostics_only(text: str) -> None:
    only_diagnostics(text)
    only_diagnostics(f"op f(x: f32[N]) -> y: f32[N] {{ y[i] = x[i] {text} }}")
