"""Fast runs: the same kernels, unaudited, in this process, members spread over threads.

Only for kernels that a strict run has passed. A copy of the library is loaded per thread: each copy is one engine with
its own local memory, as each TPC has. Calls release the GIL.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from tpcgen.host import abi
from tpcgen.host.glue import Instantiation, TensorSpec, instantiate
from tpcgen.host.launch import Array, Launch
from tpcgen.toolchain.host import HostLibrary

# Below this many elements in all tensors, starting threads costs more than it gains.
_THREADING_ELEMENTS = 1 << 16
_PIECES_PER_THREAD = 4
_CORES = len(os.sched_getaffinity(0))
_RUNTIME_ABI = 3


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("base", ctypes.c_void_p),
        ("size", ctypes.c_int32 * abi.MAX_RANK),
        ("stride", ctypes.c_int64 * abi.MAX_RANK),
        ("rank", ctypes.c_uint32),
        ("elem", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("tensors", ctypes.c_void_p),
        ("scalars", ctypes.c_void_p),
        ("count", ctypes.c_uint32),
        ("split_dim", ctypes.c_uint32),
        ("geometry", ctypes.c_int32 * abi.MAX_INDEX_SPACE_DIMS),
        ("step", ctypes.c_int32),
        ("next", ctypes.c_void_p),
        ("rmw_lock", ctypes.c_void_p),
    ]


_EXECUTE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Kernel(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("run", ctypes.c_void_p),
        ("execute", _EXECUTE),
        ("tensors", ctypes.c_uint32),
        ("scalars", ctypes.c_uint32),
        ("locals", ctypes.c_void_p),
        ("local_count", ctypes.c_uint32),
        ("abi", ctypes.c_uint32),
        ("strict", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
    ]


@dataclass
class _Engines:
    """The loaded copies of one library. `lock`: one launch at a time, since a copy holds one context."""

    path: Path
    copies: list[ctypes.CDLL] = field(default_factory=list[ctypes.CDLL])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def execute(self, kernel: str, engine: int) -> Callable[[int], None]:
        """The kernel's entry in the copy of that engine, loaded if need be."""
        while len(self.copies) <= engine:
            self.copies.append(ctypes.CDLL(str(self.path)) if not self.copies else _load_copy(self.path))
        entry: Callable[[int], None] = _Kernel.in_dll(self.copies[engine], f"tpcgen_kernel_{kernel}").execute
        return entry


def _load_copy(path: Path) -> ctypes.CDLL:
    """A second, independent instance of a shared object: loaders tell them apart by file."""
    with tempfile.NamedTemporaryFile(suffix=".so", prefix="tpcgen-engine-") as copy:
        copy.write(path.read_bytes())
        copy.flush()
        return ctypes.CDLL(copy.name)


@lru_cache(maxsize=64)
def _engines(path: Path) -> _Engines:
    return _Engines(path)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_CORES, thread_name_prefix="tpcgen-engine")


@dataclass(frozen=True)
class _Crew:
    """The engines of one launch and what they share: the launch, the first member not taken and the lock of rmw."""

    launch: _Launch
    address: int
    progress: ctypes.Array[ctypes.c_int32]
    functions: Sequence[Callable[[int], None]]


