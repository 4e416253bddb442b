"""Builds TPC-C kernels and their glue for the host, with g++, clang++ or the compiler in the `ziglang` wheel.

A kernel's text is compiled as it is: a generated wrapper includes our TPC-C headers, then the kernel, and exports it.
Everything is cached by content: the headers' precompiled form and objects in tpcgen's cache folder, the library in the
directory the caller names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from tpcgen import cache
from tpcgen.diagnostics import NOWHERE, Diagnostic, Label, Span
from tpcgen.toolchain.errors import ToolchainError
from tpcgen.toolchain.scan import POST_INCREMENT, Function, Scan, scan
from tpcgen.version import ROOT

Mode = Literal["strict", "fast"]
_Explain = Callable[[str], tuple[Diagnostic, ...]]
INCLUDE = ROOT / "host" / "include"
DEVICE_SOURCE = INCLUDE.parent / "device.cpp"
ELF_MARK = "TPCGEN-HOST-KERNEL:"

_MAX_DIAGNOSTICS = 20
_COMPILE_TIMEOUT_S = 300

# Predefined macros of tpc-clang (clang/lib/Basic/Targets/TPC.cpp); SLM bytes from the same file.
# gaudi3 has no open compiler: its kernels are held to the subset shared with gaudi2.
_TARGET_MACROS: Mapping[str, tuple[str, ...]] = {
    "gaudi": ("__gaudi__", "__gaudi_plus__", "MAX_SLM=1024"),
    "gaudi2": ("__gaudi2__", "__gaudi_plus__", "__greco_plus__", "__gaudi2_plus__", "MAX_SLM=16384"),
    "gaudi3": ("__gaudi2__", "__gaudi_plus__", "__greco_plus__", "__gaudi2_plus__", "MAX_SLM=16384"),
}
TARGETS = tuple(_TARGET_MACROS)
_COMMON_MACROS = ("__TPC__", "MAX_VLM=81920", "MAX_TENSORS=16", "TPC_HOST=1")


@dataclass(frozen=True, slots=True)
class HostLibrary:
    """Kernels and glue of one target in a shared object.

    `strict` libraries call the auditing device for every access and run only in its child process; `fast` ones are
    unaudited and run in this process. `sanitize`: built with ASan and UBSan (strict only).
    """

    path: Path
    target: str
    mode: Mode
    sanitize: bool = False


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler: the command, its family and a text that changes when the compiler or the CPU does."""

    command: tuple[str, ...]
    family: Literal["gcc", "clang"]
    identity: str


def find_compiler() -> Compiler:
    """The host compiler: `$TPCGEN_CXX`, else g++, clang++ on PATH, else `python -m ziglang c++`.

    Raises ToolchainError (E600) if there is none.
    """
    candidates: list[tuple[str, ...]] = []
    if chosen := os.environ.get("TPCGEN_CXX"):
        candidates = [tuple(chosen.split())]
    else:
        candidates = [(path,) for name in ("g++", "clang++") if (path := shutil.which(name))]
        if not candidates and importlib.util.find_spec("ziglang") is not None:
            candidates = [(sys.executable, "-m", "ziglang", "c++")]
    for command in candidates:
        if compiler := _identify(command):
            return compiler
    named = f"$TPCGEN_CXX is {' '.join(candidates[0])!r}, which does not run" if candidates else "none is on PATH"
    raise _failure(
        Diagnostic(
            "E600",
            f"no host C++ compiler: {named}",
            NOWHERE,
            "install g++ 12 or newer, clang++ 14 or newer, or `pip install ziglang`",
        )
    )


@lru_cache(maxsize=8)
def _identify(command: tuple[str, ...]) -> Compiler | None:
    try:
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    family = "clang" if "clang" in version else "gcc"
    return Compiler(command, family, f"{command}\n{version}\n{_cpu_identity()}")


