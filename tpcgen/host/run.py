"""Runs one TPC-C file on the strict host device: the back end of `tpcgen run`, with or without glue.

Arguments as text come in three forms, read here: tensors in (`x.npy`, `x.npy:bf16`), tensors out (`y:bf16[4096,128]`,
`y.npy`) and parameters (`axis=0`). Shapes are in torch order.
"""

from __future__ import annotations

import json
import math
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.host import abi
from tpcgen.host.launch import Array, Launch
from tpcgen.host.strict import DEFAULT_TIMEOUT_S, Bare, Elsewhere, RunReport, Session
from tpcgen.program.dtypes import DType
from tpcgen.toolchain.host import build

_OUTPUT = re.compile(r"(?P<name>[^:\[\]]+)(?::(?P<dtype>\w+)(?:\[(?P<shape>[\d,\s]*)\])?)?")
_PARAMETER = re.compile(r"(?P<name>[A-Za-z_]\w*)(?::(?P<type>\w+))?=(?P<value>.+)")
_MAX_TRACED = 10000  # device.cpp
_MAX_MEMBERS = 2**31 - 1  # device.cpp
_MORE_DTYPES = {"i64": np.dtype(np.int64), "u32": np.dtype(np.uint32), "u16": np.dtype(np.uint16)}


