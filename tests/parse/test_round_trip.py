"""What is printed parses to the same AST; formatting keeps meaning and comments, and changes nothing twice."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.strategies import expressions, files
from tpcgen.syntax import ast
from tpcgen.syntax.format import WIDTH, format_text, print_file
from tpcgen.syntax.parser import parse, parse_expression
from tpcgen.syntax.print import print_expression

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.dsl"))


@given(expressions)
def test_an_expression_survives_print_and_parse(expression: ast.Expr) -> None:
    assert parse_expression(print_expression(expression)) == expression


@given(expressions)
def test_no_pair_of_parentheses_can_go(expression: ast.Expr) -> None:
    """Dropping any pair that does not follow a name or a bracket changes what the text means."""
    text = print_expression(expression)
    for match in re.finditer(r"(?<![\w\]])\(", text):
        opening = match.start()
        without = text[:opening] + " " + text[opening + 1 :]
        closing = _closing(text, opening)
        without = without[:closing] + " " + without[closing + 1 :]
        assert _parsed_or_none(without) != expression


def _closing(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    raise AssertionError(text)


def _parsed_or_none(text: str) -> ast.Expr | None:
    try:
        return parse_expression(text)
    except Exception:
        return None


@given(files)
@settings(max_examples=150, deadline=None)
def test_a_file_survives_print_and_parse(file: ast.File) -> None:
    text = print_file(file)
    assert parse(text, "spec.dsl") == file
    assert format_text(text, "spec.dsl") == text


@given(files)
@settings(max_examples=50, deadline=None)
def test_long_lines_are_those_that_cannot_be_broken(file: ast.File) -> None:
    for line in print_file(file).splitlines():
        indent = len(line) - len(line.lstrip())
        assert len(line) <= WIDTH or " " not in line.strip()[: WIDTH - indent] or '"' in line or _unbreakable(line)


def _unbreakable(line: str) -> bool:
    """No space to break at within the width other than after an operator."""
    pieces = line[:WIDTH].strip().split(" ")
    operators = set("+ - * / // % < <= > >= == != = := .. and or not where sink".split())
    return all(before in operators or after in {"=", ":="} for before, after in pairwise(pieces))


def commented(text: str, seed: int, density: float) -> tuple[str, list[str]]:
    """The text with comments at line ends, on lines of their own, and in place of spaces; the comments in order."""
    rng = random.Random(seed)
    comments: list[str] = []

    def comment() -> str:
        comments.append(f'# {len(comments)} "{rng.choice("abc")}')
        return comments[-1]

    lines: list[str] = []
    for line in text.split("\n"):
        if rng.random() < density:
            lines.append(" " * rng.randrange(9) + comment())
        if rng.random() < density / 2:
            lines.append("")
        words = line.split(" ")
        line = words[0]
        for word in words[1:]:
            splits = '"' not in text and line.strip() and rng.random() < density / 4
            line += (f" {comment()}\n" if splits else " ") + word
        lines.append(line + (f"  {comment()} " if rng.random() < density else ""))
    return "\n".join(lines), comments


def check_format(text: str, comments: list[str]) -> None:
    once = format_text(text, "spec.dsl")
    assert parse(once, "spec.dsl") == parse(text, "spec.dsl")
    assert format_text(once, "spec.dsl") == once
    assert sorted(re.findall(r"# \d+ \".", once)) == sorted(comments)
    assert not re.search(r"[ \t]$", once, re.MULTILINE)
    assert "\n\n\n" not in once


@given(files, st.integers(0, 2**32), st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=150, deadline=None)
def test_comments_survive_in_any_file(file: ast.File, seed: int, density: float) -> None:
    check_format(*commented(print_file(file), seed, density))


@pytest.mark.parametrize("end", ["{", "reverse {", "reverse\n{", "\n{", "\nreverse # a\n# b\n{"])
@pytest.mark.parametrize("length", range(90, 125))
def test_a_comment_after_the_head_of_a_scan(end: str, length: int) -> None:
    """Wherever the head wraps, even before its brace."""
    name = "n" * (length - 20)
    text = f"op f(x: f32[N]) -> y: f32[N]\n{{\nscan i in 0 .. {name} {end} # c\n# d\ny[i] = x[i] # e\n}}\n}}\n"
    once = format_text(text, "spec.dsl")
    assert format_text(once, "spec.dsl") == once
    assert re.findall("# .", once) == re.findall("# .", text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_comments_survive_in_the_examples(path: Path) -> None:
    bare = print_file(parse(path.read_text(), str(path)))
    for seed in range(10):
        check_format(*commented(bare, seed, 0.3))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_formatted(path: Path) -> None:
    text = path.read_text()
    assert format_text(text, str(path)) == text


@given(st.text(alphabet=" \t\r\n\f\ufeff", max_size=10))
@example("\ufeff\r\n\r\n")
def test_space_is_nothing_or_an_error(text: str) -> None:
    if "\f" in text or "\ufeff" in text[1:]:
        return
    assert format_text(text, "spec.dsl") == ""
