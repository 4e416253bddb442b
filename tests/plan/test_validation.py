"""docs/validation.md is what benchmarks/validate_model.py writes now, and its bounds hold."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tpcgen.machine import GAUDI2
from tpcgen.program.dtypes import DType

ROOT = Path(__file__).parents[2]


@pytest.fixture
def validation():
    spec = importlib.util.spec_from_file_location("validate_model", ROOT / "benchmarks" / "validate_model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_page_is_what_the_command_writes_and_no_bound_is_broken(validation, capsys):
    assert validation.main(["--check"]) == 0, capsys.readouterr().err


def test_every_published_row_is_there_and_every_miss_is_explained(validation):
    rows = validation.rows()
    assert {r.id for r in rows} == {f"T{n}" for n in range(1, 18)}
    assert {r.id for r in rows if r.gemm} == {"T1", "T2", "T3", "T4", "T5"}
    for row in rows:
        assert row.known_by
        if row.error is None or abs(row.error) > validation.GEMM_BOUND:
            assert len(row.why) > 20, row.id
            assert re.search(rf"^\* {row.id}, ", validation.page(), re.MULTILINE)


def test_a_wrong_model_breaks_the_bounds(validation, monkeypatch):
    """With a minimum common dimension of 256 for bf16 -> f32, T5 is off by two."""
    wrong = {**GAUDI2.mme.minimum_common, (DType.BF16, DType.F32): 256}
    mme = dataclasses.replace(GAUDI2.mme, minimum_common=wrong)
    monkeypatch.setattr(validation, "GAUDI2", dataclasses.replace(GAUDI2, mme=mme))
    assert [b.split()[0] for b in validation.broken()] == ["T5"]
    fast_tpc = dataclasses.replace(GAUDI2.tpc, engines=2400)
    monkeypatch.setattr(validation, "GAUDI2", dataclasses.replace(GAUDI2, tpc=fast_tpc))
    assert "T10" in [b.split()[0] for b in validation.broken()]


def test_no_constant_of_the_model_is_a_published_timing():
    """Sources name tables, compilers and guides, never a row of measurements."""
    for part in (GAUDI2.mme, GAUDI2.tpc, GAUDI2.memory):
        assert not any(re.search(r"\bT\d+\b", source) for source in part.sources.values())
