"""Random specs through the whole compiler and the strict device: parsed, planned, lowered, run at odd sizes.

The specs are those of tests/random_specs.py; a batch of them is built as one library. A failure prints the spec and
its sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.device.harness import TARGETS, Built, Outcome, built_together, drawn, failures, judged, variant
from tests.random_specs import attributes, specs
from tpcgen.diagnostics import DiagnosticError
from tpcgen.emit.artifact import Variant
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import Family, families
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import load_text
from tpcgen.program.ir import Program

ODD = (1, 2, 7, 63, 64, 65, 127, 128, 129, 130)
SCANNED = (1, 7, 63, 65, 127, 129)
NOT_0_OVER_NOTHING = re.compile(r"default\(|/ \(?sum|exp\(.* - max|\) \* sigmoid\(")
"""What is not 0, or 0 times what nobody visits, where keys are none: the compiler takes a reduced extent to be at least
1 (docs/language.md).
"""
ROWS_ALONG_Q = re.compile(r"-> O: \w+\[[^]]*M\]")
BATCH = 15
QUICK = 150
LONG = 600
Spec = tuple[str, Mapping[str, int], int]


@st.composite
def sized(draw_: Any) -> Spec:
    """A spec, sizes of which one is around a step of the lanes or 0, and a number that picks plan and target."""
    text, values = draw_(specs())
    values = {**values, "D": draw_(st.sampled_from((1, 4, 16))), "E": draw_(st.sampled_from((24, 33, 65)))}
    if "M" not in values:
        return text, {**values, "N": draw_(st.sampled_from(SCANNED))}, draw_(st.integers(0, 1 << 16))
    m, n = draw_(st.sampled_from(ODD)), draw_(st.sampled_from(ODD))
    small = draw_(st.sampled_from((3, 9, 17)))
    if ROWS_ALONG_Q.search(text):
        m, n = max(m, 63), min(n, small)
    elif draw_(st.booleans()):
        m, n = min(m, small), n
    else:
        m, n = m, min(n, small)
    if "M <= N" in text:
        m, n = min(m, n), max(m, n)
    if "M >= 1" not in text and not NOT_0_OVER_NOTHING.search(text) and draw_(st.integers(0, 15)) == 0:
        m, n = draw_(st.sampled_from(((0, n), (m, 0)) if "M <= N" not in text else ((0, n),)))
    return text, {**values, "M": m, "N": n}, draw_(st.integers(0, 1 << 16))


@cache
def collected(count: int) -> list[Spec]:
    """The same specs in every process: no two with one text."""
    found: dict[str, Spec] = {}

    @settings(
        max_examples=3 * count, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(spec=sized())
    def collect(spec: Spec) -> None:
        found.setdefault(spec[0], spec)

    collect()
    return list(found.values())[:count]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


REFUSED = {"E303", "E421", "E430"}
"""A difference of differently masked values in exp; `k % 3` along the lanes, which is not lowered yet; searches inside
of searches, in each of several tiles.
"""


def compiled(name: str, spec: Spec) -> Variant | None:
    """One of the program's plans, None where the compiler says that it does not take it."""
    text, _, pick = spec
    try:
        plans = enumerate_plans(load_text(text).program("f"), TARGETS[pick % 2])
        return variant(name, 0, plans[pick // 2 % len(plans)])
    except DiagnosticError as refused:
        assert {d.id for d in refused.diagnostics} <= REFUSED, f"{refused}\n{text}"
        return None


def wrong(batch: list[Spec], folder: Path, session: Session) -> list[str]:
    """What failed, with its spec. Inputs by which nobody could judge count for nothing, but most can be judged."""
    named = {f"r{n}": spec for n, spec in enumerate(batch)}
    taken = {name: v for name, spec in named.items() if (v := compiled(name, spec)) is not None}
    assert len(taken) >= len(batch) * 2 // 3
    reports: list[str] = []
    outcomes: list[Outcome] = []
    for target in TARGETS:
        mine = {name: [v] for name, v in taken.items() if v.plan.target == target}
        for name, built in built_together(mine, target, folder / target, session).items():
            (text, sizes, pick), program = named[name], taken[name].plan.program
            values = {**sizes, **attributes([a.name for a in program.attributes])}
            for family in families(program):
                found = list(judged(built, values, drawn(program, values, family), family))
                outcomes += found
                lines = failures(o for o in found if "inconclusive" not in o.reason)
                if lines and not repeated(program, built, values, family):
                    continue
                reports += [f"{line}\n{dict(values)} pick {pick}\n{text}" for line in lines]
    assert sum("inconclusive" in o.reason for o in outcomes) * 4 < len(outcomes)
    return reports


def repeated(program: Program, built: list[Built], values: Mapping[str, Any], family: Family) -> bool:
    """Whether other inputs of the family fail too. A row of few different numbers, each off by one rounding, is judged
    by the luck of device mode; what is wrong with a kernel is wrong with other numbers as well.
    """
    again = (judged(built, values, drawn(program, values, family, number), family) for number in (1, 2))
    return any(o.reason and "inconclusive" not in o.reason for found in again for o in found)


@pytest.mark.parametrize(
    "batch", [n if (n + 1) * BATCH <= QUICK else pytest.param(n, marks=pytest.mark.full) for n in range(LONG // BATCH)]
)
def test_random_specs(batch: int, session: Session, tmp_path: Path) -> None:
    chosen = collected(QUICK if (batch + 1) * BATCH <= QUICK else LONG)[batch * BATCH : (batch + 1) * BATCH]
    assert len(chosen) == BATCH
    reports = wrong(chosen, tmp_path, session)
    assert not reports, "\n\n".join(reports)
