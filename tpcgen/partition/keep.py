"""Whether a forward keeps row maxima and sums of its softmaxes for the gradient, or the gradient computes them again.

Both are priced, forward and gradient together, at all sizes to tune for: what the forward writes more and the gradient
reads more against what the gradient computes. `schedule { save P rows; }` keeps those of P, `save P nothing;` does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpcgen.machine import Machine
from tpcgen.partition.choose import Choice, Space, choose_among
from tpcgen.partition.enumerate import plans_of
from tpcgen.partition.price import TpcCostFunction
from tpcgen.partition.table import duration
from tpcgen.program import ir
from tpcgen.program.sizes import Binding
from tpcgen.rewrite.alternatives import Alternatives, alternatives
from tpcgen.rewrite.vjp.save import Saving

_WORTH = 0.9
"""Of the time without: a third op per dtype has kernels of its own, and less is within what the model is off by."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Seconds of the forward and of the gradient at one binding, with rows kept and with rows computed again."""

    kept: tuple[float, float]
    again: tuple[float, float]

    def text(self, weights: Sequence[str]) -> str:
        """Both times, for the report."""
        kept, again = (f"{duration(f)} + {duration(b)}" for f, b in (self.kept, self.again))
        return f"forward + gradient take {kept} where rows of {', '.join(weights)} are kept, {again} where not"


def priced(
    saving: Saving, again: Sequence[tuple[Binding, Choice, Choice]], machine: Machine, cost: TpcCostFunction
) -> list[Kept]:
    """`again`: bindings with the choices of forward and gradient where nothing is kept. With rows kept the plans are
    those of the same algorithms, the cheapest of each.
    """
    forwards, gradients = alternatives(saving.forward), alternatives(saving.gradient)
    return [
        Kept(
            (
                _cheapest(saving.forward, forwards, forward, machine, binding, cost),
                _cheapest(saving.gradient, gradients, gradient, machine, binding, cost),
            ),
            (forward.price.seconds, gradient.price.seconds),
        )
        for binding, forward, gradient in again
    ]


def is_worth(found: Sequence[Kept]) -> bool:
    """Whether keeping takes less time in all, by a tenth at least."""
    return sum(sum(x.kept) for x in found) < _WORTH * sum(sum(x.again) for x in found)


def _cheapest(
    program: ir.Program,
    found: Alternatives,
    like: Choice,
    machine: Machine,
    binding: Binding,
    cost: TpcCostFunction,
) -> float:
    label, colon, _ = like.plan.label.partition(":")
    same = tuple(a for a in found.programs if a.label == (label if colon else ""))
    plans = plans_of(program, Alternatives(same or found.programs, ()), machine.name)
    return choose_among(Space(machine, plans, ()), binding, cost=cost).price.seconds
