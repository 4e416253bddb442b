"""Operators on several cards: heads shared by all-to-all, or a recurrence whose state goes from card to card.

Both take and give tensors of which each rank holds one part of the sequence, and communicate by torch.distributed
alone, so that the group's backend (gloo, hccl) is all that differs between machines.

Gradients are those of the sum of all ranks' losses. Every rank makes the same calls, with the same sizes and the same
inputs that require gradients, and runs backward through its results: a rank that does not leaves the others waiting.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from tpcgen.emit.torch_package import REFERENCE
from tpcgen.program import load
from tpcgen.program.heads import Axes, HeadAxes, has_axis, head_axes
from tpcgen.program.ir import Program, Size, Tensor
from tpcgen.program.print import expression

Result = torch.Tensor | tuple[torch.Tensor, ...]
Operator = Callable[..., Result]

_torch: Any = torch  # parts of torch that pyright knows without types
_dist: Any = dist


def share_heads(op: Operator, group: Any = None, *, heads: str = "H", sequence: Sequence[str] = ("M", "N")) -> Operator:
    """`op`, an emitted operator, by the ranks of a process group together: each computes 1/P of the heads.

    The result is called as `op` is. Of a tensor with an axis of the sequence (a size of `sequence`; the first such
    axis) each rank gives and gets its part: rank r the r-th of P equal parts. Other tensors are given and got whole,
    the same on every rank. An all-to-all before the op turns parts of the sequence with all heads into the whole
    sequence of a part of the heads, another one turns the outputs back (DeepSpeed-Ulysses, arXiv 2309.14509). Tensors
    of the sequence without heads are gathered. Key heads that P does not divide, in groups as of `h // (H // G)`, are
    sent to several ranks. Attributes are the same on every rank.

    Raises TypeError where `op` is not an emitted operator; DiagnosticError E542 for sizes that it does not have, E543
    where its heads are not independent; when called, ValueError where P does not divide the heads.
    """
    found = head_axes(_program(op), heads, sequence)
    signature = inspect.signature(op)

    def shared(*given: Any, **named: Any) -> Result:
        values = _arguments(signature, given, named)
        ranks = _Ranks(group)
        _check_heads(op, found, values, ranks)
        enter = [_entering(a, ranks) for a in found.inputs]
        tensors = [_copied(values[a.tensor.name], a, found, ranks) for a in found.inputs]
        own = _move(enter, ranks, tensors)
        made = op(**{**values, **{a.tensor.name: x for a, x in zip(found.inputs, own, strict=True)}})
        leave = [_leaving(a) for a in found.outputs]
        return _result(_move(leave, ranks, [made] if isinstance(made, torch.Tensor) else made))

    return _as(shared, op, signature)


def share_sequence(
    step: Operator, part: Operator, carry: Operator, group: Any = None, *, sequence: Sequence[str] = ("M", "N")
) -> Operator:
    """A recurrence by the ranks of a process group together: each computes 1/P of the sequence, with all heads.

    Three emitted operators say how its state goes from one part of a sequence to the next:

    * `part(inputs..) -> changes..`: what a part of the sequence does to the state, its inputs some of those of `step`;
    * `carry(states.., changes..) -> states..`: the states after a part, from those before it, in the same order;
    * `step(inputs.., states..) -> outputs..`: the outputs of a part, from the states before it.

    Inputs are the same by name. So that `step` of a whole is that of its parts one after the other, no equation may
    use the place in the sequence or its length; that is the author's promise. The result is called as `step` is. Of a
    tensor with an axis of the sequence (a size of `sequence`) rank r gives and gets the r-th part; other tensors, the
    states before the whole sequence among them, are the same on every rank. Ranks compute their changes at the same
    time, gather those of all (an all-gather) and carry the states over the parts before their own.

    Raises TypeError where an argument is not an emitted operator, ValueError where the three do not fit together.
    """
    programs = {name: _program(op) for name, op in (("step", step), ("part", part), ("carry", carry))}
    states = _states(**programs)
    changes = [t.name for t in programs["part"].outputs]
    signatures = {name: inspect.signature(op) for name, op in (("step", step), ("part", part), ("carry", carry))}
    same = [t.name for t in programs["step"].inputs if not has_axis(t, sequence)]
    for name in (n for n in states if n not in same):
        raise ValueError(
            f"share_sequence: the state {name} has an axis {' or '.join(sequence)}: a state is for all of it"
        )

    def shared(*given: Any, **named: Any) -> Result:
        values = _arguments(signatures["step"], given, named)
        ranks = _Ranks(group)
        values |= zip(same, _move([_Replicated() for _ in same], ranks, [values[n] for n in same]), strict=True)
        made = part(**{n: values[n] for n in signatures["part"].parameters})
        changed = [made] if isinstance(made, torch.Tensor) else made
        # One node for states and changes: also a rank that reads no change takes part in adding up their gradients.
        moves = [*[_Kept() for _ in states], *[_Stacked() for _ in changes]]
        moved = _move(moves, ranks, [*(values[n] for n in states), *changed])
        values |= zip(states, moved, strict=False)
        for before in zip(*(x[: ranks.own].unbind(0) for x in moved[len(states) :]), strict=True):
            known = {**values, **dict(zip(changes, before, strict=True))}
            after = carry(**{n: known[n] for n in signatures["carry"].parameters})
            values |= zip(states, [after] if isinstance(after, torch.Tensor) else after, strict=True)
        return step(**values)

    return _as(shared, step, signatures["step"])


@dataclass(frozen=True)
class _Ranks:
    group: Any

    @property
    def count(self) -> int:
        return _dist.get_world_size(self.group)

    @property
    def own(self) -> int:
        return _dist.get_rank(self.group)

    def exchange(self, pieces: torch.Tensor) -> torch.Tensor:
        """Piece i along axis 0 goes to rank i; the result has the pieces that came, by rank."""
        arrived = torch.empty_like(pieces)
        _dist.all_to_all_single(arrived, pieces.contiguous(), group=self.group)
        return arrived

    def gathered(self, x: torch.Tensor) -> torch.Tensor:
        """The tensors of all ranks along a new axis 0."""
        made = x.new_empty((self.count, *x.shape))
        _dist.all_gather(list(made.unbind(0)), x.contiguous(), group=self.group)
        return made

    def total(self, x: torch.Tensor) -> torch.Tensor:
        made = x.clone(memory_format=torch.contiguous_format)
        _dist.all_reduce(made, group=self.group)
        return made

    def split(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Equal parts of an axis along a new axis 0."""
        if x.shape[axis] % self.count:
            raise ValueError(f"{x.shape[axis]} elements cannot be divided among {self.count} ranks")
        return torch.stack(x.chunk(self.count, axis))


