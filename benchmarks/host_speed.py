"""How fast the host runs TPC kernels: softmax attention through the emitted CPU op, against the NumPy interpreter and
PyTorch eager on the same CPU.

    python benchmarks/host_speed.py [SIZE ...]      queries = keys, 2048 by default; writes docs/host_speed.md

The host's kernels run in the fast mode, on all cores, with the matrix multiplies by torch, as the emitted package does
it. PyTorch eager is the same composition in torch ops: matmul, softmax in float32, matmul. Each time is the least of
several runs; the first one, which compiles and checks, is not counted.

Building is timed with the bf16 softmax kernel of examples/causal.dsl, in a cache folder of its own.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import tpcgen
from tpcgen.compiler import Options, compile_spec
from tpcgen.emit import artifact as emit
from tpcgen.interpreter.run import run
from tpcgen.program import load
from tpcgen.toolchain.host import Mode, build, build_device

ROOT = Path(__file__).parents[1]
HEADS, DEPTH = 4, 64
_HEAD = """# Speed of the host

Written by `python benchmarks/host_speed.py`. Softmax attention (examples/full.dsl), B = 1, H = {heads}, D = E =
{depth}, M = N. Elapsed / processor seconds, each the least of several runs. {cores} cores of {cpu}; torch {torch}. Load
average when it began: {load:.1f}; where it is above the cores, the processor seconds are what counts.

| dtype | M = N | host, fast | interpreter, device mode | PyTorch eager | interpreter / host | host / PyTorch |
| --- | --- | --- | --- | --- | --- | --- |
"""


_BUILDS = """
Building one kernel (the bf16 softmax of examples/causal.dsl, {lines} lines), elapsed / processor seconds. The headers
are compiled once for each set of flags.

| mode | with the headers | uncached | cached |
| --- | --- | --- | --- |
"""


class Seconds(NamedTuple):
    """`processor`: of all threads of this process, or of its compilers."""

    elapsed: float
    processor: float

    def __str__(self) -> str:
        return f"{self.elapsed:.3g} / {self.processor:.3g}"

    def over(self, other: Seconds) -> str:
        return f"{self.elapsed / other.elapsed:.1f} / {self.processor / other.processor:.1f}"


def least(work: Callable[[], object], repeats: int) -> Seconds:
    times = []
    for _ in range(repeats):
        before = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    return Seconds(*(min(column) for column in zip(*times, strict=True)))


def eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = torch.matmul(q, k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    return torch.matmul(torch.softmax(scores, -1).to(v.dtype), v)


def row(dtype: str, size: int) -> str:
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, size, DEPTH).to(kind) for _ in range(3))
    path = ROOT / "examples/full.dsl"
    op = tpcgen.load(path, dtypes=dtype, binds={"B": 1, "H": HEADS, "M": size, "N": size, "D": DEPTH, "E": DEPTH}).full
    torch.testing.assert_close(op(q, k, v).float(), eager(q, k, v).float(), atol=2e-2, rtol=2e-2)
    host = least(lambda: op(q, k, v), 7)
    peer = least(lambda: eager(q, k, v), 7)
    program = load(str(path)).program("full", T=dtype)
    arrays = (x.float().numpy().astype(program.tensor("Q").dtype.numpy) for x in (q, k, v))
    inputs = dict(zip("QKV", arrays, strict=True))
    interpreter = least(lambda: run(program, inputs, {}, mode="device"), 2)
    return f"| {dtype} | {size} | {host} | {interpreter} | {peer} | {interpreter.over(host)} | {host.over(peer)} |"


def compilers() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def builds() -> str:
    """The table of build times."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        [op] = compile_spec(ROOT / "examples/causal.dsl", Options(dtypes=("bf16",))).ops
        [text] = [str(text) for path, text in emit.files(op.artifact).items() if path.endswith("softmax_fwd_bf16.c")]
        kernel = Path(folder) / "softmax.c"
        lines = _BUILDS.format(lines=len(text.splitlines()))
        ways: tuple[tuple[str, Mode, bool], ...] = (
            ("strict", "strict", False),
            ("strict, sanitized", "strict", True),
            ("fast", "fast", False),
        )
        for name, mode, sanitize in ways:
            build_device(sanitize=sanitize)

            def once(version: int, mode: Mode = mode, sanitize: bool = sanitize) -> Seconds:
                kernel.write_text(f"{text}// {version}\n")
                before = time.perf_counter(), compilers()
                build([], [kernel], target="gaudi2", out=Path(folder), mode=mode, sanitize=sanitize)
                return Seconds(time.perf_counter() - before[0], compilers() - before[1])

            first, again = once(0), [once(version) for version in (1, 2, 3)]
            uncached = Seconds(*(min(column) for column in zip(*again, strict=True)))
            lines += f"| {name} | {first} | {uncached} | {once(3)} |\n"
            print(lines.splitlines()[-1], flush=True)
    return lines


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or [2048]
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    lines = _HEAD.format(
        heads=HEADS,
        depth=DEPTH,
        cores=len(os.sched_getaffinity(0)),
        cpu=cpu,
        torch=torch.__version__,
        load=os.getloadavg()[0],
    )
    for size in sizes:
        for dtype in ("f32", "bf16"):
            lines += row(dtype, size) + "\n"
            print(lines.splitlines()[-1], flush=True)
    (ROOT / "docs/host_speed.md").write_text(lines + builds())


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
