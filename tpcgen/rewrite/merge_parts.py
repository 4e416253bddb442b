"""Softmax over a union: each part of its domain is computed apart, over its own rows and columns, and merged.

    P[b,h,q,k] = softmax[k where k <= q and (k < C or q - W < k)](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])

visits the first C keys, and of the others (k = k_2 + C) those of a window. Each part has the maximum m of its logits,
the sum of exp(x - m), and values with these weights; the greatest m brings them to one scale:

    P_max_1[b,h,q] = max[k_1 where k_1 <= q](S_1[b,h,q,k_1])                          # k_1 in 0 .. min(C, N)
    P_1[b,h,q,k_1] = exp(S_1[b,h,q,k_1] - P_max_1[b,h,q]) where k_1 <= q
    P_sum_1[b,h,q] = sum[k_1](P_1[b,h,q,k_1])
    O_1[b,h,q,e]   = sum[k_1](P_1[b,h,q,k_1] * V[b,h,k_1,e])
    O[b,h,q,e]     = (exp(P_max_1 - m) * O_1 + exp(P_max_2 - m) * O_2) / (exp(P_max_1 - m) * P_sum_1 + ..)

with m = max(P_max_1, P_max_2), and a sink in m and below the line (Milakov and Gimelshein 2018; Dao 2023). A part is a
slab, whose rows or columns sizes and attributes bound, or a band along the diagonal, which band.py then puts in
blocks: nothing is left of the square. Slabs come first, the band last, each without the parts before it.

A gradient reads the weights otherwise: each part then has them on the one scale, and with them its own of whatever is
made of them over the square; sums over the square, along keys or queries, are those of the parts added up:

    P_all_1[b,h,q,k_1]  = P_1[b,h,q,k_1] * (exp(P_max_1[b,h,q] - P_top[b,h,q]) / P_weight[b,h,q])
    dS_1[b,h,q,k_1]     = P_all_1[b,h,q,k_1] * (dP_1[b,h,q,k_1] - P_mean[b,h,q])
    dK_dot_1[b,h,k_1,d] = sum[q](dS_1[b,h,q,k_1] * Q[b,h,q,d])
    dK_dot[b,h,k,d]     = select(k < C, dK_dot_1[b,h,k,d], 0) + select(k >= C, dK_dot_2[b,h,k - C,d], 0)

with P_top = m and P_weight the line below; a logsumexp of the same logits is P_top + log(P_weight).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.program.substitute import rewrite, substitute, with_children
from tpcgen.program.verify import verify
from tpcgen.rewrite.diagonal import difference, has_indices
from tpcgen.rewrite.drop_dead import drop_dead
from tpcgen.rewrite.edit import (
    ONE,
    Definition,
    Part,
    conjunction,
    conjuncts,
    definitions,
    integer,
    mentioned,
    names_in_use,
    parts_of,
    reads_of,
    rebuilt,
    sides_of,
    steps_of,
)
from tpcgen.rewrite.merge_pieces import everywhere
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.split_contractions import contraction_of, split_contractions
from tpcgen.rewrite.support import (
    ZERO,
    Supports,
    UndeterminedError,
    at_least_zero,
    bound_of,
    comparison,
    exists,
    facts,
)

_LOWEST = ir.Literal(-3.4028234663852886e38, DType.F32)
"""The least finite f32: a part of nothing but logits of -inf has weights 0, not exp(-inf + inf)."""
_NO_LOGIT = ir.Literal(-float("inf"), DType.F32)
_INTEGER_ZERO = integer(0)


def merge_parts(program: ir.Program) -> ir.Program | Refused:
    """The program with the first softmax over a union in parts; Refused where there is none, or a part is no slab and
    no band.
    """
    split = split_contractions(program)
    found = _find(split)
    return found if isinstance(found, Refused) else verify(drop_dead(_Merger(split, found).run()))


def merged_index(program: ir.Program) -> str | Refused:
    """The index whose softmax `merge_parts` takes apart."""
    found = _find(split_contractions(program))
    return found if isinstance(found, Refused) else found.k


@dataclass(frozen=True, slots=True)
class _Side:
    """What a part has of an axis of the square: low <= index < high. `inside` says so of the index, None for all."""

    low: ir.Expr
    extent: ir.Expr
    inside: ir.Expr | None


@dataclass(frozen=True, slots=True)
class _Part:
    """`rest`: what its domain says besides its sides; `rows`: where a row of the square has a point, None for all."""

    rest: tuple[ir.Expr, ...]
    q: _Side
    k: _Side
    rows: ir.Expr | None


@dataclass(frozen=True, slots=True)
class _Square:
    """What lies over the square: `above`, tensors that the weights and `below` are made of, `below`, those made of the
    weights. `values` are the contractions over `k` that read the weights alone, `sums` what else sums over the square,
    `totals` the logsumexps of the same logits.
    """

    above: frozenset[str]
    below: frozenset[str]
    values: frozenset[str]
    sums: frozenset[str]
    totals: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Union:
    """`weights` are the softmax over `k` of each `q`."""

    weights: Definition
    softmax: ir.Reduce
    q: str
    k: str
    parts: tuple[_Part, ...]
    square: _Square

    @property
    def tensors(self) -> frozenset[str]:
        """All tensors over the square."""
        return self.square.above | self.square.below | {self.weights.tensor.name}

    @property
    def on_one_scale(self) -> bool:
        """Whether something reads the weights themselves."""
        return bool(self.square.below or self.square.sums or self.square.totals)


def _find(program: ir.Program) -> _Union | Refused:
    refused: Refused | None = None
    for d in definitions(program):
        e = d.equation.value
        if not isinstance(e, ir.Reduce) or e.kind != "softmax" or len(e.indices) != 1 or d.equation.domain is not None:
            continue
        for either in conjuncts(e.domain):
            if isinstance(either, ir.Binary) and either.operator == "or":
                found = _union(program, d, e, either)
                if isinstance(found, _Union):
                    return found
                refused = refused or found
    return refused or Refused("no softmax has a domain with `or`", program.span)


def _union(program: ir.Program, d: Definition, e: ir.Reduce, either: ir.Binary) -> _Union | Refused:
    (k,) = e.indices
    if d.tensor.role is not ir.Role.INTERMEDIATE:
        return Refused(f"{d.tensor.name} is an output over the whole square", d.equation.span)
    refused = Refused(f"`{text(either)}` has no index but {k}", either.span)
    for q in (i for i in d.equation.indices if i != k and i in ir.free_indices(either)):
        square = _square(program, d, e, q, k)
        parts = _parts(program, e, either, q, k)
        if not isinstance(parts, Refused) and not isinstance(square, Refused):
            return _Union(d, e, q, k, parts, square)
        refused = square if isinstance(square, Refused) else parts if isinstance(parts, Refused) else refused
    return refused


def _square(program: ir.Program, weights: Definition, e: ir.Reduce, q: str, k: str) -> _Square | Refused:
    """What has to do with the weights; Refused where something reads the square in a way that no part can answer."""
    name = weights.tensor.name
    both = {d.tensor.name: d for d in definitions(program) if {q, k} <= {*d.equation.indices}}
    below: set[str] = set()
    values, sums, totals = set[str](), set[str](), set[str]()
    for step in steps_of(parts_of(program)):
        made = {x.tensor for x in reads_of(step)} & {name, *below}
        if not made and not (isinstance(step, ir.Equation) and _is_total(step, e)):
            continue
        if not isinstance(step, ir.Equation):
            return Refused(f"a scan reads {min(made)}", step.span)
        if not made:
            totals.add(step.target)
        elif step.target in both:
            if program.tensor(step.target).role is not ir.Role.INTERMEDIATE:
                return Refused(f"{step.target} is an output over the whole square", step.span)
            below.add(step.target)
        elif _weighs_values(program, step, weights, both, k):
            values.add(step.target)
        elif all(_sums(x, q, k) for x in _outermost(step, {name, *below}, q, k)):
            sums.add(step.target)
        else:
            return Refused(f"{min(made)} is read by more than sums", step.span)
    if not values and not sums:
        return Refused(f"no sum over {k} reads {name}", weights.equation.span)
    above = _above(program, {name, *below, *values, *sums}, both, q, k)
    if isinstance(above, Refused):
        return above
    return _Square(above - below - {name}, frozenset(below), frozenset(values), frozenset(sums), frozenset(totals))


def _is_total(step: ir.Equation, e: ir.Reduce) -> bool:
    """Whether a step is the logsumexp of a softmax."""
    return step.domain is None and step.value == replace(e, kind="logsumexp")


def _weighs_values(
    program: ir.Program, e: ir.Equation, weights: Definition, both: Mapping[str, Definition], k: str
) -> bool:
    """Whether a step is a contraction over `k` of the weights and of nothing else over the square."""
    matched = contraction_of(e, program)
    reads = [x for x in reads_of(e) if x.tensor in both]
    own = ir.Read(weights.tensor.name, tuple(map(ir.Index, weights.equation.indices)), weights.tensor.dtype)
    return matched is not None and k in matched.summed and matched.domain is None and reads == [own]


def _outermost(step: ir.Equation, names: Collection[str], q: str, k: str) -> Iterator[ir.Expr]:
    """The outermost sums over q or k that read one of the tensors, and reads of them outside such a sum."""
    waiting = list(sides_of(step))
    while waiting:
        e = waiting.pop()
        if isinstance(e, ir.Read) and e.tensor in names:
            yield e
        elif not _sums(e, q, k):
            waiting += ir.children(e)
        elif mentioned(e) & {*names}:
            yield e


def _sums(e: ir.Expr, q: str, k: str) -> bool:
    return isinstance(e, ir.Reduce) and e.kind == "sum" and bool({q, k} & {*e.indices}) and ir.type_of(e) is DType.F32


def _above(
    program: ir.Program, names: Collection[str], both: Mapping[str, Definition], q: str, k: str
) -> frozenset[str] | Refused:
    """Tensors over q and k that the equations of these are made of, themselves where others of them are."""
    found: dict[str, None] = {}
    waiting = [d.equation for d in definitions(program) if d.tensor.name in names]
    while waiting:
        e = waiting.pop()
        for x in (x for x in reads_of(e) if x.tensor in both):
            indices = both[x.tensor].equation.indices
            if any((i in (q, k)) and x.indices[a] != ir.Index(i) for a, i in enumerate(indices)):
                return Refused(f"{text(x)} is read beside its own point", x.span)
            if x.tensor not in found:
                found[x.tensor] = None
                waiting += [d.equation for d in definitions(program) if d.tensor.name == x.tensor]
    return frozenset(found)


def _parts(program: ir.Program, e: ir.Reduce, either: ir.Binary, q: str, k: str) -> tuple[_Part, ...] | Refused:
    common = [c for c in conjuncts(e.domain) if c is not either]
    slabs: list[ir.Expr] = []
    bands: list[ir.Expr] = []
    for alternative in _disjuncts(either):
        conditions = [*common, *conjuncts(alternative)]
        if any(_sided(c, i) for c in conjuncts(alternative) for i in (q, k)):
            slabs.append(alternative)
        elif _is_band(conditions, q, k):
            bands.append(alternative)
        else:
            reason = f"`{text(alternative)}` bounds neither {q} nor {k} nor, on both sides, {k} - {q}"
            return Refused(reason, alternative.span)
    if len(bands) > 1:
        return Refused(f"`{text(bands[1])}` is a second band", bands[1].span)
    made: list[_Part] = []
    outside: list[ir.Expr] = []
    ordered = (*slabs, *bands)
    for alternative in ordered:
        part = _part(program, e, (*common, *conjuncts(alternative), *outside), q, k)
        if isinstance(part, Refused):
            return part
        made.append(part)
        negated = _negated(alternative)
        if negated is None and alternative is not ordered[-1]:
            return Refused(f"what `{text(alternative)}` leaves out is no one inequality", alternative.span)
        outside += [negated] if negated is not None else []
    return tuple(made)


def _disjuncts(e: ir.Expr) -> tuple[ir.Expr, ...]:
    if isinstance(e, ir.Binary) and e.operator == "or":
        return (*_disjuncts(e.left), *_disjuncts(e.right))
    return (e,)


def _negated(condition: ir.Expr) -> ir.Expr | None:
    """Where a condition does not hold, if that is one inequality."""
    inequalities = at_least_zero(condition)
    if inequalities is None or len(inequalities) != 1:
        return None
    return comparison(affine.subtract(affine.constant(-1), inequalities[0]))


def _sided(condition: ir.Expr, index: str) -> bool:
    """Whether a condition bounds an index by sizes and attributes, and says nothing else."""
    inequalities = at_least_zero(condition)
    return inequalities is not None and all(bound_of(p, index) is not None for p in inequalities)


def _is_band(conditions: Sequence[ir.Expr], q: str, k: str) -> bool:
    inequalities = [p for c in conditions for p in at_least_zero(c) or []]
    return all(
        any(not has_indices(affine.subtract(p, affine.scale(difference(k, q), sign))) for p in inequalities)
        for sign in (1, -1)
    )


def _part(program: ir.Program, e: ir.Reduce, conditions: Sequence[ir.Expr], q: str, k: str) -> _Part | Refused:
    domain = conjunction(conditions)
    try:
        support = conjunction([Supports(program).domain(domain), Supports(program).of(e.body).where])
    except UndeterminedError as problem:
        return Refused(str(problem), problem.expr.span)
    rows = exists(support, (k,), program)
    reduced = next((x for x in ir.walk(rows) if isinstance(x, ir.Reduce)), None) if rows is not None else None
    if reduced is not None:
        return Refused(f"which rows have a point is known at run time only: {text(reduced)}", e.span)
    columns = exists(support, (q,), program)
    rest = tuple(c for c in conjuncts(domain) if not _sided(c, q) and not _sided(c, k))
    return _Part(rest, _side(program, rows, q), _side(program, columns, k), rows)


def _side(program: ir.Program, where: ir.Expr | None, index: str) -> _Side:
    conditions = [c for c in conjuncts(where) if _sided(c, index)]
    low, high = [affine.polynomial(program.range_of(index).low)], [affine.polynomial(program.range_of(index).high)]
    for p in (p for c in conditions for p in at_least_zero(c) or []):
        sign, bound = bound_of(p, index) or (0, _INTEGER_ZERO)
        (low if sign == 1 else high).append(affine.polynomial(bound))
    known = facts(program)
    start = _extreme("max", low, known)
    room = affine.subtract(affine.polynomial(_extreme("min", high, known)), affine.polynomial(start))
    extent = affine.expression(room)
    if not known.prove(room):
        extent = ir.Call("max", (extent, _INTEGER_ZERO))
    return _Side(start, extent, conjunction(conditions))


def _extreme(function: str, bounds: Sequence[Polynomial], known: affine.Facts) -> ir.Expr:
    """The least or the greatest of the bounds, without those that another one provably goes beyond."""
    sign = 1 if function == "max" else -1
    kept: list[Polynomial] = []
    for bound in bounds:
        if not any(known.prove(affine.scale(affine.subtract(other, bound), sign)) for other in kept):
            kept = [o for o in kept if not known.prove(affine.scale(affine.subtract(bound, o), sign))]
            kept.append(bound)
    return reduce(lambda a, b: ir.Call(function, (a, b)), map(affine.expression, kept))


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor that a part has of its own, over indices of its own."""

    tensor: ir.Tensor
    indices: tuple[str, ...]

    def read(self) -> ir.Read:
        return ir.Read(self.tensor.name, tuple(map(ir.Index, self.indices)), self.tensor.dtype)

    def defined(self, value: ir.Expr, domain: ir.Expr | None, like: ir.Node) -> Definition:
        return Definition(self.tensor, ir.Equation(self.tensor.name, self.indices, value, domain, span=like.span))


