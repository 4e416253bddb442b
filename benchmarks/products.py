"""How much of a kernel of attention multiplies: benchmarks/kernels.py prints it.

A bundle multiplies 128 pairs of bf16 or 64 of f32 at most as the kernels do it. Executed are all products of a kernel,
useful those of keys that their query visits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assembled import UnmatchedError, totals

from tpcgen.kernel.cycles import runs
from tpcgen.kernel.ir import Kernel, Loop, VectorOp
from tpcgen.program.sizes import Value
from tpcgen.toolchain.assembly import MachineLoop, machine_loops

MULTIPLIES = {"bmac": 1, "mac_by_parts": 2}
"""Bundles of an operation."""


@dataclass(frozen=True)
class Shares:
    """Bundles that multiply among those of the innermost loops that do, of complete tiles, of the whole kernel; useful
    products among the executed ones.
    """

    innermost: float
    tiles: float
    whole: float
    useful: float


def shares(kernel: Kernel, text: str, values: Mapping[str, Value], terms: Sequence[int], visited: int) -> Shares:
    """`terms`: of a complete tile of scores and of one of values; `visited`: products that are useful, in bundles.

    UnmatchedError where the loops of the assembly are not those of the kernel.
    """
    total = totals(kernel, text, values)
    hot = [(p, products(p.loop)) for p in total.hot if products(p.loop)]
    executed = sum(p.iterations * n for p, n in hot)
    inside = sum(p.iterations * p.made.words for p, n in hot)
    tiles = _tiles(kernel, machine_loops(text), values)
    if len(tiles) != len(terms):
        raise UnmatchedError(f"{len(tiles)} loops over tiles")
    each = [tile.bundles(n) / (tile.products * n) for tile, n in zip(tiles, terms, strict=True)]
    share = len(each) / sum(each)  # as many products of either kind
    return Shares(executed / inside, share, executed / total.bundles, visited / executed)


def products(loop: Loop) -> int:
    """Bundles that multiply in an iteration."""
    return sum(MULTIPLIES.get(s.op, 0) for s in loop.body if isinstance(s, VectorOp))


@dataclass(frozen=True)
class _Tile:
    """`products` of a term; bundles of a pass beside its loop over terms, of an iteration of that, its terms."""

    products: float
    around: int
    iteration: int
    depth: int

    def bundles(self, terms: int) -> float:
        return self.around + self.iteration * terms / self.depth


def _tiles(kernel: Kernel, made: Sequence[MachineLoop], values: Mapping[str, Value]) -> list[_Tile]:
    """Loops with a loop of products right inside of them, in text order; that over the terms left is not passed."""
    dims = len(kernel.index_space)
    loops = [None] * dims + [r.loop for r in runs(kernel, values)[1:]]
    by_loop = {id(loop): m for loop, m in zip(loops, made, strict=True) if loop is not None}
    found: list[_Tile] = []
    for loop in loops:
        inner = [s for s in loop.body if isinstance(s, Loop)] if loop is not None else []
        main = [s for s in inner if products(s) and s.step > 1]
        if loop is None or not main:
            continue
        words = by_loop[id(loop)].words - sum(by_loop[id(s)].words for s in inner)
        (terms,) = main
        found.append(_Tile(products(terms) / terms.step, words, by_loop[id(terms)].words, terms.step))
    return found
