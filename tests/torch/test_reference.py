"""References of the whole library under PyTorch's own gradcheck."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.std.library import VARIANTS, Variant  # noqa: E402
from tests.vjp.differences import widened  # noqa: E402
from tests.vjp.test_gradients import of_variant  # noqa: E402
from tpcgen.interpreter.inputs import draw  # noqa: E402
from tpcgen.program import print as text  # noqa: E402
from tpcgen.program.sizes import Binding, bind  # noqa: E402
from tpcgen.rewrite.vjp import differentiable_inputs  # noqa: E402
from tpcgen.torch.reference import reference  # noqa: E402


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_gradcheck_of_a_variant(variant: Variant, tmp_path: Path) -> None:
    """Along one random direction: the tests of vjp look at every input."""
    program, gradient = of_variant(variant)
    wrt = differentiable_inputs(program)
    spec = tmp_path / "reference.dsl"
    spec.write_text(text.program(program) + "\n" + text.program(gradient))
    binding = min((bind(program, values) for values in variant.checks()), key=Binding.elements)
    inputs = widened(program, draw(program, binding, np.random.default_rng(0)))
    given = [torch.as_tensor(inputs[t.name]).requires_grad_(t.name in wrt) for t in program.inputs]
    attributes = {a.name: binding.values[a.name] for a in program.attributes}
    function = reference(spec, program.name, gradient=gradient.name, wrt=wrt)
    assert torch.autograd.gradcheck(lambda *x: function(*x, **attributes), given, fast_mode=True)


def test_calls_that_the_operator_would_refuse_are_refused(tmp_path: Path) -> None:
    spec = tmp_path / "scaled.dsl"
    spec.write_text("op scaled(x: f32[N], c: f32 = 2) -> y: f32[N] {\n y[i] = c * x[i]\n}\n")
    function = reference(spec, "scaled")
    x = torch.arange(3.0)
    assert function(x).tolist() == function(x, 2).tolist() == function(x=x, c=2).tolist() == [0, 2, 4]
    for given, named in (((x, 2, 3), {}), ((x,), {"d": 2}), ((x, 2), {"c": 2}), ((), {"c": 2})):
        with pytest.raises(TypeError):
            function(*given, **named)
