"""Which ops of a spec are attentions that a model's layer can call, by the names of their parameters.

Q: [B, H, M, D], K: [B, G or H, N or M, D], V: [B, G or H, N or M, E] -> [B, H, M, E]
first, start, length: i32[B]   keys first[b] .. length[b] are no padding, query q stands at key start[b] + q
snk: f32[H]                    a sink's logit per head
scale: f32, cap: f32, W: int   the factor of the scores, their soft cap, the window
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpcgen.program import Module
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Equation, Program, Reduce, Scan, Statement, walk

PADDING = frozenset({"first", "start", "length"})
_ATTRIBUTES = frozenset({"scale", "cap", "W"})
_NEUTRAL = PADDING | {"W", "scale"}
"""What a layer that does not ask for it can be given all the same."""


@dataclass(frozen=True)
class Form:
    """An op: which of the parameters above it has, and what it does to shapes.

    `grouped`: keys may have fewer heads; `square`: as many queries as keys; `causal`: a row does not see everything.
    """

    op: str
    parameters: frozenset[str]
    grouped: bool
    square: bool
    causal: bool


@dataclass(frozen=True)
class Wanted:
    """What a layer asks for: `parameters` it gives, and whether its rows see only what is before them."""

    parameters: frozenset[str]
    square: bool
    causal: bool


def forms(module: Module, ops: Sequence[str]) -> tuple[tuple[Form, ...], tuple[str, ...]]:
    """The ops that fit, and why the others do not."""
    found = {op: _form(module.program(op)) for op in ops}
    fitting = tuple(f for f in found.values() if isinstance(f, Form))
    return fitting, tuple(f"{op}: {reason}" for op, reason in found.items() if isinstance(reason, str))


def choose(known: Sequence[Form], wanted: Wanted) -> Form | None:
    """The one that has what is wanted and least else; the first of several."""
    best: Form | None = None
    for form in known:  # a loop: torch.compile follows no min() with a key
        if _fits(form, wanted) and (best is None or _extra(form, wanted) < _extra(best, wanted)):
            best = form
    return best


def _extra(form: Form, wanted: Wanted) -> int:
    return len(form.parameters - wanted.parameters)


def _fits(form: Form, wanted: Wanted) -> bool:
    if not wanted.parameters <= form.parameters or not form.parameters - wanted.parameters <= _NEUTRAL:
        return False
    if form.square and not wanted.square:
        return False
    return form.parameters >= PADDING or form.causal == wanted.causal


def _form(program: Program) -> Form | str:
    """What is wrong, where it is none."""
    tensors = {t.name: t for t in program.inputs}
    if tuple(tensors)[:3] != ("Q", "K", "V") or any(len(tensors[n].shape) != 4 for n in "QKV"):
        return "its first inputs are not Q, K and V of 4 axes"
    if len(program.outputs) != 1 or len(program.outputs[0].shape) != 4:
        return "it does not return one tensor of 4 axes"
    batch, heads, queries, _ = tensors["Q"].shape
    known = {**dict.fromkeys(sorted(PADDING), (DType.I32, (batch,))), "snk": (DType.F32, (heads,))}
    others = tensors.keys() - set("QKV")
    for name in sorted(others):
        if known.get(name) != (tensors[name].dtype, tensors[name].shape):
            return f"its input {name} is none of first, start, length: i32[B] and snk: f32[H]"
    if others & PADDING and not others >= PADDING:
        return "it has not all of first, start and length"
    return Form(
        program.name,
        frozenset(others) | (_ATTRIBUTES & {a.name for a in program.attributes}),
        grouped=tensors["K"].shape[1] != heads,
        square=tensors["K"].shape[2] == queries,
        causal=any(map(_hides, program.body)),
    )


def _hides(statement: Statement) -> bool:
    """Whether it is a recurrence or reduces over a part of an index."""
    match statement:
        case Scan():
            return True
        case Equation():
            return any(isinstance(e, Reduce) and e.domain is not None for e in walk(statement.value))
