"""Small C++ units against tpcgen's TPC-C headers: functions over vector registers, called with NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

INCLUDE = Path(__file__).parents[2] / "tpcgen/host/include"
FLAGS = (
    "-std=c++20 -O1 -march=native -fPIC -shared -fno-strict-aliasing -fwrapv -ffp-contract=off -fno-math-errno -w "
    "-fno-operator-names -Wno-psabi"
).split()

# A unit's function reads registers of 256 bytes and writes registers; `predicate` makes a mask of non-zero lanes.
PRELUDE = """
#include "tpc/tpc.h"
template <class T> T in(const void* p, int k = 0)
{ T x; __builtin_memcpy(&x, (const char*)p + 256 * k, sizeof(T)); return x; }
template <class T> void put(void* p, const T& x, int k = 0) { __builtin_memcpy((char*)p + 256 * k, &x, sizeof(T)); }
#define UNIT(NAME, ...) extern "C" void NAME(const void* p, void* out) { __VA_ARGS__ }
"""


def compiler() -> str:
    command = os.environ.get("TPCGEN_CXX") or shutil.which("g++") or shutil.which("clang++")
    if command is None:
        pytest.skip("no C++ compiler")
    return command


class Unit:
    """A compiled unit. `unit(name, *registers, out=dtype)` gives an array of `out`; `count` registers come back."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def __call__(self, name: str, *registers: np.ndarray, out: object, count: int = 1) -> np.ndarray:
        parts = [np.ascontiguousarray(r).view(np.uint8).ravel() for r in registers]
        padded = [np.pad(p, (0, -len(p) % 256)) for p in parts]
        data = np.concatenate(padded) if padded else np.zeros(256, np.uint8)
        source, result = _aligned(len(data)), _aligned(256 * count)
        source[:] = data
        function = getattr(self._library, name)
        function(source.ctypes.data_as(ctypes.c_void_p), result.ctypes.data_as(ctypes.c_void_p))
        return result.view(out).copy()


def _aligned(size: int) -> np.ndarray:
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


@pytest.fixture(scope="session")
def build_unit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Unit]:
    folder = tmp_path_factory.mktemp("units")

    def build(text: str, target: str = "gaudi2") -> Unit:
        name = hashlib.sha256((text + target).encode()).hexdigest()[:16]
        source, library = folder / f"{name}.cpp", folder / f"{name}.so"
        source.write_text(PRELUDE + text)
        command = [compiler(), *FLAGS, f"-DTPC_TARGET_{target}", f"-I{INCLUDE}", "-o", str(library), str(source)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr[:4000]
        return Unit(library)

    return build


@pytest.fixture(scope="session")
def compile_texts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Compiles kernel texts as the host build does, all in one unit: what the compiler says of each, by name."""
    folder = tmp_path_factory.mktemp("texts")

    def attempt(texts: dict[str, str], target: str = "gaudi2") -> dict[str, str]:
        lines = ['#include "tpc/tpc.h"']
        at: dict[str, str] = {}
        for number, (name, text) in enumerate(texts.items()):
            assert "\n" not in text
            lines.append(f"namespace kernel_{number} {{ {text.replace('void main(', 'static void tpcgen_main(')} }}")
            at[name] = f"unit.cpp:{len(lines)}:"
        lines += [f"auto* use_{number} = &kernel_{number}::tpcgen_main;" for number in range(len(texts))]
        source = folder / "unit.cpp"
        source.write_text("\n".join(lines) + "\n")
        command = [
            compiler(),
            *FLAGS,
            "-ftemplate-backtrace-limit=0",
            f"-DTPC_TARGET_{target}",
            f"-I{INCLUDE}",
            "-c",
            "-o",
            "/dev/null",
        ]
        run = subprocess.run([*command, source.name], cwd=folder, capture_output=True, text=True, timeout=300)
        said = dict.fromkeys(texts, "")
        for name, place in at.items():
            output = run.stderr.splitlines()
            near = [k for k, line in enumerate(output) if place in line]
            said[name] = "\n".join(output[m] for k in near for m in range(k, min(k + 30, len(output))))
        return said

    return attempt
