"""A scan whose backward goes in chunks, as an op of torch: tuned for 4,096 steps, run at fewer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tpcgen
from tests.std.library import VARIANTS

pytestmark = pytest.mark.full
ITEM = "\nvjp gated_linear wrt Q, K, V, g\n"


def test_backward_and_fullgraph(tmp_path: Path) -> None:
    spec = tmp_path / "gated.dsl"
    spec.write_text(VARIANTS["gated_linear"].file.read_text() + ITEM)
    sizes = {"B": 1, "H": 8, "N": 4096, "D": 64, "E": 64}
    op = tpcgen.load(spec, binds=sizes, dtypes="f32", ops="gated_linear").gated_linear
    torch.manual_seed(0)
    shapes = ((1, 2, 130, 8), (1, 2, 130, 8), (1, 2, 130, 7))
    inputs = [*(torch.randn(s) for s in shapes), torch.sigmoid(torch.randn(1, 2, 130) + 2)]
    weights = torch.randn(1, 2, 130, 7)

    def gradients(f: object, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        own = [x.to(dtype).requires_grad_() for x in inputs]
        return torch.autograd.grad((f(*own) * weights.to(dtype)).sum(), own)  # type: ignore[operator]

    found = gradients(op, torch.float32)
    for mine, wanted in zip(found, gradients(op.reference, torch.float64), strict=True):
        torch.testing.assert_close(mine.double(), wanted, rtol=1e-5, atol=1e-6 * wanted.abs().max().item())
    again = gradients(torch.compile(op, fullgraph=True, backend="aot_eager"), torch.float32)
    assert all(map(torch.equal, found, again))
