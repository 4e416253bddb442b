"""Habana's published kernels, unmodified, through their own glue, on the strict device, against NumPy.

Runs where $HABANA_CUSTOM_KERNEL names a checkout of HabanaAI/Habana_Custom_Kernel; nothing is fetched. With
$TPCGEN_THIRD_PARTY_TABLE=FILE the results are also written as a table.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tpcgen.host.run import KernelRun, run_kernel_file

ROOT = os.environ.get("HABANA_CUSTOM_KERNEL")
pytestmark = pytest.mark.skipif(not ROOT, reason="HABANA_CUSTOM_KERNEL does not name Habana's kernels")

INCLUDE = Path(__file__).parents[2] / "tpcgen/host/include"
BF16 = np.dtype(ml_dtypes.bfloat16)
F32, F16, I32, I16 = (np.dtype(t) for t in (np.float32, np.float16, np.int32, np.int16))


@dataclass(frozen=True)
class Case:
    """One kernel at one size. `expected` are the outputs; `ulp` is the allowance in units of the output dtype's last
    place at the largest magnitude; `unsupported` says why the host cannot run it."""

    kernel: str
    guid: str
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    params: bytes = b""
    ulp: float = 0
    unsupported: str = ""

    @property
    def target(self) -> str:
        return self.kernel.split("/")[0]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(shape: tuple[int, ...], dtype: np.dtype, seed: int = 0) -> np.ndarray:
    return (rng(seed).standard_normal(shape) * 4).astype(dtype)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def relu_cases(shape: tuple[int, ...]) -> list[Case]:
    cases = []
    for name, dtype in (("f32", F32), ("bf16", BF16)):
        x, g = normal(shape, dtype, 1), normal(shape, dtype, 2)
        relu = np.maximum(wide(x), 0).astype(dtype)
        relu6 = np.clip(wide(x), 0, 6).astype(dtype)
        back = np.where(wide(x) > 0, wide(g), 0).astype(dtype)
        back6 = np.where((wide(x) > 0) & (wide(x) < 6), wide(g), 0).astype(dtype)
        cases += [
            Case(f"gaudi/relu_fwd_{name}", f"custom_relu_fwd_{name}", (x,), (relu,)),
            Case(f"gaudi/relu6_fwd_{name}", f"custom_relu6_fwd_{name}", (x,), (relu6,)),
            Case(f"gaudi2/relu_fwd_{name}_gaudi2", f"custom_relu_fwd_{name}_gaudi2", (x,), (relu,)),
            Case(f"gaudi/relu_bwd_{name}", f"custom_relu_bwd_{name}", (g, x), (back,)),
            Case(f"gaudi/relu6_bwd_{name}", f"custom_relu6_bwd_{name}", (g, x), (back6,)),
            Case(f"gaudi2/relu_bwd_{name}_gaudi2", f"custom_relu_bwd_{name}_gaudi2", (g, x), (back,)),
        ]
    return cases


def elementwise_cases(shape: tuple[int, ...]) -> list[Case]:
    a, b = normal(shape, F32, 3), normal(shape, F32, 4)
    c = (rng(5).uniform(1, 10, shape) * np.where(rng(6).random(shape) < 0.5, -1, 1)).astype(F32)
    h = (rng(7).uniform(-300, 300, shape)).astype(F16)
    s = rng(8).uniform(-10, 10, shape).astype(F32)
    a4, s16 = a[0], a.astype(BF16)[0]
    return [
        Case("gaudi/add_f32", "custom_add_f32", (a, b), (a + b,)),
        Case("gaudi2/add_f32_gaudi2", "custom_add_f32_gaudi2", (a, b), (a + b,)),
        Case(
            "gaudi/leakyrelu_f32_gaudi",
            "custom_leakyrelu_f32_gaudi",
            (a4,),
            (np.where(a4 >= 0, a4, a4 * F32.type(0.1)),),
            struct.pack("<f", 0.1),
        ),
        Case("gaudi/customdiv_fwd_f32", "customdiv_fwd_f32", (a, c), (a / c,), ulp=4),
        Case("gaudi/sin_f32", "custom_sin_f32", (s,), (np.sin(s.astype(np.float64)).astype(F32),), ulp=16),
        Case("gaudi/cast_bf16_to_f32", "custom_cast_bf16_to_f32", (s16,), (wide(s16),), struct.pack("<f", 1.0)),
        Case("gaudi/cast_f32_to_bf16", "custom_cast_f32_to_bf16", (a4,), (a4.astype(BF16),), struct.pack("<f", 1.0)),
        Case(
            "gaudi2/cast_f16_to_i16_gaudi2",
            "custom_cast_f16_to_i16_gaudi2",
            (h,),
            (np.rint(wide(h)).astype(I16),),
            struct.pack("<I", 0),
        ),
    ]


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.astype(np.float64).max(axis, keepdims=True))
    return (e / e.sum(axis, keepdims=True)).astype(BF16)


def softmax_cases(rows: int, columns: int) -> list[Case]:
    x = normal((rows, columns), BF16, 9)
    # Both sum in bf16: its rounding is most of the error.
    return [
        case
        for target, suffix in (("gaudi", ""), ("gaudi2", "_gaudi2"))
        for case in (
            Case(
                f"{target}/softmax_fcd_bf16{suffix}",
                f"custom_softmax_fcd_bf16{suffix}",
                (x,),
                (softmax(x, 1),),
                struct.pack("<i", 0),
                ulp=4,
            ),
            Case(
                f"{target}/softmax_non_fcd_bf16{suffix}",
                f"custom_softmax_non_fcd_bf16{suffix}",
                (x,),
                (softmax(x, 0),),
                struct.pack("<i", 1),
                ulp=4,
            ),
        )
    ]


def matmul_case(rows: int, common: int, columns: int) -> Case:
    a = rng(10).uniform(1, 10, (1, rows, common)).astype(F32)
    b = rng(11).uniform(1, 10, (1, common, columns)).astype(F32)
    return Case(
        "gaudi/matrix_mul_fwd_f32",
        "custom_matrix_multiply_fwd_f32",
        (a, b),
        ((a.astype(np.float64) @ b).astype(F32),),
        ulp=4,
    )


def batch_norm_case(shape: tuple[int, int, int, int]) -> Case:
    x = rng(12).uniform(0, 10, shape).astype(F32)
    beta, gamma = rng(13).uniform(50, 100, shape[3]).astype(F32), rng(14).uniform(-5, 5, shape[3]).astype(F32)
    w = x.astype(np.float64)
    mean, var = w.mean((0, 1, 2)), w.var((0, 1, 2))
    istd = 1 / np.sqrt(var + 1e-5)
    y = (w - mean) * istd * gamma + beta
    n = float(np.prod(shape[:3]))
    out = (y.astype(F32), mean.astype(F32), istd.astype(F32))
    return Case(
        "gaudi/batch_norm_fwd_f32",
        "custom_batch_norm_fwd_f32",
        (x, beta, gamma),
        out,
        struct.pack("<fff", n, 1 / n, 0.9),
        ulp=64,
    )


def search_case() -> list[Case]:
    cases = []
    for side in (0, 1):
        sequence = np.sort(rng(15).integers(0, 9, (1, 1, 1, 5, 70)), axis=3).astype(F32)
        values = np.sort(rng(16).integers(0, 9, (1, 1, 1, 3, 70)), axis=3).astype(F32)
        compare = (lambda s, v: s <= v) if side else (lambda s, v: s < v)
        found = compare(sequence[..., None, :, :], values[..., :, None, :]).sum(-2).astype(I32)
        cases.append(
            Case(
                "gaudi/searchsorted_fwd_f32",
                "searchsorted_fwd_f32",
                (sequence, values),
                (found,),
                struct.pack("<B3x", side),
            )
        )
    return cases


def gather_cases(width: int, depth: int) -> list[Case]:
    x = rng(17).integers(-1000, 1000, (1, 1, 1, width, depth)).astype(I32)
    along0 = rng(18).integers(0, depth, x.shape).astype(I32)
    along1 = rng(19).integers(0, width, x.shape).astype(I32)
    return [
        Case(
            "gaudi/gather_fwd_dim0_i32",
            "custom_gather_fwd_dim0_i32",
            (x, along0),
            (np.take_along_axis(x, along0, 4),),
            struct.pack("<I", 0),
        ),
        Case(
            "gaudi/gather_fwd_dim1_i32",
            "custom_gather_fwd_dim1_i32",
            (x, along1),
            (np.take_along_axis(x, along1, 3),),
            struct.pack("<I", 1),
        ),
    ]


def pooled(x: np.ndarray, kernel: int, combine: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Windows of kernel x kernel, stride 1, padded by (kernel - 1) / 2 with zeros; NHWC."""
    pad = (kernel - 1) // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    h, w = x.shape[1:3]
    return combine(np.stack([padded[:, i : i + h, j : j + w] for i in range(kernel) for j in range(kernel)]))


