"""Plays torch.hpu. Initialising reads GC_KERNEL_PATH once and opens what it names, as Synapse does."""

from __future__ import annotations

import ctypes
import os

libraries: list[ctypes.CDLL] = []
_initialized = False


def _lazy_init() -> None:
    global _initialized
    if _initialized:
        return
    _initialized = True
    for entry in os.environ["GC_KERNEL_PATH"].split(":"):
        if os.path.exists(entry):
            libraries.append(ctypes.CDLL(entry))


def is_initialized() -> bool:
    return _initialized


def is_available() -> bool:
    return True


def device_count() -> int:
    return 1


def current_device() -> int:
    return 0
