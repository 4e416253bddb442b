"""TPC stages of an emitted package on the host device, called with CPU tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from tpcgen.host.fast import fast_kernel
from tpcgen.host.glue import TensorSpec
from tpcgen.host.launch import Launch
from tpcgen.host.passed import fingerprint, has_passed, mark_passed
from tpcgen.host.strict import run_strict
from tpcgen.toolchain.host import HostLibrary, Mode, build, cache_dir
from tpcgen.torch.arrays import NUMPY, array

Outputs = torch.Tensor | tuple[torch.Tensor, ...]

# The artifact folder of each namespace that this process has imported: torch would let one replace the ops of another.
_owners: dict[str, Path] = {}


def is_free(namespace: str) -> bool:
    """Whether this process has not imported a package of that namespace."""
    return namespace not in _owners


class StageLibrary:
    """The kernels and glue of an artifact folder, compiled for the host when a stage is first called.

    A kernel that never passed a strict run is run strictly (audited, in a child process) the first time.
    """

    def __init__(self, root: Path, namespace: str) -> None:
        """ImportError when this process has the operators of that namespace from another folder."""
        owner = _owners.setdefault(namespace, root)
        if owner != root:
            raise ImportError(
                f"{root} and {owner} both hold the operators {namespace}; a process can import one of them. "
                "Compile one with another --prefix"
            )
        self.root = root
        self.namespace = namespace

    def run(
        self,
        guid: str,
        inputs: Sequence[torch.Tensor],
        outputs: Outputs,
        formats: str,
        attributes: Sequence[int | float],
    ) -> None:
        """Fill `outputs`. `formats` packs `attributes` as the glue's parameter struct: 'i' and 'f', 4 bytes each.

        Nothing is launched when there is no element to write.
        RuntimeError with the device's findings when the first, strict run of a kernel has any.
        """
        made = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        if not any(x.numel() for x in made):
            return
        params = struct.pack(f"<{formats}", *attributes)
        held = [x.contiguous() for x in inputs]
        if not has_passed(self._fingerprint(guid)):
            self._run_strict(guid, held, made, params)
            return
        kernel = fast_kernel(self._fast, guid, self.target, tuple(map(_spec, held)), tuple(map(_spec, made)), params)
        kernel.launch([x.data_ptr() for x in held], [x.data_ptr() for x in made])

    @cached_property
    def target(self) -> str:
        return str(json.loads((self.root / "manifest.json").read_text())["target"])

    @cached_property
    def _fast(self) -> HostLibrary:
        return self._build("fast")

    def _build(self, mode: Mode) -> HostLibrary:
        """In the artifact's folder; in the cache folder where that cannot be written."""
        try:
            return build(self._glue, self._kernels, target=self.target, out=self.root / "host", mode=mode)
        except OSError:
            out = cache_dir() / "libraries"
            return build(self._glue, self._kernels, target=self.target, out=out, mode=mode)

    @property
    def _kernels(self) -> list[Path]:
        return sorted((self.root / "kernels").glob("*.c"))

    @property
    def _glue(self) -> list[Path]:
        return sorted((self.root / "glue").glob("*.cpp"))

    def _fingerprint(self, guid: str) -> str:
        known = self.__dict__.setdefault("_fingerprints", {})
        if guid not in known:
            known[guid] = fingerprint(guid, self.root)
        return known[guid]

    def _run_strict(
        self, guid: str, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor], params: bytes
    ) -> None:
        launch = Launch(
            guid=guid,
            target=self.target,
            inputs=tuple(map(array, inputs)),
            outputs=tuple((tuple(x.shape), NUMPY[x.dtype]) for x in outputs),
            params=params,
        )
        report = run_strict(self._build("strict"), launch)
        if not report.ok:
            raise RuntimeError(f"{guid} failed on the host device:\n" + "\n".join(str(f) for f in report.findings))
        for tensor, computed in zip(outputs, report.outputs, strict=True):
            array(tensor)[...] = computed
        mark_passed(self._fingerprint(guid))


def _spec(tensor: torch.Tensor) -> TensorSpec:
    return TensorSpec.of(tuple(tensor.shape), NUMPY[tensor.dtype])
