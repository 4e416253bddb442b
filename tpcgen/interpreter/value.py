"""Values over a frame of named axes: data, presence and faults beside each other, and the presence algebra.

At every point a value is in one of three states: present (`data` counts), absent, or faulty (computing it would visit
a read outside its tensor, or divide an integer by zero). A fault is no error until somebody visits it: every function
here lets it through exactly where language.md says the operand is visited. Data at a point that is not present is
arbitrary and must never be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tpcgen.diagnostics import Diagnostic

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Value:
    """Arrays of one rank, each axis of full extent or 1 (constant along it), broadcast against each other.

    `present` None: present everywhere. `fault` None: faulty nowhere; else int64, 0 or a number of a `FaultTable`.
    Wherever `fault` is not 0, `present` is an array and False.
    """

    data: Array
    present: Array | None = None
    fault: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        shapes = [a.shape for a in (self.data, self.present, self.fault) if a is not None]
        return np.broadcast_shapes(*shapes)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.data, self.present, self.fault) if a is not None)

    def map(self, function: Callable[[Array], Array]) -> Value:
        """The same change of layout for data, presence and faults."""
        return Value(
            function(self.data),
            None if self.present is None else function(self.present),
            None if self.fault is None else function(self.fault),
        )

    def with_data(self, data: Array) -> Value:
        return Value(data, self.present, self.fault)


@dataclass
class FaultTable:
    """Numbers the faulty points, so that an error can name the very point that was visited."""

    _sites: list[tuple[int, tuple[int, ...], Callable[[tuple[int, ...]], Diagnostic]]] = field(
        default_factory=list[tuple[int, tuple[int, ...], Callable[[tuple[int, ...]], Diagnostic]]]
    )
    _next: int = 1

    def mark(self, bad: Array, describe: Callable[[tuple[int, ...]], Diagnostic]) -> Array:
        """Fault numbers where `bad`; `describe` gets the position of one of them in `bad` when it is reported."""
        self._sites.append((self._next, bad.shape, describe))
        numbers = np.where(bad, self._next + np.reshape(np.arange(bad.size), bad.shape), 0)
        self._next += bad.size
        return numbers

    def diagnostic(self, number: int) -> Diagnostic:
        for first, shape, describe in reversed(self._sites):
            if number >= first:
                return describe(tuple(int(i) for i in np.unravel_index(number - first, shape)))
        raise AssertionError(f"fault {number} has no site")


def both(a: Array | None, b: Array | None) -> Array | None:
    """Conjunction of presences, None being everywhere."""
    if a is None or b is None:
        return a if b is None else b
    return a & b


def worst(faults: Sequence[Array | None]) -> Array | None:
    """One fault number per point where any operand is faulty."""
    result: Array | None = None
    for fault in faults:
        if fault is not None:
            result = fault if result is None else np.maximum(result, fault)
    return result


def absent(value: Value) -> Array | None:
    """Where the value is absent (and not faulty); None: nowhere."""
    if value.present is None:
        return None
    return ~value.present if value.fault is None else ~value.present & (value.fault == 0)


def drop(fault: Array | None, where: Array | None) -> Array | None:
    """The faults outside `where`; None when none is left."""
    if fault is None:
        return None
    if where is not None:
        fault = np.where(where, 0, fault)
    return fault if fault.any() else None


def strict(data: Array, operands: Sequence[Value]) -> Value:
    """A function of its operands: absent where one is absent; visits them all."""
    fault = worst([o.fault for o in operands])
    present: Array | None = None
    for o in operands:
        present = both(present, o.present)
    return Value(data, present, fault)


def product(data: Array, a: Value, b: Value) -> Value:
    """Absent where a factor is absent, whatever the other one is: it is not visited there."""
    fault = worst([a.fault, b.fault])
    if fault is not None:
        for o in (a, b):
            fault = drop(fault, absent(o))
    return Value(data, both(a.present, b.present), fault)


def union(a: Value, b: Value, operate: Callable[[Array, Array], Array], alone: Callable[[Array], Array]) -> Value:
    """`+` and `-`: `operate` where both are present, a where only a is, `alone(b)` where only b is."""
    data = operate(a.data, b.data)
    if a.present is None and b.present is None:
        return Value(data)
    fault = worst([a.fault, b.fault])
    if b.present is not None:
        data = np.where(b.present, data, a.data)
    if a.present is not None:
        data = np.where(a.present, data, alone(b.data))
    present: Array | None = None
    if a.present is not None and b.present is not None:
        present = a.present | b.present
    return _with_faults(data, present, fault)


def default(x: Value, v: Value) -> Value:
    """x where it is present, else v; v is visited only where x is absent."""
    if x.present is None:
        return x
    fault = worst([x.fault, drop(v.fault, x.present)])
    present = None if v.present is None else x.present | v.present
    return _with_faults(np.where(x.present, x.data, v.data), present, fault)


def select(condition: Value, a: Value, b: Value) -> Value:
    """a where the condition holds, b where it does not; only the chosen one is visited."""
    chosen = condition.data
    data = np.where(chosen, a.data, b.data)
    present: Array | None = None
    if a.present is not None or b.present is not None:
        present = np.where(chosen, _everywhere(a), _everywhere(b))
    known = True if condition.present is None else condition.present
    faults = [drop(a.fault, ~(chosen & known)), drop(b.fault, chosen | ~np.asarray(known)), condition.fault]
    return _with_faults(data, both(present, condition.present), worst(faults))


def negation(a: Value) -> Value:
    return a.with_data(~a.data)


def conjunction(a: Value, b: Value) -> Value:
    """Three-valued `and`: false where a side is present and false, whatever the other is."""
    decided = _decided(a, False) | _decided(b, False)
    return _logical(a, b, a.data & b.data, decided, False)


def disjunction(a: Value, b: Value) -> Value:
    """Three-valued `or`: true where a side is present and true, whatever the other is."""
    decided = _decided(a, True) | _decided(b, True)
    return _logical(a, b, a.data | b.data, decided, True)


def _decided(side: Value, by: bool) -> Array:
    agrees = side.data if by else ~side.data
    return agrees if side.present is None else agrees & side.present


def _logical(a: Value, b: Value, data: Array, decided: Array, by: bool) -> Value:
    present = both(a.present, b.present)
    if present is None:
        return Value(data)
    fault = drop(worst([a.fault, b.fault]), decided)
    return Value(np.where(decided, by, data), present | decided, fault)


def holds(domain: Value) -> Array:
    """Where a domain is true: present and true."""
    return domain.data if domain.present is None else domain.data & domain.present


def restrict(value: Value, domain: Value | None) -> Value:
    """The value where the domain holds, absent elsewhere and unvisited there."""
    if domain is None:
        return value
    inside = holds(domain)
    present = inside if value.present is None else inside & value.present
    fault = worst([drop(value.fault, ~inside), domain.fault])
    return Value(value.data, present, fault)


def merge(a: Value, b: Value) -> Value:
    """Two partial functions on disjoint domains as one."""
    inside = _everywhere(b)
    data = np.where(inside, b.data, a.data)
    return _with_faults(data, np.asarray(_everywhere(a) | inside), worst([a.fault, b.fault]))


def _everywhere(value: Value) -> Array:
    return np.ones((1,) * value.data.ndim, np.bool_) if value.present is None else value.present


def _with_faults(data: Array, present: Array | None, fault: Array | None) -> Value:
    if fault is None:
        return Value(data, present)
    fine = fault == 0
    return Value(data, fine if present is None else present & fine, fault)
