"""How long choosing a plan takes for every variant of std/, on one core.

    python benchmarks/search_time.py [TARGET [NAME...]]

Prints a Markdown table, the slowest first: processor seconds from the program to the chosen plan at the sizes of its
first check (bf16), and the plans priced. Each variant runs in a process of its own, so that nothing is remembered.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.std.library import VARIANTS, Variant  # noqa: E402
from tpcgen.kernel.cycles import stage_cost  # noqa: E402
from tpcgen.partition.choose import choose  # noqa: E402
from tpcgen.program.sizes import bind  # noqa: E402


def main() -> None:
    target, *names = sys.argv[1:] or ["gaudi2"]
    rows = [(*_in_a_process(VARIANTS[name], target), name) for name in names or VARIANTS]
    print("| variant | seconds | plans priced |\n| --- | ---: | ---: |")
    for seconds, plans, name in sorted(rows, reverse=True):
        print(f"| {name} | {seconds:.2f} | {plans:.0f} |")


def _in_a_process(variant: Variant, target: str) -> tuple[float, float]:
    program, sizes = variant.program("bf16"), variant.checks()[0]
    out, into = os.pipe()
    if os.fork() == 0:
        gc.freeze()  # the collector of a compiler finds no other specs in memory
        start = time.process_time()
        choice = choose(program, target, bind(program, sizes), cost=stage_cost)
        os.write(into, f"{time.process_time() - start} {1 + len(choice.rejected)}".encode())
        os._exit(0)
    os.wait()
    seconds, plans = os.read(out, 100).split()
    os.close(out)
    os.close(into)
    return float(seconds), float(plans)


if __name__ == "__main__":
    main()
