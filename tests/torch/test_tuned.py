"""Tuned sizes that choose different plans: which plan the emitted package runs, and that every one computes the op."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tpcgen
from tpcgen.check import check
from tpcgen.compiler import CompiledOp, Options, compile_spec
from tpcgen.emit import artifact as emit
from tpcgen.emit.artifact import dispatched
from tpcgen.report import plans

torch = pytest.importorskip("torch")

from tests.torch.graphs import lowered  # noqa: E402

FULL = Path(__file__).parents[2] / "examples" / "full.dsl"
# Lanes along the keys leave 63 of 64 idle where there is one key, lanes along the queries where there is one query.
ONE_KEY = {"B": 1, "H": 2, "M": 200, "D": 16, "N": 1, "E": 8}
ONE_QUERY = {**ONE_KEY, "M": 1, "N": 200}


def compiled(*binds: dict[str, int]) -> CompiledOp:
    return compile_spec(FULL, Options(binds=binds, dtypes=("f32",))).ops[0]


def qkv(m: int, n: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(s, device=device) for s in ((1, 2, m, 16), (1, 2, n, 16), (1, 2, n, 8)))


def softmax_run(package: ModuleType, m: int, n: int) -> str:
    """The softmax in the graph of a call at these sizes."""
    (name,) = [name.split(".")[1] for name in lowered(package.full, qkv(m, n, "meta")) if "softmax" in name]
    return name


@pytest.fixture(scope="module")
def op() -> CompiledOp:
    return compiled(ONE_KEY, ONE_QUERY)


@pytest.fixture(scope="module")
def package(strict_module: None) -> ModuleType:
    return sys.modules[tpcgen.load(FULL, binds=[ONE_KEY, ONE_QUERY], dtypes="f32", prefix="tuned").full.__module__]


def test_equal_choices_are_one_plan_without_dispatch() -> None:
    more = {**ONE_KEY, "M": 300}
    (variant,) = compiled(ONE_KEY, more).artifact.variants
    assert variant.tuned == (ONE_KEY, more)
    texts = [emit.files(compiled(*binds).artifact)["full/__init__.py"] for binds in ((ONE_KEY, more), (ONE_KEY,))]
    assert texts[0] == texts[1]
    assert "tuned" not in texts[0]


def test_each_tuned_size_chooses_its_plan(op: CompiledOp) -> None:
    variants = op.artifact.variants
    plans = {v.plan.label: v.tuned for v in variants}
    assert plans == {"softmax along q": (ONE_KEY,), "softmax along k": (ONE_QUERY,)}
    assert dispatched(variants, {**ONE_KEY, "B": 2}) is variants[-1]


def test_the_package_dispatches_as_the_manifest_says(op: CompiledOp, package: ModuleType) -> None:
    first, last = op.artifact.variants
    for sizes, variant in ((first.tuned[0], first), (last.tuned[0], last), ({"M": 65, "N": 65}, last)):
        guid = variant.kernels[0].glue.guid.replace("tpcgen_", "tuned_")
        assert softmax_run(package, sizes["M"], sizes["N"]) == guid


@pytest.mark.parametrize(("m", "n"), [(1, 200), (200, 1), (65, 3), (3, 130), (0, 5), (5, 0)])
def test_every_plan_computes_the_operator(package: ModuleType, m: int, n: int) -> None:
    q, k, v = qkv(m, n)
    weights = torch.softmax(q @ k.transpose(-1, -2) / 4, -1)
    for function in (package.full, package._full_f32_1, package._full_f32_2):
        torch.testing.assert_close(function(q, k, v), weights @ v)


def test_dispatch_is_decided_while_tracing(package: ModuleType) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(package.full, fullgraph=True, backend="aot_eager", dynamic=True)
    for m, n in ((3, 17), (1, 200), (200, 1), (5, 33)):
        inputs = qkv(m, n)
        torch.testing.assert_close(compiled(*inputs), package.full(*inputs))


def test_manifest_and_report_name_every_plan(op: CompiledOp) -> None:
    manifest = json.loads(emit.files(op.artifact)["manifest.json"])
    variants = manifest["variants"]
    assert {v["plan"]: [t["values"] for t in v["tuned"]] for v in variants} == {
        "softmax along q": [ONE_KEY],
        "softmax along k": [ONE_QUERY],
    }
    assert [v["otherwise"] for v in variants] == [False, True]
    assert all(t["predicted"]["seconds"] > 0 for v in variants for t in v["tuned"])
    guids = {s["guid"] for v in variants for s in v["stages"] if "guid" in s}
    assert len(guids) == 2
    assert {f"kernels/{g}.c" for g in guids} == {f for f in manifest["files"] if f.startswith("kernels/")}
    report = plans.to_text(op.artifact, op.choices)
    assert re.search(r"M=200 .*: softmax along q\n", report)
    assert re.search(r"M=1 .*: softmax along k\n", report)
    assert report.count("All other sizes take this plan.") == 1


def test_the_check_runs_the_plan_of_each_size(op: CompiledOp, tmp_path: Path) -> None:
    first, last = op.artifact.variants
    texts = emit.files(op.artifact)
    broken = f"kernels/{first.kernels[0].glue.guid}.c"
    texts[broken], count = re.subn(r"(void main\([^)]*\)\s*\{)", r"\1\n    return;", texts[broken])
    assert count == 1
    emit.write(tmp_path / "full", texts)
    result = check(op.artifact, tmp_path / "full", op.cases[:2])
    assert {o.shape[2] for o in result.outcomes if o.reason} == {first.tuned[0]["M"]}
    assert {o.shape[2] for o in result.outcomes if not o.reason} == {last.tuned[0]["M"]}
