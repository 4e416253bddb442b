"""Where tpcgen keeps what it can make again: `$TPCGEN_CACHE_DIR`, else the user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def folder() -> Path:
    """The folder; it need not exist."""
    chosen = os.environ.get("TPCGEN_CACHE_DIR")
    return Path(chosen).absolute() if chosen else Path(platformdirs.user_cache_dir("tpcgen"))
