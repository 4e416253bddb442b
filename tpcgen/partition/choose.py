"""The cheapest plan at given sizes, and what was rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpcgen.diagnostics import Diagnostic, DiagnosticError
from tpcgen.machine import Machine, machines
from tpcgen.machine.tpc import TpcCost
from tpcgen.partition.baseline import baselines
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.estimate import estimate
from tpcgen.partition.plan import Plan, TpcStage
from tpcgen.partition.price import PlanPrice, TpcCostFunction, price
from tpcgen.program import ir
from tpcgen.program.sizes import Binding, Value


@dataclass(frozen=True, slots=True)
class Choice:
    """`rejected`: the other plans, cheapest first. `baselines`: what the vendor's stack would run instead.

    `impossible`: plans whose kernels are not lowered yet, by label, with what is in the way.
    """

    plan: Plan
    price: PlanPrice
    rejected: tuple[tuple[str, PlanPrice], ...]
    baselines: tuple[PlanPrice, ...]
    impossible: tuple[tuple[str, Diagnostic], ...] = ()

    @property
    def better_baseline(self) -> PlanPrice | None:
        """A baseline that beats the plan in the model: the user should know."""
        best = min(self.baselines, key=lambda b: b.seconds, default=None)
        return best if best is not None and best.seconds < self.price.seconds else None


def choose(
    program: ir.Program,
    target: str,
    binding: Binding,
    *,
    cost: TpcCostFunction = estimate,
    pin: str | None = None,
    known: Mapping[str, Machine] | None = None,
) -> Choice:
    """The cheapest plan for a program at the sizes of `binding`; plans that HBM cannot hold come last.

    `pin` names a plan by its label instead. `cost` says what a TPC stage issues. `known`: the devices by name,
    `machines()` where it is None. Deterministic: ties go to the plan listed first. KeyError for an unknown target;
    ValueError for a label no plan has; DiagnosticError (E4xx) for what no plan lowers yet.
    """
    machine = (machines() if known is None else known)[target]
    plans = enumerate_plans(program, machine.name)
    priced, impossible = _priced(plans, machine, binding, cost)
    if not priced:
        raise DiagnosticError((impossible[0][1],))
    ranked = sorted(priced, key=lambda item: (not item[1].fits, item[1].seconds))
    best = ranked[0] if pin is None else next((item for item in ranked if item[0].label == pin), None)
    if best is None:
        raise ValueError(f"no plan is called {pin!r}; there are {', '.join(repr(p.label) for p, _ in ranked)}")
    rejected = tuple((plan.label, p) for plan, p in ranked if plan is not best[0])
    return Choice(*best, rejected, baselines(plans[0], machine, binding), impossible)


def _priced(
    plans: Sequence[Plan], machine: Machine, binding: Binding, cost: TpcCostFunction
) -> tuple[list[tuple[Plan, PlanPrice]], tuple[tuple[str, Diagnostic], ...]]:
    """Plans with their prices, and those that have none. A stage that plans share is costed once."""
    known: dict[TpcStage, TpcCost] = {}

    def once(stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> TpcCost:
        if stage not in known:
            known[stage] = cost(stage, machine, values)
        return known[stage]

    priced: list[tuple[Plan, PlanPrice]] = []
    impossible: list[tuple[str, Diagnostic]] = []
    for plan in plans:
        try:
            priced.append((plan, price(plan, machine, binding, once)))
        except DiagnosticError as error:
            impossible.append((plan.label, error.diagnostics[0]))
    return priced, tuple(impossible)
