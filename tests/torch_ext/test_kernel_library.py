"""The glue's CMakeLists.txt: it builds what Synapse asks for, and agrees with the host build of the same files."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tpcgen.host.glue import TensorSpec, guids, infer_shapes, instantiate, library_version
from tpcgen.program.dtypes import DType
from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.host import ELF_MARK, build

GUID = "tpcgen_window_softmax_fwd_bf16"
ENTRY_POINTS = {
    "GetKernelGuids",
    "InstantiateTpcKernel",
    "GetShapeInference",
    "GetSupportedDataLayouts",
    "GetLibVersion",
}
# Plays tpc-clang: the "ELF" is what the host build puts in its place.
STAND_IN = f"""#!/bin/sh
echo "$@" >> "$0.log"
while [ $# -gt 0 ]; do
    case "$1" in -o) printf '{ELF_MARK}%s\\0' "$(basename "$2" .o)" > "$2" ;; esac
    shift
done
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiler") / "tpc-clang"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def sources(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that nothing is built in the artifact of other tests."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copytree(artifact / "glue", folder / "glue", ignore=shutil.ignore_patterns("build"))
    shutil.copytree(artifact / "kernels", folder / "kernels")
    return folder


def cmake(sources: Path, compiler: Path) -> Path:
    """The library, built as docs/gaudi.md says."""
    if shutil.which("cmake") is None or shutil.which("objcopy") is None:
        pytest.skip("no cmake or objcopy")
    folder = sources / "glue" / f"build-{compiler.parent.name}"
    environment = {**os.environ, "TPC_CLANG": str(compiler), "CXXFLAGS": "-O0 -Wall -Wextra -Werror"}
    for command in (["cmake", "-S", str(sources / "glue"), "-B", str(folder)], ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr.lower(), done.stderr
    return folder / "libtpcgen_window_tpc.so"


def exported(library: Path) -> set[str]:
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listed.stdout.splitlines()}


def test_agrees_with_the_host_build(sources: Path, stand_in: Path, tmp_path: Path) -> None:
    library = cmake(sources, stand_in)
    host = build(
        [sources / "glue" / "glue.cpp"],
        sorted((sources / "kernels").glob("*.c")),
        target="gaudi2",
        out=tmp_path,
        mode="fast",
    ).path
    assert exported(library) == ENTRY_POINTS
    assert exported(host) >= ENTRY_POINTS
    assert guids(library, "gaudi2") == guids(host, "gaudi2")
    assert GUID in guids(library, "gaudi2")
    assert guids(library, "gaudi") == ()
    assert library_version(library) == library_version(host)
    inputs = [TensorSpec.of((2,), np.float32), TensorSpec.of((1, 2, 70, 70), np.float32)]
    outputs = [TensorSpec.of((1, 2, 70, 70), DType.BF16.numpy)]
    params = np.array([64, 20], np.int32).tobytes()
    assert infer_shapes(library, "gaudi2", GUID, inputs, 1, params) == ((70, 70, 2, 1),)
    ours = instantiate(library, "gaudi2", GUID, inputs, outputs, params)
    assert ours == instantiate(host, "gaudi2", GUID, inputs, outputs, params)
    assert ours.kernel == GUID
    commands = stand_in.with_name("tpc-clang.log").read_text().splitlines()
    assert len(commands) == len(list((sources / "kernels").glob("*.c")))
    assert all(c.startswith("-march=gaudi2 -O2 -Wall -Werror -c ") for c in commands)


def test_needs_no_executable_stack(sources: Path, stand_in: Path) -> None:
    """A library that asks for one is refused by glibc 2.41."""
    library = cmake(sources, stand_in)
    segments = subprocess.run(["readelf", "-lW", str(library)], capture_output=True, text=True, check=True).stdout
    (stack,) = [line for line in segments.splitlines() if "GNU_STACK" in line]
    assert "RWE" not in stack
    ctypes.CDLL(str(library))


def test_a_changed_kernel_is_compiled_again(sources: Path, stand_in: Path) -> None:
    cmake(sources, stand_in)
    log = stand_in.with_name("tpc-clang.log")
    before = len(log.read_text().splitlines())
    cmake(sources, stand_in)
    assert len(log.read_text().splitlines()) == before
    kernel = sources / "kernels" / f"{GUID}.c"
    kernel.write_text(kernel.read_text() + "\n")
    cmake(sources, stand_in)
    assert len(log.read_text().splitlines()) == before + 1


def test_device_elfs_where_tpc_clang_is(sources: Path) -> None:
    compiler = tpc_clang.find()
    if compiler is None:
        pytest.skip("no tpc-clang")
    library = cmake(sources, compiler.path)
    assert exported(library) == ENTRY_POINTS
    elf = next((library.parent).glob(f"{GUID}.o")).read_bytes()
    assert elf.startswith(b"\x7fELF")
    assert elf in library.read_bytes()
    assert guids(library, "gaudi2")
