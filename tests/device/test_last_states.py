"""Last values of states on the device: every plan, steps and chunks, at odd sizes and without a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.device.harness import TARGETS, build, drawn, failures, judged
from tests.plan.test_last_states import ALONE, CASES, program
from tpcgen.host.api import Session

QUICK = {("gaudi2", "bf16"): ("of two",), ("gaudi", "f32"): ("outer product",)}
SIZES = {
    "one step": {"B": 1, "N": 1, "D": 1, "E": 1},
    "no steps": {"B": 1, "N": 0, "D": 4, "E": 7},
    "odd": {"B": 2, "N": 65, "D": 5, "E": 65},
    "more than a vector": {"B": 1, "N": 7, "D": 63, "E": 129},
}
Wanted = Callable[[str, str, int], bool]
GATES = (0.0, 1e-30, 0.5, 1 - 2.0**-12, 1.0)


def steps_and_a_chunk(_name: str, _target: str, number: int) -> bool:
    return number < 2


def check(cases: tuple[str, ...], target: str, dtype: str, folder: Path, wanted: Wanted = lambda *_: True) -> None:
    programs = {case.replace(" ", "_"): program(case, dtype) for case in cases}
    with Session() as session:
        for name, built in build(programs, folder, session, (target,), wanted).items():
            for size, values in SIZES.items():
                own = {k: v for k, v in values.items() if k in programs[name].sizes}
                inputs = drawn(programs[name], own, "normal")
                inputs["g"] = np.random.default_rng(3).choice(GATES, inputs["g"].shape).astype(np.float32)
                found = failures(judged(built, own, inputs, f"{name}, {size}"))
                assert not found, "\n".join(found)


@pytest.mark.parametrize(("target", "dtype"), QUICK)
def test_some_last_values(target: str, dtype: str, tmp_path: Path) -> None:
    check(QUICK[target, dtype], target, dtype, tmp_path, steps_and_a_chunk)


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_every_last_value(target: str, dtype: str, tmp_path: Path) -> None:
    check((*CASES, *ALONE), target, dtype, tmp_path)
