"""Walks over the AST, without recursion: input may be nested without bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import cast

from tpcgen.syntax import ast


def children(node: ast.Node) -> list[ast.Node]:
    """Direct child nodes, in text order."""
    found: list[ast.Node] = []
    for name in _child_fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, ast.Node):
            found.append(value)
        elif isinstance(value, tuple):
            found += _nodes_in(cast("tuple[object, ...]", value))
    return found


def _nodes_in(values: tuple[object, ...]) -> list[ast.Node]:
    """The nodes among them; of a pair, those it holds (`ast.Check.values`)."""
    found: list[ast.Node] = []
    for value in values:
        if isinstance(value, ast.Node):
            found.append(value)
        elif isinstance(value, tuple):
            found += _nodes_in(cast("tuple[object, ...]", value))
    return found


def walk(node: ast.Node) -> Iterator[ast.Node]:
    """The node and everything below it, parents first, in text order."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(children(top)))


@cache
def _child_fields(kind: type[ast.Node]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.name != "span")
