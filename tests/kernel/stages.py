"""Stages for the tests of lowering, as text of the language: a stage's program is a program like any other."""

from __future__ import annotations

from functools import cache

from tpcgen.partition.plan import TpcStage
from tpcgen.program import load_text

_CAUSAL = """
op causal(S: f32[B, H, {axes}], D: int) -> P: {out}[B, H, {axes}] where M <= N {{
    P[b,h,{at}] = softmax[k where k <= q + N - M](rsqrt(D) * S[b,h,{at}])
}}
"""
_ALIBI = """
op alibi(S: f32[B, H, {axes}], slope: f32[H], D: int) -> P: {out}[B, H, {axes}] where M <= N {{
    P[b,h,{at}] = softmax[k where k <= q + N - M](rsqrt(D) * S[b,h,{at}] + slope[h] * (k - (q + N - M)))
}}
"""
_WINDOW = """
op window(S: f32[B, H, {axes}], snk: f32[H], D: int, W: int = 256) -> P: {out}[B, H, {axes}] {{
    P[b,h,{at}] = softmax[k where q - W < k <= q sink snk[h]](rsqrt(D) * S[b,h,{at}])
}}
"""
_FULL = """
op full(S: f32[B, H, {axes}], D: int) -> P: {out}[B, H, {axes}] {{
    P[b,h,{at}] = softmax[k](rsqrt(D) * S[b,h,{at}])
}}
"""
SOFTMAXES = {"causal": _CAUSAL, "alibi": _ALIBI, "window": _WINDOW, "full": _FULL}


@cache
def stage_of(text: str, lane: str, name: str = "stage.dsl") -> TpcStage:
    """The one op of a text, as a stage with vectors along `lane`."""
    module = load_text(text, name)
    (op,) = module.ops
    return TpcStage(op, module.program(op), lane)


def softmax_stage(spec: str, lane: str, out: str, scores: str = "f32") -> TpcStage:
    """The softmax stage of a spec; `lane` k: stored [.., q, k]; q: stored [.., k, q]."""
    axes, at = ("M, N", "q,k") if lane == "k" else ("N, M", "k,q")
    text = SOFTMAXES[spec].format(axes=axes, at=at, out=out).replace("S: f32", f"S: {scores}")
    return stage_of(text, lane, f"{spec}.dsl")
