"""Predicted cycles of a kernel from what its loops issue and how long their chains are.

A bundle issues one LOAD, one SPU, one VPU and one STORE operation; a move goes to VPU or LOAD, GEN_ADDR to LOAD or
STORE. x2 forms and MADD borrow an operand field of the STORE slot (probes.md 0), and the compiler puts no x2 form
beside a LD_TNSR. A block takes at least what the fullest set of slots does, and at least its longest chain
(latency.py). Where the two are close, the compiler's list schedule reaches neither; how far it stays off was fitted to
its assembly of the four specs (docs/kernels.md). Stalls on memory are not in here: a global vector access every 4
cycles is the machine model's business (machine/tpc.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tpcgen.diagnostics import NOWHERE
from tpcgen.kernel.coordinates import Plan, accesses, members, plan
from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.ir import (
    NARROWING,
    OPS,
    PIECE,
    ROUNDING,
    WIDENING,
    Broadcast,
    Invoke,
    Kernel,
    Lanes,
    Load,
    LocalLoad,
    LocalStore,
    Loop,
    Reg,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
    VectorOp,
    on_both_parts,
    walk,
)
from tpcgen.kernel.latency import critical_path
from tpcgen.kernel.lower import draft
from tpcgen.machine.model import Machine
from tpcgen.machine.tpc import TpcCost
from tpcgen.partition.plan import TpcStage
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Binary, Call, Expr, Index, Literal, Size, Unary, children, free_indices
from tpcgen.program.sizes import Value, evaluate

_Number = NDArray[np.float64]

_LOOP_BUNDLES = 2
"""Set-up and delay word of a hardware loop (toolchain.md 1.6)."""
_LINEAR_WIDEN_GAUDI, _LINEAR_NARROW_GAUDI = 9, 2
"""VPU words of a conversion in memory order on gaudi; gaudi2 does it while loading or storing."""
_DIVISION, _DIVISION_GAUDI = 8, 45
"""SPU operations of an integer division by a size: the words tpc-clang makes of one."""
_LOCAL_TURN = 2
"""Bundles from an iteration's last store to local memory to the next one's first load of it: what tpc-clang leaves."""
_SHORTEST_LOOP = 6
"""Bundles of a hardware loop whose body has fewer."""
_CLOSENESS = 3.3
"""Exponent of the mean of slots and chain: 1 would add them, infinity take the larger."""
_MOST_MEMBERS = 1 << 16
"""Of the members that differ, so many are evaluated; beyond, an even sample stands for all."""
_MOST_ITERATIONS = 64
"""Of a loop that bounds of loops in it depend on, so many are looked at one by one; of more, the middle one."""
_ASSUMED_TENSORS = 4
"""Of more tensors that bounds are read from, all are assumed to hold the same."""


class Slots(NamedTuple):
    """Operations by slot; `four` are those of `vpu` that also take the STORE slot, `x2` those of both parts at once;
    `tensor` are the LD_TNSR of `load`; `accesses`: global vectors moved. A `move` goes to VPU or LOAD, an `address`
    (GEN_ADDR) to LOAD or STORE.
    """

    vpu: float = 0
    four: float = 0
    x2: float = 0
    move: float = 0
    address: float = 0
    tensor: float = 0
    load: float = 0
    spu: float = 0
    store: float = 0
    accesses: float = 0

    @property
    def bundles(self) -> float:
        """Every set of slots has room for what can only go there."""
        stores = self.store + self.four
        return max(
            self.vpu,
            self.load,
            self.spu,
            stores,
            self.x2 + self.tensor,
            (self.vpu + self.load + self.move) / 2,
            (self.load + stores + self.address) / 2,
            (self.vpu + self.load + stores + self.move + self.address) / 3,
        )


def stage_cost(stage: TpcStage, machine: Machine, values: Mapping[str, Value]) -> TpcCost:
    """What the stage's kernel issues at bound sizes (a `TpcCostFunction` for partition.price).

    DiagnosticError where the stage cannot be lowered.
    """
    return kernel_cost(_draft(stage, machine.name), values)


@lru_cache(maxsize=256)
def _draft(stage: TpcStage, target: str) -> Kernel:
    """A kernel is the same at all sizes: tuning for several lowers it once."""
    return draft(stage, target)


@dataclass(frozen=True, slots=True)
class Run:
    """A loop of a kernel, the one over its members first: how often it is entered and passed, over all members."""

    loop: Loop
    entered: float
    iterations: float


def runs(kernel: Kernel, values: Mapping[str, Value]) -> tuple[Run, ...]:
    """Loops in text order, each before those inside it; `values` has the sizes and attributes of the kernel's stage.

    Bounds that depend on an outer loop's variable are those of each of its iterations, of the middle one where there
    are many. Where bounds are read from tensors, each holds 0 or the largest extent there is, whichever makes the
    kernel issue most.
    """
    return _dearest(kernel, values)[0]


def _dearest(kernel: Kernel, values: Mapping[str, Value]) -> tuple[tuple[Run, ...], float]:
    """Loops, and the bundles that they issue."""
    extents = [int(evaluate(d.extent, values)) for d in kernel.index_space]
    scope = {name: np.full(1, float(v)) for name, v in values.items()}
    scope |= _coordinates(kernel, extents) if prod(extents) else {d.name: np.zeros(1) for d in kernel.index_space}
    found = [_runs(kernel, extents, scope, held) for held in _assumptions(kernel, values)]
    each = [iteration_bundles(kernel, r.loop) for r in found[0]]
    return max(((r, _bundles(r, each)) for r in found), key=lambda x: x[1])


def _assumptions(kernel: Kernel, values: Mapping[str, Value]) -> Iterator[Mapping[str, float]]:
    """What an element of each tensor that loop bounds may depend on holds."""
    bound = _bound_names(kernel.body)
    loaded = [s for s in (*kernel.setup, *walk(kernel.body)) if isinstance(s, ScalarLoad) and s.name in bound]
    tensors = list(dict.fromkeys(s.tensor for s in loaded))
    largest = float(max((evaluate(size, values) for t in kernel.tensors for size in t.sizes), default=0))
    if len(tensors) > _ASSUMED_TENSORS:
        yield from (dict.fromkeys(tensors, held) for held in (0.0, largest))
        return
    for held in product((0.0, largest), repeat=len(tensors)):
        yield dict(zip(tensors, held, strict=True))


def _members(kernel: Kernel) -> Loop:
    """The loop around the body, one of a single pass where there is none."""
    if kernel.outer_dims:
        return members(kernel, kernel.outer_dims[-1])
    return Loop("piece", Literal(0, DType.I32), Literal(1, DType.I32), 1, kernel.body)


def _runs(
    kernel: Kernel, extents: Sequence[int], outer: Mapping[str, _Number], held: Mapping[str, float]
) -> tuple[Run, ...]:
    count, along = prod(extents), extents[0]
    scope = dict(outer)
    for s in kernel.setup:
        match s:
            case ScalarLet():
                scope[s.name] = _number(s.value, scope)
            case ScalarLoad():
                scope[s.name] = _loaded(s, held)
            case _:
                pass
    everything = _members(kernel)
    if kernel.member is not None:
        scope |= dict(zip(PIECE, (np.zeros(1), np.full(1, float(along))), strict=True))
        count //= max(along, 1)
    inside = _inside(everything.body, scope, np.ones(1), held)
    return (
        Run(everything, 1, count),
        *(Run(loop, float(np.mean(entered)) * count, float(np.mean(often)) * count) for loop, entered, often in inside),
    )


def _loaded(s: ScalarLoad, held: Mapping[str, float]) -> _Number:
    return np.full(1, held.get(s.tensor, 0.0))


def kernel_cost(kernel: Kernel, values: Mapping[str, Value]) -> TpcCost:
    """Totals over all members; `values` as in `runs`."""
    _fits_local_memory(kernel, values)
    found, bundles = _dearest(kernel, values)
    moved = sum(r.iterations * block_slots(kernel, r.loop.body).accesses for r in found)
    grain = prod(int(evaluate(d.extent, values)) for d in kernel.index_space)
    return TpcCost(bundles, moved, grain, "schedule estimate")


def _bundles(found: Sequence[Run], each: Sequence[float]) -> float:
    """`each`: those of one iteration of each loop."""
    entered = sum(r.entered for r in found[1:])
    return entered * _LOOP_BUNDLES + sum(r.iterations * one for r, one in zip(found, each, strict=True))


def _fits_local_memory(kernel: Kernel, values: Mapping[str, Value]) -> None:
    for a in kernel.arrays:
        used = int(evaluate(a.used, values))
        if used > a.rows:
            message = f"a state of {used} rows does not fit local memory, which has room for {a.rows}"
            raise not_lowered("E428", message, NOWHERE)


def _coordinates(kernel: Kernel, extents: Sequence[int]) -> dict[str, _Number]:
    """First elements of the members, only along the dims that loop bounds depend on, broadcast against each other."""
    used = _bound_names(kernel.body)
    varying = [n for n, d in enumerate(kernel.index_space) if d.name in used and extents[n] > 1]
    most = int(_MOST_MEMBERS ** (1 / max(1, len(varying))))
    result: dict[str, _Number] = {}
    for n, dim in enumerate(kernel.index_space):
        if n not in varying:
            result[dim.name] = np.zeros(1)
            continue
        count = min(extents[n], most)
        first = np.floor((np.arange(count) + 0.5) * extents[n] / count) * dim.step
        others = [axis for axis in range(len(varying)) if axis != varying.index(n)]
        result[dim.name] = np.expand_dims(first, others)
    return result


def _bound_names(statements: Sequence[Statement]) -> frozenset[str]:
    used: set[str] = set()
    for s in walk(tuple(statements)):
        if isinstance(s, Loop):
            used |= free_indices(s.low) | free_indices(s.high)
        if isinstance(s, ScalarLet):
            used |= free_indices(s.value)
    return frozenset(used)


def _inside(
    statements: Sequence[Statement], scope: Mapping[str, _Number], often: _Number, held: Mapping[str, float]
) -> Iterator[tuple[Loop, _Number, _Number]]:
    """Loops in a block that is passed `often` times per member: how often each is entered and passed."""
    inner = dict(scope)
    for s in statements:
        match s:
            case ScalarLet():
                inner[s.name] = _number(s.value, inner)
            case ScalarLoad():
                inner[s.name] = _loaded(s, held)
            case Loop():
                low, high = _number(s.low, inner), _number(s.high, inner)
                trips = np.maximum(0, np.ceil((high - low) / s.step))
                iterations = often * trips
                yield s, often, iterations
                most = int(np.max(trips))
                if (
                    1 < most <= _MOST_ITERATIONS
                    and most * trips.size <= _MOST_MEMBERS
                    and s.var in _bound_names(s.body)
                ):
                    yield from _each(s, most, low, trips, inner, often, held)
                    continue
                inner[s.var] = low + s.step * np.maximum(0, trips - 1) / 2
                yield from _inside(s.body, inner, iterations, held)
            case _:
                pass


def _each(
    loop: Loop,
    most: int,
    low: _Number,
    trips: _Number,
    scope: Mapping[str, _Number],
    often: _Number,
    held: Mapping[str, float],
) -> Iterator[tuple[Loop, _Number, _Number]]:
    """As `_inside` of the body, every iteration with its own bounds: along a new last axis, then added up."""
    number = np.arange(most)
    inner = {name: value[..., None] for name, value in scope.items()}
    inner[loop.var] = low[..., None] + loop.step * number
    passed = often[..., None] * (number < trips[..., None])
    for found, entered, iterations in _inside(loop.body, inner, passed, held):
        yield found, np.sum(entered, axis=-1), np.sum(iterations, axis=-1)


def iteration_bundles(kernel: Kernel, loop: Loop) -> float:
    """What one iteration takes, loops inside it left out."""
    if any(isinstance(s, Loop) for s in loop.body):
        return block_bundles(kernel, [s for s in loop.body if not isinstance(s, Loop)])
    return loop_bundles(kernel, loop)


def block_bundles(kernel: Kernel, statements: Sequence[Statement]) -> float:
    """What one pass of a block takes, loops inside it left out; its coordinates are at hand."""
    return _both(block_slots(kernel, statements), critical_path(kernel, statements))


def loop_bundles(kernel: Kernel, loop: Loop) -> float:
    """What one iteration of a loop without loops inside takes."""
    moving = plan(kernel, loop)
    slots = _loop_slots(kernel, loop, moving)
    kinds = {type(s) for s in loop.body}
    turn = _LOCAL_TURN if {LocalLoad, LocalStore} <= kinds else 0
    return max(_SHORTEST_LOOP, turn + _both(slots, critical_path(kernel, loop.body, loop.var, moving.uses)))


def loop_slots(kernel: Kernel, loop: Loop) -> Slots:
    """What one iteration of a loop without loops inside issues. Accesses at one place share a coordinate, which takes
    one step for all of them.
    """
    return _loop_slots(kernel, loop, plan(kernel, loop))


def _loop_slots(kernel: Kernel, loop: Loop, moving: Plan) -> Slots:
    stepped = sum(len(steps) for m in moving.moving for steps in m.advances.values())
    shared = Slots(spu=stepped - len(moving.uses))
    return _sum(Counter((block_slots(kernel, loop.body), shared, _built(kernel, loop, moving.uses))))


def _both(slots: Slots, chain: float) -> float:
    return (slots.bundles**_CLOSENESS + chain**_CLOSENESS) ** (1 / _CLOSENESS)


def _built(kernel: Kernel, loop: Loop, carried: Container[int]) -> Slots:
    """Coordinates that an iteration builds: a copy of the others', arithmetic and SET_INDX of those that vary."""
    places = [c for s in loop.body for c in accesses(kernel, s)]
    varying = {loop.var, *(s.name for s in loop.body if isinstance(s, ScalarLet | ScalarLoad))}
    total = 0
    for coords in dict.fromkeys(c for n, c in enumerate(places) if n not in carried):
        total += sum(_operations(kernel, c, varying) for c in coords)
        total += sum(1 for c in coords if free_indices(c) & varying)
    return Slots(spu=total)


