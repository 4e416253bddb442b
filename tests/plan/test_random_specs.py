"""Random specs: attention, scans and pieces of either. Every plan computes each of them."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.random_specs import attributes, specs
from tpcgen.interpreter import run
from tpcgen.interpreter.inputs import draw, families
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import load_text


@settings(max_examples=35, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(spec=specs(), choice=st.integers(0, 5))
def test_every_plan_of_a_random_spec_computes_it(execute, spec, choice):
    text, values = spec
    program = load_text(text).program("f")
    values = {**values, **attributes([a.name for a in program.attributes])}
    possible = families(program)
    family = possible[choice % len(possible)]
    inputs = draw(program, values, np.random.default_rng(1), family)
    wide = {t.name: inputs[t.name].astype(np.float64) if t.dtype.is_float else inputs[t.name] for t in program.inputs}
    truth = run(program, wide, {a.name: values[a.name] for a in program.attributes})
    for plan in enumerate_plans(program, "gaudi2"):
        result = execute(plan, wide, values, "exact")
        for name, expected in truth.items():
            scale = np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=1.0)
            np.testing.assert_allclose(
                result[name], expected, rtol=1e-9, atol=1e-12 * scale, err_msg=f"{plan.label}, {family} inputs\n{text}"
            )
