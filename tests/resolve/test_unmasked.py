"""E303 where the domain is on data: a point of the domain around is a point of the reduction."""

from __future__ import annotations

import numpy as np
import pytest

from tpcgen.diagnostics import DiagnosticError
from tpcgen.interpreter import run
from tpcgen.program import load_text

SPEC = """op f(S: f32[N, N], doc: i32[N], near: i32[N, N]) -> O: f32[N, N]
{{
    index j in {range}
    m[q] = max[j where {seen}](S[q,j])
    O[q,k] = exp(S[q,k] - m[q]) where {asked}
}}
"""

SAME = ("0 .. N", "doc[q] == doc[j]", "doc[q] == doc[k]")
SOUND = [
    SAME,
    ("0 .. N", "j <= q and doc[q] == doc[j]", "k <= q and doc[q] == doc[k]"),
    ("0 .. N", "j <= q and doc[q] == doc[j]", "k <= q"),  # q itself is such a j
    ("0 .. N", "near[q,j] != 0", "near[q,k] > 0"),
    ("0 .. N", "near[q,j] != 0 or j == q", "doc[k] == 3"),
]
UNSOUND = [
    ("0 .. N", "doc[q] != doc[j]", "doc[q] == doc[k]"),
    ("0 .. N", "near[q,j] != 0", "near[k,q] != 0"),
    ("0 .. N", "j < q and doc[q] == doc[j]", "k <= q and doc[q] == doc[k]"),
    ("1 .. N", "doc[q] == doc[j]", "doc[q] == doc[k]"),  # k may be 0, and j not
]


def spec(range: str, seen: str, asked: str) -> str:
    return SPEC.format(range=range, seen=seen, asked=asked)


@pytest.mark.parametrize("parts", SOUND, ids=lambda p: p[1])
def test_a_point_of_the_domain_is_a_witness(parts: tuple[str, str, str]) -> None:
    load_text(spec(*parts))


@pytest.mark.parametrize("parts", UNSOUND, ids=lambda p: f"{p[0]}: {p[1]}")
def test_another_condition_is_none(parts: tuple[str, str, str]) -> None:
    with pytest.raises(DiagnosticError, match="E303"):
        load_text(spec(*parts))


def test_a_maximum_within_the_expression() -> None:
    text = """op f(S: f32[N, N], doc: i32[N]) -> O: f32[N, N]
    {
        O[q,k] = exp(S[q,k] - max[k where doc[q] == doc[k]](S[q,k])) where doc[q] == doc[k]
    }"""
    scores, doc = np.random.default_rng(0).standard_normal((7, 7)).astype("f4"), np.array([0, 1, 0, 2, 2, 0, 1], "i4")
    same = doc[:, None] == doc[None]
    top = np.where(same, scores.astype("f8"), -np.inf).max(-1, keepdims=True)
    found = run(load_text(text).program("f"), {"S": scores, "doc": doc}, {})["O"]
    np.testing.assert_allclose(found, np.where(same, np.exp(scores - top), 0), rtol=1e-12)
