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
from tpcgen.host.strict import RunReport

ROOT = os.environ.get("HABANA_CUSTOM_KERNEL")
pytestmark = pytest.mark.skipif(not ROOT, reason="HABANA_CUSTOM_KERNEL does not name Habana's kernels")

INCLUDE = Path(__file__).parents[2] / "tpcgen/host/include"
BF16 = np.dtype(ml_dtypes.bfloat16)
F32, F16, I32, I16 = (np.dtype(t) for t in (np.float32, np.float16, np.int32, np.int16))


@dataclass(frozen=True)
class Case:
    """One kernel at one size. `expected` are the outputs; `ulp` is the allowance in units of the output dtype's last
    place at the largest magnitude."""

    kernel: str
    guid: str
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    params: bytes = b""
    ulp: float = 0

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


def search_cases(rows: int, wanted: int, depth: int) -> list[Case]:
    cases = []
    for side in (0, 1):
        sequence = np.sort(rng(15).integers(0, 9, (1, 1, 1, rows, depth)), axis=3).astype(F32)
        values = np.sort(rng(16).integers(0, 9, (1, 1, 1, wanted, depth)), axis=3).astype(F32)
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


GEOMETRY = struct.pack("<8i", 1, 1, 3, 3, 1, 1, 1, 1)  # pad, kernel, stride, dilation of width and height


def scattered(x: np.ndarray) -> np.ndarray:
    """Average pooling 3 x 3, padding 1, backwards: each gradient, divided, to its window; NHWC, two rows and columns
    more than x, as the glue counts them. The divisor is the window's part at non-negative coordinates."""
    batch, h, w, depth = x.shape
    out = np.zeros((batch, h + 2, w + 2, depth))
    for i in range(h):
        for j in range(w):
            top, left = max(i - 1, 0), max(j - 1, 0)
            share = x[:, i, j].astype(np.float64) / ((i + 2 - top) * (j + 2 - left))
            out[:, top : i + 2, left : j + 2] += share[:, None, None]
    return out.astype(F32)


def average_pool_cases(batch: int, size: int, depth: int) -> list[Case]:
    x = rng(20).uniform(0, 10, (batch, size, size, depth)).astype(F32)
    inside = (slice(None), slice(size - 2), slice(size - 2))  # the glue counts one padded side only
    count = pooled(np.ones_like(x), 3, lambda windows: windows.sum(0))
    average = {
        1: pooled(x, 3, lambda windows: windows.sum(0) / 9).astype(F32)[inside],
        0: (pooled(x, 3, lambda windows: windows.sum(0)) / count).astype(F32)[inside],
    }
    valid = np.array([batch], I32)
    # The gaudi2 kernels share the batch among numTpc members along it, so numTpc is the batch here.
    shared = [GEOMETRY + struct.pack("<iif", pads, batch, 1 / batch) for pads in (0, 1)]
    return [
        Case("gaudi/avg_pool_2d_fwd_f32", "custom_avg_pool_2d_fwd_f32", (x,), (average[pads],), params, ulp=4)
        for pads, params in ((pads, GEOMETRY + struct.pack("<i", pads)) for pads in (0, 1))
    ] + [
        *(
            Case(
                "gaudi2/avg_pool_2d_fwd_f32_gaudi2",
                "custom_avg_pool_2d_fwd_f32_gaudi2",
                (x, valid),
                (average[pads],),
                shared[pads],
                ulp=4,
            )
            for pads in (0, 1)
        ),
        Case(
            "gaudi/avg_pool_2d_bwd_f32",
            "custom_avg_pool_2d_bwd_f32",
            (x,),
            (scattered(x),),
            GEOMETRY + struct.pack("<i", 1),
            ulp=4,
        ),
        Case(
            "gaudi2/avg_pool_2d_bwd_f32_gaudi2",
            "custom_avg_pool_2d_bwd_f32_gaudi2",
            (x, valid),
            (scattered(x),),
            shared[1],
            ulp=4,
        ),
    ]


def filter_case(size: int, depth: int) -> Case:
    x, f = normal((1, size, size, depth), BF16, 21), normal((3, 3, depth), BF16, 22)
    weights = f.astype(np.float64).reshape(9, 1, 1, 1, depth)
    weighted = pooled(x, 3, lambda windows: (windows * weights).sum(0)).astype(BF16)
    return Case("gaudi/filter_fwd_2d_bf16", "custom_filter_fwd_2d_bf16", (x, f), (weighted,), GEOMETRY, ulp=4)