def _cpu_identity() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def cache_dir() -> Path:
    """Where objects, precompiled headers and the device are kept between runs."""
    return cache.folder() / "host"


def build(
    glue: Sequence[Path],
    kernels: Sequence[Path],
    *,
    target: str,
    out: Path,
    mode: Mode,
    include: Sequence[Path] = (),
    sanitize: bool = False,
) -> HostLibrary:
    """Compiles `kernels` (TPC-C, one per file; the file's stem is the kernel's name) and `glue` (C++) into one library.

    `out` is a directory; the library's name carries a hash of everything that went into it, so that an unchanged build
    returns at once. `include`: further directories for `#include`. Where `$TPC_KERNEL_LIB_INTERFACE` names a vendor
    header, glue is compiled against it. Raises ToolchainError with the compiler's messages (E600 to E606).
    """
    if target not in _TARGET_MACROS:
        raise ValueError(f"unknown target {target!r}, expected one of {', '.join(TARGETS)}")
    if sanitize and mode == "fast":
        raise ValueError("sanitizers are for strict libraries, which run in a child process")
    compiler = find_compiler()
    flags = _flags(compiler, target, mode, include, sanitize)
    units = [_kernel_unit(path, flags) for path in kernels]
    units += [_Unit(path.resolve(), "glue", (*flags, *_glue_flags(path))) for path in glue]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        device = pool.submit(build_device, sanitize=sanitize) if mode == "strict" else None
        objects = list(pool.map(partial(_compile, compiler), units))
        if device is not None:
            device.result()
    library = out / f"libtpc_{target}_{mode}{'_sanitize' if sanitize else ''}_{_digest(*objects)[:16]}.so"
    if not library.exists():
        out.mkdir(parents=True, exist_ok=True)
        _link(compiler, [object_ for _, object_ in objects], library, sanitize)
    return HostLibrary(library, target, mode, sanitize)


def build_device(*, sanitize: bool = False) -> Path:
    """The strict device (host/device.cpp) as an executable, compiled once and cached."""
    compiler = find_compiler()
    flags = (*_BASE_FLAGS, "-O1", f"-I{INCLUDE}", *(_SANITIZE_FLAGS if sanitize else ()))
    key = _digest(compiler.identity, flags, _file_hash(DEVICE_SOURCE), [_file_hash(h) for h in _device_headers()])
    executable = cache_dir() / "bin" / f"device-{key[:16]}"
    if not executable.exists():
        with _Atomic(executable) as temporary:
            command = [*compiler.command, *flags, "-o", str(temporary), str(DEVICE_SOURCE), "-ldl", "-rdynamic"]
            _run(command, lambda output: _compile_errors(output, DEVICE_SOURCE, "E606"))
    return executable


def _device_headers() -> list[Path]:
    return [INCLUDE / "tpc" / "runtime.h", INCLUDE / "tpc" / "engine.h", INCLUDE / "tpc_kernel_lib_interface.h"]


# --- translation units ------------------------------------------------------------------------------------------------

# Device integers wrap, lanes are reinterpreted through pointers, and a product is fused with a sum only where the text
# says mac.
_BASE_FLAGS = (
    "-std=c++20",
    "-fPIC",
    "-fno-strict-aliasing",
    "-fwrapv",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-finite-loops",
    "-fno-delete-null-pointer-checks",
    "-fno-operator-names",
    "-march=native",
)
_GCC_FLAGS = ("-fno-gnu-unique", "-fno-gcse", "-fno-tree-pre", "-fno-code-hoisting")
# ASan finds what UBSan's checks of every pointer would; without those a kernel compiles several times faster.
_SANITIZE_FLAGS = (
    "-fsanitize=address,bounds,shift,integer-divide-by-zero,unreachable,return,vla-bound,bool,enum",
    "-fno-sanitize-recover=undefined",
    "-g1",
    "-fno-omit-frame-pointer",
)


