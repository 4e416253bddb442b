"""Backward ops on the strict host device: compiled from what vjp derives, judged against the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.device.harness import Built, build, drawn, wrong_gradients
from tests.std.library import VARIANTS
from tpcgen.host.api import Session
from tpcgen.interpreter.run import run
from tpcgen.program.ir import Program
from tpcgen.rewrite.vjp import differentiable_inputs, vjp

SIZES = {
    "causal": {"B": 1, "H": 2, "M": 7, "N": 65, "D": 8, "E": 7},
    "window": {"B": 1, "H": 1, "N": 129, "D": 8, "E": 7, "W": 30},
    "linear": {"B": 1, "H": 2, "N": 65, "D": 8, "E": 7},
    "gated_linear": {"B": 1, "H": 2, "N": 7, "D": 5, "E": 3},
    "gformer": {"B": 1, "H": 3, "N": 63, "D": 8, "E": 7, "W": 9, "Hs": 2},
}


def _gradient(name: str, dtype: str) -> Program:
    program = VARIANTS[name].program(dtype)
    return vjp(program, differentiable_inputs(program))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Built]]]:
    programs = {name: _gradient(name, "bf16" if name in ("causal", "gated_linear") else "f32") for name in SIZES}
    with Session() as session:
        yield build(programs, tmp_path_factory.mktemp("gradients"), session, ("gaudi2",), lambda _n, _t, at: at == 0)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("family", ["normal", "equal"])
def test_a_backward_op_computes_what_vjp_says(name: str, family, built: dict[str, list[Built]]) -> None:
    program, values = built[name][0].variant.plan.program, SIZES[name]
    inputs = drawn(program, values, family)
    attributes = {a.name: values[a.name] for a in program.attributes}
    truth, device = (run(program, inputs, attributes, mode=mode) for mode in ("exact", "device"))
    for output in program.outputs:
        largest = np.abs(truth[output.name]).max()
        assert (
            largest > 0 and np.abs(device[output.name].astype(np.float64) - truth[output.name]).max() < 0.02 * largest
        )
    wrong = wrong_gradients(built[name], values, inputs, program)
    assert not wrong, "\n".join(wrong)
