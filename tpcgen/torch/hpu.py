"""What an emitted package needs on a Gaudi: its TPC kernels known to Synapse, its ops loaded into PyTorch.

Synapse reads GC_KERNEL_PATH once, when Habana initialises (KernelDB in synapse/src/graph_compiler/kernel_db.cpp of
Intel_Gaudi3_Software), and keeps every library it took kernels from open.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

# An unset GC_KERNEL_PATH names no kernels at all, Habana's own included (same source).
_HABANA_KERNELS = "/usr/lib/habanalabs/libtpc_kernels.so"
_MAPS = Path("/proc/self/maps")

_torch: Any = torch  # parts of torch that pyright knows without types


def hpu_stages(root: Path, namespace: str) -> Callable[[], None]:
    """A function to call before a stage runs on HPU; it loads the package's ops the first time.

    `root` is the artifact's folder. What was built elsewhere is found in the folders of `$TPCGEN_HPU_PATH`. Where
    Habana's PyTorch is installed, GC_KERNEL_PATH is extended now. The function raises RuntimeError that says what to
    do: a part is not built, does not load, or Habana initialised before it knew the kernels.
    """
    if importlib.util.find_spec("habana_frameworks") is not None:
        _extend_kernel_path(root, namespace)
    loaded = False

    # torch.compile calls it while tracing instead of looking inside.
    @_torch.compiler.assume_constant_result
    def load() -> None:
        nonlocal loaded
        if not loaded:
            _load(root, namespace)
            loaded = True

    return load


def _extend_kernel_path(root: Path, namespace: str) -> None:
    library = _kernel_library(root, namespace)
    entries = _kernel_path()
    if library is not None and str(library) not in entries:
        os.environ["GC_KERNEL_PATH"] = ":".join([str(library), *(entries or [_HABANA_KERNELS])])


def _load(root: Path, namespace: str) -> None:
    library = _kernel_library(root, namespace)
    if library is None:
        glue = root / "glue"
        build = f"cmake -S {glue} -B {glue}/build && cmake --build {glue}/build"
        raise RuntimeError(f"{namespace}: its TPC kernels are not built; run `{build}`, then start Python again")
    if not _is_open(library):
        raise RuntimeError(
            f"{namespace}: Habana initialised without {library}; import the package before anything uses an HPU, "
            f"or start Python with GC_KERNEL_PATH={library}:{_HABANA_KERNELS}"
        )
    extension = next(filter(Path.is_file, _places(root / "torch_ext", f"{namespace}_hpu.so")), None)
    build = f"cd {root / 'torch_ext'} && python setup.py build_ext --inplace"
    if extension is None:
        raise RuntimeError(f"{namespace}: its HPU ops are not built; run `{build}`")
    try:
        _torch.ops.load_library(str(extension))
    except OSError as error:
        raise RuntimeError(
            f"{namespace}: {extension} does not load; if PyTorch or Habana changed since it was built, run `{build}` "
            f"again ({error.__cause__ or error})"
        ) from error


def _kernel_library(root: Path, namespace: str) -> Path | None:
    """The glue library: the one GC_KERNEL_PATH names, else one that is built."""
    name = f"lib{namespace}_tpc.so"
    named = [Path(entry) for entry in _kernel_path() if Path(entry).name == name]
    return next(filter(Path.is_file, [*named, *_places(root / "glue" / "build", name)]), None)


def _places(folder: Path, name: str) -> Iterator[Path]:
    elsewhere = os.environ.get("TPCGEN_HPU_PATH", "").split(":")
    yield from (Path(f).resolve() / name for f in elsewhere if f)
    yield folder / name


def _kernel_path() -> list[str]:
    return [entry for entry in os.environ.get("GC_KERNEL_PATH", "").split(":") if entry]


def _is_open(library: Path) -> bool:
    """Whether this process has the library mapped: a HPU tensor exists, so Synapse has opened what it knows."""
    path = str(library.resolve())
    return any(line.endswith(f" {path}") for line in _MAPS.read_text().splitlines())