GEOMETRY = struct.pack("<8i", 1, 1, 3, 3, 1, 1, 1, 1)


def spatial_cases(depth: int) -> list[Case]:
    x = rng(20).uniform(0, 10, (1, 5, 5, depth)).astype(F32)
    average = pooled(x, 3, lambda windows: windows.sum(0) / 9).astype(F32)[:, :3, :3]  # the glue counts one padded side
    xb, f = normal((1, 5, 5, depth), BF16, 21), normal((3, 3, depth), BF16, 22)
    weighted = pooled(xb, 3, lambda windows: (windows * f.astype(np.float64).reshape(9, 1, 1, 1, depth)).sum(0)).astype(
        BF16
    )
    small, kernel = rng(23).uniform(0, 4, (1, 3, 3, 2)).astype(F32), rng(24).uniform(0, 4, (2, 2, 1, 2)).astype(F32)
    conv = np.zeros((1, 2, 2, 1))
    for i in range(2):
        for j in range(2):
            conv[..., 0] += (small[:, i : i + 2, j : j + 2].astype(np.float64) * kernel[i, j, 0]).sum(-1)
    return [
        Case(
            "gaudi/avg_pool_2d_fwd_f32",
            "custom_avg_pool_2d_fwd_f32",
            (x,),
            (average,),
            GEOMETRY + struct.pack("<i", 1),
            ulp=4,
        ),
        Case(
            "gaudi2/avg_pool_2d_fwd_f32_gaudi2",
            "custom_avg_pool_2d_fwd_f32_gaudi2",
            (x,),
            (average,),
            GEOMETRY + struct.pack("<iif", 1, 24, 1 / 24),
            ulp=4,
        ),
        Case("gaudi/filter_fwd_2d_bf16", "custom_filter_fwd_2d_bf16", (xb, f), (weighted,), GEOMETRY, ulp=4),
        Case(
            "gaudi/spatial_conv_f32",
            "custom_spatial_conv_f32",
            (small, kernel),
            (conv.astype(F32),),
            struct.pack("<8i", 0, 0, 2, 2, 1, 1, 1, 1),
            ulp=4,
        ),
    ]


