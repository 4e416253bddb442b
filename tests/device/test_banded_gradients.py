"""Backward ops over blocks of a band, alone and in a union, and steps of a triangle on the strict host device, judged
against the interpreter: with a sink, a soft cap, grouped heads, rows without keys, logits of 1e5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.device.harness import TARGETS, Built, build, drawn, wrong_gradients
from tpcgen.host.api import Session
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import load_text
from tpcgen.program.ir import Program
from tpcgen.rewrite.vjp import differentiable_inputs, vjp

Tiled = dict[str, list[Built]]

TEXT = """dtype T in bf16, f32

op attend(Q: T[B, H, N, D], K: T[B, G, N, D], V: T[B, G, N, E], snk: f32[H], W: int = 4) -> O: T[B, H, N, E]
    where H % G == 0, W >= 1
{
    S[b,h,q,k] = SCORE
    P[b,h,q,k] = softmax[k where DOMAIN](S[b,h,q,k])
    O[b,h,q,e] = snk[h] + sum[k](P[b,h,q,k] * V[b,h // (H // G),k,e])
}
"""
LINEAR = """dtype T in bf16, f32

op attend(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    A[b,h,q,k] = sum[d](exp(Q[b,h,q,d]) * exp(K[b,h,k,d])) where k <= q
    Y[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])
    Z[b,h,q] = 1 / sum[k](A[b,h,q,k])
    O[b,h,q,e] = Y[b,h,q,e] * Z[b,h,q]
}
"""
SUM = "rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h // (H // G),k,d])"
CAPPED = f"30 * tanh({SUM} / 30)"
FORMS = {
    "bands": TEXT.replace("SCORE", CAPPED).replace("DOMAIN", "q - W < k <= q sink snk[h]"),
    "stairs": TEXT.replace("SCORE", CAPPED).replace("DOMAIN", "k <= q - W + 1 sink snk[h]"),
    "unions": TEXT.replace("SCORE", CAPPED).replace("DOMAIN", "k <= q and (k < 3 or q - W < k) sink snk[h]"),
    "bands_behind": TEXT.replace("SCORE", SUM).replace("DOMAIN", "q - 2 * W < k <= q - W"),
    "chunks": LINEAR,
}
"""The first W - 1 rows of "stairs", and W of "bands_behind", have no key."""
SIZES = [{"B": 1, "H": 2, "G": 1, "N": n, "D": 8, "E": 7, "W": w} for n, w in [(1, 1), (63, 64), (65, 2), (129, 30)]]
SCALES = {"normal": 1.0, "large": 150.0}
"""Of queries and keys: logits of up to about 1 and 1e5. A cap that all of them reach leaves no gradient but rounding:
10 at most where there is one.
"""
IN_CI = ("bands", "bf16")
MADE = [(name, dtype) for name in FORMS for dtype in ("bf16", "f32")]


def _gradient(name: str, dtype: str) -> Program:
    program = load_text(FORMS[name]).program("attend", T=dtype)
    return vjp(program, differentiable_inputs(program))


def _built(folder: Path, made: Sequence[tuple[str, str]], targets: Sequence[str], most: int | None) -> Iterator[Tiled]:
    """Of each target the first plans in blocks or steps, at most so many; all where it is None."""
    programs = {f"{name}_{dtype}": _gradient(name, dtype) for name, dtype in made}
    tiled = {
        (key, target): [n for n, p in enumerate(enumerate_plans(program, target)) if " of " in p.label][:most]
        for key, program in programs.items()
        for target in targets
    }
    assert all(tiled.values())
    with Session() as session:
        yield build(programs, folder, session, targets, lambda key, target, n: n in tiled[key, target])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiled]:
    yield from _built(tmp_path_factory.mktemp("first"), [IN_CI], ["gaudi2"], 1)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiled]:
    yield from _built(tmp_path_factory.mktemp("every"), MADE, TARGETS, None)


@pytest.mark.parametrize("scale", SCALES)
def test_a_backward_in_blocks_computes_what_vjp_says(scale: str, first: Tiled) -> None:
    _agree("_".join(IN_CI), first, SCALES[scale])


@pytest.mark.full
@pytest.mark.parametrize("key", [f"{name}_{dtype}" for name, dtype in MADE])
@pytest.mark.parametrize("scale", SCALES)
def test_so_does_every_plan_in_blocks_and_steps(key: str, scale: str, every: Tiled) -> None:
    _agree(key, every, SCALES[scale])


def _agree(key: str, made: Tiled, scale: float) -> None:
    built, capped = made[key], "tanh" in FORMS[key.rpartition("_")[0]]
    program = built[0].variant.plan.program
    own = {*program.sizes, *(a.name for a in program.attributes)}
    for values in ({n: v for n, v in values.items() if n in own} for values in SIZES):
        inputs = drawn(program, values, "normal")
        if "W" in own:
            inputs |= {
                name: (inputs[name] * (min(scale, 10.0) if capped else scale)).astype(inputs[name].dtype)
                for name in "QK"
            }
        wrong = wrong_gradients(built, values, inputs, program)
        assert not wrong, "\n".join(wrong)
