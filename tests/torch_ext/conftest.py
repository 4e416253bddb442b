"""A machine with a fake Gaudi: Habana's Python package and plugin played by `fake/`, an artifact built for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tpcgen.compiler import Options, compile_spec
from tpcgen.emit import artifact as emit
from tpcgen.toolchain.host import build

FAKE = Path(__file__).parent / "fake"
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Machine:
    """`artifact` is the folder of the window operator, `kernels` its glue library, which here holds host kernels."""

    packages: Path
    artifact: Path
    kernels: Path

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A Python script in a new process on this machine. `variables` are set in its environment."""
        path = [self.packages, FAKE, self.artifact, REPOSITORY]
        environment = {k: v for k, v in os.environ.items() if k not in ("GC_KERNEL_PATH", "TPCGEN_HPU_PATH")}
        environment |= {"PYTHONPATH": ":".join(map(str, path)), **variables}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@pytest.fixture(scope="session")
def bridge() -> Path:
    """Habana's headers: of a checkout of gaudi-pytorch-bridge at $GAUDI_PYTORCH_BRIDGE, else our declaration."""
    checkout = os.environ.get("GAUDI_PYTORCH_BRIDGE")
    return Path(checkout) / "include" / "habanalabs" if checkout else FAKE / "include"


def cpp_extension() -> Any:
    return pytest.importorskip("torch.utils.cpp_extension")


@pytest.fixture(scope="session")
def torch_includes() -> list[str]:
    return [f"-isystem{path}" for path in cpp_extension().include_paths()]


@pytest.fixture(scope="session")
def compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        pytest.skip("no g++")
    return found


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The window operator for gaudi2, both dtypes, as files."""
    (op,) = compile_spec(REPOSITORY / "examples" / "window.dsl", Options(target="gaudi2")).ops
    folder = tmp_path_factory.mktemp("artifact") / "window"
    emit.write(folder, emit.files(op.artifact))
    return folder


@pytest.fixture(scope="session")
def machine(
    tmp_path_factory: pytest.TempPathFactory, compiler: str, artifact: Path, bridge: Path, torch_includes: list[str]
) -> Machine:
    """Everything built, as docs/gaudi.md says, but for the kernels, which are the host's."""
    packages = tmp_path_factory.mktemp("packages")
    shutil.copytree(FAKE / "habana_frameworks", packages / "habana_frameworks")
    habana = packages / "habana_frameworks" / "torch"
    shutil.copytree(bridge, habana / "include")
    (habana / "lib").mkdir()
    name = "libhabana_pytorch2_plugin.upstream.so"
    plugin = habana / "lib" / name
    flags = ["-std=c++20", "-O0", "-shared", "-fPIC", f"-Wl,-soname,{name}", *torch_includes, f"-I{habana}/include"]
    libraries = [f"-L{path}" for path in cpp_extension().library_paths()] + ["-lc10", "-ltorch_cpu"]
    command = [compiler, *flags, "-o", str(plugin), str(FAKE / "plugin.cpp"), *libraries]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = build(
        sorted((artifact / "glue").glob("*.cpp")),
        sorted((artifact / "kernels").glob("*.c")),
        target="gaudi2",
        out=artifact / "host",
        mode="fast",
    )
    kernels = artifact / "glue" / "build" / "libtpcgen_window_tpc.so"
    kernels.parent.mkdir()
    shutil.copyfile(made.path, kernels)
    built = Machine(packages, artifact, kernels)
    script = f"import os, runpy, sys; os.chdir({str(artifact / 'torch_ext')!r}); "
    script += "sys.argv = ['setup.py', 'build_ext', '--inplace']; runpy.run_path('setup.py', run_name='__main__')"
    done = built.run(script, MAX_JOBS="1", CFLAGS="-O0")
    assert done.returncode == 0, done.stdout + done.stderr
    return built