@dataclass(frozen=True, slots=True)
class _Unit:
    """One translation unit: a kernel, compiled through a wrapper, or a glue file as it is."""

    source: Path
    kind: Literal["kernel", "glue"]
    flags: tuple[str, ...]


def _flags(compiler: Compiler, target: str, mode: Mode, include: Sequence[Path], sanitize: bool) -> tuple[str, ...]:
    family = "gaudi" if target == "gaudi" else "gaudi2"
    ours = (f"TPC_TARGET_{family}", f"TPCGEN_STRICT={int(mode == 'strict')}")
    macros = (*_COMMON_MACROS, *_TARGET_MACROS[target], *ours)
    # Strict kernels are built far more often than their run time matters: the device's own code is most of that, and
    # -O0 builds in two thirds of the time of -Og. Fast ones run as fast with -O2 as with -O3, and without searches for
    # redundancies, which take g++ most of its time on a long masked kernel.
    optimise = "-O2" if mode == "fast" else "-O0"
    return (
        *_BASE_FLAGS,
        optimise,
        *(_GCC_FLAGS if compiler.family == "gcc" else ()),
        *(_SANITIZE_FLAGS if sanitize else ()),
        *(f"-D{macro}" for macro in macros),
        f"-I{INCLUDE}",
        *(f"-I{directory}" for directory in include),
    )


_KERNEL_FLAGS = ("-fvisibility=hidden", "-Wno-narrowing", "-Werror=vla")


def _glue_flags(path: Path) -> tuple[str, ...]:
    vendor = os.environ.get("TPC_KERNEL_LIB_INTERFACE")
    header = (f"-I{Path(vendor).parent}",) if vendor and Path(vendor).exists() else ()
    return (*header, f"-I{path.parent}", "-w")


def _kernel_unit(path: Path, flags: tuple[str, ...]) -> _Unit:
    where = Span(str(path), 1, 1, 1, 1)
    if not re.fullmatch(r"[A-Za-z_]\w*", path.stem):
        hint = "the file's stem is the kernel's name: letters, digits and underscores"
        raise _failure(Diagnostic("E605", f"kernel file {path.name!r} does not name a kernel", where, hint))
    if not path.exists():
        raise _failure(Diagnostic("E605", f"no such kernel file: {path}", where))
    return _Unit(path.absolute(), "kernel", (*flags, *_KERNEL_FLAGS))


def _scan_kernel(compiler: Compiler, unit: _Unit) -> Scan:
    """Local variables of the kernel; raises for what tpc-clang refuses and C++ would not: recursion, operations on
    pointers to global memory."""
    preprocess = [*compiler.command, *(f for f in unit.flags if f.startswith(("-D", "-I"))), "-E", "-x", "c++"]
    found = scan(_run([*preprocess, str(unit.source)], lambda output: _compile_errors(output, unit.source, "E601")))
    if cycle := found.recursion():
        first = cycle[0]
        names = " -> ".join([*(f.name for f in cycle), first.name])
        labels = tuple(Label(_line(f), f"{f.name} is part of the cycle") for f in cycle[1:])
        hint = "tpc-clang inlines every function; write a loop"
        raise _failure(Diagnostic("E604", f"recursion: {names}", _line(first), hint, labels))
    misuses = [m for m in found.misuses if m.what != POST_INCREMENT or "-DTPC_TARGET_gaudi" in unit.flags]
    if misuses:
        hint = "gen_addr makes the address of any element"
        raise _failure(
            *(
                Diagnostic("E601", f"{m.name} points to global memory: {m.what}", _at(m.file, m.line), hint)
                for m in misuses[:_MAX_DIAGNOSTICS]
            )
        )
    return found


def _line(function: Function) -> Span:
    return _at(function.file, function.line)


def _at(file: str, line: int) -> Span:
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return Span(str(shown), line, 1, line, 1)


