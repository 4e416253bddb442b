"""GFormer's pieces on the strict device: as written, in bands, in chunks, at splits that leave a piece empty."""

from __future__ import annotations

import pytest

from tests.device.harness import build, drawn, failures, judged
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import CopyStage
from tpcgen.program import load

SPEC = "examples/gformer.dsl"
ALGORITHMS = ("softmax", "bands of 64: ", "chunks of 64: ", "bands of 64, chunks of 64: ")
CASES = [
    {"B": 2, "H": 3, "N": 65, "D": 16, "E": 24, "W": 20, "Hs": 1},
    {"B": 1, "H": 3, "N": 63, "D": 7, "E": 5, "W": 3, "Hs": 0},
    {"B": 1, "H": 2, "N": 129, "D": 8, "E": 8, "W": 300, "Hs": 2},
]


@pytest.mark.full  # tests/torch/test_pieces.py has empty pieces too, test_variants.py every algorithm
@pytest.mark.parametrize(("target", "dtype"), [("gaudi", "f32"), ("gaudi2", "bf16")])
def test_pieces_compute_the_op(target, dtype, tmp_path):
    program = load(SPEC).program("gformer", T=dtype)
    labels = [p.label for p in enumerate_plans(program, target)]
    chosen = {next(i for i, label in enumerate(labels) if label.startswith(a)) for a in ALGORITHMS}
    with Session() as session:
        plans = build({"g": program}, tmp_path, session, [target], lambda _name, _target, number: number in chosen)["g"]
        assert len(plans) == len(ALGORITHMS)
        for plan in plans:
            joined = plan.variant.plan.stages[-1]
            assert isinstance(joined, CopyStage)
            assert len(joined.copy.pieces) == 2
        for values in CASES:
            for family in families(program):
                outcomes = list(judged(plans, values, drawn(program, values, family), f"{values} {family}"))
                assert not failures(outcomes), "\n".join(map(str, failures(outcomes)))
                assert len(outcomes) == len(plans)
