"""Recurrences and causal linear attention over chunks: matmuls inside and between chunks, one element-wise scan.

With chunks of 64 steps (t = 64*n + i, s = 64*n + j), D[n,i,j] the product of the gates after j up to i, G[n,i] that of
all gates of the chunk up to i, and S_in[n] the state before chunk n,

    S[d,e] := g[t] * S[d,e] + K[t,d] * V[t,e]          A[n,i,j]    = sum[d](Q[n,i,d] * K[n,j,d]) * D[n,i,j] where j <= i
    O[t,e] = sum[d](Q[t,d] * S[d,e])                   U[n,d,e]    = sum[j](K[n,j,d] * D[n,63,j] * V[n,j,e])
                                                       S[d,e]     := G[n,63] * S[d,e] + U[n,d,e]
                                                       O[n,i,e]    = sum[j](A[n,i,j] * V[n,j,e])
                                                                   + G[n,i] * sum[d](Q[n,i,d] * S_in[n,d,e])

and `sum[k](A[q,k] * V[k,e])` with `A[q,k] = sum[d](..) where k <= q` is the same without gates. Factors of A that see q
or k alone go with Q and K, and `exp(r * (q - k))`, r of the rows, is a gate exp(r) whose products are D[i,j] =
exp(r * (i - j)). In a gradient such squares have sums over q too, which run from the last chunk to the first, and their
scores may have a term of q or of k more: `dA[q,k] = sum[e](dY[q,e] * V[k,e]) + dZ[q] where k <= q`. It adds a state of
the sums that it multiplies.

G and D are made by scans over i of products, D[i] = g[i] * D[i - 1] from 1 on the diagonal: each entry is within 64
roundings of the truth and underflows to 0 by itself, whatever the gates. Differences of running sums of log g lose it:
at 64 gates of 1e-30 the sums reach 4,400, where f32 is 2.4e-4 apart, and that would be the relative error of exp.

Operands stay f32 where the text does not round: the chunked form rounds nowhere that the steps do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpcgen.program import affine, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.program.substitute import FreshNames, rewrite, substitute, with_children
from tpcgen.program.verify import verify
from tpcgen.rewrite.edit import (
    ONE,
    Definition,
    Part,
    Recurrence,
    conjuncts,
    definitions,
    integer,
    mentioned,
    names_in_use,
    parts_of,
    product,
    reads,
    rebuilt,
    writes,
)
from tpcgen.rewrite.last_states import kept_state
from tpcgen.rewrite.outcome import Refused, RefusedError
from tpcgen.rewrite.split_contractions import contraction_of, split_contractions
from tpcgen.rewrite.support import ZERO, at_least_zero

_MAX_ROWS = 2
"""Indices outside a chunk: a tensor of a TPC kernel has 5 axes, of which chunk, step and head dim take three."""


@dataclass(frozen=True, slots=True)
class Sink:
    """`target[rows.., t, e]` is the sum over d of q and the state whose updates add k * value; e None for value 1.

    `rounded`: the dtype the text rounds the weights of `value` to. `initial`: the state before the first step.
    """

    target: ir.Tensor
    e: str | None
    value: ir.Expr
    rounded: DType | None
    initial: ir.Expr


@dataclass(frozen=True, slots=True)
class Flow:
    """`q`, `k` are expressions of the rows, t and d, `gate` of the rows and t (None: 1), a sink's value of rows, t, e.

    `q` None: no step reads the state. `kept`: equations behind the scan that keep the state's last value.
    `inclusive`: step t sees its own k and value. `plus`: two factors, of step t and of the step that it sees, whose
    product is added to that of q and k. `reverse`: steps see those after them; then there is no gate. `rate`: of the
    rows, where the gate is exp(rate).
    """

    rows: tuple[str, ...]
    t: str
    d: str
    q: ir.Expr | None
    k: ir.Expr
    gate: ir.Expr | None
    inclusive: bool
    sinks: tuple[Sink, ...]
    span: ir.Node
    plus: tuple[ir.Expr, ir.Expr] | None = None
    reverse: bool = False
    rate: ir.Expr | None = None
    kept: tuple[Definition, ...] = ()


def chunk(program: ir.Program, size: int = 64) -> ir.Program | Refused:
    """The program over chunks of `size` steps, for its scans or causal linear attention; Refused without one."""
    try:
        return verify(_chunked(program, size))
    except RefusedError as problem:
        return problem.reason


def chunked_index(program: ir.Program) -> str | Refused:
    """The index whose chunks `chunk` makes."""
    scan = next((s for s in program.body if isinstance(s, ir.Scan)), None)
    if scan is not None:
        return scan.index
    try:
        return _FromSquare(split_contractions(program), 1).index()
    except RefusedError as problem:
        return problem.reason


def _chunked(program: ir.Program, size: int) -> ir.Program:
    scans = [s for s in program.body if isinstance(s, ir.Scan)]
    if scans:
        return _of_scans(program, scans, size)
    made = _FromSquare(split_contractions(program), size).run()
    while True:
        try:
            made = _FromSquare(made, size).run()
        except RefusedError:
            return made


def _of_scans(program: ir.Program, scans: Sequence[ir.Scan], size: int) -> ir.Program:
    """The program with every scan in chunks that can be; the reason of the first where none can."""
    refused: list[RefusedError] = []
    for scan in scans:
        try:
            program = _FromScan(program, scan, size).run()
        except RefusedError as problem:
            refused.append(problem)
    if len(refused) == len(scans):
        raise refused[0]
    return program


# --- a scan -----------------------------------------------------------------------------------------------------------


class _FromScan:
    def __init__(self, program: ir.Program, scan: ir.Scan, size: int) -> None:
        self.program, self.scan, self.size = program, scan, size
        self.names = names_in_use(program)
        self.updates: dict[str, ir.Update] = {}
        self.sinks: dict[tuple[ir.Expr, str, bool], Definition] = {}
        self.flows: list[Flow] = []
        self.state_of: dict[str, ir.StateInit] = {}
        self.states = {s.state: s for s in scan.states}

    def run(self) -> ir.Program:
        scan, t = self.scan, self.scan.index
        if scan.reverse:
            raise RefusedError("a reverse scan is not chunked yet", scan)
        if not affine.equal(self.program.range_of(t).low, integer(0)):
            raise RefusedError(f"{t} does not start at 0", scan)
        after: list[Part] = []
        for s in scan.body:
            match s:
                case ir.Update():
                    if s.state in self.updates or s.domain is not None:
                        raise RefusedError(f"{s.state} is updated twice or under a condition", s)
                    self.updates[s.state] = s
                case ir.Equation() if t not in s.indices:
                    raise RefusedError(f"{s.target} lives one step: its value goes into the state", s)
                case ir.Equation():
                    value = self._outside(s.value)
                    domain = self._outside(s.domain) if s.domain is not None else None
                    after.append(Definition(self.program.tensor(s.target), replace(s, value=value, domain=domain)))
        kept = self._kept()
        for name in kept.keys() - {s.state for s in self.state_of.values()}:
            self._unread(self.states[name], kept[name][0].tensor)
        if not self.flows:
            raise RefusedError("no step multiplies a state", scan)
        made: list[Part] = []
        builder = _Builder(self.program, self.names, self.size)
        for flow in self.flows:
            last = kept.pop(self.state_of[flow.sinks[0].target.name].state, [])
            whole = replace(self._complete(flow), kept=tuple(last))
            direct = next((p for p in after if _is_copy_of(p, whole.sinks[0].target)), None)
            if isinstance(direct, Definition):
                after.remove(direct)
                whole = replace(whole, sinks=(replace(whole.sinks[0], target=direct.tensor),))
            made += builder.flow(whole)
        parts: list[Part] = []
        for p in parts_of(self.program):
            if isinstance(p, Recurrence) and p.scan is scan:
                parts += [*made, *after]
            elif isinstance(p, Recurrence) or kept_state(p.equation, self.states) is None:
                parts.append(p)
        return rebuilt(self.program, parts, builder.new_indices)

    def _kept(self) -> dict[str, list[Definition]]:
        """Equations behind the scan that keep the last value of a state."""
        found: dict[str, list[Definition]] = {}
        for d in definitions(self.program):
            state = kept_state(d.equation, self.states)
            if state is not None:
                found.setdefault(state, []).append(d)
        return found

    def _unread(self, state: ir.StateInit, target: ir.Tensor) -> None:
        """The flow of a state that no step reads: what is added is an outer product with its last axis, or a sum."""
        _, added = self._split(state)
        column = state.indices[-1]
        factors = [ir.free_indices(f) & {*state.indices} for f in _factors(added)]
        beside = frozenset[str]().union(*(f for f in factors if column in f))
        own = [i for i in state.indices if i not in beside]
        d, e = (own[-1], column) if own and any(own[-1] in f for f in factors) else (column, None)
        rows = tuple(i for i in state.indices if i not in (d, e))
        if len(rows) > _MAX_ROWS:
            raise RefusedError(f"{state.state} has {len(rows)} axes beside those of the outer product", state)
        sink = Sink(target, e, ONE, None, state.initial)
        self.flows.append(Flow(rows, self.scan.index, d, None, ONE, None, True, (sink,), state))
        self.state_of[target.name] = state

    def _outside(self, e: ir.Expr) -> ir.Expr:
        """A step's expression after the scan: sums over a state are read from a tensor of all steps."""
        states = {s.state: s for s in self.scan.states}
        if isinstance(e, ir.Read) and e.tensor in states:
            raise RefusedError(f"{text(e)} is read without a sum over one of its axes", e)
        if not isinstance(e, ir.Reduce) or not any(isinstance(x, ir.Read) and x.tensor in states for x in ir.walk(e)):
            return with_children(e, [self._outside(c) for c in ir.children(e)])
        if e.kind != "sum" or len(e.indices) != 1 or e.domain is not None:
            raise RefusedError("a state is reduced in another way than a sum of products over one axis", e)
        return self._flow(e, states)

    def _flow(self, e: ir.Reduce, states: Mapping[str, ir.StateInit]) -> ir.Expr:
        (d,) = e.indices
        factors = list(_factors(e.body))
        held = [f for f in factors if isinstance(f, ir.Read) and f.tensor in states]
        if len(held) != 1 or any(
            isinstance(x, ir.Read) and x.tensor in states for f in factors if f is not held[0] for x in ir.walk(f)
        ):
            raise RefusedError("a state is not one factor of the sum over it", e)
        state = states[held[0].tensor]
        if held[0].indices != tuple(ir.Index(i) for i in state.indices):
            raise RefusedError(f"{text(held[0])} is read at other indices than its own", e)
        rest = [f for f in factors if f is not held[0]]
        free = [i for i in state.indices if i != d]
        inside = frozenset[str]().union(*(ir.free_indices(f) for f in rest))
        own = [i for i in free if i not in inside]
        if len(own) > 1:
            raise RefusedError(f"the state {state.state} has the axes {', '.join(own)} beside the sum", e)
        column = own[0] if own else None
        rows = tuple(i for i in free if i != column)
        if len(rows) > _MAX_ROWS:
            raise RefusedError(
                f"{state.state} has {len(rows)} axes beside those of the outer product, at most 2 fit", e
            )
        inclusive = state.state in self.updates
        known = self.sinks.get((e, state.state, inclusive))
        if known is None:
            known = self._sink(e, state, rows, d, column, rest, inclusive)
            self.sinks[e, state.state, inclusive] = known
        return ir.Read(known.tensor.name, tuple(ir.Index(i) for i in known.equation.indices), DType.F32, span=e.span)

    def _sink(
        self,
        e: ir.Reduce,
        state: ir.StateInit,
        rows: tuple[str, ...],
        d: str,
        column: str | None,
        rest: Sequence[ir.Expr],
        inclusive: bool,
    ) -> Definition:
        indices = (*rows, self.scan.index, *((column,) if column is not None else ()))
        shape = tuple(self.program.range_of(i).high for i in indices)
        tensor = ir.Tensor(self.names.fresh(f"{state.state}_sum"), shape, DType.F32, ir.Role.INTERMEDIATE, span=e.span)
        sink = Sink(tensor, column, ONE, None, state.initial)
        self.flows.append(
            Flow(rows, self.scan.index, d, product(rest), ONE, None, inclusive, (sink,), replace(e, body=ONE))
        )
        self.state_of[tensor.name] = state
        return Definition(tensor, ir.Equation(tensor.name, indices, ONE, None))

    def _complete(self, flow: Flow) -> Flow:
        """What the state's update adds and by what it decays."""
        (sink,) = flow.sinks
        state = self.state_of[sink.target.name]
        decay, added = self._split(state)
        update = self.updates[state.state]
        if decay is not None and ir.free_indices(decay) & {flow.d, sink.e}:
            axis = flow.d if flow.d in ir.free_indices(decay) else sink.e
            raise RefusedError(f"the gate of {state.state} differs along {axis}: chunks of it are no matmuls", update)
        k: list[ir.Expr] = []
        v: list[ir.Expr] = []
        for f in _factors(added):
            free = ir.free_indices(f)
            if sink.e is not None and sink.e in free:
                if flow.d in free:
                    raise RefusedError(f"what is added to {state.state} is no outer product", update)
                v.append(f)
            else:
                k.append(f)
        if sink.e is not None and not v:
            raise RefusedError(f"what is added to {state.state} does not depend on {sink.e}", update)
        return replace(flow, k=product(k), gate=decay, sinks=(replace(sink, value=product(v)),))

    def _split(self, state: ir.StateInit) -> tuple[ir.Expr | None, ir.Expr]:
        """(gate, what is added) of the state's update."""
        update = self.updates.get(state.state)
        if update is None:
            raise RefusedError(f"{state.state} is never updated", state)
        renamed = {a: ir.Index(b) for a, b in zip(update.indices, state.indices, strict=True) if a != b}
        return _split_update(substitute(update.value, renamed), state, update)


