"""The kit of `tpcgen conformance`: probes of the silicon with glue, PyTorch ops and a script, for who has a Gaudi."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.emit import glue, torch_ext
from tpcgen.emit.glue import GlueKernel
from tpcgen.emit.templates import render
from tpcgen.host.probes import HEADER, LANES, PROBES, RATE_ROWS, RATES, ROWS, Probe, Rate
from tpcgen.kernel.ir import AxisAccess, IndexDim, TensorParam
from tpcgen.machine import MACHINES
from tpcgen.machine.mme import Matmul, mme_cost
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Literal, Program, Size
from tpcgen.version import ROOT, VERSION

np: Any = numpy
TARGETS = ("gaudi", "gaudi2")
INDEX = "probes.json"

_HOST = ROOT / "host"
_ALL = AxisAccess(0, 0, 0, 0, all_required=True)
_ROW = AxisAccess(0, 1, 0, 0)
_MATMUL = Matmul(1, 8192, 8192, 8192, DType.BF16, DType.BF16)


def write(folder: Path, target: str) -> int:
    """Writes the kit for `target` and gives its number of probes. DiagnosticError E512 for a folder of other things."""
    if folder.exists() and not (folder / INDEX).is_file() and any(folder.iterdir()):
        hint = "choose another -o, or empty that folder"
        raise DiagnosticError((Diagnostic("E512", f"{folder} exists and is no conformance kit", NOWHERE, hint),))
    probes = probes_of(target)
    for path, content in _files(target, probes).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return len(probes)


def probes_of(target: str) -> tuple[Probe, ...]:
    """The probes whose instructions the target has."""
    return tuple(p for p in PROBES if target in p.targets)


def assumptions() -> tuple[Mapping[str, str], ...]:
    """The register: id, behaviour, source, breaks, affects, and `unprobed` (why) where no probe tests it."""
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return tuple(toml.loads((_HOST / "assumptions.toml").read_text(encoding="utf-8"))["assumption"])


def _files(target: str, probes: tuple[Probe, ...]) -> dict[str, str | bytes]:
    name = f"tpcgen_conformance_{target}"
    kernels = [*map(_probe_kernel, probes), *map(_rate_kernel, RATES)]
    values = {"target": target, "version": VERSION, "probes": len(probes)}
    texts: dict[str, str | bytes] = {f"kernels/{_guid(p)}.c": p.kernel for p in (*probes, *RATES)}
    texts["kernels/probe.h"] = HEADER
    texts |= {f"glue/{k}": v for k, v in glue.files(name, target, INDEX, kernels, VERSION, 1).items()}
    texts |= {f"torch_ext/{k}": v for k, v in torch_ext.files(name, INDEX, kernels, VERSION).items()}
    interface = "include/tpc_kernel_lib_interface.h"
    texts[f"glue/{interface}"] = (_HOST / interface).read_text(encoding="utf-8")
    texts["judge.py"] = (_HOST / "judge.py").read_text(encoding="utf-8")
    texts["run.py"] = render("conformance/run.py.j2", **values)
    texts["README.md"] = render("conformance/README.md.j2", **values)
    texts["data.npz"] = _data(probes)
    texts[INDEX] = json.dumps(_index(name, target, probes), indent=2) + "\n"
    return texts


def _guid(probe: Probe | Rate) -> str:
    kind = "rate" if isinstance(probe, Rate) else "probe"
    return f"tpcgen_{kind}_{probe.name}"


def _index(name: str, target: str, probes: tuple[Probe, ...]) -> dict[str, object]:
    register = {entry["id"]: entry for entry in assumptions()}
    machine = MACHINES[target]
    probed = {p.assumption for p in probes}
    return {
        "name": name,
        "target": target,
        "version": VERSION,
        "rows": ROWS,
        "probes": [
            {
                "name": p.name,
                "guid": _guid(p),
                "assumption": p.assumption,
                "behaviour": register[p.assumption]["behaviour"],
                "breaks": register[p.assumption]["breaks"],
                "compare": p.compare,
                "dtypes": [str(t.dtype) for t in p.tensors()],
            }
            for p in probes
        ],
        "unprobed": [
            {"assumption": name, "why": entry.get("unprobed", f"its instructions are not {target}'s")}
            for name, entry in register.items()
            if name not in probed
        ],
        "rates": {rate.name: _guid(rate) for rate in RATES},
        "rate_rows": RATE_ROWS,
        "member_counts": sorted({1, 2, *_near(machine.tpc.engines), 2 * machine.tpc.engines}),
        "chain_cycles": next(rate.cycles for rate in RATES if rate.name == "chain"),
        "loads_accesses": next(rate.accesses for rate in RATES if rate.name == "loads"),
        "matmul": {
            "m": _MATMUL.m,
            "n": _MATMUL.n,
            "k": _MATMUL.k,
            "cycles": mme_cost(machine, _MATMUL).cycles,
        },
    }


def _near(engines: int) -> Iterator[int]:
    yield from range(max(1, engines - 4), engines + 5)


def _data(probes: tuple[Probe, ...]) -> bytes:
    """Inputs and expected outputs by `probe.tensor`; narrow floats as words, for NumPy files have no name for them."""
    arrays: dict[str, Any] = {}
    for p in probes:
        arrays |= {f"{p.name}.{t}": array.view(np.int32) for t, array in zip("abc", p.tensors(), strict=True)}
        arrays[f"{p.name}.expected"] = p.expected
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# --- what the glue says -----------------------------------------------------------------------------------------------


def _program(sizes: tuple[str, ...]) -> Program:
    return Program("probe", sizes, (), (), (), (), ())


def _probe_kernel(probe: Probe) -> GlueKernel:
    inputs = zip("abc", probe.tensors(), strict=True)
    tensors = [
        TensorParam(name, _DTYPES[str(array.dtype)], (_number(array.shape[1]), _number(array.shape[0])), False)
        for name, array in inputs
    ]
    out = TensorParam("out", DType.I32, (_number(LANES), _number(ROWS)), True)
    every = ((_ALL, _ALL),) * 4
    return GlueKernel(_guid(probe), _program(()), (*tensors, out), (), (IndexDim("m", _number(1), 1),), every)


def _rate_kernel(rate: Rate) -> GlueKernel:
    members = Size("M")
    rows = (_number(RATE_ROWS), _number(1), members)
    tensors = [TensorParam(name, DType.I32, (_number(LANES), n), False) for name, n in zip("abc", rows, strict=True)]
    out = TensorParam("out", DType.I32, (_number(LANES), members), True)
    accesses = (*((_ALL, _ALL),) * 3, (_ALL, _ROW))
    return GlueKernel(_guid(rate), _program(("M",)), (*tensors, out), (), (IndexDim("m", members, 1),), accesses)


def _number(value: int) -> Literal:
    return Literal(value, DType.I32)


_DTYPES = {"int32": DType.I32, "bfloat16": DType.BF16}
