"""Drops operations whose result nothing reads: a condition that several places ask for may be asked in fewer ways than
its operands were prepared in. tpc-clang warns of them.
"""

from __future__ import annotations

from dataclasses import replace

from tpcgen.kernel.ir import (
    Broadcast,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    Loop,
    Statement,
    VectorOp,
    registers_read,
    walk,
)


def without_unused(kernel: Kernel) -> Kernel:
    """The same kernel, whose registers have names of their own (not yet readable ones)."""
    while (smaller := _once(kernel)) != kernel:
        kernel = smaller
    return kernel


def _once(kernel: Kernel) -> Kernel:
    read: set[str] = set()
    for s in (*walk(kernel.setup), *walk(kernel.body)):
        read |= _reads(s)
    return replace(kernel, setup=_kept(kernel.setup, read), body=_kept(kernel.body, read))


def _kept(statements: tuple[Statement, ...], read: set[str]) -> tuple[Statement, ...]:
    kept = (replace(s, body=_kept(s.body, read)) if isinstance(s, Loop) else s for s in statements)
    return tuple(s for s in kept if not _is_unused(s, read))


def _is_unused(s: Statement, read: set[str]) -> bool:
    return isinstance(s, VectorOp | Load | LocalLoad | Broadcast | Invoke) and s.dest.name not in read


def _reads(s: Statement) -> set[str]:
    """Registers that a statement reads for another than its own result."""
    found = set(registers_read(s))
    if isinstance(s, VectorOp):
        found.discard(s.dest.name)
    return found
