"""Spans, diagnostics and how they are shown. Knows nothing of the language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of source text. Lines and columns count from 1; `end_column` is one past the last character."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def to(self, other: Span) -> Span:
        """The stretch from the start of this span to the end of `other`."""
        return Span(self.file, self.line, self.column, other.end_line, other.end_column)


NOWHERE = Span("<generated>", 0, 0, 0, 0)


def file_label(path: str) -> str:
    """A file's name as it is written into what is emitted: one word that ends no comment, string or line."""
    return re.sub(r"[^\w.+-]", "_", path.rsplit("/", 1)[-1])


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Label:
    """A second place that takes part in a diagnostic: the other side of a conflict."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message for the user: where, what is wrong (`message`), what would be right (`hint`).

    `id` is stable: `E1xx` syntax, `E2xx` names and types, `E3xx` domains and contracts, `E4xx` not lowered yet,
    `E5xx` command line and files, `E6xx` toolchains, `W1xx` warnings. `tpcgen explain ID` explains it.
    """

    id: str
    message: str
    span: Span
    hint: str = ""
    labels: tuple[Label, ...] = ()
    severity: Severity = Severity.ERROR


class DiagnosticError(Exception):
    """Raised when there is at least one error; carries all diagnostics found so far, warnings included."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.diagnostics = diagnostics
        super().__init__(diagnostics)

    def __str__(self) -> str:
        """As the command line shows it."""
        texts = read_sources(self.diagnostics)
        return "\n".join(render(d, texts) for d in self.diagnostics)


@dataclass
class Diagnostics:
    """Collects diagnostics of one run, so that several errors are reported at a time."""

    found: list[Diagnostic] = field(default_factory=list[Diagnostic])

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.found)

    def error(self, id: str, message: str, span: Span, hint: str = "", labels: tuple[Label, ...] = ()) -> None:
        self._add(Diagnostic(id, message, span, hint, labels))

    def warning(self, id: str, message: str, span: Span, hint: str = "", labels: tuple[Label, ...] = ()) -> None:
        self._add(Diagnostic(id, message, span, hint, labels, Severity.WARNING))

    def _add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self.found:
            self.found.append(diagnostic)

    @property
    def has_errors(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self.found)

    def raise_if_errors(self) -> None:
        """Raise DiagnosticError with everything found if any of it is an error."""
        if self.has_errors:
            raise DiagnosticError(tuple(sorted(self.found, key=lambda d: (d.span.file, d.span.line, d.span.column))))


def render(diagnostic: Diagnostic, sources: Mapping[str, str]) -> str:
    """Plain text of one diagnostic: header, source line with caret, labels, hint. `sources` maps file to text."""
    place = f"{diagnostic.span}: " if diagnostic.span.line else ""
    lines = [f"{place}{diagnostic.severity.value}[{diagnostic.id}]: {diagnostic.message}"]
    lines += _excerpt(diagnostic.span, sources, "^")
    for label in diagnostic.labels:
        lines.append(f"{label.span}: note: {label.text}")
        lines += _excerpt(label.span, sources, "-")
    if diagnostic.hint:
        lines.append(f"  = help: {diagnostic.hint}")
    return "\n".join(lines)


def read_sources(diagnostics: Iterable[Diagnostic]) -> dict[str, str]:
    """The text of every file they point into; empty for what cannot be read."""
    return {file: _source(file) for d in diagnostics for file in (d.span.file, *(x.span.file for x in d.labels))}


def _source(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _excerpt(span: Span, sources: Mapping[str, str], mark: str) -> list[str]:
    text = re.split(r"\r\n|\r|\n", sources.get(span.file, "").removeprefix("\ufeff"))
    if not 1 <= span.line <= len(text):
        return []
    source = "".join(character if character.isprintable() else " " for character in text[span.line - 1])
    end = span.end_column if span.end_line == span.line else len(source) + 1
    gutter = str(span.line)
    blank = " " * len(gutter)
    caret = " " * (span.column - 1) + mark * max(1, end - span.column)
    return [f" {blank} |", f" {gutter} | {source}", f" {blank} | {caret}"]
