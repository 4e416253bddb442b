"""Seeded inputs that satisfy the contracts of a program, plain and adversarial."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tpcgen.interpreter import contracts, visits
from tpcgen.interpreter.compare import FORMATS
from tpcgen.interpreter.errors import fail
from tpcgen.interpreter.evaluate import Evaluator
from tpcgen.interpreter.frame import Axis, Frame
from tpcgen.interpreter.value import Array
from tpcgen.program import ir, sizes
from tpcgen.program.dtypes import DType

Family = Literal["normal", "wide", "large", "tiny", "equal", "short", "stale"]
"""normal: standard normal. wide: three times that, so that scores spread over tens and a few weights share a row: where
rounding a score costs most. large: +-320 (128 for fp8), so that a dot product of D of them, over sqrt(D), is about
+-1e5 and exact. tiny: near the least normal number or the square root of the ulp. equal: -1, 0 and 1, so that scores
are tied. short: integers at the ends of what the contracts allow, so that rows are empty or full. stale: NaN, and
integers far outside, in every element that nobody visits or no contract covers.
"""

LARGE = {4: 320.0, 2: 320.0, 1: 128.0}
"""By bytes of the dtype."""
SMALLER = 4.0

_ATTEMPTS = 20


def families(program: ir.Program) -> tuple[Family, ...]:
    """Those that make a difference to the program."""
    result: list[Family] = ["normal", "wide", "large", "tiny", "equal"]
    if any(t.dtype.is_integer for t in program.inputs):
        result.append("short")
    if any(_skips(e) for e in _expressions(program)):
        result.append("stale")
    return tuple(result)


def draw(
    program: ir.Program,
    values: sizes.Binding | Mapping[str, int | float],
    rng: np.random.Generator,
    family: Family = "normal",
    smaller: Collection[str] = (),
) -> dict[str, Array]:
    """One array for each input, in its dtype; `values` binds every size and attribute. `smaller`: inputs that in
    "large" are +-4.

    Every contract holds; where the family cannot satisfy one, the tensors it reads are drawn as in "normal".
    InterpreterError E356 where none was found that satisfies them.
    """
    binding = values if isinstance(values, sizes.Binding) else sizes.bind(program, values)
    on_values = [c for c in program.contracts if c.on_values]
    choices = list(itertools.product(*(_alternatives(c) for c in on_values)))
    attempts = max(_ATTEMPTS, len(choices))
    plain: set[str] = set()
    violated: ir.Contract | None = None
    for attempt in range(2 * attempts):
        drawing = _Drawing(binding, rng, family, choices[attempt % len(choices)], frozenset(plain), smaller)
        inputs = drawing.inputs()
        violated = next((c for c in on_values if drawing.violates(c)), None)
        if violated is None:
            return _staled(binding, inputs, rng) if family == "stale" else inputs
        if attempt >= attempts - 1:
            plain |= {x.tensor for x in ir.walk(violated.condition) if isinstance(x, ir.Read)}
    assert violated is not None
    hint = "bounds of single elements and the order of neighbours can be drawn; run the op on inputs of your own"
    raise fail("E356", f"no inputs of {program.name} found that satisfy this contract", violated.span, hint)


def _skips(e: ir.Expr) -> bool:
    return any(
        (isinstance(x, ir.Reduce) and x.domain is not None)
        or (isinstance(x, ir.Call) and x.function == "select")
        or (isinstance(x, ir.Read) and any(not isinstance(i, ir.Index) for i in x.indices))
        for x in ir.walk(e)
    )


def _expressions(program: ir.Program) -> list[ir.Expr]:
    found: list[ir.Expr] = []
    for s in program.body:
        steps = s.body if isinstance(s, ir.Scan) else (s,)
        for step in steps:
            found += [step.value] if step.domain is None else [step.value, step.domain]
    return found


# Contracts as bounds


@dataclass(frozen=True, slots=True)
class Bound:
    """`read` operator `limit`, operator one of < <= > >= ==, wherever the contract's `frame` goes."""

    read: ir.Read
    operator: str
    limit: ir.Expr
    indices: tuple[str, ...]


Alternative = tuple[tuple[ir.Expr, ...], tuple[str, ...]]
"""Comparisons that together satisfy a contract, and its free indices."""


