"""Rules of the grammar -> nodes of the AST. lark calls the method named like the rule or its alias, children first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

from tpcgen.diagnostics import Span
from tpcgen.syntax import ast
from tpcgen.syntax.words import Word

Children = list[Any]
"""Words, nodes and parts, every one with a `span`, in the order of the text; punctuation is kept."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a node that is no node itself: a clause, a list in brackets."""

    role: str
    value: Any
    span: Span


def _span(children: Children) -> Span:
    return children[0].span.to(children[-1].span)


def _names(children: Children) -> tuple[str, ...]:
    return tuple(str(child) for child in children if isinstance(child, Word) and child.type == "NAME")


def _nodes(children: Children) -> tuple[Any, ...]:
    return tuple(child for child in children if isinstance(child, ast.Node))


def _part(children: Children, role: str) -> Any:
    return next((child.value for child in children if isinstance(child, Part) and child.role == role), None)


class Builder:
    """Stateless, so that lark's table can be pickled with it."""

    # Items

    def start(self, c: Children) -> tuple[ast.Item, ...]:
        return tuple(c)

    def use(self, c: Children) -> ast.Use:
        return ast.Use(path=str(c[1])[1:-1], span=_span(c))

    def param(self, c: Children) -> ast.Param:
        return ast.Param(name=str(c[1]), dtype=str(c[3]), value=c[5], span=_span(c))

    def dtype(self, c: Children) -> ast.DtypeVariable:
        name, *choices = _names(c)
        return ast.DtypeVariable(name=name, choices=tuple(choices), span=_span(c))

    def fn(self, c: Children) -> ast.Function:
        name, *parameters = _names(c)
        return ast.Function(name=name, parameters=tuple(parameters), body=c[-1], span=_span(c))

    def vjp(self, c: Children) -> ast.Vjp:
        op, *inputs = _names(c)
        return ast.Vjp(op=op, inputs=tuple(inputs), span=_span(c))

    def check(self, c: Children) -> ast.Check:
        values = tuple(child.value for child in c if isinstance(child, Part))
        return ast.Check(name=str(c[1]), values=values, span=_span(c))

    def binding(self, c: Children) -> Part:
        return Part("binding", (str(c[0]), c[2]), _span(c))

    def op(self, c: Children) -> ast.Op:
        return ast.Op(
            name=str(c[1]),
            parameters=_part(c, "parameters"),
            outputs=_part(c, "outputs"),
            contracts=_part(c, "contracts") or (),
            body=_part(c, "body"),
            span=_span(c),
        )

    def parameters(self, c: Children) -> Part:
        return Part("parameters", _nodes(c), _span(c))

    def outputs(self, c: Children) -> Part:
        return Part("outputs", _nodes(c), _span(c))

    def contracts(self, c: Children) -> Part:
        return Part("contracts", _nodes(c), _span(c))

    def body(self, c: Children) -> Part:
        return Part("body", _nodes(c), _span(c))

    def tensor(self, c: Children) -> ast.TensorParameter:
        return ast.TensorParameter(name=str(c[0]), dtype=str(c[2]), shape=_nodes(c), span=_span(c))

    def attribute(self, c: Children) -> ast.Attribute:
        default = c[4] if len(c) > 3 else None
        return ast.Attribute(name=str(c[0]), dtype=str(c[2]), default=default, span=_span(c))

    # Statements

    def let(self, c: Children) -> ast.Let:
        return ast.Let(name=str(c[1]), value=c[3], span=_span(c))

    def index(self, c: Children) -> ast.IndexDeclaration:
        return ast.IndexDeclaration(name=str(c[1]), low=c[3], high=c[5], span=_span(c))

    def equation(self, c: Children) -> ast.Equation:
        target, indices = _part(c, "target")
        return ast.Equation(
            target=target,
            indices=indices,
            dtype=_part(c, "annotation"),
            value=_nodes(c)[0],
            domain=_part(c, "domain"),
            span=_span(c),
        )

    def target(self, c: Children) -> Part:
        name, *indices = _names(c)
        return Part("target", (name, tuple(indices)), _span(c))

    def annotation(self, c: Children) -> Part:
        return Part("annotation", str(c[1]), _span(c))

    def domain(self, c: Children) -> Part:
        return Part("domain", c[1], _span(c))

    def sink(self, c: Children) -> Part:
        return Part("sink", c[1], _span(c))

    def application(self, c: Children) -> ast.Application:
        *targets, callee = _names(c)
        return ast.Application(targets=tuple(targets), callee=callee, arguments=_nodes(c), span=_span(c))

    def scan(self, c: Children) -> ast.Scan:
        low, high, *body = _nodes(c)
        reverse = isinstance(c[6], Word) and c[6].type == "REVERSE"
        return ast.Scan(
            index=str(c[1]),
            low=low,
            high=high,
            reverse=reverse,
            body=tuple(body),
            head=_span(c[: 8 if reverse else 7]),
            span=_span(c),
        )

    def schedule(self, c: Children) -> ast.Schedule:
        return ast.Schedule(entries=_nodes(c), span=_span(c))

    def entry(self, c: Children) -> ast.ScheduleEntry:
        verb, *words = (str(child) for child in c[:-1])
        return ast.ScheduleEntry(verb=verb, words=tuple(words), span=_span(c))

    def state(self, c: Children) -> ast.State:
        name, indices = _part(c, "target")
        return ast.State(name=name, indices=indices, dtype=_part(c, "annotation"), initial=c[-1], span=_span(c))

    def update(self, c: Children) -> ast.Update:
        target, indices = _part(c, "target")
        return ast.Update(target=target, indices=indices, value=_nodes(c)[0], domain=_part(c, "domain"), span=_span(c))

    # Expressions

    def argument(self, c: Children) -> ast.Argument:
        return ast.Argument(name=str(c[0]) if len(c) == 3 else None, value=c[-1], span=_span(c))

    def logical(self, c: Children) -> ast.Logical:
        return ast.Logical(operator=str(c[1]), left=c[0], right=c[2], span=_span(c))

    def unary(self, c: Children) -> ast.Unary:
        return ast.Unary(operator=str(c[0]), operand=c[1], span=_span(c))

    def binary(self, c: Children) -> ast.Binary:
        return ast.Binary(operator=str(c[1]), left=c[0], right=c[2], span=_span(c))

    def compare(self, c: Children) -> ast.Compare:
        return ast.Compare(operators=tuple(str(word) for word in c[1::2]), operands=tuple(c[::2]), span=_span(c))

    def number(self, c: Children) -> ast.Number:
        (word,) = c
        return ast.Number(value=number_value(word), text=str(word), span=word.span)

    def name(self, c: Children) -> ast.Name:
        return ast.Name(id=str(c[0]), span=c[0].span)

    def subscript(self, c: Children) -> ast.Subscript:
        return ast.Subscript(tensor=str(c[0]), indices=_nodes(c), span=_span(c))

    def call(self, c: Children) -> ast.Call:
        return ast.Call(function=str(c[0]), arguments=_nodes(c), span=_span(c))

    def reduce(self, c: Children) -> ast.Reduce:
        return ast.Reduce(
            kind=str(c[0]),
            indices=_names(c),
            domain=_part(c, "domain"),
            sink=_part(c, "sink"),
            body=c[-2],
            span=_span(c),
        )

    def parenthesised(self, c: Children) -> ast.Expr:
        """The node itself, its span widened to the parentheses: it is what a caret should underline."""
        return replace(c[1], span=_span(c))


def number_value(word: Word) -> int | float:
    """The value of a literal. The parser has refused those that no dtype holds, so `int` cannot be asked too much."""
    match word.type:
        case "INT":
            return int(word)
        case "REAL":
            return float(word)
        case _:
            return inf
