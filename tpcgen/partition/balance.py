"""The value of an integer attribute that makes an op fastest, and how busy the engines are on the way there.

GFormer's heads are windowed below Hs and linear from there on: Hs divides the work between the TPCs and the MME. Any
integer attribute with a range can be asked for, the length of a window as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from tpcgen.diagnostics import Diagnostic, DiagnosticError
from tpcgen.machine import Machine
from tpcgen.partition.choose import Choice, Space, choose_among, space
from tpcgen.partition.plan import CopyStage, Plan
from tpcgen.partition.price import PlanPrice, StagePrice, TpcCostFunction, price, waits, written
from tpcgen.program import affine, domains, ir, sizes
from tpcgen.program.dtypes import DType
from tpcgen.program.hints import did_you_mean
from tpcgen.program.sizes import Binding, Value

EXACT = 40
"""Values of a range that are all tried; of a longer one, so many are."""
_KEPT = 6
"""Plans that are priced at every value: the best so many at each of three values of the range, ends included."""

_LOOKED_AT = 24
"""Plans whose kernels are made at those three values."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Point:
    """The plan at one value. `mme`, `tpc`, `dma`: seconds each engine is held; `seconds` from start to end.

    `rule`: where plans put the output together of two pieces, the least seconds that one of them needs for the first
    on the TPCs alone, its multiply-adds included, and for the matmuls of the second on the MME.
    """

    value: int
    label: str
    seconds: float
    mme: float
    tpc: float
    dma: float
    fits: bool
    rule: tuple[float, float] | None = None


@dataclass(frozen=True)
class Balance:
    """`points` in order of their values. `plans`: how many were priced at every value, `known` how many there are.

    `bound`: no untried value is faster than that many seconds, as far
    as every stage's time changes one way between two tried values; None where every value was tried.
    """

    attribute: str
    low: int
    high: int
    points: tuple[Point, ...]
    plans: int
    known: int
    bound: float | None = None

    @cached_property
    def best(self) -> Point:
        """Of those that HBM holds, if any; the least value of equals."""
        return min(self.points, key=lambda p: (not p.fits, p.seconds, p.value))

    @cached_property
    def even(self) -> Point:
        """Where MME and TPCs are held for the most equal times."""
        return min(self.points, key=lambda p: (abs(p.mme - p.tpc), p.value))

    @property
    def loss(self) -> float:
        """At most how many times slower than the best value the best tried one is."""
        return 1.0 if self.bound is None or self.bound <= 0 else max(1.0, self.best.seconds / self.bound)

    @cached_property
    def gformer(self) -> Point | None:
        """The paper's rule (arXiv 2412.19829): the first piece wholly on the TPCs takes as long as the second on the
        MME. None where no plan has two pieces.
        """
        divided = [(abs(p.rule[0] - p.rule[1]), p.value, p) for p in self.points if p.rule is not None]
        return min(divided, key=lambda x: x[:2])[2] if divided else None


@dataclass(frozen=True, slots=True)
class Balanced:
    """What was found for an op of one dtype on a device; `values` are those of the other sizes and attributes."""

    op: str
    dtype: str
    device: str
    values: Mapping[str, Value]
    balance: Balance