def _wrapper(path: Path, found: Scan) -> str:
    """The translation unit round the kernel's text: a namespace of its own, its tables, the stub of its ELF."""
    name = path.stem
    names = {variable.name: variable for variable in found.locals}
    rows = "\n".join(
        f'    {{"{v.name}", (void*)&{v.name}, sizeof({v.name}), '
        f"tpcgen::rt::detail::in_vlm<std::remove_cv_t<decltype({v.name})>>::value, {int(v.initialised)}}},"
        for v in names.values()
    )
    table = f"const tpcgen::rt::Local tpcgen_locals[] = {{\n{rows}\n}};" if names else ""
    locals_ = "tpcgen_locals" if names else "nullptr"
    stub = _elf_stub(name).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assembler = f'asm(".pushsection .rodata\\n{stub}.popsection\\n");'
    return f"""#include <tpc/tpc.h>
#include <tpc/engine.h>
namespace {{
#define main tpcgen_main
#include "{path.name}"
#undef main
{table}
void tpcgen_run(const uint32_t* scalars) {{ tpcgen::rt::detail::call(tpcgen_main, scalars); }}
void tpcgen_execute(const tpcgen::rt::Launch* launch) {{ tpcgen::rt::detail::execute(*launch, tpcgen_run); }}
using TpcgenSignature = decltype(tpcgen::rt::detail::signature_of(tpcgen_main));
}}
extern "C" __attribute__((visibility("default"))) const tpcgen::rt::Kernel tpcgen_kernel_{name} = {{
    "{name}", tpcgen_run, tpcgen_execute, TpcgenSignature::tensors, TpcgenSignature::scalars,
    {locals_}, {len(names)}, tpcgen::rt::kRuntimeAbi, TPCGEN_STRICT, &tpcgen::rt::context,
}};
{assembler}
"""


# --- compiling, with a cache ------------------------------------------------------------------------------------------


def _compile(compiler: Compiler, unit: _Unit) -> tuple[str, Path]:
    """The unit's object and a digest of all that went into it; recorded dependencies tell whether it is fresh."""
    source = unit.source
    ourselves = [_file_hash(Path(__file__)), _file_hash(Path(__file__).with_name("scan.py"))]
    key = _digest(compiler.identity, unit.flags, ourselves, _identity_of(unit))[:32]
    record = cache_dir() / "objects" / f"{key}.json"
    headers = [_file_hash(h) for h in _headers()]
    if fresh := _cached_object(record, headers):
        return fresh
    with tempfile.TemporaryDirectory() as scratch:
        compiled, depfile = Path(scratch) / "unit.o", Path(scratch) / "unit.d"
        text, header = source, ()
        if unit.kind == "kernel":
            text = Path(scratch) / f"{source.stem}.cpp"
            text.write_text(_wrapper(source, _scan_kernel(compiler, unit)), encoding="utf-8")
            # The folder is a flag: not every path can be written in an #include.
            header = (*_header_flags(compiler, unit), "-iquote", str(source.parent))
        arguments = [*unit.flags, *header, "-MMD", "-MF", str(depfile), "-c", "-o", str(compiled)]
        code = "E601" if unit.kind == "kernel" else "E602"
        _run([*compiler.command, *arguments, str(text)], lambda output: _compile_errors(output, source, code))
        used = {path for path in _dependencies(depfile) if path != text and not path.is_relative_to(cache_dir())}
        dependencies = {str(path): _file_hash(path) for path in sorted(used - {source})}
        digest = _digest(key, dependencies, headers)
        stored = record.with_name(f"{digest[:32]}.o")
        with _Atomic(stored) as temporary:
            shutil.copyfile(compiled, temporary)
    entry = {"digest": digest, "object": stored.name, "dependencies": dependencies, "headers": headers}
    with _Atomic(record) as temporary:
        temporary.write_text(json.dumps(entry))
    return digest, stored


def _identity_of(unit: _Unit) -> tuple[str, str]:
    """What an object is of: its text, and where that lies if the object depends on it."""
    return (unit.source.name if _same_anywhere(unit) else str(unit.source), _file_hash(unit.source))


