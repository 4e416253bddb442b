"""Runs a kernel on the strict host device without glue: the test evaluates index space and scalars itself."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpcgen.host.api import Bare, HostLibrary, Launch, RunReport, Session, build
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.tpc_c import render
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import evaluate

Array = NDArray[Any]


def compile_kernels(kernels: list[Kernel], target: str, directory: Path) -> HostLibrary:
    """One strict library of all kernels."""
    directory.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for k in kernels:
        path = directory / f"{k.name}.c"
        path.write_text(render(k))
        paths.append(path)
    return build([], paths, target=target, out=directory, mode="strict")


def scalar_bits(kernel: Kernel, values: Mapping[str, int | float]) -> tuple[int, ...]:
    bits: list[int] = []
    for s in kernel.scalars:
        value = evaluate(s.value, values)
        form = "<f" if s.type is DType.F32 else "<i"
        (word,) = struct.unpack("<I", struct.pack(form, float(value) if form == "<f" else int(value)))
        bits.append(word)
    return tuple(bits)


def run(
    session: Session,
    library: HostLibrary,
    kernel: Kernel,
    inputs: Mapping[str, Array],
    values: Mapping[str, int | float],
) -> tuple[dict[str, Array], RunReport]:
    """Outputs by name, as float64 unless integer; fails where the device found an error or an element is unwritten."""
    arrays = tuple(np.ascontiguousarray(inputs[t.name], t.dtype.numpy) for t in kernel.tensors if not t.is_output)
    outs = [t for t in kernel.tensors if t.is_output]
    shapes = tuple((tuple(int(evaluate(s, values)) for s in reversed(t.sizes)), t.dtype.numpy) for t in outs)
    space = tuple(int(evaluate(d.extent, values)) for d in kernel.index_space)
    bare = Bare(kernel.name, space, scalar_bits(kernel, values))
    report = session.run(library, Launch(kernel.name, library.target, arrays, shapes), bare=bare)
    assert report.ok, "\n".join(map(str, report.findings)) + report.printed
    with np.errstate(invalid="ignore"):  # of a NaN that signals
        return {t.name: o.astype(np.float64) for t, o in zip(outs, report.outputs, strict=True)}, report
