"""Operators for the tests of PyTorch: two examples, loaded once, with their real kernels on the host device."""

from __future__ import annotations

import sys
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


@pytest.fixture
def strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel runs on the strict device, each time: fast builds of long kernels are most of the time otherwise."""
    monkeypatch.setattr("tpcgen.torch.stages.has_passed", lambda fingerprint: False)


def package(function: object) -> ModuleType:
    return sys.modules[function.__module__]
