from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parents[1]


def get_include_dir() -> str:
    return str(_ROOT / "include")


def get_lib_dir() -> str:
    return str(_ROOT / "lib")