def _is_copy_of(p: Part, tensor: ir.Tensor) -> bool:
    if isinstance(p, Recurrence) or p.equation.domain is not None:
        return False
    return p.equation.value == ir.Read(tensor.name, tuple(ir.Index(i) for i in p.equation.indices), tensor.dtype)


def _split_update(value: ir.Expr, state: ir.StateInit, update: ir.Update) -> tuple[ir.Expr | None, ir.Expr]:
    """(gate, what is added) of `gate * S + added`."""
    terms = list(_terms(value))
    own = [x for x in terms if any(isinstance(r, ir.Read) and r.tensor == state.state for r in ir.walk(x))]
    others = [x for x in terms if x not in own]
    if len(own) != 1 or len(others) != 1:
        raise RefusedError(f"{state.state} is not its old value, times a gate, plus one product", update)
    factors = list(_factors(own[0]))
    reads = [f for f in factors if isinstance(f, ir.Read) and f.tensor == state.state]
    gates = [f for f in factors if f not in reads]
    inner = [x for f in gates for x in ir.walk(f) if isinstance(x, ir.Read) and x.tensor == state.state]
    if len(reads) != 1 or inner or reads[0].indices != tuple(ir.Index(i) for i in state.indices):
        raise RefusedError(f"the old value of {state.state} is not a factor at its own indices", update)
    return (product(gates) if gates else None), others[0]


