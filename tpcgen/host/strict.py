"""Strict runs: a kernel's members one by one, in shuffled order, every access audited, in a child process with limits.

The child is a small executable (device.cpp) that serves any number of launches; each runs in a fork of it. Tensors
travel through a file in shared memory. Nothing a kernel or its glue does reaches this process: endless loops, wild
pointers and aborts come back as findings.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tpcgen.host import abi
from tpcgen.host.glue import TensorSpec
from tpcgen.host.launch import Array, Launch
from tpcgen.toolchain.host import HostLibrary, build_device

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MEMORY_LIMIT = 4 << 30
_OURS = Path(__file__).parent
_PAGE = 4096
_PHASES = (
    "loading the library",
    "in the glue",
    "running the kernel",
    "running the kernel in pieces of several members",
    "checking the outputs",
)
_PROGRESS = struct.Struct("=Q5iIIxxxxQI")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a run, in TPC terms: `member` of the index space, `coordinate` with dim 0 first.

    kind: access_pattern, double_write, unwritten, local_memory, uninitialised_local, uninitialised_global, raw_hazard,
    cross_member_read, store_to_input, wild_pointer, element_size, out_of_memory_bounds, bad_tensor,
    private_table, glue, glue_pattern, signature, piece, timeout, crash, memory, device; all_nan is a warning.
    """

    kind: str
    message: str
    kernel: str = ""
    member: tuple[int, ...] | None = None
    tensor: int | None = None
    tensor_name: str = ""
    coordinate: tuple[int, ...] | None = None
    severity: str = "error"

    def __str__(self) -> str:
        who = self.kernel or "the launch"
        where = f", member {self.member}" if self.member is not None else ""
        return f"{self.severity}[{self.kind}] {who}{where}: {self.message}"


@dataclass(frozen=True, slots=True)
class TensorUse:
    """How a run used one tensor. `accessed`: distinct elements read (inputs) or written (outputs) of `elements`.

    `padded` counts lanes read outside the tensor, `dropped` lanes written outside it.
    """

    name: str
    elements: int
    accessed: int
    loads: int
    stores: int
    padded: int
    dropped: int

    @property
    def coverage(self) -> float:
        return self.accessed / self.elements if self.elements else 1.0


@dataclass(frozen=True, slots=True)
class Access:
    """One access of the traced member, in program order."""

    what: str
    tensor: int
    coordinate: tuple[int, ...]
    lanes: int
    element_bytes: int


