from __future__ import annotations

import os


def is_lazy() -> bool:
    return os.getenv("PT_HPU_LAZY_MODE", "0") != "0"
