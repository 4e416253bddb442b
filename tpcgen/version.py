"""Which tpcgen this is and where its files lie. Modules ask here: the package itself also offers what needs torch."""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
ROOT = Path(__file__).parent
