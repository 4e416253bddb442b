"""Every plan of every lowered example computes what the interpreter says the program means."""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.diagnostics import Diagnostics
from tpcgen.interpreter import run
from tpcgen.interpreter.compare import judge
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program.verify import verify
from tpcgen.rewrite.normalise import REWRITES

CASES = {
    "causal": [
        {"B": 2, "H": 6, "G": 2, "M": 7, "N": 9, "D": 5, "E": 3},
        {"B": 1, "H": 4, "G": 4, "M": 65, "N": 129, "D": 16, "E": 8},
        {"B": 1, "H": 3, "G": 1, "M": 1, "N": 63, "D": 8, "E": 1},
    ],
    "alibi_causal": [
        {"B": 1, "H": 3, "M": 63, "N": 65, "D": 16, "E": 8},
        {"B": 2, "H": 2, "M": 1, "N": 1, "D": 4, "E": 2},
    ],
    "window": [
        {"B": 1, "H": 3, "N": 65, "D": 16, "E": 8, "W": 7},
        {"B": 2, "H": 2, "N": 33, "D": 8, "E": 4, "W": 100},
        {"B": 1, "H": 2, "N": 9, "D": 4, "E": 4, "W": 1},
    ],
    "full": [{"B": 1, "H": 3, "M": 129, "N": 63, "D": 16, "E": 8}, {"B": 2, "H": 1, "M": 7, "N": 1, "D": 4, "E": 2}],
    "linear": [{"B": 1, "H": 2, "N": 65, "D": 8, "E": 4}],
}
SIZED = [pytest.param(name, values, id=f"{name}{i}") for name, many in CASES.items() for i, values in enumerate(many)]


@pytest.mark.parametrize(("name", "values"), SIZED)
def test_every_plan_is_the_program_in_float64(name, values, example, random_inputs, execute):
    program = example(name)
    inputs = {k: a.astype(np.float64) for k, a in random_inputs(program, values).items()}
    attributes = {a.name: values[a.name] for a in program.attributes if a.name in values}
    truth = run(program, inputs, attributes)
    assert any(np.any(t) for t in truth.values())
    for plan in enumerate_plans(program, "gaudi2"):
        result = execute(plan, inputs, values, "exact")
        for output, expected in truth.items():
            np.testing.assert_allclose(result[output], expected, rtol=1e-12, atol=1e-13, err_msg=plan.label)


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize(("name", "values"), SIZED)
def test_every_plan_rounds_like_the_program(name, values, dtype, example, random_inputs, execute):
    program = example(name, dtype)
    inputs = random_inputs(program, values)
    attributes = {a.name: values[a.name] for a in program.attributes if a.name in values}
    wide = {k: a.astype(np.float64) for k, a in inputs.items()}
    truth, device = run(program, wide, attributes), run(program, inputs, attributes, mode="device")
    for plan in enumerate_plans(program, "gaudi"):
        result = execute(plan, inputs, values, "device")
        for output, expected in truth.items():
            verdict = judge(result[output], expected, device[output])
            assert verdict.passed, (plan.label, verdict)


@pytest.mark.parametrize(("name", "values"), [p for p in SIZED if p.id.endswith("0")])
def test_each_rewrite_keeps_the_result(name, values, example, random_inputs):
    program = example(name)
    inputs = {k: a.astype(np.float64) for k, a in random_inputs(program, values).items()}
    attributes = {a.name: values[a.name] for a in program.attributes if a.name in values}
    truth = run(program, inputs, attributes)
    for rewrite, function in REWRITES:
        program = verify(function(program, Diagnostics()))
        result = run(program, inputs, attributes)
        for output, expected in truth.items():
            np.testing.assert_allclose(result[output], expected, rtol=1e-12, atol=1e-13, err_msg=rewrite)
