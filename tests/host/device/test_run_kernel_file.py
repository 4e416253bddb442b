"""The back end of `tpcgen run`: any kernel, with glue sources, with glue in another library, and without glue."""

from __future__ import annotations

import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.host.run import KernelRun, describe, load_input, pack_params, parse_output, run_kernel_file
from tpcgen.toolchain.errors import ToolchainError
from tpcgen.toolchain.host import build

FIXTURES = Path(__file__).parents[1] / "fixtures"
F32 = np.dtype(np.float32)
X = np.linspace(-3, 3, 5 * 129, dtype=np.float32).reshape(5, 129)
OUT = ((X.shape, F32),)


def test_without_glue() -> None:
    run = KernelRun(FIXTURES / "relu_f32.c", "gaudi2", (X,), OUT, index_space=(3, 5, 1, 1))
    report = run_kernel_file(run)
    assert report.ok
    np.testing.assert_array_equal(report.outputs[0], np.maximum(X, 0))
    text = describe(report)
    assert "relu_f32: 15 members of index space 3x5x1x1" in text
    assert "input 0   645 of 645 elements read (100.0%), 15 loads, 0 stores, 315 lanes padded" in text
    assert text.endswith("no findings")


def test_without_glue_too_few_members() -> None:
    run = KernelRun(FIXTURES / "relu_f32.c", "gaudi2", (X,), OUT, index_space=(2, 5))
    report = run_kernel_file(run)
    assert [f.kind for f in report.findings] == ["unwritten"]
    assert "5 of 645 elements of output 0 were not written" in describe(report)


def test_scalars_without_glue() -> None:
    params = pack_params(["scale=0.5", "repeats=2"])
    run = KernelRun(FIXTURES / "scale_f32.c", "gaudi", (X,), OUT, index_space=(3, 5), params=params)
    np.testing.assert_array_equal(run_kernel_file(run).outputs[0], X * np.float32(0.25))


def test_with_glue_sources() -> None:
    run = KernelRun(
        FIXTURES / "softmax_f32.c",
        "gaudi2",
        (X,),
        OUT,
        glue=(FIXTURES / "glue.cpp",),
        guid="fixture_softmax_f32",
        trace=(0, 1),
    )
    report = run_kernel_file(run)
    assert report.ok
    np.testing.assert_allclose(report.outputs[0].sum(-1), 1, rtol=1e-5)
    assert "  store     tensor 1 at (128,1,0,0,0), 64 x 4 bytes" in describe(report)


def test_with_glue_in_another_library(tmp_path: Path) -> None:
    vendor = build([FIXTURES / "glue.cpp"], sorted(FIXTURES.glob("*.c")), target="gaudi2", out=tmp_path, mode="fast")
    mine = tmp_path / "mine.c"
    mine.write_text((FIXTURES / "relu_f32.c").read_text().replace("0.0f", "1.0f"))
    report = run_kernel_file(KernelRun(mine, "gaudi2", (X,), OUT, glue=(vendor.path,), guid="fixture_relu_f32"))
    assert report.ok
    assert report.kernel == "mine"
    np.testing.assert_array_equal(report.outputs[0], np.maximum(X, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "without --glue, --index-space"),
        ({"index_space": (1, 2, 3, 4, 5, 6)}, "1 to 5 sizes"),
        ({"index_space": (-1,)}, "negative"),
        ({"glue": (FIXTURES / "glue.cpp",)}, "--glue needs --guid"),
        ({"glue": (FIXTURES / "glue.cpp",), "guid": "g", "index_space": (1,)}, "goes without"),
        ({"index_space": (1,), "params": bytes(132)}, "at most 32"),
    ],
)
def test_arguments_that_do_not_go_together(changes: dict[str, object], message: str) -> None:
    run = KernelRun(FIXTURES / "relu_f32.c", "gaudi2", (X,), OUT, **changes)  # type: ignore[arg-type]
    with pytest.raises(DiagnosticError, match=message) as caught:
        run_kernel_file(run)
    assert caught.value.diagnostics[0].id == "E530"


def test_outputs_as_text() -> None:
    assert parse_output("y:bf16[4096,128]", ()) == ("y.npy", (4096, 128), np.dtype(ml_dtypes.bfloat16))
    assert parse_output("y.npy", (X,)) == ("y.npy", (5, 129), F32)
    assert parse_output("y:i32", (X,)) == ("y.npy", (5, 129), np.dtype(np.int32))
    assert parse_output("y:f32[]", ()) == ("y.npy", (), F32)
    for wrong in ("y:f33[2]", "y:f32[2", "y.npy", "y[3]"):
        with pytest.raises(DiagnosticError):
            parse_output(wrong, ())


def test_inputs_as_text(tmp_path: Path) -> None:
    narrow = X.astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "b.npy", narrow)
    np.testing.assert_array_equal(load_input(str(tmp_path / "x.npy")), X)
    for text in (f"{tmp_path}/x.npy:bf16", f"{tmp_path}/b.npy:bf16", f"{tmp_path}/b.npy"):
        loaded = load_input(text)
        assert loaded.dtype == narrow.dtype
        np.testing.assert_array_equal(loaded, narrow)
    (tmp_path / "text.npy").write_text("no array")
    for wrong in ("absent.npy", str(tmp_path / "text.npy"), f"{tmp_path}/x.npy:f33"):
        with pytest.raises(DiagnosticError):
            load_input(wrong)


def test_params_as_text() -> None:
    assert pack_params(["a=-1", "b=0x10", "c=1.5", "d=1e3"]) == struct.pack("<iiff", -1, 16, 1.5, 1000.0)
    for wrong in ("a", "a=", "=3", "a=x", "a=99999999999", "a=1e99"):
        with pytest.raises(DiagnosticError):
            pack_params([wrong])


def looks_up(tmp_path: Path, call: str) -> KernelRun:
    """A kernel that writes `call`, a lookup of lanes 63 to 0 in the table `t` or in one of the vendor's."""
    kernel = tmp_path / "looks_up.c"
    kernel.write_text(
        "void main(tensor t, tensor y)\n{\n    set_lut_32(t);\n    int5 at = {0};\n"
        "    uint64 entry = v_u32_sub_b(63, read_lane_id_4b_b());\n"
        f"    float64 z = 0.0f;\n    v_f32_st_tnsr(at, y, {call});\n}}\n"
    )
    table = np.arange(128, dtype=np.float32) ** 2
    return KernelRun(kernel, "gaudi2", (table,), (((64,), F32),), index_space=(1,))


def test_the_kernel_s_own_lookup_table(tmp_path: Path) -> None:
    report = run_kernel_file(looks_up(tmp_path, "v_f32_lookup(entry, (1 << 2) | 3, SW_LUT_PTR, z)"))
    assert report.ok, report.findings
    np.testing.assert_array_equal(report.outputs[0], np.arange(127, 63, -1, dtype=np.float32) ** 2)


def test_a_lookup_table_that_is_not_public_is_refused(tmp_path: Path) -> None:
    run = looks_up(tmp_path, "v_f32_lookup(entry, e_fp32_tanh, 0, z)")
    assert "private_table" in {f.kind for f in run_kernel_file(run).findings}
    with pytest.raises(ToolchainError, match="not public"):
        build([], [run.kernel], target="gaudi2", out=tmp_path, mode="fast")
