"""Groups and lane choices -> a plan: memory orders, moves where orders clash, stages with programs of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpcgen.diagnostics import Diagnostic, DiagnosticError
from tpcgen.partition.contraction import Loops, Matmul, NotAMatmulError, Order, matmul
from tpcgen.partition.groups import Group, names
from tpcgen.partition.plan import Buffer, CopyStage, MoveStage, Plan, Stage, TpcStage
from tpcgen.partition.subprogram import subprogram
from tpcgen.program import ir
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.copies import copy_of
from tpcgen.rewrite.support import Supports, UndeterminedError


class Assembler:
    """Makes the plans of one normal form: they differ in their lanes; what does not depend on those is done once.

    `source` is the op as written, `program` its normal form.

    DiagnosticError (E407) for contractions that are no matmul.
    """

    def __init__(self, source: ir.Program, program: ir.Program, groups: Sequence[Group], target: str) -> None:
        self._source, self._program, self._groups, self._target = source, program, tuple(groups), target
        self._shapes = _matmuls(program, groups)
        self._notes = _notes(program, groups)
        self._pieces = _Pieces(program)

    def plan(self, lanes: Mapping[int, str | None], label: str, fused: int = 0) -> Plan:
        """`lanes`: the lane of each TPC group by position; `fused`: how many keys the kernel of an attention takes at
        a time. DiagnosticError (E407) where a contraction is no batched matmul whatever the layout.
        """
        builder = _Builder(self._program, self._groups, lanes, self._shapes, self._pieces, fused)
        builder.run()
        buffers, stages = tuple(builder.buffers.values()), tuple(builder.stages)
        return Plan(self._source, self._target, label, buffers, stages, self._notes)


class _Pieces:
    """Programs of stages: those whose buffers and memory orders are the same in two plans are one program."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        self._made: dict[tuple[object, ...], ir.Program] = {}

    def of(self, group: Group, name: str, names: Mapping[str, str], orders: Mapping[str, Order]) -> ir.Program:
        key = (name, tuple(names.items()), tuple(orders.items()))
        if key not in self._made:
            self._made[key] = subprogram(self._program, group.statements, name, orders, names, group.local)
        return self._made[key]


def _matmuls(program: ir.Program, groups: Sequence[Group]) -> dict[int, Matmul]:
    """The matmul of each MME group by position."""
    found: list[Diagnostic] = []
    result: dict[int, Matmul] = {}
    for position, group in enumerate(groups):
        if group.engine == "mme":
            try:
                result[position] = matmul(group.equations[0], program)
            except NotAMatmulError as problem:
                found.append(problem.diagnostic)
    if found:
        raise DiagnosticError(tuple(found))
    return result


def _notes(program: ir.Program, groups: Sequence[Group]) -> tuple[str, ...]:
    """What a plan of these groups does not do as the language says: rows that share a matmul share its NaNs."""
    found: list[str] = []
    supports = Supports(program)
    for group in groups:
        if group.engine == "attention":
            found.append(_note_of_attention(group))
        if group.engine != "mme":
            continue
        value = group.equations[0].value
        if not isinstance(value, ir.Reduce) or not isinstance(value.body, ir.Binary):
            continue
        sides = (value.body.left, value.body.right)
        for partial, other in (sides, sides[::-1]):
            if isinstance(partial, ir.Read) and isinstance(other, ir.Read) and _partial(supports, partial):
                found.append(
                    f"{group.equations[0].target}: {partial.tensor} is 0 where it is absent and the MME multiplies "
                    f"those zeros too, so a NaN or inf in {other.tensor} reaches every row of its batch, visited or not"
                )
    return tuple(found)


def _note_of_attention(group: Group) -> str:
    _, weights, values = group.equations
    tensors = sorted({x.tensor for x in ir.walk(values.value) if isinstance(x, ir.Read)} - {weights.target})
    return (
        f"{values.target}: weights of keys that a row does not visit are 0 and multiplied too, so a NaN or inf in "
        f"{' or '.join(tensors)} reaches every row of its kernel's block of 128, visited or not"
    )


def _partial(supports: Supports, e: ir.Read) -> bool:
    """Whether the tensor may be absent somewhere; it may where nobody can say."""
    try:
        return supports.of(e).where is not None
    except UndeterminedError:
        return True


