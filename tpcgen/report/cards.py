"""What one of several cards sends, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tpcgen.machine import Machine
from tpcgen.partition.cards import Cards, Share, Transfer
from tpcgen.partition.table import duration, size
from tpcgen.report.tables import table


@dataclass(frozen=True)
class Shared:
    """How an op is shared, and what each card sends for one call of it."""

    cards: Cards
    transfers: tuple[Transfer, ...]


def lines(shared: Shared, values: Mapping[str, int | float], seconds: float, machine: Machine) -> Iterator[str]:
    """`values` are a card's own sizes, `seconds` what its plan takes there."""
    cards, network = shared.cards, machine.network
    names = ", ".join(n for n in cards.sequence if n in values)
    rest = (
        f" of its heads, given and giving 1/{cards.count} of {names}" if cards.share is Share.HEADS else f" of {names}"
    )
    yield f"one of {cards.count} cards of a box: this plan is 1/{cards.count}{rest}"
    rows = [(t.tensor, t.collective, _way(t), size(t.sent), duration(t.seconds)) for t in shared.transfers]
    if not rows:
        yield "nothing is sent to other cards"
        return
    header = ("tensor", "collective", "", "sent by a card", "time")
    yield table(header, rows, frozenset({"sent by a card", "time"})).rstrip("\n")
    forward = [t for t in shared.transfers if not t.backward]
    backward = [t for t in shared.transfers if t.backward]
    sent = sum(t.seconds for t in forward)
    if forward:
        yield f"with the plan {duration(seconds + sent)}: {duration(sent)} of communication, {_moved(forward)} a card"
    if backward:
        yield f"backward {duration(sum(t.seconds for t in backward))} of communication, {_moved(backward)} a card"
    links = f"{network.links_per_pair} link{'s' if network.links_per_pair > 1 else ''}"
    yield f"{links} of {network.link_rate / 1e9:g} GB/s between each pair of cards, and a collective takes"
    yield f"{duration(network.collective_seconds)} more; one after the other, none behind a stage (assumption)"


def _way(t: Transfer) -> str:
    return "of the gradient" if t.backward else ""


def _moved(transfers: Sequence[Transfer]) -> str:
    return size(sum(t.sent for t in transfers))