@dataclass
class _Merger:
    program: ir.Program
    union: _Union

    def __post_init__(self) -> None:
        self.names = names_in_use(self.program)
        self.ranges = {r.name: r for r in self.program.indices}
        self.sides: dict[tuple[str, _Side], str] = {}
        self.slices: dict[tuple[str, int, str], Definition] = {}

    def run(self) -> ir.Program:
        parts = [_Own(self, number, part) for number, part in enumerate(self.union.parts, 1)]
        square = self.union.square
        made: list[Part] = []
        for p in parts_of(self.program):
            if not isinstance(p, Definition):
                made.append(p)
            elif p.tensor.name == self.weights.name:
                made += [d for own in parts for d in own.softmax()]
                made += self._on_one_scale(parts) if self.union.on_one_scale else []
            elif p.tensor.name in square.values:
                own = [own.values(p) for own in parts]
                made += [*self._new_slices(made), *own, self._merged(p, parts)]
            elif p.tensor.name in square.sums:
                sums = _Sums(self, parts, p)
                whole = sums.whole()
                made += [*self._new_slices(made), *sums.made, whole]
            elif p.tensor.name in square.totals:
                made.append(self._total(p))
            else:
                copied = p.tensor.name in square.above | square.below
                own = [own.copy(p) for own in parts] if copied else []
                made += [*([] if p.tensor.name in square.below else [p]), *self._new_slices(made), *own]
        known = {r.name for r in self.program.indices}
        return rebuilt(self.program, made, (r for r in self.ranges.values() if r.name not in known))

    @property
    def weights(self) -> ir.Tensor:
        return self.union.weights.tensor

    def index(self, index: str, number: int, side: _Side) -> str:
        """The index of parts along one side: the square's own where they have all of it."""
        if side.inside is None:
            return index
        if (index, side) not in self.sides:
            self.sides[index, side] = self._range(f"{index}_{number}", side.extent)
        return self.sides[index, side]

    def _range(self, wanted: str, extent: ir.Expr) -> str:
        name = self.names.fresh(wanted)
        self.ranges[name] = ir.IndexRange(name, _INTEGER_ZERO, extent)
        return name

    def slice(self, e: ir.Read, axis: int, own: str, at: ir.Expr) -> ir.Tensor:
        """The rows of an operand that a part multiplies: K[b,h,k_2 + C,d], whose others no row of the part visits."""
        key = (e.tensor, axis, own)
        if key not in self.slices:
            source = self.program.tensor(e.tensor)
            axes: list[str] = []
            for a, (i, extent) in enumerate(zip(e.indices, source.shape, strict=True)):
                if a == axis:
                    axes.append(own)
                elif isinstance(i, ir.Index) and i.name not in axes and affine.equal(self._extent(i), extent):
                    axes.append(i.name)
                else:
                    axes.append(self._range(f"{e.tensor.lower()}_{a}", extent))
            stored = self.stored(f"{e.tensor}_{own}", tuple(axes), e.dtype, e)
            read = tuple(at if a == axis else ir.Index(i) for a, i in enumerate(axes))
            self.slices[key] = stored.defined(ir.Read(e.tensor, read, e.dtype, span=e.span), None, e)
        return self.slices[key].tensor

    def _extent(self, i: ir.Index) -> ir.Expr:
        return self.ranges[i.name].high

    def _new_slices(self, made: Sequence[Part]) -> list[Definition]:
        return [s for s in self.slices.values() if s not in made]

    def stored(self, name: str, indices: tuple[str, ...], dtype: DType, like: ir.Node) -> _Stored:
        shape = tuple(self.ranges[i].high for i in indices)
        tensor = ir.Tensor(self.names.fresh(name), shape, dtype, ir.Role.INTERMEDIATE, span=like.span)
        return _Stored(tensor, indices)

    def _merged(self, d: Definition, parts: Sequence[_Own]) -> Definition:
        e = d.equation
        logits = self._logits(parts)
        scales = [_exp_of_difference(x, _greatest(logits)) for x in logits]
        values = [own.at_point(own.stored[d.tensor.name], ZERO) for own in parts]
        value = ir.Binary("/", _sum_of_products(scales, values), self._weight(scales, parts), span=e.span)
        return replace(d, equation=ir.Equation(e.target, e.indices, value, self._present(), span=e.span))

    def _logits(self, parts: Sequence[_Own]) -> list[ir.Expr]:
        """At a row, the greatest of each part, and the sink's."""
        sink = self.union.softmax.sink
        return [*(own.at_point(own.greatest, _NO_LOGIT) for own in parts), *([] if sink is None else [sink])]

    def _weight(self, scales: Sequence[ir.Expr], parts: Sequence[_Own]) -> ir.Expr:
        """The sum of a row's weights; `scales`: those of its logits."""
        weight = _sum_of_products(scales, [own.at_point(own.total, ZERO) for own in parts])
        return weight if self.union.softmax.sink is None else ir.Binary("+", weight, scales[-1])

    def _on_one_scale(self, parts: Sequence[_Own]) -> list[Definition]:
        """The greatest logit and the sum of the weights of every row, and each part's weights divided by that sum."""
        e = self.union.weights.equation
        rows = tuple(i for i in e.indices if i != self.union.k)
        self.top, self.weight = (self.stored(f"{e.target}_{n}", rows, DType.F32, e) for n in ("top", "weight"))
        logits = self._logits(parts)
        scales = [_exp_of_difference(x, self.top.read()) for x in logits]
        present = self._present()
        made = [
            self.top.defined(_greatest(logits), present, e),
            self.weight.defined(self._weight(scales, parts), present, e),
        ]
        return [*made, *(d for own in parts for d in own.scaled(self.top, self.weight))]

    def _total(self, d: Definition) -> Definition:
        value = ir.Binary("+", self.top.read(), ir.Call("log", (self.weight.read(),)), span=d.equation.span)
        return replace(d, equation=replace(d.equation, value=value))

    def _present(self) -> ir.Expr | None:
        """Rows with a point in some part."""
        rows = [p.rows for p in self.union.parts if p.rows is not None]
        if len(rows) < len(self.union.parts) or everywhere(rows, self.union.weights.equation.indices, self.program):
            return None
        return reduce(lambda a, b: ir.Binary("or", a, b), rows)


