"""The artifact of one operator: what it is made of, the text of its files, and writing them in one step."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.emit import glue, torch_ext, torch_package
from tpcgen.emit.glue import GlueKernel
from tpcgen.emit.names import plain
from tpcgen.partition.plan import CopyStage, MmeStage, MoveStage, Plan, Stage, TpcStage
from tpcgen.program import print as text
from tpcgen.program import sizes
from tpcgen.program.ir import Expr, Program, Tensor
from tpcgen.rewrite.vjp.save import saving_name

MANIFEST = "manifest.json"
_HEADER = Path(__file__).parent.parent / "host" / "include" / "tpc_kernel_lib_interface.h"


@dataclass(frozen=True, slots=True)
class KernelText:
    """One TPC stage: what the glue says of its kernel, and the kernel's TPC-C text. `glue.guid` names the file."""

    stage: TpcStage
    glue: GlueKernel
    text: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One plan of the operator at one choice of dtypes.

    `dtype` is that choice in GUIDs and op names; `kernels` in plan order. `tuned`: sizes and attributes the plan was
    chosen for; `predicted`: the cost model's times there.
    """

    dtype: str
    plan: Plan
    kernels: tuple[KernelText, ...]
    predicted: tuple[Mapping[str, object], ...] = ()
    tuned: tuple[Mapping[str, int | float], ...] = ()

    @property
    def op(self) -> str:
        """The name of the op it computes."""
        return self.plan.program.name


@dataclass(frozen=True, slots=True)
class Artifact:
    """`source` is the spec's file name. Of the variants of one op and dtype the last takes all sizes that no other is
    for. The variants of `NAME_vjp`, where there are any, are the backward: gradients of the inputs `wrt`.

    Where the backward takes what a forward keeps for it, `saved`, that forward is `NAME_saving`, and `gradients` are
    the backward's programs by dtype as functions of the op's inputs and cotangents alone.
    """

    name: str
    target: str
    prefix: str
    source: str
    version: str
    variants: tuple[Variant, ...]
    wrt: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    gradients: tuple[tuple[str, Program], ...] = ()

    @property
    def saving_op(self) -> str | None:
        """The forward that keeps what the backward takes, where it does."""
        return saving_name(self.name) if self.saved else None

    def is_gradient(self, op: str) -> bool:
        """Whether that op of its variants is the backward."""
        return op not in (self.name, self.saving_op)

    @property
    def namespace(self) -> str:
        """The torch.library namespace of its ops."""
        return f"{self.prefix}_{self.name}"

    def alike(self) -> tuple[tuple[Variant, ...], ...]:
        """The variants of each op, forward before backward, and dtype: sizes and attributes choose among them."""
        found: dict[tuple[str, str], tuple[Variant, ...]] = {}
        for variant in self.variants:
            key = (variant.op, variant.dtype)
            found[key] = (*found.get(key, ()), variant)
        return tuple(found.values())

    def kernels(self) -> tuple[KernelText, ...]:
        """Those of all variants, each once."""
        return tuple({k.glue.guid: k for v in self.variants for k in v.kernels}.values())


def dispatched(variants: Sequence[Variant], values: Mapping[str, int | float]) -> Variant:
    """Of variants that are alike, the one that the emitted package runs at these sizes and attributes."""
    return next((v for v in variants[:-1] if values in v.tuned), variants[-1])


def files(artifact: Artifact) -> dict[str, str]:
    """Every file of the artifact, path to text. The same artifact gives the same bytes."""
    kernels = artifact.kernels()
    texts = {f"kernels/{plain(k.glue.guid)}.c": k.text for k in kernels}
    if kernels:
        texts |= _device_side(artifact, [k.glue for k in kernels], texts)
    importable, smallest = package(artifact), _smallest(artifact)
    folder = plain(artifact.name)
    texts[f"{folder}/__init__.py"] = torch_package.render(importable)
    texts[f"{folder}/{torch_package.REFERENCE}"] = _reference(artifact)
    if smallest is not None:
        texts[f"{folder}/selftest.py"] = torch_package.render_selftest(importable, smallest)
    texts[MANIFEST] = _manifest(artifact, texts)
    return dict(sorted(texts.items()))


def _device_side(artifact: Artifact, kernels: Sequence[GlueKernel], texts: Mapping[str, str]) -> dict[str, str]:
    """What a Gaudi needs beside the kernels' `texts`: the glue that Synapse asks, the ops that PyTorch calls."""
    name, source, version = artifact.namespace, artifact.source, artifact.version
    lib_version = int.from_bytes(hashlib.sha256("".join(texts.values()).encode()).digest()[:8], "big")
    header = {"include/tpc_kernel_lib_interface.h": _HEADER.read_text(encoding="utf-8")}
    glue_texts = glue.files(name, artifact.target, source, kernels, version, lib_version) | header
    ext_texts = torch_ext.files(name, source, kernels, version)
    return {f"glue/{file}": body for file, body in glue_texts.items()} | {
        f"torch_ext/{file}": body for file, body in ext_texts.items()
    }


def package(artifact: Artifact) -> torch_package.PackageText:
    """What the importable package is rendered from."""
    alike = artifact.alike()
    forward = tuple(_composite(own, own[0].dtype) for own in alike if own[0].op == artifact.name)
    saving = tuple(_composite(own, f"sav_{own[0].dtype}") for own in alike if own[0].op == artifact.saving_op)
    backward = tuple(_composite(own, f"bwd_{own[0].dtype}") for own in alike if artifact.is_gradient(own[0].op))
    return torch_package.PackageText(
        artifact.name, artifact.namespace, artifact.source, forward, backward, artifact.wrt, saving
    )


