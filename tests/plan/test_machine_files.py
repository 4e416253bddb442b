"""Machine data of the user: overrides, new devices, and what is wrong with a file."""

from __future__ import annotations

import json
import sys

import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.machine import GAUDI2, MACHINES, machines
from tpcgen.machine.mme import Matmul, mme_cost
from tpcgen.machine.override import VARIABLE
from tpcgen.partition.choose import choose
from tpcgen.program import sizes
from tpcgen.program.dtypes import DType
from tpcgen.report import devices

if sys.version_info < (3, 11):
    pytest.importorskip("tomli")

GOOD = """
[gaudi2.tpc]
launch_seconds = { value = 2.5e-6, source = "our profiler" }
access_cycles = { value = 4.5, source = "conformance kit" }

[gaudi2.mme]
minimum_common = { value = { "bf16->f32" = 1024 }, source = "measured" }

[lab]
like = "gaudi2"
[lab.tpc]
engines = { value = 23, source = "one is fused off" }
[lab.mme]
tiles = { value = [{ name = "one", width = 256, height = 256 }], source = "one engine" }
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="lab.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_numbers_change_and_the_rest_stays(write):
    known = machines(write(GOOD))
    assert list(known) == ["gaudi", "gaudi2", "gaudi3", "lab"]
    changed = known["gaudi2"]
    assert changed.tpc.launch_seconds == 2.5e-6
    assert changed.tpc.sources["launch_seconds"] == "U: our profiler"
    assert changed.tpc.engines == GAUDI2.tpc.engines
    assert changed.mme.minimum_common == {**GAUDI2.mme.minimum_common, (DType.BF16, DType.F32): 1024}
    assert known["gaudi"] == MACHINES["gaudi"]
    matmul = Matmul(1, 512, 512, 64, DType.BF16, DType.F32)
    assert mme_cost(changed, matmul).seconds == 2 * mme_cost(GAUDI2, matmul).seconds


def test_a_new_device_starts_from_the_changed_one_and_keeps_its_kernels(write):
    lab = machines(write(GOOD))["lab"]
    assert (lab.name, lab.tpc.engines, lab.tpc.launch_seconds) == ("gaudi2", 23, 2.5e-6)
    assert mme_cost(lab, Matmul(1, 256, 256, 512, DType.BF16, DType.BF16)).tile.name == "one"


def test_plans_are_priced_with_the_file_of_the_environment(write, monkeypatch, example):
    program = example("causal")
    binding = sizes.bind(program, {"B": 1, "H": 2, "G": 2, "M": 64, "N": 64, "D": 64, "E": 64})
    before = choose(program, "gaudi2", binding)
    monkeypatch.setenv(VARIABLE, str(write(GOOD)))
    assert choose(program, "gaudi2", binding).price.seconds > before.price.seconds
    assert choose(program, "lab", binding).plan.target == "gaudi2"
    assert choose(program, "gaudi2", binding, known=MACHINES) == before


def test_json_is_read_too(write):
    entry = {"value": 1e12, "source": "kit"}
    path = write(json.dumps({"gaudi3": {"memory": {"hbm_rate": entry}}}), "kit.json")
    assert machines(path)["gaudi3"].memory.hbm_rate == 1e12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gaudi2.tpc\n", "line 1"),
        ("gaudi2 = 3\n", "gaudi2 is no table"),
        ("[gaudi4.tpc]\nengines = { value = 1, source = 'x' }\n", "there is no device gaudi4"),
        ("[a]\nlike = 'gaudi9'\n", "there is no device gaudi9"),
        ("[gaudi2]\nlike = 'gaudi3'\n", "gaudi2 exists already"),
        ("[gaudi2.dma]\nx = 1\n", "gaudi2.dma: there is no such part"),
        ("[gaudi2.tpc]\nengine = { value = 1, source = 'x' }\n", "gaudi2.tpc.engine: there is no such number"),
        ("[gaudi2.tpc]\nengines = 23\n", "gaudi2.tpc.engines is no table"),
        ("[gaudi2.tpc]\nengines = { value = 23 }\n", "no value or no source"),
        ("[gaudi2.tpc]\nengines = { value = 23, source = ' ' }\n", "no value or no source"),
        ("[gaudi2.tpc]\nengines = { value = 2.5, source = 'x' }\n", "not a whole number"),
        ("[gaudi2.tpc]\nengines = { value = 0, source = 'x' }\n", "not a positive number"),
        ("[gaudi2.tpc]\nengines = { value = true, source = 'x' }\n", "not a positive number"),
        ("[gaudi2.tpc]\nengines = { value = inf, source = 'x' }\n", "not a positive number"),
        ("[gaudi2.mme]\nalignment = { value = { 'bf16->f32' = 1 }, source = 'x' }\n", "is no entry of it"),
        ("[gaudi2.mme]\nminimum_common = { value = { bf16 = 1 }, source = 'x' }\n", "is no entry of it"),
        ("[gaudi2.mme]\ntiles = { value = [], source = 'x' }\n", "a list of tables"),
        ("[gaudi2.mme]\ntiles = { value = [{ name = 'a' }], source = 'x' }\n", "not a tile"),
        (
            "[gaudi2.mme.tiles]\nsource = 'x'\nvalue = [{ name = 'a', width = 1, height = 1, width_fits = true }]",
            "no tile takes results of any size",
        ),
    ],
)
def test_what_is_wrong_is_said(write, text, said):
    path = write(text)
    with pytest.raises(DiagnosticError, match="E527") as caught:
        machines(path)
    assert said in caught.value.diagnostics[0].message
    assert str(path) in caught.value.diagnostics[0].message


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(DiagnosticError, match="E527"):
        machines(tmp_path / "none.toml")


def test_devices_show_every_number_with_its_source(write):
    known = machines(write(GOOD))
    text = devices.to_text(known)
    assert "lab, like gaudi2" in text
    assert "U: one is fused off" in text
    assert max(map(len, text.splitlines())) < 240
    data = json.loads(devices.to_json(known))
    assert data["gaudi2"]["tpc"]["launch_seconds"] == [2.5e-6, "U: our profiler"]
    assert data["gaudi2"]["mme"]["minimum_common"][0]["bf16->f32"] == 1024
    for parts in data.values():
        for numbers in parts.values():
            assert all(source[:3] in ("R: ", "S: ", "I: ", "A: ", "U: ") for _, source in numbers.values())
