"""Text -> words: lark's lexer, its complaints and literals that no dtype holds turned into diagnostics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lark import Token, UnexpectedCharacters

from tpcgen.diagnostics import Diagnostics, Span
from tpcgen.syntax.table import table
from tpcgen.syntax.words import BAD, END, Word

LARGEST_INT = 2**31 - 1
"""Integer literals are i32 (language.md, arithmetic)."""
LARGEST_REAL = 3.4028234663852886e38
"""Real literals are f32: the largest finite one of IEEE 754 binary32."""
MOST_ERRORS = 20
"""A file with more errors than this is not what the user meant to give us."""

_BAD_NUMBER = re.compile(r"[0-9](?:[A-Za-z0-9_]|\.(?!\.))*")
_INSTEAD = {
    "&": "`and`",
    "|": "`or`",
    "!": "`not x`, or `x != y`",
    "^": "`x * x`: there is no power operator",
    "'": 'double quotes, as in `use "file.dsl"`',
    "\\": "nothing here: a statement may go on over several lines",
    "`": "nothing here: names stand as they are",
    "≤": "`<=`",
    "≥": "`>=`",
    "≠": "`!=`",
    "·": "`*`",
    "×": "`*`",
    "÷": "`/`",
    "−": "`-`",
    "–": "`-`",
    "→": "`->`",
    "∞": "`inf`",
    "∑": "`sum[k](x)`",
    "Σ": "`sum[k](x)`",
    "√": "`sqrt(x)`",
    ".": "`a .. b` for a range, `0.5` for a number; names have no dots",
}


def lex(text: str, path: str, found: Diagnostics) -> list[Word]:
    """The words of a text whose lines end with a newline, an END word last. Errors go to `found`."""
    words = list(_words(text, path, found))
    end = words[-1].span if words else Span(path, 1, 1, 1, 1)
    return [*words, Word(END, "", Span(path, end.end_line, end.end_column, end.end_line, end.end_column))]


def _words(text: str, path: str, found: Diagnostics) -> Iterator[Word]:
    interactive: Any = table().parse_interactive(text, start="start")
    thread = interactive.lexer_thread
    at = thread.state.line_ctr
    for _ in range(MOST_ERRORS):
        try:
            for token in thread.lex(interactive.parser_state):
                yield _word(token, path, found)
        except UnexpectedCharacters:
            word = _bad_word(text, at.char_pos, Span(path, at.line, at.column, at.line, at.column + 1), found)
            yield word
            at.feed(text[at.char_pos : at.char_pos + word.span.end_column - word.span.column])
        else:
            return


def _bad_word(text: str, start: int, span: Span, found: Diagnostics) -> Word:
    """Say what is wrong with the characters at `start`; a malformed number still stands for a number."""
    character = text[start]
    number = _BAD_NUMBER.match(text, start)
    if number:
        wrong = number.group()
        hint = "numbers are `12`, `0.5`, `1e-3` or `inf`; a product needs its `*`, a name starts with a letter"
        span = _widen(span, len(wrong))
        found.error("E103", f"malformed number {quote(wrong)}", span, hint)
        return Word("INT", "0", span)
    if character == '"':
        span = _widen(span, len(text[start:].partition("\n")[0]))
        found.error("E127", "the quoted path is not closed", span, 'close it on its line: `use "file.dsl"`')
        return Word(BAD, "", span)
    if not character.isalnum():
        span = _widen(span, len(text) - start - len(text[start:].lstrip(character)))
    instead = _INSTEAD.get(character)
    hint = f"write {instead}" if instead else "names are made of a-z, A-Z, 0-9 and _; `#` starts a comment"
    found.error("E102", f"unexpected character {_shown(character)}", span, hint)
    return Word(BAD, "", span)


def _word(token: Token, path: str, found: Diagnostics) -> Word:
    assert token.line and token.column and token.end_line and token.end_column, "lark's lexer sets positions"
    span = Span(path, token.line, token.column, token.end_line, token.end_column)
    if token.type in ("INT", "REAL") and _too_large(token):
        largest = "2147483647, the largest i32" if token.type == "INT" else "3.4e38, the largest f32"
        hint = "a real number is written with a point or an exponent: `1e12`" if token.type == "INT" else "write `inf`"
        found.error("E123", f"the literal {quote(token)} is above {largest}", span, hint)
        return Word(token.type, "0", span)
    return Word(token.type, token, span)


def _too_large(token: Token) -> bool:
    if token.type == "REAL":
        return float(token) > LARGEST_REAL
    digits = token.lstrip("0")
    return len(digits) > 10 or int(digits or "0") > LARGEST_INT


def _widen(span: Span, length: int) -> Span:
    return Span(span.file, span.line, span.column, span.line, span.column + length)


def _shown(character: str) -> str:
    code = f"U+{ord(character):04X}"
    if not character.isprintable():
        return code
    return f"`{character}`" if character.isascii() else f"`{character}` ({code})"


def quote(text: str) -> str:
    """A piece of the user's text in a message, shortened if long."""
    return f"`{text}`" if len(text) <= 40 else f"`{text[:37]}...`"
