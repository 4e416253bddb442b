"""PyTorch's opcheck of every operator of the library and of its backward."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tpcgen  # noqa: E402
from tests.std.library import VARIANTS, Variant  # noqa: E402
from tpcgen.interpreter.inputs import draw  # noqa: E402
from tpcgen.program.ir import Program  # noqa: E402
from tpcgen.program.sizes import Binding, bind  # noqa: E402
from tpcgen.rewrite.vjp import differentiable_inputs  # noqa: E402

pytestmark = pytest.mark.usefixtures("strictly")
QUICK = {"sigmoid_attention"}
"""Of those that others stand for; all of them take a quarter of an hour."""


@pytest.mark.parametrize(
    "variant",
    [pytest.param(v, id=v.name, marks=() if v.name in QUICK else pytest.mark.full) for v in VARIANTS.values()],
)
def test_opcheck_of_a_variant(variant: Variant, tmp_path: Path) -> None:
    program = variant.program("f32")
    wrt = differentiable_inputs(program)
    shutil.copytree(variant.file.parent, tmp_path, dirs_exist_ok=True)  # an op may use another file
    spec = tmp_path / variant.file.name
    own = variant.file.read_text()
    asked = f"vjp {variant.name} wrt {', '.join(wrt)}\n"
    spec.write_text(own if asked in own else f"{own}\n{asked}")
    tpcgen.load(spec, ops=variant.name, dtypes="f32", prefix="opcheck")
    binding = min((bind(program, values) for values in variant.checks()), key=Binding.elements)
    ops = getattr(torch.ops, f"opcheck_{variant.name}")
    given = _inputs(program, binding)
    attributes = [binding.values[a.name] for a in program.attributes]
    forward = getattr(ops, f"{variant.name}_f32").default
    torch.library.opcheck(forward, (*(x.requires_grad_(t in wrt) for t, x in given.items()), *attributes))
    cotangents = [torch.ones(binding.shape(t)) for t in program.outputs if t.dtype.is_float]
    backward = getattr(ops, f"{variant.name}_vjp_f32").default
    torch.library.opcheck(backward, (*(x.detach() for x in given.values()), *cotangents, *attributes))


def _inputs(program: Program, binding: Binding) -> dict[str, Any]:
    drawn = draw(program, binding, np.random.default_rng(0))
    return {t.name: torch.as_tensor(np.asarray(drawn[t.name])) for t in program.inputs}