# --- the square -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scored:
    """`weights` are the `scores`, a contraction, times `factors`, and the term `plus`, where their domain holds."""

    weights: Definition
    scores: Definition
    factors: tuple[ir.Expr, ...]
    plus: ir.Expr | None


@dataclass
class _Way:
    """Sums over the keys of each query, or over the queries of each key: what is summed over is `over`."""

    flow: Flow
    over: str
    sinks: list[Sink] = field(default_factory=list[Sink])
    first: Definition | None = None

    def take(self, reader: Definition, found: Iterator[Sink]) -> None:
        self.sinks += found
        self.first = self.first or reader


def _reversed(flow: Flow, q: str, k: str) -> Flow:
    """The flow of the sums over q at each k."""
    assert flow.q is not None
    to: dict[str, ir.Expr] = {q: ir.Index(k)}
    plus = (substitute(flow.plus[1], to), substitute(flow.plus[0], to)) if flow.plus is not None else None
    return replace(flow, t=k, q=substitute(flow.k, to), k=substitute(flow.q, to), plus=plus, reverse=True)


def _readings(value: ir.Expr) -> Iterator[tuple[ir.Read, tuple[ir.Expr, ...], ir.Expr | None]]:
    """Reads that a value may be, with the factors beside one, or with a term beside it."""
    factors = tuple(_factors(value))
    for n, factor in enumerate(factors):
        if isinstance(factor, ir.Read):
            yield factor, (*factors[:n], *factors[n + 1 :]), None
    if isinstance(value, ir.Binary) and value.operator == "+":
        for one, other in ((value.left, value.right), (value.right, value.left)):
            if isinstance(one, ir.Read):
                yield one, (), other


