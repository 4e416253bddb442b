"""What several cards that share an op send each other, and how long that takes.

Heads are shared by all-to-all, a sequence by passing on states, as `tpcgen.torch.distributed` does both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import lcm, prod

from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.machine import Machine
from tpcgen.machine.network import collective_seconds
from tpcgen.program.heads import Axes, has_axis, head_axes
from tpcgen.program.ir import Program, Tensor
from tpcgen.program.sizes import Binding

Values = Mapping[str, int | float]


class Share(Enum):
    HEADS = "heads"
    SEQUENCE = "sequence"


@dataclass(frozen=True)
class Cards:
    """`count` cards of one box that share the heads or the sequence of ops; `heads` and `sequence` name those sizes."""

    count: int
    share: Share
    heads: str = "H"
    sequence: tuple[str, ...] = ("M", "N")


@dataclass(frozen=True)
class Transfer:
    """What a collective does with a tensor. `sent`: bytes that leave a card; `seconds`: until all have what they need.

    `backward`: it is the gradient of `tensor` that is sent.
    """

    tensor: str
    collective: str
    sent: int
    seconds: float
    backward: bool


def own_sizes(program: Program, values: Values, cards: Cards) -> Values:
    """The sizes of an op on one of the cards.

    DiagnosticError: E544 where the cards do not divide the heads or the sequence; what `head_axes` raises.
    """
    if cards.share is Share.SEQUENCE:
        names = [n for n in cards.sequence if n in program.sizes]
        return {**values, **{n: _divided(program, n, values, cards) for n in names if n in values}}
    found = head_axes(program, cards.heads, cards.sequence)
    for name in (n for n in cards.sequence if n in values):
        _divided(program, name, values, cards)
    groups = {g: lcm(int(values[g]), cards.count) // cards.count for g in found.groups if g in values}
    heads = {cards.heads: _divided(program, cards.heads, values, cards)} if cards.heads in values else {}
    return {**values, **groups, **heads}


def _divided(program: Program, name: str, values: Values, cards: Cards) -> int:
    count = int(values[name])
    if count % cards.count:
        message = f"{cards.count} cards cannot share {name} = {count} of {program.name}"
        hint = f"each has as much as the others: {cards.count} must divide {name}"
        raise DiagnosticError((Diagnostic("E544", message, NOWHERE, hint),))
    return count // cards.count


def transfers(binding: Binding, cards: Cards, machine: Machine, wrt: Sequence[str]) -> list[Transfer]:
    """What is sent for one call of an op at a card's own sizes; backward too where it has gradients, of inputs `wrt`.

    DiagnosticError (E545) for more cards than a box has.
    """
    if cards.count > machine.network.box_cards:
        message = f"a box has {machine.network.box_cards} cards, not {cards.count}"
        raise DiagnosticError((Diagnostic("E545", message, NOWHERE, "communication between boxes has no price"),))
    program = binding.program
    if cards.share is Share.SEQUENCE:
        found = _of_sequence(program, cards.sequence, binding)
    else:
        axes = head_axes(program, cards.heads, cards.sequence)
        found = [*(_input(a, binding) for a in axes.inputs), *(_output(a, binding) for a in axes.outputs)]
    outputs = [t.name for t in program.outputs if t.dtype.is_float]
    gradients = {*wrt, *outputs} if wrt else set[str]()
    made = [t for moved in found for t in moved.transfers(cards.count, machine)]
    return [t for t in made if not t.backward or t.tensor in gradients]


@dataclass(frozen=True)
class _Moved:
    """`forward` and `backward`: collectives in which each card sends every other `share` bytes of `tensor`.

    `whole`: those bytes are all that a card holds, else one part of as many as there are cards.
    """

    tensor: Tensor
    size: int
    forward: str
    backward: str
    whole: bool

    def transfers(self, cards: int, machine: Machine) -> list[Transfer]:
        to_each = self.size if self.whole else -(-self.size // cards)
        ways = ((self.forward, False), (self.backward, True))
        return [
            Transfer(
                self.tensor.name,
                name,
                rounds * to_each * (cards - 1),
                rounds * collective_seconds(machine, to_each),
                backward,
            )
            for name, backward in ways
            if name
            for rounds in (2 if name == "all-reduce" else 1,)
        ]


def _input(a: Axes, binding: Binding) -> _Moved:
    size = _bytes(a.tensor, binding)
    match a:
        case Axes(heads=None, sequence=None):
            return _Moved(a.tensor, size, "", "all-reduce", whole=False)
        case Axes(heads=None):
            return _Moved(a.tensor, size, "all-gather", "reduce-scatter", whole=False)
        case Axes(sequence=None):
            return _Moved(a.tensor, size, "", "all-gather", whole=True)
        case _:
            return _Moved(a.tensor, size, "all-to-all", "all-to-all", whole=False)


def _output(a: Axes, binding: Binding) -> _Moved:
    size = _bytes(a.tensor, binding)
    match a:
        case Axes(heads=None):
            return _Moved(a.tensor, size, "", "", whole=False)
        case Axes(sequence=None):
            return _Moved(a.tensor, size, "all-gather", "reduce-scatter", whole=True)
        case _:
            return _Moved(a.tensor, size, "all-to-all", "all-to-all", whole=False)


def _of_sequence(program: Program, sequence: Sequence[str], binding: Binding) -> list[_Moved]:
    """Outputs without the sequence are what a part of it does to the state, inputs without it the same everywhere."""
    if not any(has_axis(t, sequence) for t in program.inputs):
        return []
    inputs = [_Moved(t, _bytes(t, binding), "", "all-reduce", whole=False) for t in program.inputs]
    outputs = [_Moved(t, _bytes(t, binding), "all-gather", "reduce-scatter", whole=True) for t in program.outputs]
    return [m for m in (*inputs, *outputs) if not has_axis(m.tensor, sequence)]


def _bytes(tensor: Tensor, binding: Binding) -> int:
    return prod(binding.shape(tensor)) * tensor.dtype.size
