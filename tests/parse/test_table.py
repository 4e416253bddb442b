"""The cached parse table is an aid: whatever happens to it, parsing works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tpcgen.syntax import table
from tpcgen.syntax.parser import parse
from tpcgen.syntax.words import Word

SPEC = "fn f(x) = x + 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no table in memory."""
    monkeypatch.setenv("TPCGEN_CACHE_DIR", str(tmp_path / "tpcgen"))
    table.table.cache_clear()
    yield tmp_path / "tpcgen"
    table.table.cache_clear()


def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every grammar that a table is built from, from now on."""
    seen: list[str] = []
    build = table.build
    monkeypatch.setattr(table, "build", lambda grammar: (seen.append(grammar), build(grammar))[1])
    return seen


def test_the_second_process_loads_what_the_first_one_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = builds(monkeypatch)
    first = parse(SPEC, "p")
    table.table.cache_clear()
    assert parse(SPEC, "p") == first
    assert len(built) == 1
    (file,) = folder.iterdir()
    assert file.suffix == ".pickle"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:1000],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:],
        lambda data: b"\0" * len(data),
    ],
    ids=["empty", "cut", "last bit", "first bytes", "zeros"],
)
def test_a_damaged_table_is_built_anew(folder: Path, monkeypatch: pytest.MonkeyPatch, damage) -> None:
    parse(SPEC, "p")
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    table.table.cache_clear()
    built = builds(monkeypatch)
    parse(SPEC, "p")
    assert len(built) == 1
    assert table._load(file) is not None


def test_a_table_that_is_no_pickle_is_built_anew(folder: Path) -> None:
    import hashlib

    parse(SPEC, "p")
    (file,) = folder.iterdir()
    file.write_bytes(hashlib.sha256(b"nonsense").digest() + b"nonsense")
    table.table.cache_clear()
    parse(SPEC, "p")


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    parse(SPEC, "p")
    assert folder.read_text() == "a file where the folder should be"


def test_another_grammar_has_another_file() -> None:
    assert table._cache_path("a") != table._cache_path("b")


def test_a_fresh_process_parses_without_cache(tmp_path: Path) -> None:
    code = "from tpcgen.syntax.parser import parse; print(len(parse('fn f(x) = x', 'p').items))"
    root = Path(table.__file__).parents[2]
    environment = {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/proc/none", "PYTHONPATH": str(root), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_word_is_its_text() -> None:
    from tpcgen.diagnostics import NOWHERE

    word = Word("NAME", "abc", NOWHERE)
    assert (word, word.type, word.span) == ("abc", "NAME", NOWHERE)
