"""The tensor program: one op, resolved, typed, its applied ops and fns inlined, one dtype chosen per dtype variable.

A program is a list of statements over named tensors. A tensor is a partial function of its indices (language.md,
"Presence"); an equation says at which points it is present and what its value is there. Sizes stay symbolic: every
extent is an integer expression of sizes and attributes.

Conventions:
* expressions hold i32, f32 or bool values (`type_of`); storage dtypes belong to tensors, roundings are `Cast`s;
* index names are unique in a program: one name, one range (`Program.indices`). Inlining renames;
* the same name may be bound by several reductions; a reduction's indices hide outer ones of the same name;
  softmax and rank keep theirs: `Reduce("softmax", ("k",), ...)` is a function of k and of everything else in its body;
* a contraction operand whose dtype is not written carries an explicit `Cast` to its partner's dtype (decisions.md 1),
  put there by the resolver, so that interpreter and compiler round at the same place;
* `print.py` prints a program as text of the language; parsing and resolving that text gives an equal program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Any, Union

from tpcgen.diagnostics import NOWHERE, Span
from tpcgen.program.dtypes import DType


class _Remembers:
    """Room for what a node is asked again and again; it never changes."""

    __slots__ = ("_below", "_free", "_hash", "_type")
    _below: tuple[Any, ...]
    _free: frozenset[str]
    _hash: int
    _type: DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(_Remembers):
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """`type` is I32 for integer literals, F32 for reals (`inf` included), BOOL."""

    value: int | float | bool
    type: DType


@dataclass(frozen=True, slots=True)
class Index(Node):
    """The value of an index, i32."""

    name: str


@dataclass(frozen=True, slots=True)
class Size(Node):
    """A size bound by the shape of an input, i32."""

    name: str


@dataclass(frozen=True, slots=True)
class Attr(Node):
    """The value of an attribute of the op: `type` is I32 or F32."""

    name: str
    type: DType


@dataclass(frozen=True, slots=True)
class Read(Node):
    """Element of a tensor; `dtype` is the tensor's storage dtype; float dtypes read as f32, integer ones as i32."""

    tensor: str
    indices: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """'-' or 'not'."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """+ - * / // %, comparisons < <= > >= == != (a chain is an `and` of comparisons), 'and', 'or'."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A built-in function of language.md: exp ... floor, select, default. Never a cast, never a `fn`."""

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Cast(Node):
    """Rounds to `dtype` (in exact mode float casts are the identity). The value is then f32, i32 or bool again."""

    dtype: DType
    operand: Expr


@dataclass(frozen=True, slots=True)
class Reduce(Node):
    """sum max min softmax logsumexp rank any all over `indices`, where `domain` holds; `sink` adds one logit."""

    kind: str
    indices: tuple[str, ...]
    domain: Expr | None
    sink: Expr | None
    body: Expr


Expr = Union[Literal, Index, Size, Attr, Read, Unary, Binary, Call, Cast, Reduce]

COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!="})
KEEPS_INDICES = frozenset({"softmax", "rank"})
"""Reductions that stay functions of the indices they reduce over."""


class Role(Enum):
    INPUT = "input"
    OUTPUT = "output"
    INTERMEDIATE = "intermediate"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Tensor(Node):
    """`shape`: one extent per axis, torch order (last axis fastest). Axes start at 0."""

    name: str
    shape: tuple[Expr, ...]
    dtype: DType
    role: Role


@dataclass(frozen=True, slots=True)
class IndexRange(Node):
    """low <= name < high; both are integer expressions of sizes and attributes."""

    name: str
    low: Expr
    high: Expr


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    """A scalar parameter of the op: `type` is I32 or F32; `default` may use sizes."""

    name: str
    type: DType
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Equation(Node):
    """`target[indices] = value where domain`. Several equations may define one tensor on disjoint domains.

    In an op's body the indices are names of `Program.indices`; the value is rounded to the target's dtype when stored.
    """

    target: str
    indices: tuple[str, ...]
    value: Expr
    domain: Expr | None


@dataclass(frozen=True, slots=True)
class StateInit(Node):
    """The value of a state before the first step; `state` is in `Program.tensors` with Role.STATE."""

    state: str
    indices: tuple[str, ...]
    initial: Expr


@dataclass(frozen=True, slots=True)
class Update(Node):
    """`state[indices] := value where domain`."""

    state: str
    indices: tuple[str, ...]
    value: Expr
    domain: Expr | None


@dataclass(frozen=True, slots=True)
class Scan(Node):
    """Steps over `index` (a name of `Program.indices`), upward or in reverse; `body` runs in text order each step.

    An equation whose target has `index` among its indices outlives the scan; other targets live one step.
    """

    index: str
    reverse: bool
    states: tuple[StateInit, ...]
    body: tuple[Equation | Update, ...]


Statement = Union[Equation, Scan]


@dataclass(frozen=True, slots=True)
class Contract(Node):
    """A condition on the caller. `indices` are free in it: it holds wherever its reads are inside their tensors."""

    condition: Expr
    indices: tuple[str, ...]

    @property
    def on_values(self) -> bool:
        """True when it reads a tensor: checked at run time only with --check-values (language.md, sharper 11)."""
        return any(isinstance(e, Read) for e in walk(self.condition))