def _alternatives(contract: ir.Contract) -> list[Alternative]:
    """Ways to satisfy a contract everywhere. `guard or requirement`: the requirement first."""
    return [(atoms, contract.indices) for atoms in _ways(contract.condition)]


def _ways(e: ir.Expr) -> list[tuple[ir.Expr, ...]]:
    match e:
        case ir.Binary(operator="or"):
            return _ways(e.right) + _ways(e.left)
        case ir.Binary(operator="and"):
            return [a + b for a in _ways(e.left) for b in _ways(e.right)]
        case _:
            return [(e,)]


_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}


def _bounds_of(atom: ir.Expr, indices: tuple[str, ...], tensor: str) -> list[Bound]:
    """What a comparison says about a tensor, when one read of it can be brought to one side."""
    if not isinstance(atom, ir.Binary) or atom.operator not in _MIRROR:
        return []
    left, right = _count(atom.left, tensor), _count(atom.right, tensor)
    if (left, right) == (1, 0):
        bound = _isolate(atom.left, atom.operator, atom.right, tensor)
    elif (left, right) == (0, 1):
        bound = _isolate(atom.right, _MIRROR[atom.operator], atom.left, tensor)
    else:
        return []
    return [] if bound is None else [Bound(*bound, indices)]


def _count(e: ir.Expr, tensor: str) -> int:
    return sum(isinstance(x, ir.Read) and x.tensor == tensor for x in ir.walk(e))


def _isolate(e: ir.Expr, operator: str, limit: ir.Expr, tensor: str) -> tuple[ir.Read, str, ir.Expr] | None:
    """`e operator limit` solved for the read of the tensor in e; None where e is not a sum around it."""
    match e:
        case ir.Read() if e.tensor == tensor:
            return e, operator, limit
        case ir.Binary(operator="+" | "-") if _count(e.left, tensor):
            inverse = "-" if e.operator == "+" else "+"
            return _isolate(e.left, operator, ir.Binary(inverse, limit, e.right), tensor)
        case ir.Binary(operator="+"):
            return _isolate(e.right, operator, ir.Binary("-", limit, e.left), tensor)
        case ir.Binary(operator="-"):
            return _isolate(e.right, _MIRROR[operator], ir.Binary("-", e.left, limit), tensor)
        case ir.Unary(operator="-"):
            return _isolate(e.operand, _MIRROR[operator], ir.Unary("-", limit), tensor)
        case ir.Cast() if e.dtype.is_float or e.dtype is DType.I32:
            return _isolate(e.operand, operator, limit, tensor)
        case _:
            return None


def _order_of(atom: ir.Expr, tensor: str) -> tuple[int, int, int] | None:
    """(axis, direction, gap) of `T[.., c, ..] <= T[.., c + 1, ..]`: values grow by `gap` in that direction."""
    if not isinstance(atom, ir.Binary) or atom.operator not in ("<", "<=", ">", ">="):
        return None
    below, above = (atom.left, atom.right) if atom.operator in ("<", "<=") else (atom.right, atom.left)
    if not (isinstance(below, ir.Read) and isinstance(above, ir.Read) and below.tensor == above.tensor == tensor):
        return None
    gap = 1 if atom.operator in ("<", ">") and not below.dtype.is_float else 0
    differing = [i for i, (a, b) in enumerate(zip(below.indices, above.indices, strict=True)) if a != b]
    if len(differing) != 1:
        return None
    low, high = below.indices[differing[0]], above.indices[differing[0]]
    if _is_next(high, low):
        return differing[0], 1, gap
    return (differing[0], -1, gap) if _is_next(low, high) else None


def _is_next(a: ir.Expr, b: ir.Expr) -> bool:
    """a is b + 1, as written."""
    one = ir.Literal(1, DType.I32)
    return a in (ir.Binary("+", b, one), ir.Binary("+", one, b)) or b == ir.Binary("-", a, one)


# Drawing


