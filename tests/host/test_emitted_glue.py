"""The emitted glue, compiled and called as a graph compiler calls it: every answer and every refusal."""

from __future__ import annotations

import ctypes
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import tpcgen
from tpcgen.emit import glue as emit
from tpcgen.host import abi
from tpcgen.host.abi import GlueCode
from tpcgen.host.glue import GlueError, Node, TensorSpec, guids, infer_shapes, instantiate, library_version
from tpcgen.kernel.ir import AxisAccess, IndexDim, ScalarParam, TensorParam
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Attribute, Binary, Call, Contract, Expr, Literal, Program, Role, Size, Tensor
from tpcgen.toolchain.host import build

GUID = "test_window_softmax_fwd_bf16"
LIB_VERSION = 0xFEDC_BA98_7654_3210
F32, BF16 = np.dtype(np.float32), DType.BF16.numpy
H, M, N = Size("H"), Size("M"), Size("N")
W, CAP = Attr("W", DType.I32), Attr("cap", DType.F32)


def int_(n: int) -> Literal:
    return Literal(n, DType.I32)


def ceil_div(e: Expr, n: int) -> Expr:
    return Binary("//", Binary("+", e, int_(n - 1)), int_(n))


def kernel() -> emit.GlueKernel:
    """P[h,m,n] bf16 from S[h,m,n] f32 and snk[h] f32, rows in fours."""
    tensors = (
        Tensor("S", (H, M, N), DType.F32, Role.INPUT),
        Tensor("snk", (H,), DType.F32, Role.INPUT),
        Tensor("P", (H, M, N), DType.BF16, Role.OUTPUT),
    )
    program = Program(
        "softmax",
        ("H", "M", "N"),
        (Attribute("W", DType.I32, None), Attribute("cap", DType.F32, None)),
        tensors,
        (),
        (Contract(Binary("<=", M, N), ()), Contract(Binary(">", W, int_(0)), ())),
        (),
    )
    row = (AxisAccess(0, 0, 0, 0, all_required=True), AxisAccess(0, 4, 0, 3), AxisAccess(1, 1, 0, 0))
    return emit.GlueKernel(
        GUID,
        program,
        (
            TensorParam("S", DType.F32, (N, M, H), False),
            TensorParam("snk", DType.F32, (H,), False),
            TensorParam("P", DType.BF16, (N, M, H), True),
        ),
        (
            ScalarParam("shift", DType.I32, Binary("-", N, M)),
            ScalarParam("scale", DType.F32, Binary("*", Call("rsqrt", (CAP,)), Literal(2.0, DType.F32))),
            ScalarParam("W", DType.I32, W),
        ),
        (IndexDim("m", ceil_div(M, 4), 4), IndexDim("h", H, 1)),
        (row, (AxisAccess(1, 1, 0, 0),), row),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The glue with a kernel that does nothing: only what the glue says is looked at here."""
    root = tmp_path_factory.mktemp("glue")
    source = root / f"{GUID}.c"
    source.write_text("void main(tensor S, tensor snk, tensor P, int shift, float scale, int W) {}\n")
    glue = root / "glue.cpp"
    for name, text in emit.files("window", "gaudi2", "window.dsl", [kernel()], "0", LIB_VERSION).items():
        (root / name).write_text(text)
    return build([glue], [source], target="gaudi2", out=root, mode="strict").path


def specs(h: int = 2, m: int = 7, n: int = 9) -> tuple[list[TensorSpec], list[TensorSpec]]:
    return (
        [TensorSpec.of((h, m, n), F32), TensorSpec.of((h,), F32)],
        [TensorSpec.of((h, m, n), BF16)],
    )


PARAMS = struct.pack("<if", 5, 4.0)


def node(**changes: object) -> Node:
    inputs, outputs = specs()
    given: dict[str, object] = {
        "guid": GUID,
        "target": "gaudi2",
        "inputs": inputs,
        "outputs": outputs,
        "params": PARAMS,
    }
    return Node(**{**given, **changes})  # type: ignore[arg-type]


def test_guids_by_device(library: Path) -> None:
    assert guids(library, "gaudi2") == (GUID,)
    assert guids(library, "gaudi") == ()


def test_version(library: Path) -> None:
    assert library_version(library) == LIB_VERSION


@pytest.mark.parametrize(("h", "m", "n"), [(1, 1, 1), (2, 7, 9), (3, 63, 65), (1, 129, 296), (2, 0, 3)])
def test_answer(library: Path, h: int, m: int, n: int) -> None:
    inputs, outputs = specs(h, m, n)
    found = instantiate(library, "gaudi2", GUID, inputs, outputs, PARAMS)
    assert found.kernel == GUID
    assert found.index_space == ((m + 3) // 4, h)
    score = found.inputs[0].dims
    assert score[0].all_required
    assert (score[1].index_dim, score[1].a, score[1].start, score[1].end) == (0, 4.0, 0.0, 3.0)
    assert (score[2].index_dim, score[2].a, score[2].start, score[2].end) == (1, 1.0, 0.0, 0.0)
    assert found.outputs[0].dims == score
    assert not found.inputs[1].dims[0].all_required
    bits = struct.unpack("<I", struct.pack("<f", 1.0))[0]
    assert found.scalars == (n - m, bits, 5)


def test_shapes(library: Path) -> None:
    inputs, _ = specs(3, 5, 70)
    assert infer_shapes(library, "gaudi2", GUID, inputs, 1, PARAMS) == ((70, 5, 3),)


def test_elf_is_handed_over_in_two_calls(library: Path) -> None:
    asked = node()
    assert asked.call(library) == GlueCode.INSUFFICIENT_ELF_BUFFER
    needed = asked.instance.kernel.elfSize
    asked.give_elf_buffer(needed - 1)
    assert asked.call(library) == GlueCode.INSUFFICIENT_ELF_BUFFER
    asked.give_elf_buffer(needed)
    assert asked.call(library) == GlueCode.SUCCESS


def wrong_rank() -> Node:
    return node(inputs=[TensorSpec.of((2, 7), F32), TensorSpec.of((2,), F32)])


def sizes_disagree() -> Node:
    return node(inputs=[TensorSpec.of((2, 7, 9), F32), TensorSpec.of((3,), F32)])


def dynamic() -> Node:
    made = node()
    made.params.inputTensors[0].geometry.minSizes[1] = 3
    return made


def absent_input() -> Node:
    made = node()
    made.params.inputTensors[1].flags = 2
    return made


def future_api() -> Node:
    made = node()
    made.params.apiVersion = 2
    return made


def huge() -> Node:
    made = node()
    geometry = made.params.inputTensors[0].geometry
    geometry.maxSizes[0] = geometry.minSizes[0] = 1 << 31
    return made


def too_many_elements() -> Node:
    made = node()
    for d in range(3):
        geometry = made.params.inputTensors[0].geometry
        geometry.maxSizes[d] = geometry.minSizes[d] = 1 << 20
    return made


F32_OUT = [TensorSpec.of((2, 7, 9), F32)]
LONG_OUT = [TensorSpec.of((2, 8, 9), BF16)]
MORE_ROWS_THAN_KEYS = specs(2, 10, 9)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: node(guid="test_window_softmax_fwd_f32"), GlueCode.NODE_NOT_FOUND),
        (lambda: node(target="gaudi"), GlueCode.NODE_NOT_FOUND),
        (future_api, GlueCode.UNSUPPORTED_API_VERSION),
        (lambda: node(inputs=specs()[0][:1]), GlueCode.INCOMPATIBLE_INPUT_COUNT),
        (lambda: node(outputs=[]), GlueCode.INCOMPATIBLE_OUTPUT_COUNT),
        (absent_input, GlueCode.INCOMPATIBLE_INPUT_COUNT),
        (wrong_rank, GlueCode.INCOMPATIBLE_INPUT_SIZE),
        (sizes_disagree, GlueCode.INCOMPATIBLE_INPUT_SIZE),
        (lambda: node(outputs=F32_OUT), GlueCode.INCOMPATIBLE_DATA_TYPE),
        (lambda: node(outputs=LONG_OUT), GlueCode.INCOMPATIBLE_OUTPUT_SIZE),
        (dynamic, GlueCode.UNSUPPORTED_DYNAMIC_SHAPE),
        (huge, GlueCode.UNSUPPORTED_HUGE_TENSORS),
        (too_many_elements, GlueCode.UNSUPPORTED_HUGE_TENSORS),
        (lambda: node(params=b""), GlueCode.UNSUPPORTED_LAYER_CONFIGURATION),
        (lambda: node(params=PARAMS + b"\0"), GlueCode.UNSUPPORTED_LAYER_CONFIGURATION),
        (lambda: node(params=struct.pack("<if", 0, 4.0)), GlueCode.UNSUPPORTED_LAYER_CONFIGURATION),
        (lambda: node(params=struct.pack("<if", 5, 0.0)), GlueCode.UNSUPPORTED_LAYER_CONFIGURATION),
        (
            lambda: node(inputs=MORE_ROWS_THAN_KEYS[0], outputs=MORE_ROWS_THAN_KEYS[1]),
            GlueCode.UNSUPPORTED_LAYER_CONFIGURATION,
        ),
    ],
)
def test_refusals(library: Path, made: object, code: GlueCode) -> None:
    asked: Node = made()  # type: ignore[operator]
    asked.give_elf_buffer(4096)
    assert asked.call(library) == code


def test_wrong_size_and_dtype_are_answered_with_the_right_ones(library: Path) -> None:
    asked = node(outputs=LONG_OUT)
    asked.call(library)
    assert list(asked.params.outputTensors[0].geometry.maxSizes[:3]) == [9, 7, 2]
    asked = node(outputs=F32_OUT)
    asked.call(library)
    assert asked.params.outputTensors[0].geometry.dataType == abi.data_type(BF16)
    asked = sizes_disagree()
    asked.call(library)
    assert asked.params.inputTensors[1].geometry.maxSizes[0] == 2


def test_null_structs(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    assert loaded.InstantiateTpcKernel(None, None) == GlueCode.FAILED
    assert loaded.GetKernelGuids(3, None, None) == GlueCode.FAILED
    assert loaded.GetShapeInference(3, None, None) == GlueCode.SIF_NULL_PTR


def test_shape_inference_refuses_what_instantiation_refuses(library: Path) -> None:
    with pytest.raises(GlueError) as refused:
        infer_shapes(library, "gaudi2", GUID, [TensorSpec.of((2, 7, 9), F32), TensorSpec.of((3,), F32)], 1, PARAMS)
    assert refused.value.code == GlueCode.INCOMPATIBLE_INPUT_SIZE


def test_warning_free_as_cpp11_with_our_header(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    import subprocess

    for name, text in emit.files("window", "gaudi2", "window.dsl", [kernel()], "0", LIB_VERSION).items():
        (tmp_path / name).write_text(text)
    include = Path(tpcgen.__file__).parent / "host" / "include"
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{include}"]
    done = subprocess.run([compiler, *flags, str(tmp_path / "glue.cpp")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_cannot_inject() -> None:
    bad = kernel()
    with pytest.raises(ValueError, match="identifier"):
        emit.files('x"; system("true', "gaudi2", "w.dsl", [bad], "0", 1)
    text = emit.files("x", "gaudi2", "w.dsl*/\nint injected;\\\n", [bad], "0", 1)["glue.cpp"]
    assert "\nint injected" not in text
