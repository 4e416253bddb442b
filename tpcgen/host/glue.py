"""Calls a kernel library's glue in this process, as a graph compiler would.

Only for libraries that are trusted not to crash: emitted glue, or one that a strict run has seen. Strict runs call the
glue themselves, in their child process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tpcgen.host import abi
from tpcgen.host.abi import GlueCode
from tpcgen.toolchain.host import ELF_MARK


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as glue sees it. `sizes` in TPC order, dim 0 fastest; at least one dim."""

    sizes: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, shape: Sequence[int], dtype: np.typing.DTypeLike) -> TensorSpec:
        """From a shape in torch order. A scalar has one element along one dim."""
        return cls(tuple(reversed(shape)) or (1,), np.dtype(dtype))


@dataclass(frozen=True, slots=True)
class DimMapping:
    """Member i of index-space dim `index_dim` touches elements a*i + start to a*i + end, both included."""

    index_dim: int
    a: float
    start: float
    end: float
    all_required: bool


@dataclass(frozen=True, slots=True)
class AccessPattern:
    """What the glue declares for one tensor: one mapping per dim of the tensor, dim 0 fastest."""

    all_required: bool
    memset: bool
    memset_value: int
    dims: tuple[DimMapping, ...]


@dataclass(frozen=True, slots=True)
class AuxTensor:
    """Constant data the glue adds behind the outputs. `sizes` in TPC order."""

    sizes: tuple[int, ...]
    data_type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Instantiation:
    """The glue's answer: which kernel, over which index space, touching what."""

    kernel: str
    index_space: tuple[int, ...]
    inputs: tuple[AccessPattern, ...]
    outputs: tuple[AccessPattern, ...]
    scalars: tuple[int, ...]
    aux: tuple[AuxTensor, ...]


class GlueError(Exception):
    """The glue refused a node with `code`; `params` holds what it wrote into the node (the values it expects)."""

    def __init__(self, guid: str, code: int, params: abi.HabanaKernelParams) -> None:
        self.guid = guid
        self.code = code
        self.params = params
        name = GlueCode(code).name if code in GlueCode._value2member_map_ else "an unknown code"
        super().__init__(f"the glue refused {guid}: {name} ({code})")


@lru_cache(maxsize=256)
def load(library: Path) -> ctypes.CDLL:
    """The library, loaded once. Its path carries a content hash, so that a rebuilt one is another path."""
    return ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL)


def guids(library: Path, target: str) -> tuple[str, ...]:
    """The GUIDs the library offers for `target`, by the two-call protocol of GetKernelGuids."""
    entry = load(library).GetKernelGuids
    count = ctypes.c_uint32(0)
    device = ctypes.c_uint32(abi.DEVICE_IDS[target])
    if code := entry(device, ctypes.byref(count), None):
        raise GlueError("GetKernelGuids", code, abi.HabanaKernelParams())
    infos = (abi.GuidInfo * max(1, count.value))()
    if code := entry(device, ctypes.byref(count), infos):
        raise GlueError("GetKernelGuids", code, abi.HabanaKernelParams())
    return tuple(infos[i].name.decode() for i in range(count.value))


def library_version(library: Path) -> int:
    """GetLibVersion of the library."""
    entry = load(library).GetLibVersion
    entry.restype = ctypes.c_uint64
    return int(entry())


