"""`tpcgen.load`: from a spec's file to its operators as Python functions of torch tensors."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from tpcgen import cache
from tpcgen.compiler import Compiled, Options, Values, compile_spec
from tpcgen.diagnostics import Severity, read_sources, render
from tpcgen.emit import artifact as emit
from tpcgen.emit.pytext import identifier
from tpcgen.session import produce
from tpcgen.torch.stages import is_free

_lock = threading.Lock()
_loaded: dict[str, ModuleType] = {}


def load(
    path: str | os.PathLike[str],
    *,
    target: str = "gaudi2",
    binds: Values | Sequence[Values] = (),
    defines: Values | None = None,
    dtypes: str | Sequence[str] = (),
    ops: str | Sequence[str] = (),
    prefix: str = "tpcgen",
    gradients: bool = True,
) -> ModuleType:
    """Compile a spec and import its operators: a module with one function per op, `load("causal.dsl").causal(q, k, v)`.

    The options are those of `tpcgen compile`: `binds` sizes to tune for, `defines` (-D) values of params and defaults
    of attributes, `dtypes` the choices of dtype variables wanted, `ops` the ops wanted. Without `gradients` the vjp
    items of the file are left out: their search is most of the time. Nothing is checked against the interpreter here;
    `tpcgen check` does that. The artifacts are kept in tpcgen's cache folder. Sizes may be 0: a
    sum or softmax over nothing is 0.

    Loading the same again gives the same module. A spec that changed since this process loaded it gives a new one
    whose GUIDs and torch ops have the content's hash in their prefix; the old module keeps working.

    Raises DiagnosticError, whose text is what the command line shows. What the compiler warns of are Python warnings.
    """
    options = Options(
        target=target,
        prefix=prefix,
        binds=(binds,) if isinstance(binds, Mapping) else tuple(binds),
        defines=defines or {},
        dtypes=names(dtypes),
        ops=names(ops),
        gradients=gradients,
    )
    compiled = compile_spec(Path(path), options)
    for warning in (d for d in compiled.warnings if d.severity is Severity.WARNING):
        warnings.warn(render(warning, read_sources((warning,))), stacklevel=2)
    key = _content(compiled)
    with _lock:
        if key not in _loaded:
            if not all(is_free(op.artifact.namespace) for op in compiled.ops):
                compiled = compile_spec(Path(path), replace(options, prefix=f"{prefix}_{key[:8]}"))
            _loaded[key] = _module(Path(path).stem, compiled, cache.folder() / "modules" / _content(compiled)[:16])
        return _loaded[key]


def names(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name, or several, as several."""
    return (given,) if isinstance(given, str) else tuple(given)


def _content(compiled: Compiled) -> str:
    """A hash of everything that is emitted."""
    digest = hashlib.sha256()
    for op in compiled.ops:
        for name, text in emit.files(op.artifact).items():
            digest.update(f"{op.artifact.name}/{name}\0{text}\0".encode())
    return digest.hexdigest()


def _module(name: str, compiled: Compiled, folder: Path) -> ModuleType:
    """The artifacts written into `folder` and imported: each op's package under its namespace, its function here."""
    module = ModuleType(name, f"Operators of {name}, compiled by tpcgen into {folder}.")
    for op in compiled.ops:
        produced = produce(op, folder, build=False, check=False, eager=lambda: None, progress=lambda message: None)
        package = _imported(op.artifact.namespace, produced.folder / op.artifact.name / "__init__.py")
        setattr(module, op.artifact.name, getattr(package, identifier(op.artifact.name)))
    return module


def _imported(name: str, init: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, init)
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    # torch.compile finds a function's globals by its module's name.
    sys.modules[name] = package
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[name]
        raise
    return package
