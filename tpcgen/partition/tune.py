"""The plans of one program for several sizes: each plan once, with the sizes it was chosen at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from tpcgen.machine import Machine, machines
from tpcgen.partition.choose import Choice, Space, choose_among, choose_each, space
from tpcgen.partition.estimate import estimate
from tpcgen.partition.plan import Plan, Stage, TpcStage
from tpcgen.partition.price import TpcCostFunction
from tpcgen.program import ir
from tpcgen.program.sizes import Binding
from tpcgen.rewrite.alternatives import Alternative


@dataclass(frozen=True, slots=True)
class Tuned:
    """`choices` at `bindings`, one each; none when the plan was taken without knowing sizes."""

    plan: Plan
    bindings: tuple[Binding, ...]
    choices: tuple[Choice, ...]


def tune(
    program: ir.Program,
    target: str,
    bindings: Sequence[Binding],
    *,
    cost: TpcCostFunction = estimate,
    known: Mapping[str, Machine] | None = None,
    given: Sequence[Alternative] = (),
) -> tuple[Tuned, ...]:
    """The plan of each binding, equal ones together. The last one takes every other size: the chosen plan whose worst
    slowdown at any binding is least. Without bindings: the plan closest to the program's own layout. `given` as of
    `alternatives`.

    TPC stages of different plans have the same name only when they are the same. Errors as of `choose`.
    """
    devices = machines() if known is None else known
    if not bindings:
        return (Tuned(space(program, devices[target], given).plans[0], (), ()),)
    found, choices = choose_each(program, devices[target], bindings, cost=cost, given=given)
    labels = dict.fromkeys(c.plan.label for c in choices)
    pairs = list(zip(bindings, choices, strict=True))
    default = min(labels, key=lambda label: max(_slowdown(label, found, b, c, cost) for b, c in pairs))
    taken: dict[str, TpcStage] = {}
    result: list[Tuned] = []
    for label in (default, *(x for x in labels if x != default)):
        own = [(b, c) for b, c in zip(bindings, choices, strict=True) if c.plan.label == label]
        plan = _named_apart(own[0][1].plan, taken)
        result.append(Tuned(plan, tuple(b for b, _ in own), tuple(_with(c, plan) for _, c in own)))
    return (*result[1:], result[0])


def _slowdown(label: str, found: Space, binding: Binding, choice: Choice, cost: TpcCostFunction) -> tuple[bool, float]:
    """Whether HBM cannot hold the plan of that label, then its time as a multiple of the chosen one's."""
    priced = dict(((choice.plan.label, choice.price), *choice.rejected))
    price = priced.get(label) or choose_among(found, binding, cost=cost, pin=label).price
    return not price.fits, price.seconds / choice.price.seconds if choice.price.seconds else 1.0


def _named_apart(plan: Plan, known: dict[str, TpcStage]) -> Plan:
    return replace(plan, stages=tuple(_own_name(s, known) for s in plan.stages))


def _own_name(stage: Stage, known: dict[str, TpcStage]) -> Stage:
    if not isinstance(stage, TpcStage):
        return stage
    names = (stage.name if n == 1 else f"{stage.name}_{n}" for n in count(1))
    named = (replace(stage, name=name) for name in names)
    return next(s for s in named if known.setdefault(s.name, s) == s)


def _with(choice: Choice, plan: Plan) -> Choice:
    """The choice with the stage names of `plan`."""
    stages = tuple(replace(p, name=s.name) for p, s in zip(choice.price.stages, plan.stages, strict=True))
    return replace(choice, plan=plan, price=replace(choice.price, stages=stages))