@dataclass
class _Builder:
    program: ir.Program
    groups: Sequence[Group]
    lanes: Mapping[int, str | None]
    shapes: Mapping[int, Matmul]
    pieces: _Pieces
    fused: int
    buffers: dict[str, Buffer] = field(default_factory=dict[str, Buffer])
    stages: list[Stage] = field(default_factory=list[Stage])

    def __post_init__(self) -> None:
        self.names = FreshNames()
        self.names.reserve(t.name for t in self.program.tensors)
        self.names.reserve([*self.program.sizes, *(a.name for a in self.program.attributes)])
        self.stage_names = FreshNames()
        self.own_names = names(tuple(self.groups))
        self.stage_names.reserve(self.own_names)

    def run(self) -> None:
        for tensor in (*self.program.inputs, *self.program.outputs):
            self._buffer(tensor, tensor.name, _identity(tensor), tensor.role)
        for position, group in enumerate(self.groups):
            match group.engine:
                case "mme":
                    self._mme(position, group)
                case "copy":
                    self._copy(position, group)
                case "tpc" | "scan" | "attention":
                    self._tpc(position, group)

    def _buffer(self, tensor: ir.Tensor, name: str, order: Order, role: ir.Role) -> None:
        self.buffers[name] = Buffer(name, tensor.shape, tensor.dtype, order, role)

    def _tpc(self, position: int, group: Group) -> None:
        lane = self.lanes[position]
        buffers: dict[str, str] = {}
        orders: dict[str, Order] = {}
        for tensor, indices in _accesses(group):
            if tensor in group.writes or tensor in buffers:
                continue
            buffers[tensor] = self._at(tensor, self._wanted(tensor, indices, lane))
        afterwards: list[Stage] = []
        for e in group.equations:
            if e.target not in group.targets:
                continue
            tensor = self.program.tensor(e.target)
            order = self._wanted(e.target, tuple(ir.Index(i) for i in e.indices), lane)
            buffers[e.target] = self._made(tensor, order, afterwards)
        for buffer in buffers.values():
            orders[buffer] = self.buffers[buffer].order
        name = self.own_names[position]
        piece = self.pieces.of(group, name, buffers, orders)
        tile = self.fused if group.engine == "attention" else 0
        self.stages += [TpcStage(name, piece, lane or "", tile), *afterwards]

    def _copy(self, position: int, group: Group) -> None:
        target = group.targets[0]
        tensor = self.program.tensor(target)
        afterwards: list[Stage] = []
        order = _identity(tensor) if tensor.role is ir.Role.OUTPUT else self._reader_order(position, target)
        names = {name: self._at(name, None) for name in group.reads} | {target: self._made(tensor, order, afterwards)}
        piece = self.pieces.of(group, self.own_names[position], names, {})
        copy = copy_of([e for e in piece.body if isinstance(e, ir.Equation)], piece)
        assert copy is not None, piece
        self.stages += [CopyStage(self.own_names[position], piece, copy), *afterwards]

    def _wanted(self, tensor: str, indices: tuple[ir.Expr, ...], lane: str | None) -> Order | None:
        """The order with the lane fastest and the other axes as in the program; None where it has no such axis."""
        axes = [a for a, e in enumerate(indices) if lane is not None and lane in ir.free_indices(e)]
        if not axes:
            return None
        return (*(a for a in range(len(indices)) if a != axes[-1]), axes[-1])

    def _mme(self, position: int, group: Group) -> None:
        equation = group.equations[0]
        shape = self.shapes[position]
        tensor = self.program.tensor(equation.target)
        wanted = self._reader_order(position, equation.target) or _identity(tensor)
        order = shape.out_order(wanted)
        if order is None:
            problem = NotAMatmulError(f"no layout makes {equation.target} one batched matmul", equation)
            raise DiagnosticError((problem.diagnostic,))
        loops = self._best_loops(shape, order)
        sides = [self._operand(shape, s, loops, equation) for s in (0, 1)]
        afterwards: list[Stage] = []
        out = self._made(tensor, order, afterwards)
        name = self.own_names[position]
        names = {equation.target: out, shape.operands[0].buffer: sides[0], shape.operands[1].buffer: sides[1]}
        piece = self.pieces.of(group, name, names, {})
        self.stages += [shape.stage(name, piece, (sides[0], sides[1], out), loops), *afterwards]

    def _best_loops(self, shape: Matmul, order: Order) -> Loops:
        """The division with the fewest operands to move, then the least broadcasting."""

        return min(shape.loops(order), key=lambda loops: sum(self._ready(shape, s, loops) is None for s in (0, 1)))

    def _ready(self, shape: Matmul, side: int, loops: Loops) -> str | None:
        """A buffer that holds an operand in an order that will do."""
        places = self._places(shape.operands[side].buffer)
        return next((name for name in places if shape.fits(side, self.buffers[name].order, loops)), None)

    def _reader_order(self, position: int, tensor: str) -> Order | None:
        """The order the first TPC reader of an intermediate wants."""
        for later, group in enumerate(self.groups[position + 1 :], position + 1):
            if group.engine not in ("tpc", "scan", "attention") or tensor not in group.reads:
                continue
            for name, indices in _accesses(group):
                if name == tensor:
                    return self._wanted(tensor, indices, self.lanes[later])
        return None

    def _made(self, tensor: ir.Tensor, order: Order | None, afterwards: list[Stage]) -> str:
        """The buffer a stage writes; an output of the op in another order than its own is written beside and moved."""
        order = order if order is not None else _identity(tensor)
        if tensor.role is ir.Role.INTERMEDIATE:
            self._buffer(tensor, tensor.name, order, ir.Role.INTERMEDIATE)
            return tensor.name
        if order == self.buffers[tensor.name].order:
            return tensor.name
        beside = self.names.fresh(f"{tensor.name}_t")
        self._buffer(tensor, beside, order, ir.Role.INTERMEDIATE)
        afterwards.append(MoveStage(self.stage_names.fresh(f"move_{tensor.name.lower()}"), beside, tensor.name))
        return beside

    def _operand(self, shape: Matmul, side: int, loops: Loops, equation: ir.Equation) -> str:
        ready = self._ready(shape, side, loops)
        if ready is not None:
            return ready
        tensor = shape.operands[side].buffer
        orders = shape.operand_orders(side, loops)
        if not orders:
            problem = NotAMatmulError(f"no layout of {tensor} makes one batched matmul", equation)
            raise DiagnosticError((problem.diagnostic,))
        return self._at(tensor, orders[0])

    def _at(self, tensor: str, order: Order | None) -> str:
        """A buffer that holds a tensor in an order, moved there if none does yet."""
        have = self._places(tensor)
        if order is None:
            return have[0]
        for name in have:
            if self.buffers[name].order == order:
                return name
        copy = self.names.fresh(f"{tensor}_t")
        original = self.buffers[have[0]]
        self.buffers[copy] = replace(original, name=copy, order=order, role=ir.Role.INTERMEDIATE)
        self.stages.append(MoveStage(self.stage_names.fresh(f"move_{tensor.lower()}"), have[0], copy))
        return copy

    def _places(self, tensor: str) -> list[str]:
        """Buffers that hold a tensor by now: itself, then its copies."""
        copies = [s.target for s in self.stages if isinstance(s, MoveStage) and s.source == tensor]
        return [tensor, *copies]


def _accesses(group: Group) -> list[tuple[str, tuple[ir.Expr, ...]]]:
    """Tensors a group reads, with their indices, in text order."""
    updates = [u for s in group.statements if isinstance(s, ir.Scan) for u in (*s.body, *s.states)]
    sides = [s for e in group.equations for s in (e.domain, e.value) if s is not None]
    for u in updates:
        match u:
            case ir.Update():
                sides += [s for s in (u.domain, u.value) if s is not None]
            case ir.StateInit():
                sides.append(u.initial)
            case ir.Equation():
                pass
    own = group.writes | group.local
    reads = [x for s in sides for x in ir.walk(s) if isinstance(x, ir.Read)]
    return [(x.tensor, x.indices) for x in reads if x.tensor not in own]


def _identity(tensor: ir.Tensor) -> Order:
    return tuple(range(len(tensor.shape)))