def convolution_case(size: int, channels: int, filters: int) -> Case:
    x = rng(23).uniform(0, 4, (1, size, size, channels)).astype(F32)
    kernel = rng(24).uniform(0, 4, (2, 2, filters, channels)).astype(F32)
    conv = np.zeros((1, size - 1, size - 1, filters))
    for i in range(2):
        for j in range(2):
            window = x[:, i : i + size - 1, j : j + size - 1].astype(np.float64)
            conv += np.einsum("bhwc,fc->bhwf", window, kernel[i, j].astype(np.float64))
    params = struct.pack("<8i", 0, 0, 2, 2, 1, 1, 1, 1)
    return Case("gaudi/spatial_conv_f32", "custom_spatial_conv_f32", (x, kernel), (conv.astype(F32),), params, ulp=4)


def kl_div_cases(shape: tuple[int, ...]) -> list[Case]:
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


def sparse_lengths_sum_case(rows: int, embed: int, lengths: tuple[int, ...]) -> Case:
    """A bf16 table whose rows end in f32 scale and bias, 8 bytes apart."""
    table = np.zeros((rows, embed + 8), BF16)
    values = normal((rows, embed), BF16, 27)
    scale, bias = rng(28).uniform(0.02, 2, rows).astype(F32), rng(29).integers(-50, 50, rows).astype(F32)
    table[:, :embed] = values
    tail = table.view(np.uint16).reshape(rows, embed + 8)
    tail[:, embed : embed + 2] = scale.view(np.uint16).reshape(rows, 2)
    tail[:, embed + 4 : embed + 6] = bias.view(np.uint16).reshape(rows, 2)
    indices = rng(30).integers(0, rows, sum(lengths)).astype(I32)
    scaled = values.astype(np.float64) * scale[:, None] + bias[:, None]
    ends = np.cumsum(lengths)
    sums = np.stack([scaled[indices[e - n : e]].sum(0) for e, n in zip(ends, lengths, strict=True)])
    return Case(
        "gaudi/sparse_lengths_sum_bf16_2D_f32_embed",
        "custom_sparse_lengths_sum_bf16_2D_embed_f32",
        (table, indices, np.array(lengths, I32)),
        (sums.astype(F32),),
        ulp=8,
    )


def user_lut_case(seed: int) -> Case:
    a, b = rng(seed).uniform(-10, 10, 64).astype(F32), rng(seed + 1).uniform(-10, 10, 64).astype(F32)
    k = np.arange(64) % 32
    expected = (k + 0.1 + a * (k + 0.2) + b * (k + 0.3)) * (k + 0.5)
    return Case("gaudi2/user_lut_f32_gaudi2", "user_lut_gaudi2", (a, b), (expected.astype(F32),), ulp=16)


def bf16(x: np.ndarray) -> np.ndarray:
    return x.astype(BF16).astype(np.float64)


def scan_cases(batch: int, steps: int, states: int, dim: int) -> list[Case]:
    """Mamba's selective scan, and its output projection with a SiLU gate."""
    cases = []
    for name, dtype, exact in (("f32", F32, lambda x: x), ("bf16", BF16, bf16)):
        shapes = [(batch, 1, states, dim), (batch, steps, 1, dim), (batch, steps, 1, dim), (1, 1, states, dim)]
        state, x, dt, a = (rng(40 + i).uniform(0, 0.2, shape).astype(dtype) for i, shape in enumerate(shapes))
        b = rng(44).uniform(0, 0.2, (batch, steps, states, 1)).astype(dtype)
        step = exact(np.log(exact(1 + exact(np.exp(dt.astype(np.float64))))))
        decay, drive = exact(np.exp(exact(step * a.astype(np.float64)))), exact(step * b.astype(np.float64))
        h, states_out = state.astype(np.float64)[:, 0], np.zeros((batch, steps, states, dim))
        for k in range(steps):
            h = exact(drive[:, k] * x.astype(np.float64)[:, k] + exact(h * decay[:, k]))
            states_out[:, k] = h
        scan = Case(
            f"gaudi3/mamba_pscan_{name}_gaudi3",
            f"custom_mamba_pscan_{name}_gaudi3",
            (state, x, dt, a, b),
            (states_out.astype(dtype),),
            ulp=8,
        )
        c = rng(45).uniform(0, 0.2, (batch, steps, states, 1)).astype(dtype)
        d, z = rng(46).uniform(0, 0.2, (1, 1, 1, dim)).astype(dtype), normal((batch, steps, 1, dim), dtype, 47)
        history = states_out.astype(dtype).astype(np.float64)
        y = (history * c.astype(np.float64)).sum(2, keepdims=True) + d.astype(np.float64) * x.astype(np.float64)
        gate = z.astype(np.float64) / (1 + np.exp(-z.astype(np.float64)))
        update = Case(
            f"gaudi3/mamba_pscan_update_{name}_gaudi3",
            f"custom_mamba_pscan_update_{name}_gaudi3",
            (states_out.astype(dtype), x, c, d, z),
            ((y * gate).astype(dtype),),
            ulp=8,
        )
        cases += [scan, update]
    return cases


