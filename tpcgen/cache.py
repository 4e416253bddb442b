"""Where tpcgen keeps what it can make again: `$TPCGEN_CACHE_DIR`, else the user's cache directory.

Where that cannot be written: a temporary folder that goes with this process.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import platformdirs


def folder() -> Path:
    """The folder."""
    chosen = os.environ.get("TPCGEN_CACHE_DIR")
    return _writable(Path(chosen).absolute() if chosen else Path(platformdirs.user_cache_dir("tpcgen")))


@lru_cache(maxsize=8)
def _writable(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError:
        scratch = tempfile.mkdtemp(prefix="tpcgen-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        return Path(scratch)