@dataclass(frozen=True)
class KernelRun:
    """What to run. `params` are 32-bit words, packed: the node's parameter struct for glue, main's scalars without.

    `glue`: C++ sources, or one built shared object; empty for none, and then `index_space` (1 to 5 sizes, dim 0 first)
    says which members there are and any member may touch any element. `trace`: the member whose accesses are listed.
    """

    kernel: Path
    target: str
    inputs: tuple[Array, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    glue: tuple[Path, ...] = ()
    guid: str = ""
    index_space: tuple[int, ...] = ()
    params: bytes = b""
    include: tuple[Path, ...] = ()
    sanitize: bool = False
    trace: tuple[int, ...] | None = None
    seed: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S


def run_kernel_file(run: KernelRun) -> RunReport:
    """Builds and runs it. Raises ToolchainError if it does not compile, DiagnosticError (E530) for arguments that do
    not go together; whatever the kernel or the glue does is in the report."""
    shared = [path for path in run.glue if path.suffix == ".so"]
    _check(run, shared)
    with tempfile.TemporaryDirectory(prefix="tpcgen-run-") as out, Session() as session:
        library = build(
            [] if shared else run.glue,
            [run.kernel],
            target=run.target,
            out=Path(out),
            mode="strict",
            include=run.include,
            sanitize=run.sanitize,
        )
        launch = Launch(run.guid, run.target, run.inputs, run.outputs, run.params if run.glue else b"")
        bare = (
            None if run.glue else Bare(run.kernel.stem, run.index_space, struct.unpack(f"<{_words(run)}I", run.params))
        )
        elsewhere = Elsewhere(shared[0], run.kernel.stem) if shared else None
        report = session.run(
            library,
            launch,
            seed=run.seed,
            timeout_s=run.timeout_s,
            trace=run.trace,
            bare=bare,
            elsewhere=elsewhere,
        )
    space = (*report.index_space, *[1] * (abi.MAX_INDEX_SPACE_DIMS - len(report.index_space)))
    if run.trace and report.index_space and any(i >= n for i, n in zip(run.trace, space, strict=False)):
        sizes = "x".join(map(str, report.index_space))
        raise _wrong(f"--trace: the index space, {sizes}, has no member {run.trace}", "dim 0 comes first")
    return report


def _words(run: KernelRun) -> int:
    return len(run.params) // 4


def parse_index_space(text: str) -> tuple[int, ...]:
    """`4,64,1,1`, dim 0 first."""
    return _integers("--index-space", text, "such as --index-space 4,64,1,1")


def parse_member(text: str) -> tuple[int, ...]:
    """`member=3,0` or `3,0`, dim 0 first; dims left out are 0."""
    coordinates = _integers("--trace", text.removeprefix("member="), "such as --trace member=3,0")
    if len(coordinates) > abi.MAX_INDEX_SPACE_DIMS or min(coordinates) < 0:
        raise _wrong(f"--trace {text!r} is no member of an index space", "such as --trace member=3,0")
    return (*coordinates, *[0] * (abi.MAX_INDEX_SPACE_DIMS - len(coordinates)))


def _integers(option: str, text: str, hint: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise _wrong(f"{option} {text!r} is no list of whole numbers", hint) from None


def _check(run: KernelRun, shared: Sequence[Path]) -> None:
    if run.glue and not run.guid:
        raise _wrong("--glue needs --guid", "the glue says which kernel a GUID means")
    if run.glue and run.index_space:
        raise _wrong("--index-space goes without --glue", "with glue, the glue gives the index space")
    if shared and len(run.glue) > 1:
        raise _wrong("--glue takes one shared object or any number of C++ sources", "")
    if not run.glue and not 1 <= len(run.index_space) <= abi.MAX_INDEX_SPACE_DIMS:
        raise _wrong("without --glue, --index-space gives 1 to 5 sizes", "such as --index-space 4,64,1,1")
    if any(size < 0 for size in run.index_space):
        raise _wrong("--index-space has a negative size", "")
    if math.prod(run.index_space) >= _MAX_MEMBERS:
        raise _wrong(f"--index-space has {math.prod(run.index_space)} members", "the host runs them one by one")
    if missing := [path for path in run.glue if not path.is_file()]:
        raise _wrong(f"--glue: there is no file {missing[0]}", "C++ sources or one shared object")
    if not run.glue and _words(run) > abi.MAX_SCALAR_PARAMS:
        raise _wrong(f"main takes at most {abi.MAX_SCALAR_PARAMS} scalars", "")


def parse_dtype(text: str) -> np.dtype[Any]:
    """A dtype by its short name (f32, bf16, f8_143, i32, ...). DiagnosticError E530 if there is none such."""
    if text in _MORE_DTYPES:
        return _MORE_DTYPES[text]
    try:
        return DType(text).numpy
    except ValueError:
        names = ", ".join([*(d.value for d in DType), *_MORE_DTYPES])
        raise _wrong(f"{text!r} is no dtype", f"one of {names}") from None


def load_input(text: str) -> Array:
    """`FILE.npy` or `FILE.npy:DTYPE`: the latter converts, or reinterprets a file of bare bits of that size."""
    name, _, wanted = text.partition(":")
    try:
        loaded: object = np.load(Path(name), allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _wrong(f"--in {name}: {error}", "a file that numpy.save wrote") from None
    if not isinstance(loaded, np.ndarray):
        raise _wrong(f"--in {name}: an archive of arrays", "one array a file, as numpy.save writes it")
    array = _native(loaded)
    if not wanted:
        if array.dtype.kind == "V" and array.dtype.itemsize == 2:
            return _reinterpreted(array, np.dtype(ml_dtypes.bfloat16))
        if array.dtype == np.float64:
            return array.astype(np.float32)
        return array
    dtype = parse_dtype(wanted)
    if array.dtype.kind in "Vu" and array.dtype.itemsize == dtype.itemsize and array.dtype != dtype:
        return _reinterpreted(array, dtype)
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def _native(array: Any) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _reinterpreted(array: Array, dtype: np.dtype[Any]) -> Array:
    """The same bits as `dtype`: NumPy files keep no name for bf16 and fp8."""
    return np.ndarray(array.shape, dtype, bytearray(array.tobytes()))


def parse_output(text: str, inputs: Sequence[Array]) -> tuple[str, tuple[int, ...], np.dtype[Any]]:
    """`NAME:DTYPE[SIZES]`: file name, shape, dtype. What is left out is the first input's."""
    match = _OUTPUT.fullmatch(text.strip())
    if match is None:
        raise _wrong(f"--out {text!r} is not NAME:DTYPE[SIZES]", "such as y:bf16[4096,128] or y.npy")
    if not inputs and (match["dtype"] is None or match["shape"] is None):
        raise _wrong(f"--out {text!r} has no dtype or shape, and there is no input to take it from", "")
    dtype = parse_dtype(match["dtype"]) if match["dtype"] else inputs[0].dtype
    sizes = match["shape"]
    shape = inputs[0].shape if sizes is None else tuple(int(n) for n in sizes.split(",") if n.strip())
    name = match["name"] if match["name"].endswith(".npy") else match["name"] + ".npy"
    return name, shape, dtype


def pack_params(items: Sequence[str]) -> bytes:
    """`NAME=VALUE` or `NAME:TYPE=VALUE` in order, one 32-bit word each; TYPE is f32, i32 or u32. Without one a whole
    number is an int and any other a float. Names are for the reader."""
    words = b""
    for item in items:
        match = _PARAMETER.fullmatch(item.strip())
        if match is None or match["type"] not in (None, *_WORDS):
            raise _wrong(f"--param {item!r} is not NAME=VALUE", "such as axis=0, scale=0.125 or scale:f32=1")
        words += _word(item, match["type"] or ("i32" if _is_whole(match["value"]) else "f32"), match["value"])
    return words


def _is_whole(value: str) -> bool:
    try:
        int(value, 0)
    except ValueError:
        return False
    return True


# An int may also be written as its bits: 0xffffffff.
_WORDS: Mapping[str, Callable[[str], bytes]] = {
    "f32": lambda value: struct.pack("<f", float(value)),
    "i32": lambda value: struct.pack("<I" if int(value, 0) >= 0 else "<i", int(value, 0)),
    "u32": lambda value: struct.pack("<I", int(value, 0)),
}


def _word(item: str, type_: str, value: str) -> bytes:
    try:
        return _WORDS[type_](value)
    except (ValueError, OverflowError, struct.error):
        raise _wrong(f"--param {item!r}: {value} is no {type_} of 32 bits", "") from None


def _wrong(message: str, hint: str) -> DiagnosticError:
    return DiagnosticError((Diagnostic("E530", message, NOWHERE, hint),))


def write_outputs(report: RunReport, names: Sequence[str]) -> tuple[str, ...]:
    """Saves the outputs where any member ran, and gives the files' names. bf16 and fp8 keep their bits: NumPy reads
    them back as void types of 2 and 1 bytes, for `.view(ml_dtypes.bfloat16)`."""
    if not report.members:
        return ()
    for name, array in zip(names, report.outputs, strict=True):
        np.save(name, array)
    return tuple(names)


def to_json(report: RunReport, files: Sequence[str] = ()) -> str:
    """The report as one JSON object; `outputs` are the files they were written to."""
    fields = {name: value for name, value in vars(report).items() if name != "outputs"}
    lists = ("findings", "tensors", "accesses")
    data = {name: [asdict(entry) for entry in value] if name in lists else value for name, value in fields.items()}
    return json.dumps({"ok": report.ok, **data, "outputs": list(files)}, indent=2)


def describe(report: RunReport, files: Sequence[str] = ()) -> str:
    """A run in plain lines: what ran, how each tensor was used, local memory, findings with their numbers."""
    space = "x".join(map(str, report.index_space))
    lines = [
        f"{report.kernel or '(no kernel)'}: {report.members} members" + (f" of index space {space}" if space else "")
    ]
    if report.tensors:
        width = max(len(t.name) for t in report.tensors)
        for t in report.tensors:
            verb = "written" if t.name.startswith("output") else "read"
            lines.append(
                f"  {t.name:<{width}}  {t.accessed} of {t.elements} elements {verb} ({t.coverage:.1%}), "
                f"{t.loads} loads, {t.stores} stores, {t.padded} lanes padded, {t.dropped} dropped"
            )
        lookup = f"; {report.lookup} uses LOOKUP" if report.lookup else ""
        lines.append(f"  local memory: {report.vlm_bytes} bytes of VLM, {report.slm_bytes} of SLM{lookup}")
    for a in report.accesses:
        at = ",".join(map(str, a.coordinate))
        lines.append(f"  {a.what:<9} tensor {a.tensor} at ({at}), {a.lanes} x {a.element_bytes} bytes")
    if len(report.accesses) == _MAX_TRACED:
        lines.append(f"  and maybe more: the first {_MAX_TRACED} accesses are listed")
    if report.printed.strip():
        lines.append("printed:")
        lines += [f"  {line}" for line in report.printed.rstrip().splitlines()]
    if report.glue_code:
        lines.append(f"the glue's code {report.glue_code}: {_glue_code(report.glue_code)}")
    lines += [str(finding) for finding in report.findings]
    for kind, count in (report.counts or {}).items():
        listed = sum(finding.kind == kind for finding in report.findings)
        if count > listed:
            lines.append(f"  and {count - listed} more of kind {kind}")
    lines += [f"wrote {file}" for file in files]
    lines.append("no findings" if not report.findings else f"{len(report.findings)} findings listed")
    return "\n".join(lines)


def _glue_code(code: int) -> str:
    return abi.GlueCode(code).name if code in abi.GlueCode._value2member_map_ else "not one of the interface"
