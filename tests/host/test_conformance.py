"""The conformance kit: every probe agrees with the host, is sensitive to a wrong bit, and the kit is whole."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.emit.conformance import assumptions, probes_of, write
from tpcgen.host.judge import agrees
from tpcgen.host.launch import Launch
from tpcgen.host.probes import LANES, PROBES, RATE_ROWS, RATES, ROWS, Probe
from tpcgen.host.strict import Bare, Session
from tpcgen.machine import MACHINES, machines
from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.host import HostLibrary, build

I32 = np.dtype(np.int32)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kit") / "gaudi2"
    assert write(out, "gaudi2") == len(probes_of("gaudi2"))
    return out


@pytest.fixture(scope="module")
def script(kit: Path) -> ModuleType:
    sys.path.insert(0, str(kit))
    try:
        spec = importlib.util.spec_from_file_location("kit_run", kit / "run.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(kit))
        sys.modules.pop("judge", None)


@pytest.fixture(scope="module")
def library(kit: Path) -> HostLibrary:
    """The whole kit as one library, by its own glue."""
    return build(
        [kit / "glue/glue.cpp"],
        sorted((kit / "kernels").glob("*.c")),
        target="gaudi2",
        out=kit / ".host",
        mode="strict",
        include=(kit / "glue",),
    )


def test_every_assumption_has_a_probe_or_a_reason() -> None:
    probed = {p.assumption for p in PROBES}
    register = {a["id"]: a for a in assumptions()}
    assert len({p.name for p in PROBES}) == len(PROBES)
    assert probed <= set(register)
    assert {id for id, entry in register.items() if "unprobed" not in entry} == probed


def check(session: Session, library: HostLibrary, probe: Probe, **how: object) -> None:
    launch = Launch(f"tpcgen_probe_{probe.name}", library.target, probe.tensors(), (((ROWS, LANES), I32),))
    report = session.run(library, launch, **how)
    assert {f.kind for f in report.findings} - {"unwritten"} == set(probe.findings), report.findings
    assert agrees(report.outputs[0], probe.expected, probe.compare) == ""


def test_the_host_is_what_the_register_says(library: HostLibrary) -> None:
    with Session() as session:
        for probe in probes_of("gaudi2"):
            check(session, library, probe)


@pytest.mark.full
def test_the_host_as_gaudi(tmp_path: Path) -> None:
    write(tmp_path, "gaudi")
    with Session() as session:
        for probe in probes_of("gaudi"):
            kernel = tmp_path / f"kernels/tpcgen_probe_{probe.name}.c"
            library = build([], [kernel], target="gaudi", out=tmp_path / ".host", mode="strict")
            check(session, library, probe, bare=Bare(kernel.stem, (1,)))


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.name)
def test_a_wrong_bit_is_seen(probe: Probe) -> None:
    right = np.zeros((ROWS, LANES), np.int32)
    right[: len(probe.expected)] = probe.expected
    assert agrees(right, probe.expected, probe.compare) == ""
    for row in range(len(probe.expected)):
        wrong = right.copy()
        wrong[row, 3] ^= 1 << 30
        assert f"row {row}, word 3" in agrees(wrong, probe.expected, probe.compare)


def test_any_nan_is_as_good_as_another_where_the_probe_says_so() -> None:
    want = np.full((1, LANES), 0x7FC00000, np.int32)
    other = np.full((1, LANES), -1, np.int32)
    assert agrees(other, want, "f32") == ""
    assert agrees(other, want, "bits") != ""
    assert agrees(want * 0, want, "f32") != ""
    assert agrees(np.full((1, LANES), 0x7F800000, np.int32), want, "f32") != ""


def test_rates_run(library: HostLibrary) -> None:
    a = np.arange(RATE_ROWS * LANES, dtype=np.int32).reshape(RATE_ROWS, LANES)
    b, c = np.full((1, LANES), 3, np.int32), np.zeros((5, LANES), np.int32)
    with Session() as session:
        for rate in RATES:
            launch = Launch(f"tpcgen_rate_{rate.name}", "gaudi2", (a, b, c), (((5, LANES), I32),))
            report = session.run(library, launch)
            assert report.ok, report.findings
            assert report.members == 5
            loads = report.tensors[0].loads
            assert loads == 5 * 3 * rate.accesses
            if rate.name == "chain":
                np.testing.assert_array_equal(report.outputs[0].view(np.float32), 1 + 3 * 16)


class Fake:
    """A device that is wrong about the lanes of a pair, cannot run one probe and takes known times."""

    def describe(self) -> str:
        return "fake"

    def tensor(self, array: np.ndarray, dtype: str) -> np.ndarray:
        return array

    def run(self, guid: str, tensors: object) -> np.ndarray:
        name = guid.removeprefix("tpcgen_probe_")
        if name == "lane_ids":
            raise RuntimeError("no such op")
        probe = next(p for p in PROBES if p.name == name)
        out = np.zeros((ROWS, LANES), np.int32)
        out[: len(probe.expected)] = probe.expected
        if name == "interleaved_lanes":
            out[:2] = out[1::-1]
        return out


def test_the_script_judges(script: ModuleType) -> None:
    found = {v["name"]: v for v in script.verdicts(Fake())}
    assert found["interleaved_lanes"]["verdict"] == "refuted"
    assert "every bf16 kernel that accumulates in f32" in found["interleaved_lanes"]["detail"]
    assert found["lane_ids"]["verdict"] == "failed"
    assert "no such op" in found["lane_ids"]["detail"]
    others = [v["verdict"] for name, v in found.items() if name not in ("interleaved_lanes", "lane_ids")]
    assert others == ["confirmed"] * (len(probes_of("gaudi2")) - 2)


def test_measured_rates_become_machine_data(script: ModuleType, tmp_path: Path) -> None:
    clock = 1.6e9
    times = {f"members {n}": 1e-3 if n <= 23 else 2e-3 for n in script.KIT["member_counts"]}
    rates = {
        "chain": 64 / clock,
        "loads": 8 * 5 / clock,
        "launch": 3e-6,
        "copy_byte": 1 / 2e12,
        "matmul": 2e-3,
        **times,
    }
    file = tmp_path / "machines.json"
    file.write_text(json.dumps(script.machine(rates, "a Gaudi 2")))
    measured = machines(file)["gaudi2"]
    assert measured.tpc.clock_hz == pytest.approx(clock)
    assert measured.tpc.access_cycles == pytest.approx(5)
    assert measured.tpc.engines == 23
    assert measured.tpc.launch_seconds == pytest.approx(3e-6)
    assert measured.memory.hbm_rate == pytest.approx(2e12)
    assert measured.mme.clock_hz == pytest.approx(script.KIT["matmul"]["cycles"] / 2e-3)
    assert "a Gaudi 2" in measured.tpc.sources["clock_hz"]
    assert measured.mme.rollup == MACHINES["gaudi2"].mme.rollup
    assert script.machine({"chain": -1.0, "matmul": 0.0}, "nowhere") == {}


def test_the_kit_is_whole(kit: Path) -> None:
    index = json.loads((kit / "probes.json").read_text())
    kernels = {p.stem for p in (kit / "kernels").glob("*.c")}
    assert kernels == {p["guid"] for p in index["probes"]} | set(index["rates"].values())
    glue, ops = (kit / "glue/glue.cpp").read_text(), (kit / "torch_ext" / f"{index['name']}_hpu.cpp").read_text()
    for guid in kernels:
        assert f'"{guid}"' in glue
        assert f'm.impl("{guid}"' in ops
    probed = {p.assumption for p in probes_of("gaudi2")}
    reasons = {a["id"]: a.get("unprobed", "its instructions are not gaudi2's") for a in assumptions()}
    assert {u["assumption"]: u["why"] for u in index["unprobed"]} == {
        id: why for id, why in reasons.items() if id not in probed
    }


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(DiagnosticError, match="no conformance kit"):
        write(tmp_path, "gaudi2")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.full
@pytest.mark.parametrize("target", ["gaudi", "gaudi2"])
def test_the_open_compiler_takes_every_kernel(tmp_path: Path, target: str) -> None:
    compiler = tpc_clang.find()
    if compiler is None:
        pytest.skip("no tpc-clang")
    write(tmp_path, target)
    for kernel in sorted((tmp_path / "kernels").glob("*.c")):
        tpc_clang.compile_kernel(compiler, kernel, target, tmp_path / f"{kernel.stem}.o", {})
