"""Plans as text."""

from __future__ import annotations

import pytest

from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.partition.print import plan as text


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("name", ["causal", "alibi_causal", "window", "full", "linear"])
def test_plans(name, dtype, example, golden):
    plans = enumerate_plans(example(name, dtype), "gaudi2")
    golden("\n".join(text(p) for p in plans))
