"""Gradients of scans by those of their chunks, on the strict device: every plan, at odd sizes and without a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.device.harness import TARGETS, build, drawn, wrong_gradients
from tests.std.library import VARIANTS
from tests.vjp.test_in_chunks import CHUNKED, GATES, of_chunks
from tpcgen.host.api import Session

SIZES = (
    {"B": 1, "H": 2, "G": 1, "N": 1, "D": 1, "E": 1, "P": 1, "R": 1},
    {"B": 1, "H": 2, "G": 1, "N": 0, "D": 3, "E": 4, "P": 3, "R": 4},
    {"B": 2, "H": 2, "G": 2, "N": 65, "D": 5, "E": 7, "P": 5, "R": 7},
    {"B": 1, "H": 1, "G": 1, "N": 129, "D": 63, "E": 65, "P": 65, "R": 63},
)


def check(name: str, dtype: str, target: str, folder: Path, most: int) -> None:
    gradient, found = of_chunks(VARIANTS[name].program(dtype))
    programs = {f"c{a.length}": a.program for a in found[:most]}
    with Session() as session:
        made = build(programs, folder, session, (target,), lambda _name, _target, number: number < most)
        for values in SIZES:
            own = {k: v for k, v in values.items() if k in gradient.sizes}
            inputs = drawn(gradient, own, "normal")
            if name.startswith("gated"):
                inputs["g"] = np.random.default_rng(3).choice(GATES, inputs["g"].shape).astype(np.float32)
            for key, built in made.items():
                wrong = wrong_gradients(built, own, inputs, gradient)
                assert not wrong, "\n".join((key, *wrong))


def test_of_gated_linear(tmp_path: Path) -> None:
    check("gated_linear", "bf16", "gaudi2", tmp_path, 1)


@pytest.mark.full
@pytest.mark.parametrize("name", CHUNKED)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_every_plan(name: str, target: str, dtype: str, tmp_path: Path) -> None:
    check(name, dtype, target, tmp_path, 3)
