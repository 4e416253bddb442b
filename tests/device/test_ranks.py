"""Ranks on the device, exactly the interpreter's: every plan, both targets, NaN and infinities among the values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.device.harness import TARGETS, build
from tests.plan.test_count_ranks import CASES, inputs, program
from tpcgen.host.api import Session
from tpcgen.interpreter import run

QUICK = ("both", "of what may be absent")


def check(cases: tuple[str, ...], targets: tuple[str, ...], folder: Path) -> None:
    programs = {case.replace(" ", "_"): program(case) for case in cases}
    with Session() as session:
        for name, built in build(programs, folder, session, targets).items():
            for u, v in ((3, 5), (1, 1), (0, 4), (7, 65), (2, 129)):
                expected = run(programs[name], inputs(u, v), {})["y"]
                for b in built:
                    found = b.run({"U": u, "V": v}, inputs(u, v))["y"]
                    np.testing.assert_array_equal(found, expected, err_msg=f"{name}, {b.target}, {b.label}, {u} x {v}")


def test_some_ranks(tmp_path: Path) -> None:
    check(QUICK, ("gaudi2",), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
def test_every_rank(target: str, tmp_path: Path) -> None:
    check(tuple(CASES), (target,), tmp_path)
