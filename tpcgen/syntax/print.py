"""Nodes -> text on one line, with as few parentheses as the grammar needs. Layout and comments: format.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from tpcgen.syntax import ast

Simple = Union[
    ast.Use,
    ast.Param,
    ast.DtypeVariable,
    ast.Function,
    ast.Vjp,
    ast.Let,
    ast.IndexDeclaration,
    ast.Application,
    ast.Equation,
    ast.State,
    ast.Update,
]

_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _ATOM = range(1, 9)
"""How strongly the operators bind, weakest first; the chain of rules in the grammar."""
_BINARY = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "//": _PRODUCT, "%": _PRODUCT}


def print_expression(expression: ast.Expr) -> str:
    """Text that parses to an equal expression."""
    return _at_least(_OR, expression)


def print_argument(argument: ast.Argument) -> str:
    value = print_expression(argument.value)
    return value if argument.name is None else f"{argument.name} = {value}"


def print_parameter(parameter: ast.TensorParameter | ast.Attribute) -> str:
    head = f"{parameter.name}: {parameter.dtype}"
    if isinstance(parameter, ast.TensorParameter):
        return f"{head}[{_list(parameter.shape)}]"
    return head if parameter.default is None else f"{head} = {print_expression(parameter.default)}"


def print_binding(name: str, value: ast.Expr) -> str:
    return f"{name} = {print_expression(value)}"


def print_entry(entry: ast.ScheduleEntry) -> str:
    return " ".join((entry.verb, *entry.words)) + ";"


def print_simple(node: Simple) -> str:
    """An item or statement that has no block."""
    match node:
        case ast.Use():
            return f'use "{node.path}"'
        case ast.Param():
            return f"param {node.name}: {node.dtype} = {print_expression(node.value)}"
        case ast.DtypeVariable():
            return f"dtype {node.name} in {', '.join(node.choices)}"
        case ast.Function():
            return f"fn {node.name}({', '.join(node.parameters)}) = {print_expression(node.body)}"
        case ast.Vjp():
            return f"vjp {node.op} wrt {', '.join(node.inputs)}"
        case ast.Let():
            return f"let {print_binding(node.name, node.value)}"
        case ast.IndexDeclaration():
            return f"index {node.name} in {print_range(node.low, node.high)}"
        case ast.Application():
            arguments = ", ".join(map(print_argument, node.arguments))
            return f"{', '.join(node.targets)} = {node.callee}({arguments})"
        case ast.Equation():
            head = _target(node.target, node.indices, node.dtype)
            return f"{head} = {print_expression(node.value)}{_clause('where', node.domain)}"
        case ast.State():
            return f"state {_target(node.name, node.indices, node.dtype)} = {print_expression(node.initial)}"
        case ast.Update():
            head = _target(node.target, node.indices, None)
            return f"{head} := {print_expression(node.value)}{_clause('where', node.domain)}"


def print_range(low: ast.Expr, high: ast.Expr) -> str:
    return f"{print_expression(low)} .. {print_expression(high)}"


def print_scan_head(scan: ast.Scan) -> str:
    reverse = " reverse" if scan.reverse else ""
    return f"scan {scan.index} in {print_range(scan.low, scan.high)}{reverse} {{"


def _at_least(strength: int, expression: ast.Expr) -> str:
    """In parentheses if the expression binds more weakly than `strength`."""
    text, own = _print(expression)
    return text if own >= strength else f"({text})"


def _print(expression: ast.Expr) -> tuple[str, int]:
    match expression:
        case ast.Number():
            return expression.text, _ATOM
        case ast.Name():
            return expression.id, _ATOM
        case ast.Subscript():
            return f"{expression.tensor}[{_indices(expression.indices)}]", _ATOM
        case ast.Call():
            return f"{expression.function}({', '.join(map(print_argument, expression.arguments))})", _ATOM
        case ast.Reduce():
            clauses = _clause("where", expression.domain) + _clause("sink", expression.sink)
            body = print_expression(expression.body)
            return f"{expression.kind}[{', '.join(expression.indices)}{clauses}]({body})", _ATOM
        case ast.Unary(operator="not"):
            return f"not {_at_least(_NOT, expression.operand)}", _NOT
        case ast.Unary():
            return f"-{_at_least(_SIGN, expression.operand)}", _SIGN
        case ast.Binary():
            own = _BINARY[expression.operator]
            return _infix(expression, own), own
        case ast.Logical():
            own = _OR if expression.operator == "or" else _AND
            return _infix(expression, own), own
        case ast.Compare():
            first, *rest = (_at_least(_SUM, operand) for operand in expression.operands)
            pairs = zip(expression.operators, rest, strict=True)
            return " ".join([first, *(f"{operator} {operand}" for operator, operand in pairs)]), _COMPARE


def _infix(expression: ast.Binary | ast.Logical, own: int) -> str:
    left, right = _at_least(own, expression.left), _at_least(own + 1, expression.right)
    return f"{left} {expression.operator} {right}"


def _target(name: str, indices: tuple[str, ...], dtype: str | None) -> str:
    annotation = "" if dtype is None else f": {dtype}"
    return f"{name}[{','.join(indices)}]{annotation}"


def _indices(indices: Sequence[ast.Expr]) -> str:
    """`Q[b,h,q]` but `K[b, h // R, k]`: a list of plain names reads as one word."""
    plain = all(isinstance(index, (ast.Name, ast.Number)) for index in indices)
    return ("," if plain else ", ").join(map(print_expression, indices))


def _list(expressions: Sequence[ast.Expr]) -> str:
    return ", ".join(map(print_expression, expressions))


def _clause(keyword: str, expression: ast.Expr | None) -> str:
    return "" if expression is None else f" {keyword} {print_expression(expression)}"
