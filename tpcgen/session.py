"""From compiled ops to what the user asked for: files written, device code built, everything checked, a summary."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tpcgen.compiler import Compiled, CompiledOp
from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.emit import artifact as emit
from tpcgen.emit import wheel
from tpcgen.partition import print as plan_text
from tpcgen.program import print as program_text
from tpcgen.report import plans, results
from tpcgen.report.results import Result
from tpcgen.version import ROOT, VERSION

if TYPE_CHECKING:
    from tpcgen.check import Eager
    from tpcgen.machine import Machine
    from tpcgen.partition.cards import Cards
    from tpcgen.report.explain import Explanation

Progress = Callable[[str], None]
EagerSource = Callable[[], "Eager | None"]
"""Gives PyTorch's answer to compare with, None where PyTorch is not installed; asked only when something is run."""


@dataclass(frozen=True)
class Produced:
    """What became of one op. `result` is None when it was not checked; `checked_now` is False for a stored result.

    `device_files` are what tpc-clang made, none where there is no tpc-clang; `device_note` says so, "" when not asked.
    """

    op: CompiledOp
    folder: Path
    changed: bool
    files: tuple[str, ...]
    device_compiler: str | None
    device_files: tuple[str, ...]
    device_note: str
    result: Result | None
    checked_now: bool

    @property
    def passed(self) -> bool:
        """True too when it was not checked."""
        return self.result is None or self.result.passed


def summary(produced: Sequence[Produced]) -> str:
    """Per op: the plan, the check's result, what was written."""
    return "\n".join(_summary(p) for p in produced)


def _plans(op: CompiledOp) -> str:
    return plans.to_text(op.artifact, op.choices)


def explanations(
    compiled: Compiled, device: str, machine: Machine, spec: str, cards: Cards | None = None
) -> list[Explanation]:
    """One per op, choice of dtypes and tuned sizes. `cards` as the ops were compiled for.

    DiagnosticError: E525 for an op without sizes, E545 for more cards than a box has.
    """
    from tpcgen.partition.cards import transfers
    from tpcgen.program.sizes import Binding
    from tpcgen.report.cards import Shared
    from tpcgen.report.explain import explain

    made: list[Explanation] = []
    for op in compiled.ops:
        if not any(op.choices):
            raise _without_sizes(op)
        for variant, choices, kernels in zip(op.artifact.variants, op.choices, op.kernels, strict=True):
            texts = [(kernel, text.text) for kernel, text in zip(kernels, variant.kernels, strict=True)]
            for values, choice in zip(variant.tuned, choices, strict=True):
                bound = Binding(choice.plan.program, values)
                one = explain(variant.op, variant.dtype, device, machine, bound, choice, texts, spec)
                if cards is not None and variant.op == op.artifact.name:
                    sent = transfers(bound, cards, machine, op.artifact.wrt)
                    one = replace(one, shared=Shared(cards, tuple(sent)))
                made.append(one)
    return made


def _summary(p: Produced) -> str:
    parts = [_plans(p.op)]
    if p.result is not None:
        again = "" if p.checked_now else "nothing changed since this check\n"
        parts.append(results.to_text(p.result) + again)
    parts.append(f"{'wrote' if p.changed else 'unchanged'} {p.folder}\n" + "".join(f"  {f}\n" for f in p.files))
    if p.device_note:
        parts.append(f"{p.device_note}\n" + "".join(f"  {f}\n" for f in p.device_files))
    return "\n".join(parts)


def to_json(produced: Sequence[Produced]) -> str:
    """The same as data, one object."""
    return json.dumps({"ops": [_data(p) for p in produced]}, indent=2, allow_nan=False) + "\n"


def _data(p: Produced) -> dict[str, object]:
    return {
        "name": p.op.artifact.name,
        "folder": str(p.folder),
        "changed": p.changed,
        "files": p.files,
        "device": {"compiler": p.device_compiler, "files": p.device_files},
        "variants": json.loads((p.folder / emit.MANIFEST).read_text(encoding="utf-8"))["variants"],
        "check": p.result.to_data() if p.result is not None else None,
        "checked_now": p.checked_now,
    }


def stage_text(compiled: Compiled, what: str) -> str:
    """Every op and dtype at one stage: "program", "plan", "kernel" or "c"."""
    return "\n".join(_stage_text(op, what) for op in compiled.ops)


def produce(op: CompiledOp, out: Path, *, build: bool, check: bool, eager: EagerSource, progress: Progress) -> Produced:
    """Write the artifact of an op into `out`/NAME, build device code where tpc-clang is, check it on the host device.

    DiagnosticError for a folder that must not be overwritten, ToolchainError when a compiler refuses.
    """
    artifact = op.artifact
    if check and not op.cases:
        raise _without_sizes(op)
    folder = out / artifact.name
    texts = emit.files(artifact)
    texts["report/plan.txt"] = _plans(op)
    with _alone(out, progress):
        changed = emit.write(folder, texts)
        compiler, built = _build_device(op, folder, progress) if build else (None, ())
        note = _device_note(op, compiler) if build else ""
        result, checked_now = _check(op, folder, texts, eager, progress) if check else (None, False)
    return Produced(op, folder, changed, tuple(texts), compiler, built, note, result, checked_now)


