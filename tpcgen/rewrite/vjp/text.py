"""The gradients of a file's ops as text: a spec of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from tpcgen.diagnostics import Diagnostic, DiagnosticError, Span
from tpcgen.program import Module, load_text
from tpcgen.program.checks import Vjp
from tpcgen.program.print import program as text_of
from tpcgen.program.print import real
from tpcgen.rewrite.vjp.gradient import differentiable_inputs, vjp
from tpcgen.syntax.format import format_text


def gradients(module: Module, label: str) -> str:
    """One op for each `vjp` of the file; where it has none, for each op and all its inputs that have a gradient.

    The file's check blocks come along. `label` names the file in the comment. DiagnosticError: what `vjp` raises, E412
    where no op has a gradient, E415 for an op that is written for a dtype variable and for one of its choices.
    """
    wanted = module.vjps or tuple(_all_of(module))
    if not wanted:
        raise _error("E412", f"no op of {module.path} has a real input with a gradient", Span(module.path, 1, 1, 1, 1))
    variables = {name: choices for v in wanted for name, choices in module.dtype_variables(v.op).items()}
    lines = [f"# Gradients of {label}, by tpcgen vjp."]
    lines += [f"dtype {name} in {', '.join(choices)}" for name, choices in variables.items()]
    lines += [_generic(module, v) for v in wanted]
    lines += _checks(module, [v.op for v in wanted])
    return format_text("\n\n".join(lines) + "\n", module.path)


def _all_of(module: Module) -> Iterator[Vjp]:
    for op in module.ops:
        program = module.program(op)
        inputs = differentiable_inputs(program)
        if inputs:
            yield Vjp(op, inputs, program.span)


def _generic(module: Module, wanted: Vjp) -> str:
    """The text that gives the gradient for every choice of the op's dtype variables."""
    variables = module.dtype_variables(wanted.op)
    choices = [dict(zip(variables, chosen, strict=True)) for chosen in itertools.product(*variables.values())]
    made = [vjp(module.program(wanted.op, **chosen), wanted.inputs, wanted.span) for chosen in choices]
    declared = "".join(f"dtype {name} in {', '.join(c)}\n" for name, c in variables.items())
    for chosen, program in zip(choices, made, strict=True):
        text = _with_variables(text_of(program), chosen)
        if text is None:
            continue
        again = load_text(declared + text, module.path)
        if all(again.program(program.name, **c) == p for c, p in zip(choices, made, strict=True)):
            return text
    names = " and ".join(variables)
    message = f"the gradient of {wanted.op} cannot be written once for all choices of {names}"
    raise _error("E415", message, wanted.span, f"give {names} one choice each")


def _with_variables(text: str, chosen: Mapping[str, str]) -> str | None:
    """Names of dtypes replaced by the variables that stand for them; None where two stand for one."""
    variable = {dtype: name for name, dtype in chosen.items()}
    if len(variable) < len(chosen):
        return None
    return re.sub(r"\b(" + "|".join(variable) + r")\b", lambda m: variable[m[0]], text) if variable else text


def _checks(module: Module, ops: list[str]) -> Iterator[str]:
    programs = [module.program(op) for op in ops]
    known = {n for p in programs for n in (*p.sizes, *(a.name for a in p.attributes))}
    for check in module.checks:
        if {*check.ops} & {*ops}:
            values = ((n, v) for n, v in check.values.items() if n in known)
            inside = ", ".join(f"{n} = {v if isinstance(v, int) else real(v)}" for n, v in values)
            yield f"check {check.name} {{ {inside} }}"


def _error(id: str, message: str, span: Span, hint: str = "") -> DiagnosticError:
    return DiagnosticError((Diagnostic(id, message, span, hint),))
