"""Plans of specs that need more than attention's usual layouts: moves, masks copied into operands, hoisted reductions.

Inputs come from every family of `interpreter.inputs`, stale ones included: NaN wherever nobody looks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tpcgen.interpreter import run
from tpcgen.interpreter.inputs import draw, families
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import CopyStage, MmeStage, MoveStage, TpcStage
from tpcgen.program import load

SPECS = sorted((Path(__file__).parent / "specs").glob("*.dsl"))


def stages(plan):
    kinds = {MmeStage: "mme", TpcStage: "tpc", MoveStage: "move", CopyStage: "copy"}
    return [kinds[type(s)] for s in plan.stages]


@pytest.fixture(params=SPECS, ids=[p.stem for p in SPECS])
def spec(request):
    module = load(str(request.param))
    return module.program(request.param.stem), module.checks[0].values


def test_every_plan_computes_the_spec(spec, execute):
    program, values = spec
    attributes = {a.name: values[a.name] for a in program.attributes}
    plans = enumerate_plans(program, "gaudi2")
    for family in families(program):
        inputs = draw(program, values, np.random.default_rng(0), family)
        wide = {
            t.name: inputs[t.name].astype(np.float64) if t.dtype.is_float else inputs[t.name] for t in program.inputs
        }
        truth = run(program, wide, attributes)
        for plan in plans:
            result = execute(plan, wide, values, "exact")
            for name, expected in truth.items():
                np.testing.assert_allclose(
                    result[name], expected, rtol=1e-10, atol=1e-11, err_msg=f"{plan.label}, {family} inputs"
                )


def test_labels_are_unique_and_moves_are_the_only_difference_between_layouts(spec):
    program, _ = spec
    plans = enumerate_plans(program, "gaudi2")
    assert len({p.label for p in plans}) == len(plans)
    algorithms = {p.label.rpartition(":")[0] for p in plans}
    assert len({tuple(s for s in stages(p) if s != "move") for p in plans}) == len(algorithms)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mqa", ["mme", "tpc", "tpc", "mme"]),
        ("bshd", ["move", "move", "mme", "tpc", "move", "mme", "move"]),
        ("transposed_output", ["mme", "tpc", "tpc", "mme", "move"]),
        ("proj", ["mme", "tpc", "mme", "move", "mme"]),
        ("differential", ["mme", "mme", "tpc", "mme"]),
        ("two_outputs", ["mme", "tpc"]),
        ("chain", ["mme", "tpc", "mme", "tpc"]),
    ],
)
def test_stages_of_the_first_plan(name, expected):
    program = load(str(Path(__file__).parent / "specs" / f"{name}.dsl")).program(name)
    assert stages(enumerate_plans(program, "gaudi")[0]) == expected