def kl_div_cases() -> list[Case]:
    shape = (1, 1, 2, 6, 64)
    x, y = rng(25).random(shape).astype(F32), rng(26).random(shape).astype(F32)
    grad = np.array([1.5], F32)
    w = y.astype(np.float64)
    loss = np.array([(w * (np.log(w) - x)).sum()]).astype(F32)
    params = struct.pack("<fi", 1.0, 0)
    return [
        Case("gaudi/kl_div_fwd_f32", "custom_kl_div_fwd_f32", (x, y), (loss,), params, ulp=64),
        Case("gaudi2/kl_div_fwd_f32_gaudi2", "custom_kl_div_fwd_f32_gaudi2", (x, y), (loss,), params, ulp=64),
        Case("gaudi/kl_div_bwd_f32", "custom_kl_div_bwd_f32", (x, y, grad), ((-1.5 * y).astype(F32),), params, ulp=2),
    ]


def sparse_lengths_sum_case() -> Case:
    rows, embed, segments = 15, 15, 5
    table = np.zeros((rows, embed + 8), BF16)
    values = normal((rows, embed), BF16, 27)
    scale, bias = rng(28).uniform(0.02, 2, rows).astype(F32), rng(29).integers(-50, 50, rows).astype(F32)
    table[:, :embed] = values
    tail = table.view(np.uint16).reshape(rows, embed + 8)
    tail[:, embed : embed + 2] = scale.view(np.uint16).reshape(rows, 2)
    tail[:, embed + 4 : embed + 6] = bias.view(np.uint16).reshape(rows, 2)
    indices = rng(30).integers(0, rows, 19).astype(I32)
    lengths = np.array([3, 3, 3, 3, 7], I32)
    scaled = values.astype(np.float64) * scale[:, None] + bias[:, None]
    ends = np.cumsum(lengths)
    sums = np.stack([scaled[indices[e - n : e]].sum(0) for e, n in zip(ends, lengths, strict=True)])
    guid = "custom_sparse_lengths_sum_bf16_2D_embed_f32"
    assert segments == len(sums)
    return Case(
        "gaudi/sparse_lengths_sum_bf16_2D_f32_embed",
        guid,
        (table, indices, lengths),
        (sums.astype(F32),),
        unsupported="reads its f32 scales out of a bf16 tensor",
    )


def user_lut_case() -> Case:
    a, b = rng(31).uniform(-10, 10, 64).astype(F32), rng(32).uniform(-10, 10, 64).astype(F32)
    k = np.arange(64) % 32
    expected = (k + 0.1 + a * (k + 0.2) + b * (k + 0.3)) * (k + 0.5)
    return Case("gaudi2/user_lut_f32_gaudi2", "user_lut_gaudi2", (a, b), (expected.astype(F32),), ulp=16)