@dataclass
class _Drawing:
    """One attempt: each tensor within what the chosen alternatives say of it and of the tensors drawn before.

    `plain` are the tensors drawn as in the family "normal".
    """

    binding: sizes.Binding
    rng: np.random.Generator
    family: Family
    chosen: tuple[Alternative, ...]
    plain: frozenset[str]
    smaller: Collection[str]
    _done: dict[str, Array] = field(default_factory=dict[str, Array], init=False)

    def inputs(self) -> dict[str, Array]:
        tensors = self.binding.program.inputs
        for tensor in sorted(tensors, key=lambda t: t.dtype.is_float):
            self._done[tensor.name] = self._drawn(tensor)
        return {t.name: self._done[t.name] for t in tensors}

    def violates(self, contract: ir.Contract) -> bool:
        return bool(contracts.violations(_evaluator(self.binding, self._done), contract)[1].any())

    def _drawn(self, tensor: ir.Tensor) -> Array:
        shape = self.binding.shape(tensor)
        if tensor.dtype is DType.BOOL:
            return self.rng.random(shape) < 0.5
        low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
        order: tuple[int, int, int] | None = None
        for atoms, indices in self.chosen:
            for atom in atoms:
                order = order or _order_of(atom, tensor.name)
                for bound in _bounds_of(atom, indices, tensor.name):
                    self._narrow(bound, tensor.dtype, low, high)
        family = "normal" if tensor.name in self.plain else self.family
        if tensor.dtype.is_float:
            large = SMALLER if tensor.name in self.smaller else LARGE[tensor.dtype.size]
            return self._reals(tensor.dtype, low, high, family, large)
        return self._integers(tensor.dtype, low, high, order, family)

    def _narrow(self, bound: Bound, dtype: DType, low: Array, high: Array) -> None:
        """Take a bound into the least and greatest allowed values; strict ones become the next number of the dtype."""
        known = [*bound.read.indices, bound.limit]
        if any(isinstance(x, ir.Read) and x.tensor not in self._done for e in known for x in ir.walk(e)):
            return
        evaluator = _evaluator(self.binding, self._done)
        frame = tuple(Axis(name, *evaluator.range_of(name)) for name in bound.indices)
        where, ok = _points(evaluator, bound.read, frame, low.shape)
        limit = evaluator.evaluate(bound.limit, frame)
        at = tuple(w[ok] for w in where)
        edge = np.broadcast_to(limit.data, ok.shape)[ok].astype(np.float64)
        if bound.operator in (">", ">=", "=="):
            np.maximum.at(low, at, _inside(edge, dtype, np.inf, bound.operator == ">"))
        if bound.operator in ("<", "<=", "=="):
            np.minimum.at(high, at, _inside(edge, dtype, -np.inf, bound.operator == "<"))

    def _reals(self, dtype: DType, low: Array, high: Array, family: Family, large: float) -> Array:
        free = _free_reals(self.rng, low.shape, dtype, family, large)
        span = self.rng.random(low.shape)
        if family in ("short", "equal"):
            span = self.rng.choice([0.0, 1.0], low.shape)
        both = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            x = np.where(both, low + span * (high - low), np.where(np.isfinite(low), low + np.abs(free), free))
            x = np.where(np.isfinite(high) & ~both, high - np.abs(free), x)
        return _clipped(x.astype(dtype.numpy).astype(np.float64), low, high).astype(dtype.numpy)

    def _integers(
        self, dtype: DType, low: Array, high: Array, order: tuple[int, int, int] | None, family: Family
    ) -> Array:
        limits = np.iinfo(dtype.numpy)
        least = np.where(np.isfinite(low), np.ceil(low), np.where(np.isfinite(high), np.minimum(0, high), 0))
        most = np.where(np.isfinite(high), np.floor(high), np.maximum(least, 0) + _FREE_INTEGERS)
        least, most = (_clipped(a, limits.min, limits.max) for a in (least, most))
        if order is None:
            return self._between(least, most, family).astype(dtype.numpy)
        axis, direction, gap = order
        least, most = (np.flip(a, axis) if direction < 0 else a for a in (least, most))
        slope = gap * np.indices(least.shape)[axis]
        least = np.maximum.accumulate(least - slope, axis)
        most = np.flip(np.minimum.accumulate(np.flip(most - slope, axis), axis), axis)
        x = np.sort(self._between(least, most, family), axis) + slope
        return (np.flip(x, axis) if direction < 0 else x).astype(dtype.numpy)

    def _between(self, least: Array, most: Array, family: Family) -> Array:
        most = np.maximum(least, most)
        x = self.rng.integers(least.astype(np.int64), most.astype(np.int64), endpoint=True)
        if family == "short":
            x = np.where(self.rng.random(least.shape) < 0.5, least, most).astype(np.int64)
        return x


