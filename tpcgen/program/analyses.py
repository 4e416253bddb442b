"""What is checked of a whole program once it is resolved."""

from __future__ import annotations

from tpcgen.diagnostics import Diagnostics, Severity
from tpcgen.program import ir
from tpcgen.syntax import ast


def analyse(program: ir.Program, op: ast.Op, found: Diagnostics) -> bool:
    """Runs every check; False when one of them found an error."""
    before = _errors(found)
    return _errors(found) == before


def _errors(found: Diagnostics) -> int:
    return sum(d.severity is Severity.ERROR for d in found)
