"""The fixture kernels against NumPy, strict and fast, at sizes that fit no vector."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tpcgen.host.api import FastKernel, GlueError, HostLibrary, Launch, Session, run_fast, run_strict, spec_of

F32 = np.dtype(np.float32)
BF16 = np.dtype(ml_dtypes.bfloat16)
SIZES = (1, 7, 63, 64, 65, 127, 129, 296)
Library = Callable[..., HostLibrary]


def sample(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 10


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def launches(target: str, rows: int, columns: int) -> list[tuple[Launch, np.ndarray, float]]:
    """Launch, expected output and the tolerance relative to the row's largest value."""
    x = sample((rows, columns))
    a, b = sample((rows, columns), 1).astype(BF16), sample((rows, columns), 2).astype(BF16)
    out = (((rows, columns), F32),)
    scaled = x * np.float32(0.75) * np.float32(0.75) * np.float32(0.75)
    return [
        (Launch("fixture_relu_f32", target, (x,), out), np.maximum(x, 0), 0.0),
        (Launch("fixture_add_bf16", target, (a, b), (((rows, columns), BF16),)), a + b, 0.0),
        (Launch("fixture_softmax_f32", target, (x,), out), softmax(x), 2e-6),
        (Launch("fixture_scale_f32", target, (x,), out, struct.pack("<fi", 0.75, 3)), scaled, 0.0),
    ]


@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
@pytest.mark.parametrize("columns", SIZES)
def test_strict_and_fast(session: Session, fixture_library: Library, target: str, columns: int) -> None:
    for rows in (1, 5):
        for launch, expected, tolerance in launches(target, rows, columns):
            report = session.run(fixture_library(target, "strict"), launch)
            assert report.findings == (), [str(f) for f in report.findings]
            [strict] = report.outputs
            [fast] = run_fast(fixture_library(target, "fast"), launch)
            error = np.abs(strict.astype(np.float64) - expected.astype(np.float64)).max()
            assert error <= tolerance * np.abs(expected.astype(np.float64)).max(), launch.guid
            assert strict.dtype == launch.outputs[0][1]
            np.testing.assert_array_equal(strict, fast)


def test_five_dims(session: Session, fixture_library: Library) -> None:
    x = sample((2, 3, 1, 2, 65))
    launch = Launch("fixture_relu_f32", "gaudi2", (x,), ((x.shape, F32),))
    report = session.run(fixture_library("gaudi2", "strict"), launch)
    assert report.findings == ()
    assert report.members == 2 * 2 * 3 * 2
    np.testing.assert_array_equal(report.outputs[0], np.maximum(x, 0))
    np.testing.assert_array_equal(run_fast(fixture_library("gaudi2", "fast"), launch, threads=3)[0], np.maximum(x, 0))


def test_six_dims_are_refused(session: Session, fixture_library: Library) -> None:
    x = np.zeros((1, 1, 1, 1, 1, 2), np.float32)
    with pytest.raises(ValueError, match="at most 5 dims"):
        session.run(fixture_library("gaudi2", "strict"), Launch("fixture_relu_f32", "gaudi2", (x,), ((x.shape, F32),)))


@pytest.mark.parametrize("shape", [(0,), (0, 64), (64, 0), (3, 0, 5)])
def test_empty_tensors(session: Session, fixture_library: Library, shape: tuple[int, ...]) -> None:
    launch = Launch("fixture_relu_f32", "gaudi2", (np.zeros(shape, np.float32),), ((shape, F32),))
    report = session.run(fixture_library("gaudi2", "strict"), launch)
    assert report.findings == ()
    assert report.outputs[0].shape == shape
    assert run_fast(fixture_library("gaudi2", "fast"), launch)[0].shape == shape


def test_scalar_shape(session: Session, fixture_library: Library) -> None:
    launch = Launch("fixture_relu_f32", "gaudi2", (np.array(-2.0, np.float32),), (((), F32),))
    report = session.run(fixture_library("gaudi2", "strict"), launch)
    assert report.findings == ()
    assert report.outputs[0].shape == ()
    assert report.outputs[0] == 0