class Node:
    """One node handed to the glue: the ABI structs and the memory they point to, open to change before `call`."""

    def __init__(
        self, guid: str, target: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], params: bytes = b""
    ) -> None:
        self._input_array = (abi.Tensor * max(1, len(inputs)))(*map(_tensor, inputs))
        self._output_array = (abi.Tensor * max(1, len(outputs)))(*map(_tensor, outputs))
        self._node_params = ctypes.create_string_buffer(params, len(params)) if params else None
        self.params = abi.HabanaKernelParams(
            apiVersion=1,
            deviceId=abi.DEVICE_IDS[target],
            guid=abi.GuidInfo(name=guid.encode()),
            nodeParams=abi.UserParams(
                ctypes.cast(self._node_params, ctypes.c_void_p) if self._node_params else None, len(params)
            ),
            inputTensors=self._input_array,
            inputTensorNr=len(inputs),
            outputTensors=self._output_array,
            outputTensorNr=len(outputs),
            maxAvailableTpc=1,
            validInputTensors=(1 << len(inputs)) - 1,
            validOutputTensors=(1 << len(outputs)) - 1,
        )
        self.input_patterns = (abi.TensorAccessPattern * max(1, len(inputs)))()
        self.output_patterns = (abi.TensorAccessPattern * max(1, len(outputs)))()
        self.aux = (abi.AuxTensor * abi.MAX_AUX_TENSORS)()
        self._aux_buffers: list[ctypes.Array[ctypes.c_char]] = []
        self.elf: ctypes.Array[ctypes.c_char] = ctypes.create_string_buffer(0)
        self.instance = abi.HabanaKernelInstantiation(
            inputTensorAccessPattern=self.input_patterns,
            outputTensorAccessPattern=self.output_patterns,
            auxiliaryTensors=self.aux,
        )

    def give_elf_buffer(self, size: int) -> None:
        self.elf = ctypes.create_string_buffer(size)

    def give_aux_buffers(self) -> None:
        for tensor in self.aux:
            if tensor.bufferSize:
                buffer = ctypes.create_string_buffer(tensor.bufferSize)
                self._aux_buffers.append(buffer)
                tensor.pData = ctypes.addressof(buffer)

    def call(self, library: Path) -> int:
        """InstantiateTpcKernel once; its return code. The answer is in `instance` and the pattern arrays."""
        for pattern in (*self.input_patterns, *self.output_patterns):
            ctypes.memset(ctypes.byref(pattern), 0, ctypes.sizeof(pattern))
        self.instance.auxiliaryTensorNr = abi.MAX_AUX_TENSORS
        self.instance.kernel.kernelElf = ctypes.addressof(self.elf) if len(self.elf) else None
        self.instance.kernel.elfSize = len(self.elf)
        return int(load(library).InstantiateTpcKernel(ctypes.byref(self.params), ctypes.byref(self.instance)))


def instantiate(
    library: Path,
    target: str,
    guid: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    params: bytes = b"",
) -> Instantiation:
    """The glue's answer for a node, through the handshakes for the ELF (18) and auxiliary buffers (9).

    Raises GlueError with any other code, and ValueError if the answer is not usable (no host kernel, bad rank).
    """
    node = Node(guid, target, inputs, outputs, params)
    code = node.call(library)
    for _ in range(3):
        if code == GlueCode.INSUFFICIENT_ELF_BUFFER and node.instance.kernel.elfSize > len(node.elf):
            node.give_elf_buffer(node.instance.kernel.elfSize)
        elif code == GlueCode.INSUFFICIENT_AUX_BUFFER_SIZE:
            node.give_aux_buffers()
        else:
            break
        code = node.call(library)
    if code != GlueCode.SUCCESS:
        raise GlueError(guid, code, node.params)
    return _answer(guid, node, inputs, outputs)


