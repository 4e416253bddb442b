"""What `tpcgen explain ID` says: one text per diagnostic id, explanations/ID.md.

A text is `# ID: title`, a paragraph, and unless no short spec can show it, a whole wrong spec after `Wrong:` and a
whole right one after `Right:`, both indented. Tests check that the wrong one gives the diagnostic, the right one not.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

FOLDER = Path(__file__).parent / "explanations"

_ID = re.compile(r"[EW][0-9]{3}")


def ids() -> tuple[str, ...]:
    """Every id that has an explanation, in order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.md")))


def explanation(id: str) -> str | None:
    """The text for an id such as "E104", None if there is none."""
    if not _ID.fullmatch(id):
        return None
    path = FOLDER / f"{id}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def example(text: str, heading: str) -> str:
    """The spec after a line `Wrong:` or `Right:` of an explanation, "" if it has none."""
    match = re.search(rf"^{heading}:\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    return dedent(match.group(1)).rstrip("\n") + "\n" if match else ""
