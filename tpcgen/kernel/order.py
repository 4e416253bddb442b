"""Order of the statements of a loop: loads first, stores last.

The open compiler moves no load over a store, as they might touch the same element: in between, rows that could be in
flight together would wait for each other.
"""

from __future__ import annotations

from dataclasses import replace

from tpcgen.kernel.ir import (
    Broadcast,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Loop,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
)


def loads_first(kernel: Kernel) -> Kernel:
    """The same kernel: no loop reads an element that it writes."""
    return replace(kernel, body=_block(kernel.body))


def _block(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return tuple(replace(s, body=_body(s.body)) if isinstance(s, Loop) else s for s in statements)


def _body(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    if any(isinstance(s, Loop) for s in body):
        return _block(body)
    loads = tuple(s for s in body if isinstance(s, Load | LocalLoad | Broadcast | ScalarLoad | ScalarLet))
    stores = tuple(s for s in body if isinstance(s, Store | LocalStore))
    return (*loads, *(s for s in body if s not in loads and s not in stores), *stores)
