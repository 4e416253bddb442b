"""What lowering cannot do, as the user is told."""

from __future__ import annotations

from tpcgen.diagnostics import Diagnostic, DiagnosticError, Span


def not_lowered(id: str, message: str, span: Span, hint: str = "") -> DiagnosticError:
    """To be raised: one diagnostic, E420 to E427 or E430 (`tpcgen explain`)."""
    return DiagnosticError((Diagnostic(id, message, span, hint),))
