"""The parse table: built by lark from the grammar once, then kept in tpcgen's cache folder.

Building takes some 150 ms, loading 10. The cache is an aid: missing, unwritable or damaged, the table is built anew.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import lark

from tpcgen import cache
from tpcgen.syntax.build import Builder

GRAMMAR = Path(__file__).parent.parent / "grammar" / "tpcgen.lark"
STARTS = ("start", "expression")

_DIGEST = hashlib.sha256
_DIGEST_SIZE = 32
_LARK: Any = lark.Lark
"""Without lark's own types, which pyright finds partly unknown."""


@lru_cache(maxsize=1)
def table() -> Any:
    """The lark.Lark of the language, its callbacks bound to `Builder`."""
    grammar = GRAMMAR.read_text(encoding="utf-8")
    cached = _cache_path(grammar)
    loaded = _load(cached)
    if loaded is not None:
        return loaded
    built = build(grammar)
    _save(built, cached)
    return built


def build(grammar: str, strict: bool = False) -> Any:
    """A table for a grammar. `strict` refuses conflicts of rules and of terminals; it needs interegular."""
    return _LARK(
        grammar,
        parser="lalr",
        lexer="basic",
        start=list(STARTS),
        keep_all_tokens=True,
        maybe_placeholders=False,
        transformer=Builder(),
        strict=strict,
    )


def _cache_path(grammar: str) -> Path:
    """One file per grammar, lark and Python: all that the pickled table depends on."""
    parts = (grammar, lark.__version__, str(sys.version_info[:2]), str(STARTS))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    return cache.folder() / f"grammar-{key}.pickle"


def _load(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, payload = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    if _DIGEST(payload).digest() != digest:
        return None
    try:
        return _LARK.load(io.BytesIO(payload))
    except Exception:  # whatever a stale pickle raises, the table can be built instead
        return None


def _save(built: Any, path: Path) -> None:
    """Atomically, so that a reader never sees half a file."""
    buffer = io.BytesIO()
    built.save(buffer)
    payload = buffer.getvalue()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / path.name
            new.write_bytes(_DIGEST(payload).digest() + payload)
            new.replace(path)
