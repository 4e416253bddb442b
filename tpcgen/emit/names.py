"""Names in what is emitted: GUIDs, kernel symbols, and the guard that no name of a spec becomes code or a path."""

from __future__ import annotations

import re
from typing import Literal

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError

Direction = Literal["fwd", "sav", "bwd"]
"""Of an op, of an op that keeps more than its outputs for the gradient, of the gradient."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
# MAX_NODE_NAME of tpc_kernel_lib_interface.h is 64, with the terminating zero.
_GUID_LIMIT = 63


def plain(name: str) -> str:
    """`name` if it is an ASCII identifier. ValueError otherwise: the front end lets nothing else through."""
    if not _IDENTIFIER.match(name):
        raise ValueError(f"{name!r} is not an identifier and cannot be emitted")
    return name


def comment(text: str) -> str:
    """`text` as one line that can end no comment and continue onto no other line."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.replace("*/", "* /").rstrip("\\ ")


def guid(prefix: str, op: str, stage: str, dtype: str, direction: Direction = "fwd") -> str:
    """PREFIX_OP_STAGE_fwd_DTYPE, _sav_ or _bwd_ (decisions.md 6).

    DiagnosticError: E510 when it has more than 63 characters, E511 when the prefix is not in lower case.
    """
    if not _PREFIX.match(prefix):
        hint = "a lower case letter, then at most 31 lower case letters, digits and underscores"
        raise DiagnosticError((Diagnostic("E511", f"{prefix!r} is not a prefix", NOWHERE, hint),))
    name = "_".join((prefix, plain(op), plain(stage), direction, plain(dtype)))
    if len(name) > _GUID_LIMIT:
        message = f"the GUID {name} has {len(name)} characters; Gaudi allows {_GUID_LIMIT}"
        raise DiagnosticError((Diagnostic("E510", message, NOWHERE, "a shorter op name or --prefix"),))
    return name