# What the strict device finds in the published kernels and their glue, besides the results, read in their sources.
_ADD = {
    "glue_pattern": "dim 2 is declared four elements a member (a = 4), while the index space there is the full size",
    "access_pattern": "no pattern is set for input 1, so it reads as one element; along dim 2 member i works on i",
}
_ROWS_OF_FOUR = {"access_pattern": "member i works on rows 4i to 4i + 3; the pattern says row i, one member a row"}
_NON_FCD = {"glue_pattern": "dim 0 is declared 128 elements a member, while the index space there is the full size"}
_BEYOND = "the last member's unrolled rows lie outside the tensor; gen_addr and ld_g there read whatever comes next"
_GATHER = {
    "access_pattern": "member i works on elements 4i to 4i + 3 of dim 1; the pattern says i, and input 1 has none",
    "wild_pointer": _BEYOND,
}
_BACKWARD = {"access_pattern": "a member adds to its whole window; the output's pattern says its own pixel"}
_KL = {"glue_pattern": "the index space has rank 1, the patterns name its dims 1 to 4"}
_SCAN = {"access_pattern": "a member writes every step along dim 2; the output's pattern says step 0"}
KNOWN: dict[str, dict[str, str]] = {
    "gaudi/add_f32": _ADD,
    "gaudi2/add_f32_gaudi2": _ADD,
    "gaudi2/cast_f16_to_i16_gaudi2": _ROWS_OF_FOUR,
    "gaudi/softmax_fcd_bf16": _ROWS_OF_FOUR,
    "gaudi2/softmax_fcd_bf16_gaudi2": _ROWS_OF_FOUR,
    "gaudi/softmax_non_fcd_bf16": _NON_FCD,
    "gaudi2/softmax_non_fcd_bf16_gaudi2": _NON_FCD,
    "gaudi/matrix_mul_fwd_f32": {"wild_pointer": _BEYOND},
    "gaudi/searchsorted_fwd_f32": {
        "access_pattern": "every member works on all rows of dim 1; the pattern says row i",
        "double_write": "every row is written by each member along dim 1, with the same values",
    },
    "gaudi/gather_fwd_dim0_i32": _GATHER,
    "gaudi/gather_fwd_dim1_i32": _GATHER,
    "gaudi/avg_pool_2d_bwd_f32": _BACKWARD,
    "gaudi2/avg_pool_2d_bwd_f32_gaudi2": _BACKWARD,
    "gaudi/kl_div_fwd_f32": _KL,
    "gaudi2/kl_div_fwd_f32_gaudi2": _KL,
    "gaudi/kl_div_bwd_f32": {
        "glue_pattern": "the index space has rank 4, the output's pattern names its dim 4",
        **_ROWS_OF_FOUR,
    },
    "gaudi/sparse_lengths_sum_bf16_2D_f32_embed": {
        "element_size": "reads f32 scale and bias out of the bf16 table",
        "access_pattern": "member i reads lengths 0 to 2i + 1; the pattern says 0 and 1",
        "wild_pointer": "with an odd number of segments the last member reads a length and an index past the end",
    },
    "gaudi2/user_lut_f32_gaudi2": {"access_pattern": "no pattern is set for input 1, so it reads as one element"},
    "gaudi3/mamba_pscan_f32_gaudi3": _SCAN,
    "gaudi3/mamba_pscan_bf16_gaudi3": _SCAN,
}
SEEN: set[tuple[str, str]] = set()


SHAPES = [(1, 2, 3, 5, 129), (1, 1, 1, 1, 1), (2, 1, 2, 3, 64)]


