"""Gradients of scans with their sums in the steps, on the strict device: every plan, odd sizes, no step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.device.harness import TARGETS, build, drawn, wrong_gradients
from tests.std.library import VARIANTS
from tests.vjp.test_in_steps import of_steps
from tpcgen.host.api import Session

SIZES = (
    {"B": 1, "H": 2, "N": 1, "C": 1, "R": 1, "D": 1, "E": 1},
    {"B": 2, "H": 1, "N": 0, "C": 65, "R": 4, "D": 3, "E": 4},
    {"B": 2, "H": 2, "N": 7, "C": 79, "R": 5, "D": 5, "E": 65},
    {"B": 1, "H": 1, "N": 65, "C": 63, "R": 16, "D": 63, "E": 7},
)


def check(name: str, dtype: str, target: str, folder: Path, labels: int, plans: int) -> None:
    gradient, found = of_steps(VARIANTS[name].program(dtype))
    programs = {f"s{n}": a.program for n, a in enumerate(found[:labels])}
    with Session() as session:
        made = build(programs, folder, session, (target,), lambda _name, _target, number: number < plans)
        for values in SIZES:
            own = {k: v for k, v in values.items() if k in gradient.sizes}
            inputs = drawn(gradient, own, "normal")
            for key, built in made.items():
                wrong = wrong_gradients(built, own, inputs, gradient)
                assert not wrong, "\n".join((key, *wrong))


def test_of_mamba1(tmp_path: Path) -> None:
    check("mamba1", "bf16", "gaudi2", tmp_path, 2, 1)


@pytest.mark.full
@pytest.mark.parametrize("name", ["mamba1", "gla", "gated_linear"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_every_plan(name: str, target: str, dtype: str, tmp_path: Path) -> None:
    check(name, dtype, target, tmp_path, 4, 4)
