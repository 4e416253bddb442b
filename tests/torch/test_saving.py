"""A forward that keeps row maxima and sums for its gradient: who calls it, and that the gradients are the same."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

import tpcgen  # noqa: E402
from tests.torch.graphs import Called  # noqa: E402

SPEC = """
op kept(Q: f32[N, D], K: f32[M, D], V: f32[M, E], snk: f32[N]) -> O: f32[N, E]
{
    S[q,k] = sum[d](Q[q,d] * K[k,d])
    P[q,k] = softmax[k sink snk[q]](S[q,k])
    O[q,e] = sum[k](P[q,k] * V[k,e])
    schedule { save P rows; }
}

vjp kept wrt Q, K, V, snk
"""
SIZES = ((7, 5), (9, 5), (9, 3), (7,))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Every kernel runs strictly, each time: a fast build takes a minute."""
    path = tmp_path_factory.mktemp("saving") / "kept.dsl"
    path.write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tpcgen.torch.stages.has_passed", lambda fingerprint: False)
        yield tpcgen.load(path, prefix="saving")


def drawn(scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(s, generator=generator) * scale).requires_grad_() for s in SIZES]


def plain(Q, K, V, snk):
    logits = torch.cat([Q @ K.T, snk[:, None]], 1)
    return torch.softmax(logits, 1)[:, :-1] @ V


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_gradients_are_those_of_the_equations(module, scale):
    """Also at logits of 1e5, where rows are one-hot."""
    ours, theirs = drawn(scale), [x.detach().double().requires_grad_() for x in drawn(scale)]
    for f, inputs in ((module.kept, ours), (plain, theirs)):
        out = f(*inputs)
        out.backward(torch.cos(torch.arange(out.numel(), dtype=out.dtype)).reshape(out.shape))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-5)


def test_nothing_is_kept_where_no_gradient_is_asked_for(module):
    inputs = drawn()
    with Called("saving") as called:
        with torch.no_grad():
            without = module.kept(*inputs)
        with torch.inference_mode():
            module.kept(*inputs)
        module.kept(*(x.detach() for x in inputs))
    assert called.names == ["kept_f32"] * 3
    with Called("saving") as called:
        kept = module.kept(*inputs)
    assert called.names == ["kept_saving_f32"]
    torch.testing.assert_close(kept, without)


def test_the_op_itself_has_the_same_gradient(module):
    """It runs the forward that keeps before the gradient."""
    ops = torch.ops.saving_kept
    ours, again = drawn(), drawn()
    module.kept(*ours).sum().backward()
    ops.kept_f32(*again).sum().backward()
    for a, b in zip(ours, again, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_graph_without_breaks(module):
    ours, again = drawn(), drawn()
    module.kept(*ours).sum().backward()
    torch.compile(module.kept, fullgraph=True, backend="aot_eager")(*again).sum().backward()
    for a, b in zip(ours, again, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("name", ["kept_f32", "kept_saving_f32"])
def test_opcheck(module, name):
    torch.library.opcheck(getattr(torch.ops.saving_kept, name).default, tuple(drawn()))


def test_gradcheck_of_the_reference(module):
    assert torch.autograd.gradcheck(module.kept.reference, [x.detach().double().requires_grad_() for x in drawn()])
