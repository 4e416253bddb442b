"""The HPU path of an emitted package on a machine with a fake Gaudi: the emitted C++ compiled, loaded and called."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("torch")

START = """
import sys
from pathlib import Path
import torch
import habana_frameworks.torch
import window
import kernels
kernels.use(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(KERNELS), "gaudi2")

def inputs(dtype, n=70, d=64):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, d).to(dtype) for _ in range(3))
    return q, k, v, torch.randn(2)
"""


def passed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(machine) -> str:
    return f"KERNELS = {str(machine.kernels)!r}\n" + START


def test_eager_is_the_cpu_path(machine) -> None:
    script = """
for dtype, guid in ((torch.bfloat16, "bf16"), (torch.float32, "f32")):
    given = inputs(dtype)
    wanted = window.window(*given, W=20)
    moved = [x.to("hpu") for x in given]
    moved[0] = moved[0].transpose(2, 3).contiguous().transpose(2, 3)
    assert not moved[0].is_contiguous()
    found = window.window(*moved, W=20)
    assert found.device.type == "hpu" and found.dtype == dtype
    torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert found.cpu().abs().max() > 0.1
    assert kernels.calls == [f"tpcgen_window_softmax_fwd_{guid}"], kernels.calls
    kernels.calls.clear()
"""
    passed(machine.run(start(machine) + script))


def test_compiled_before_anything_ran_is_one_flat_graph(machine) -> None:
    script = """
from torch._dynamo.backends.common import aot_autograd

graphs = []
def keep(graph, _):
    graphs.append([n.target for n in graph.graph.nodes if n.op == "call_function"])
    return graph

compiled = torch.compile(window.window, backend=aot_autograd(fw_compiler=keep), fullgraph=True, dynamic=False)
for n in (40, 200):
    given = inputs(torch.bfloat16, n)
    found = compiled(*(x.to("hpu") for x in given), W=20)
    torch.testing.assert_close(found.cpu(), window.window(*given, W=20), rtol=0, atol=1e-2)
short, long = graphs
assert [str(t) for t in short] == [str(t) for t in long]
stages = [t for t in short if t.namespace == "custom_op"]
assert [t.__name__ for t in stages] == ["tpcgen_window_softmax_fwd_bf16.default"], stages
assert {t.namespace for t in short} == {"custom_op", "aten"}
assert sum("mm" in t.__name__ for t in short) == 2
"""
    passed(machine.run(start(machine) + script))


def test_wrong_calls_of_a_stage_are_errors_of_python(machine) -> None:
    script = """
from window import _load_hpu

s = torch.zeros(1, 2, 8, 8).to("hpu")
snk = torch.zeros(2).to("hpu")
_load_hpu()
op = torch.ops.custom_op.tpcgen_window_softmax_fwd_f32
assert op(snk, s, 64, 4).shape == s.shape

def refused(kind, words, *given):
    try:
        op(*given)
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"accepted {words}")

refused(ValueError, "axis -2 of S_dot must be 8, got 7", snk, s[:, :, :7], 64, 4)
refused(ValueError, "must have 4 dims", snk, s[0], 64, 4)
refused(TypeError, "S_dot must be Float, got BFloat16", snk, s.bfloat16(), 64, 4)
refused(ValueError, "does not fit in 32 bits", snk, s, 2**31, 4)
refused(ValueError, "is on cpu", snk, s.cpu(), 64, 4)
"""
    passed(machine.run(start(machine) + script))


def test_habana_that_initialised_first(machine) -> None:
    script = """
import torch
import habana_frameworks.torch
x = torch.zeros(1, 2, 8, 64).to("hpu")
import window
try:
    window.window(x, x, x, torch.zeros(2).to("hpu"))
except RuntimeError as error:
    print(error)
"""
    said = passed(machine.run(script, GC_KERNEL_PATH="/usr/lib/habanalabs/libtpc_kernels.so"))
    assert "Habana initialised without" in said
    assert f"GC_KERNEL_PATH={machine.kernels}:" in said


def test_kernels_and_ops_built_elsewhere(machine, tmp_path) -> None:
    elsewhere = tmp_path / "built"
    elsewhere.mkdir()
    ops = machine.artifact / "torch_ext" / "tpcgen_window_hpu.so"
    machine.kernels.rename(elsewhere / machine.kernels.name)
    ops.rename(elsewhere / ops.name)
    script = 'print(window.window(*(x.to("hpu") for x in inputs(torch.float32))).cpu().abs().max())'
    first = f"KERNELS = {str(elsewhere / machine.kernels.name)!r}\n" + START
    try:
        missing = machine.run("import torch, habana_frameworks.torch, window\n" + CALL, GC_KERNEL_PATH="/none.so")
        assert "its TPC kernels are not built; run `cmake -S" in passed(missing)
        passed(machine.run(first + script, TPCGEN_HPU_PATH=str(elsewhere)))
        (elsewhere / ops.name).rename(ops)
        named = f"{elsewhere / machine.kernels.name}:/usr/lib/habanalabs/libtpc_kernels.so"
        passed(machine.run(first + script, GC_KERNEL_PATH=named))
        ops.rename(elsewhere / ops.name)
        missing = machine.run("import torch, habana_frameworks.torch, window\n" + CALL, GC_KERNEL_PATH=named)
        assert "its HPU ops are not built; run `cd " in passed(missing)
        ops.write_text("no library")
        broken = machine.run("import torch, habana_frameworks.torch, window\n" + CALL, GC_KERNEL_PATH=named)
        assert f"{ops} does not load; if PyTorch or Habana changed" in passed(broken)
    finally:
        (elsewhere / machine.kernels.name).rename(machine.kernels)
        (elsewhere / ops.name).rename(ops)


CALL = """
x = torch.zeros(1, 2, 8, 64).to("hpu")
try:
    window.window(x, x, x, torch.zeros(2).to("hpu"))
except RuntimeError as error:
    print(error)
"""
