"""The register of assumptions: complete entries, and every name beside the code stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")

HOST = Path(__file__).parents[2] / "tpcgen/host"


def register() -> list[dict[str, str]]:
    return tomllib.loads((HOST / "assumptions.toml").read_text())["assumption"]


def test_entries_are_complete() -> None:
    entries = register()
    assert len({e["id"] for e in entries}) == len(entries)
    for entry in entries:
        assert set(entry) - {"unprobed"} == {"id", "behaviour", "source", "breaks", "affects"}, entry["id"]
        assert all(entry.values())
        assert entry["affects"] in ("emitted", "library")


def test_names_in_the_headers_are_registered() -> None:
    named = set()
    for header in (HOST / "include/tpc").glob("*.h"):
        for comment in re.findall(r"//(.*)", header.read_text()):
            named |= set(re.findall(r"\[([a-z0-9]+(?:_[a-z0-9]+)+|msac)\]", comment))
    named.discard("like_this")
    assert named <= {e["id"] for e in register()}
    assert len(named) > 20
