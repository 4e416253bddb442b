"""Did-you-mean hints."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The closest of the known names as a question, or an empty string."""
    by_case = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_case, n=1, cutoff=0.6)
    return f"did you mean {by_case[close[0]]}?" if close else ""
