"""Gradients of emitted operators: their kernels beside autograd's own, the reference in gradcheck, PyTorch's habits."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import tpcgen

torch = pytest.importorskip("torch")

from tests.torch.graphs import Called  # noqa: E402
from tests.torch.test_operators import DTYPES, TOLERANCE, draw  # noqa: E402
from tpcgen.torch.stages import StageLibrary  # noqa: E402

pytestmark = pytest.mark.usefixtures("strictly")
SPEC = """\
dtype T in bf16, f32

op attend(Q: T[H, N, D], K: T[H, N, D], V: T[H, N, E], snk: f32[H], keep: i32[N], c: f32 = 1)
    -> O: T[H, N, E], seen: i32[H, N]
{
    S[h,q,k] = c * rsqrt(D) * sum[d](Q[h,q,d] * K[h,k,d])
    P[h,q,k] = softmax[k where k <= q sink snk[h]](S[h,q,k])
    O[h,q,e] = sum[k](P[h,q,k] * V[h,k,e])
    seen[h,q] = 2 * keep[q]
}

vjp attend wrt V, Q, K, snk
"""


@pytest.fixture(scope="module")
def attend(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    path = tmp_path_factory.mktemp("autograd") / "attend.dsl"
    path.write_text(SPEC)
    return sys.modules[tpcgen.load(path, prefix="tpcgen_autograd").attend.__module__]


def inputs(dtype: torch.dtype = torch.float32, *, h=2, n=17, d=16, e=7, grad: bool = True) -> list[torch.Tensor]:
    real = [*draw((h, n, d), (h, n, d), (h, n, e), dtype=dtype), *draw((h,), seed=1)]
    return [x.requires_grad_(grad) for x in real] + [(torch.arange(n) % 5 != 0).int()]


def plain(q, k, v, sink, keep, c: float = 1) -> torch.Tensor:
    """The forward in float64, of torch ops that autograd differentiates."""
    q, k, v, sink = (x.double() for x in (q, k, v, sink))
    n = q.shape[1]
    scores = q @ k.transpose(1, 2) * c * q.shape[2] ** -0.5
    scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
    column = sink[:, None, None].expand(-1, n, 1)
    return torch.softmax(torch.cat([scores, column], 2), 2)[..., :-1] @ v


def gradients(function, given: list[torch.Tensor], **named) -> list[torch.Tensor]:
    found = function(*given, **named)
    out = found[0] if isinstance(found, tuple) else found
    (weight,) = draw(out.shape, seed=2)
    return list(torch.autograd.grad((out * weight.to(out.dtype)).sum(), given[:4]))


def assert_close(found: list[torch.Tensor], wanted: list[torch.Tensor], given: list[torch.Tensor]) -> None:
    for one, other, x in zip(found, wanted, given, strict=False):
        assert (one.dtype, one.shape) == (x.dtype, x.shape)
        error = (one.double() - other.double()).abs().max().item() if x.numel() else 0.0
        assert error <= 4 * TOLERANCE[given[0].dtype] * max(other.abs().max().item() if x.numel() else 0.0, 1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (17, 16, 7), (65, 63, 65)])
def test_gradients_are_those_of_autograd(attend: ModuleType, dtype: str, sizes: tuple[int, int, int]) -> None:
    n, d, e = sizes
    given = inputs(DTYPES[dtype], n=n, d=d, e=e)
    assert_close(gradients(attend.attend, given, c=0.7), gradients(lambda *x: plain(*x, 0.7), given), given)


def test_gradients_are_those_of_the_reference(attend: ModuleType) -> None:
    given = inputs()
    assert_close(gradients(attend.attend, given), gradients(attend.attend.reference, given), given)


def test_gradcheck_of_the_reference(attend: ModuleType) -> None:
    given = [x.double().detach().requires_grad_() for x in inputs(n=5, d=3, e=2)[:4]]
    keep = torch.tensor([0, 1, 1, 0, 1], dtype=torch.int32)
    assert torch.autograd.gradcheck(lambda *x: attend.attend.reference(*x, keep, c=0.7)[0], given)


def test_the_reference_has_no_gradient_of_a_gradient(attend: ModuleType) -> None:
    q, *rest = inputs(n=5)
    (once,) = torch.autograd.grad(attend.attend.reference(q, *rest)[0].sum(), [q], create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        once.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(attend: ModuleType, dtype: str) -> None:
    op = getattr(getattr(torch.ops, attend.NAMESPACE), f"attend_{dtype}").default
    torch.library.opcheck(op, (*inputs(DTYPES[dtype]), 1.0))


def test_opcheck_of_the_backward(attend: ModuleType) -> None:
    op = getattr(torch.ops, attend.NAMESPACE).attend_vjp_f32.default
    q, k, v, sink, keep = inputs(grad=False)
    torch.library.opcheck(op, (q, k, v, sink, keep, torch.ones_like(v), 1.0))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_training_step_compiles_without_graph_breaks(attend: ModuleType, backend: str) -> None:
    torch._dynamo.reset()
    given = inputs()
    compiled = torch.compile(attend.attend, fullgraph=True, backend=backend)
    assert_close(gradients(compiled, given), gradients(attend.attend, given), given)


def test_the_graph_of_the_backward_does_not_grow_with_the_sequence(attend: ModuleType) -> None:
    from torch._dynamo.backends.common import aot_autograd

    def nodes(n: int) -> list[str]:
        kept: list[str] = []

        def keep(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
            kept.extend(str(x.target) for x in graph.graph.nodes if x.op == "call_function")
            return graph

        torch._dynamo.reset()
        backend = aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=keep)
        compiled = torch.compile(attend.attend, fullgraph=True, backend=backend, dynamic=False)
        gradients(compiled, inputs(n=n))
        return kept

    short, long = nodes(8), nodes(40)
    assert short == long
    assert len([name for name in short if "mm" in name]) == 5  # dP, dQ, dK, dV and the scores again


def test_only_what_is_asked_for(attend: ModuleType) -> None:
    q, k, v, sink, keep = inputs(grad=False)
    k.requires_grad_()
    attend.attend(q, k, v, sink, keep)[0].sum().backward()
    assert q.grad is None and v.grad is None and sink.grad is None and k.grad is not None
    out, seen = attend.attend(q, k, v, sink, keep)
    assert out.requires_grad and not seen.requires_grad


WANTED = {
    "V": {"mme": 3, "softmax": 1},
    "Q": {"mme": 3, "softmax": 1, "map": 1},
    "snk": {"mme": 2, "softmax": 1, "sum": 1},
    "VQK snk": {"mme": 5, "softmax": 1, "sum": 1, "map": 1, "map_2": 1},
}
"""Matmuls and kernels of the backward by the inputs that ask: each needs the scores and dP again."""


@pytest.mark.parametrize("asking", WANTED)
def test_stages_of_gradients_that_nobody_asks_for_do_not_run(
    attend: ModuleType, asking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs()
    wanted = [x for x, name in zip(given[:4], ("Q", "K", "V", "snk"), strict=True) if name in asking]
    every = torch.autograd.grad(attend.attend(*given)[0].sum(), given[:4])
    for x in given[:4]:
        x.requires_grad_(any(x is w for w in wanted))
    out = attend.attend(*given)[0].sum()
    ran: list[str] = []
    run, matmul = StageLibrary.run, attend.mme_matmul

    def stage(library: StageLibrary, guid: str, *rest: object) -> None:
        ran.append(guid.removesuffix("_bwd_f32").removeprefix("tpcgen_autograd_attend_"))
        run(library, guid, *rest)

    monkeypatch.setattr(StageLibrary, "run", stage)
    monkeypatch.setattr(attend, "mme_matmul", lambda *given: ran.append("mme") or matmul(*given))
    out.backward()
    assert Counter(ran) == WANTED[asking]
    for x, whole in zip(given[:4], every, strict=True):
        assert (x.grad is None) != x.requires_grad
        assert x.grad is None or torch.equal(x.grad, whole)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_without_gradients(attend: ModuleType, mode: type) -> None:
    with mode():
        assert not attend.attend(*inputs())[0].requires_grad


def test_twice(attend: ModuleType) -> None:
    """One operator used twice in a graph, and one graph walked twice."""
    q, k, v, sink, keep = inputs(d=7)
    first, _ = attend.attend(q, k, v, sink, keep)
    total = (attend.attend(first, k, v, sink, keep)[0] * 2).sum()
    total.backward(retain_graph=True)
    once = [x.grad.clone() for x in (q, k, v, sink)]
    total.backward()
    torch.testing.assert_close([x.grad for x in (q, k, v, sink)], [2 * g for g in once])
    wanted = torch.autograd.grad(2 * plain(plain(q, k, v, sink, keep), k, v, sink, keep).sum(), (q, k, v, sink))
    assert_close(once, list(wanted), [q, k, v, sink])


def test_there_is_no_gradient_of_a_gradient(attend: ModuleType) -> None:
    q, *rest = inputs()
    (once,) = torch.autograd.grad(attend.attend(q, *rest)[0].sum(), [q], create_graph=True)
    with pytest.raises(RuntimeError, match=r"attend_vjp_f32.* no autograd formula"):
        once.sum().backward()


def test_a_changed_input_is_noticed(attend: ModuleType) -> None:
    q, k, v, sink, keep = inputs()
    out, _ = attend.attend(q, k, v, sink, keep)
    with torch.no_grad():
        k.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_strided_inputs_and_cotangents(attend: ModuleType) -> None:
    given = inputs()
    strided = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in given[:3]]
    assert not any(x.is_contiguous() for x in strided)
    out, _ = attend.attend(*strided, *given[3:])
    (weight,) = draw(out.transpose(1, 2).shape, seed=2)
    found = torch.autograd.grad(out, strided, weight.transpose(1, 2))
    out, _ = attend.attend(*given)
    wanted = torch.autograd.grad(out, given[:3], weight.transpose(1, 2).contiguous())
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("empty", [{"h": 0}, {"n": 0}, {"e": 0}])
def test_zero_sizes(attend: ModuleType, empty: dict[str, int]) -> None:
    given = inputs(**empty)
    attend.attend(*given)[0].sum().backward()
    assert [x.grad.shape for x in given[:4]] == [x.shape for x in given[:4]]
    assert not any(x.grad.abs().sum() for x in given[:3])


def test_what_is_not_in_the_vjp_gets_no_gradient(tmp_path: Path) -> None:
    path = tmp_path / "scaled.dsl"
    path.write_text("op scaled(x: f32[N], s: f32[N]) -> y: f32[N]\n{\n    y[i] = s[i] * x[i]\n}\n\nvjp scaled wrt x\n")
    scaled = tpcgen.load(path, prefix="tpcgen_autograd_part").scaled
    x, s = torch.ones(3, requires_grad=True), torch.full((3,), 2.0, requires_grad=True)
    with Called("tpcgen_autograd_part") as called:
        scaled(x, s).sum().backward()
    assert called.names == ["scaled_f32", "scaled_vjp_f32"]
    assert s.grad is None and torch.equal(x.grad, torch.full((3,), 2.0))
    out = scaled(x.detach(), s)
    with Called("tpcgen_autograd_part") as called:
        out.sum().backward()
    assert s.grad is None and not called.names
    assert "Gradients: x. None: s." in str(scaled.__doc__)


def test_learns(attend: ModuleType) -> None:
    """Twenty steps of an optimiser towards values that a hidden query gives."""
    q, k, v, sink, keep = inputs(grad=False)
    (hidden,) = draw(q.shape, seed=9)
    target, _ = attend.attend(hidden, k, v, sink, keep)
    q.requires_grad_()
    optimiser = torch.optim.Adam([q], lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (attend.attend(q, k, v, sink, keep)[0] - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
