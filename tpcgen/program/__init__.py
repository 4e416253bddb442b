"""The resolved tensor program. `load` and `load_text` make a module of a file; their first use imports the parser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpcgen.program.resolve import Module, load, load_text

__all__ = ["Module", "load", "load_text"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tpcgen.program import resolve

    return getattr(resolve, name)
