"""Kernels of benchmarks/kernels/*.dsl, whose bundles docs/kernels.md counts, on the strict device at odd sizes."""

from __future__ import annotations

import importlib
from itertools import product
from pathlib import Path

import pytest

from tests.device.harness import build, drawn, failures, judged
from tpcgen.host.api import Session
from tpcgen.program import load
from tpcgen.program.sizes import bind

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = {path.stem: load(str(path)) for path in sorted((BENCHMARKS / "kernels").glob("*.dsl"))}
SIZES = {
    "softmax": [{"M": 65, "N": 129, "H": 2}, {"M": 1, "N": 1, "H": 1}, {"M": 7, "N": 296, "H": 1}],
    "maps": [{"M": 7, "N": 129}, {"M": 1, "N": 63}],
    "attention": [
        {"B": 2, "H": 3, "N": 129, "M": 7, "D": 66, "E": 63, "C": 5},
        {"B": 1, "H": 1, "N": 1, "M": 1, "D": 2, "E": 1, "C": 1},
        {"B": 1, "H": 5, "N": 65, "M": 41, "D": 160, "E": 7, "C": 2},
    ],
    "windows": [
        {"B": 1, "H": 2, "N": 129, "D": 9, "E": 65, "W": 50},
        {"B": 1, "H": 1, "N": 1, "D": 1, "E": 1},
    ],
    "contractions": [
        {"M": 7, "N": 129, "K": 65, "B": 2, "C": 3, "L": 33, "D": 17, "E": 63},
        {"M": 1, "N": 1, "K": 1, "B": 1, "C": 1, "L": 1, "D": 1, "E": 1},
    ],
}


@pytest.mark.parametrize("name", MODULES)
def test_every_kernel_computes_its_equations(name: str, tmp_path: Path) -> None:
    module = MODULES[name]
    programs = {}
    for op in module.ops:
        variables = module.dtype_variables(op)
        for choice in product(*variables.values()):
            programs["_".join((op, *choice))] = module.program(op, **dict(zip(variables, choice, strict=True)))
    with Session() as session:
        targets = ("gaudi", "gaudi2") if name == "attention" else ("gaudi2",)
        built = build(programs, tmp_path, session, targets=targets)
        for label, program in programs.items():
            for values, family in product(SIZES[name], ("normal", "large")):
                names = {*program.sizes, *(a.name for a in program.attributes)}
                used = {s: v for s, v in values.items() if s in names}
                inputs = drawn(program, used, family)
                assert not failures(judged(built[label], used, inputs, f"{label} {used} {family}"))


def test_every_kernel_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    kernels = importlib.import_module("kernels")
    rows = (*kernels.ROWS, *kernels.WINDOWS)
    assert {row.op for row in rows} == {op for module in MODULES.values() for op in module.ops}
    for row in rows:
        (module,) = (m for m in MODULES.values() if row.op in m.ops)
        program = module.program(row.op, **({} if row.dtype is None else {"T": row.dtype}))
        bind(program, row.sizes)