@dataclass(frozen=True)
class RunReport:
    """What a strict run did. `outputs` in torch order; elements nobody wrote are all-ones bit patterns (NaN).

    `counts` has the number of findings per kind, beyond those listed. `printed`: what kernel and glue wrote to
    standard output and error. `glue_code`: InstantiateTpcKernel's code if it refused, else 0.
    """

    outputs: tuple[Array, ...]
    findings: tuple[Finding, ...]
    kernel: str = ""
    index_space: tuple[int, ...] = ()
    members: int = 0
    tensors: tuple[TensorUse, ...] = ()
    vlm_bytes: int = 0
    slm_bytes: int = 0
    lookup: str = ""
    counts: Mapping[str, int] | None = None
    accesses: tuple[Access, ...] = ()
    printed: str = ""
    glue_code: int = 0

    @property
    def ok(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def padded_reads(self) -> int:
        return sum(tensor.padded for tensor in self.tensors)

    @property
    def dropped_writes(self) -> int:
        return sum(tensor.dropped for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Bare:
    """How to run a kernel without glue: its name, the index space and the bits of its scalar arguments."""

    kernel: str
    index_space: tuple[int, ...]
    scalars: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Glue in another shared object, the vendor's say, whose ELF for the GUID stands for this kernel."""

    library: Path
    kernel: str


class Session:
    """A device process for any number of strict runs. Use as a context manager; not for several threads at once."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        parent = shared if os.access(shared, os.W_OK) else None
        self._directory = tempfile.TemporaryDirectory(prefix="tpcgen-", dir=parent)
        self._devices: dict[bool, subprocess.Popen[str]] = {}
        self._serial = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the device process and removes the shared files."""
        for device in self._devices.values():
            assert device.stdin is not None and device.stdout is not None
            device.stdin.close()
            device.stdout.close()
            try:
                device.wait(timeout=5)
            except subprocess.TimeoutExpired:
                device.kill()
                device.wait()
        self._devices.clear()
        self._directory.cleanup()

    def run(
        self,
        library: HostLibrary,
        launch: Launch,
        *,
        seed: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        findings_per_kind: int = 10,
        trace: Sequence[int] | None = None,
        bare: Bare | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> RunReport:
        """Runs one launch. Never raises for what the kernel or glue does; ValueError for a launch TPC cannot express.

        `memory_limit` in bytes of address space. `trace`: the member whose accesses are listed. `bare`: run this kernel
        without asking glue; every access pattern then is "any element". `elsewhere`: ask this glue, run this kernel.
        """
        if library.mode != "strict":
            raise ValueError("a strict run needs a library built with mode='strict'")
        self._serial += 1
        path = Path(self._directory.name) / f"launch{self._serial}"
        layout = _Layout.of(launch)
        fields = [
            f"library {library.path.resolve()}",
            f"shared {path}",
            f"device {abi.DEVICE_IDS[launch.target]}",
            f"slm {abi.SLM_BYTES[launch.target]}",
            f"seed {seed}",
            f"cap {findings_per_kind}",
            f"timeout_ms {max(1, round(timeout_s * 1000))}",
            f"memory_mb {max(1, memory_limit >> 20)}",
            f"sanitize {int(library.sanitize)}",
            *(layout.fields()),
        ]
        if launch.params:
            fields.append(f"params {launch.params.hex()}")
        if bare is None:
            fields.append(f"guid {launch.guid}")
        else:
            fields.append(f"kernel {bare.kernel}")
            fields.append("geometry " + " ".join(map(str, bare.index_space)))
            fields += [f"scalar {bits & 0xFFFFFFFF}" for bits in bare.scalars]
        if elsewhere is not None:
            fields += [f"glue {elsewhere.library.resolve()}", f"kernel {elsewhere.kernel}"]
        if trace is not None:
            fields.append("trace " + " ".join(map(str, trace)))
        try:
            with path.open("w+b") as file:
                file.truncate(layout.total)
                with mmap.mmap(file.fileno(), layout.total) as memory:
                    layout.fill(memory, launch)
                    events = self._exchange(library.sanitize, fields)
                    printed = _read_text(path.with_suffix(".log"))
                    return _report(events, layout.read_outputs(memory, launch), memory, printed, timeout_s, launch)
        finally:
            path.unlink(missing_ok=True)
            path.with_suffix(".log").unlink(missing_ok=True)

    def _exchange(self, sanitize: bool, fields: Iterable[str]) -> list[dict[str, Any]]:
        device = self._device(sanitize)
        assert device.stdin is not None and device.stdout is not None
        events: list[dict[str, Any]] = []
        try:
            device.stdin.write("\n".join([*fields, "run"]) + "\n")
            device.stdin.flush()
            for line in device.stdout:
                events.append(json.loads(line))
                if events[-1]["event"] == "end":
                    return events
        except (OSError, ValueError):
            pass
        device.kill()
        device.wait()
        del self._devices[sanitize]
        events.append({"event": "end", "lost": True})
        return events

    def _device(self, sanitize: bool) -> subprocess.Popen[str]:
        device = self._devices.get(sanitize)
        if device is None or device.poll() is not None:
            executable = build_device(sanitize=sanitize)
            environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"}
            device = subprocess.Popen(
                [str(executable)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            self._devices[sanitize] = device
        return device


def run_strict(
    library: HostLibrary,
    launch: Launch,
    *,
    seed: int = 0,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
) -> RunReport:
    """One strict run in a device process of its own; see Session for many."""
    with Session() as session:
        return session.run(library, launch, seed=seed, timeout_s=timeout_s, memory_limit=memory_limit)


@dataclass(frozen=True, slots=True)
class _Placed:
    spec: TensorSpec
    is_output: bool
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where each tensor lies in the shared file: page 0 is the device's progress, every tensor starts a page."""

    tensors: tuple[_Placed, ...]
    total: int

    @classmethod
    def of(cls, launch: Launch) -> _Layout:
        placed: list[_Placed] = []
        offset = _PAGE
        specs = [(s, False) for s in launch.input_specs()] + [(s, True) for s in launch.output_specs()]
        for spec, is_output in specs:
            size = int(np.prod(spec.sizes, dtype=np.int64)) * spec.dtype.itemsize
            placed.append(_Placed(spec, is_output, offset, size))
            offset += max(_PAGE, (size + _PAGE - 1) // _PAGE * _PAGE)
        return cls(tuple(placed), offset)

    def fields(self) -> Iterable[str]:
        for t in self.tensors:
            sizes = " ".join(map(str, t.spec.sizes))
            role = "output" if t.is_output else "input"
            yield f"{role} {t.offset} {abi.data_type(t.spec.dtype)} {len(t.spec.sizes)} {sizes}"

    def fill(self, memory: mmap.mmap, launch: Launch) -> None:
        view = np.frombuffer(memory, dtype=np.uint8)
        for placed, array in zip(self.tensors, launch.inputs, strict=False):
            contiguous = np.ascontiguousarray(array)
            ctypes.memmove(view.ctypes.data + placed.offset, contiguous.ctypes.data, placed.bytes)

    def read_outputs(self, memory: mmap.mmap, launch: Launch) -> tuple[Array, ...]:
        outputs: list[Array] = []
        for placed, (shape, dtype) in zip(self.tensors[len(launch.inputs) :], launch.outputs, strict=True):
            data = memory[placed.offset : placed.offset + placed.bytes]
            outputs.append(np.ndarray(shape, dtype, bytearray(data)))
        return tuple(outputs)


def _report(
    events: Sequence[Mapping[str, Any]],
    outputs: tuple[Array, ...],
    memory: mmap.mmap,
    printed: str,
    timeout_s: float,
    launch: Launch,
) -> RunReport:
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    started = by_kind.get("instantiated", [{}])[0]
    kernel = str(started.get("kernel", ""))
    findings = [_finding(event) for event in by_kind.get("finding", ())]
    progress: tuple[int, ...] = _PROGRESS.unpack_from(memory, 0)
    done, member, (phase, in_member, fault) = progress[0], progress[1:6], progress[6:9]
    end = by_kind["end"][0]
    if ending := _ending(end, _PHASES[min(phase, 4)], fault, printed, timeout_s, launch):
        at = member if in_member else None
        findings.append(Finding(ending[0], ending[1], kernel or launch.guid, at))
    local = by_kind.get("memory", [{}])[0]
    return RunReport(
        outputs=outputs,
        findings=tuple(findings),
        kernel=kernel,
        index_space=tuple(started.get("geometry", ())),
        members=done,
        tensors=tuple(_use(event) for event in by_kind.get("tensor", ())),
        vlm_bytes=int(local.get("vlm", 0)),
        slm_bytes=int(local.get("slm", 0)),
        lookup=str(local.get("lookup", "")),
        counts={event["kind"]: int(event["count"]) for event in by_kind.get("count", ())},
        accesses=tuple(
            Access(e["what"], e["tensor"], tuple(e["coordinate"]), e["lanes"], e["bytes"])
            for e in by_kind.get("access", ())
        ),
        printed=printed,
        glue_code=int(by_kind.get("glue_code", [{"code": 0}])[0]["code"]),
    )


def _ending(
    end: Mapping[str, Any], phase: str, fault: int, printed: str, timeout_s: float, launch: Launch
) -> tuple[str, str] | None:
    """Kind and message if the child did not end by itself."""
    if end.get("lost"):
        return "device", "the device process went away"
    if end["timed_out"]:
        return "timeout", f"still {phase} after {timeout_s:g} s: stopped"
    if complaint := _complaint(printed):
        return "crash", f"{complaint} while {phase}"
    if end["signal"]:
        number = int(end["signal"])
        name = signal.Signals(number).name
        at = f" at address {fault:#x}" if number in (signal.SIGSEGV, signal.SIGBUS) else ""
        return "crash", f"{name}{at} while {phase}"
    if end["exit"]:
        return "crash", f"the child left with status {end['exit']} while {phase}"
    return None


_ASAN = re.compile(r"ERROR: (AddressSanitizer: [\w-]+)")
_FRAME = re.compile(r"^ *#\d+ 0x\w+ in .* (?P<file>\S+):(?P<line>\d+)(?::\d+)?$", re.MULTILINE)


def _complaint(printed: str) -> str:
    """What a sanitizer said, and the first line outside our own sources that led there; "" if none spoke."""
    if error := _ASAN.search(printed):
        frames = (frame for frame in _FRAME.finditer(printed) if not Path(frame["file"]).is_relative_to(_OURS))
        at = next((f" at {frame['file']}:{frame['line']}" for frame in frames), "")
        return error[1] + at
    return next((line.strip() for line in printed.splitlines() if "runtime error:" in line), "")


def _finding(event: Mapping[str, Any]) -> Finding:
    member, coordinate = event.get("member"), event.get("coordinate")
    return Finding(
        kind=event["kind"],
        message=event["message"],
        kernel=event["kernel"],
        member=tuple(member) if member is not None else None,
        tensor=event.get("tensor"),
        tensor_name=event.get("tensor_name", ""),
        coordinate=tuple(coordinate) if coordinate is not None else None,
        severity=event["severity"],
    )


def _use(event: Mapping[str, Any]) -> TensorUse:
    return TensorUse(
        event["name"],
        event["elements"],
        event["accessed"],
        event["loads"],
        event["stores"],
        event["padded"],
        event["dropped"],
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[: 1 << 20]
    except OSError:
        return ""
