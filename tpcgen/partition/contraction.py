"""A contraction as the MME sees it: factors, and the memory orders in which they make one batched matmul.

A grouped-query read `K[b, h // R, k, d]` splits h into factors h.g (extent of K's axis) and h.r (extent R):
h = h.g * R + h.r. K lacks h.r, which joins the rows of the other operand: no copy of K.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from tpcgen.diagnostics import Diagnostic
from tpcgen.partition.plan import Factor, MmeStage, Operand
from tpcgen.program import affine, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.rewrite.edit import conjuncts
from tpcgen.rewrite.split_contractions import matmul_of

Order = tuple[int, ...]


class NotAMatmulError(Exception):
    """The MME cannot run it; `diagnostic` says why."""

    def __init__(self, message: str, node: ir.Node, hint: str = "") -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic("E407", message, node.span, hint)


@dataclass(frozen=True, slots=True)
class Loops:
    """Groups of factors of one matmul, outer to inner; `rows` belong to the operand `row_side` (0 left, 1 right)."""

    batch: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_side: int
    broadcast: int


@dataclass(frozen=True)
class Matmul:
    """`operands` are the left one, the right one and the result."""

    factors: tuple[Factor, ...]
    operands: tuple[Operand, Operand, Operand]
    summed: frozenset[str]

    def loops(self, out_order: Order) -> list[Loops]:
        """How the result's memory divides into (batch, m, n), the most rows first; empty where it does not.

        Rows that are left to the batch are broadcast: the other operand lacks them.
        """
        memory = memory_factors(self.operands[2], out_order)
        if not memory:
            return [Loops((), (), (), 0, 0)]
        owners = [self._owner(f) for f in memory]
        columns = owners[-1]
        if columns is None:
            return []
        rows = 1 - columns
        start = _run(owners, len(owners), columns)
        first = _run(owners, start, rows)
        if first == start and rows in owners:
            return []
        return [
            Loops(memory[:m], memory[m:start], memory[start:], rows, sum(o is not None for o in owners[:m]))
            for m in range(first, max(start, first + 1))
        ]

    def out_order(self, wanted: Order) -> Order | None:
        """A legal memory order of the result: the one wanted, else the one that broadcasts least and is closest to the
        program's. Not one that leaves only the queries of a key head as rows: moving the result costs less.
        """
        loops = self.loops(wanted)
        if loops and not all(map(_is_part, loops[0].rows)):
            return wanted
        legal = [(order, loops[0]) for order in _orders(self.operands[2]) if (loops := self.loops(order))]
        enough = [x for x in legal if not all(map(_is_part, x[1].rows))] or legal
        orders = [order for order, _ in sorted(enough, key=lambda x: x[1].broadcast)]
        return wanted if wanted in orders else next(iter(orders), None)

    def operand_orders(self, side: int, loops: Loops) -> list[Order]:
        """Legal memory orders of an operand for given loops, closest to the program's order first."""
        return [o for o in _orders(self.operands[side]) if self.fits(side, o, loops)]

    def fits(self, side: int, order: Order, loops: Loops) -> bool:
        """Whether an operand in this memory order is (batch, own, summed) or (batch, summed, own), all views."""
        memory = memory_factors(self.operands[side], order)
        batch = tuple(f for f in loops.batch if f in memory)
        own = loops.rows if side == loops.row_side else loops.columns
        rest = memory[len(batch) :]
        if memory[: len(batch)] != batch:
            return False
        summed = tuple(f for f in rest if f in self.summed)
        return rest in ((*own, *summed), (*summed, *own)) and summed == self.summed_order(loops)

    def summed_order(self, loops: Loops) -> tuple[str, ...]:
        """The summed factors in the order of the left operand's program order: both operands must share one."""
        return tuple(f for axis in self.operands[0].axes for f in axis if f in self.summed)

    def _owner(self, factor: str) -> int | None:
        """The only operand that has a factor; None for both."""
        left, right = (any(factor in axis for axis in self.operands[side].axes) for side in (0, 1))
        return None if left and right else (0 if left else 1)

    def stage(self, name: str, program: ir.Program, buffers: tuple[str, str, str], loops: Loops) -> MmeStage:
        """The stage with `buffers` in place of the operands' tensors."""
        sides = [Operand(b, o.axes) for b, o in zip(buffers, self.operands, strict=True)]
        rows, columns = sides[loops.row_side], sides[1 - loops.row_side]
        return MmeStage(
            name,
            program,
            self.factors,
            loops.batch,
            loops.rows,
            loops.columns,
            self.summed_order(loops),
            rows,
            columns,
            sides[2],
        )