def all_cases() -> list[Case]:
    cases = [case for shape in SHAPES for case in relu_cases(shape[1:]) + elementwise_cases(shape)]
    cases += [case for rows, columns in ((5, 129), (4, 128), (63, 296)) for case in softmax_cases(rows, columns)]
    cases += [matmul_case(6, 4, 65), matmul_case(7, 64, 129), matmul_case(12, 33, 64)]
    cases += [batch_norm_case((1, 8, 3, 100)), batch_norm_case((2, 3, 5, 65))]
    cases += [*search_cases(5, 3, 70), *search_cases(1, 1, 1)]
    cases += [*gather_cases(4, 4), *gather_cases(7, 65), *average_pool_cases(2, 5, 100), *average_pool_cases(3, 7, 65)]
    cases += [filter_case(5, 100), filter_case(7, 129), convolution_case(3, 2, 1), convolution_case(5, 65, 3)]
    cases += [*kl_div_cases((1, 1, 2, 6, 64)), *kl_div_cases((1, 2, 1, 7, 129))]
    cases += [sparse_lengths_sum_case(15, 15, (3, 3, 3, 3, 7)), sparse_lengths_sum_case(9, 130, (1, 4, 2, 5))]
    return [*cases, user_lut_case(31), user_lut_case(33), *scan_cases(1, 10, 16, 12), *scan_cases(2, 3, 5, 129)]


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
_INTRODUCTION = """# Habana's published kernels on the host

Every hand-written kernel of HabanaAI/Habana_Custom_Kernel, unmodified, through that repository's own glue, on the
strict device, against NumPy. The kernels are not part of this repository. To write this page again:

    HABANA_CUSTOM_KERNEL=/path/to/Habana_Custom_Kernel TPCGEN_THIRD_PARTY_TABLE=docs/third_party_kernels.md \\
        python -m pytest tests/host/test_third_party_kernels.py

The error is the largest one of the case, in units in the last place of the output dtype at the largest magnitude
(integers: the difference). Shapes are in torch order. The Gaudi 3 kernels run as gaudi2, whose language they keep to.
A finding does not change the results: they are those the kernel computes, right or wrong.

| kernel | shapes in | error | allowed | findings |
| --- | --- | --- | --- | --- |
"""
_REASONS = """
## Findings

Each was read in the kernel and its glue. Along a dim declared too small, the graph compiler may hand a member a slice
that lacks what it works on, or run two members that depend on each other at the same time.

| kernel | finding | reason |
| --- | --- | --- |
"""


@pytest.fixture(scope="module", autouse=True)
def page():
    yield
    if path := os.environ.get("TPCGEN_THIRD_PARTY_TABLE"):
        reasons = [f"| {name} | {kind} | {why} |" for name, kinds in KNOWN.items() for kind, why in kinds.items()]
        Path(path).write_text(_INTRODUCTION + "\n".join(ROWS) + "\n" + _REASONS + "\n".join(reasons) + "\n")


def run_case(glue: Path, case: Case) -> RunReport:
    return run_kernel_file(
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


CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=[f"{c.kernel}-{'x'.join(map(str, c.inputs[0].shape))}" for c in CASES])
def test_kernel(glue: Path, case: Case) -> None:
    report = run_case(glue, case)
    assert report.glue_code == 0, f"glue refuses with {report.glue_code}"
    error = max(error_in_ulp(a, e) for a, e in zip(report.outputs, case.expected, strict=True))
    kinds = sorted({f.kind for f in report.findings} | set(report.counts or {}))
    shapes = " ".join("x".join(map(str, x.shape)) for x in case.inputs)
    ROWS.append(f"| {case.kernel} | {shapes} | {error:.2g} | {case.ulp:g} | {', '.join(kinds) or 'none'} |")
    SEEN.update((case.kernel, kind) for kind in kinds)
    assert error <= case.ulp
    assert set(kinds) <= set(KNOWN.get(case.kernel, {})), [str(f) for f in report.findings[:3]]


def test_every_kernel_and_every_finding_was_seen(request: pytest.FixtureRequest) -> None:
    here = sum(item.originalname == "test_kernel" for item in request.session.items)
    if here < len(CASES) or "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("a part of the kernels was run")
    assert {(kernel, kind) for kernel, kinds in KNOWN.items() for kind in kinds} == SEEN
    kernels = {
        p.relative_to(Path(ROOT) / "kernels").with_suffix("").as_posix() for p in Path(ROOT).glob("kernels/*/*.c")
    }
    kernels = {kernel for kernel in kernels if kernel.startswith("gaudi")} - {"gaudi/printf_test"}
    assert {case.kernel for case in CASES} == kernels


def test_printf(glue: Path) -> None:
    x = np.arange(64, dtype=np.float32)
    case = Case("gaudi/printf_test", "printf_test", (x,), (), struct.pack("<ifi", 7, 2.5, 9))
    report = run_case(glue, case)
    assert not report.findings
    assert report.printed.splitlines() == [
        "Test string!",
        "int value is 7",
        "float value is 2.500000",
        "value in vector is 9.000000",
    ]
