"""Reductions of values over the last axes of a frame.

The domain is already part of the presence of what is reduced; for a sum of products it comes along. Results lose those
axes, except softmax and rank, which stay functions of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from tpcgen.interpreter.value import Array, Value, absent, drop, product, restrict, worst

Room = Callable[[tuple[int, ...]], None]
"""Asked before an array of that shape is made; may refuse by raising."""


def total(factors: Sequence[Value], domain: Value | None, extents: tuple[int, ...], room: Room) -> Value:
    """Sum over the last axes, of these extents, of the product of the factors; a matrix product where that is smaller.

    Accumulates in the dtype of the data: float64, float32, or int32 with wrap-around.
    """
    if domain is not None and domain.fault is not None:
        # An absent factor leaves the other factors unvisited, but not the domain.
        room(_full([*factors, domain], extents))
        return _reduce(restrict(reduce(_multiply, factors), domain), extents, np.add, 0)
    if domain is not None:
        factors = [*factors, restrict(Value(np.ones_like(factors[0].data, shape=(1,) * domain.data.ndim)), domain)]
    groups = _grouped(factors)
    if groups is not None:
        a, b = (reduce(_multiply, group) for group in groups)
        a, b = _seen(a, b), _seen(b, a)
        if _plain(a) and _plain(b):
            return _matrix_product(a, b, extents, room)
    room(_full(factors, extents))
    return _reduce(reduce(_multiply, factors), extents, np.add, 0)


def extreme(body: Value, extents: tuple[int, ...], largest: bool, room: Room) -> Value:
    """max or min; NaN where a NaN is visited."""
    room(_full([body], extents))
    kind = body.data.dtype
    if np.issubdtype(kind, np.floating):
        neutral = -np.inf if largest else np.inf
    else:
        neutral = np.iinfo(kind).min if largest else np.iinfo(kind).max
    return _reduce(body, extents, np.maximum if largest else np.minimum, neutral)


def quantified(body: Value, extents: tuple[int, ...], all_of: bool, room: Room) -> Value:
    """any or all: never absent; one deciding point leaves the others unvisited."""
    room(_full([body], extents))
    deciding = body.data != all_of
    if body.present is not None:
        deciding = deciding & body.present
    axes = _last(extents)
    decided = np.asarray(_spread(deciding, extents).any(axis=axes))
    data = ~decided if all_of else decided
    if body.fault is None:
        return Value(data)
    fault = drop(_spread(body.fault, extents).max(axis=axes, initial=0), decided)
    return Value(data, None if fault is None else fault == 0, fault)


def logsumexp(body: Value, sink: Value | None, extents: tuple[int, ...], room: Room) -> Value:
    """log(sum(exp)); a present sink is one more point.

    NaN for a visited NaN or +inf, and where every visited point is -inf (decisions.md 11).
    """
    room(_full([body], extents))
    largest, weights, present = _weights(body, sink, extents)
    axes = _last(extents)
    sum_of = weights.sum(axis=axes)
    if sink is not None:
        sum_of = sum_of + _sink_weight(sink, largest, axes)
    data = np.squeeze(largest, axes) + np.log(sum_of)
    filled = _any(present, extents)
    fault = None if body.fault is None else _spread(body.fault, extents).max(axis=axes, initial=0)
    if sink is not None:
        filled = None if filled is None else filled | np.squeeze(_there(sink), axes)
        fault = worst([fault, None if sink.fault is None else np.squeeze(sink.fault, axes)])
    return _settled(data, filled, fault)


def softmax(body: Value, sink: Value | None, extents: tuple[int, ...], room: Room) -> Value:
    """exp(x - max) / sum, absent where x is; a present sink adds to the sum only.

    The whole row is NaN for a visited NaN or +inf, and where every visited point is -inf (decisions.md 11).
    """
    room(_full([body], extents))
    largest, weights, _ = _weights(body, sink, extents)
    axes = _last(extents)
    sum_of = weights.sum(axis=axes, keepdims=True)
    if sink is not None:
        sum_of = sum_of + _sink_weight(sink, largest, ())
    weights /= sum_of
    return _of_row(weights, body, sink, extents)


def rank(body: Value, extents: tuple[int, ...], room: Room) -> Value:
    """The number of visited points that are greater, or equal and of smaller index; NaN counts as least."""
    shape = _full([body], extents)
    room(shape)
    outer = shape[: len(shape) - len(extents)]
    data = np.reshape(np.broadcast_to(body.data, shape), (*outer, math.prod(extents)))
    real = data.astype(np.float64)
    last = np.isnan(real).astype(np.int8)
    if body.present is not None:
        last = np.where(np.reshape(np.broadcast_to(body.present, shape), data.shape), last, 2)
    order = np.lexsort((np.where(last == 0, -real, 0), last), axis=-1)
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(order.shape[-1], dtype=np.int32), axis=-1)
    return _of_row(np.reshape(ranks, shape), body, None, extents)


def _multiply(a: Value, b: Value) -> Value:
    return product(a.data * b.data, a, b)


def _last(extents: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(extents), 0))


def _full(values: Sequence[Value], extents: tuple[int, ...]) -> tuple[int, ...]:
    shape = np.broadcast_shapes(*(v.shape for v in values))
    return shape[: len(shape) - len(extents)] + extents


def _spread(array: Array, extents: tuple[int, ...]) -> Array:
    """The array with its last axes at full extent."""
    return np.broadcast_to(array, array.shape[: array.ndim - len(extents)] + extents)


def _any(present: Array | None, extents: tuple[int, ...]) -> Array | None:
    """Where at least one point of the row is present; None: everywhere."""
    if present is not None:
        return np.asarray(_spread(present, extents).any(axis=_last(extents)))
    return None if math.prod(extents) else np.zeros((), np.bool_)


def _reduce(body: Value, extents: tuple[int, ...], operate: np.ufunc, neutral: float) -> Value:
    axes = _last(extents)
    data = _masked(body, neutral)
    data = operate.reduce(_spread(data, extents), axis=axes, dtype=data.dtype, initial=data.dtype.type(neutral))
    fault = None if body.fault is None else _spread(body.fault, extents).max(axis=axes, initial=0)
    return _settled(data, _any(body.present, extents), fault)


def _masked(body: Value, neutral: float) -> Array:
    if body.present is None:
        return body.data
    return np.where(body.present, body.data, body.data.dtype.type(neutral))


def _settled(data: Array, present: Array | None, fault: Array | None) -> Value:
    if present is not None and present.ndim != data.ndim:
        present = np.broadcast_to(present, (1,) * data.ndim)
    if fault is None:
        return Value(data, present)
    fine = fault == 0
    return Value(data, fine if present is None else present & fine, fault)


def _weights(body: Value, sink: Value | None, extents: tuple[int, ...]) -> tuple[Array, Array, Array | None]:
    """The greatest visited logit of each row (0 where there is none) and exp(x - it), 0 at absent points."""
    axes = _last(extents)
    logits = _spread(_masked(body, -np.inf), extents)
    largest = logits.max(axis=axes, keepdims=True, initial=-np.inf)
    filled = _any(body.present, extents)
    if filled is not None and filled.ndim:
        filled = np.expand_dims(filled, axes)
    if sink is not None:
        largest = np.where(_there(sink), np.maximum(largest, sink.data), largest)
        filled = None if filled is None else filled | _there(sink)
    if filled is not None:
        largest = np.where(filled, largest, largest.dtype.type(0))
    weights = np.subtract(logits, largest)
    np.exp(weights, out=weights)
    if body.present is not None:
        weights[~np.broadcast_to(body.present, weights.shape)] = 0
    return largest, weights, body.present


def _there(sink: Value) -> Array:
    return np.ones_like(sink.data, np.bool_) if sink.present is None else sink.present


def _sink_weight(sink: Value, largest: Array, squeeze: tuple[int, ...]) -> Array:
    weight = np.exp(sink.data - largest)
    if sink.present is not None:
        weight = np.where(sink.present, weight, weight.dtype.type(0))
    return np.squeeze(weight, squeeze) if squeeze else weight


def _of_row(data: Array, body: Value, sink: Value | None, extents: tuple[int, ...]) -> Value:
    """A result at every visited point of a row, that visits the whole row."""
    missing = absent(body)
    fault = (
        None if body.fault is None else _spread(body.fault, extents).max(axis=_last(extents), keepdims=True, initial=0)
    )
    if sink is not None:
        fault = worst([fault, sink.fault])
    fault = drop(fault, missing)
    if fault is None:
        return Value(data, None if missing is None else ~missing)
    return _settled(data, None if missing is None else ~missing, fault)


# Sums of products


def _grouped(factors: Sequence[Value]) -> tuple[list[Value], list[Value]] | None:
    """The factors in two groups whose products are as small as they can be; None if one product is no bigger."""
    if not all(np.issubdtype(f.data.dtype, np.floating) for f in factors):
        return None
    best: tuple[list[Value], list[Value]] | None = None
    smallest = _size(factors)
    first, rest = factors[0], factors[1:]
    for mask in itertools.product((False, True), repeat=len(rest)):
        one = [first, *(f for f, m in zip(rest, mask, strict=True) if not m)]
        two = [f for f, m in zip(rest, mask, strict=True) if m]
        if two and _size(one) + _size(two) < smallest:
            smallest, best = _size(one) + _size(two), (one, two)
    return best


def _size(values: Sequence[Value]) -> int:
    return math.prod(np.broadcast_shapes(*(v.shape for v in values)))


def _seen(a: Value, other: Value) -> Value:
    """`a` without NaN, inf and faults at points that meet absent points of `other` only: nobody visits them."""
    missing = absent(other)
    if missing is None or _plain(a):
        return a
    others_own = tuple(i for i, (m, n) in enumerate(zip(a.shape, missing.shape, strict=True)) if m == 1 and n != 1)
    unseen = np.asarray(missing.all(axis=others_own, keepdims=True))
    return Value(np.where(unseen, a.data.dtype.type(0), a.data), a.present, drop(a.fault, unseen))


def _plain(value: Value) -> bool:
    """Finite wherever it is present, and without faults: multiplying by 0 is then as good as not visiting."""
    if value.fault is not None:
        return False
    finite = np.isfinite(value.data)
    return bool(finite.all() if value.present is None else (finite | ~value.present).all())


def _matrix_product(a: Value, b: Value, extents: tuple[int, ...], room: Room) -> Value:
    data = _contract(_masked(a, 0), _masked(b, 0), extents, room)
    if a.present is None or b.present is None:
        present = _any(a.present if b.present is None else b.present, extents)
    else:
        present = _contract(a.present.astype(np.float32), b.present.astype(np.float32), extents, room) > 0
    return _settled(data, present, None)


def _contract(x: Array, y: Array, extents: tuple[int, ...], room: Room) -> Array:
    """Sum of x * y over the last axes, as one batched matrix multiplication."""
    x, y = _spread(x, extents), _spread(y, extents)
    outer = range(x.ndim - len(extents))
    inner = list(range(len(outer), x.ndim))
    batch = [i for i in outer if x.shape[i] != 1 and y.shape[i] != 1]
    rows = [i for i in outer if i not in batch and y.shape[i] == 1]
    columns = [i for i in outer if i not in batch and i not in rows]
    size = {i: x.shape[i] if i in batch or i in rows else y.shape[i] for i in outer}
    room(tuple(size.values()))

    def count(axes: list[int]) -> int:
        return math.prod(size[i] for i in axes)

    depth = math.prod(extents)
    # y is constant along `rows` and x along `columns`: those axes have extent 1 there and vanish in the reshape.
    left = np.reshape(np.transpose(x, batch + rows + columns + inner), (count(batch), count(rows), depth))
    right = np.reshape(np.transpose(y, batch + rows + inner + columns), (count(batch), depth, count(columns)))
    order = batch + rows + columns
    result = np.reshape(np.matmul(left, right), [size[i] for i in order])
    return np.transpose(result, [order.index(i) for i in outer])
