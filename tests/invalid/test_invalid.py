"""Wrong specs, one per file: NAME.dsl, and NAME.expected with what the user is shown, `--update-golden` rewrites it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpcgen.diagnostics import Diagnostic, DiagnosticError, render
from tpcgen.program.resolve import load

FOLDER = Path(__file__).parent
SPECS = sorted(path.stem for path in FOLDER.glob("*.dsl"))


def shown(diagnostics: tuple[Diagnostic, ...]) -> str:
    files = {span.file for d in diagnostics for span in (d.span, *(label.span for label in d.labels))}
    sources = {file: Path(file).read_text(errors="replace") for file in files if Path(file).is_file()}
    return "\n\n".join(render(diagnostic, sources) for diagnostic in diagnostics) + "\n"


@pytest.mark.parametrize("spec", SPECS)
def test_wrong_spec_is_explained(spec: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    try:
        diagnostics = load(f"{spec}.dsl").warnings
    except DiagnosticError as error:
        diagnostics = error.diagnostics
    assert diagnostics, "the spec is not wrong"
    text = shown(diagnostics)
    expected = FOLDER / f"{spec}.expected"
    if request.config.getoption("--update-golden"):
        expected.write_text(text)
    assert expected.exists(), f"read what is shown, then run with --update-golden:\n{text}"
    assert text == expected.read_text()


def test_every_expectation_has_its_spec() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.expected")) == SPECS
