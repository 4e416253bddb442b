"""Scans that one kernel runs step by step: either direction, one state or two, gates of 0, 1e-30 and 1, odd sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.device.harness import TARGETS, Array, Built, Outcome, build, drawn, failures, judged
from tpcgen.host.api import Session
from tpcgen.interpreter.inputs import Family, families
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load_text
from tpcgen.program.ir import Program, Scan

OUTER = """op f(Q: {T}[B, H, N, D], K: {T}[B, H, N, D], V: {T}[B, H, N, E], g: f32[B, H, N]{more}) -> O: {T}[B, H, N, E]
{{
    scan t in 0 .. N{direction} {{
        state S[b,h,d,e]: f32 = 0
        {steps}
    }}
}}
"""
ADDED = "K[b,h,t,d] * V[b,h,t,e]"
UPDATE = f"S[b,h,d,e] := g[b,h,t] * S[b,h,d,e] + {ADDED}"
OUTPUT = "O[b,h,t,e] = sum[d](Q[b,h,t,d] * S[b,h,d,e])"
TWO = f"""state Z[b,h,d]: f32 = 0
        {UPDATE}
        Z[b,h,d] := g[b,h,t] * Z[b,h,d] + abs(K[b,h,t,d])
        O[b,h,t,e] = sum[d](Q[b,h,t,d] * S[b,h,d,e]) / (1.0 + sum[d](abs(Q[b,h,t,d]) * Z[b,h,d]))"""
MORE = {"per_channel": ", a: f32[B, H, N, D]", "masked": ", ok: i32[B, N]"}
STEPS = {
    "forward": f"{UPDATE}\n{OUTPUT}",
    "reverse": f"{UPDATE}\n{OUTPUT}",
    "late": f"{OUTPUT}\n{UPDATE}",
    "two_states": TWO,
    "two_states_reverse": TWO,
    "per_channel": f"S[b,h,d,e] := g[b,h,t] * a[b,h,t,d] * S[b,h,d,e] + {ADDED}\n{OUTPUT}",
    "masked": f"{UPDATE} where ok[b,t] > 0\n{OUTPUT}",
    "delta": "w[b,h,e] = V[b,h,t,e] - sum[d](K[b,h,t,d] * S[b,h,d,e])\n"
    f"S[b,h,d,e] := S[b,h,d,e] + g[b,h,t] * K[b,h,t,d] * w[b,h,e]\n{OUTPUT}",
    "gated_delta": "S[b,h,d,e] := g[b,h,t] * S[b,h,d,e]\n"
    "w[b,h,e] = V[b,h,t,e] - sum[d](K[b,h,t,d] * S[b,h,d,e])\n"
    f"S[b,h,d,e] := S[b,h,d,e] + K[b,h,t,d] * w[b,h,e]\n{OUTPUT}",
}
ELEMENTWISE = """op f(V: {T}[B, H, N, E], g: f32[B, H, N]) -> O: {T}[B, H, N, E]
{{
    scan t in 0 .. N{direction} {{
        state S[b,h,e]: f32 = 1
        state M[b,h,e]: f32 = 0
        state n[b,h]: f32 = 0
        n[b,h] := g[b,h,t] * n[b,h] + 1
        M[b,h,e] := g[b,h,t] * M[b,h,e] + S[b,h,e]
        S[b,h,e] := g[b,h,t] * S[b,h,e] + V[b,h,t,e]
        O[b,h,t,e] = (S[b,h,e] + M[b,h,e]) / (1.0 + n[b,h])
    }}
}}
"""
NAMES = (*STEPS, "elementwise", "elementwise_reverse")
QUICK = {
    ("gaudi2", "bf16"): ("two_states_reverse", "elementwise_reverse", "masked"),
    ("gaudi2", "f32"): ("gated_delta", "late"),
    ("gaudi", "bf16"): ("delta",),
    ("gaudi", "f32"): ("elementwise",),
}
CASES = {
    "one step": {"B": 1, "H": 1, "N": 1, "D": 1, "E": 1},
    "odd": {"B": 2, "H": 3, "N": 7, "D": 5, "E": 65},
    "more than a vector": {"B": 1, "H": 1, "N": 65, "D": 63, "E": 129},
    "no steps": {"B": 1, "H": 2, "N": 0, "D": 4, "E": 7},
}
GATES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "1": lambda rng, shape: np.ones(shape),
    "0": lambda rng, shape: np.zeros(shape),
    "1e-30": lambda rng, shape: np.full(shape, 1e-30),
    "mixed": lambda rng, shape: rng.choice([0.0, 1e-30, 0.5, 1 - 2.0**-12, 1.0], shape),
}


def program(name: str, dtype: str) -> Program:
    direction = " reverse" if "reverse" in name else ""
    if "elementwise" in name:
        return load_text(ELEMENTWISE.format(T=dtype, direction=direction)).program("f")
    text = OUTER.format(T=dtype, more=MORE.get(name, ""), direction=direction, steps=STEPS[name])
    return load_text(text).program("f")


def gated(name: str, spec: Program, values: dict[str, int], family: Family, gate: str) -> dict[str, Array]:
    """Inputs with gates of a kind. Keys of the delta rule have norm 1, without which its state may grow without end."""
    inputs = drawn(spec, values, family)
    rng = np.random.default_rng(5)
    for gates in {"g", "a"} & inputs.keys():
        inputs[gates] = GATES[gate](rng, inputs[gates].shape).astype(np.float32)
    if "delta" in name:
        keys = inputs["K"].astype(np.float64)
        norm = np.sqrt((keys**2).sum(-1, keepdims=True))
        inputs["K"] = (keys / np.where(norm == 0, 1, norm)).astype(inputs["K"].dtype)
    return inputs


def chosen(name: str, gate: str, possible: tuple[Family, ...]) -> list[Family]:
    """Equal inputs only where all is exact: else 1 + 1e-30 - 1 in any order would be judged."""
    exact = gate == "1" and "delta" not in name
    if gate in ("0", "1e-30"):
        return ["normal"]
    return [f for f in possible if f != "equal" or exact]


def outcomes(name: str, spec: Program, built: list[Built]) -> Iterator[Outcome]:
    for case, values in CASES.items():
        own = {k: v for k, v in values.items() if k in spec.sizes}
        for gate in GATES:
            for family in chosen(name, gate, families(spec)):
                inputs = gated(name, spec, own, family, gate)
                yield from judged(built, own, inputs, f"{name}, {case}, {family}, gates {gate}")


def step_by_step(_name: str, _target: str, number: int) -> bool:
    """The program as written: one kernel that is a scan."""
    return number == 0


def check(names: tuple[str, ...], target: str, dtype: str, folder: Path) -> None:
    programs = {name: program(name, dtype) for name in names}
    with Session() as session:
        for name, built in build(programs, folder, session, (target,), step_by_step).items():
            (stage,) = (s for s in built[0].variant.plan.stages if isinstance(s, TpcStage))
            assert any(isinstance(s, Scan) for s in stage.program.body)
            found = failures(outcomes(name, programs[name], built))
            assert not found, "\n".join(found)


@pytest.mark.parametrize(("target", "dtype"), QUICK)
def test_some_scans(target: str, dtype: str, tmp_path: Path) -> None:
    check(QUICK[target, dtype], target, dtype, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_every_scan(target: str, dtype: str, tmp_path: Path) -> None:
    check(NAMES, target, dtype, tmp_path)


@pytest.mark.full
def test_decays_of_1e_30_over_65536_steps(tmp_path: Path) -> None:
    """Every plan, chunks among them: what has decayed is 0, never NaN."""
    spec = program("forward", "f32")
    values = {"B": 1, "H": 2, "N": 65536, "D": 2, "E": 3}
    with Session() as session:
        built = build({"f": spec}, tmp_path, session, ("gaudi2",))["f"]
        assert len(built) > 1
        for gate in ("mixed", "1e-30"):
            found = failures(judged(built, values, gated("forward", spec, values, "normal", gate), f"gates {gate}"))
            assert not found, "\n".join(found)
