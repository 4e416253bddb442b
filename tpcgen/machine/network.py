"""How long the cards of a box take to send each other bytes."""

from __future__ import annotations

from tpcgen.machine.model import Machine


def collective_seconds(machine: Machine, to_each: int) -> float:
    """A collective in which every card sends `to_each` bytes to every other at the same time, each over own links.

    An all-to-all, an all-gather or a reduce-scatter; an all-reduce is two of them, one after the other.
    """
    network = machine.network
    return network.collective_seconds + to_each / (network.links_per_pair * network.link_rate)
