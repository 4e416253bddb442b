"""Words: what the lexer makes of text."""

from __future__ import annotations

from tpcgen.diagnostics import Span

END = "$END"
"""The kind of the word after the last one, as lark calls it."""
BAD = "$BAD"
"""The kind of what is no word; the lexer has complained about it."""


class Word(str):
    """A token: its text, its kind (the name of its terminal in the grammar; lark reads it as `type`), its place."""

    __slots__ = ("span", "type")
    type: str
    span: Span

    def __new__(cls, kind: str, text: str, span: Span) -> Word:
        word = super().__new__(cls, text)
        word.type = kind
        word.span = span
        return word