def _operations(kernel: Kernel, e: Expr, varying: Set[str]) -> float:
    """Of what varies, and divisions: the compiler leaves them in the loop."""
    inner = sum(_operations(kernel, x, varying) for x in children(e))
    match e:
        case Binary(operator="//" | "%") if not isinstance(e.right, Literal):
            return inner + (_DIVISION_GAUDI if kernel.target == "gaudi" else _DIVISION)
        case Binary() | Call() | Unary() if free_indices(e) & varying:
            return inner + 1
        case _:
            return inner


def block_slots(kernel: Kernel, statements: Sequence[Statement]) -> Slots:
    """What one pass of a block issues, loops inside it left out."""
    issued = Counter(_slots(kernel, s) for s in statements)
    conditions = {s.left for s in statements if isinstance(s, Broadcast) and s.left is not None}
    issued[Slots(spu=1)] += len(conditions)
    for name, often in Counter(s.function for s in statements if isinstance(s, Invoke)).items():
        issued[block_slots(kernel, kernel.function(name).body)] += often
    return _sum(issued)


def _sum(issued: Counter[Slots]) -> Slots:
    """Few statements of a block differ in what they issue."""
    return Slots(*(sum(often * slots[n] for slots, often in issued.items()) for n in range(len(Slots._fields))))


