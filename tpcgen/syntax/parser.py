"""Words -> AST: lark's LALR table, driven here so that one run reports several errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tpcgen.diagnostics import Diagnostics, Span
from tpcgen.syntax import ast
from tpcgen.syntax.complaints import STATEMENT_STARTS, Situation, complaint, first_on_line, starts_item
from tpcgen.syntax.lalr import Lalr
from tpcgen.syntax.lexer import MOST_ERRORS, lex
from tpcgen.syntax.words import BAD, END, Word

DEEPEST = 100
"""Levels of an expression. Passes over it recurse; Python's own limit is 1000 frames."""
LONGEST = 200_000
"""Characters of a file: a spec is text that people write."""

LEVELS = {"item": "OP", "statement": "SCAN", "step": "STATE"}
"""Rules at whose boundaries parsing resumes after an error: in the file, an op, a scan. Words that start only them."""
_NOT_IN_TARGET = frozenset({"ASSIGN", "UPDATE", "COLON", "LBRACE", "RBRACE", "WHERE", "SEMICOLON", END})
_LONGEST_TARGET = 64
"""Words looked at to tell whether a statement starts."""


def parse(text: str, path: str) -> ast.File:
    """The AST of a file. Raises DiagnosticError with every syntax error found.

    A byte order mark is passed over; lines may end with any of LF, CRLF and CR.
    """
    source = plain(text)
    items = _parse(source, path, "start")
    end_line, end_column = source.count("\n") + 1, len(source) - source.rfind("\n")
    return ast.File(path=path, items=items, span=Span(path, 1, 1, end_line, end_column))


def parse_expression(text: str, path: str = "<expression>") -> ast.Expr:
    """The AST of a text that is one expression. Raises DiagnosticError."""
    return _parse(plain(text), path, "expression")


def plain(text: str) -> str:
    """Without byte order mark, lines ending with LF: what spans count in."""
    return re.sub(r"\r\n?", "\n", text.removeprefix("\ufeff"))


def _parse(text: str, path: str, start: str) -> Any:
    """What the grammar's rule `start` makes of a plain text."""
    found = Diagnostics()
    if len(text) > LONGEST:
        here = Span(path, 1, 1, 1, 1)
        found.error("E125", f"the text has {len(text)} characters; the most is {LONGEST}", here, "split it with `use`")
        found.raise_if_errors()
    words = lex(text, path, found)
    parser = Lalr(start)
    position, stops = 0, 0
    while position < len(words) and stops < MOST_ERRORS:
        if parser.take(words[position]):
            position += 1
            continue
        if words[position].type != BAD:
            found.found.append(complaint(_situation(parser, words, position)))
        position = _recover(parser, words, position)
        stops += 1
    found.raise_if_errors()
    _check_depth(parser.result, found)
    found.raise_if_errors()
    return parser.result


def _situation(parser: Lalr, words: Sequence[Word], position: int) -> Situation:
    return Situation(
        words=words,
        position=position,
        stack=parser.stack,
        accepted=parser.accepted,
        level=_level(parser),
    )


def _level(parser: Lalr) -> str:
    """The innermost of LEVELS that the parser is in."""
    accepted = parser.accepted
    at_boundary = (level for level, start in LEVELS.items() if start in accepted)
    return next(at_boundary, "") or max(LEVELS, key=parser.depth)


def _recover(parser: Lalr, words: Sequence[Word], position: int) -> int:
    """Drop the statement or item with the error; the position of the word to go on with."""
    level = _level(parser)
    if not parser.depth(level):
        return len(words)
    braces = _drop(parser, level)
    accepted = parser.accepted
    for at in range(position, len(words)):
        word = words[at]
        if starts_item(words, at):
            _drop(parser, "item")
            return at
        if level == "item":
            continue
        if braces == 0 and word.type in accepted and (word.type == "RBRACE" or _starts_statement(words, at)):
            return at
        braces += (word.type == "LBRACE") - (word.type == "RBRACE")
    return len(words)


def _drop(parser: Lalr, level: str) -> int:
    """Go back to where the rule `level` may begin; the number of braces that were open since."""
    dropped = [value.type for value in parser.cut(parser.depth(level)) if isinstance(value, Word)]
    return dropped.count("LBRACE") - dropped.count("RBRACE")


def _starts_statement(words: Sequence[Word], at: int) -> bool:
    """Whether a statement starts at this word: `let ...`, or on a line of its own `O[b, q] =` or `A, L =`."""
    word = words[at]
    if word.type in STATEMENT_STARTS:
        return True
    if word.type != "NAME":
        return False
    if not first_on_line(words, at):
        return False
    kinds = [word.type for word in words[at + 1 : at + _LONGEST_TARGET]]
    if kinds[0] == "LSQB":
        return next((kind for kind in kinds if kind in _NOT_IN_TARGET), "") in ("ASSIGN", "UPDATE", "COLON")
    return next((kind for kind in kinds if kind not in ("NAME", "COMMA")), "") == "ASSIGN"


def _check_depth(parsed: ast.Node | tuple[ast.Node, ...], found: Diagnostics) -> None:
    stack = [(node, 1) for node in _nodes_in(parsed)]
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


def _nodes_in(value: Any) -> Iterator[ast.Node]:
    if isinstance(value, ast.Node):
        yield value
    elif type(value) is tuple:
        for part in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _nodes_in(part)
