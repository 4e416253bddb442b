"""The language evaluated with NumPy: the truth that everything emitted is compared with. Knows nothing of plans."""

from __future__ import annotations

from tpcgen.interpreter.errors import InterpreterError
from tpcgen.interpreter.run import run

__all__ = ["InterpreterError", "run"]