@dataclass
class _Own:
    """What one part has of its own; `stored`: tensors by the name of the whole one."""

    merger: _Merger
    number: int
    part: _Part
    stored: dict[str, _Stored] = field(default_factory=dict[str, _Stored])

    def __post_init__(self) -> None:
        union, whole = self.merger.union, self.merger.union.weights.equation
        sides = {union.q: self.part.q, union.k: self.part.k}
        self.index = {i: self.merger.index(i, self.number, side) for i, side in sides.items()}
        self.at = {i: _plus(self.index[i], affine.polynomial(side.low)) for i, side in sides.items()}
        rows = tuple(i for i in whole.indices if i != union.k)
        self.greatest = self._new(f"{whole.target}_max", rows)
        self.weights = self._new(whole.target, whole.indices)
        self.total = self._new(f"{whole.target}_sum", rows)

    def copy(self, d: Definition) -> Definition:
        """An equation of the square, at the points of the part."""
        e = d.equation
        if e.target not in self.stored:
            self.stored[e.target] = self._new(e.target, e.indices, d.tensor.dtype)
        multiplies = contraction_of(e, self.merger.program) is not None
        below = e.target in self.merger.union.square.below and not multiplies
        domain = self._within(conjunction([self.merger.union.softmax.domain if below else None, e.domain]))
        stored = _Stored(self.stored[e.target].tensor, self._renamed(e.indices))
        return stored.defined(self._moved(self._sliced(e.value) if multiplies else e.value), domain, e)

    def softmax(self) -> list[Definition]:
        e = self.merger.union.softmax
        logit, k = self._moved(e.body), (self.index[self.merger.union.k],)
        domain = conjunction(x for c in self.part.rest for x in _inequalities(self._moved(c)))
        greatest = ir.Reduce("max", k, domain, None, logit, span=e.span)
        scale = ir.Call("max", (self.greatest.read(), _LOWEST))
        total = ir.Reduce("sum", k, None, None, self.weights.read(), span=e.span)
        return [
            self.greatest.defined(greatest, None, e),
            self.weights.defined(_exp_of_difference(logit, scale), domain, e),
            self.total.defined(total, None, e),
        ]

    def values(self, d: Definition) -> Definition:
        """A sum over the weights, of those of the part."""
        e, whole = d.equation, self.merger.weights
        assert isinstance(e.value, ir.Reduce)
        self.stored[e.target] = self._new(e.target, e.indices)
        own: ir.Expr = self.weights.read()
        if whole.dtype is not DType.F32:
            own = ir.Cast(whole.dtype, own)
        body = rewrite(e.value.body, lambda x: own if isinstance(x, ir.Read) and x.tensor == whole.name else x)
        body = self._moved(self._sliced(body))
        value = ir.Reduce("sum", self._renamed(e.value.indices), None, None, body, span=e.value.span)
        return self.stored[e.target].defined(value, None, e)

    def at_point(self, stored: _Stored, otherwise: ir.Expr) -> ir.Expr:
        """A tensor of the part's rows or columns at those of the square; `otherwise` where the part has no point."""
        union = self.merger.union
        sides = {self.index[i]: (i, side) for i, side in ((union.q, self.part.q), (union.k, self.part.k))}
        sides = {own: found for own, found in sides.items() if own in stored.indices}
        places = {own: _plus(i, affine.scale(affine.polynomial(side.low), -1)) for own, (i, side) in sides.items()}
        read = replace(stored.read(), indices=tuple(places.get(i, ir.Index(i)) for i in stored.indices))
        known = ir.Call("default", (read, otherwise))
        inside = conjunction(side.inside for _, side in sides.values())
        return known if inside is None else ir.Call("select", (inside, known, otherwise))

    def scaled(self, top: _Stored, weight: _Stored) -> list[Definition]:
        """The weights themselves."""
        whole = self.merger.union.weights
        e = whole.equation
        scale = self._new(f"{e.target}_scale", [i for i in e.indices if i != self.merger.union.k])
        self.stored[e.target] = self._new(f"{e.target}_all", e.indices, whole.tensor.dtype)
        greatest = ir.Call("default", (self.greatest.read(), _NO_LOGIT))
        level, total = (
            ir.Call("default", (self._moved(x.read()), otherwise)) for x, otherwise in ((top, ZERO), (weight, ONE))
        )
        factor = ir.Binary("/", _exp_of_difference(greatest, level), total)
        value = ir.Binary("*", self.weights.read(), scale.read())
        return [scale.defined(factor, None, e), self.stored[e.target].defined(value, None, e)]

    def sum(self, e: ir.Reduce, name: str, indices: Sequence[str]) -> Definition:
        """A sum over the square, of the points of the part."""
        domain = self._within(e.domain)
        value = ir.Reduce("sum", self._renamed(e.indices), domain, None, self._moved(self._sliced(e.body)), span=e.span)
        return self._new(name, indices).defined(value, None, e)

    def _within(self, domain: ir.Expr | None) -> ir.Expr | None:
        """A domain of the square in the part, which lies in that of the softmax."""
        union = conjuncts(self.merger.union.softmax.domain)
        given = conjuncts(domain)
        if all(c in given for c in union):
            given = (*self.part.rest, *(c for c in given if c not in union))
        return conjunction(x for c in given for x in _inequalities(self._moved(c)))

    def _new(self, name: str, indices: Iterable[str], dtype: DType = DType.F32) -> _Stored:
        like = self.merger.union.weights.equation
        return self.merger.stored(f"{name}_{self.number}", self._renamed(indices), dtype, like)

    def _renamed(self, indices: Iterable[str]) -> tuple[str, ...]:
        return tuple(self.index.get(i, i) for i in indices)

    def _moved(self, e: ir.Expr) -> ir.Expr:
        """An expression over the square at a point of the part, its reads of the square at the part's own."""
        return substitute(rewrite(e, self._own_read), self.at)

    def _sliced(self, e: ir.Expr) -> ir.Expr:
        """A product of operands, each of the rows of the part."""
        return rewrite(e, self._slice)

    def _slice(self, e: ir.Expr) -> ir.Expr:
        if not isinstance(e, ir.Read) or e.tensor in self.merger.union.tensors:
            return e
        moved = {i: own for i, own in self.index.items() if i != own and i in ir.free_indices(e)}
        axes = [a for a, i in enumerate(e.indices) if isinstance(i, ir.Index) and i.name in moved]
        if len(moved) != 1 or len(axes) != 1:
            return e
        ((index, own),) = moved.items()
        tensor = self.merger.slice(e, axes[0], own, self.at[index])
        indices = tuple(ir.Index(own) if a == axes[0] else i for a, i in enumerate(e.indices))
        return ir.Read(tensor.name, indices, e.dtype, span=e.span)

    def _own_read(self, e: ir.Expr) -> ir.Expr:
        if not isinstance(e, ir.Read) or e.tensor not in self.stored:
            return e
        own = {ir.Index(i): ir.Index(new) for i, new in self.index.items()}
        indices = tuple(own.get(i, i) if isinstance(i, ir.Index) else i for i in e.indices)
        return ir.Read(self.stored[e.tensor].tensor.name, indices, e.dtype, span=e.span)