def _composite(alike: Sequence[Variant], suffix: str) -> torch_package.Variant:
    """`suffix` tells the stages apart from those of other variants of the package."""
    kernels = {k.glue.guid: k for v in alike for k in v.kernels}.values()
    return torch_package.Variant(
        alike[0].dtype,
        tuple(torch_package.TunedPlan(v.plan, v.tuned) for v in alike),
        tuple(torch_package.StageOp(k.stage, k.glue.guid, f"{k.stage.name}_{suffix}") for k in kernels),
        f"{alike[0].op}_{alike[0].dtype}",
    )


def _reference(artifact: Artifact) -> str:
    """What each composite op computes, as ops of those names in a spec that needs no other."""
    whole = dict(artifact.gradients)
    programs: list[Program] = []
    for variant in (own[0] for own in artifact.alike()):
        program = variant.plan.program
        if variant.dtype in whole and whole[variant.dtype].name == variant.op:
            program = whole[variant.dtype]
        programs.append(replace(program, name=f"{variant.op}_{variant.dtype}"))
    return "\n".join(map(text.program, programs))


def _smallest(artifact: Artifact) -> Mapping[str, int | float] | None:
    """Of the sizes and attributes that plans were chosen for, those with the fewest elements."""
    program = artifact.variants[0].plan.program
    known = [values for v in artifact.variants if v.op == artifact.name for values in v.tuned]
    return min(known, key=lambda values: sizes.bind(program, values).elements(), default=None)


def write(folder: Path, texts: Mapping[str, str]) -> bool:
    """Make `folder` hold these files; True when something changed. What was built from unchanged files stays.

    A changed artifact is written beside the folder and renamed into place, so that the folder holds a whole artifact or
    does not exist, whenever this process is killed. Callers let one process at a time do this.
    DiagnosticError E512 when the folder holds something that is no artifact.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        hint = "choose another -o, or empty that folder"
        raise DiagnosticError((Diagnostic("E512", f"{folder} exists and is no artifact of tpcgen", NOWHERE, hint),))
    if _holds(folder, texts):
        return False
    scratch = f".{folder.name}.tpcgen-"
    for killed in folder.parent.glob(f"{scratch}*"):
        shutil.rmtree(killed, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=scratch, dir=folder.parent) as beside:
        fresh = Path(beside) / "new"
        for path, body in texts.items():
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(body, encoding="utf-8")
        if folder.exists():
            folder.rename(Path(beside) / "old")
        fresh.rename(folder)
    return True


def _holds(folder: Path, texts: Mapping[str, str]) -> bool:
    try:
        return all((folder / path).read_text(encoding="utf-8") == body for path, body in texts.items())
    except (OSError, ValueError):
        return False


def _manifest(artifact: Artifact, texts: Mapping[str, str]) -> str:
    content = {
        "name": artifact.name,
        "version": artifact.version,
        "source": artifact.source,
        "target": artifact.target,
        "prefix": artifact.prefix,
        "namespace": artifact.namespace,
        "variants": [_variant(v, v is own[-1]) for own in artifact.alike() for v in own],
        "files": {path: hashlib.sha256(body.encode()).hexdigest() for path, body in sorted(texts.items())},
    }
    return json.dumps(content, indent=2) + "\n"


def _variant(variant: Variant, otherwise: bool) -> dict[str, object]:
    """`tuned`: the sizes and attributes that take this plan, with the model's times; `otherwise`: so do all others."""
    program = variant.plan.program
    guids = {k.stage.name: k.glue.guid for k in variant.kernels}
    return {
        "op": variant.op,
        "dtype": variant.dtype,
        "plan": variant.plan.label,
        **_signature(program),
        "outputs": [_tensor(t) for t in program.outputs],
        "contracts": [text.expression(c.condition) for c in program.contracts],
        "stages": [_stage(s, guids) for s in variant.plan.stages],
        "tuned": [
            {"values": dict(sorted(values.items())), "predicted": predicted}
            for values, predicted in zip(variant.tuned, variant.predicted, strict=True)
        ],
        "otherwise": otherwise,
    }


def _signature(program: Program) -> dict[str, object]:
    return {
        "inputs": [_tensor(t) for t in program.inputs],
        "attributes": [
            {"name": a.name, "type": "int" if a.type.is_integer else "float", "default": _text(a.default)}
            for a in program.attributes
        ],
    }


def _stage(stage: Stage, guids: Mapping[str, str]) -> dict[str, object]:
    match stage:
        case MmeStage():
            return {"name": stage.name, "engine": "mme", "out": stage.out.buffer}
        case MoveStage():
            return {"name": stage.name, "engine": "move", "source": stage.source, "target": stage.target}
        case CopyStage():
            sources = [p.source for p in stage.copy.pieces]
            return {"name": stage.name, "engine": "move", "sources": sources, "target": stage.copy.target}
        case TpcStage():
            outputs = [_tensor(t) for t in stage.program.outputs]
            return {
                "name": stage.name,
                "engine": "tpc",
                "guid": guids[stage.name],
                **_signature(stage.program),
                "outputs": outputs,
            }


def _tensor(t: Tensor) -> dict[str, object]:
    return {"name": t.name, "dtype": str(t.dtype), "shape": [text.expression(e) for e in t.shape]}


def _text(e: Expr | None) -> str | None:
    return text.expression(e) if e is not None else None
