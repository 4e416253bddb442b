"""Every plan of a program: its alternative algorithms, each with every choice of lanes. The structure of a plan does
not depend on bound sizes.

`schedule { lane P q; }` keeps the plans whose kernel of P runs q along its lanes; `Plan.pins` has such entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from tpcgen.diagnostics import DiagnosticError, Diagnostics
from tpcgen.partition.assemble import assemble, matmuls
from tpcgen.partition.groups import Group, bound, groups, names
from tpcgen.partition.lanes import lanes
from tpcgen.partition.plan import Plan
from tpcgen.program import ir
from tpcgen.rewrite.alternatives import Alternative, Alternatives, alternatives
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.unsupported import report_pins

_KERNELS = ("tpc", "scan")
MAX_PLANS = 16
"""Shared by the alternatives, of which each has two at least. Beyond this many combinations the kernels that reduce
least keep their first lane.
"""


def enumerate_plans(program: ir.Program, target: str) -> tuple[Plan, ...]:
    """Plans legal at every size the contract allows, the one closest to the program's own layout first.

    Labels are unique: "softmax along k", "softmax along q", "bands of 64: softmax along j". DiagnosticError (E4xx) for
    what no alternative lowers yet.
    """
    return plans_of(program, alternatives(program), target)


def plans_of(program: ir.Program, found: Alternatives, target: str) -> tuple[Plan, ...]:
    """The plans of every alternative that is lowered. DiagnosticError (E4xx) of the first one where none is."""
    wrong = Diagnostics()
    report_pins(program, wrong)
    wrong.raise_if_errors()
    plans: list[Plan] = []
    problems: list[DiagnosticError] = []
    for alternative in found.programs:
        try:
            plans += _plans(program, alternative, target, max(MAX_PLANS // len(found.programs), 2))
        except DiagnosticError as error:
            problems.append(error)
    if not plans:
        raise problems[0]
    return tuple(plans)


def _plans(source: ir.Program, alternative: Alternative, target: str, most: int) -> tuple[Plan, ...]:
    program = alternative.program
    normal = normalise(program)
    parts = groups(normal)
    options = [_lanes(g, source, normal) for g in parts]
    choices = _capped(_pinned(source, parts, options), [not any(bound(e) for e in g.equations) for g in parts], most)
    shapes = matmuls(normal, parts)
    plans: list[Plan] = []
    for chosen in product(*choices):
        named = [
            f"{n} along {lane}" for n, lane, free in zip(names(parts), chosen, options, strict=True) if len(free) > 1
        ]
        label = ": ".join(x for x in (alternative.label, ", ".join(named)) if x) or "the only one"
        made = assemble(source, normal, parts, shapes, dict(enumerate(chosen)), target, label)
        plans.append(replace(made, pins=_schedule(source, alternative, parts, chosen, options)))
    return tuple(plans)


def _lanes(group: Group, source: ir.Program, normal: ir.Program) -> tuple[str | None, ...]:
    """Lanes of a group; one where it computes nothing that a user could name."""
    found = lanes(group, normal) or (None,)
    known = {t.name for t in source.tensors}
    return found if known & set(origins(group, source)) else found[:1]


def _capped(choices: list[tuple[str | None, ...]], last: Sequence[bool], most: int) -> list[tuple[str | None, ...]]:
    """At most `most` combinations; groups marked `last` are the first to lose their choice."""
    total = 1
    result = list(choices)
    for n in sorted(range(len(choices)), key=lambda n: last[n]):
        result[n] = choices[n] if total * len(choices[n]) <= most else choices[n][:1]
        total *= len(result[n])
    return result


_Options = Sequence[tuple[str | None, ...]]


def _pinned(program: ir.Program, parts: Sequence[Group], options: _Options) -> list[tuple[str | None, ...]]:
    """Options that the program's schedule leaves. DiagnosticError (E410) for a lane no kernel can have."""
    result = list(options)
    found = Diagnostics()
    for pin in program.pins:
        if pin.verb != "lane":
            continue
        tensor, index = pin.words
        own = [n for n, g in enumerate(parts) if g.engine in _KERNELS and tensor in origins(g, program)]
        if not own:
            hint = _free(program, parts, options)
            found.error("E410", f"no kernel of its own computes {tensor}: it has no lane", pin.span, hint)
        elif all(index not in options[n] for n in own):
            known = " or ".join(str(lane) for lane in dict.fromkeys(x for n in own for x in options[n]) if lane)
            found.error("E410", f"the lane of {tensor} cannot be {index}", pin.span, f"it can be {known}")
        for n in own:
            result[n] = (index,) if index in options[n] else result[n]
    found.raise_if_errors()
    return result


def _free(program: ir.Program, parts: Sequence[Group], options: _Options) -> str:
    entries = _lane_entries(program, parts, [" or ".join(filter(None, o)) for o in options], options)
    return f"what can be pinned: {' '.join(entries)}" if entries else "no kernel of the op has a choice"


def origins(group: Group, program: ir.Program) -> tuple[str, ...]:
    """Tensors of the op as written that the group computes: P for a normal form's P, P_r and P_sum."""
    known = [t.name for t in program.tensors]
    return tuple(dict.fromkeys(_origin(t, known) for t in group.targets))


def _origin(target: str, known: Iterable[str]) -> str:
    """The longest known name that `target` is or was made from, by a suffix after an underscore."""
    made_from = [name for name in known if target == name or target.startswith(f"{name}_")]
    return max(made_from, key=len, default=target)


def _schedule(
    source: ir.Program, a: Alternative, parts: Sequence[Group], chosen: Sequence[str | None], free: _Options
) -> tuple[str, ...]:
    """`place S mme;` for contractions, `tile q 64;` for the algorithm, `lane P q;` where lanes are a choice."""
    known = {t.name for t in source.tensors if t.role is not ir.Role.INPUT}
    placed = dict.fromkeys(o for g in parts if g.engine == "mme" for o in origins(g, source)[:1] if o in known)
    lanes_of = [str(lane or "") for lane in chosen]
    return (*(f"place {t} mme;" for t in placed), *a.pins, *_lane_entries(source, parts, lanes_of, free))


def _lane_entries(
    program: ir.Program, parts: Sequence[Group], lanes_of: Sequence[str], options: _Options
) -> tuple[str, ...]:
    entries: dict[str, None] = {}
    for group, lane, free in zip(parts, lanes_of, options, strict=True):
        if len(free) > 1:
            entries[f"lane {origins(group, program)[0]} {lane};"] = None
    return tuple(entries)
