"""The ABI of the kernel library interface: every struct's size and every field's place, of our header, of the ctypes
structs, and of the vendor's header where $TPC_KERNEL_LIB_INTERFACE names it."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from tpcgen.host import abi
from tpcgen.toolchain.host import INCLUDE, find_compiler

# Struct: (bytes, {field: (offset, bytes)}) on LP64, where Synapse runs.
LAYOUT: dict[str, tuple[int, dict[str, tuple[int, int]]]] = {
    "TensorDataLayout": (25, {"layout": (0, 25)}),
    "NodeDataLayouts": (
        48,
        {
            "inputs": (0, 8),
            "inputTensorNr": (8, 4),
            "outputs": (16, 8),
            "outputTensorNr": (24, 4),
            "shapeTensors": (32, 8),
            "shapeTensorNr": (40, 4),
        },
    ),
    "UniqueShapeInferenceHash": (8, {"Value": (0, 8)}),
    "GuidInfo": (80, {"name": (0, 64), "nameHash": (64, 8), "kernelProperties": (72, 4)}),
    "UserParams": (16, {"nodeParams": (0, 8), "nodeParamsSize": (8, 4)}),
    "ElementValue": (
        8,
        {
            "fValue": (0, 4),
            "u32Value": (0, 4),
            "i32Value": (0, 4),
            "u16Value": (0, 2),
            "i16Value": (0, 2),
            "u8Value": (0, 1),
            "i8Value": (0, 1),
            "u64Value": (0, 8),
            "i64Value": (0, 8),
        },
    ),
    "TensorGeometry": (416, {"dims": (0, 4), "maxSizes": (8, 200), "minSizes": (208, 200), "dataType": (408, 4)}),
    "TensorQuantizationParam": (16, {"zeroPoint": (0, 1), "zeroPointU8": (0, 1), "fp8bias": (0, 1), "scale": (8, 8)}),
    "Tensor": (
        600,
        {
            "geometry": (0, 416),
            "quantizationParam": (416, 16),
            "layout": (432, 25),
            "flags": (460, 4),
            "pData": (464, 8),
            "permutation": (472, 100),
            "reserved": (572, 24),
        },
    ),
    "AuxTensor": (
        464,
        {"geometry": (0, 416), "pData": (416, 8), "bufferSize": (424, 8), "flags": (432, 4), "reserved": (436, 24)},
    ),
    "DimIndexSpaceMapping": (
        20,
        {"indexSpaceDim": (0, 4), "a": (4, 4), "start_b": (8, 4), "end_b": (12, 4), "allRequired": (16, 1)},
    ),
    "TensorAccessPattern": (
        536,
        {"Value": (0, 4), "mapping": (4, 500), "memsetValue": (504, 8), "reserved": (512, 24)},
    ),
    "HabanaKernelParams": (
        256,
        {
            "apiVersion": (0, 4),
            "deviceId": (4, 4),
            "guid": (8, 80),
            "nodeParams": (88, 16),
            "inputTensors": (104, 8),
            "inputTensorNr": (112, 4),
            "outputTensors": (120, 8),
            "outputTensorNr": (128, 4),
            "maxAvailableTpc": (132, 4),
            "useDeterministic": (136, 4),
            "uniqueNodeId": (144, 8),
            "debugFlags": (152, 4),
            "validInputTensors": (156, 2),
            "validOutputTensors": (158, 2),
            "reserved": (160, 96),
        },
    ),
    "DeviceKernel": (144, {"kernelElf": (0, 8), "elfSize": (8, 4), "scalarParams": (12, 128), "paramsNr": (140, 4)}),
    "HabanaKernelInstantiation": (
        288,
        {
            "indexSpaceRank": (0, 4),
            "indexSpaceGeometry": (8, 40),
            "inputTensorAccessPattern": (48, 8),
            "outputTensorAccessPattern": (56, 8),
            "auxiliaryTensors": (64, 8),
            "auxiliaryTensorNr": (72, 4),
            "kernel": (80, 144),
            "preferredSplitDim": (224, 4),
            "reserved": (228, 60),
        },
    ),
    "NodeTensorPermutation": (100, {"permutation": (0, 100)}),
    "TensorShapeInfo": (456, {"geometry": (0, 416), "hostAddress": (416, 8), "reserved": (424, 32)}),
    "ShapeInferenceParams": (
        176,
        {
            "apiVersion": (0, 4),
            "uniqueNodeId": (8, 8),
            "guid": (16, 80),
            "inputTensors": (96, 8),
            "inputTensorsNr": (104, 4),
            "nodeParams": (112, 16),
            "outputTensorsNr": (128, 4),
            "inputPermutations": (136, 8),
            "outputPermutations": (144, 8),
            "pGuid": (152, 8),
            "maxAvailableTpc": (160, 4),
            "reserved": (164, 12),
        },
    ),
    "ShapeInferenceOutput": (40, {"outputTensors": (0, 8), "invalidMask": (8, 8), "reserved": (16, 24)}),
}

VALUES = {
    "DEVICE_ID_GAUDI": 1, "DEVICE_ID_GRECO": 2, "DEVICE_ID_GAUDI2": 3, "DEVICE_ID_GAUDI3": 4,
    "DATA_I8": 4, "DATA_U8": 8, "DATA_F8_152": 16, "DATA_F8_143": 32, "DATA_I16": 64, "DATA_U16": 128, "DATA_BF16": 256,
    "DATA_F16": 512, "DATA_I32": 1024, "DATA_U32": 2048, "DATA_F32": 4096, "DATA_I64": 8192, "DATA_U64": 16384,
    "MAX_SCALAR_PARAMS": 32, "MAX_NODE_NAME": 64, "MAX_INDEX_SPACE_DIM_SIZE": 5, "MAX_TENSOR_DIM": 25,
    **{f"GLUE_{code.name}": code.value for code in abi.GlueCode},
}  # fmt: skip


def asserts() -> str:
    lines = ["#include <stddef.h>", '#include "tpc_kernel_lib_interface.h"', "using namespace tpc_lib_api;"]
    for struct, (size, fields) in LAYOUT.items():
        lines.append(f'static_assert(sizeof({struct}) == {size}, "{struct}");')
        for field, (offset, bytes_) in fields.items():
            lines.append(f'static_assert(offsetof({struct}, {field}) == {offset}, "{struct}.{field}");')
            lines.append(f'static_assert(sizeof((({struct}*)0)->{field}) == {bytes_}, "{struct}.{field}");')
    lines += [f'static_assert({name} == {value}, "{name}");' for name, value in VALUES.items()]
    lines += [
        "pfnGetKernelGuids a; pfnInstantiateTpcKernel b; pfnGetSupportedDataLayout c; pfnGetShapeInference d;",
        "pfnGetLibVersion e;",
        "const char* names = KERNEL_GUIDS_ENTRY_POINT_NAME KERNEL_INSTANTIATION_ENTRY_POINT_NAME "
        "GET_SUPPORTED_DATA_LAYOUTS_ENTRY_POINT_NAME GET_SHAPE_INFERENCE_ENTRY_POINT_NAME "
        "GET_LIB_VERSION_ENTRY_POINT_NAME;",
    ]
    return "\n".join(lines) + "\n"


# Bit-fields have no offset: their masks are read through the word they share.
BITS = r"""
#include <cstdio>
#include <cstring>
#include "tpc_kernel_lib_interface.h"
using namespace tpc_lib_api;
#define BIT(STRUCT, WORD, FIELD) { \
    STRUCT s; memset((void*)&s, 0, sizeof s); s.FIELD = ~0; printf("%s %x\n", #FIELD, (unsigned)s.WORD); }
int main() {
    BIT(TensorAccessPattern, Value, allRequired)
    BIT(TensorAccessPattern, Value, memsetBeforeExecution)
    BIT(TensorAccessPattern, Value, inputsReusability)
    BIT(TensorAccessPattern, Value, inputReusabilityBinding)
    BIT(TensorAccessPattern, Value, sparseAccess)
    BIT(TensorAccessPattern, Value, noRmwAccess)
    BIT(TensorAccessPattern, Value, fullyAccessedOnce)
    BIT(TensorAccessPattern, Value, fullyWritten)
    BIT(Tensor, flags, Reducible)
    BIT(Tensor, flags, Null)
    BIT(AuxTensor, flags, sramAlloc)
    BIT(AuxTensor, flags, noInit)
    BIT(GuidInfo, kernelProperties, supportsDynamicShapes)
    BIT(GuidInfo, kernelProperties, supports64bit)
}
"""

MASKS = {
    "allRequired": 0x1, "memsetBeforeExecution": 0x2, "inputsReusability": 0x3FFFC, "inputReusabilityBinding": 0x40000,
    "sparseAccess": 0x80000, "noRmwAccess": 0x100000, "fullyAccessedOnce": 0x200000, "fullyWritten": 0x400000,
    "Reducible": 0x1, "Null": 0x2, "sramAlloc": 0x1, "noInit": 0x2, "supportsDynamicShapes": 0x1, "supports64bit": 0x2,
}  # fmt: skip


def headers() -> list[Path]:
    vendor = os.environ.get("TPC_KERNEL_LIB_INTERFACE")
    return [INCLUDE, *([Path(vendor).parent] if vendor else [])]


def compiled(text: str, include: Path, tmp_path: Path, *arguments: str) -> str:
    source = tmp_path / "abi.cpp"
    source.write_text(text)
    command = [*find_compiler().command, "-std=c++17", "-w", f"-I{include}", *arguments, str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stderr


@pytest.mark.parametrize("include", headers(), ids=["ours", "vendor"][: len(headers())])
def test_layout_of_header(include: Path, tmp_path: Path) -> None:
    assert compiled(asserts(), include, tmp_path, "-fsyntax-only") == ""


@pytest.mark.parametrize("include", headers(), ids=["ours", "vendor"][: len(headers())])
def test_bit_fields_of_header(include: Path, tmp_path: Path) -> None:
    program = tmp_path / "bits"
    assert compiled(BITS, include, tmp_path, "-o", str(program)) == ""
    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert {line.split()[0]: int(line.split()[1], 16) for line in output.splitlines()} == MASKS


def test_an_assertion_can_fail(tmp_path: Path) -> None:
    wrong = asserts().replace("sizeof(GuidInfo) == 80", "sizeof(GuidInfo) == 72")
    assert "GuidInfo" in compiled(wrong, INCLUDE, tmp_path, "-fsyntax-only")


@pytest.mark.parametrize("struct", [name for name in LAYOUT if hasattr(abi, name)])
def test_layout_of_ctypes(struct: str) -> None:
    size, fields = LAYOUT[struct]
    mirrored = getattr(abi, struct)
    assert ctypes.sizeof(mirrored) == size
    for name, *_ in mirrored._fields_:
        field = getattr(mirrored, name)
        if name in fields:
            assert (field.offset, field.size) == fields[name], name


def test_every_struct_that_is_passed_is_mirrored() -> None:
    passed = {
        "HabanaKernelParams",
        "HabanaKernelInstantiation",
        "ShapeInferenceParams",
        "ShapeInferenceOutput",
        "Tensor",
        "TensorAccessPattern",
        "AuxTensor",
        "GuidInfo",
        "DeviceKernel",
        "TensorShapeInfo",
    }
    assert all(hasattr(abi, name) for name in passed)
