"""Every plan of a program: its alternative algorithms, each with every choice of lanes. The structure of a plan does
not depend on bound sizes.

`schedule { lane P q; }` keeps the plans whose kernel of P runs q along its lanes; `Plan.pins` has such entries. A
contraction runs on the TPC where `schedule { place S tpc; }` says so, else on the MME.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from tpcgen.diagnostics import DiagnosticError, Diagnostics
from tpcgen.partition.assemble import Assembler
from tpcgen.partition.groups import Group, bound, groups, names
from tpcgen.partition.lanes import as_stored, lanes
from tpcgen.partition.plan import Plan
from tpcgen.program import ir
from tpcgen.rewrite.alternatives import FUSE, WHOLE, Alternative, Alternatives, alternatives
from tpcgen.rewrite.attention import Attention, attention_in
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.unsupported import report_missing, report_pins

_KERNELS = ("tpc", "scan", "attention")
MAX_PLANS = 16
"""Shared by the alternatives, of which each has two at least. Beyond this many combinations the kernels that reduce
least keep one lane, that of what they read.
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
    report_missing(program, target, wrong)
    report_pins(program, wrong)
    wrong.raise_if_errors()
    plans: list[Plan] = []
    problems: list[DiagnosticError] = []
    most = max(MAX_PLANS // max(sum(not a.fused for a in found.programs), 1), 2)
    for alternative in found.programs:
        try:
            plans += _plans(program, alternative, target, most)
        except DiagnosticError as error:
            problems.append(error)
    if not plans:
        raise problems[0]
    return tuple(plans)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Groups that run along the same lanes: those of one tensor, one in every tile. `lanes`: what each group's lane can
    be, together; (("i", "i_2"), ("j", "j_2")) for the rows or the columns of two tiles.
    """

    groups: tuple[int, ...]
    lanes: tuple[tuple[str | None, ...], ...]


def _plans(source: ir.Program, alternative: Alternative, target: str, most: int) -> tuple[Plan, ...]:
    program = alternative.program
    normal = normalise(program)
    known, on_tpc = [t.name for t in source.tensors], _placed_on_tpc(source)
    fused = attention_in(normal) if alternative.fused else None
    equations = fused.equations if isinstance(fused, Attention) else ()
    parts = groups(normal, lambda target: _origin(target, known) in on_tpc, equations)
    free = _choices(parts, [_lanes(g, source, normal) for g in parts], source)
    maps = [not any(bound(e) for n in c.groups for e in parts[n].equations) for c in free]
    kept = _capped(_pinned(source, parts, free), parts, maps, most)
    assembler = Assembler(source, normal, parts, target)
    plans: list[Plan] = []
    for chosen in product(*(c.lanes for c in kept)):
        named = [
            f"{names(parts)[c.groups[0]]} along {lanes[0]}"
            for c, lanes in zip(free, chosen, strict=True)
            if len(c.lanes) > 1
        ]
        label = ": ".join(x for x in (alternative.label, ", ".join(named)) if x) or "the only one"
        lane_of = dict(x for c, lanes in zip(free, chosen, strict=True) for x in zip(c.groups, lanes, strict=True))
        made = assembler.plan(lane_of, label, alternative.fused)
        plans.append(replace(made, pins=_schedule(source, alternative, parts, chosen, free)))
    return tuple(plans)


def _placed_on_tpc(program: ir.Program) -> tuple[str, ...]:
    return tuple(pin.words[0] for pin in program.pins if pin.verb == "place" and pin.words[1:] == ("tpc",))


def _lanes(group: Group, source: ir.Program, normal: ir.Program) -> tuple[str | None, ...]:
    """Lanes of a group; one where it computes nothing that a user could name."""
    found = lanes(group, normal) or (None,)
    known = {t.name for t in source.tensors}
    return found if known & set(origins(group, source)) else found[:1]


def _choices(
    parts: Sequence[Group], options: Sequence[tuple[str | None, ...]], program: ir.Program
) -> tuple[_Choice, ...]:
    together: dict[tuple[object, ...], list[int]] = {}
    for n, (group, lanes_of) in enumerate(zip(parts, options, strict=True)):
        key = (group.engine, origins(group, program), len(lanes_of)) if len(lanes_of) > 1 else (n,)
        together.setdefault(key, []).append(n)
    return tuple(_Choice(tuple(c), tuple(zip(*(options[n] for n in c), strict=True))) for c in together.values())


def _capped(choices: Sequence[_Choice], parts: Sequence[Group], last: Sequence[bool], most: int) -> list[_Choice]:
    """At most `most` combinations; choices marked `last` are the first to go, and keep the lane of what they read."""
    total = 1
    result = list(choices)
    for n in sorted(range(len(choices)), key=lambda n: last[n]):
        if total * len(choices[n].lanes) > most:
            first, lanes_of = choices[n].groups[0], choices[n].lanes
            kept = as_stored(parts[first], tuple(lanes[0] for lanes in lanes_of))
            result[n] = replace(choices[n], lanes=lanes_of[kept : kept + 1])
        total *= len(result[n].lanes)
    return result


def _pinned(program: ir.Program, parts: Sequence[Group], choices: Sequence[_Choice]) -> list[_Choice]:
    """What the program's schedule leaves. DiagnosticError (E410) for a lane no kernel can have."""
    result = list(choices)
    found = Diagnostics()
    for pin in program.pins:
        if pin.verb != "lane":
            continue
        tensor, index = pin.words
        computes = [g.engine in _KERNELS and tensor in origins(g, program) for g in parts]
        own = [n for n, c in enumerate(choices) if any(computes[g] for g in c.groups)]
        known = dict.fromkeys(lane for n in own for lanes in choices[n].lanes for lane in lanes if lane)
        if not own:
            hint = _free(program, parts, choices)
            found.error("E410", f"no kernel of its own computes {tensor}: it has no lane", pin.span, hint)
        elif index not in known:
            hint = f"it can be {' or '.join(known)}"
            found.error("E410", f"the lane of {tensor} cannot be {index}", pin.span, hint)
        for n in own:
            wanted = tuple(lanes for lanes in result[n].lanes if index in lanes)
            result[n] = replace(result[n], lanes=wanted or result[n].lanes)
    found.raise_if_errors()
    return result


def _free(program: ir.Program, parts: Sequence[Group], choices: Sequence[_Choice]) -> str:
    either = [tuple(" or ".join(filter(None, x)) for x in zip(*c.lanes, strict=True)) for c in choices]
    entries = _lane_entries(program, parts, either, choices)
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
    source: ir.Program,
    a: Alternative,
    parts: Sequence[Group],
    chosen: Sequence[tuple[str | None, ...]],
    free: Sequence[_Choice],
) -> tuple[str, ...]:
    """`place S mme;` for contractions, `tile q 64;` for the algorithm, `lane P q;` where lanes are a choice."""
    known = {t.name for t in source.tensors if t.role is not ir.Role.INPUT}
    placed = dict.fromkeys(o for g in parts if g.engine == "mme" for o in origins(g, source)[:1] if o in known)
    places = {**dict.fromkeys(placed, "mme"), **dict.fromkeys(_placed_on_tpc(source), "tpc")}
    algorithm = [p for p in a.pins if not (p.startswith(f"{FUSE} ") and p.endswith(f" {WHOLE};"))]  # places say that
    return (*(f"place {t} {e};" for t, e in places.items()), *algorithm, *_lane_entries(source, parts, chosen, free))


def _lane_entries(
    program: ir.Program,
    parts: Sequence[Group],
    chosen: Sequence[tuple[str | None, ...]],
    free: Sequence[_Choice],
) -> tuple[str, ...]:
    entries: dict[str, None] = {}
    for c, lanes_of in zip(free, chosen, strict=True):
        if len(c.lanes) > 1:
            entries[f"lane {origins(parts[c.groups[0]], program)[0]} {lanes_of[0]};"] = None
    return tuple(entries)