def balance(
    program: ir.Program,
    machine: Machine,
    values: Mapping[str, Value],
    attribute: str,
    limits: tuple[int, int] | None = None,
    *,
    cost: TpcCostFunction,
    progress: Progress = lambda _: None,
) -> Balance:
    """Prices the program at values of `attribute`; `values` binds the rest. `limits` narrow the range of the contracts.

    DiagnosticError: E540 for a name that is no int attribute, E541 where contracts leave it without a range or no
    value is left, and what `choose` and `bind` raise.
    """
    low, high = attribute_range(program, values, attribute, limits)
    search = _Search(program, machine, values, attribute, cost, progress)
    tried = [v for v in _first(low, high) if search.allowed(v)]
    if not tried:
        raise _error(program, attribute, "E541", f"no value of {attribute} from {low} to {high} keeps the contracts")
    search.prepare([tried[0], tried[len(tried) // 2], tried[-1]])
    for value in tried:
        search.point(value)
    bound = search.refine() if high - low >= EXACT else None
    points = tuple(search.points[v] for v in sorted(search.points))
    return Balance(attribute, low, high, points, len(search.kept.plans), len(search.all.plans), bound)


def attribute_range(
    program: ir.Program, values: Mapping[str, Value], attribute: str, limits: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The least and the greatest value that the contracts on sizes and attributes leave at bound sizes.

    DiagnosticError as of `balance`.
    """
    ints = {a.name: a for a in program.attributes if a.type is DType.I32}
    if attribute not in ints:
        hint = did_you_mean(attribute, ints) or f"its int attributes are {', '.join(ints) or 'none'}"
        where = next((a.span for a in program.attributes if a.name == attribute), program.span)
        raise DiagnosticError((Diagnostic("E540", f"{program.name} has no int attribute {attribute}", where, hint),))
    known = _with_defaults(program, values, attribute)
    lows, highs = ([limits[0]], [limits[1]]) if limits is not None else (list[int](), list[int]())
    for contract in program.contracts:
        for p in _inequalities(contract):
            line = _line(p, attribute, known)
            if line is None or line[1] == 0:
                continue
            constant, factor = line
            if factor > 0:
                lows.append(-(constant // factor))
            else:
                highs.append(constant // -factor)
    if not lows or not highs:
        side = "least" if not lows else "greatest"
        hint = f"add a contract such as `where 0 <= {attribute} <= ...`, or give a range: --balance {attribute}=0..64"
        raise _error(program, attribute, "E541", f"no contract says what the {side} value of {attribute} is", hint)
    if max(lows) > min(highs):
        raise _error(program, attribute, "E541", f"no value of {attribute} keeps the contracts at these sizes")
    return max(lows), min(highs)


def _with_defaults(program: ir.Program, values: Mapping[str, Value], attribute: str) -> dict[str, Value]:
    """What contracts may use besides the attribute; a default that needs it, or has no value, is left out."""
    known = {k: v for k, v in values.items() if k != attribute}
    for a in program.attributes:
        if a.name in known or a.name == attribute or a.default is None:
            continue
        with suppress(sizes.EvaluationError, KeyError):
            known[a.name] = sizes.evaluate(a.default, known)
    return known


def _inequalities(contract: ir.Contract) -> list[affine.Polynomial]:
    if contract.on_values or contract.indices:
        return []
    cases = domains.cases(contract.condition)
    return domains.inequalities(cases[0]) if cases is not None and len(cases) == 1 else []


def _line(p: affine.Polynomial, attribute: str, known: Mapping[str, Value]) -> tuple[int, int] | None:
    """(constant, factor) of a polynomial of one attribute with everything else bound; None where it is no line."""
    constant, factor = 0, 0
    for monomial, coefficient in p.items():
        own = [isinstance(x, ir.Attr) and x.name == attribute for x in monomial]
        hidden = any(isinstance(y, ir.Attr) and y.name == attribute for x in monomial for y in ir.walk(x))
        if sum(own) > 1 or (hidden and not any(own)):
            return None
        rest = [x for x, is_own in zip(monomial, own, strict=True) if not is_own]
        try:
            value = coefficient
            for x in rest:
                value *= int(sizes.evaluate(x, known))
        except (sizes.EvaluationError, KeyError, TypeError):
            return None
        constant, factor = (constant, factor + value) if any(own) else (constant + value, factor)
    return constant, factor


def _error(program: ir.Program, attribute: str, id: str, message: str, hint: str = "") -> DiagnosticError:
    span = next(a.span for a in program.attributes if a.name == attribute)
    return DiagnosticError((Diagnostic(id, message, span, hint),))


def _first(low: int, high: int) -> list[int]:
    """All values of a short range, evenly spaced ones of a long one, ends included."""
    count = high - low
    if count < EXACT:
        return list(range(low, high + 1))
    parts = EXACT // 2
    return sorted({low + count * i // parts for i in range(parts + 1)})


class _Search:
    def __init__(
        self,
        program: ir.Program,
        machine: Machine,
        values: Mapping[str, Value],
        attribute: str,
        cost: TpcCostFunction,
        progress: Progress,
    ) -> None:
        self.program = program
        self.values = values
        self.attribute = attribute
        self.cost = cost
        self.progress = progress
        self.rate = mac_rate(machine, program.outputs[0].dtype)
        progress(f"plans of {program.name}")
        self.all = space(program, machine)
        self.kept: Space = self.all
        self.choices: dict[int, Choice] = {}
        self.points: dict[int, Point] = {}
        self.gaps: dict[tuple[int, int], float] = {}

    def allowed(self, value: int) -> bool:
        """Whether the contracts hold at it; a DiagnosticError about anything else is the caller's."""
        try:
            self.bound(value)
        except DiagnosticError as error:
            if {d.id for d in error.diagnostics} <= {"E310", "E317"}:
                return False
            raise
        return True

    def bound(self, value: int) -> Binding:
        return sizes.bind(self.program, {**self.values, self.attribute: value})

    def prepare(self, values: Sequence[int]) -> None:
        """Keep the plans that are among the best at one of the values."""
        labels: dict[str, None] = {}
        for value in dict.fromkeys(values):
            self.progress(f"{len(self.all.plans)} plans at {self.attribute} = {value}")
            choice = choose_among(self.all, self.bound(value), cost=self.cost, budget=_LOOKED_AT, thorough=True)
            ranked = [choice.plan.label, *(label for label, _ in choice.rejected)]
            labels |= dict.fromkeys(ranked[:_KEPT])
        self.kept = replace(self.all, plans=tuple(p for p in self.all.plans if p.label in labels))

    def point(self, value: int) -> Point:
        if value not in self.points:
            self.progress(f"{self.attribute} = {value}")
            choice = choose_among(
                self.kept, self.bound(value), cost=self.cost, budget=len(self.kept.plans), thorough=True
            )
            self.choices[value] = choice
            held = choice.price.busy
            mme, tpc, dma = (held.get(engine, 0.0) for engine in ("MME", "TPC", "DMA"))
            seconds, fits = choice.price.seconds, choice.price.fits
            self.points[value] = Point(value, choice.plan.label, seconds, mme, tpc, dma, fits, self._rule(choice))
        return self.points[value]

    def _rule(self, choice: Choice) -> tuple[float, float] | None:
        plans = {p.label: p for p in self.kept.plans}
        priced = [(choice.plan.label, choice.price), *choice.rejected]
        found = [x for label, cost in priced if (x := _pieces(plans[label], cost, self.rate)) is not None]
        return (min(x[0] for x in found), min(x[1] for x in found)) if found else None

    def refine(self) -> float:
        """Tries the middle of the stretch that could hold the fastest value until none can or the budget is spent; the
        least time that is still possible.
        """
        while True:
            values = sorted(self.points)
            best = min(p.seconds for p in self.points.values())
            open_gaps = [(self._least(a, b), a, b) for a, b in pairwise(values) if b - a > 1]
            least, a, b = min(open_gaps, default=(best, 0, 0))
            if least >= best or len(self.points) >= EXACT:
                return min(least, best)
            middle = next((v for v in _outward((a + b) // 2, a, b) if self.allowed(v)), None)
            if middle is None:
                return min(least, best)
            self.point(middle)

    def _least(self, a: int, b: int) -> float:
        """The busiest engine of a plan, each stage as fast as at the better end: of the plans chosen at both ends."""
        if (a, b) not in self.gaps:
            self.gaps[a, b] = min(_busiest(self._stages(v, a), self._stages(v, b)) for v in (a, b))
        return self.gaps[a, b]

    def _stages(self, chosen_at: int, value: int) -> Sequence[StagePrice]:
        plan = self.choices[chosen_at].plan
        return price(plan, self.all.machine, self.bound(value), self.cost).stages


def _outward(middle: int, low: int, high: int) -> list[int]:
    return sorted(range(low + 1, high), key=lambda v: (abs(v - middle), v))


def _busiest(one: Sequence[StagePrice], other: Sequence[StagePrice]) -> float:
    held: dict[str, float] = {}
    for a, b in zip(one, other, strict=True):
        held[a.engine] = held.get(a.engine, 0.0) + min(a.seconds, b.seconds)
    return max(held.values(), default=0.0)


def mac_rate(machine: Machine, dtype: DType) -> float:
    """Multiply-adds a second of all TPCs: one per lane and cycle (gaudi.md, section 1, vector peak)."""
    return machine.tpc.engines * machine.tpc.clock_hz * machine.tpc.vector_bytes / dtype.size


def _pieces(plan: Plan, cost: PlanPrice, rate: float) -> tuple[float, float] | None:
    """Seconds of the first of two pieces on the TPCs alone and of the second's matmuls, each of the stages that only
    its part of an output waits for; None where no output has two parts.
    """
    joined = [i for i, s in enumerate(plan.stages) if isinstance(s, CopyStage) and len(s.copy.pieces) == 2]
    outputs = {t.name for t in plan.program.outputs}
    last = next((i for i in joined if set(written(plan.stages[i])) & outputs), None)
    if last is None:
        return None
    stage = plan.stages[last]
    assert isinstance(stage, CopyStage)
    before = waits(plan)
    behind: list[frozenset[int]] = []
    for position in range(last):
        behind.append(frozenset({position}).union(*(behind[p] for p in before[position])))
    writer = {name: i for i, s in enumerate(plan.stages) for name in written(s)}
    first, second = (behind[writer[p.source]] if p.source in writer else frozenset[int]() for p in stage.copy.pieces)
    on_tpc = [cost.stages[i] for i in first - second]
    on_mme = [cost.stages[i] for i in second - first]
    macs = sum(s.macs for s in on_tpc)
    return (
        sum(s.seconds for s in on_tpc if s.engine == "TPC") + macs / rate,
        sum(s.seconds for s in on_mme if s.engine == "MME"),
    )
