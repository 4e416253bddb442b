"""The outcome of the matrix as a committed file: counts and worst error of each combination, and of which tpcgen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tpcgen
from tests.device.harness import Outcome

_TEXT = """\
# Every plan at every size

Written by `pytest -m full --write-results tests/device/test_every_size.py`. Every kernel ran on the strict host device
through its glue and was judged against the interpreter in float64 by the pass rule of `tpcgen/interpreter/compare.py`.
A run is one size with one family of inputs. "Worst" is the largest share of the allowed error that a run used, at the
element that was nearest to its bound or furthest beyond it.

sha256 of tpcgen/ (`tree_hash` in tests/device/results.py): `{hash}`

{runs} runs, {failed} failed.

| spec | dtype | device | plan | runs | failed | worst | in |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


def tree_hash() -> str:
    """Of the names and bytes of all files of the package."""
    root = Path(tpcgen.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


@dataclass
class Results:
    """`rows`: spec, dtype, device and plan with the outcomes of all their runs."""

    rows: dict[tuple[str, str, str, str], list[Outcome]] = field(default_factory=dict)
    tree: str = field(default_factory=tree_hash)

    def add(self, key: tuple[str, str, str, str], outcomes: Sequence[Outcome]) -> None:
        self.rows[key] = list(outcomes)

    def complete(self, combinations: int) -> bool:
        """Whether all combinations ran, each of them something."""
        return len(self.rows) == combinations and all(self.rows.values())

    def write(self, path: Path) -> None:
        """RuntimeError where the tree changed while the matrix ran."""
        if tree_hash() != self.tree:
            raise RuntimeError(f"tpcgen/ changed during the run: {path} is not written")
        everything = [o for outcomes in self.rows.values() for o in outcomes]
        text = _TEXT.format(
            hash=self.tree,
            runs=len(everything),
            failed=_failed(everything),
            rows="\n".join(_row(key, outcomes) for key, outcomes in self.rows.items()),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _row(key: tuple[str, str, str, str], outcomes: Sequence[Outcome]) -> str:
    worst = max(outcomes, key=lambda o: o.share)
    cells = (*key, str(len(outcomes)), str(_failed(outcomes)), f"{worst.share:.2f}", worst.case)
    return f"| {' | '.join(cells)} |"


def _failed(outcomes: Sequence[Outcome]) -> int:
    return sum(bool(o.reason) for o in outcomes)