# What the strict device finds in the published kernels and their glue, besides the results.
KNOWN: dict[str, tuple[str, ...]] = {}


SHAPES = [(1, 2, 3, 5, 129), (1, 1, 1, 1, 1), (2, 1, 2, 3, 64)]


def all_cases() -> list[Case]:
    cases = [case for shape in SHAPES for case in relu_cases(shape[1:]) + elementwise_cases(shape)]
    cases += [case for rows, columns in ((5, 129), (4, 128), (63, 296)) for case in softmax_cases(rows, columns)]
    cases += [matmul_case(6, 4, 65), matmul_case(7, 64, 129), batch_norm_case((1, 8, 3, 100)), *search_case()]
    cases += [
        *gather_cases(4, 4),
        *gather_cases(7, 65),
        *spatial_cases(100),
        *kl_div_cases(),
        sparse_lengths_sum_case(),
        user_lut_case(),
    ]
    return cases


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Habana's glue as one library, compiled against our declaration of the interface; its ELFs are one-byte stubs."""
    out = tmp_path_factory.mktemp("vendor")
    folders = [Path(ROOT) / "src", *(Path(ROOT) / "src" / f"gaudi{n}_src" for n in ("", "2", "3"))]
    sources = [source for folder in folders for source in sorted(folder.glob("*.cpp"))]
    kernels = sorted(
        {name for source in sources for name in re.findall(r"_binary___(\w+)_o_start", source.read_text())}
    )
    symbol = ".globl _binary___{0}_o_{1}\\n_binary___{0}_o_{1}: .byte 0\\n"
    elf = f'asm(".data\\n{symbol.format("{0}", "start")}{symbol.format("{0}", "end")}");\n'
    stubs = out / "stubs.cpp"
    stubs.write_text("".join(elf.format(kernel) for kernel in kernels))
    command = ["g++", "-std=c++17", "-w", "-fPIC", "-shared", f"-I{INCLUDE}", *(f"-I{folder}" for folder in folders)]
    run = subprocess.run(
        [*command, "-o", str(out / "libvendor.so"), *map(str, sources), str(stubs)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[:4000]
    return out / "libvendor.so"


def error_in_ulp(actual: np.ndarray, expected: np.ndarray) -> float:
    if actual.dtype.kind in "iu":
        return float(np.abs(actual.astype(np.int64) - expected.astype(np.int64)).max(initial=0))
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    largest = np.abs(e).max(initial=0)
    step = {2: 2.0**-7, 4: 2.0**-23}[actual.dtype.itemsize] * 2.0 ** np.floor(np.log2(largest if largest > 0 else 1))
    return float(np.abs(a - e).max(initial=0) / step) if np.isfinite(a).all() else np.inf


ROWS: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    if path := os.environ.get("TPCGEN_THIRD_PARTY_TABLE"):
        head = (
            "| kernel | shapes in | error, ulp of the largest | allowed | findings |\n| --- | --- | --- | --- | --- |\n"
        )
        Path(path).write_text(head + "\n".join(ROWS) + "\n")


CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=[f"{c.kernel}-{'x'.join(map(str, c.inputs[0].shape))}" for c in CASES])
def test_kernel(glue: Path, case: Case) -> None:
    report = run_kernel_file(
        KernelRun(
            Path(ROOT) / "kernels" / f"{case.kernel}.c",
            case.target,
            case.inputs,
            tuple((e.shape, e.dtype) for e in case.expected),
            glue=(glue,),
            guid=case.guid,
            params=case.params,
            include=(Path(ROOT) / "kernels/include", Path(ROOT) / "kernels"),
            timeout_s=60,
        )
    )
    assert report.glue_code == 0, f"glue refuses with {report.glue_code}"
    errors = (
        [error_in_ulp(a, e) for a, e in zip(report.outputs, case.expected, strict=True)] if report.outputs else [np.inf]
    )
    kinds = tuple(sorted({f.kind for f in report.findings} | set(report.counts)))
    shapes = " ".join("x".join(map(str, x.shape)) for x in case.inputs)
    ROWS.append(f"| {case.kernel} | {shapes} | {max(errors):.2g} | {case.ulp:g} | {', '.join(kinds) or 'none'} |")
    assert set(kinds) <= set(KNOWN.get(case.kernel, ())), [str(f) for f in report.findings[:3]]
    if case.unsupported:
        pytest.xfail(case.unsupported)
    assert max(errors) <= case.ulp
