"""The TPC kernel library interface in ctypes: the structs of tpc_kernel_lib_interface.h, and its element types.

Layouts are pinned by tests/host/test_glue_abi.py. Sizes are in elements, dim 0 fastest (torch order reversed).
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any, Final

import numpy as np

MAX_SCALAR_PARAMS: Final = 32
MAX_NODE_NAME: Final = 64
MAX_INDEX_SPACE_DIMS: Final = 5
MAX_TENSOR_DIM: Final = 25
MAX_AUX_TENSORS: Final = 16
MAX_RANK: Final = 5

DEVICE_IDS: Final = {"gaudi": 1, "gaudi2": 3, "gaudi3": 4}
SLM_BYTES: Final = {"gaudi": 1024, "gaudi2": 16 * 1024, "gaudi3": 16 * 1024}


class GlueCode(IntEnum):
    """GlueCodeReturn of the interface."""

    SUCCESS = 0
    NODE_NOT_FOUND = 1
    INSUFFICIENT_ISA_BUFFER = 2
    INCOMPATIBLE_INPUT_COUNT = 3
    INCOMPATIBLE_INPUT_SIZE = 4
    INCOMPATIBLE_OUTPUT_COUNT = 5
    INCOMPATIBLE_OUTPUT_SIZE = 6
    INCOMPATIBLE_DATA_TYPE = 7
    UNSUPPORTED_LAYER_CONFIGURATION = 8
    INSUFFICIENT_AUX_BUFFER_SIZE = 9
    UNSUPPORTED_QUANT_PARAMS = 10
    UNSUPPORTED_BROADCAST_MODE = 11
    UNSUPPORTED_API_VERSION = 12
    NON_STATIC_INPUT_TENSOR = 13
    KERNEL_REQUIRE_REDUCIBLE_TENSOR = 14
    INVALID_SHAPE_INFERENCE_ID = 15
    KERNEL_INVALID_SCALAR_ARGUMENT = 16
    UNSUPPORTED_LOW_FCD_INPUT = 17
    INSUFFICIENT_ELF_BUFFER = 18
    MISSING_PRIVATE_STRUCTURE = 19
    UNSUPPORTED_5D_TENSORS = 20
    CGUID_GRAPH_UNCHANGED = 21
    SIF_NULL_PTR = 22
    UNSUPPORTED_DYNAMIC_SHAPE = 23
    UNSUPPORTED_HUGE_TENSORS = 24
    FAILED = 400


# TensorDataType by NumPy name. A bool travels as one byte.
_DATA_TYPES: Final = {
    "int8": 1 << 2,
    "uint8": 1 << 3,
    "bool": 1 << 2,
    "float8_e5m2": 1 << 4,
    "float8_e4m3": 1 << 5,
    "float8_e4m3fn": 1 << 5,
    "int16": 1 << 6,
    "uint16": 1 << 7,
    "bfloat16": 1 << 8,
    "float16": 1 << 9,
    "int32": 1 << 10,
    "uint32": 1 << 11,
    "float32": 1 << 12,
    "int64": 1 << 13,
    "uint64": 1 << 14,
}


def data_type(dtype: np.dtype[Any]) -> int:
    """The interface's TensorDataType of a NumPy dtype. Raises ValueError for one that TPC tensors cannot have."""
    name = str(dtype)
    code = _DATA_TYPES.get(name)
    if code is None:
        raise ValueError(f"dtype {name} is not a TPC tensor's; possible are {', '.join(_DATA_TYPES)}")
    return code


_ELEMENT_BYTES: Final = {
    **dict.fromkeys((1 << 2, 1 << 3, 1 << 4, 1 << 5), 1),
    **dict.fromkeys((1 << 6, 1 << 7, 1 << 8, 1 << 9), 2),
    **dict.fromkeys((1 << 10, 1 << 11, 1 << 12), 4),
    **dict.fromkeys((1 << 13, 1 << 14), 8),
}


def element_bytes(code: int) -> int:
    """Bytes of one element of a TensorDataType; 4-bit types have none here and raise ValueError."""
    if code not in _ELEMENT_BYTES:
        raise ValueError(f"tensors of TensorDataType {code} are not supported on the host")
    return _ELEMENT_BYTES[code]


class UserParams(ctypes.Structure):
    _fields_ = [("nodeParams", ctypes.c_void_p), ("nodeParamsSize", ctypes.c_uint32)]


class GuidInfo(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * MAX_NODE_NAME),
        ("nameHash", ctypes.c_uint64),
        ("kernelProperties", ctypes.c_uint32),
    ]


class TensorGeometry(ctypes.Structure):
    _fields_ = [
        ("dims", ctypes.c_uint32),
        ("maxSizes", ctypes.c_uint64 * MAX_TENSOR_DIM),
        ("minSizes", ctypes.c_uint64 * MAX_TENSOR_DIM),
        ("dataType", ctypes.c_uint32),
    ]


