"""Checks every fn where it is defined: its names, its calls, no recursion. A wrong one is marked broken."""

from __future__ import annotations

from tpcgen.diagnostics import Diagnostics, Span
from tpcgen.program.astwalk import walk
from tpcgen.program.files import DTYPES, FileScope, FunctionDefinition
from tpcgen.program.hints import did_you_mean
from tpcgen.program.places import Places
from tpcgen.program.typerules import ARITIES
from tpcgen.syntax import ast

_RULE = "a fn sees its arguments and the file's params only"


def check_functions(file: FileScope, places: Places, found: Diagnostics) -> None:
    """Checks the fns defined in `file`; used ones are checked with their own file."""
    own = [f for f in file.functions.values() if f.file is file]
    for function in own:
        errors = [*_repeated_parameters(function, places), *_wrong_names(function)]
        for error in errors:
            found.error(*error)
            function.broken = True
    for function in own:
        cycle = _cycle(function)
        if cycle:
            path = " -> ".join(f.node.name for f in (function, *cycle))
            place = places.word(function.node.span, function.node.name)
            found.error("E221", f"{function.node.name} calls itself: {path}", place, "a fn cannot recur; write a scan")
            function.broken = True


Error = tuple[str, str, Span, str]


def _repeated_parameters(function: FunctionDefinition, places: Places) -> list[Error]:
    parameters = function.node.parameters
    repeated = [(i, p) for i, p in enumerate(parameters) if p in parameters[:i]]
    return [
        ("E202", f"the argument {p} is listed twice", places.word(function.node.span, p, after="(", nth=1), "")
        for _, p in repeated
    ]


def _wrong_names(function: FunctionDefinition) -> list[Error]:
    errors: list[Error] = []
    known = [*function.node.parameters, *function.file.params]
    for node in walk(function.node.body):
        match node:
            case ast.Name() if node.id not in known:
                hint = did_you_mean(node.id, known) or _RULE
                errors.append(("E246", f"{node.id} is not an argument of {function.node.name}", node.span, hint))
            case ast.Subscript():
                message = f"the fn {function.node.name} reads {node.tensor}, but a fn is scalar"
                errors.append(("E246", message, node.span, f"{_RULE}: pass the element"))
            case ast.Reduce():
                message = f"the fn {function.node.name} reduces, but a fn is scalar"
                errors.append(("E246", message, node.span, f"{_RULE}: reduce in the op and pass the result"))
            case ast.Call():
                errors += _wrong_call(node, function)
            case _:
                pass
    return errors


def _wrong_call(call: ast.Call, function: FunctionDefinition) -> list[Error]:
    known = [*ARITIES, *function.file.functions, *DTYPES]
    if call.function in known:
        return []
    if call.function in function.file.dtype_variables:
        message = f"{call.function} is a dtype variable, which a fn does not see"
        return [("E246", message, call.span, "cast the argument or the result in the op")]
    return [("E203", f"there is no function {call.function}", call.span, did_you_mean(call.function, known))]


def _cycle(function: FunctionDefinition) -> list[FunctionDefinition]:
    """The calls that lead from a fn back to itself, or nothing."""
    paths: list[list[FunctionDefinition]] = [[function]]
    seen: set[str] = set()
    while paths:
        path = paths.pop()
        for callee in _callees(path[-1]):
            if callee is function:
                return [*path[1:], function]
            key = f"{callee.file.file.path}:{callee.node.name}"
            if key not in seen:
                seen.add(key)
                paths.append([*path, callee])
    return []


def _callees(function: FunctionDefinition) -> list[FunctionDefinition]:
    calls = (n.function for n in walk(function.node.body) if isinstance(n, ast.Call))
    return [function.file.functions[c] for c in dict.fromkeys(calls) if c in function.file.functions]
