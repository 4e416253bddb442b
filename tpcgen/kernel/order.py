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
    innermost_replaced,
)


def loads_first(kernel: Kernel) -> Kernel:
    """The same kernel: no loop reads an element that it writes."""
    if not any(isinstance(s, Loop) for s in kernel.body):
        return replace(kernel, body=_body(kernel.body))
    return replace(kernel, body=innermost_replaced(kernel.body, lambda loop: [replace(loop, body=_body(loop.body))]))


def _body(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return tuple(sorted(body, key=_place))


def _place(s: Statement) -> int:
    match s:
        case Load() | LocalLoad() | Broadcast() | ScalarLoad() | ScalarLet():
            return 0
        case Store() | LocalStore():
            return 2
        case _:
            return 1
