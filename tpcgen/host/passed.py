"""Which kernels have passed a strict run: the fast mode is for those only (decisions.md 7)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tpcgen.toolchain.host import cache_dir


def fingerprint(guid: str, artifact: Path) -> str:
    """Hash of a GUID and of the text of everything its library is built from in the folder of an artifact."""
    digest = hashlib.sha256(guid.encode())
    for path in sorted([*(artifact / "kernels").glob("*.c"), *(artifact / "glue").glob("*.[ch]*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def has_passed(key: str) -> bool:
    return _record(key).exists()


def mark_passed(key: str) -> None:
    """Remember that a strict run of this fingerprint had no finding. An unwritable cache forgets it."""
    try:
        _record(key).parent.mkdir(parents=True, exist_ok=True)
        _record(key).touch()
    except OSError:
        return


def _record(key: str) -> Path:
    return cache_dir() / "passed" / key
