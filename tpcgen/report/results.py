"""What a check found, as data, JSON and text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tpcgen.report.tables import number, table


@dataclass(frozen=True, slots=True)
class Outcome:
    """One output of one run. `torch_error` is that of the same equations in eager PyTorch, None where it was not run.

    Errors are the worst |y - truth| over the output, in its units; `largest` is the largest finite |truth|. `reason` is
    empty when it passed. `inconclusive` counts the rows, a row being the last axis, that device mode is too wrong to
    judge: a gradient may pass with some.
    """

    dtype: str
    case: str
    family: str
    output: str
    shape: tuple[int, ...]
    largest: float
    error: float
    device_error: float
    torch_error: float | None
    reason: str
    inconclusive: int = 0

    @property
    def passed(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Result:
    """All runs of an artifact. `padded` and `dropped` count lanes read and written outside tensors, over all runs."""

    outcomes: tuple[Outcome, ...]
    padded: int
    dropped: int

    @property
    def passed(self) -> bool:
        return bool(self.outcomes) and all(o.passed for o in self.outcomes)

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON, which has no NaN and no infinity: they become null. `from_data` reads it back."""
        outcomes = [{name: _finite(value) for name, value in asdict(o).items()} for o in self.outcomes]
        return {"passed": self.passed, "outcomes": outcomes, "padded": self.padded, "dropped": self.dropped}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Result:
        """Raises KeyError or TypeError for what `to_data` did not make."""
        return Result(tuple(map(_outcome, data["outcomes"])), data["padded"], data["dropped"])


def to_json(checks: Mapping[str, Result]) -> str:
    """The results of ops, by name, as one object."""
    ops = [{"name": name, "check": result.to_data()} for name, result in checks.items()]
    return json.dumps({"ops": ops}, indent=2, allow_nan=False) + "\n"


def _outcome(data: Mapping[str, Any]) -> Outcome:
    known = dict(data)
    for name in ("error", "device_error"):
        known[name] = math.nan if data[name] is None else data[name]
    known["shape"] = tuple(data["shape"])
    return Outcome(**known)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_text(result: Result) -> str:
    """A table with one row per dtype, sizes and family of inputs, what its columns are, then what failed."""
    header = ("dtype", "sizes", "inputs", "output", "largest", "error", "device mode", "PyTorch", "")
    right = frozenset({"largest", "error", "device mode", "PyTorch"})
    rows = [
        (
            o.dtype,
            o.case,
            o.family,
            f"{o.output}{list(o.shape)}",
            number(o.largest),
            number(o.error),
            number(o.device_error),
            "-" if o.torch_error is None else number(o.torch_error),
            _status(o),
        )
        for o in result.outcomes
    ]
    return table(header, rows, right) + "".join(f"\n{line}" for line in _verdict(result)) + "\n"


def _status(o: Outcome) -> str:
    if not o.passed:
        return "FAILED"
    return f"ok but for {o.inconclusive} of {math.prod(o.shape[:-1])} rows" if o.inconclusive else "ok"


_LEGEND = """\
largest      the largest |truth|; the truth is the interpreter in float64
error        the worst |y - truth| of what was emitted, run on the host device
device mode  the same of the interpreter rounding where the program rounds: twice that, and a little, passes
PyTorch      the same of the equations as eager PyTorch ops; - where it is not installed or does not run them
"""


_BUT_ROWS = """\
ok but for   device mode is off by more than a tenth of these rows of a gradient: they are inconclusive. Their error
             is at most twice device mode's worst in the whole gradient; all other rows passed by themselves
"""


def _verdict(result: Result) -> Iterator[str]:
    unknown = [o for o in result.outcomes if o.passed and o.inconclusive]
    yield _LEGEND + (_BUT_ROWS if unknown else "")
    passed = sum(o.passed for o in result.outcomes)
    but = f", {len(unknown)} of them but for rows that are inconclusive" if unknown else ""
    yield f"check: {passed} of {len(result.outcomes)} passed{but}"
    for o in result.outcomes:
        if not o.passed:
            yield f"FAILED {o.dtype} {o.case} {o.family} {o.output}: {o.reason}"
