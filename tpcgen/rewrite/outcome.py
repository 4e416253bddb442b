"""What a rewrite that makes an alternative returns when it does not apply: the report says why it did not fire."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpcgen.diagnostics import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Refused:
    """`reason` is a sentence without its full stop, about the user's text: "the window W reaches over data"."""

    reason: str
    span: Span = field(default=NOWHERE, compare=False)
