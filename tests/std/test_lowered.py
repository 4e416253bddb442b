"""Which variants compile: the others are listed with their diagnostic; one that starts to compile fails here too."""

from __future__ import annotations

import pytest

from tests.std.library import VARIANTS, Variant
from tpcgen.compiler import Options, compile_spec
from tpcgen.diagnostics import DiagnosticError
from tpcgen.emit.artifact import files

NOT_LOWERED: dict[str, str] = {}


def _refusal(variant: Variant, dtype: str, target: str) -> str:
    """The id of what stops `tpcgen compile` from writing every file of the variant, its gradient left out."""
    options = Options(target=target, dtypes=(dtype,), ops=(variant.name,), gradients=False)
    try:
        for op in compile_spec(variant.file, options).ops:
            files(op.artifact)
    except DiagnosticError as error:
        return error.diagnostics[0].id
    return ""


@pytest.mark.parametrize("dtype, target", [("bf16", "gaudi2"), ("f32", "gaudi")])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_a_variant_compiles_or_says_what_is_missing(variant: Variant, dtype: str, target: str) -> None:
    assert _refusal(variant, dtype, target) == NOT_LOWERED.get(variant.name, "")


def test_what_is_not_lowered_is_of_the_library() -> None:
    assert set(NOT_LOWERED) <= set(VARIANTS)
