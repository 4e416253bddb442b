"""The rewrites every plan starts from, in order; whatever one changes is verified."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from tpcgen.diagnostics import Diagnostics
from tpcgen.program import ir
from tpcgen.program.verify import verify
from tpcgen.rewrite.drop_dead import drop_dead
from tpcgen.rewrite.gather_operands import gather_operands
from tpcgen.rewrite.guard_absent import guard_absent
from tpcgen.rewrite.hoist_reductions import hoist_reductions
from tpcgen.rewrite.inline_maps import inline_maps
from tpcgen.rewrite.last_states import last_states
from tpcgen.rewrite.materialise_operands import materialise_operands
from tpcgen.rewrite.merge_pieces import merge_pieces
from tpcgen.rewrite.search_once import search_once
from tpcgen.rewrite.separate_states import separate_states
from tpcgen.rewrite.split_contractions import split_contractions
from tpcgen.rewrite.support import Same
from tpcgen.rewrite.tabulate import tabulate
from tpcgen.rewrite.unsupported import report_unsupported

Rewrite = Callable[[ir.Program, Diagnostics], ir.Program]

REWRITES: tuple[tuple[str, Rewrite], ...] = (
    ("last_states", lambda program, _: last_states(program)),
    ("merge_pieces", merge_pieces),
    ("split_contractions", lambda program, _: split_contractions(program)),
    ("gather_operands", lambda program, _: gather_operands(program)),
    ("materialise_operands", materialise_operands),
    ("search_once", lambda program, _: search_once(program)),
    ("hoist_reductions", lambda program, _: hoist_reductions(program)),
    ("inline_maps", lambda program, _: inline_maps(program)),
    ("guard_absent", guard_absent),
    ("tabulate", lambda program, _: tabulate(program)),
    ("separate_states", lambda program, _: separate_states(program)),
    ("drop_dead", lambda program, _: drop_dead(program)),
)


def normalise(program: ir.Program) -> ir.Program:
    """Contractions with stored operands, and what remains between them; the same outputs, rounding included.

    DiagnosticError (E4xx) for every construct that is not lowered yet.
    """
    return _normalised(Same(program))


@lru_cache(maxsize=4)
def _normalised(of: Same[ir.Program]) -> ir.Program:
    """An op as written and the kernels of its whole attention start from one program."""
    program = of.item
    found = Diagnostics()
    report_unsupported(program, found)
    found.raise_if_errors()
    for _, rewrite in REWRITES:
        program = rewrite(program, found)
        found.raise_if_errors()
    return verify(program)
