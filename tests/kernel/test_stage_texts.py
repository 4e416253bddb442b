"""Every stage of the four specs as text: program, plans, kernel IR, TPC-C, and what the glue says of a kernel."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.kernel.examples import EXAMPLES, SPECS, kernels_of, program_of
from tpcgen.emit import glue
from tpcgen.emit.glue import GlueKernel
from tpcgen.kernel.access import access_patterns
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.print import kernel as kernel_text
from tpcgen.kernel.tpc_c import render
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.plan import TpcStage
from tpcgen.partition.print import plan as plan_text
from tpcgen.program import print as text

CHOICES = (("bf16", "gaudi2"), ("f32", "gaudi2"), ("bf16", "gaudi"))
Golden = Callable[..., None]


def description(source: str, target: str, stage: TpcStage, kernel: Kernel) -> str:
    """What the glue says of the kernel: its own namespace in glue.cpp, index space and access patterns among it."""
    described = GlueKernel(
        kernel.name,
        stage.program,
        kernel.tensors,
        kernel.scalars,
        kernel.index_space,
        access_patterns(kernel, stage.program),
    )
    whole = glue.files("op", target, source, [described], "0", 0)["glue.cpp"]
    found = re.search(
        rf"^namespace {kernel.name} {{.*^}}  // namespace {kernel.name}$", whole, re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return found.group() + "\n"


@pytest.mark.parametrize("op", SPECS)
@pytest.mark.parametrize(("dtype", "target"), CHOICES)
def test_stages(op: str, dtype: str, target: str, golden: Golden) -> None:
    program = program_of(op, dtype)
    plans = enumerate_plans(program, target)
    golden(text.program(program), "program.txt")
    golden("\n".join(map(plan_text, plans)), "plans.txt")
    seen: set[str] = set()
    for plan in plans:
        for stage, kernel in kernels_of(plan, dtype):
            one_step = (op, dtype, target, stage.name) == ("causal", "bf16", "gaudi2", "softmax_2")
            name = f"{stage.name}_along_{stage.lane}"
            if name in seen or (plan.label.startswith("stairs") and not one_step):
                continue  # bands of another tile, other steps: the same text with other constants
            seen.add(name)
            golden(kernel_text(kernel), f"{name}.kernel.txt")
            golden(render(kernel), f"{name}.c")
            golden(description(f"{op}.dsl", target, stage, kernel), f"{name}.glue.txt")


def test_texts_name_no_place_on_this_machine() -> None:
    """Spec lines are named by file name; a path would differ from machine to machine."""
    for plan in enumerate_plans(program_of("causal", "bf16"), "gaudi2"):
        for stage, kernel in kernels_of(plan, "bf16"):
            written = render(kernel) + kernel_text(kernel) + description("causal.dsl", "gaudi2", stage, kernel)
            assert str(EXAMPLES.parent) not in written
            assert "// causal.dsl:" in written
