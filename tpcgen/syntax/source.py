"""Files -> text."""

from __future__ import annotations

from pathlib import Path

from tpcgen.diagnostics import NOWHERE, Diagnostics, Span


def read_source(path: str | Path) -> str:
    """The text of a file. Raises DiagnosticError: E501 if it cannot be read, E101 if it is not UTF-8."""
    found = Diagnostics()
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        found.error("E501", f"cannot read {path}: {reason}", NOWHERE)
        found.raise_if_errors()
        raise
    return decode(data, str(path))


def decode(data: bytes, file: str) -> str:
    """The text of what `file` holds. Raises DiagnosticError E101 if it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = Diagnostics()
        before = data[: error.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        here = Span(file, line, column, line, column + 1)
        found.error("E101", f"the file is not UTF-8: byte 0x{data[error.start]:02x}", here, "save it as UTF-8")
        found.raise_if_errors()
        raise