class _Move(Protocol):
    """How a tensor goes from one distribution over the ranks to another; `back` is what its gradient does."""

    def there(self, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor: ...

    def back(self, gradient: torch.Tensor, ranks: _Ranks) -> torch.Tensor: ...


@dataclass(frozen=True)
class _Exchanged:
    """From parts of axis `whole` to parts of axis `divided`."""

    whole: int
    divided: int

    def there(self, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return torch.cat(ranks.exchange(ranks.split(x, self.divided)).unbind(0), self.whole)

    def back(self, gradient: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return _Exchanged(self.divided, self.whole).there(gradient, ranks)


@dataclass(frozen=True)
class _Gathered:
    """From parts of an axis to all of it."""

    axis: int

    def there(self, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return torch.cat(ranks.gathered(x).unbind(0), self.axis)

    def back(self, gradient: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return ranks.exchange(ranks.split(gradient, self.axis)).sum(0)


class _Stacked:
    """From a tensor per rank to all of them along a new axis 0."""

    def there(self, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return ranks.gathered(x)

    def back(self, gradient: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return ranks.exchange(gradient).sum(0)


class _Replicated:
    """The same on every rank, for an input: its gradient is the sum of what each rank made of it."""

    def there(self, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return x.view_as(x)

    def back(self, gradient: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return ranks.total(gradient)


@dataclass(frozen=True)
class _Own:
    """From all of an axis, the same on every rank, to the rank's part of it. An input's gradient is a sum of ranks."""

    axis: int
    summed: bool

    def there(self, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        length = x.shape[self.axis] // ranks.count
        return x.narrow(self.axis, ranks.own * length, length).contiguous()

    def back(self, gradient: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        if self.summed:
            return torch.cat(ranks.gathered(gradient).unbind(0), self.axis)
        parts = [torch.zeros_like(gradient)] * ranks.count
        parts[ranks.own] = gradient
        return torch.cat(parts, self.axis)


class _Kept:
    """The same on every rank, for an output: each rank's own."""

    def there(self, x: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return x.view_as(x)

    def back(self, gradient: torch.Tensor, ranks: _Ranks) -> torch.Tensor:
        return gradient


def _entering(a: Axes, ranks: _Ranks) -> _Move:
    match a:
        case Axes(heads=None, sequence=None):
            return _Replicated()
        case Axes(heads=None, sequence=int(sequence)):
            return _Gathered(sequence)
        case Axes(heads=int(heads), sequence=int(sequence)):
            return _Exchanged(sequence, heads)
        case _:
            assert a.heads is not None
            return _Own(a.heads, summed=True)


def _leaving(a: Axes) -> _Move:
    match a:
        case Axes(heads=None, sequence=None):
            return _Kept()
        case Axes(heads=None, sequence=int(sequence)):
            return _Own(sequence, summed=False)
        case Axes(heads=int(heads), sequence=int(sequence)):
            return _Exchanged(heads, sequence)
        case _:
            assert a.heads is not None
            return _Gathered(a.heads)


class _Moves(_torch.autograd.Function):
    """Several moves as one node of the graph: every rank does all of them, forward and backward, in one order."""

    @staticmethod
    def forward(ctx: Any, moves: Sequence[_Move], ranks: _Ranks, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.moves, ctx.ranks = moves, ranks
        made = tuple(m.there(x, ranks) for m, x in zip(moves, tensors, strict=True))
        ctx.mark_non_differentiable(*(x for x in made if not x.is_floating_point()))
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        given = zip(ctx.moves, gradients, wanted, strict=True)
        return None, None, *(m.back(g, ctx.ranks) if asked else None for m, g, asked in given)


def _move(moves: Sequence[_Move], ranks: _Ranks, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    found: tuple[torch.Tensor, ...] = _Moves.apply(moves, ranks, *tensors)
    return found


def _copied(x: torch.Tensor, a: Axes, found: HeadAxes, ranks: _Ranks) -> torch.Tensor:
    """With as many copies of each head of a group as make the ranks divide them."""
    if a.heads is None or a.size not in found.groups:
        return x
    copies = lcm(x.shape[a.heads], ranks.count) // x.shape[a.heads]
    return x.repeat_interleave(copies, a.heads) if copies > 1 else x


def _check_heads(op: Operator, found: HeadAxes, values: Mapping[str, Any], ranks: _Ranks) -> None:
    for a in found.inputs:
        x = values[a.tensor.name]
        if not isinstance(x, torch.Tensor) or x.dim() != len(a.tensor.shape):
            shape = ", ".join(map(expression, a.tensor.shape))
            raise TypeError(f"{_name(op)}: {a.tensor.name} must be a tensor [{shape}], got {_described(x)}")
        if a.heads is not None and a.size == found.heads and x.shape[a.heads] % ranks.count:
            count = x.shape[a.heads]
            raise ValueError(
                f"{_name(op)}: {count} heads ({a.size} of {a.tensor.name}) among {ranks.count} ranks: "
                f"the number of ranks must divide {count}"
            )
    grouped = {a.size for a in found.outputs} & found.groups
    for a in found.inputs:
        if a.size in grouped and a.heads is not None and values[a.tensor.name].shape[a.heads] % ranks.count:
            raise ValueError(f"{_name(op)}: an output has the heads {a.size}: {ranks.count} ranks must divide them")


def _states(step: Program, part: Program, carry: Program) -> list[str]:
    """The names of the states, in order. ValueError where the ops do not fit together."""
    inputs = {t.name: t for t in step.inputs}
    changes = {t.name: t for t in part.outputs}
    states = [t for t in carry.inputs if t.name not in changes]
    _same("part", part.inputs, "step", inputs)
    _same("carry", states, "step", inputs)
    _same("carry", [t for t in carry.inputs if t.name in changes], "part", changes)
    known = {a.name for a in step.attributes}
    for name, program in (("part", part), ("carry", carry)):
        for missing in (a.name for a in program.attributes if a.name not in known):
            raise ValueError(f"share_sequence: {name} has an attribute {missing}, step has none of that name")
    if not states or len(states) != len(carry.outputs):
        names = ", ".join(t.name for t in states) or "none"
        raise ValueError(f"share_sequence: carry takes {len(states)} states ({names}) and gives {len(carry.outputs)}")
    for state, after in zip(states, carry.outputs, strict=True):
        if _type(state) != _type(after):
            raise ValueError(f"share_sequence: carry takes {_text(state)} and gives {_text(after)} for it")
    return [t.name for t in states]


def _same(of: str, tensors: Sequence[Tensor], other: str, known: Mapping[str, Tensor]) -> None:
    for t in tensors:
        if t.name not in known:
            raise ValueError(f"share_sequence: {of} takes {t.name}, which {other} does not have; it has {[*known]}")
        if _type(t) != _type(known[t.name]):
            raise ValueError(f"share_sequence: {of} takes {_text(t)}, {other} has {_text(known[t.name])}")


def _type(t: Tensor) -> tuple[object, ...]:
    return t.dtype, *(e.name if isinstance(e, Size) else expression(e) for e in t.shape)


def _text(t: Tensor) -> str:
    return f"{t.name}: {t.dtype}[{', '.join(map(expression, t.shape))}]"


def _program(op: Operator) -> Program:
    """The program of an emitted operator. TypeError for anything else."""
    module = sys.modules.get(getattr(op, "__module__", ""))
    spec = Path(getattr(module, "__file__", None) or "").with_name(REFERENCE) if module is not None else None
    if spec is None or not spec.is_file() or getattr(module, _name(op), None) is not op:
        raise TypeError(f"{op!r} is not an operator emitted by tpcgen: give what tpcgen.load or its package has")
    reference = load(spec)
    return reference.program(reference.ops[0])


def _arguments(signature: inspect.Signature, given: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    bound = signature.bind(*given, **named)
    bound.apply_defaults()
    return dict(bound.arguments)


def _as(shared: Operator, op: Operator, signature: inspect.Signature) -> Operator:
    made: Any = shared
    made.__name__ = made.__qualname__ = _name(op)
    made.__doc__, made.__signature__ = op.__doc__, signature
    return shared


def _name(op: Operator) -> str:
    return getattr(op, "__name__", "")


def _described(x: object) -> str:
    return f"shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__


def _result(made: Sequence[torch.Tensor]) -> Result:
    return made[0] if len(made) == 1 else tuple(made)