def _same_anywhere(unit: _Unit) -> bool:
    """A kernel that includes nothing, which could be found elsewhere from another folder. A sanitizer prints paths."""
    if unit.kind != "kernel" or {*_SANITIZE_FLAGS} & {*unit.flags}:
        return False
    return re.search(rb"(#|%:)\s*include", unit.source.read_bytes()) is None


def _cached_object(record: Path, headers: Sequence[str]) -> tuple[str, Path] | None:
    try:
        entry = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    stored = record.with_name(entry["object"])
    fresh = (
        stored.exists()
        and entry["headers"] == list(headers)
        and all(_file_hash(Path(path)) == hash_ for path, hash_ in entry["dependencies"].items())
    )
    return (entry["digest"], stored) if fresh else None


def _headers() -> list[Path]:
    return sorted(INCLUDE.rglob("*.h"))


_header_lock = threading.Lock()


def _header_flags(compiler: Compiler, unit: _Unit) -> tuple[str, ...]:
    """Flags that take our headers in their precompiled form, which is made here if these flags have none yet."""
    key = _digest(compiler.identity, unit.flags, [_file_hash(h) for h in _headers()])[:32]
    header = cache_dir() / "pch" / key / "tpc_pch.h"
    compiled = header.with_name("tpc_pch.h.gch" if compiler.family == "gcc" else "tpc_pch.h.pch")
    with _header_lock:
        if not compiled.exists():
            with _Atomic(header) as temporary:
                temporary.write_text("#include <tpc/tpc.h>\n#include <tpc/engine.h>\n")
            with _Atomic(compiled) as temporary:
                command = [*compiler.command, *unit.flags, "-x", "c++-header", "-o", str(temporary), str(header)]
                _run(command, lambda output: _compile_errors(output, header, "E606"))
    if compiler.family == "gcc":
        return ("-include", str(header))
    return ("-include-pch", str(compiled))


def _link(compiler: Compiler, objects: Sequence[Path], library: Path, sanitize: bool) -> None:
    """Links the library. Kernels that the glue names and nobody gave become ELFs without a kernel: a third-party glue
    library names those of every device, and asking for one of them is a finding of the run."""
    shared = ["-shared", "-Wl,-Bsymbolic", *(("-fsanitize=address,undefined",) if sanitize else ("-Wl,-z,defs",))]
    with _Atomic(library) as temporary, tempfile.TemporaryDirectory() as scratch:
        stubs = Path(scratch) / "stubs.s"
        text = "".join(_elf_stub(name) for name in _missing_kernels(objects))
        stubs.write_text(text + '.section .note.GNU-stack,"",@progbits\n')
        command = [*compiler.command, *shared, "-o", str(temporary), *map(str, objects), str(stubs)]
        _run(command, _link_errors)


_ELF_SYMBOL = re.compile(rb"\0_binary___(\w+)_o_start(?=\0)")


def _missing_kernels(objects: Sequence[Path]) -> list[str]:
    """Kernels whose ELF symbols some object names and no object defines."""
    named: set[bytes] = set()
    defined: set[bytes] = set()
    for path in objects:
        content = path.read_bytes()
        named |= set(_ELF_SYMBOL.findall(content))
        defined |= set(re.findall(rb"\0tpcgen_kernel_(\w+)(?=\0)", content))
    return sorted(name.decode() for name in named - defined)


def _elf_stub(name: str) -> str:
    """Assembler text of the bytes that stand for a kernel's ELF on the host: they carry the kernel's name."""
    symbol = f"_binary___{name}_o"
    return (
        f".section .rodata\n.globl {symbol}_start\n{symbol}_start:\n"
        f'.asciz "{ELF_MARK}{name}"\n.globl {symbol}_end\n{symbol}_end:\n.byte 0\n'
    )


