"""Frames, the named axes that expressions are evaluated over, and boxes of a tensor's indices."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[int, int]
"""low <= index < high."""
Box = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """The values low <= i < high of an index."""

    name: str
    low: int
    high: int

    @property
    def size(self) -> int:
        return max(0, self.high - self.low)


Frame = tuple[Axis, ...]


def position(name: str, frame: Frame) -> int:
    """The innermost axis of that name."""
    for at in range(len(frame) - 1, -1, -1):
        if frame[at].name == name:
            return at
    raise KeyError(name)
