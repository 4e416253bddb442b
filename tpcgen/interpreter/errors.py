"""Errors of running a program: wrong inputs, and visiting what must not be visited."""

from __future__ import annotations

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError, Span


class InterpreterError(DiagnosticError):
    """Ids: E351 a visited read outside its tensor; E352 a visited integer division by zero; E353 equations that
    overlap; E354 a contract the inputs violate; E355 inputs or values that do not fit the program; E356 no inputs
    found that satisfy the contracts."""


def fail(id: str, message: str, span: Span = NOWHERE, hint: str = "") -> InterpreterError:
    return InterpreterError((Diagnostic(id, message, span, hint),))
