"""Which variants compile: the others are listed with their diagnostic; one that starts to compile fails here too."""

from __future__ import annotations

import pytest

from tests.std.library import VARIANTS, Variant
from tpcgen.compiler import Options, compile_stage
from tpcgen.diagnostics import DiagnosticError
from tpcgen.kernel.cycles import stage_cost
from tpcgen.partition.choose import choose
from tpcgen.partition.plan import TpcStage
from tpcgen.program.sizes import bind

NOT_LOWERED: dict[str, str] = {}


def _refusal(variant: Variant, dtype: str, target: str) -> str:
    """The id of what stops the cheapest plan at the sizes of the first check block from being lowered to kernels."""
    program = variant.program(dtype)
    try:
        choice = choose(program, target, bind(program, variant.checks()[0]), cost=stage_cost)
        for stage in choice.plan.stages:
            if isinstance(stage, TpcStage):
                compile_stage(stage, variant.name, dtype, Options(target=target))
    except DiagnosticError as error:
        return error.diagnostics[0].id
    return ""


@pytest.mark.parametrize("dtype, target", [("bf16", "gaudi2"), ("f32", "gaudi")])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_a_variant_compiles_or_says_what_is_missing(variant: Variant, dtype: str, target: str) -> None:
    assert _refusal(variant, dtype, target) == NOT_LOWERED.get(variant.name, "")


def test_what_is_not_lowered_is_of_the_library() -> None:
    assert set(NOT_LOWERED) <= set(VARIANTS)
