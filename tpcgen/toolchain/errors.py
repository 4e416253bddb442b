"""The failure of a compiler or linker, ours or the vendor's."""

from __future__ import annotations

from tpcgen.diagnostics import DiagnosticError


class ToolchainError(DiagnosticError):
    """A toolchain is missing, refused the source, or broke. The command line turns it into exit status 3."""
