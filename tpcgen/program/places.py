"""Exact places of words inside AST nodes, for carets: the AST keeps names as plain strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tpcgen.diagnostics import Span


@dataclass(frozen=True)
class Places:
    """Looks words up in the text of the files (`sources`: file to text)."""

    sources: Mapping[str, str]
    _lines: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def word(self, inside: Span, word: str, after: str = "", nth: int = 0) -> Span:
        """The nth whole-word occurrence within `inside`, right of the first `after`; `inside` if there is none."""
        if inside.file not in self._lines:
            self._lines[inside.file] = self.sources.get(inside.file, "").split("\n")
        lines = self._lines[inside.file]
        skipping = after
        for number in range(inside.line, min(inside.end_line, len(lines)) + 1):
            text = lines[number - 1].split("#")[0]
            start = inside.column - 1 if number == inside.line else 0
            end = inside.end_column - 1 if number == inside.end_line else len(text)
            if skipping:
                found = text.find(skipping, start, end)
                if found < 0:
                    continue
                start, skipping = found + len(skipping), ""
            for at in _whole(word, text, start, end):
                if nth == 0:
                    return Span(inside.file, number, at + 1, number, at + len(word) + 1)
                nth -= 1
        return inside


def _whole(word: str, text: str, start: int, end: int) -> Iterator[int]:
    """Where the word stands between characters that are not part of a name."""
    at = text.find(word, start, end)
    while at >= 0:
        around = text[max(0, at - 1) : at] + text[at + len(word) : at + len(word) + 1]
        if not any(c.isalnum() or c == "_" for c in around):
            yield at
        at = text.find(word, at + 1, end)
