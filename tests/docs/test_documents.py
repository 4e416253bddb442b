"""README and docs/ do what they say; documents.py tells how. `make golden` rewrites outputs without `...`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.documents import Block, blocks, commands, run, same

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_a_document_does_what_it_says(document: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("torch")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    text = document.read_text()
    wrong: list[str] = []
    done = [(block, run(block, tmp_path)) for block in blocks(text)]
    for old, new in reversed(done):
        if same(old.text, new):
            continue
        if request.config.getoption("--update-golden") and "...\n" not in old.text:
            text = text[: old.start] + new + text[old.end :]
        else:
            wrong.append(f"{document.name}:{old.line}: prints\n{new}")
    if request.config.getoption("--update-golden"):
        document.write_text(text)
    assert not wrong, "\n".join(reversed(wrong))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_fence_is_of_a_block_that_is_run(document: Path) -> None:
    """A fence inside a list, or with other marks, would be passed over: only `sh` and `text` may be."""
    text = document.read_text()
    for found in blocks(text):
        text = text.replace(f"```{found.language}", "", 1)
    assert set(re.findall(r"(?:```|~~~)(\w+)", text)) <= {"sh", "text"}


def test_links_lead_somewhere() -> None:
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        prose = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def block(language: str, text: str, info: str = "") -> Block:
    (found,) = blocks(f"```{language} {info}\n{text}```\n")
    return found


def test_a_broken_promise_is_seen(tmp_path: Path) -> None:
    said = block("console", "$ echo one; echo 1.5\none\n2.5\n$ printf 'a\\n\\nb\\n' \\\n    | cat\na\n...\n")
    printed = run(said, tmp_path)
    assert printed == "$ echo one; echo 1.5\none\n1.5\n$ printf 'a\\n\\nb\\n' \\\n    | cat\na\n\nb\n"
    assert same(said.text, printed)
    for wrong in ("one\n2", "two\n1.5", "one", "one\n1.5\nmore", "one\n1.5 s"):
        assert not same(said.text.replace("one\n2.5", wrong), printed)
    with pytest.raises(AssertionError, match="status 1"):
        run(block("console", "$ false\n"), tmp_path)
    with pytest.raises(AssertionError, match="status 0"):
        run(block("console", "$ true\n", "status=2"), tmp_path)
    with pytest.raises(AssertionError, match="status 1"):
        run(block("python", "assert 1 > 2\n"), tmp_path)
    with pytest.raises(AssertionError, match="not checked"):
        run(block("bash", "true\n"), tmp_path)


def test_times_and_rules_are_compared_by_shape() -> None:
    assert same("s_dot  30.8 us  MME\n-----  ----\n", "s_dot   121 us  MME\n----  -------\n")
    assert not same("s_dot  30.8 us  MME\n", "s_dot  30.8 us  TPC\n")
    assert not same("12 x 64\n", "13 x 64\n")
    assert [c.line for c in commands("$ a\nx\n$ b\n")] == ["a", "b"]
