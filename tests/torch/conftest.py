"""Operators for the tests of PyTorch: two examples, loaded once, with their real kernels on the host device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import tpcgen

torch = pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def causal() -> ModuleType:
    """The package emitted for examples/causal.dsl; its function is `causal`."""
    return package(tpcgen.load(EXAMPLES / "causal.dsl").causal)


@pytest.fixture(scope="session")
def window() -> ModuleType:
    """The package emitted for examples/window.dsl; its function is `window`."""
    return package(tpcgen.load(EXAMPLES / "window.dsl").window)


def run_strictly(patch: pytest.MonkeyPatch) -> None:
    """Every kernel runs on the strict device, each time: fast builds of long kernels are most of the time otherwise."""
    patch.setattr("tpcgen.torch.stages.has_passed", lambda fingerprint: False)


@pytest.fixture
def strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    run_strictly(monkeypatch)


@pytest.fixture(scope="module")
def strict_module() -> Iterator[None]:
    """As `strictly`, for fixtures of a whole module."""
    with pytest.MonkeyPatch.context() as patch:
        run_strictly(patch)
        yield


def package(function: object) -> ModuleType:
    return sys.modules[function.__module__]
