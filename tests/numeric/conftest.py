"""The last op of a text as a program, and running it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tpcgen.interpreter import run
from tpcgen.program import load_text
from tpcgen.program.ir import Program

Runner = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def load() -> Callable[[str], Program]:
    """The last op of a text."""

    def load(text: str) -> Program:
        module = load_text(text)
        return module.program(module.ops[-1])

    return load


@pytest.fixture(scope="session")
def evaluate(load) -> Runner:
    """`evaluate(text, mode="exact", block=..., values={}, x=..., ...)`: outputs of the last op of a text."""

    def evaluate(text, *, values=None, **arguments):
        options = {k: arguments.pop(k) for k in ("mode", "block", "check_values") if k in arguments}
        return run(load(text), arguments, values or {}, **options)

    return evaluate
