"""When each node of a graph runs: MME, TPC and DMA work at the same time and share HBM.

An engine takes one node at a time, the earliest listed of those whose inputs are there. A node first waits for its
launch, then works at the pace of its engine unless its share of HBM is less than it asks for; shares are max-min fair.
Deterministic; every time is a sum of the inputs' times, nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

ENGINES = ("MME", "TPC", "DMA")


class DeadlockError(ValueError):
    """Nodes wait for each other."""


@dataclass(frozen=True, slots=True)
class Node:
    """`seconds` of the engine when nothing else holds it up, `launch` seconds before them, `hbm` bytes meanwhile.

    `after`: positions of the nodes it waits for.
    """

    name: str
    engine: str
    seconds: float
    launch: float
    hbm: float
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """When a node holds its engine, launch included; seconds from the start of the graph."""

    node: int
    engine: str
    start: float
    end: float


@dataclass(slots=True)
class _Running:
    node: int
    start: float
    launch: float
    left: float
    full: float
    """Share of the work an engine does in a second when HBM does not hold it up."""
    hbm: float
    speed: float = 0.0


def simulate(nodes: Sequence[Node], hbm_rate: float) -> tuple[Span, ...]:
    """Spans in the order of the nodes. DeadlockError where nodes wait for each other."""
    waits = [len(set(n.after)) for n in nodes]
    followers: list[list[int]] = [[] for _ in nodes]
    for position, node in enumerate(nodes):
        for before in set(node.after):
            followers[before].append(position)
    ready: dict[str, list[int]] = {engine: [] for engine in ENGINES}
    for position, count in enumerate(waits):
        if count == 0:
            heappush(ready[nodes[position].engine], position)
    running: dict[str, _Running] = {}
    spans: dict[int, Span] = {}
    now = 0.0
    while len(spans) < len(nodes):
        for engine in ENGINES:
            if engine not in running and ready[engine]:
                position = heappop(ready[engine])
                running[engine] = _start(nodes[position], position, now)
        if not running:
            raise DeadlockError("nodes wait for each other")
        _share([r for r in running.values() if r.launch <= 0], hbm_rate)
        step = min(_next(r) for r in running.values())
        now += step
        for engine, r in list(running.items()):
            if _next(r) <= step * (1 + 1e-12):
                if r.launch > 0 and r.left > 0:
                    r.launch = 0.0
                    continue
                spans[r.node] = Span(r.node, engine, r.start, now)
                del running[engine]
                for follower in followers[r.node]:
                    waits[follower] -= 1
                    if waits[follower] == 0:
                        heappush(ready[nodes[follower].engine], follower)
            elif r.launch > 0:
                r.launch -= step
            else:
                r.left -= step * r.speed
    return tuple(spans[position] for position in range(len(nodes)))


def undercut_by_none(nodes: Sequence[Node], hbm_rate: float) -> float:
    """Seconds that no order of the nodes, listed behind those they wait for, undercuts: of the busiest engine, of the
    longest chain, of all traffic. Unlike `simulate` it never falls when a node takes longer.
    """
    ends: list[float] = []
    engines: dict[str, float] = {}
    for n in nodes:
        own = n.launch + max(n.seconds, n.hbm / hbm_rate)
        ends.append(own + max((ends[before] for before in n.after), default=0.0))
        engines[n.engine] = engines.get(n.engine, 0.0) + own
    return max(*ends, *engines.values(), sum(n.hbm for n in nodes) / hbm_rate)


def _start(node: Node, position: int, now: float) -> _Running:
    work = node.seconds > 0 or node.hbm > 0
    return _Running(position, now, node.launch, float(work), 1 / node.seconds if node.seconds > 0 else inf, node.hbm)


def _next(r: _Running) -> float:
    """Seconds until something happens to it."""
    if r.launch > 0:
        return r.launch
    return r.left / r.speed if r.left > 0 else 0.0


def _share(working: list[_Running], hbm_rate: float) -> None:
    """Max-min fair: who asks for less than an equal share gets it, the rest is divided again."""
    rate = hbm_rate
    asking = sorted((r for r in working if r.hbm > 0), key=lambda r: (r.hbm * r.full, r.node))
    for taken, r in enumerate(asking):
        given = min(rate / (len(asking) - taken), r.hbm * r.full)
        r.speed = min(r.full, given / r.hbm)
        rate -= given
    for r in working:
        if r.hbm <= 0:
            r.speed = r.full


def makespan(spans: Sequence[Span]) -> float:
    return max((s.end for s in spans), default=0.0)


def busy(spans: Sequence[Span]) -> dict[str, float]:
    """Seconds each engine is held, engines that never are left out."""
    found: dict[str, float] = {}
    for s in spans:
        found[s.engine] = found.get(s.engine, 0.0) + s.end - s.start
    return found


def overlap(spans: Sequence[Span]) -> float:
    """Seconds during which two engines or more are held."""
    edges = sorted([(s.start, 1) for s in spans if s.end > s.start] + [(s.end, -1) for s in spans if s.end > s.start])
    held, since, total = 0, 0.0, 0.0
    for time, change in edges:
        if held >= 2:
            total += time - since
        held, since = held + change, time
    return total