def package(produced: Produced, out: Path) -> Path:
    """The wheel of an operator, in the folder `out`: what was emitted, and device code where there is some."""
    names = [*produced.files, *produced.device_files]
    files = {name: (produced.folder / name).read_bytes() for name in names}
    toolchain = {"tpcgen": VERSION, "tpc_clang": produced.device_compiler, "python": platform.python_version()}
    return wheel.write(out, produced.op.artifact, files, toolchain)


def _without_sizes(op: CompiledOp) -> DiagnosticError:
    names = ", ".join(f"{size} = ..." for size in op.artifact.variants[0].plan.program.sizes)
    message = f"no sizes are known for {op.artifact.name}: the file has no check block that binds it"
    hint = f"add `check small {{ {names} }}`, or --bind; --no-check compiles without sizes"
    return DiagnosticError((Diagnostic("E525", message, NOWHERE, hint),))


@contextmanager
def _alone(folder: Path, progress: Progress) -> Generator[None, None, None]:
    """Keeps other tpcgen processes from working in the same folder meanwhile, where the file system has locks."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, lambda: progress(f"waiting for another tpcgen to finish in {folder}"))
        yield
    finally:
        os.close(handle)


def _lock(handle: int, waiting: Callable[[], None]) -> None:
    with suppress(OSError):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)


def _stage_text(op: CompiledOp, what: str) -> str:
    parts: list[str] = []
    for variant, kernels in zip(op.artifact.variants, op.kernels, strict=True):
        match what:
            case "program":
                parts.append(program_text.program(variant.plan.program))
            case "plan":
                parts.append(plan_text.plan(variant.plan))
            case "kernel":
                from tpcgen.kernel import print as kernel_text

                parts += [kernel_text.kernel(k) for k in kernels]
            case "c":
                parts += [k.text for k in variant.kernels]
            case _:
                raise ValueError(f"nothing is called {what}")
    return "\n".join(dict.fromkeys(parts))


def _device_note(op: CompiledOp, compiler: str | None) -> str:
    from tpcgen.toolchain import tpc_clang

    if not any(op.kernels):
        return ""
    if compiler is not None:
        return f"device code by {compiler}"
    if op.artifact.target in tpc_clang.TARGETS:
        return "no device code: there is no tpc-clang ($TPC_CLANG, PATH or /usr/bin)"
    return f"no device code: the open tpc-clang does not know {op.artifact.target}"


def _build_device(op: CompiledOp, folder: Path, progress: Progress) -> tuple[str | None, tuple[str, ...]]:
    from tpcgen.toolchain import tpc_clang

    compiler = tpc_clang.find()
    target = op.artifact.target
    if compiler is None or target not in tpc_clang.TARGETS:
        return None, ()
    made: list[str] = []
    (folder / "device").mkdir(exist_ok=True)
    for source in sorted((folder / "kernels").glob("*.c")):
        output = folder / "device" / f"{source.stem}.o"
        stamp = output.with_suffix(".sha256")
        key = hashlib.sha256(source.read_bytes() + f"{compiler} {target}".encode()).hexdigest()
        if not output.exists() or not stamp.exists() or stamp.read_text() != key:
            progress(f"tpc-clang {source.name}")
            tpc_clang.compile_kernel(compiler, source, target, output, op.specs)
            stamp.write_text(key)
        made.append(f"device/{output.name}")
    return compiler.version, tuple(made)


def _check(
    op: CompiledOp, folder: Path, texts: Mapping[str, str], eager: EagerSource, progress: Progress
) -> tuple[Result, bool]:
    """The check's result; a stored one when neither the artifact, its cases nor tpcgen itself changed since."""
    key = _check_key(op, texts)
    stored = folder / "report" / "check.json"
    known = _stored_result(stored, key)
    if known is not None:
        return known, False
    from tpcgen.check import check

    result = check(op.artifact, folder, op.cases, eager=eager(), progress=progress)
    stored.parent.mkdir(exist_ok=True)
    (folder / "report" / "check.txt").write_text(results.to_text(result), encoding="utf-8")
    stored.write_text(json.dumps({"key": key, "result": result.to_data()}, indent=2) + "\n", encoding="utf-8")
    return result, True


def _stored_result(path: Path, key: str) -> Result | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] != key:
            return None
        return Result.from_data(found["result"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_key(op: CompiledOp, texts: Mapping[str, str]) -> str:
    cases = [[c.name, dict(c.values)] for c in op.cases]
    return hashlib.sha256(json.dumps([dict(texts), cases, _own_hash()]).encode()).hexdigest()


@lru_cache(maxsize=1)
def _own_hash() -> str:
    """Of every file of this package: a stored result is only as good as the code that judged it."""
    digest = hashlib.sha256()
    for path in sorted(p for p in ROOT.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
