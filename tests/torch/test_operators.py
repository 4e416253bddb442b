"""Emitted operators as PyTorch sees them: opcheck, compiled and exported graphs, fake tensors, wrong calls, sizes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

import tpcgen

torch = pytest.importorskip("torch")

from torch._subclasses import FakeTensorMode  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from tests.torch.graphs import lowered  # noqa: E402

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# Of the result's largest element: a few roundings of the inputs' dtype.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


def draw(*shapes: Sequence[int], dtype: torch.dtype = torch.float32, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def qkv(
    dtype: torch.dtype = torch.float32, *, b=1, h=4, g=2, m=9, n=17, d=16, e=24, seed=0, device="cpu"
) -> list[torch.Tensor]:
    shapes = (b, h, m, d), (b, g, n, d), (b, g, n, e)
    if device == "meta":
        return [torch.empty(shape, dtype=dtype, device="meta") for shape in shapes]
    return draw(*shapes, dtype=dtype, seed=seed)


def truth(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention of the last queries, in float64."""
    m, n = q.shape[2], k.shape[2]
    mask = torch.ones(m, n, dtype=torch.bool).tril(n - m)
    return scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=mask, enable_gqa=True)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    error = (found.double() - expected).abs().max().item()
    assert error <= TOLERANCE[found.dtype] * expected.abs().max().item()


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck_of_the_composite(causal: ModuleType, dtype: str) -> None:
    op = getattr(getattr(torch.ops, causal.NAMESPACE), f"causal_{dtype}").default
    torch.library.opcheck(op, tuple(qkv(DTYPES[dtype])))


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck_of_the_stages(causal: ModuleType, window: ModuleType, dtype: str) -> None:
    (scores,) = draw((1, 2, 9, 17))
    torch.library.opcheck(getattr(causal, f"softmax_{dtype}")._opoverload, (scores, 16))
    scores, sink = draw((1, 2, 17, 17), (2,))
    torch.library.opcheck(getattr(window, f"softmax_{dtype}")._opoverload, (sink, scores, 16, 5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 63, 64), (65, 65, 63), (7, 129, 80)])
def test_agrees_with_scaled_dot_product_attention(causal: ModuleType, dtype: str, sizes: tuple[int, int, int]) -> None:
    m, n, d = sizes
    inputs = qkv(DTYPES[dtype], m=m, n=n, d=d, e=d + 1)
    assert_near(causal.causal(*inputs), truth(*inputs))


def test_attributes_have_the_defaults_of_the_spec(window: ModuleType) -> None:
    q, k, v = qkv(g=4, m=300, n=300)
    (sink,) = draw((4,))
    default = window.window(q, k, v, sink)
    assert torch.equal(default, window.window(q, k, v, sink, W=256))
    assert not torch.equal(default, window.window(q, k, v, sink, W=255))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(causal: ModuleType, backend: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(causal.causal, fullgraph=True, backend=backend, dynamic=dynamic)
    for n in (17, 33):
        inputs = qkv(n=n)
        torch.testing.assert_close(compiled(*inputs), causal.causal(*inputs))


def test_compiles_with_attributes(window: ModuleType) -> None:
    torch._dynamo.reset()
    q, k, v = qkv(g=4, m=33, n=33)
    (sink,) = draw((4,))
    compiled = torch.compile(window.window, fullgraph=True, backend="aot_eager", dynamic=True)
    for width in (7, 20, 1):
        torch.testing.assert_close(compiled(q, k, v, sink, W=width), window.window(q, k, v, sink, W=width))


def test_the_graph_is_flat_and_does_not_grow_with_the_sequence(causal: ModuleType) -> None:
    short, long = (lowered(causal.causal, qkv(m=length, n=length, device="meta")) for length in (64, 4096))
    assert short == long
    assert len([name for name in short if "softmax_fwd_f32" in name]) == 1
    assert len([name for name in short if "mm" in name]) == 2


class Model(torch.nn.Module):
    def __init__(self, package: ModuleType) -> None:
        super().__init__()
        self.package = package

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.package.causal(q, k, v)


@pytest.mark.parametrize("strict", [False, True])
def test_exports_with_a_dynamic_sequence(causal: ModuleType, strict: bool) -> None:
    # With named Dims a non-strict export gives up on guards of torch's own matmul that always hold.
    length = torch.export.Dim("length", min=2, max=4096) if strict else torch.export.Dim.AUTO
    program = torch.export.export(
        Model(causal), tuple(qkv(m=16, n=16)), dynamic_shapes=({2: length},) * 3, strict=strict
    )
    longer = qkv(m=41, n=41)
    torch.testing.assert_close(program.module()(*longer), causal.causal(*longer))


@pytest.mark.parametrize("dtype", DTYPES)
def test_fake_tensors_have_shape_and_dtype_without_running(causal: ModuleType, dtype: str) -> None:
    with FakeTensorMode():
        shapes = ((3, 4, 500, 64), (3, 2, 700, 64), (3, 2, 700, 32))
        out = causal.causal(*(torch.empty(s, dtype=DTYPES[dtype]) for s in shapes))
    assert (out.shape, out.dtype) == ((3, 4, 500, 32), DTYPES[dtype])
    meta = causal.causal(*qkv(DTYPES[dtype], device="meta"))
    assert (meta.shape, meta.dtype, meta.device.type) == ((1, 4, 9, 24), DTYPES[dtype], "meta")


def replaced(position: int, value: object) -> list[object]:
    inputs: list[object] = list(qkv())
    inputs[position] = value
    return inputs


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (replaced(0, 3), TypeError, "Q must be a torch.Tensor, got int"),
        (replaced(2, None), TypeError, "V must be a torch.Tensor, got NoneType"),
        (replaced(0, torch.zeros(1, 4, 9, 16).double()), TypeError, "Q has dtype float64; .* bfloat16 or float32"),
        (replaced(1, torch.zeros(1, 2, 17, 16).bfloat16()), TypeError, "K must be float32, got bfloat16"),
        (replaced(1, torch.zeros(2, 17, 16)), ValueError, r"K must have 4 dims, got shape \(2, 17, 16\)"),
        (replaced(1, torch.zeros(1, 2, 17, 8)), ValueError, r"K: expected \[B, G, N, D\] = \(1, 2, 17, 16\), got"),
        (replaced(2, torch.zeros(1, 2, 16, 24)), ValueError, r"V: expected \[B, G, N, E\]"),
        (replaced(0, torch.zeros(1, 3, 9, 16)), ValueError, "needs H % G == 0, got G = 2, H = 3"),
        (replaced(0, torch.zeros(1, 4, 18, 16)), ValueError, "needs M <= N, got M = 18, N = 17"),
        (
            replaced(1, torch.zeros(1, 2, 17, 16, device="meta")),
            ValueError,
            "K is on meta, Q on cpu",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    causal: ModuleType, inputs: list[object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"causal: {words}"):
        causal.causal(*inputs)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (2.5, TypeError, "W must be an int, got 2.5"),
        (True, TypeError, "W must be an int, got True"),
        ("wide", TypeError, "W must be an int, got 'wide'"),
        (None, TypeError, "W must be an int, got None"),
        (1 << 31, ValueError, "W = 2147483648 does not fit in int32"),
    ],
)
def test_wrong_attributes_say_what_is_wrong(
    window: ModuleType, value: object, error: type[Exception], words: str
) -> None:
    q, k, v = qkv(g=4, m=3, n=3)
    with pytest.raises(error, match=f"window: {words}"):
        window.window(q, k, v, torch.zeros(4), W=value)


