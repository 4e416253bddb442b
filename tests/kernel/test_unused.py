"""Nothing is computed that nothing reads: tpc-clang warns of it, and warnings are errors where it builds."""

from __future__ import annotations

import pytest

from tests.kernel.stages import stage_of
from tests.kernel.test_reads import CASES, Reads
from tpcgen.kernel.ir import Load, VectorOp, registers_read, walk
from tpcgen.kernel.lower import draft


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_register_is_read(case: Reads):
    kernel = draft(stage_of(case.text, case.lane), "gaudi2")
    statements = [*walk(kernel.setup), *walk(kernel.body)]
    read = {name for s in statements for name in registers_read(s)}
    made = {s.dest.name for s in statements if isinstance(s, VectorOp | Load)}
    assert made
    assert made <= read