def matmul(equation: ir.Equation, program: ir.Program) -> Matmul:
    """The matmul an equation is. NotAMatmulError where its reads are not whole axes, quotients or remainders."""
    found = matmul_of(equation, program)
    assert found is not None and isinstance(found.left, ir.Read) and isinstance(found.right, ir.Read)
    out = ir.Read(equation.target, tuple(ir.Index(i) for i in equation.indices), program.tensor(equation.target).dtype)
    reads = (found.left, found.right, out)
    factors = list[Factor]()
    parts: dict[str, tuple[str, ...]] = {}
    splits: dict[str, tuple[ir.Expr, str, str]] = {}
    for r in program.indices:
        if not any(r.name in ir.free_indices(read) for read in reads):
            continue
        made, split = _factors(r, reads, program)
        factors += made
        parts[r.name] = tuple(f.name for f in made)
        if split is not None:
            splits[r.name] = (split, made[0].name, made[1].name)
    left, right, result = (_operand(read, parts, splits, program) for read in reads)
    summed = frozenset(f for i in found.summed for f in parts[i])
    for operand, read in ((left, found.left), (right, found.right)):
        if not summed <= {f for axis in operand.axes for f in axis}:
            raise NotAMatmulError(f"{read.tensor} lacks a part of a summed index", read)
    return Matmul(tuple(factors), (left, right, result), summed)


def _is_part(factor: str) -> bool:
    return "." in factor


def memory_factors(operand: Operand, order: Order) -> tuple[str, ...]:
    """Factors of an operand from slowest to fastest in memory."""
    return tuple(f for axis in order for f in operand.axes[axis])


def _factors(r: ir.IndexRange, reads: Iterable[ir.Read], program: ir.Program) -> tuple[list[Factor], ir.Expr | None]:
    if not affine.equal(r.low, ir.Literal(0, DType.I32)):
        raise NotAMatmulError(
            f"a contraction over a part of an axis is not lowered yet: {r.name} starts at another index than 0", r
        )
    uses = [(read, axis, e) for read in reads for axis, e in enumerate(read.indices) if r.name in ir.free_indices(e)]
    divided = [(read, axis, e) for read, axis, e in uses if isinstance(e, ir.Binary)]
    if not divided:
        return [Factor(r.name, r.high)], None
    read, _, e = divided[0]
    divisor = e.right
    if any(not affine.equal(x.right, divisor) for _, _, x in divided):
        raise NotAMatmulError(f"{r.name} is divided by two different sizes in one contraction: not lowered yet", read)
    groups = _groups(r, divided, divisor, program)
    if groups is None or not _exact(r.high, groups, divisor, program):
        raise NotAMatmulError(
            f"the index {text(e)} of {read.tensor} does not split {r.name} evenly as far as the contracts say",
            e,
            f"add a contract: {text(r.high)} % {text(divisor)} == 0",
        )
    return [Factor(f"{r.name}.g", groups), Factor(f"{r.name}.r", divisor)], divisor


def _groups(
    r: ir.IndexRange, divided: Sequence[tuple[ir.Read, int, ir.Binary]], divisor: ir.Expr, program: ir.Program
) -> ir.Expr | None:
    """Extent of the outer factor: the axis that the quotient runs along, else the range divided."""
    for read, axis, e in divided:
        if e.operator == "//":
            return program.tensor(read.tensor).shape[axis]
    return ir.Binary("//", r.high, divisor)


def _exact(whole: ir.Expr, groups: ir.Expr, divisor: ir.Expr, program: ir.Program) -> bool:
    """whole == groups * divisor, from the algebra or from a contract `whole % groups == 0` (or `% divisor`)."""
    if affine.equal(whole, ir.Binary("*", groups, divisor)):
        return True
    for one, other in ((groups, divisor), (divisor, groups)):
        if affine.equal(other, ir.Binary("//", whole, one)) and _divides(one, whole, program):
            return True
    return False


def _divides(divisor: ir.Expr, whole: ir.Expr, program: ir.Program) -> bool:
    rest = affine.polynomial(ir.Binary("%", whole, divisor))
    zero = affine.constant(0)
    for contract in program.contracts:
        for c in conjuncts(contract.condition):
            if isinstance(c, ir.Binary) and c.operator == "==" and ir.type_of(c.left) is DType.I32:
                sides = [affine.polynomial(c.left), affine.polynomial(c.right)]
                if sides in ([rest, zero], [zero, rest]):
                    return True
    return rest == zero


def _operand(
    read: ir.Read,
    parts: Mapping[str, tuple[str, ...]],
    splits: Mapping[str, tuple[ir.Expr, str, str]],
    program: ir.Program,
) -> Operand:
    axes: list[tuple[str, ...]] = []
    for axis, e in enumerate(read.indices):
        extent = program.tensor(read.tensor).shape[axis]
        match e:
            case ir.Index():
                if not affine.equal(extent, program.range_of(e.name).high):
                    raise NotAMatmulError(
                        f"a contraction over a part of axis {axis} of {read.tensor} is not lowered yet", read
                    )
                axes.append(parts[e.name])
            case ir.Binary(operator="//" | "%", left=ir.Index(name=name)):
                _, outer, inner = splits[name]
                axes.append((outer,) if e.operator == "//" else (inner,))
            case _:
                raise NotAMatmulError(f"the index {text(e)} of a contraction's operand is not lowered yet", e)
    flat = [f for axis in axes for f in axis]
    if len(set(flat)) < len(flat):
        raise NotAMatmulError(f"a contraction along a diagonal of {read.tensor} is not lowered yet", read)
    return Operand(read.tensor, tuple(axes))


def _orders(operand: Operand) -> list[Order]:
    return list(permutations(range(len(operand.axes))))


def _run(owners: list[int | None], end: int, owner: int) -> int:
    start = end
    while start > 0 and owners[start - 1] == owner:
        start -= 1
    return start