class FastKernel:
    """A GUID of a fast library at given shapes, ready to launch on raw pointers.

    The glue is asked once, here: raises GlueError if it refuses, ValueError if kernel and glue do not fit.
    """

    def __init__(
        self,
        library: HostLibrary,
        guid: str,
        target: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        params: bytes = b"",
    ) -> None:
        if library.mode != "fast":
            raise ValueError("a fast run needs a library built with mode='fast'")
        self.instantiation: Instantiation = instantiate(library.path, target, guid, inputs, outputs, params)
        self._engines = _engines(library.path)
        self._inputs = len(inputs)
        self._outputs = len(outputs)
        self._output_specs = tuple(outputs)
        self._check_signature()
        specs = [(s.sizes, s.dtype.itemsize) for s in (*inputs, *outputs)]
        self._aux_buffers = [ctypes.create_string_buffer(a.data, len(a.data)) for a in self.instantiation.aux]
        specs += [(a.sizes, abi.element_bytes(a.data_type)) for a in self.instantiation.aux]
        self._descriptors = (_Tensor * max(1, len(specs)))(*(_descriptor(sizes, elem) for sizes, elem in specs))
        for i, buffer in enumerate(self._aux_buffers):
            self._descriptors[len(inputs) + len(outputs) + i].base = ctypes.addressof(buffer)
        self._count = len(specs)
        self._elements = sum(int(np.prod(sizes, dtype=np.int64)) for sizes, _ in specs)
        scalars = self.instantiation.scalars
        self._scalars = (ctypes.c_uint32 * abi.MAX_SCALAR_PARAMS)(*scalars)
        space = self.instantiation.index_space
        geometry = (*space, *[1] * (abi.MAX_INDEX_SPACE_DIMS - len(space)))
        self._crews: dict[int | None, _Crew] = {}
        self._geometry = (ctypes.c_int32 * abi.MAX_INDEX_SPACE_DIMS)(*geometry)

    def _check_signature(self) -> None:
        name = self.instantiation.kernel
        self._engines.execute(name, 0)
        kernel = _Kernel.in_dll(self._engines.copies[0], f"tpcgen_kernel_{name}")
        tensors = self._inputs + self._outputs + len(self.instantiation.aux)
        if kernel.abi != _RUNTIME_ABI or kernel.strict:
            raise ValueError(f"kernel {name} was not built for fast runs")
        if kernel.tensors != tensors:
            raise ValueError(f"main of {name} takes {kernel.tensors} tensors; the launch has {tensors}")
        if kernel.scalars > len(self.instantiation.scalars):
            given = len(self.instantiation.scalars)
            raise ValueError(f"main of {name} takes {kernel.scalars} scalars; the glue gives {given}")

    def launch(self, inputs: Sequence[int], outputs: Sequence[int], threads: int | None = None) -> None:
        """Runs on contiguous memory at the addresses `inputs` and `outputs`, one per tensor. Writes every output."""
        with self._engines.lock:
            crew = self._crews.get(threads)
            if crew is None:
                crew = self._crews[threads] = self._crew(threads)
            for i, address in enumerate((*inputs, *outputs)):
                self._descriptors[i].base = address
            for pattern, spec, address in zip(self.instantiation.outputs, self._output_specs, outputs, strict=True):
                if pattern.memset:
                    _fill(address, spec, pattern.memset_value)
            crew.progress[0] = 0
            others = [_pool().submit(function, crew.address) for function in crew.functions[1:]]
            crew.functions[0](crew.address)
            for other in others:
                other.result()

    def _crew(self, threads: int | None) -> _Crew:
        split, step, workers = self._split(threads)
        progress = (ctypes.c_int32 * 2)(0, 0)
        launch = _Launch(
            tensors=ctypes.addressof(self._descriptors),
            scalars=ctypes.addressof(self._scalars),
            count=self._count,
            split_dim=split,
            geometry=self._geometry,
            step=step,
            next=ctypes.addressof(progress),
            rmw_lock=ctypes.addressof(progress) + 4,
        )
        functions = [self._engines.execute(self.instantiation.kernel, i) for i in range(workers)]
        return _Crew(launch, ctypes.addressof(launch), progress, functions)

    def _split(self, threads: int | None) -> tuple[int, int, int]:
        """The dim to cut, members per piece, and the number of threads worth starting."""
        geometry = list(self._geometry)
        if 0 in geometry:
            return geometry.index(0), 1, 1
        wanted = threads if threads is not None else _CORES
        if threads is None and self._elements < _THREADING_ELEMENTS:
            wanted = 1
        enough = [d for d in range(len(geometry)) if geometry[d] >= wanted * _PIECES_PER_THREAD]
        dim = enough[-1] if enough else max(range(len(geometry)), key=lambda d: geometry[d])
        workers = max(1, min(wanted, geometry[dim]))
        pieces = workers * _PIECES_PER_THREAD if workers > 1 else 1
        return dim, -(-geometry[dim] // pieces), workers


def run_fast(library: HostLibrary, launch: Launch, *, threads: int | None = None) -> tuple[Array, ...]:
    """Outputs of one unaudited run, in torch order. `threads`: default all cores for large launches, one for small."""
    specs = launch.input_specs(), launch.output_specs()
    kernel = fast_kernel(library, launch.guid, launch.target, *specs, launch.params)
    inputs = [np.ascontiguousarray(array) for array in launch.inputs]
    outputs = tuple(np.empty(shape, dtype) for shape, dtype in launch.outputs)
    kernel.launch([a.ctypes.data for a in inputs], [a.ctypes.data for a in outputs], threads)
    return outputs


@lru_cache(maxsize=512)
def fast_kernel(
    library: HostLibrary,
    guid: str,
    target: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    params: bytes = b"",
) -> FastKernel:
    """A FastKernel, made once per library, GUID, shapes and parameters."""
    return FastKernel(library, guid, target, inputs, outputs, params)


def _descriptor(sizes: Sequence[int], elem: int) -> _Tensor:
    padded = (*sizes, *[1] * (abi.MAX_RANK - len(sizes)))
    strides: list[int] = []
    stride = 1
    for size in padded:
        strides.append(stride)
        stride *= size
    return _Tensor(
        size=(ctypes.c_int32 * abi.MAX_RANK)(*padded),
        stride=(ctypes.c_int64 * abi.MAX_RANK)(*strides),
        rank=len(sizes),
        elem=elem,
    )


def _fill(address: int, spec: TensorSpec, value: int) -> None:
    count = int(np.prod(spec.sizes, dtype=np.int64))
    pattern = value.to_bytes(8, "little")[: spec.dtype.itemsize]
    ctypes.memmove(address, pattern * count, count * spec.dtype.itemsize)
