"""Kernels as the real compiler makes them, beside the loops of the kernel IR that they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from tpcgen.kernel.coordinates import members
from tpcgen.kernel.cycles import Slots, block_slots, loop_bundles, loop_slots, runs
from tpcgen.kernel.ir import Kernel, Loop, Statement
from tpcgen.kernel.tpc_c import render
from tpcgen.program.sizes import Value, evaluate
from tpcgen.toolchain import tpc_clang
from tpcgen.toolchain.assembly import MachineLoop, machine_loops, words


@dataclass(frozen=True)
class Passed:
    """A loop that has none inside, and how often its body is passed at the sizes in question."""

    loop: Loop
    made: MachineLoop
    iterations: float

    def bound(self, kernel: Kernel) -> float:
        """Bundles of an iteration if its slots alone decided."""
        return loop_slots(kernel, self.loop).bundles


@dataclass(frozen=True)
class Totals:
    """Bundles of a kernel over all its members, as if one TPC ran them; `hot` are the loops without loops inside."""

    bundles: float
    slots: float
    accesses: float
    hot: tuple[Passed, ...]

    @property
    def idle(self) -> float:
        """Share of the bundles of the hot loops that are empty."""
        return sum(h.iterations * h.made.idle for h in self.hot) / sum(h.iterations * h.made.words for h in self.hot)


class UnmatchedError(Exception):
    """The compiler unrolled a loop or removed one."""


def assembly(compiler: tpc_clang.TpcClang, kernel: Kernel, folder: Path) -> str:
    source, made = folder / "kernel.c", folder / "kernel.s"
    source.write_text(render(kernel))
    tpc_clang.compile_kernel(compiler, source, kernel.target, made, {})
    return made.read_text()


def innermost(statements: Sequence[Statement]) -> Iterator[Loop]:
    """Loops without a loop inside, in text order."""
    for s in statements:
        if isinstance(s, Loop):
            yield from list(innermost(s.body)) or [s]


def predicted(kernel: Kernel) -> list[float]:
    """Cycles of each innermost loop; of a member where there is none: members are a loop too."""
    return [loop_bundles(kernel, loop) for loop in innermost(kernel.body)] or [loop_bundles(kernel, members(kernel))]


def totals(kernel: Kernel, text: str, values: Mapping[str, Value]) -> Totals:
    """Each word as often as the loop around it is passed, as if one TPC ran the whole index space.

    UnmatchedError where the loops are not those of the kernel.
    """
    found, (first, *rest) = machine_loops(text), runs(kernel, values)
    outer = len(kernel.outer_dims)
    depths = [*range(outer), *_ir_depths(kernel.body, outer)]
    iterations = [*_members(kernel, values), *(r.iterations for r in rest)]
    loops = [*[first.loop] * outer, *(r.loop for r in rest)]
    around = _outer(found)
    if depths != _depths(around):
        raise UnmatchedError(f"{len(loops)} loops became {len(found)}")
    bundles = float(words(text))
    hot: list[Passed] = []
    for made, loop, often, n in zip(found, loops, iterations, around, strict=True):
        bundles += made.words * (often - (1 if n is None else iterations[n]))
        if made.innermost:
            hot.append(Passed(loop, made, often))
            expected = block_slots(kernel, loop.body).accesses
            if made.moves != expected:
                raise UnmatchedError(f"a loop of {expected:g} accesses became one of {made.moves}")
    slots = sum(r.iterations * _slots(kernel, r.loop).bundles for r in (first, *rest))
    accesses = sum(r.iterations * block_slots(kernel, r.loop.body).accesses for r in (first, *rest))
    return Totals(bundles, slots, accesses, tuple(hot))


def _members(kernel: Kernel, values: Mapping[str, Value]) -> list[float]:
    """Passes of the loops over the dims of the index space, outermost first."""
    extents = [int(evaluate(d.extent, values)) for d in kernel.index_space]
    return [float(prod(extents[n:])) for n in kernel.outer_dims]


def _slots(kernel: Kernel, loop: Loop) -> Slots:
    """What an iteration issues, loops inside it left out."""
    if any(isinstance(s, Loop) for s in loop.body):
        return block_slots(kernel, loop.body)
    return loop_slots(kernel, loop)


def _ir_depths(statements: Sequence[Statement], depth: int = 0) -> Iterator[int]:
    for s in statements:
        if isinstance(s, Loop):
            yield depth
            yield from _ir_depths(s.body, depth + 1)


def _outer(found: Sequence[MachineLoop]) -> list[int | None]:
    """The loop around each, the nearest one."""
    return [
        max(
            (n for n, o in enumerate(found[:at]) if o.first <= loop.first and loop.first < o.first + o.words),
            default=None,
        )
        for at, loop in enumerate(found)
    ]


def _depths(around: Sequence[int | None]) -> list[int]:
    depths: list[int] = []
    for n in around:
        depths.append(0 if n is None else depths[n] + 1)
    return depths