def _rate(factor: ir.Expr, q: str, k: str) -> ir.Expr | None:
    """r of `exp(r * (q - k))`, where r sees neither."""
    if not isinstance(factor, ir.Call) or factor.function != "exp":
        return None
    parts = list(_factors(factor.arguments[0]))
    moved = [p for p in parts if {q, k} & ir.free_indices(p)]
    rest = [p for p in parts if p not in moved]
    if len(moved) != 1 or ir.type_of(moved[0]) is not DType.I32:
        return None
    distance = affine.subtract(affine.polynomial(ir.Index(q)), affine.polynomial(ir.Index(k)))
    found = affine.polynomial(moved[0])
    if found == distance:
        return product(rest)
    return product([*rest, ir.Literal(-1.0, DType.F32)]) if found == affine.scale(distance, -1) else None


class _FromSquare:
    def __init__(self, program: ir.Program, size: int) -> None:
        self.program, self.size = program, size
        self.names = names_in_use(program)
        self.definitions = definitions(program)

    def index(self) -> str:
        return self._pair(self._scored().weights)[0]

    def run(self) -> ir.Program:
        scored = self._scored()
        weights = scored.weights
        q, k = self._pair(weights)
        flow = self._flow(scored, q, k)
        gone = {weights.tensor.name, scored.scores.tensor.name}
        readers = [
            d for d in self.definitions if weights.tensor.name in reads(d.equation) and d.tensor.name not in gone
        ]
        sums: dict[ir.Reduce, ir.Expr] = {}
        ways = [_Way(flow, k), _Way(_reversed(flow, q, k), q)]
        for d in readers:
            way = ways[1] if self._sums_over(d, q, weights) else ways[0]
            way.take(d, self._sinks(d, weights, way.flow, way.over, sums))
        if not any(way.sinks for way in ways):
            raise RefusedError(f"nothing sums {weights.tensor.name} over {k}", weights.equation)
        if ways[1].sinks and flow.gate is not None:
            raise RefusedError(f"{weights.tensor.name} decays and is summed over {q}: no chunks yet", weights.equation)
        builder = _Builder(self.program, self.names, self.size)
        made = {way.first: builder.flow(replace(way.flow, sinks=tuple(way.sinks))) for way in ways if way.sinks}
        replaced = {s.target.name for way in ways for s in way.sinks}
        parts: list[Part] = []
        for p in parts_of(self.program):
            if isinstance(p, Recurrence):
                parts.append(p)
                continue
            if p.tensor.name in gone:
                continue
            if p in made:
                self._require_known(next(way.sinks for way in ways if way.first == p), parts, p)
                parts += made[p]
            if p.tensor.name not in replaced:
                value = rewrite(p.equation.value, lambda x: sums.get(x, x) if isinstance(x, ir.Reduce) else x)
                parts.append(replace(p, equation=replace(p.equation, value=value)))
        return rebuilt(self.program, parts, builder.new_indices)

    def _sums_over(self, d: Definition, index: str, weights: Definition) -> bool:
        name = weights.tensor.name
        found = [x for x in ir.walk(d.equation.value) if isinstance(x, ir.Reduce) and name in mentioned(x)]
        return any(index in x.indices for x in found)

    def _require_known(self, sinks: Sequence[Sink], parts: Sequence[Part], reader: Definition) -> None:
        """All sums are made where the first of them is read."""
        known = {t.name for t in self.program.inputs}
        known |= {n for p in parts for n in writes(p.scan if isinstance(p, Recurrence) else p.equation)}
        later = [x.tensor for s in sinks for x in ir.walk(s.value) if isinstance(x, ir.Read) and x.tensor not in known]
        if later:
            raise RefusedError(f"{later[0]} is made of one sum and part of another", reader.equation)

    def _scored(self) -> _Scored:
        """The first tensor `A[.., q, k] = scores where k <= q`, with the contraction that makes its scores."""
        other: RefusedError | None = None
        for scored in self._kept():
            try:
                self._pair(scored.weights)
            except RefusedError as problem:
                other = other or problem
                continue
            return scored
        raise other or RefusedError("no sum of products is kept where k <= q: nothing to chunk", self.program)

    def _kept(self) -> Iterator[_Scored]:
        """Sums of products that are kept under some condition."""
        by_name = {d.tensor.name: d for d in self.definitions}
        for d in self.definitions:
            if d.equation.domain is None:
                continue
            for value, factors, plus in _readings(d.equation.value):
                source = by_name.get(value.tensor)
                if source is None or value.indices != tuple(ir.Index(i) for i in source.equation.indices):
                    continue
                if contraction_of(source.equation, self.program) is not None:
                    yield _Scored(d, source, factors, plus)

    def _pair(self, weights: Definition) -> tuple[str, str]:
        e = weights.equation
        conditions = [p for c in conjuncts(e.domain) for p in at_least_zero(c) or [{}]]
        for q in e.indices:
            for k in e.indices:
                if conditions == [affine.subtract(affine.polynomial(ir.Index(q)), affine.polynomial(ir.Index(k)))]:
                    return q, k
        raise RefusedError(f"{weights.tensor.name} is kept where another condition than k <= q holds", e)

    def _flow(self, scored: _Scored, q: str, k: str) -> Flow:
        weights, scores = scored.weights, scored.scores
        found = contraction_of(scores.equation, self.program)
        assert found is not None
        ranges = [self.program.range_of(i) for i in (q, k)]
        if not affine.equal(ranges[0].high, ranges[1].high) or len(found.summed) != 1:
            raise RefusedError(f"{q} and {k} run over different lengths", weights.equation)
        sides = (found.left, found.right)
        if k in ir.free_indices(found.left):
            sides = (found.right, found.left)
        if q in ir.free_indices(sides[1]) or k in ir.free_indices(sides[0]):
            raise RefusedError(f"an operand has both {q} and {k}", scores.equation)
        rows = tuple(i for i in weights.equation.indices if i not in (q, k))
        if len(rows) > _MAX_ROWS:
            raise RefusedError(
                f"{weights.tensor.name} has {len(rows)} axes beside {q} and {k}, at most 2 fit", scores.equation
            )
        users = [d for d in self.definitions if scores.tensor.name in reads(d.equation)]
        if len(users) > 1:
            raise RefusedError(f"{scores.tensor.name} has other readers", users[1].equation)
        queries, keys, rates = [sides[0]], [sides[1]], list[ir.Expr]()
        for f in scored.factors:
            free, rate = ir.free_indices(f), _rate(f, q, k)
            if rate is not None:
                rates.append(rate)
            elif {q, k} <= free:
                raise RefusedError(f"the scores are multiplied by {text(f)}, which sees both {q} and {k}", f)
            else:
                (keys if k in free else queries).append(f)
        if len(rates) > 1:
            raise RefusedError(f"{weights.tensor.name} decays twice", weights.equation)
        seen = substitute(product(keys), {k: ir.Index(q)})
        rate = rates[0] if rates else None
        gate = None if rate is None else ir.Call("exp", (rate,), span=rate.span)
        plus = self._plus(scored, q, k)
        summed = found.summed[0]
        return Flow(rows, q, summed, product(queries), seen, gate, True, (), scores.equation, plus, rate=rate)

    def _plus(self, scored: _Scored, q: str, k: str) -> tuple[ir.Expr, ir.Expr] | None:
        """The term beside the scores, as a factor of q and one of k, both read at q."""
        if scored.plus is None:
            return None
        free = ir.free_indices(scored.plus)
        if {q, k} <= free or scored.scores.tensor.name in mentioned(scored.plus):
            raise RefusedError(f"{text(scored.plus)} is added to the scores: no term of {q} or {k} alone", scored.plus)
        return (ONE, substitute(scored.plus, {k: ir.Index(q)})) if k in free else (scored.plus, ONE)

    def _sinks(
        self, d: Definition, weights: Definition, flow: Flow, k: str, sums: dict[ir.Reduce, ir.Expr]
    ) -> Iterator[Sink]:
        """The contraction that a reader is, or the sums of the weights in it; k: what it sums over."""
        name = weights.tensor.name
        found = contraction_of(d.equation, self.program)
        if found is not None and found.domain is None and found.summed == (k,):
            mine, other = (found.left, found.right) if name in mentioned(found.left) else (found.right, found.left)
            inner = mine.operand if isinstance(mine, ir.Cast) else mine
            column = [i for i in d.equation.indices if i not in (*flow.rows, flow.t)]
            plain = isinstance(inner, ir.Read) and self._own(inner, weights) and name not in mentioned(other)
            if not plain or len(column) != 1 or d.equation.domain is not None:
                raise RefusedError(f"{d.tensor.name} is no sum of {name} and one tensor over {k}", d.equation)
            if tuple(d.equation.indices) != (*flow.rows, flow.t, column[0]):
                raise RefusedError(f"{d.tensor.name} has its axes in another order", d.equation)
            value = substitute(other, {k: ir.Index(flow.t)})
            rounded = mine.dtype if isinstance(mine, ir.Cast) else None
            yield Sink(d.tensor, column[0], value, rounded, ir.Literal(0.0, DType.F32))
            return
        for x in ir.walk(d.equation.value):
            if isinstance(x, ir.Reduce) and name in mentioned(x) and x not in sums:
                yield self._total(x, weights, flow, k, sums)
        rest = rewrite(d.equation.value, lambda x: sums.get(x, x) if isinstance(x, ir.Reduce) else x)
        if name in mentioned(rest) or (d.equation.domain is not None and name in mentioned(d.equation.domain)):
            raise RefusedError(f"{d.tensor.name} reads {name} outside a sum over {k}", d.equation)

    def _total(self, x: ir.Reduce, weights: Definition, flow: Flow, k: str, sums: dict[ir.Reduce, ir.Expr]) -> Sink:
        plain = isinstance(x.body, ir.Read) and self._own(x.body, weights)
        if x.kind != "sum" or x.indices != (k,) or x.domain is not None or not plain:
            raise RefusedError(f"a reduction of {weights.tensor.name} is no plain sum over {k}", x)
        indices = (*flow.rows, flow.t)
        shape = tuple(self.program.range_of(i).high for i in indices)
        name = self.names.fresh(f"{weights.tensor.name}_total")
        tensor = ir.Tensor(name, shape, DType.F32, ir.Role.INTERMEDIATE, span=x.span)
        sums[x] = ir.Read(name, tuple(ir.Index(i) for i in indices), DType.F32, span=x.span)
        return Sink(tensor, None, ONE, None, ir.Literal(0.0, DType.F32))

    def _own(self, read: ir.Read, weights: Definition) -> bool:
        own = tuple(ir.Index(i) for i in weights.equation.indices)
        return read.tensor == weights.tensor.name and read.indices == own


