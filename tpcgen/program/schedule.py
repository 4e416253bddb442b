"""`schedule` blocks: verbs the partitioner knows, words that name things of the op."""

from __future__ import annotations

from tpcgen.diagnostics import Label, Span
from tpcgen.program import ir
from tpcgen.program.hints import did_you_mean
from tpcgen.program.scope import Kind, OpScope
from tpcgen.syntax import ast

_ENGINES = ("mme", "tpc")
_OF_TILES = ("n", "i", "j")
"""Indices of tiles: which tile, and row and column in it."""
_WORDS = {"merge": ("parts", "whole"), "sums": ("first", "whole"), "save": ("rows", "nothing")}
"""Verbs whose last word is one of two."""
_FORMS = {
    "tile": "tile INDEX LENGTH|whole;",
    "chunk": "chunk INDEX LENGTH|whole;",
    "merge": "merge INDEX parts|whole;",
    "sums": "sums INDEX first|whole;",
    "steps": "steps INDEX NUMBER|whole;",
    "fuse": "fuse INDEX LENGTH|whole;",
    "place": "place TENSOR mme|tpc;",
    "lane": "lane TENSOR INDEX;",
    "save": "save TENSOR rows|nothing;",
}


def resolve_schedule(scope: OpScope) -> list[ir.Pin]:
    """One pin per entry that is right."""
    pins: list[ir.Pin] = []
    places: dict[tuple[str, str], ast.ScheduleEntry] = {}
    for statement in scope.op.body:
        for entry in statement.entries if isinstance(statement, ast.Schedule) else ():
            if not _right(entry, scope):
                continue
            key = (entry.verb, entry.words[0])
            if key in places:
                label = Label(places[key].span, "first here")
                message = f"{entry.verb} {entry.words[0]} is given twice"
                scope.found.error("E236", message, entry.span, labels=(label,))
                continue
            places[key] = entry
            pins.append(ir.Pin(entry.verb, entry.words, span=entry.span))
    return pins


def _right(entry: ast.ScheduleEntry, scope: OpScope) -> bool:
    if entry.verb not in _FORMS:
        hint = did_you_mean(entry.verb, _FORMS) or f"verbs are {', '.join(_FORMS)}"
        scope.found.error("E236", f"there is no schedule verb {entry.verb}", entry.span, hint)
        return False
    form = _FORMS[entry.verb]
    if len(entry.words) != 2:
        scope.found.error("E236", f"{entry.verb} takes two words, {len(entry.words)} given", entry.span, form)
        return False
    subject, value = entry.words
    kind = Kind.TENSOR if entry.verb in ("place", "lane", "save") else Kind.INDEX
    if scope.kind_of(subject) is not kind:
        hint = did_you_mean(subject, scope.named(kind)) or form
        place = scope.places.word(entry.span, subject)
        scope.found.error("E236", f"the op has no {kind.value} {subject}", place, hint)
        return False
    place = scope.places.word(entry.span, value)
    if entry.verb == "place":
        return _engine(subject, value, place, scope)
    if entry.verb == "lane":
        return _index(value, place, scope)
    if entry.verb in _WORDS:
        return _word(entry.verb, value, place, scope)
    if value == "whole":
        return True
    if not value.isdigit() or len(value) > 9 or int(value) == 0:
        scope.found.error("E236", f"{entry.verb} takes a positive number, not {value}", place, form)
        return False
    return True


def _word(verb: str, value: str, place: Span, scope: OpScope) -> bool:
    if value not in _WORDS[verb]:
        scope.found.error("E236", f"{verb} takes {' or '.join(_WORDS[verb])}, not {value}", place, _FORMS[verb])
    return value in _WORDS[verb]


def _index(value: str, place: Span, scope: OpScope) -> bool:
    """An index, or a numbered one: inlining renames the indices of a reduction that would clash (k_2)."""
    base, _, number = value.rpartition("_")
    if value in _OF_TILES or (number.isdigit() and base in _OF_TILES):
        return True
    if scope.kind_of(value) is Kind.INDEX or (number.isdigit() and scope.kind_of(base) is Kind.INDEX):
        return True
    hint = did_you_mean(value, scope.named(Kind.INDEX)) or _FORMS["lane"]
    scope.found.error("E236", f"the op has no index {value}", place, hint)
    return False


def _engine(subject: str, value: str, place: Span, scope: OpScope) -> bool:
    if value not in _ENGINES:
        scope.found.error("E236", f"there is no engine {value}", place, "engines are mme and tpc")
        return False
    info = scope.tensors.get(subject)
    if info is not None and info.role is ir.Role.INPUT:
        scope.found.error("E236", f"{subject} is an input: nothing computes it", place, _FORMS["place"])
        return False
    return True
