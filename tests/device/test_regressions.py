"""Specs that something was wrong with once, shrunk: every plan of each on both devices.

All of them are built as one library per target.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device.harness import TARGETS, Built, build, drawn, failures, judged
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.program import load

SPECS = {path.stem: load(str(path)) for path in sorted((Path(__file__).parent / "specs").glob("*.dsl"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Built]]]:
    programs = {name: module.program(name) for name, module in SPECS.items()}
    with Session() as session:
        yield build(programs, tmp_path_factory.mktemp("specs"), session)


@pytest.mark.parametrize("name", SPECS)
def test_every_plan_computes_it(name: str, built: dict[str, list[Built]]) -> None:
    program = SPECS[name].program(name)
    assert {b.target for b in built[name]} == set(TARGETS)
    found: list[str] = []
    for c in SPECS[name].checks:
        for family in families(program):
            found += failures(judged(built[name], c.values, drawn(program, c.values, family), f"{c.name} {family}"))
    assert not found, "\n".join(found)
