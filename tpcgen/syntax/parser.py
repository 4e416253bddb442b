"""Words -> AST: lark's LALR table, driven here so that one run reports several errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lark import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from tpcgen.diagnostics import Diagnostics, Span
from tpcgen.syntax import ast
from tpcgen.syntax.complaints import STATEMENT_STARTS, Situation, complaint, first_on_line, starts_item
from tpcgen.syntax.lexer import MOST_ERRORS, lex
from tpcgen.syntax.table import table
from tpcgen.syntax.words import END, Word

DEEPEST = 200
"""Levels of an expression. Passes over it recurse; Python's own limit is 1000 frames."""
LONGEST = 1_000_000
"""Characters of a file: a spec is text that people write."""

LEVELS = ("step", "statement", "item")
"""Rules at whose boundaries parsing resumes after an error: in a scan, in an op, in the file."""


def parse(text: str, path: str) -> ast.File:
    """The AST of a file. Raises DiagnosticError with every syntax error found.

    A byte order mark is passed over; lines may end with any of LF, CRLF and CR.
    """
    found = Diagnostics()
    _check_length(text, path, found)
    source = plain(text)
    items = _parse(source, path, "start", found)
    end = source.count("\n") + 1
    file = ast.File(path=path, items=items or (), span=Span(path, 1, 1, end, len(source) - source.rfind("\n")))
    if items is not None:
        _check_depth(items, found)
    found.raise_if_errors()
    return file


def parse_expression(text: str, path: str = "<expression>") -> ast.Expr:
    """The AST of a text that is one expression. Raises DiagnosticError."""
    found = Diagnostics()
    _check_length(text, path, found)
    expression = _parse(plain(text), path, "expression", found)
    if expression is not None:
        _check_depth((expression,), found)
    found.raise_if_errors()
    return expression


def plain(text: str) -> str:
    """Without byte order mark, lines ending with LF: what spans count in."""
    return re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff"))


def _check_length(text: str, path: str, found: Diagnostics) -> None:
    if len(text) > LONGEST:
        here = Span(path, 1, 1, 1, 1)
        found.error("E125", f"the text has {len(text)} characters; the most is {LONGEST}", here, "split it with `use`")
        found.raise_if_errors()


def _parse(text: str, path: str, start: str, found: Diagnostics) -> Any:
    """What the grammar's rule `start` makes of the text, or None after errors, which are in `found`."""
    words = lex(text, path, found)
    interactive = table().parse_interactive(start=start)
    position, errors = 0, 0
    while position < len(words):
        try:
            result = interactive.feed_token(words[position])  # pyright: ignore[reportArgumentType]
            position += 1
            if position == len(words):
                return None if found.has_errors else result
        except UnexpectedToken:
            found.found.append(complaint(_situation(interactive, words, position)))
            errors += 1
            if errors == MOST_ERRORS or words[position].type == END:
                break
            position = _recover(interactive, words, position)
    return None


def _situation(interactive: InteractiveParser, words: Sequence[Word], position: int) -> Situation:
    stack: list[Any] = interactive.parser_state.value_stack
    return Situation(
        words=words,
        position=position,
        stack=stack,
        accepted=frozenset(interactive.accepts()),
        level=_level(interactive)[0],
    )


def _level(interactive: InteractiveParser) -> tuple[str, int]:
    """The innermost rule of LEVELS being repeated, and the length of the state stack up to there; "" and 0 if none."""
    state = interactive.parser_state
    for length in range(len(state.state_stack), 0, -1):
        followers = state.parse_conf.states[state.state_stack[length - 1]]
        for rule in LEVELS:
            if rule in followers:
                return rule, length
    return "", 0


def _recover(interactive: InteractiveParser, words: Sequence[Word], position: int) -> int:
    """Drop the statement or item with the error; the position of the word to go on with."""
    level, length = _level(interactive)
    if not level:
        return len(words)
    braces = _drop(interactive, length)
    accepted = interactive.accepts()
    for at in range(position, len(words)):
        word = words[at]
        if starts_item(words, at):
            while _level(interactive)[0] != "item":
                _drop(interactive, _level(interactive)[1] - 1)
            _drop(interactive, _level(interactive)[1])
            return at
        if level == "item":
            continue
        if braces == 0 and word.type in accepted and (word.type == "RBRACE" or _starts_statement(words, at)):
            return at
        braces += (word.type == "LBRACE") - (word.type == "RBRACE")
    return len(words)


def _drop(interactive: InteractiveParser, length: int) -> int:
    """Cut the state stack to `length`; the number of braces that were open above it."""
    state = interactive.parser_state
    dropped = [value.type for value in state.value_stack[length - 1 :] if isinstance(value, Word)]
    del state.state_stack[length:], state.value_stack[length - 1 :]
    return dropped.count("LBRACE") - dropped.count("RBRACE")


def _starts_statement(words: Sequence[Word], at: int) -> bool:
    """Whether a statement starts at this word, whatever came before: `let ...`, `O[b, q] =`, `A, L =`."""
    word = words[at]
    if word.type in STATEMENT_STARTS:
        return True
    if word.type != "NAME":
        return False
    if words[at + 1].type == "LSQB":
        closing = next((i for i in range(at + 2, len(words)) if words[i].type not in ("NAME", "COMMA")), at)
        return words[closing].type == "RSQB" and words[closing + 1].type in ("ASSIGN", "UPDATE", "COLON")
    names = next(i for i in range(at + 1, len(words)) if words[i].type not in ("NAME", "COMMA"))
    return first_on_line(words, at) and words[names].type == "ASSIGN" and names > at


def _check_depth(roots: Sequence[ast.Node], found: Diagnostics) -> None:
    stack = [(root, 1) for root in roots]
    while stack:
        node, depth = stack.pop()
        if depth > DEEPEST:
            hint = "name a part of it with an equation or a fn"
            found.error("E124", f"the expression is nested more than {DEEPEST} levels deep", node.span, hint)
            return
        stack.extend((child, depth + 1) for child in _children(node))


def _children(node: ast.Node) -> Iterator[ast.Node]:
    for slot in type(node).__slots__:
        yield from _nodes_in(getattr(node, slot))


def _nodes_in(value: object) -> Iterator[ast.Node]:
    if isinstance(value, ast.Node):
        yield value
    elif isinstance(value, tuple):
        for part in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _nodes_in(part)  # pyright: ignore[reportUnknownArgumentType]
