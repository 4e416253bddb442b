"""The AST: what the parser makes of a file, names unresolved. Spans take no part in equality."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from tpcgen.diagnostics import NOWHERE, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False)


# Expressions


@dataclass(frozen=True, slots=True)
class Number(Node):
    """An integer or real literal, or `inf`. `text` is as written; an int value means an integer literal."""

    value: int | float
    text: str


@dataclass(frozen=True, slots=True)
class Name(Node):
    id: str


@dataclass(frozen=True, slots=True)
class Subscript(Node):
    """`tensor[i, j // 2]`; `lam[]` has no indices."""

    tensor: str
    indices: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """Positional when `name` is None."""

    name: str | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A built-in function, a cast by dtype name, or a `fn`."""

    function: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`operator` is '-' or 'not'."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`operator` is one of + - * / // %."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A chained comparison: operands[0] operators[0] operands[1] ...; operators are < <= > >= == !=."""

    operators: tuple[str, ...]
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Logical(Node):
    """`operator` is 'and' or 'or'; two operands."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Reduce(Node):
    """`kind[i, j where domain sink s](body)`; kind: sum max min softmax logsumexp rank any all."""

    kind: str
    indices: tuple[str, ...]
    domain: Expr | None
    sink: Expr | None
    body: Expr


Expr = Union[Number, Name, Subscript, Call, Unary, Binary, Compare, Logical, Reduce]


# Statements


@dataclass(frozen=True, slots=True)
class Let(Node):
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class IndexDeclaration(Node):
    """`index k in low .. high`, half-open."""

    name: str
    low: Expr
    high: Expr


@dataclass(frozen=True, slots=True)
class Equation(Node):
    """`target[indices]: dtype = value where domain`; dtype and domain may be None."""

    target: str
    indices: tuple[str, ...]
    dtype: str | None
    value: Expr
    domain: Expr | None


@dataclass(frozen=True, slots=True)
class Application(Node):
    """`A, L = callee(X, W = 3)`: whole tensors."""

    targets: tuple[str, ...]
    callee: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class State(Node):
    """`state S[d, e]: f32 = initial`."""

    name: str
    indices: tuple[str, ...]
    dtype: str | None
    initial: Expr


@dataclass(frozen=True, slots=True)
class Update(Node):
    """`S[d, e] := value where domain`."""

    target: str
    indices: tuple[str, ...]
    value: Expr
    domain: Expr | None


@dataclass(frozen=True, slots=True)
class Scan(Node):
    """`scan t in low .. high reverse { ... }`."""

    index: str
    low: Expr
    high: Expr
    reverse: bool
    body: tuple[State | Update | Equation | Let | IndexDeclaration, ...]
    head: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)
    """From `scan` to the brace that opens the body."""


@dataclass(frozen=True, slots=True)
class ScheduleEntry(Node):
    """`tile q 64;` `chunk t 64;` `place S mme;`: a verb and its words, checked by whoever reads it."""

    verb: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule(Node):
    entries: tuple[ScheduleEntry, ...]


Statement = Union[Let, IndexDeclaration, Equation, Application, Scan, Schedule]


# Items


@dataclass(frozen=True, slots=True)
class TensorParameter(Node):
    """`Q: bf16[B, H, 2 * C]`; a scalar tensor is `f32[]`. dtype may name a dtype variable."""

    name: str
    dtype: str
    shape: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    """`W: int = 256`, `cap: f32 = 30`; dtype is int or a dtype name."""

    name: str
    dtype: str
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Use(Node):
    """`use "path.dsl"`: the ops and fns of another file, relative to this one."""

    path: str


@dataclass(frozen=True, slots=True)
class Param(Node):
    """`param x: f32 = 0.5`: a constant of the file."""

    name: str
    dtype: str
    value: Expr


@dataclass(frozen=True, slots=True)
class DtypeVariable(Node):
    """`dtype T in bf16, f32`."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function(Node):
    """`fn phi(x) = elu(x) + 1`."""

    name: str
    parameters: tuple[str, ...]
    body: Expr


@dataclass(frozen=True, slots=True)
class Op(Node):
    name: str
    parameters: tuple[TensorParameter | Attribute, ...]
    outputs: tuple[TensorParameter, ...]
    contracts: tuple[Expr, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Vjp(Node):
    """`vjp gformer wrt Q, K, V`."""

    op: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check(Node):
    """`check small { B = 2, N = 96 }`."""

    name: str
    values: tuple[tuple[str, Expr], ...]


Item = Union[Use, Param, DtypeVariable, Function, Op, Vjp, Check]


@dataclass(frozen=True, slots=True)
class File(Node):
    path: str
    items: tuple[Item, ...]