# --- chunks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Decays:
    """Of the gates of a chunk, the products D after one step `within` up to another, and G of all `until` one.

    `along`: rows that have gates of their own, and the chunk where chunks do.
    """

    within: ir.Tensor
    until: ir.Tensor
    along: tuple[str, ...]


@dataclass
class _Builder:
    program: ir.Program
    names: FreshNames
    size: int
    new_indices: list[ir.IndexRange] = field(default_factory=list[ir.IndexRange])
    made: list[Part] = field(default_factory=list[Part])
    plus: tuple[ir.Expr, ...] | None = None

    def flow(self, flow: Flow) -> list[Part]:
        """Definitions of the sinks' targets."""
        self.made = []
        self.f = flow
        self.length = self.program.range_of(flow.t).high
        chunks = affine.blocks(affine.polynomial(self.length), self.size)
        self.n = self._index("n", chunks)
        self.i, self.j = self._index("i", integer(self.size)), self._index("j", integer(self.size))
        d = self.program.range_of(flow.d)
        q = None if flow.q is None else self._blocked("q", flow.q, self.i, flow.d)
        k = self._blocked("k", flow.k, self.j, flow.d)
        decays = None
        if flow.gate is not None:
            decays = self._products(flow.gate) if flow.rate is None else self._powers(flow.rate)
        self.plus = None if flow.plus is None else tuple(map(self._of_steps, flow.plus, (self.i, self.j)))
        weights = None if q is None else self._weights(q, k, decays, d)
        keys = k if decays is None else self._decayed(k, decays)
        for sink in flow.sinks:
            if q is None or weights is None:
                self._unread(sink, keys, decays)
            else:
                self._sink(sink, q, keys, weights, decays)
        return self.made

    def _index(self, wanted: str, high: ir.Expr) -> str:
        name = self._fresh(wanted)
        self.new_indices.append(ir.IndexRange(name, integer(0), high))
        return name

    def _fresh(self, wanted: str) -> str:
        return self.names.fresh(wanted)

    def _at(self, step: str) -> ir.Expr:
        """t of a step of the chunk."""
        start = affine.scale(affine.polynomial(ir.Index(self.n)), self.size)
        return affine.expression(affine.add(start, affine.polynomial(ir.Index(step))))

    def _extent(self, index: str) -> ir.Expr:
        return next((r.high for r in self.new_indices if r.name == index), None) or self.program.range_of(index).high

    def _define(
        self, name: str, indices: Sequence[str], value: ir.Expr, domain: ir.Expr | None = None, dtype: DType = DType.F32
    ) -> ir.Tensor:
        made = self._tensor(name, indices, dtype)
        self.made.append(Definition(made, ir.Equation(made.name, tuple(indices), value, domain, span=self.f.span.span)))
        return made

    def _tensor(self, name: str, indices: Sequence[str], dtype: DType = DType.F32) -> ir.Tensor:
        shape = tuple(self._extent(i) for i in indices)
        return ir.Tensor(self._fresh(name), shape, dtype, ir.Role.INTERMEDIATE, span=self.f.span.span)

    def _read(self, t: ir.Tensor, *indices: str | ir.Expr) -> ir.Read:
        own = tuple(ir.Index(i) if isinstance(i, str) else i for i in indices)
        return ir.Read(t.name, own, t.dtype, span=self.f.span.span)

    def _blocked(self, name: str, value: ir.Expr, step: str, column: str) -> ir.Tensor:
        at = self._at(step)
        inside = ir.Binary("<", at, self.length)
        moved = substitute(value, {self.f.t: at})
        return self._define(f"{name}_c", (*self.f.rows, self.n, step, column), moved, inside)

    def _of_steps(self, factor: ir.Expr, step: str) -> ir.Expr:
        """A factor at the steps of each chunk."""
        if isinstance(factor, ir.Literal):
            return factor
        at = self._at(step)
        inside = ir.Binary("<", at, self.length)
        indices = (*self.f.rows, self.n, step)
        return self._read(self._define("plus_c", indices, substitute(factor, {self.f.t: at}), inside), *indices)

    def _products(self, gate: ir.Expr) -> _Decays:
        """Those of gates; up to the step before where a step does not see itself."""
        along = self._rows_of(gate)
        if self.f.t in ir.free_indices(gate) or self.f.kept:
            along = (*along, self.n)
            gate = self._read(self._gates(gate, along), *along, self.i)
        diagonal = ir.Binary("==", ir.Index(self.j), ir.Index(self.i))

        def grown(held: ir.Expr) -> ir.Expr:
            return ir.Binary("*", gate, held)

        def begun(held: ir.Expr) -> ir.Expr:
            return ir.Call("select", (diagonal, ONE, grown(held)))

        until = self._running_product("until", along, (), grown, ONE)
        return _Decays(self._running_product("decay", along, (self.j,), begun, ZERO), until, along)

    def _running_product(
        self,
        name: str,
        along: tuple[str, ...],
        seen: tuple[str, ...],
        grown: Callable[[ir.Expr], ir.Expr],
        first: ir.Expr,
    ) -> ir.Tensor:
        """What a state over the steps of a chunk becomes at each of them."""
        indices = (*along, *seen)
        shape = tuple(map(self._extent, indices))
        state = ir.Tensor(self._fresh("run"), shape, DType.F32, ir.Role.STATE, span=self.f.span.span)
        made = self._tensor(name, (*along, self.i, *seen))
        held = self._read(state, *indices)
        update = ir.Update(state.name, indices, grown(held), None)
        output = ir.Equation(made.name, (*along, self.i, *seen), held, None)
        scan = ir.Scan(
            self.i, False, (ir.StateInit(state.name, indices, first),), (update, output), span=self.f.span.span
        )
        self.made.append(Recurrence((state, made), scan))
        return made

    def _powers(self, rate: ir.Expr) -> _Decays:
        """The same where every gate is exp(rate)."""
        along = self._rows_of(rate)
        i, j = affine.polynomial(ir.Index(self.i)), affine.polynomial(ir.Index(self.j))
        steps = affine.expression(affine.add(i, affine.constant(1)))
        until = self._define("until", (*along, self.i), _power(rate, steps))
        seen = ir.Binary("<=", ir.Index(self.j), ir.Index(self.i))
        power = _power(rate, affine.expression(affine.subtract(i, j)))
        return _Decays(self._define("decay", (*along, self.i, self.j), power, seen), until, along)

    def _rows_of(self, e: ir.Expr) -> tuple[str, ...]:
        return tuple(r for r in self.f.rows if r in ir.free_indices(e))

    def _gates(self, gate: ir.Expr, along: tuple[str, ...]) -> ir.Tensor:
        """The gates of each chunk; 1 behind the end, where a state that is kept stays what it is."""
        at = self._at(self.i)
        inside = ir.Binary("<", at, self.length)
        indices = (*along, self.i)
        known = self._define("gate_c", indices, substitute(gate, {self.f.t: at}), inside)
        return self._define("gate", indices, ir.Call("select", (inside, self._read(known, *indices), ONE)))

    def _decay(self, decays: _Decays, step: str | ir.Expr, seen: str | ir.Expr) -> ir.Read:
        return self._read(decays.within, *decays.along, step, seen)

    def _until(self, decays: _Decays, step: ir.Expr) -> ir.Expr:
        """The product of all gates of the chunk up to a step."""
        return self._read(decays.until, *decays.along, step)

    def _weights(self, q: ir.Tensor, k: ir.Tensor, decays: _Decays | None, d: ir.IndexRange) -> ir.Tensor:
        rows, n, i, j = self.f.rows, self.n, self.i, self.j
        each = ir.Binary("*", self._read(q, *rows, n, i, d.name), self._read(k, *rows, n, j, d.name))
        value: ir.Expr = ir.Reduce("sum", (d.name,), None, None, each, span=self.f.span.span)
        if decays is not None and self.f.inclusive:
            value = ir.Binary("*", value, self._decay(decays, i, j))
        elif decays is not None:
            before = ir.Call("max", (affine.expression(_minus_one(ir.Index(i))), integer(0)))
            value = ir.Binary("*", value, self._decay(decays, before, j))
        if self.plus is not None:
            value = ir.Binary("+", value, product([f for f in self.plus if f is not ONE]))
        seen = ir.Binary("<=" if self.f.inclusive else "<", ir.Index(j), ir.Index(i))
        if self.f.reverse:
            seen = ir.Binary("<=", ir.Index(i), ir.Index(j))
        return self._define("weight", (*rows, n, i, j), value, seen)

    def _decayed(self, k: ir.Tensor, decays: _Decays) -> ir.Tensor:
        """Keys as the end of the chunk sees them."""
        rows, n, j, d = self.f.rows, self.n, self.j, self.f.d
        at_end = self._decay(decays, integer(self.size - 1), j)
        inside = ir.Binary("<", self._at(j), self.length)
        value = ir.Binary("*", self._read(k, *rows, n, j, d), at_end)
        return self._define("k_end", (*rows, n, j, d), value, inside)

    def _sink(self, sink: Sink, q: ir.Tensor, k: ir.Tensor, weights: ir.Tensor, decays: _Decays | None) -> None:
        rows, n, i, j, d = self.f.rows, self.n, self.i, self.j, self.f.d
        e = (sink.e,) if sink.e is not None else ()
        value, added = self._addend(sink, k)
        inside: ir.Expr = self._read(weights, *rows, n, i, j)
        if sink.e is not None and sink.rounded is not None and sink.rounded is not DType.F32:
            own = self._define_as("v_r", sink, sink.rounded)
            inside = ir.Binary("*", ir.Cast(sink.rounded, inside), self._read(own, *rows, n, j, sink.e))
        elif sink.e is not None:
            inside = ir.Binary("*", inside, value)
        within = self._define("inside", (*rows, n, i, *e), self._sum(j, inside))
        update = self._define("added", (*rows, n, d, *e), self._sum(j, added))
        state, before = self._states(sink, update, decays, (d, *e))
        self._keep(state, (d, *e))
        product = ir.Binary("*", self._read(q, *rows, n, i, d), self._read(before, *rows, n, d, *e))
        across = self._define("across", (*rows, n, i, *e), self._sum(d, product))
        earlier: ir.Expr = self._read(across, *rows, n, i, *e)
        if decays is not None:
            earlier = ir.Binary("*", self._before(decays), earlier)
        total = ir.Binary("+", self._read(within, *rows, n, i, *e), earlier)
        if self.plus is not None:
            total = ir.Binary("+", total, self._plus(sink, self.plus, value, e))
        blocks = self._define(f"{sink.target.name}_c", (*rows, n, i, *e), total, None, sink.target.dtype)
        size, step = integer(self.size), ir.Index(self.f.t)
        own = (ir.Binary("//", step, size), ir.Binary("%", step, size))
        whole = self._read(blocks, *rows, *own, *e)
        self.made.append(
            Definition(
                sink.target, ir.Equation(sink.target.name, (*rows, self.f.t, *e), whole, None, span=self.f.span.span)
            )
        )

    def _addend(self, sink: Sink, k: ir.Tensor) -> tuple[ir.Expr, ir.Expr]:
        """The value of a step, and what the step adds to the state."""
        key = self._read(k, *self.f.rows, self.n, self.j, self.f.d)
        if sink.e is None:
            return ONE, key
        value = self._read(self._blocked("v", sink.value, self.j, sink.e), *self.f.rows, self.n, self.j, sink.e)
        return value, ir.Binary("*", key, value)

    def _unread(self, sink: Sink, k: ir.Tensor, decays: _Decays | None) -> None:
        """The last value of a state that no step reads."""
        axes = (self.f.d, *((sink.e,) if sink.e is not None else ()))
        _, added = self._addend(sink, k)
        update = self._define("added", (*self.f.rows, self.n, *axes), self._sum(self.j, added))
        state, initial, step = self._running(sink, update, decays, axes)
        scan = ir.Scan(self.n, self.f.reverse, (initial,), (step,), span=self.f.span.span)
        self.made.append(Recurrence((state,), scan))
        self._keep(state, axes)

    def _plus(self, sink: Sink, factors: Sequence[ir.Expr], value: ir.Expr, e: tuple[str, ...]) -> ir.Expr:
        """What the term beside the scores has of the chunks before."""
        of_step, of_seen = factors
        added = product([f for f in (of_seen, value) if f is not ONE])
        update = self._define("added", (*self.f.rows, self.n, *e), self._sum(self.j, added))
        _, states = self._states(sink, update, None, e)
        before = self._read(states, *self.f.rows, self.n, *e)
        return product([f for f in (of_step, before) if f is not ONE])

    def _define_as(self, name: str, sink: Sink, dtype: DType) -> ir.Tensor:
        """The values again in the dtype the text multiplies them in."""
        assert sink.e is not None
        at = self._at(self.j)
        inside = ir.Binary("<", at, self.length)
        moved = substitute(sink.value, {self.f.t: at})
        return self._define(name, (*self.f.rows, self.n, self.j, sink.e), moved, inside, dtype)

    def _before(self, decays: _Decays) -> ir.Expr:
        """How much of the state before the chunk a step sees."""
        if self.f.inclusive:
            return self._until(decays, ir.Index(self.i))
        first = ir.Binary("==", ir.Index(self.i), integer(0))
        before = ir.Call("max", (affine.expression(_minus_one(ir.Index(self.i))), integer(0)))
        return ir.Call("select", (first, ONE, self._until(decays, before)))

    def _states(
        self, sink: Sink, update: ir.Tensor, decays: _Decays | None, axes: tuple[str, ...]
    ) -> tuple[ir.Tensor, ir.Tensor]:
        """The running state, and what it is before each chunk."""
        state, initial, step = self._running(sink, update, decays, axes)
        before = self._tensor("before", (*self.f.rows, self.n, *axes))
        held = self._read(state, *self.f.rows, *axes)
        body = (ir.Equation(before.name, (*self.f.rows, self.n, *axes), held, None), step)
        scan = ir.Scan(self.n, self.f.reverse, (initial,), body, span=self.f.span.span)
        self.made.append(Recurrence((state, before), scan))
        return state, before

    def _running(
        self, sink: Sink, update: ir.Tensor, decays: _Decays | None, axes: tuple[str, ...]
    ) -> tuple[ir.Tensor, ir.StateInit, ir.Update]:
        """A state over the chunks, its first value and its step."""
        indices = (*self.f.rows, *axes)
        shape = tuple(map(self._extent, indices))
        state = ir.Tensor(self._fresh("held"), shape, DType.F32, ir.Role.STATE, span=self.f.span.span)
        kept: ir.Expr = self._read(state, *indices)
        if decays is not None:
            kept = ir.Binary("*", self._until(decays, integer(self.size - 1)), kept)
        value = ir.Binary("+", kept, self._read(update, *self.f.rows, self.n, *axes))
        initial = ir.StateInit(state.name, indices, sink.initial)
        return state, initial, ir.Update(state.name, indices, value, None)

    def _keep(self, state: ir.Tensor, axes: tuple[str, ...]) -> None:
        """The equations that keep the last value read that of the running state."""
        last = self._read(state, *self.f.rows, *axes)
        for d in self.f.kept:
            value = rewrite(d.equation.value, lambda x: last if isinstance(x, ir.Read) else x)
            self.made.append(replace(d, equation=replace(d.equation, value=value)))

    def _sum(self, index: str, body: ir.Expr) -> ir.Reduce:
        return ir.Reduce("sum", (index,), None, None, body, span=self.f.span.span)


def _power(rate: ir.Expr, steps: ir.Expr) -> ir.Expr:
    return ir.Call("exp", (ir.Binary("*", rate, steps),))


def _factors(e: ir.Expr) -> Iterator[ir.Expr]:
    """The factors of a product; those of a quotient, with one over its divisor."""
    match e:
        case ir.Binary(operator="*"):
            yield from _factors(e.left)
            yield from _factors(e.right)
        case ir.Binary(operator="/"):
            yield from _factors(e.left)
            yield ir.Binary("/", ONE, e.right, span=e.span)
        case _:
            yield e


def _terms(e: ir.Expr) -> Iterator[ir.Expr]:
    if isinstance(e, ir.Binary) and e.operator == "+":
        yield from _terms(e.left)
        yield from _terms(e.right)
    else:
        yield e


def _minus_one(e: ir.Expr) -> affine.Polynomial:
    return affine.add(affine.polynomial(e), affine.constant(-1))
