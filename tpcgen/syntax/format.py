"""AST and comments -> text: the one layout of a file. Formatting twice changes nothing.

A node that fits on a line of 120 columns stands on one; otherwise a signature has one parameter per line and an
expression goes on over several. Single blank lines between statements and items are kept, ops get one around them.
A comment keeps its place before, after or at the end of a line; one inside an expression moves above the statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tpcgen.diagnostics import Span
from tpcgen.syntax import ast
from tpcgen.syntax.parser import parse, plain
from tpcgen.syntax.print import (
    print_binding,
    print_entry,
    print_expression,
    print_parameter,
    print_scan_head,
    print_simple,
)

WIDTH = 120
STEP = 4

_COMMENT = re.compile(r'"[^"\n]*"|(#[^\n]*)')
_GOES_ON = frozenset({"+", "-", "*", "/", "//", "%", "<", "<=", ">", ">=", "==", "!=", "=", ":=", ".."}) | frozenset(
    {"and", "or", "not", "where", "sink"}
)
"""Words after which a line does not end: it breaks before them."""


@dataclass(frozen=True, slots=True)
class Comment:
    line: int
    column: int
    text: str

    @property
    def place(self) -> tuple[int, int]:
        return self.line, self.column


def format_text(text: str, path: str) -> str:
    """The file in its one layout, lines ending with LF. Raises DiagnosticError if it does not parse."""
    file = parse(text, path)
    return _format(file, _comments(plain(text)))


def print_file(file: ast.File) -> str:
    """Text that parses to an equal file."""
    return _format(file, [])


def _format(file: ast.File, comments: Sequence[Comment]) -> str:
    layout = _Layout(list(comments))
    before: ast.Item | None = None
    for item in file.items:
        if isinstance(before, ast.Op) or (before and isinstance(item, ast.Op)):
            layout.separate(item.span)
        _item(layout, item)
        before = item
    layout.comments_before((len(comments) and comments[-1].line + 1, 0), 0)
    return "".join(f"{line}\n" for line in layout.lines)


def _comments(text: str) -> list[Comment]:
    return [
        Comment(number, match.start(1) + 1, match.group(1).rstrip())
        for number, line in enumerate(text.split("\n"), 1)
        for match in _COMMENT.finditer(line)
        if match.group(1)
    ]


@dataclass
class _Layout:
    """The lines so far; comments not yet placed, in order; the line of the text that the last one came from."""

    comments: list[Comment]
    lines: list[str] = field(default_factory=list[str])
    last: int = 0
    fresh: bool = True
    """Nothing stands in this block yet: no blank line comes first."""
    apart: bool = False
    """A blank line comes next, whatever the text has."""

    def put(self, span: Span, lines: Sequence[str], depth: int, comment_depth: int | None = None) -> None:
        """Lines for the stretch `span` of the text, after the comments before and inside it."""
        self.lead(span, depth if comment_depth is None else comment_depth)
        self._space(span.line)
        self.lines += lines
        self.last = span.end_line

    def lead(self, span: Span, depth: int) -> None:
        """The comments before and inside a stretch, as lines of their own."""
        self.comments_before((span.line, span.column), depth)
        while self.comments and self.comments[0].place < (span.end_line, span.end_column):
            self._add(self.comments.pop(0).text, span.line, depth)

    def open(self) -> None:
        """The last line opened a block."""
        self.fresh = True

    def close(self, span: Span, text: str, depth: int) -> None:
        """The bracket that ends `span`."""
        end = span.end_line, span.end_column - 1
        self.comments_before(end, depth + 1)
        self.fresh = True
        self.put(Span(span.file, *end, span.end_line, span.end_column), [_indent(depth) + text], depth)

    def bare(self, text: str, before: tuple[int, int]) -> None:
        """A line that stands for nothing in the text; the comment that ended the last line stays there."""
        self._trailing(before)
        self.lines.append(text)
        self.fresh = True

    def comments_before(self, place: tuple[int, int], depth: int) -> None:
        self._trailing(place)
        while self.comments and self.comments[0].place < place:
            comment = self.comments.pop(0)
            self._add(comment.text, comment.line, depth)

    def has_comment(self, start: Span, end: Span) -> bool:
        """Whether a comment stands between the start of one span and the end of another."""
        first, last = (start.line, start.column), (end.end_line, end.end_column)
        return any(first < comment.place < last for comment in self.comments)

    def separate(self, span: Span) -> None:
        """See to a blank line before the item at `span` and the comments that belong to it."""
        places = [comment.line for comment in self.comments if comment.place < (span.line, span.column)]
        between = [self.last, *places, span.line]
        self.apart = not any(after - before > 1 for before, after in pairwise(between))

    def _trailing(self, before: tuple[int, int]) -> None:
        if self.comments and self.comments[0].line == self.last and self.comments[0].place < before:
            self.lines[-1] += f" {self.comments.pop(0).text}"

    def _add(self, text: str, line: int, depth: int) -> None:
        self._space(line)
        self.lines.append(_indent(depth) + text)
        self.last = line

    def _space(self, line: int) -> None:
        if not self.fresh and (self.apart or line - self.last > 1):
            self.lines.append("")
        self.fresh = self.apart = False


def _item(layout: _Layout, item: ast.Item) -> None:
    match item:
        case ast.Op():
            _op(layout, item)
        case ast.Check():
            pairs = [(value.span, print_binding(name, value)) for name, value in item.values]
            _block(layout, item.span, f"check {item.name} {{", pairs, ", ", 0)
        case ast.Use():
            layout.put(item.span, [print_simple(item)], 0)
        case _:
            layout.put(item.span, _wrap(print_simple(item), 0), 0)


def _op(layout: _Layout, op: ast.Op) -> None:
    first, last = op.outputs[0].span, op.outputs[-1].span
    outputs = ", ".join(map(print_parameter, op.outputs))
    parameters = list(map(print_parameter, op.parameters))
    head = f"op {op.name}({', '.join(parameters)})"
    if len(head) > WIDTH or layout.has_comment(op.span, last):
        layout.put(_start(op.span), [f"op {op.name}("], 0)
        layout.open()
        for parameter, text in zip(op.parameters, parameters, strict=True):
            layout.put(parameter.span, _wrap(f"{text},", 1), 1)
        layout.fresh = True
        layout.put(first.to(last), _wrap(f") -> {outputs}", 0), 0, 1)
    elif len(head) + len(f" -> {outputs}") <= WIDTH:
        layout.put(op.span.to(last), [f"{head} -> {outputs}"], 0)
    else:
        layout.put(op.span.to(last), [head, *_wrap(f"-> {outputs}", 1)], 0)
    _contracts(layout, op.contracts)
    closing = op.span.end_line, op.span.end_column - 1
    inner = (op.body[0].span.line, op.body[0].span.column) if op.body else closing
    layout.bare("{", inner)
    for statement in op.body:
        _statement(layout, statement, 1)
    layout.close(op.span, "}", 0)


def _contracts(layout: _Layout, contracts: Sequence[ast.Expr]) -> None:
    if not contracts:
        return
    first, last = contracts[0].span, contracts[-1].span
    texts = list(map(print_expression, contracts))
    line = _indent(1) + f"where {', '.join(texts)}"
    layout.lead(first, 1)
    layout.fresh = True
    if len(line) <= WIDTH and not layout.has_comment(first, last):
        layout.put(first.to(last), [line], 1)
        return
    layout.lines.append(_indent(1) + "where")
    for at, (contract, text) in enumerate(zip(contracts, texts, strict=True), 1):
        layout.put(contract.span, _wrap(text + "," * (at < len(contracts)), 2), 2)


def _statement(layout: _Layout, statement: ast.Statement | ast.State | ast.Update, depth: int) -> None:
    match statement:
        case ast.Scan():
            layout.put(statement.head, _wrap(print_scan_head(statement), depth), depth)
            layout.open()
            for step in statement.body:
                _statement(layout, step, depth + 1)
            layout.close(statement.span, "}", depth)
        case ast.Schedule():
            entries = [(entry.span, print_entry(entry)) for entry in statement.entries]
            _block(layout, statement.span, "schedule {", entries, " ", depth)
        case _:
            layout.put(statement.span, _wrap(print_simple(statement), depth), depth)


def _block(
    layout: _Layout, span: Span, head: str, parts: Sequence[tuple[Span, str]], separator: str, depth: int
) -> None:
    """Parts in braces, on one line if they fit, else one per line."""
    texts = [text for _, text in parts]
    line = _indent(depth) + (f"{head} {separator.join(texts)} }}" if texts else f"{head}}}")
    if len(line) <= WIDTH and not layout.has_comment(span, span):
        layout.put(span, [line], depth)
        return
    layout.put(_start(span), [_indent(depth) + head], depth)
    layout.open()
    for part, text in parts:
        layout.put(part, _wrap(text + separator.strip(), depth + 1), depth + 1)
    layout.close(span, "}", depth)


def _start(span: Span) -> Span:
    return Span(span.file, span.line, span.column, span.line, span.column)


def _indent(depth: int) -> str:
    return " " * (STEP * depth)


def _wrap(text: str, depth: int) -> list[str]:
    """Lines of at most 120 columns where the text can be broken so, continued one step further in."""
    lines: list[str] = []
    indent = _indent(depth)
    while len(indent) + len(text) > WIDTH:
        cut = _break(text, WIDTH - len(indent))
        if cut is None:
            break
        lines.append(indent + text[:cut])
        text = text[cut + 1 :]
        indent = _indent(depth + 1)
    return [*lines, indent + text]


def _break(text: str, room: int) -> int | None:
    """The space to break at: outside as many brackets as possible, then as late as possible, before an operator."""
    depth = 0
    best: tuple[int, int] | None = None
    for at, character in enumerate(text):
        if at > room and best:
            break
        depth += (character in "([{") - (character in ")]}")
        if character != " " or text[:at].rpartition(" ")[2] in _GOES_ON or text[at + 1 :].startswith(("= ", ":= ")):
            continue
        if best is None or depth <= best[0]:
            best = depth, at
    return best[1] if best else None
