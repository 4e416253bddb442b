"""The kernels of the four specs, every plan of them."""

from __future__ import annotations

from pathlib import Path

from tpcgen.emit.names import guid
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.lower import lower
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import Plan, TpcStage
from tpcgen.program import load
from tpcgen.program.ir import Program

EXAMPLES = Path(__file__).parents[2] / "examples"
SPECS = ("causal", "alibi_causal", "window", "full")


def program_of(op: str, dtype: str) -> Program:
    module = load(str(EXAMPLES / f"{op}.dsl"))
    return module.program(op, **dict.fromkeys(module.dtype_variables(op), dtype))


def kernels_of(plan: Plan, dtype: str) -> list[tuple[TpcStage, Kernel]]:
    """The TPC stages of a plan, lowered."""
    stages = [s for s in plan.stages if isinstance(s, TpcStage)]
    return [(s, lower(s, target=plan.target, name=guid("tpcgen", plan.program.name, s.name, dtype))) for s in stages]


def every_kernel(op: str, dtype: str, target: str) -> list[tuple[TpcStage, Kernel]]:
    """Of all plans: both lowerings of softmax."""
    plans = enumerate_plans(program_of(op, dtype), target)
    return [made for plan in plans for made in kernels_of(plan, dtype)]
