"""Libraries of the fixture kernels, built once per session, and a strict session to run them in."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpcgen.host.api import HostLibrary, Launch, RunReport, Session, build

FIXTURES = Path(__file__).parents[1] / "fixtures"
FAULTS = FIXTURES / "faults"


@pytest.fixture(scope="session")
def fixture_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], HostLibrary]:
    out = tmp_path_factory.mktemp("libraries")

    def make(target: str, mode: Any) -> HostLibrary:
        return build([FIXTURES / "glue.cpp"], sorted(FIXTURES.glob("*.c")), target=target, out=out, mode=mode)

    return make


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., HostLibrary]:
    out = tmp_path_factory.mktemp("faults")

    def make(target: str = "gaudi2", mode: Any = "strict", sanitize: bool = False) -> HostLibrary:
        kernels = sorted(FAULTS.glob("*.c"))
        return build([FAULTS / "echo_glue.cpp"], kernels, target=target, out=out, mode=mode, sanitize=sanitize)

    return make


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    with Session() as opened:
        yield opened


ROW = (0, 64.0, 0.0, 63.0, 0), (1, 1.0, 0.0, 0.0, 0)


def pack_echo(
    kernel: str,
    geometry: Sequence[int],
    *patterns: Sequence[Sequence[float]],
    scalars: Sequence[float] = (),
    memset: float | None = None,
) -> bytes:
    """Node parameters of echo_glue.cpp: the instantiation it shall answer. Dims: (index dim, a, start, end, all)."""
    words = struct.pack("<64s6I", kernel.encode(), len(geometry), *[*geometry, 1, 1, 1, 1, 1][:5])
    words += struct.pack("<I4f", len(scalars), *[*scalars, 0.0, 0.0, 0.0, 0.0][:4])
    for i in range(4):
        dims = [*(patterns[i] if i < len(patterns) else ()), *[(0, 0.0, 0.0, 0.0, 0)] * 5][:5]
        is_output = i == len(patterns) - 1
        words += struct.pack("<2If", 0, int(is_output and memset is not None), memset or 0.0)
        for index_dim, a, start, end, all_required in dims:
            words += struct.pack("<IfffI", int(index_dim), a, start, end, int(all_required))
    return words


@pytest.fixture(scope="session")
def echo_params() -> Callable[..., bytes]:
    return pack_echo


@pytest.fixture(scope="session")
def run_fault(session: Session, fault_library: Callable[..., HostLibrary]) -> Callable[..., RunReport]:
    """Runs a kernel of fixtures/faults on f32[3, 128] (two vectors, three rows) as the given instantiation."""

    def run(
        kernel: str,
        *,
        geometry: Sequence[int] = (2, 3),
        patterns: Sequence[Any] = (ROW, ROW),
        x: np.ndarray | None = None,
        shape: tuple[int, ...] = (3, 128),
        target: str = "gaudi2",
        library: HostLibrary | None = None,
        guid: str = "echo",
        scalars: Sequence[float] = (),
        memset: float | None = None,
        **limits: Any,
    ) -> RunReport:
        if x is None:
            x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        params = pack_echo(kernel, geometry, *patterns, scalars=scalars, memset=memset)
        launch = Launch(guid, target, (x,), ((shape, np.dtype(np.float32)),), params)
        return session.run(library or fault_library(target), launch, **limits)

    return run
