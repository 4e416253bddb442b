"""What a rewrite that makes an alternative returns when it does not apply: the report says why it did not fire."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpcgen.diagnostics import NOWHERE, Span
from tpcgen.program import ir


@dataclass(frozen=True, slots=True)
class Refused:
    """`reason` is a sentence without its full stop, about the user's text: "the window W reaches over data"."""

    reason: str
    span: Span = field(default=NOWHERE, compare=False)


class RefusedError(Exception):
    """Raised inside a rewrite where it finds that it does not apply; the rewrite returns the `reason`."""

    def __init__(self, why: str, node: ir.Node) -> None:
        self.reason = Refused(why, node.span)
        super().__init__(why)
