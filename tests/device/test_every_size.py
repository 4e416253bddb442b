"""The four specs at both dtypes on both devices by every plan, at sizes around every step of the kernels.

`pytest -m full --write-results tests/device/test_every_size.py` also writes docs/results/matrix.json. Inputs of every
family at one head dim, normal ones at the others: a kernel between matmuls never sees D and E but in the scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.device.harness import TARGETS, Built, Outcome, build, drawn, failures, judged
from tests.device.results import record, row, tree_hash
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import families
from tpcgen.program import load
from tpcgen.program.ir import Program

ROOT = Path(__file__).parents[2]
OPS = ("causal", "alibi_causal", "window", "full")
DTYPES = ("f32", "bf16")
PLANS = ("softmax along k", "softmax along q")
SIZES = (1, 63, 64, 65, 129, 296)
DEPTHS = ((80, 33), (64, 64), (128, 129))
HEADS: dict[str, dict[str, int]] = {"causal": {"H": 4, "G": 2}, "window": {"H": 2, "W": 50}}


def program(op: str, dtype: str) -> Program:
    return load(str(ROOT / "examples" / f"{op}.dsl")).program(op, T=dtype)


def cases(op: str, sizes: list[tuple[int, int]], depths: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, Any]]:
    """Name and values: queries and keys of every pair that the contract of the op allows, D and E of every depth."""
    for (m, n), (d, e) in itertools.product(sizes, depths):
        if (op == "window" and m != n) or (m > n and op != "full"):
            continue
        rows = {"N": n} if op == "window" else {"M": m, "N": n}
        batch = 2 if m * n < 10_000 else 1
        yield f"M{m} N{n} D{d} E{e}", {"B": batch, **HEADS.get(op, {"H": 2}), **rows, "D": d, "E": e}


def outcomes(
    op: str, built: list[Built], sizes: list[tuple[int, int]], depths: tuple[tuple[int, int], ...]
) -> Iterator[Outcome]:
    spec = built[0].variant.plan.program
    for case, values in cases(op, sizes, depths):
        for family in families(spec) if values["D"] == DEPTHS[0][0] else ("normal",):
            yield from judged(built, values, drawn(spec, values, family), f"{case} {family}")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


@pytest.fixture(scope="module")
def some(session: Session, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Built]]:
    """All sixteen combinations by one plan each, so that every two choices occur together."""
    programs = {f"{op}_{dtype}": program(op, dtype) for op in OPS for dtype in DTYPES}

    def wanted(name: str, target: str, number: int) -> bool:
        return number == (list(programs).index(name) // 2 + list(programs).index(name) + TARGETS.index(target)) % 2

    return build(programs, tmp_path_factory.mktemp("some"), session, TARGETS, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_a_few_sizes(op: str, dtype: str, some: dict[str, list[Built]]) -> None:
    built = some[f"{op}_{dtype}"]
    assert [b.target for b in built] == list(TARGETS)
    found = list(outcomes(op, built, [(1, 1), (64, 65), (63, 129), (129, 129), (65, 63)], ((80, 33),)))
    sizes_allowed = {"full": 5, "window": 2}.get(op, 4)
    assert len(found) == len(TARGETS) * sizes_allowed * len(families(program(op, dtype)))
    assert not failures(found)


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_size(op: str, dtype: str, session: Session, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    tree = tree_hash()
    built = build({f"{op}_{dtype}": program(op, dtype)}, tmp_path, session)[f"{op}_{dtype}"]
    combinations = list(itertools.product(TARGETS, PLANS))
    assert [(b.target, b.label) for b in built] == combinations
    found = list(outcomes(op, built, list(itertools.product(SIZES, SIZES)), DEPTHS))
    if request.config.getoption("--write-results"):
        of = {c: [o for o in found if (o.target, o.plan) == c] for c in combinations}
        record(ROOT / "docs" / "results" / "matrix.json", [row(op, dtype, *c, of[c]) for c in combinations], tree)
    assert not failures(found)
