"""How long compiling takes, as a user waits for it: whole processes for the command line.

    python benchmarks/compile_latency.py [SPEC...]

Prints a Markdown table: the best of several runs, in seconds. Rows marked cold start from an empty cache folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPECS = ("causal", "alibi_causal", "window", "full")
GPT2 = {"causal": "B=1,H=12,G=12,M=1024,N=1024,D=64,E=64"}


def main() -> None:
    specs = [Path(arg) for arg in sys.argv[1:]] or [ROOT / "examples" / f"{name}.dsl" for name in SPECS]
    print("| spec | step | seconds |\n| --- | --- | ---: |")
    for spec in specs:
        for step, seconds in _rows(spec):
            print(f"| {spec.stem} | {step} | {seconds:.2f} |", flush=True)


def _rows(spec: Path) -> Iterator[tuple[str, float]]:
    bind = ("--bind", GPT2[spec.stem]) if spec.stem in GPT2 else ()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "build"
        command = ("compile", str(spec), "-o", str(out), *bind)
        warm = Path(scratch) / "cache"
        yield "compile, cold: parse to check", _process(command, warm)
        yield "compile again, nothing changed", min(_process(command, warm) for _ in range(3))
        emission = (*command[:3], str(out) + "2", *bind, "--no-build", "--no-check")
        yield "emission, cold", _process(emission, Path(scratch) / "cold")
        yield "emission, parse table cached", min(_process(emission, warm) for _ in range(5))
    yield "in process: parse and resolve", _best(lambda: _resolve(spec))
    yield "in process: parse to plans and kernels", _best(lambda: _compile(spec))


def _process(arguments: tuple[str, ...], cache: Path) -> float:
    environment = {**os.environ, "TPCGEN_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tpcgen.cli", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start


def _best(work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _resolve(spec: Path) -> object:
    from tpcgen.program import load

    return load(spec)


def _compile(spec: Path) -> object:
    from tpcgen.compiler import Options, compile_spec

    return compile_spec(spec, Options())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
