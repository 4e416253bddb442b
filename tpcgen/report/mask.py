"""The domains of an op as pictures: what of the square is full, partial or skipped, in the terminal and as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tpcgen.diagnostics import file_label
from tpcgen.program import ir
from tpcgen.program.print import expression
from tpcgen.program.sizes import Binding
from tpcgen.report.explain import Explanation
from tpcgen.report.html import Picture, environment, tile_picture
from tpcgen.report.tiles import NotDrawableError, Tiles, tiles
from tpcgen.rewrite.edit import conjunction, conjuncts

MOST = 64
"""Characters of a side; larger masks are drawn a block of tiles to a character."""


@dataclass(frozen=True, slots=True)
class Mask:
    """`where`: the reduction and its place in the spec. `tiles` of what sizes and indices decide, None with `why`.

    `later`: conditions on data that must hold too; a full tile may then be partial, a skipped one is skipped. `more`:
    conditions on data that add points to those drawn; a skipped tile may then be visited, a full one is full.
    """

    where: str
    domain: str
    tiles: Tiles | None
    why: str
    later: tuple[str, ...]
    more: tuple[str, ...]


def masks(x: Explanation) -> tuple[Mask, ...]:
    """One per reduction with a domain, of the op as written."""
    program = x.choice.plan.program
    found: list[Mask] = []
    for s in program.body:
        steps = s.body if isinstance(s, ir.Scan) else (s,)
        for e in steps:
            name = e.target if isinstance(e, ir.Equation) else e.state
            found += [_mask(name, r, program, x.binding) for r in ir.walk(e.value) if _restricted(r)]
            found += _of_equation(name, e, program, x.binding)
    return tuple(found)


def _restricted(e: ir.Expr) -> bool:
    return isinstance(e, ir.Reduce) and e.domain is not None


def _of_equation(name: str, e: ir.Equation | ir.Update, program: ir.Program, binding: Binding) -> list[Mask]:
    """A tensor that is kept on a part of its last two axes: drawn like a reduction over the last."""
    if e.domain is None or len(e.indices) < 2:
        return []
    drawn = ir.Reduce("sum", (e.indices[-1],), e.domain, None, e.value, span=e.span)
    return [_mask(name, drawn, program, binding)]


def _mask(name: str, e: ir.Expr, program: ir.Program, binding: Binding) -> Mask:
    assert isinstance(e, ir.Reduce) and e.domain is not None
    parts = [_Part.of(c) for c in conjuncts(e.domain)]
    decided = conjunction(p.decided for p in parts)
    place = f" ({file_label(e.span.file)}:{e.span.line})" if e.span.line else ""
    where, domain = f"{name}, over {', '.join(e.indices)}{place}", expression(e.domain)
    later = tuple(expression(x) for p in parts if p.decided is None for x in p.on_data)
    more = tuple(expression(x) for p in parts if p.decided is not None for x in p.on_data)
    try:
        only = ir.Reduce(e.kind, e.indices, decided, None, e.body)
        return Mask(where, domain, tiles(program, only, binding.values), "", later, more)
    except NotDrawableError as problem:
        return Mask(where, domain, None, str(problem), later, more)


@dataclass(frozen=True, slots=True)
class _Part:
    """A conjunct of a domain: the `or` of what sizes and indices decide and of conditions on data; None for nothing."""

    decided: ir.Expr | None
    on_data: tuple[ir.Expr, ...]

    @staticmethod
    def of(e: ir.Expr) -> _Part:
        decided: ir.Expr | None = None
        on_data: list[ir.Expr] = []
        for x in _disjuncts(e):
            if any(isinstance(y, ir.Read | ir.Reduce) for y in ir.walk(x)):
                on_data.append(x)
            else:
                decided = x if decided is None else ir.Binary("or", decided, x)
        return _Part(decided, tuple(on_data)) if decided is not None else _Part(None, (e,))


def _disjuncts(e: ir.Expr) -> tuple[ir.Expr, ...]:
    match e:
        case ir.Binary(operator="or"):
            return (*_disjuncts(e.left), *_disjuncts(e.right))
        case _:
            return (e,)


def to_text(explanations: Sequence[Explanation]) -> str:
    """A character per tile of 128 x 128 points: # full, + partial, . skipped."""
    return "\n".join("\n".join(_lines(x)) for x in explanations) + "\n"


def _lines(x: Explanation) -> Iterator[str]:
    yield f"{x.op} {x.dtype}"
    found = masks(x)
    if not found:
        yield "no reduction has a domain: every point is visited"
    for m in found:
        yield ""
        yield f"{m.where}: {m.domain}"
        for c in m.later:
            yield f"decided at run time: {c}"
        for c in m.more:
            yield f"visited too where, at run time: {c}"
        if m.tiles is None:
            yield f"not drawn: {m.why}"
            continue
        yield summary(m.tiles, _bound(m))
        yield from (f"    {line}" for line in picture(m.tiles))


def _bound(m: Mask) -> str:
    """How the points that are visited compare with those drawn."""
    match m.later, m.more:
        case (), ():
            return ""
        case _, ():
            return "at most "
        case (), _:
            return "at least "
        case _:
            return "before what data says, "


def summary(t: Tiles, bound: str = "") -> str:
    """`tiles of 128 x 128 over (q, k): 28 full, 8 partial, 28 skipped; at most 56.3% of the points`."""
    known = t.points >= 0 and t.rows * t.columns > 0
    share = f"; {bound}{t.points / (t.rows * t.columns):.1%} of the points" if known else ""
    counts = f"{t.full} full, {t.partial} partial, {t.empty} skipped"
    return f"tiles of 128 x 128 over ({t.row}, {t.column}): {counts}{share}"


def picture(t: Tiles) -> list[str]:
    """Rows of the picture, each tile or block of tiles a character."""
    step = max(-(-max(t.classes.shape, default=1) // MOST), 1)
    rows, columns = t.classes.shape
    blocks = [[t.classes[r : r + step, c : c + step] for c in range(0, columns, step)] for r in range(0, rows, step)]
    return ["".join(".+#"[int(b.min()) if b.min() == b.max() else 1] for b in line) for line in blocks]


def to_svg(explanations: Sequence[Explanation]) -> str:
    """One picture under the other, each with its domain."""
    drawn: list[tuple[str, Picture]] = []
    for x in explanations:
        for m in masks(x):
            later = "".join(f"; at run time: {c}" for c in m.later)
            later += "".join(f"; or, at run time: {c}" for c in m.more)
            if m.tiles is not None:
                drawn.append((f"{x.op} {x.dtype}: {m.where}: {m.domain}{later}", tile_picture(m.tiles)))
    return environment().get_template("report/mask.svg.j2").render(drawn=drawn)
