"""The kernels of the fake HPU: the host build of an artifact's kernels and glue, called with what the C++ packs."""

from __future__ import annotations

import ctypes
import traceback
from pathlib import Path

import habana_frameworks.torch as habana
import ml_dtypes
import numpy as np

from tpcgen.host.fast import fast_kernel
from tpcgen.host.glue import TensorSpec
from tpcgen.toolchain.host import HostLibrary

# c10::ScalarType's numbers.
DTYPES = {3: np.int32, 6: np.float32, 15: ml_dtypes.bfloat16}
RUN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(ctypes.c_int64)),
    ctypes.POINTER(ctypes.c_int32),
    ctypes.POINTER(ctypes.c_int32),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
    ctypes.c_size_t,
)
calls: list[str] = []
_kept = []


def use(library: Path, target: str) -> None:
    """Let the HPU run the kernels of a fast host library."""
    built = HostLibrary(library, target, "fast")

    @RUN
    def run(guid, inputs, outputs, shapes, dims, types, data, params, size):
        try:
            count = inputs + outputs
            specs = [TensorSpec.of(shapes[i][: dims[i]], DTYPES[types[i]]) for i in range(count)]
            packed = ctypes.string_at(params, size) if params else b""
            kernel = fast_kernel(built, guid.decode(), target, tuple(specs[:inputs]), tuple(specs[inputs:]), packed)
            kernel.launch([data[i] for i in range(inputs)], [data[i] for i in range(inputs, count)])
            calls.append(guid.decode())
        except Exception:
            traceback.print_exc()
            return 1
        return 0

    _kept.append(run)
    habana.plugin.fake_hpu_run_kernels_with(run)
