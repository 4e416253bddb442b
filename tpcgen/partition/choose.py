"""The cheapest plan at given sizes, and what was rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from tpcgen.diagnostics import Diagnostic, DiagnosticError
from tpcgen.machine import Machine, machines
from tpcgen.machine.tpc import TpcCost
from tpcgen.partition.baseline import baselines
from tpcgen.partition.enumerate import plans_of
from tpcgen.partition.estimate import at_least, estimate
from tpcgen.partition.plan import Plan, TpcStage
from tpcgen.partition.price import PlanPrice, TpcCostFunction, nodes, price, stage_price, waits
from tpcgen.partition.simulate import undercut_by_none
from tpcgen.partition.subprogram import unnamed
from tpcgen.program import ir
from tpcgen.program.sizes import Binding, Value
from tpcgen.rewrite.alternatives import IN_LITTLE_MEMORY, Alternative, Family, alternatives
from tpcgen.rewrite.outcome import Refused

BUDGET = 8
"""Plans whose kernels are made to price them: about 20 ms each."""
_ROUNDING = 1 - 1e-9
"""A bound is not above the simulated time that it bounds because the same numbers were added in another order."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`rejected`: the other plans, cheapest first. `baselines`: what the vendor's stack would run instead.

    `impossible`: plans whose kernels are not lowered yet, by label, with what is in the way. `unpriced`: plans that
    were not looked at closer, or not to the end, each with the seconds it takes at least; `refused`: rewrites that did
    not fire, and why.
    """

    plan: Plan
    price: PlanPrice
    rejected: tuple[tuple[str, PlanPrice], ...]
    baselines: tuple[PlanPrice, ...]
    impossible: tuple[tuple[str, Diagnostic], ...] = ()
    unpriced: tuple[tuple[str, float], ...] = ()
    refused: tuple[tuple[str, Refused], ...] = ()

    @property
    def others(self) -> tuple[tuple[str, float, bool], ...]:
        """`rejected`, then `unpriced`, cheapest first, by label: seconds, and whether these are a lower bound only."""
        bounded = sorted(self.unpriced, key=lambda item: item[1])
        return (*((label, p.seconds, False) for label, p in self.rejected), *((*item, True) for item in bounded))

    @property
    def loss(self) -> float:
        """At most how many times slower than the best plan this one is, by the model; 1.0 when it is the best."""
        least = min((seconds for _, seconds in self.unpriced), default=self.price.seconds)
        return max(self.price.seconds / least, 1.0) if least > 0 else 1.0

    @property
    def better_baseline(self) -> PlanPrice | None:
        """A baseline that beats the plan in the model: the user should know."""
        best = min(self.baselines, key=lambda b: b.seconds, default=None)
        return best if best is not None and best.seconds < self.price.seconds else None


@dataclass(frozen=True, slots=True)
class Space:
    """The plans of a program on a machine, for any sizes."""

    machine: Machine
    plans: tuple[Plan, ...]
    refused: tuple[tuple[str, Refused], ...]


def space(
    program: ir.Program,
    machine: Machine,
    given: Sequence[Alternative] = (),
    families: Sequence[Family] | None = None,
) -> Space:
    """Every plan, `given` and `families` as of `alternatives`. DiagnosticError (E4xx) where none is lowered yet."""
    found = alternatives(program, given, families)
    return Space(machine, plans_of(program, found, machine.name), found.refused)


def choose(
    program: ir.Program,
    target: str,
    binding: Binding,
    *,
    cost: TpcCostFunction = estimate,
    pin: str | None = None,
    known: Mapping[str, Machine] | None = None,
) -> Choice:
    """As `choose_among` of every plan of the program. `known`: the devices by name, `machines()` where it is None.
    KeyError for an unknown target.
    """
    machine = (machines() if known is None else known)[target]
    if pin is not None:
        return choose_among(space(program, machine), binding, cost=cost, pin=pin)
    return choose_each(program, machine, [binding], cost=cost)[1][0]


def choose_each(
    program: ir.Program,
    machine: Machine,
    bindings: Sequence[Binding],
    *,
    cost: TpcCostFunction = estimate,
    given: Sequence[Alternative] = (),
) -> tuple[Space, list[Choice]]:
    """The cheapest plan at each of the sizes, and what it was chosen among: plans for little memory, too, where HBM
    holds no other at some of them.
    """
    found = space(program, machine, given)
    choices = [choose_among(found, b, cost=cost) for b in bindings]
    if all(c.price.fits for c in choices):
        return found, choices
    wider = space(program, machine, given, IN_LITTLE_MEMORY)
    return wider, [choose_among(wider, b, cost=cost) for b in bindings]


def choose_among(
    found: Space,
    binding: Binding,
    *,
    cost: TpcCostFunction = estimate,
    pin: str | None = None,
    budget: int = BUDGET,
    thorough: bool = False,
) -> Choice:
    """The cheapest plan at the sizes of `binding`; plans that HBM cannot hold come last.

    Branch and bound: plans are looked at in the order of an estimate, each until its lower bound is above the best
    price, to the end where `thorough`; after `budget` plans the others are left too, and `Choice.loss` says what that
    may cost.
    `pin` names a plan by its label instead. `cost` says what a TPC stage issues. Deterministic: ties go to the plan
    with fewer multiply-adds, then to the one listed first. ValueError for a label no plan has; DiagnosticError (E4xx)
    for what no plan lowers yet.
    """
    machine, plans = found.machine, found.plans
    priced, impossible, unpriced = _priced(plans, machine, binding, cost, pin, budget, thorough)
    if not priced:
        raise DiagnosticError((impossible[0][1],))
    ranked = sorted(priced, key=lambda item: (not item[1].fits, item[1].seconds, item[1].macs))
    best = ranked[0] if pin is None else next((item for item in ranked if item[0].label == pin), None)
    if best is None:
        raise ValueError(f"no plan is called {pin!r}; there are {', '.join(repr(p.label) for p in plans)}")
    rejected = tuple((plan.label, p) for plan, p in ranked if plan is not best[0])
    return Choice(*best, rejected, baselines(plans[0], machine, binding), impossible, unpriced, found.refused)


def _priced(
    plans: Sequence[Plan],
    machine: Machine,
    binding: Binding,
    cost: TpcCostFunction,
    pin: str | None,
    budget: int,
    thorough: bool,
) -> tuple[list[tuple[Plan, PlanPrice]], tuple[tuple[str, Diagnostic], ...], tuple[tuple[str, float], ...]]:
    """Plans with their prices, those that have none, and those not worth one. A stage that plans share is costed once;
    the plan called `pin` is priced whatever its bound.
    """
    exact = _Once(cost)
    priced: list[tuple[Plan, PlanPrice]] = []
    impossible: list[tuple[str, Diagnostic]] = []
    unpriced: list[tuple[str, float]] = []
    guess = _Once(estimate)
    guesses = [price(plan, machine, binding, guess) for plan in plans]
    for guessed, plan in sorted(zip(guesses, plans, strict=True), key=lambda item: (not item[0].fits, item[0].seconds)):
        least = price(plan, machine, binding, exact.known_or_at_least)
        best = min((p.seconds for _, p in priced if p.fits), default=inf)
        if plan.label != pin and (least.seconds > best or len(priced) >= budget):
            unpriced.append((plan.label, least.seconds))
            continue
        most = inf if thorough or plan.label == pin else best
        try:
            bound = _too_slow(plan, machine, binding, exact, (least, guessed), most)
            if bound is not None:
                unpriced.append((plan.label, bound))
            else:
                priced.append((plan, price(plan, machine, binding, exact)))
        except DiagnosticError as error:
            impossible.append((plan.label, error.diagnostics[0]))
    return priced, tuple(impossible), tuple(unpriced)


def _too_slow(
    plan: Plan, machine: Machine, binding: Binding, exact: _Once, bounds: tuple[PlanPrice, PlanPrice], most: float
) -> float | None:
    """Costs the stages of a plan but the last, until it takes more than `most` seconds whatever the others cost: then
    what it takes at least. `bounds`: its price by lower bounds and by estimates; a stage comes first where these are
    far apart.
    """
    stages, after = list(bounds[0].stages), waits(plan)
    apart = [guessed.seconds - least.seconds for least, guessed in zip(*(p.stages for p in bounds), strict=True)]
    unknown = [n for n, s in enumerate(plan.stages) if isinstance(s, TpcStage) and not exact.knows(s)]
    for position in sorted(unknown, key=lambda n: -apart[n])[:-1]:
        stages[position] = stage_price(plan, position, machine, binding, exact)
        bound = undercut_by_none(nodes(stages, machine, after), machine.memory.hbm_rate) * _ROUNDING
        if bound > most:
            return bound
    return None


class _Once:
    """A cost function for one machine and binding that looks at each stage once, whatever its buffers are called."""

    def __init__(self, cost: TpcCostFunction) -> None:
        self._cost = cost
        self._alike: dict[TpcStage, TpcStage] = {}
        self._known: dict[TpcStage, TpcCost] = {}
        self._least: dict[TpcStage, TpcCost] = {}

    def __call__(self, stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> TpcCost:
        alike = self._unnamed(stage)
        if alike not in self._known:
            self._known[alike] = self._cost(stage, machine, values)
        return self._known[alike]

    def knows(self, stage: TpcStage) -> bool:
        return self._unnamed(stage) in self._known

    def known_or_at_least(self, stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> TpcCost:
        """No more than the cost: what another plan paid for the same stage, or what no kernel can do without."""
        alike = self._unnamed(stage)
        if alike in self._known:
            return self._known[alike]
        if alike not in self._least:
            self._least[alike] = at_least(stage, machine, values)
        return self._least[alike]

    def _unnamed(self, stage: TpcStage) -> TpcStage:
        if stage not in self._alike:
            self._alike[stage] = replace(stage, name="", program=unnamed(stage.program))
        return self._alike[stage]