def test_no_key_heads_is_a_broken_contract(causal: ModuleType) -> None:
    with pytest.raises(ValueError, match="needs H % G == 0"):
        causal.causal(*qkv(h=4, g=0))


def test_backward_is_refused_until_it_is_written(causal: ModuleType) -> None:
    inputs = [x.requires_grad_() for x in qkv()]
    with pytest.raises(RuntimeError, match="no autograd formula"):
        causal.causal(*inputs).sum().backward()


def test_strided_inputs(causal: ModuleType) -> None:
    q, k, v = qkv(d=24)
    expected = causal.causal(q, k, v)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k)]
    wide = torch.stack([v, torch.zeros_like(v)], -1)[..., 0]
    assert not any(x.is_contiguous() for x in (*strided, wide))
    torch.testing.assert_close(causal.causal(*strided, wide), expected, rtol=0, atol=0)
    expanded = [x[:, :1].expand(-1, x.shape[1], -1, -1) for x in (k, v)]
    found = causal.causal(q, *expanded)
    torch.testing.assert_close(found, causal.causal(q, *(x.contiguous() for x in expanded)), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("empty", [{"b": 0}, {"m": 0}, {"m": 0, "n": 0}, {"h": 0}, {"e": 0}])
def test_zero_sizes_give_empty_results(causal: ModuleType, dtype: str, empty: dict[str, int]) -> None:
    inputs = qkv(DTYPES[dtype], **empty)
    assert causal.causal(*inputs).shape == truth(*inputs).shape


def test_threads_share_an_operator(causal: ModuleType) -> None:
    calls = [qkv(n=20 + i, seed=i) for i in range(8)]
    expected = [causal.causal(*inputs) for inputs in calls]
    ready = threading.Barrier(len(calls))

    def call(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        ready.wait()
        return [causal.causal(*inputs) for _ in range(5)]

    with ThreadPoolExecutor(len(calls)) as pool:
        for results, one in zip(pool.map(call, calls), expected, strict=True):
            assert all(torch.equal(r, one) for r in results)


def test_a_kernel_that_reads_no_tensor(tmp_path: Path) -> None:
    """A matrix of numbers that the indices give, of which the MME wants a tensor."""
    spec = tmp_path / "waves.dsl"
    spec.write_text(
        "op waves(x: f32[B, M, N], c: f32) -> y: f32[B, M, N]\n{\n    index j in 0 .. N\n    index k in 0 .. N\n"
        "    w[j,k] = tanh(c * f32(j) * f32(k))\n    y[b,i,k] = sum[j](x[b,i,j] * w[j,k])\n}\n"
    )
    op = tpcgen.load(spec).waves
    (x,) = draw((2, 3, 65))
    j = torch.arange(65).double()
    expected = x.double() @ torch.tanh(0.1 * j[:, None] * j)
    assert_near(op(x, c=0.1), expected)
    assert_near(torch.compile(op, fullgraph=True, backend="aot_eager")(x, c=0.1), expected)
