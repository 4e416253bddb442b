"""std/ as text: formatted, without warnings, explained, with checks; and `use` finds it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.std.library import FILES, VARIANTS, module
from tpcgen.diagnostics import DiagnosticError
from tpcgen.program import load_text
from tpcgen.syntax import ast
from tpcgen.syntax.format import format_text
from tpcgen.syntax.parser import parse

WORDS_OF_A_PARAGRAPH = 20


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_file_is_formatted_without_warnings_and_explained(file: Path) -> None:
    text = file.read_text()
    assert format_text(text, str(file)) == text
    assert module(file).warnings == ()
    comment = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    assert len(" ".join(comment).split()) >= WORDS_OF_A_PARAGRAPH


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_op_is_written_once_for_bf16_and_f32_and_has_a_check(file: Path) -> None:
    for name in module(file).ops:
        assert module(file).dtype_variables(name) in ({"T": ("bf16", "f32")}, {"T": ("bf16", "f16", "f32")})
        assert VARIANTS[name].checks()


def test_names_are_unique_over_all_files() -> None:
    assert len(VARIANTS) == sum(len(module(f).ops) for f in FILES)


def test_a_spec_elsewhere_uses_the_library(tmp_path: Path) -> None:
    ops = "\n".join(f'use "std/{f.name}"' for f in FILES)
    spec = tmp_path / "mine.dsl"
    text = ops + "\nop f(Q: f32[B, H, N, D], W: int = 3) -> O: f32[B, H, N, D] {\n O = window(Q, Q, Q, W)\n}\n"
    assert load_text(text, str(spec)).ops == ("f",)


def test_a_file_beside_the_spec_comes_before_the_library(tmp_path: Path) -> None:
    (tmp_path / "std").mkdir()
    (tmp_path / "std" / "window.dsl").write_text("op mine(x: f32[N]) -> y: f32[N] {\n y[i] = 2 * x[i]\n}\n")
    use = 'use "std/window.dsl"\nop f(x: f32[N]) -> y: f32[N] {\n y = mine(x)\n}\n'
    assert load_text(use, str(tmp_path / "a.dsl")).ops == ("f",)


@pytest.mark.parametrize(
    "path", ["std/nothing.dsl", "std/../window.dsl", "std/./x/window.dsl", "window.dsl", "std", "std/"]
)
def test_only_files_of_the_library_are_found_there(tmp_path: Path, path: str) -> None:
    with pytest.raises(DiagnosticError, match="E231"):
        load_text(f'use "{path}"\nop f(x: f32[N]) -> y: f32[N] {{\n y[i] = x[i]\n}}\n', str(tmp_path / "a.dsl"))


def test_checks_of_a_file_bind_ops_of_that_file_only() -> None:
    for file in FILES:
        own = {item.name for item in parse(file.read_text(), str(file)).items if isinstance(item, ast.Op)}
        assert {name for check in module(file).checks for name in check.ops} == own