def test_strided_input(session: Session, fixture_library: Library) -> None:
    x = sample((65, 6)).T[::2]
    launch = Launch("fixture_relu_f32", "gaudi2", (x,), ((x.shape, F32),))
    for [output] in (
        session.run(fixture_library("gaudi2", "strict"), launch).outputs,
        run_fast(fixture_library("gaudi2", "fast"), launch),
    ):
        np.testing.assert_array_equal(output, np.maximum(x, 0))


def test_denormals_are_flushed(session: Session, fixture_library: Library) -> None:
    x = np.full((1, 3), 1e-40, np.float32)
    launch = Launch("fixture_scale_f32", "gaudi2", (x,), ((x.shape, F32),), struct.pack("<fi", 1.0, 1))
    assert (session.run(fixture_library("gaudi2", "strict"), launch).outputs[0] == 0).all()
    assert (run_fast(fixture_library("gaudi2", "fast"), launch)[0] == 0).all()
    assert np.float32(1e-40) * np.float32(1.0) != 0, "this process keeps its own mode"


def test_report_names_what_was_used(fixture_library: Library) -> None:
    launch = launches("gaudi2", 5, 129)[2][0]
    report = run_strict(fixture_library("gaudi2", "strict"), launch)
    assert report.ok
    assert report.kernel == "softmax_f32"
    assert report.index_space == (1, 5, 1, 1, 1)
    assert report.members == 5
    assert report.vlm_bytes == 64 * 256
    assert report.lookup.startswith("v_f32_reduce")
    assert [(t.name, t.elements, t.accessed) for t in report.tensors] == [("input 0", 645, 645), ("output 0", 645, 645)]
    assert report.padded_reads == 5 * (3 * 64 - 129)
    assert report.dropped_writes == 5 * (3 * 64 - 129)


def test_glue_refusal_is_a_finding_or_an_error(session: Session, fixture_library: Library) -> None:
    x = sample((4, 4)).astype(BF16)
    launch = Launch("fixture_relu_f32", "gaudi2", (x,), ((x.shape, BF16),))
    report = session.run(fixture_library("gaudi2", "strict"), launch)
    assert [f.kind for f in report.findings] == ["glue"]
    assert report.glue_code == 7
    with pytest.raises(GlueError, match="INCOMPATIBLE_DATA_TYPE"):
        run_fast(fixture_library("gaudi2", "fast"), launch)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_agree(fixture_library: Library, threads: int) -> None:
    x = sample((37, 640))
    launch = Launch("fixture_softmax_f32", "gaudi2", (x,), ((x.shape, F32),))
    one = run_fast(fixture_library("gaudi2", "fast"), launch, threads=1)[0]
    np.testing.assert_array_equal(run_fast(fixture_library("gaudi2", "fast"), launch, threads=threads)[0], one)


def test_concurrent_callers(fixture_library: Library) -> None:
    library = fixture_library("gaudi2", "fast")
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = sample((9, 257), seed)
        launch = Launch("fixture_softmax_f32", "gaudi2", (x,), ((x.shape, F32),))
        for _ in range(20):
            if np.abs(run_fast(library, launch, threads=2)[0] - softmax(x)).max() > 1e-5:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_raw_pointers(fixture_library: Library) -> None:
    x, y = sample((3, 65)), np.empty((3, 65), np.float32)
    spec = spec_of(x.shape, x.dtype)
    kernel = FastKernel(fixture_library("gaudi2", "fast"), "fixture_relu_f32", "gaudi2", [spec], [spec])
    kernel.launch([x.ctypes.data], [y.ctypes.data])
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_fast_honours_memset(fault_library: Library, echo_params: Callable[..., bytes]) -> None:
    row: Any = (0, 64.0, 0.0, 63.0, 0), (1, 1.0, 0.0, 0.0, 0)
    params = echo_params("adds_rmw", (2, 3), row, (row[0], (0, 0.0, 0.0, 0.0, 1)), memset=0.5)
    launch = Launch("echo", "gaudi2", (np.ones((3, 128), np.float32),), (((3, 128), F32),), params)
    [y] = run_fast(fault_library("gaudi2", "fast"), launch, threads=3)
    np.testing.assert_array_equal(y, np.array([[3.5], [0.5], [0.5]], np.float32).repeat(128, 1))
