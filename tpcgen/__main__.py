"""`python -m tpcgen`."""

from __future__ import annotations

from tpcgen.cli import main

main()
