"""Every plan of a program: one per choice of lanes. The structure of a plan does not depend on bound sizes."""

from __future__ import annotations

from itertools import product

from tpcgen.partition.assemble import assemble, matmuls
from tpcgen.partition.groups import groups, names
from tpcgen.partition.lanes import lanes
from tpcgen.partition.plan import Plan
from tpcgen.program import ir
from tpcgen.rewrite.normalise import normalise

MAX_PLANS = 64
"""Beyond this many combinations the last kernels keep their first lane."""


def enumerate_plans(program: ir.Program, target: str) -> tuple[Plan, ...]:
    """Plans legal at every size the contract allows, the one closest to the program's own layout first.

    Labels are unique: "softmax along k", "softmax along q". DiagnosticError (E4xx) for what is not lowered yet.
    """
    normal = normalise(program)
    parts = groups(normal)
    choices = _capped([(None,) if g.mme else (lanes(g, normal) or (None,)) for g in parts])
    shapes = matmuls(normal, parts)
    plans: list[Plan] = []
    for chosen in product(*choices):
        named = [
            f"{n} along {lane}"
            for n, lane, options in zip(names(parts), chosen, choices, strict=True)
            if len(options) > 1
        ]
        label = ", ".join(named) or "the only one"
        plans.append(assemble(program, normal, parts, shapes, dict(enumerate(chosen)), target, label))
    return tuple(plans)


def _capped(choices: list[tuple[str | None, ...]]) -> list[tuple[str | None, ...]]:
    total = 1
    result: list[tuple[str | None, ...]] = []
    for options in choices:
        kept = options if total * len(options) <= MAX_PLANS else options[:1]
        total *= len(kept)
        result.append(kept)
    return result
