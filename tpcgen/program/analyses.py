"""What is checked of a whole program once it is resolved."""

from __future__ import annotations

from tpcgen.diagnostics import Diagnostics, Severity
from tpcgen.program import ir
from tpcgen.program.disjoint import check_disjoint
from tpcgen.program.lint import lint
from tpcgen.program.presence import check_presence
from tpcgen.program.scans import check_scans


def analyse(program: ir.Program, found: Diagnostics) -> bool:
    """Runs every check; False when one of them found an error."""
    before = _errors(found)
    check_scans(program, found)
    check_disjoint(program, found)
    check_presence(program, found)
    lint(program, found)
    return _errors(found) == before


def _errors(found: Diagnostics) -> int:
    return sum(d.severity is Severity.ERROR for d in found)
