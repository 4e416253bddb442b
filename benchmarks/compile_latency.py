"""How long compiling takes, as a user waits for it: whole processes for the command line, then its parts in process.

    python benchmarks/compile_latency.py [SPEC...]

Prints a Markdown table: the median of several runs in seconds, elapsed and of processor time (children included).
Cold steps are run once, from an empty cache folder.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SPECS = ("causal", "alibi_causal", "window", "full")
GPT2 = {"causal": "B=1,H=12,G=12,M=1024,N=1024,D=64,E=64"}


class Seconds(NamedTuple):
    elapsed: float
    processor: float


def main() -> None:
    specs = [Path(arg) for arg in sys.argv[1:]] or [ROOT / "examples" / f"{name}.dsl" for name in SPECS]
    print("| spec | step | runs | elapsed | processor |\n| --- | --- | ---: | ---: | ---: |")
    for spec in specs:
        for step, runs in _rows(spec):
            elapsed, processor = (median(column) for column in zip(*runs, strict=True))
            print(f"| {spec.stem} | {step} | {len(runs)} | {elapsed:.2f} | {processor:.2f} |", flush=True)


def _rows(spec: Path) -> Iterator[tuple[str, list[Seconds]]]:
    bind = ("--bind", GPT2[spec.stem]) if spec.stem in GPT2 else ()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = ("compile", str(spec), "-o", str(folder / "build"), *bind)
        emission = ("compile", str(spec), "-o", str(folder / "emitted"), *bind, "--no-build", "--no-check")
        yield "compile, cold", _process(command, folder / "cache", 1)
        yield "compile, nothing changed", _process(command, folder / "cache", 5)
        yield "emission, cold", _process(emission, folder / "other", 1)
        yield "emission", _process(emission, folder / "cache", 5)
    yield "parse and resolve, in process", _work(lambda: _resolve(spec))
    yield "parse to kernels, in process", _work(lambda: _compile(spec))


def _process(arguments: tuple[str, ...], cache: Path, runs: int) -> list[Seconds]:
    environment = {**os.environ, "TPCGEN_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tpcgen.cli", *arguments]

    def once() -> None:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stdout + done.stderr)

    return [_timed(once, resource.RUSAGE_CHILDREN) for _ in range(runs)]


def _work(work: Callable[[], object]) -> list[Seconds]:
    work()
    return [_timed(work, resource.RUSAGE_SELF) for _ in range(9)]


def _timed(work: Callable[[], object], whose: int) -> Seconds:
    start, before = time.perf_counter(), resource.getrusage(whose)
    work()
    after = resource.getrusage(whose)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(time.perf_counter() - start, processor)


def _resolve(spec: Path) -> object:
    from tpcgen.program import load

    return load(spec)


def _compile(spec: Path) -> object:
    from tpcgen.compiler import Options, compile_spec

    return compile_spec(spec, Options())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