_FREE_INTEGERS = 8
"""Range of integers that no contract bounds."""


def _clipped(x: Array, low: Array | int, high: Array | int) -> Array:
    return np.minimum(np.maximum(x, low), high)


def _evaluator(binding: sizes.Binding, inputs: Mapping[str, Array]) -> Evaluator:
    return Evaluator(binding, inputs, "exact", 1 << 62)


def _points(evaluator: Evaluator, read: ir.Read, frame: Frame, shape: tuple[int, ...]) -> tuple[list[Array], Array]:
    """The elements a read goes to, over the whole frame, and where they are inside the tensor."""
    extents = tuple(a.size for a in frame)
    where = [np.broadcast_to(evaluator.evaluate(i, frame).data, extents) for i in read.indices]
    ok = np.ones(extents, np.bool_)
    for w, n in zip(where, shape, strict=True):
        ok &= (w >= 0) & (w < n)
    return where, ok


def _inside(edge: Array, dtype: DType, towards: float, strict: bool) -> Array:
    """The first number of the dtype that a bound allows; next to an excluded 0, the least normal one."""
    if not dtype.is_float:
        inner = np.floor(edge) + 1 if towards > 0 else np.ceil(edge) - 1
        return inner if strict else np.ceil(edge) if towards > 0 else np.floor(edge)
    near = edge.astype(dtype.numpy)
    wide = near.astype(np.float64)
    outside = wide < edge if towards > 0 else wide > edge
    step = outside | (strict & (wide == edge))
    inner = np.where(step, np.nextafter(near, np.full_like(near, towards)).astype(np.float64), wide)
    normal = 2.0 ** FORMATS[dtype][1]
    return np.where(step & (edge == 0), np.copysign(normal, towards), inner)


def _free_reals(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, family: Family, large: float) -> Array:
    match family:
        case "wide":
            return 3.0 * rng.standard_normal(shape)
        case "large":
            return rng.choice([-1.0, 1.0], shape) * large
        case "tiny":
            return rng.standard_normal(shape) * {4: 2.0**-20, 2: 2.0**-10, 1: 2.0**-3}[dtype.size]
        case "equal":
            return rng.choice([-1.0, 0.0, 1.0], shape)
        case _:
            return rng.standard_normal(shape)


# Elements that nobody visits


def _staled(binding: sizes.Binding, inputs: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    unvisited = {name: ~seen for name, seen in visits.visited(_evaluator(binding, inputs)).items()}
    for tensor in binding.program.inputs:
        if tensor.dtype is not DType.BOOL and unvisited[tensor.name].any():
            _spoil(binding, inputs, tensor, unvisited[tensor.name], rng)
    return inputs


def _spoil(
    binding: sizes.Binding, inputs: dict[str, Array], tensor: ir.Tensor, where: Array, rng: np.random.Generator
) -> None:
    """NaN or integers far outside at those of the elements that no contract covers."""
    good = inputs[tensor.name]
    limits = None if tensor.dtype.is_float else np.iinfo(tensor.dtype.numpy)
    garbage = [np.nan] if limits is None else [limits.min, limits.max, limits.min // 2, limits.max // 2]
    spoiled = np.where(where, rng.choice(garbage, good.shape).astype(good.dtype), good)
    while _restored(binding, inputs, tensor, spoiled):
        pass
    inputs[tensor.name] = spoiled


def _restored(binding: sizes.Binding, inputs: dict[str, Array], tensor: ir.Tensor, spoiled: Array) -> bool:
    """Take back spoiled elements that a violated contract reads; whether there were any."""
    good, taken_back = inputs[tensor.name], False
    for contract in binding.program.contracts:
        reads = [x for x in ir.walk(contract.condition) if isinstance(x, ir.Read) and x.tensor == tensor.name]
        if not reads:
            continue
        evaluator = _evaluator(binding, inputs | {tensor.name: spoiled})
        frame, wrong = contracts.violations(evaluator, contract)
        for read in reads:
            points, ok = _points(evaluator, read, frame, good.shape)
            at = tuple(p[wrong & ok] for p in points)
            taken_back |= bool((spoiled[at] != good[at]).any())
            spoiled[at] = good[at]
    return taken_back
