"""GFormer's pieces as one operator: heads on either side of the split against plain torch, empty pieces included."""

from __future__ import annotations

from types import ModuleType

import pytest

import tpcgen
from tests.torch.conftest import EXAMPLES, package

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def gformer(strict_module: None) -> ModuleType:
    return package(tpcgen.load(EXAMPLES / "gformer.dsl").gformer)


def truth(q, k, v, snk, heads, w):
    """Windowed heads below `heads`, linear ones from there on, in float64."""
    q, k, v, snk = (x.double() for x in (q, k, v, snk))
    n = torch.arange(q.shape[2])
    seen = (n[None] <= n[:, None]) & (n[None] > n[:, None] - w)
    scores = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).masked_fill(~seen, -torch.inf)
    logits = torch.cat([scores, snk[None, :, None, None].expand(*scores.shape[:3], 1)], 3)
    windowed = logits.softmax(3)[..., :-1] @ v
    a = (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).transpose(2, 3)
    a = a.masked_fill(n[None] > n[:, None], 0)
    linear = a @ v / a.sum(3, keepdim=True)
    return torch.cat([windowed[:, :heads], linear[:, heads:]], 1)


def draw(b, h, n, d, e, dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = ((b, h, n, d), (b, h, n, d), (b, h, n, e))
    q, k, v = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    return q, k, v, torch.randn(h, generator=generator)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(
    ("sizes", "w", "heads"),
    [((2, 4, 96, 64, 64), 32, 2), ((1, 3, 65, 16, 24), 7, 0), ((2, 3, 129, 8, 5), 40, 3), ((1, 1, 1, 7, 1), 1, 1)],
)
def test_heads_on_either_side(gformer, sizes, w, heads, dtype):
    q, k, v, snk = draw(*sizes, dtype=torch.float32 if dtype == "f32" else torch.bfloat16)
    found = gformer.gformer(q, k, v, snk, Hs=heads, W=w)
    assert found.dtype == q.dtype
    tolerance = 2e-5 if dtype == "f32" else 2e-2
    torch.testing.assert_close(found.double(), truth(q, k, v, snk, heads, w), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("heads", [-1, 4])
def test_a_split_outside_the_heads_is_a_broken_contract(gformer, heads):
    with pytest.raises(ValueError, match=r"needs .*Hs"):
        gformer.gformer(*draw(1, 3, 8, 8, 8, torch.float32), Hs=heads)


def test_the_graph_does_not_depend_on_the_split(gformer):
    compiled = torch.compile(gformer.gformer, backend="aot_eager", fullgraph=True)
    inputs = draw(2, 4, 96, 64, 64, torch.float32)
    for heads in (2, 1):
        expected = gformer.gformer(*inputs, Hs=heads, W=32)
        torch.testing.assert_close(compiled(*inputs, Hs=heads, W=32), expected)