def _link_errors(output: str) -> tuple[Diagnostic, ...]:
    lines = [line for line in output.splitlines() if "collect2" not in line and line.strip()]
    return (Diagnostic("E603", "linking the host library failed: " + "; ".join(lines[:4]), NOWHERE),)


# --- running compilers ------------------------------------------------------------------------------------------------


def _run(command: Sequence[str], explain: _Explain) -> str:
    """Standard output of a compiler run; what `explain` makes of its standard error is raised if it fails."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_COMPILE_TIMEOUT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        message = f"{command[0]} did not finish in {_COMPILE_TIMEOUT_S} s"
        raise _failure(Diagnostic("E606", message, NOWHERE)) from None
    except OSError as error:
        raise _failure(Diagnostic("E606", f"{command[0]} could not be run: {error}", NOWHERE)) from None
    if result.returncode != 0:
        raise _failure(*explain(result.stderr))
    return result.stdout


_ERROR = re.compile(r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?:(?P<column>\d+):)? (?:fatal )?error: (?P<text>.*)$")
_CONTEXT = re.compile(r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?:(?P<column>\d+):)?\s+(?:required from|in )")


def _compile_errors(output: str, source: Path, code: str) -> tuple[Diagnostic, ...]:
    """The errors of g++ or clang++. One inside our headers is shown at the kernel's line that led there."""
    found: list[Diagnostic] = []
    user: Span | None = None
    for line in output.splitlines():
        if (context := _CONTEXT.match(line)) and not _is_ours(context["file"]):
            user = _span(context)
        error = _ERROR.match(line)
        if error is None:
            continue
        where = _span(error)
        text = _readable(error["text"])
        if _is_ours(error["file"]) and user is not None:
            found.append(Diagnostic(code, text, user, labels=(Label(where, "raised here"),)))
        else:
            found.append(Diagnostic(code, text, where))
        user = None
    if not found:
        tail = "; ".join(output.strip().splitlines()[-3:]) or "no message"
        found.append(Diagnostic("E606", f"the host compiler failed on {source.name}: {tail}", NOWHERE))
    return tuple(found[:_MAX_DIAGNOSTICS])


# Names in our headers that stand for a rule of TPC-C, and the rule.
_RULES = {
    "no_lane_access_except_in_printf": "lanes of a vector cannot be accessed, except in printf: "
    "v_*_shuffle and v_*_mov_* move lanes, memory gives one to a scalar",
    "not_initialised_with_braces": "a vector is not initialised with braces, except {0}: write = 1.0f",
    "elements_0_to_4": "an int5 has elements 0 to 4",
}


def _readable(text: str) -> str:
    rule = next((rule for name, rule in _RULES.items() if name in text), None)
    return rule or text.removeprefix("static assertion failed: ")


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(INCLUDE)


def _span(match: re.Match[str]) -> Span:
    line, column = int(match["line"]), int(match["column"] or 1)
    return replace(_at(match["file"], line), column=column, end_column=column + 1)


def _failure(*diagnostics: Diagnostic) -> ToolchainError:
    return ToolchainError(diagnostics)


def _dependencies(depfile: Path) -> list[Path]:
    text = depfile.read_text(encoding="utf-8").replace("\\\n", " ")
    words = re.split(r"(?<!\\)\s+", text.partition(": ")[2].strip())
    return [Path(re.sub(r"\\([ #])", r"\1", word).replace("$$", "$")) for word in words if word]


# --- digests and files ------------------------------------------------------------------------------------------------


def _digest(*parts: object) -> str:
    hash_ = hashlib.sha256()
    for part in parts:
        hash_.update(repr(part).encode())
        hash_.update(b"\0")
    return hash_.hexdigest()


def _file_hash(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return _hash_of_version(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _hash_of_version(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Atomic:
    """A temporary path beside `path` that becomes `path` when the block succeeds, so that readers never see a half."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
        os.close(handle)
        self.temporary = Path(name)

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.temporary.chmod(0o755)
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink(missing_ok=True)
