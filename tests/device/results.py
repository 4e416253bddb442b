"""The outcome of the matrix as a committed file: counts and worst error of each combination, and of which tpcgen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tpcgen
from tests.device.harness import Outcome

_ABOUT = (
    "Every kernel on the strict host device through its glue, judged against the interpreter in float64 by the pass "
    "rule of tpcgen/interpreter/compare.py. A run is one size with one family of inputs; worst_share is the largest "
    "share of the allowed error that a run used. Written by: pytest -m full --write-results tests/device/"
    "test_every_size.py"
)


def tree_hash() -> str:
    """Of the names and bytes of all files of the package."""
    root = Path(tpcgen.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def row(spec: str, dtype: str, device: str, plan: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    worst = max(outcomes, key=lambda o: o.share)
    return {
        "spec": spec,
        "dtype": dtype,
        "device": device,
        "plan": plan,
        "runs": len(outcomes),
        "failed": sum(bool(o.reason) for o in outcomes),
        "worst_share": round(worst.share, 2),
        "worst_case": worst.case,
    }


def record(path: Path, rows: Sequence[Mapping[str, Any]], tree: str) -> None:
    """Add rows of the package with hash `tree` to the file; those of another package go.

    RuntimeError where the package changed while they were made.
    """
    if tree_hash() != tree:
        raise RuntimeError(f"tpcgen/ changed during the run: nothing is written to {path}")
    known = _rows(path, tree) | {_key(r): r for r in rows}
    everything = [known[key] for key in sorted(known)]
    content = {
        "about": _ABOUT,
        "tpcgen_sha256": tree,
        "combinations": len(everything),
        "runs": sum(r["runs"] for r in everything),
        "failed": sum(r["failed"] for r in everything),
        "rows": everything,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _rows(path: Path, tree: str) -> dict[tuple[str, ...], Mapping[str, Any]]:
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    return {_key(r): r for r in content["rows"]} if content["tpcgen_sha256"] == tree else {}


def _key(of: Mapping[str, Any]) -> tuple[str, ...]:
    return (of["spec"], of["dtype"], of["device"], of["plan"])
