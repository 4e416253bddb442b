"""Makes tpcgen/host/tpc_intrinsics.tsv from the full table of tpc_llvm's intrinsics: gaudi and gaudi2, signatures only.

Usage: python tools/trim_intrinsics.py FULL.tsv tpcgen/host/tpc_intrinsics.tsv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

TARGETS = ("gaudi", "gaudi2")


def main(full: Path, trimmed: Path) -> None:
    with full.open(newline="") as stream:
        rows = [
            row for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE) if row["source"] == "tpc_llvm"
        ]
    lines = ["name\tret\tparams\ttargets"]
    for row in rows:
        targets = [target for target in TARGETS if target in row["archs"].split(",")]
        if targets:
            params = " ".join(row["params"].split())
            lines.append("\t".join([row["name"], row["ret"], params, ",".join(targets)]))
    trimmed.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