@dataclass
class _Sums:
    """What one equation sums over the square, in each part; `made`: those sums."""

    merger: _Merger
    parts: Sequence[_Own]
    of: Definition
    made: list[Definition] = field(default_factory=list[Definition])

    def whole(self) -> Definition:
        """The equation, of the parts' sums."""
        return replace(self.of, equation=replace(self.of.equation, value=self._visit(self.of.equation.value)))

    def _visit(self, e: ir.Expr) -> ir.Expr:
        union = self.merger.union
        names = {union.weights.tensor.name, *union.square.below}
        if not isinstance(e, ir.Reduce) or not _sums(e, union.q, union.k):
            return with_children(e, [self._visit(c) for c in ir.children(e)])
        if not mentioned(e) & names:
            return e
        free = ir.free_indices(e)
        left = [i for i in self.of.equation.indices if i in free]
        indices = (*left, *(i for i in self.merger.ranges if i in free and i not in left))
        own = [part.sum(e, self.of.tensor.name, indices) for part in self.parts]
        self.made += own
        summed = [
            part.at_point(_Stored(d.tensor, d.equation.indices), ZERO) for part, d in zip(self.parts, own, strict=True)
        ]
        return reduce(lambda a, b: ir.Binary("+", a, b, span=e.span), summed)


def _plus(index: str, offset: Polynomial) -> ir.Expr:
    return affine.expression(affine.add(affine.polynomial(ir.Index(index)), offset))


def _inequalities(condition: ir.Expr) -> list[ir.Expr]:
    """The condition as comparisons without what both sides have in common; itself where it is something else."""
    polynomials = at_least_zero(condition)
    return [condition] if polynomials is None else [comparison(p) for p in polynomials]


def _greatest(logits: Sequence[ir.Expr]) -> ir.Expr:
    return reduce(lambda a, b: ir.Call("max", (a, b)), logits)


def _exp_of_difference(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    return ir.Call("exp", (ir.Binary("-", a, b),))


def _sum_of_products(left: Sequence[ir.Expr], right: Sequence[ir.Expr]) -> ir.Expr:
    products = (ir.Binary("*", a, b) for a, b in zip(left, right, strict=False))
    return reduce(lambda a, b: ir.Binary("+", a, b), products)
