"""The glue called in process: protocol, return codes, the ELF handshake, shape inference."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tpcgen.host import abi
from tpcgen.host.abi import GlueCode
from tpcgen.host.api import GlueError, HostLibrary, TensorSpec, guids, instantiate
from tpcgen.host.glue import DimMapping, Node, infer_shapes, library_version

F32 = np.dtype(np.float32)
BF16 = np.dtype(ml_dtypes.bfloat16)
ALL = ("fixture_relu_f32", "fixture_add_bf16", "fixture_softmax_f32", "fixture_scale_f32")


@pytest.fixture(scope="module")
def library(fixture_library: Callable[..., HostLibrary]) -> Path:
    return fixture_library("gaudi2", "strict").path


def spec(*shape: int, dtype: np.dtype = F32) -> TensorSpec:
    return TensorSpec.of(shape, dtype)


def test_guids(library: Path) -> None:
    assert guids(library, "gaudi") == ALL
    assert guids(library, "gaudi2") == ALL
    assert guids(library, "gaudi3") == ()


def test_instantiation(library: Path) -> None:
    found = instantiate(
        library, "gaudi2", "fixture_add_bf16", [spec(7, 129, dtype=BF16)] * 2, [spec(7, 129, dtype=BF16)]
    )
    assert found.kernel == "add_bf16"
    assert found.index_space == (2, 2, 1, 1, 1)
    assert len(found.inputs) == 2
    assert found.outputs[0].dims == (DimMapping(0, 128.0, 0.0, 127.0, False), DimMapping(1, 4.0, 0.0, 3.0, False))
    assert found.scalars == ()


def test_scalars_travel_bitwise(library: Path) -> None:
    params = struct.pack("<fi", 1.5, -3)
    found = instantiate(library, "gaudi2", "fixture_scale_f32", [spec(4, 64)], [spec(4, 64)], params)
    assert struct.pack("<2I", *found.scalars) == params


@pytest.mark.parametrize(
    ("guid", "inputs", "outputs", "params", "code"),
    [
        ("fixture_nothing", [spec(4)], [spec(4)], b"", GlueCode.NODE_NOT_FOUND),
        ("fixture_relu_f32", [spec(4)] * 2, [spec(4)], b"", GlueCode.INCOMPATIBLE_INPUT_COUNT),
        ("fixture_relu_f32", [spec(4)], [], b"", GlueCode.INCOMPATIBLE_OUTPUT_COUNT),
        ("fixture_relu_f32", [spec(4)], [spec(5)], b"", GlueCode.INCOMPATIBLE_OUTPUT_SIZE),
        ("fixture_relu_f32", [spec(4, dtype=BF16)], [spec(4, dtype=BF16)], b"", GlueCode.INCOMPATIBLE_DATA_TYPE),
        ("fixture_relu_f32", [spec(4)], [spec(4, dtype=BF16)], b"", GlueCode.INCOMPATIBLE_DATA_TYPE),
        (
            "fixture_add_bf16",
            [spec(4, dtype=BF16), spec(5, dtype=BF16)],
            [spec(4, dtype=BF16)],
            b"",
            GlueCode.INCOMPATIBLE_INPUT_SIZE,
        ),
        ("fixture_scale_f32", [spec(4)], [spec(4)], b"\0" * 4, GlueCode.MISSING_PRIVATE_STRUCTURE),
    ],
)
def test_return_codes(
    library: Path, guid: str, inputs: list[TensorSpec], outputs: list[TensorSpec], params: bytes, code: GlueCode
) -> None:
    with pytest.raises(GlueError) as caught:
        instantiate(library, "gaudi2", guid, inputs, outputs, params)
    assert caught.value.code == code
    assert code.name in str(caught.value)


def test_api_version(library: Path) -> None:
    node = Node("fixture_relu_f32", "gaudi2", [spec(4)], [spec(4)])
    node.params.apiVersion = 2
    assert node.call(library) == GlueCode.UNSUPPORTED_API_VERSION


def test_elf_handshake(library: Path) -> None:
    node = Node("fixture_relu_f32", "gaudi2", [spec(4)], [spec(4)])
    assert node.call(library) == GlueCode.INSUFFICIENT_ELF_BUFFER
    needed = node.instance.kernel.elfSize
    assert needed > 0
    node.give_elf_buffer(needed - 1)
    assert node.call(library) == GlueCode.INSUFFICIENT_ELF_BUFFER
    node.give_elf_buffer(needed)
    assert node.call(library) == GlueCode.SUCCESS
    assert b"relu_f32" in node.elf.raw


def test_shape_inference_and_version(library: Path) -> None:
    assert infer_shapes(library, "gaudi2", "fixture_relu_f32", [spec(3, 5)], 1) == ((5, 3),)
    with pytest.raises(GlueError):
        infer_shapes(library, "gaudi2", "fixture_relu_f32", [], 1)
    assert library_version(library) == 7


def test_scalar_tensor_has_one_dim() -> None:
    assert TensorSpec.of((), F32).sizes == (1,)


def test_dtypes_that_tpc_has_not() -> None:
    with pytest.raises(ValueError, match="complex64"):
        abi.data_type(np.dtype(np.complex64))