def infer_shapes(
    library: Path, target: str, guid: str, inputs: Sequence[TensorSpec], outputs: int, params: bytes = b""
) -> tuple[tuple[int, ...], ...]:
    """Sizes of the outputs (TPC order) by GetShapeInference. Raises GlueError with its code."""
    infos = [abi.TensorShapeInfo(geometry=_geometry(spec)) for spec in inputs]
    results = [abi.TensorShapeInfo() for _ in range(outputs)]
    pointer = ctypes.POINTER(abi.TensorShapeInfo)
    input_pointers = (pointer * max(1, len(infos)))(*map(ctypes.pointer, infos))
    output_pointers = (pointer * max(1, outputs))(*map(ctypes.pointer, results))
    info = abi.GuidInfo(name=guid.encode())
    buffer = ctypes.create_string_buffer(params, len(params)) if params else None
    request = abi.ShapeInferenceParams(
        apiVersion=1,
        guid=info,
        inputTensors=input_pointers,
        inputTensorsNr=len(infos),
        nodeParams=abi.UserParams(ctypes.cast(buffer, ctypes.c_void_p) if buffer else None, len(params)),
        outputTensorsNr=outputs,
        pGuid=ctypes.pointer(info),
        maxAvailableTpc=1,
    )
    mask = (ctypes.c_uint32 * 1)()
    answer = abi.ShapeInferenceOutput(outputTensors=output_pointers, invalidMask=mask)
    device = ctypes.c_uint32(abi.DEVICE_IDS[target])
    code = load(library).GetShapeInference(device, ctypes.byref(request), ctypes.byref(answer))
    if code != GlueCode.SUCCESS or mask[0]:
        raise GlueError(guid, code or GlueCode.FAILED, abi.HabanaKernelParams())
    return tuple(tuple(r.geometry.maxSizes[: r.geometry.dims]) for r in results)


def _geometry(spec: TensorSpec) -> abi.TensorGeometry:
    sizes = (*spec.sizes, *[1] * (abi.MAX_TENSOR_DIM - len(spec.sizes)))
    array = (ctypes.c_uint64 * abi.MAX_TENSOR_DIM)(*sizes)
    return abi.TensorGeometry(dims=len(spec.sizes), maxSizes=array, minSizes=array, dataType=abi.data_type(spec.dtype))


def _tensor(spec: TensorSpec) -> abi.Tensor:
    return abi.Tensor(
        geometry=_geometry(spec),
        quantizationParam=abi.TensorQuantizationParam(0, 1.0),
        permutation=(ctypes.c_uint32 * abi.MAX_TENSOR_DIM)(*range(abi.MAX_TENSOR_DIM)),
    )


def _answer(guid: str, node: Node, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Instantiation:
    elf = node.elf.raw
    if not elf.startswith(ELF_MARK.encode()):
        raise ValueError(f"the glue's ELF for {guid} is not that of a host kernel")
    instance = node.instance
    if not 1 <= instance.indexSpaceRank <= abi.MAX_INDEX_SPACE_DIMS:
        raise ValueError(f"the glue gives {guid} an index space of rank {instance.indexSpaceRank}")
    aux_count = instance.auxiliaryTensorNr if instance.auxiliaryTensorNr < abi.MAX_AUX_TENSORS else 0
    return Instantiation(
        kernel=elf[len(ELF_MARK) :].split(b"\0")[0].decode(),
        index_space=tuple(instance.indexSpaceGeometry[: instance.indexSpaceRank]),
        inputs=tuple(_pattern(p, s) for p, s in zip(node.input_patterns, inputs, strict=False)),
        outputs=tuple(_pattern(p, s) for p, s in zip(node.output_patterns, outputs, strict=False)),
        scalars=tuple(instance.kernel.scalarParams[: instance.kernel.paramsNr]),
        aux=tuple(_aux(node.aux[i]) for i in range(aux_count)),
    )


def _pattern(pattern: abi.TensorAccessPattern, spec: TensorSpec) -> AccessPattern:
    dims = tuple(
        DimMapping(m.indexSpaceDim, m.a, m.start_b, m.end_b, m.allRequired) for m in pattern.mapping[: len(spec.sizes)]
    )
    return AccessPattern(bool(pattern.Value & 1), bool(pattern.Value & 2), pattern.memsetValue, dims)


def _aux(tensor: abi.AuxTensor) -> AuxTensor:
    sizes = tuple(max(1, n) for n in tensor.geometry.maxSizes[: tensor.geometry.dims])
    count = 1
    for size in sizes:
        count *= size
    length = count * abi.element_bytes(tensor.geometry.dataType)
    scratch = bool(tensor.flags & 2) or not tensor.pData
    data = bytes(length) if scratch else ctypes.string_at(tensor.pData, length)
    return AuxTensor(sizes, tensor.geometry.dataType, data)