class TensorQuantizationParam(ctypes.Structure):
    _fields_ = [("zeroPoint", ctypes.c_int8), ("scale", ctypes.c_double)]


class TensorDataLayout(ctypes.Structure):
    _fields_ = [("layout", ctypes.c_char * MAX_TENSOR_DIM)]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("geometry", TensorGeometry),
        ("quantizationParam", TensorQuantizationParam),
        ("layout", TensorDataLayout),
        ("flags", ctypes.c_uint32),
        ("pData", ctypes.c_void_p),
        ("permutation", ctypes.c_uint32 * MAX_TENSOR_DIM),
        ("reserved", ctypes.c_uint32 * 6),
    ]


class AuxTensor(ctypes.Structure):
    _fields_ = [
        ("geometry", TensorGeometry),
        ("pData", ctypes.c_void_p),
        ("bufferSize", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 6),
    ]


class DimIndexSpaceMapping(ctypes.Structure):
    _fields_ = [
        ("indexSpaceDim", ctypes.c_uint32),
        ("a", ctypes.c_float),
        ("start_b", ctypes.c_float),
        ("end_b", ctypes.c_float),
        ("allRequired", ctypes.c_bool),
    ]


class TensorAccessPattern(ctypes.Structure):
    _fields_ = [
        ("Value", ctypes.c_uint32),
        ("mapping", DimIndexSpaceMapping * MAX_TENSOR_DIM),
        ("memsetValue", ctypes.c_uint64),
        ("reserved", ctypes.c_uint32 * 6),
    ]


class HabanaKernelParams(ctypes.Structure):
    _fields_ = [
        ("apiVersion", ctypes.c_int),
        ("deviceId", ctypes.c_uint32),
        ("guid", GuidInfo),
        ("nodeParams", UserParams),
        ("inputTensors", ctypes.POINTER(Tensor)),
        ("inputTensorNr", ctypes.c_uint32),
        ("outputTensors", ctypes.POINTER(Tensor)),
        ("outputTensorNr", ctypes.c_uint32),
        ("maxAvailableTpc", ctypes.c_uint32),
        ("useDeterministic", ctypes.c_uint32),
        ("uniqueNodeId", ctypes.c_uint64),
        ("debugFlags", ctypes.c_uint32),
        ("validInputTensors", ctypes.c_uint16),
        ("validOutputTensors", ctypes.c_uint16),
        ("reserved", ctypes.c_uint32 * 24),
    ]


class DeviceKernel(ctypes.Structure):
    _fields_ = [
        ("kernelElf", ctypes.c_void_p),
        ("elfSize", ctypes.c_uint32),
        ("scalarParams", ctypes.c_uint32 * MAX_SCALAR_PARAMS),
        ("paramsNr", ctypes.c_uint32),
    ]


class HabanaKernelInstantiation(ctypes.Structure):
    _fields_ = [
        ("indexSpaceRank", ctypes.c_uint32),
        ("indexSpaceGeometry", ctypes.c_uint64 * MAX_INDEX_SPACE_DIMS),
        ("inputTensorAccessPattern", ctypes.POINTER(TensorAccessPattern)),
        ("outputTensorAccessPattern", ctypes.POINTER(TensorAccessPattern)),
        ("auxiliaryTensors", ctypes.POINTER(AuxTensor)),
        ("auxiliaryTensorNr", ctypes.c_uint32),
        ("kernel", DeviceKernel),
        ("preferredSplitDim", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 15),
    ]


class NodeTensorPermutation(ctypes.Structure):
    _fields_ = [("permutation", ctypes.c_uint32 * MAX_TENSOR_DIM)]


class TensorShapeInfo(ctypes.Structure):
    _fields_ = [
        ("geometry", TensorGeometry),
        ("hostAddress", ctypes.c_void_p),
        ("reserved", ctypes.c_uint32 * 8),
    ]


class ShapeInferenceParams(ctypes.Structure):
    _fields_ = [
        ("apiVersion", ctypes.c_int),
        ("uniqueNodeId", ctypes.c_uint64),
        ("guid", GuidInfo),
        ("inputTensors", ctypes.POINTER(ctypes.POINTER(TensorShapeInfo))),
        ("inputTensorsNr", ctypes.c_uint32),
        ("nodeParams", UserParams),
        ("outputTensorsNr", ctypes.c_uint32),
        ("inputPermutations", ctypes.POINTER(NodeTensorPermutation)),
        ("outputPermutations", ctypes.POINTER(NodeTensorPermutation)),
        ("pGuid", ctypes.POINTER(GuidInfo)),
        ("maxAvailableTpc", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    ]


class ShapeInferenceOutput(ctypes.Structure):
    _fields_ = [
        ("outputTensors", ctypes.POINTER(ctypes.POINTER(TensorShapeInfo))),
        ("invalidMask", ctypes.POINTER(ctypes.c_uint32)),
        ("reserved", ctypes.c_uint32 * 6),
    ]