def _slots(kernel: Kernel, s: Statement) -> Slots:
    """Of what is no call."""
    match s:
        case VectorOp():
            return _vector_slots(kernel, s)
        case Load():
            parts = s.dest.parts
            return Slots(load=parts, tensor=parts, spu=parts, accesses=parts)
        case Broadcast() | ScalarLoad():
            return Slots(load=1, address=1, spu=1)
        case Store():
            count = 1 if s.value.type.widens or s.single else kernel.lanes.parts
            return Slots(store=count, spu=count, accesses=count)
        case LocalLoad():
            return Slots(load=s.dest.parts, spu=s.dest.parts)
        case LocalStore():
            return Slots(store=s.value.parts, spu=s.value.parts)
        case ScalarLet():
            return Slots(spu=1)
        case _:
            return Slots()


def _vector_slots(kernel: Kernel, s: VectorOp) -> Slots:
    info = OPS[s.op]
    modern = kernel.target != "gaudi"
    if s.op in (*WIDENING, *NARROWING):
        (source,) = s.args
        uniform = isinstance(source, Reg) and source.uniform
        if kernel.lanes is Lanes.LINEAR and not modern and not uniform:
            return Slots(vpu=_LINEAR_WIDEN_GAUDI if s.op in WIDENING else _LINEAR_NARROW_GAUDI)
        return Slots(vpu=1 if modern or s.op in WIDENING else 2)
    if s.op in ROUNDING and s.dest.parts == 2:
        return Slots(vpu=2 if modern else 3)
    if s.op in ("bmul", "bmac"):
        return Slots(vpu=1)
    if s.op == "widen_add":
        return Slots(vpu=1, four=1)
    if s.op in ("mov", "imov", "bmov"):
        return Slots(move=s.dest.parts)
    if on_both_parts(s, kernel.target):
        return Slots(vpu=1, four=1, x2=1)
    four = s.dest.parts if modern and s.op in ("madd", "nmadd") and s.pred is None else 0
    return Slots(vpu=info.vpu * s.dest.parts, four=four)


def _number(e: Expr, scope: Mapping[str, _Number]) -> _Number:
    match e:
        case Literal():
            return np.full(1, float(e.value))
        case Index() | Size() | Attr():
            return np.asarray(scope[e.name], dtype=np.float64)
        case Unary(operator="-"):
            return -_number(e.operand, scope)
        case Call(function="min" | "max"):
            a, b = (_number(x, scope) for x in e.arguments)
            return np.minimum(a, b) if e.function == "min" else np.maximum(a, b)
        case Binary():
            a, b = _number(e.left, scope), _number(e.right, scope)
            match e.operator:
                case "+":
                    return a + b
                case "-":
                    return a - b
                case "*":
                    return a * b
                case "//":
                    return np.floor(a / b)
                case "%":
                    return np.mod(a, b)
                case _:
                    pass
        case _:
            pass
    raise TypeError(f"not an integer expression of a kernel: {e}")
