"""How diagnostics are shown, and what a spec can do to that."""

from __future__ import annotations

from tpcgen.diagnostics import Diagnostic, Label, Span, render


def test_an_excerpt_shows_the_line_the_caret_and_the_other_side() -> None:
    text = "first\n  second third\n"
    label = Label(Span("f", 1, 1, 1, 6), "defined here")
    diagnostic = Diagnostic("E999", "what", Span("f", 2, 10, 2, 15), "do this", (label,))
    assert render(diagnostic, {"f": text}).split("\n") == [
        "f:2:10: error[E999]: what",
        "   |",
        " 2 |   second third",
        "   |          ^^^^^",
        "f:1:1: note: defined here",
        "   |",
        " 1 | first",
        "   | -----",
        "  = help: do this",
    ]


def test_lines_are_those_that_spans_count() -> None:
    text = "one\r\ntwo # \x0b \u2028 \x85\rthree"
    assert " 3 | three" in render(Diagnostic("E999", "m", Span("f", 3, 1, 3, 2)), {"f": text})


def test_an_excerpt_sends_no_control_characters_to_the_terminal() -> None:
    shown = render(Diagnostic("E999", "m", Span("f", 1, 3, 1, 4)), {"f": "\t\x1b[31m\x00red"})
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert " 1 |   [31m red" in shown


def test_a_byte_order_mark_does_not_move_the_caret() -> None:
    shown = render(Diagnostic("E999", "m", Span("f", 1, 1, 1, 3)), {"f": "\ufeffop"})
    assert shown.endswith(" 1 | op\n   | ^^")
