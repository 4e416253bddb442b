"""Every diagnostic id in the code has an explanation, and the explanations are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tpcgen
from tpcgen.diagnostics import DiagnosticError
from tpcgen.explain import example, explanation, ids
from tpcgen.program.resolve import load_text

PACKAGE = Path(tpcgen.__file__).parent
IN_CODE = sorted({id for path in PACKAGE.rglob("*.py") for id in re.findall(r'"([EW]\d{3})"', path.read_text())})


def diagnosed(spec: str, folder: Path) -> list[str]:
    (folder / "window.dsl").touch()
    try:
        return [diagnostic.id for diagnostic in load_text(spec, str(folder / "spec.dsl")).warnings]
    except DiagnosticError as error:
        return [diagnostic.id for diagnostic in error.diagnostics]


@pytest.mark.parametrize("id", IN_CODE)
def test_an_id_in_the_code_is_explained(id: str) -> None:
    text = explanation(id)
    assert text is not None
    assert text.startswith(f"# {id}: ")


def test_no_explanation_without_an_id_in_the_code() -> None:
    assert set(ids()) <= set(IN_CODE)


@pytest.mark.parametrize("id", ids())
def test_the_wrong_example_is_wrong_and_the_right_one_right(id: str, tmp_path: Path) -> None:
    text = explanation(id)
    assert text is not None
    wrong, right = example(text, "Wrong"), example(text, "Right")
    assert bool(wrong) == bool(right)
    if wrong:
        assert id in diagnosed(wrong, tmp_path)
        assert diagnosed(right, tmp_path) == []


@pytest.mark.parametrize("id", ["", "E9", "../cli", "E104.md", "e104", "E104\n"])
def test_what_is_no_id_has_no_explanation(id: str) -> None:
    assert explanation(id) is None