@dataclass(frozen=True, slots=True)
class Pin(Node):
    """One entry of a `schedule` block, checked against the program's names."""

    verb: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program(Node):
    """One op. `tensors` holds inputs and outputs (signature order), then the rest in order of definition."""

    name: str
    sizes: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    tensors: tuple[Tensor, ...]
    indices: tuple[IndexRange, ...]
    contracts: tuple[Contract, ...]
    body: tuple[Statement, ...]
    pins: tuple[Pin, ...] = ()

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(t for t in self.tensors if t.role is Role.INPUT)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(t for t in self.tensors if t.role is Role.OUTPUT)

    def tensor(self, name: str) -> Tensor:
        """KeyError when there is none of that name."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    def range_of(self, index: str) -> IndexRange:
        for r in self.indices:
            if r.name == index:
                return r
        raise KeyError(index)


def _remember_hash(kind: type[_Remembers]) -> None:
    """A node is hashed once: its parents' hashes are made of its own, level by level."""
    computed = kind.__hash__

    def remembered(self: _Remembers) -> int:
        try:
            return self._hash  # pyright: ignore[reportPrivateUsage]
        except AttributeError:
            object.__setattr__(self, "_hash", computed(self))
            return self._hash  # pyright: ignore[reportPrivateUsage]

    kind.__hash__ = remembered


_EXPRESSIONS = (Literal, Index, Size, Attr, Read, Unary, Binary, Call, Cast, Reduce)
for _kind in (*_EXPRESSIONS, Tensor, IndexRange, Equation, StateInit, Update, Scan, Contract, Program):
    _remember_hash(_kind)


def type_of(e: Expr) -> DType:
    """I32, F32 or BOOL: the type an expression computes with."""
    try:
        return e._type  # pyright: ignore[reportPrivateUsage]
    except AttributeError:
        object.__setattr__(e, "_type", _type_of(e))
        return e._type  # pyright: ignore[reportPrivateUsage]


def _type_of(e: Expr) -> DType:
    match e:
        case Literal() | Attr():
            return e.type
        case Index() | Size():
            return DType.I32
        case Read() | Cast():
            return _computes_as(e.dtype)
        case Unary(operator="not"):
            return DType.BOOL
        case Unary():
            return type_of(e.operand)
        case Binary(operator=op) if op in COMPARISONS or op in ("and", "or"):
            return DType.BOOL
        case Binary(operator="/"):
            return DType.F32
        case Binary():
            return _join(type_of(e.left), type_of(e.right))
        case Call(function="select"):
            return _join(type_of(e.arguments[1]), type_of(e.arguments[2]))
        case Call(function="abs" | "min" | "max" | "clamp" | "default"):
            joined = type_of(e.arguments[0])
            for a in e.arguments[1:]:
                joined = _join(joined, type_of(a))
            return joined
        case Call():
            return DType.F32
        case Reduce(kind="any" | "all"):
            return DType.BOOL
        case Reduce(kind="rank"):
            return DType.I32
        case Reduce(kind="softmax" | "logsumexp"):
            return DType.F32
        case Reduce():
            return type_of(e.body)


def _computes_as(dtype: DType) -> DType:
    if dtype.is_float:
        return DType.F32
    return DType.BOOL if dtype is DType.BOOL else DType.I32


def _join(a: DType, b: DType) -> DType:
    return a if a is b else DType.F32


def children(e: Expr) -> tuple[Expr, ...]:
    """Direct subexpressions, in evaluation order."""
    return _CHILDREN[type(e)](e)


def _none(_: Any) -> tuple[Expr, ...]:
    return ()


_CHILDREN: dict[type, Callable[[Any], tuple[Expr, ...]]] = {
    Literal: _none,
    Index: _none,
    Size: _none,
    Attr: _none,
    Read: attrgetter("indices"),
    Unary: lambda e: (e.operand,),
    Cast: lambda e: (e.operand,),
    Binary: attrgetter("left", "right"),
    Call: attrgetter("arguments"),
    Reduce: lambda e: tuple(x for x in (e.domain, e.sink, e.body) if x is not None),
}
"""By type: this is what the compiler does most often."""


def walk(e: Expr) -> tuple[Expr, ...]:
    """The expression and everything below it, parents first."""
    try:
        return e._below  # pyright: ignore[reportPrivateUsage]
    except AttributeError:
        below = tuple(_walk(e))
    if len(below) <= _KEPT_NODES:
        object.__setattr__(e, "_below", below)
    return below


_KEPT_NODES = 256
"""Larger expressions are walked anew: a sum of thousands of terms has a subexpression for each."""


def _walk(e: Expr) -> Iterator[Expr]:
    stack = [e]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(children(top)))


def free_indices(e: Expr) -> frozenset[str]:
    """Names of indices whose value the expression depends on."""
    try:
        return e._free  # pyright: ignore[reportPrivateUsage]
    except AttributeError:
        object.__setattr__(e, "_free", _free_indices(e))
        return e._free  # pyright: ignore[reportPrivateUsage]


def _free_indices(e: Expr) -> frozenset[str]:
    match e:
        case Index():
            return frozenset({e.name})
        case Reduce():
            inner = free_indices(e.body) | (free_indices(e.domain) if e.domain is not None else frozenset[str]())
            bound = inner if e.kind in KEEPS_INDICES else inner - set(e.indices)
            kept = frozenset(e.indices) if e.kind in KEEPS_INDICES else frozenset[str]()
            return bound | kept | (free_indices(e.sink) if e.sink is not None else frozenset[str]())
        case _:
            found = frozenset[str]()
            for c in children(e):
                found = found | free_indices(c) if found else free_indices(c)
            return found
