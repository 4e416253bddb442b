"""Golden files: what a test says it prints, kept in tests/golden/ and compared byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files instead of comparing")
    parser.addoption("--write-results", action="store_true", help="rewrite docs/results from whole runs of long tests")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI"):
        raise pytest.UsageError("--update-golden is for people: in CI golden files are only compared")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`golden(text, suffix="txt")` compares with tests/golden/<module>/<test>.<suffix>, parameters' ids in <test>."""
    name = request.node.name.replace("/", "_").replace(" ", "_")
    folder = GOLDEN / Path(str(request.node.path)).stem
    update = request.config.getoption("--update-golden")

    def compare(text: str, suffix: str = "txt") -> None:
        path = folder / f"{name}.{suffix}"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"no golden file {path}; read the output and run `make golden`"
        assert text == path.read_text(), f"differs from {path}"

    return compare
