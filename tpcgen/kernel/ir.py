"""Kernel IR: one TPC kernel as a loop nest over the index space whose body is typed vector operations.

The TPC-C text (`tpc_c.py`), the access pattern in the glue (`access.py`) and the predicted cycles (`cycles.py`) all
come from this one structure. Tensor dims are in TPC order here: dim 0 is the FCD, torch's last axis.

Integers are expressions of the tensor program whose `Index` names are kernel variables: coordinates of the member, loop
variables, `ScalarLoad`s and `ScalarLet`s; sizes and attributes are scalar parameters of the same name.

Vectors are virtual registers. A register has one part (64 lanes of 32 bits) or two; which element of a step of 128 a
lane of a part holds is `Kernel.lanes`. A uniform register has one part and the same value in every lane; where the
other operands have two parts, it stands for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Union

from tpcgen.diagnostics import NOWHERE, Span
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Expr, free_indices
from tpcgen.program.substitute import substitute


@dataclass(frozen=True, slots=True)
class AxisAccess:
    """What member i of index-space dim `index_dim` touches along one tensor dim: elements [a*i + start, a*i + end].

    `all_required`: any member may touch the whole dim; then the other fields are 0.
    """

    index_dim: int
    a: int
    start: int
    end: int
    all_required: bool = False


@dataclass(frozen=True, slots=True)
class TensorParam:
    """A tensor of the kernel: position among `Kernel.tensors` is its descriptor number. `sizes` in TPC order.

    A tensor without axes has one dim of size 1.
    """

    name: str
    dtype: DType
    sizes: tuple[Expr, ...]
    is_output: bool


@dataclass(frozen=True, slots=True)
class ScalarParam:
    """A scalar argument of main, C type int or float; the glue evaluates `value` of sizes and attributes."""

    name: str
    type: DType
    value: Expr


@dataclass(frozen=True, slots=True)
class IndexDim:
    """One dim of the index space: `extent` members, an integer expression of sizes; member i covers `step` elements.

    `name` is the variable of the first element that a member covers: `step` times its coordinate.
    """

    name: str
    extent: Expr
    step: int


class Lanes(Enum):
    """Order of the elements of a step in the lanes of a register's parts.

    SINGLE: one part of 64 elements. LINEAR: part p holds elements 64 p + lane. EVEN_ODD: part p holds 2 lane + p, the
    order in which CONVERT makes an f32 pair of a vector of 16 bits a lane (toolchain.md 2.2).
    """

    SINGLE = "single"
    LINEAR = "linear"
    EVEN_ODD = "even/odd"

    @property
    def parts(self) -> int:
        return 1 if self is Lanes.SINGLE else 2

    @property
    def step(self) -> int:
        """Elements of one vector step along the lanes."""
        return 64 * self.parts


class VType(Enum):
    """Element type of a register's lanes; PRED is one predicate bit per lane of 32 bits, PRED16 of 16, CTRL the control
    of SHUFFLE.
    """

    F32 = "f32"
    I32 = "i32"
    BF16 = "bf16"
    F16 = "f16"
    I16 = "i16"
    PRED = "pred"
    PRED16 = "pred16"
    CTRL = "ctrl"

    @property
    def widens(self) -> bool:
        """Whether a vector of it makes a pair of f32."""
        return any(n.kind is self for n in NARROW.values())


@dataclass(frozen=True, slots=True)
class Reg:
    """A virtual vector register. `parts` is 1 for uniform ones; one of 16 bits a lane always has one part of 128."""

    name: str
    type: VType
    parts: int
    uniform: bool


@dataclass(frozen=True, slots=True)
class Imm:
    """An immediate operand: the same in every lane."""

    value: float | int


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar operand: an integer expression of kernel variables, or a float parameter (`Attr` of type F32)."""

    value: Expr


Operand = Union[Reg, Imm, Scalar]


@dataclass(frozen=True, slots=True)
class VectorOp:
    """dest = op(args) on every lane; where `pred` is given, lanes outside it keep their value (then `fresh` is False).

    `fresh`: this statement declares `dest`; otherwise an accumulator declared before is updated.
    Families of `op` and what they compute: `OPS`.
    """

    dest: Reg
    op: str
    args: tuple[Operand, ...]
    pred: Reg | None = None
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Invoke:
    """dest = function(arguments)."""

    dest: Reg
    function: str
    arguments: tuple[Reg, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """A vector of a tensor from `coords` on along dim 0; lanes outside the tensor read 0.

    `fresh`: this statement declares `dest`; otherwise one declared before is filled anew.
    """

    dest: Reg
    tensor: str
    coords: tuple[Expr, ...]
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One element of a tensor in every lane (gen_addr, ld_g). The element must exist; where `left`, how many may be
    read from there on, is not positive, nothing is read.

    `fresh`: this statement declares `dest`, whose lanes hold 0 where nothing is read; otherwise it keeps what it has.
    """

    dest: Reg
    tensor: str
    coords: tuple[Expr, ...]
    left: Expr | None = None
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class ScalarLoad:
    """An element of an integer tensor as the variable `name`. The element must exist."""

    name: str
    tensor: str
    coords: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ScalarLet:
    """An integer variable that does not change."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Store:
    """A vector to a tensor from `coords` on along dim 0; lanes outside the tensor are dropped.

    `single`: only the element at `coords` is written, from lane 0.
    """

    tensor: str
    coords: tuple[Expr, ...]
    value: Reg
    single: bool = False


@dataclass(frozen=True, slots=True)
class LocalArray:
    """Vectors in local memory: `rows` elements of `parts` vectors each, of which a kernel uses `used`."""

    name: str
    rows: int
    parts: int
    used: Expr


@dataclass(frozen=True, slots=True)
class LocalLoad:
    """Element `at` of an array. It must have been stored. A BF16 register is the first vector of an element."""

    dest: Reg
    array: LocalArray
    at: Expr


@dataclass(frozen=True, slots=True)
class LocalStore:
    """`value` has the array's parts; a BF16 register becomes the first vector of an element, whatever the parts."""

    array: LocalArray
    at: Expr
    value: Reg


@dataclass(frozen=True, slots=True)
class Loop:
    """for (var = low; var < high; var += step). Only where it is `exact` need high be low plus a multiple of step, 0 or
    more. `few`: what another loop, of several elements per iteration, left over.
    """

    var: str
    low: Expr
    high: Expr
    step: int
    body: tuple[Statement, ...]
    exact: bool = False
    few: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A comment: which line of the spec what follows computes."""

    text: str
    span: Span = NOWHERE


Statement = Union[VectorOp, Invoke, Load, Broadcast, ScalarLoad, ScalarLet, Store, LocalLoad, LocalStore, Loop, Note]


@dataclass(frozen=True, slots=True)
class Function:
    """A special function as a sequence of operations; the arguments of every call have the parts of `parameters`."""

    name: str
    parameters: tuple[Reg, ...]
    body: tuple[VectorOp, ...]
    result: Reg


PIECE = ("piece_begin[0]", "piece_end[0]")
"""Variables: the first member of a piece along dim 0, and the one behind the last."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """`setup` runs once per piece of the index space, `body` once per member. `Invoke`s name one of `functions`.

    `member`: where the body itself runs through the members of a piece along dim 0, what one of them does.
    """

    name: str
    target: str
    lanes: Lanes
    tensors: tuple[TensorParam, ...]
    scalars: tuple[ScalarParam, ...]
    index_space: tuple[IndexDim, ...]
    functions: tuple[Function, ...]
    setup: tuple[Statement, ...]
    body: tuple[Statement, ...]
    title: str = ""
    arrays: tuple[LocalArray, ...] = ()
    member: tuple[Statement, ...] | None = None

    @property
    def outer_dims(self) -> tuple[int, ...]:
        """Dims of the index space whose members are not in the body, outermost first."""
        return tuple(reversed(range(0 if self.member is None else 1, len(self.index_space))))

    def function(self, name: str) -> Function:
        """KeyError when there is none of that name."""
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(name)

    def tensor(self, name: str) -> TensorParam:
        """KeyError when there is none of that name."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class OpInfo:
    """`args`: types of the operands, `result` of the destination; `vpu` slots per part; `x2`: gaudi2 does both parts
    in one.
    """

    args: tuple[VType, ...]
    result: VType
    vpu: int = 1
    x2: bool = False


_F, _I, _P, _B, _H = VType.F32, VType.I32, VType.PRED, VType.BF16, VType.PRED16

OPS: dict[str, OpInfo] = {
    "add": OpInfo((_F, _F), _F, x2=True),
    "sub": OpInfo((_F, _F), _F, x2=True),
    "mul": OpInfo((_F, _F), _F, x2=True),
    "max": OpInfo((_F, _F), _F),
    "min": OpInfo((_F, _F), _F),
    "abs": OpInfo((_F,), _F),
    "floor": OpInfo((_F,), _F),
    "mov": OpInfo((_F,), _F),
    # a * b + c, rounded once; mac: the last argument is the destination itself
    "mac": OpInfo((_F, _F, _F), _F, x2=True),
    "madd": OpInfo((_F, _F, _F), _F, x2=True),
    # the same as two operations on a pair: x2 forms leave no slot for making addresses
    "mac_by_parts": OpInfo((_F, _F, _F), _F),
    # c - a * b, rounded once
    "nmadd": OpInfo((_F, _F, _F), _F, x2=True),
    # select: a OP b ? c : d
    "sel_less": OpInfo((_F, _F, _F, _F), _F),
    "sel_leq": OpInfo((_F, _F, _F, _F), _F),
    "sel_grt": OpInfo((_F, _F, _F, _F), _F),
    "sel_geq": OpInfo((_F, _F, _F, _F), _F),
    "sel_eq": OpInfo((_F, _F, _F, _F), _F),
    "cmp_less": OpInfo((_F, _F), _P),
    "cmp_leq": OpInfo((_F, _F), _P),
    "cmp_grt": OpInfo((_F, _F), _P),
    "cmp_geq": OpInfo((_F, _F), _P),
    "cmp_eq": OpInfo((_F, _F), _P),
    "cmp_neq": OpInfo((_F, _F), _P),
    "icmp_less": OpInfo((_I, _I), _P),
    "icmp_leq": OpInfo((_I, _I), _P),
    "icmp_grt": OpInfo((_I, _I), _P),
    "icmp_geq": OpInfo((_I, _I), _P),
    "icmp_eq": OpInfo((_I, _I), _P),
    "icmp_neq": OpInfo((_I, _I), _P),
    "pand": OpInfo((_P, _P), _P),
    "por": OpInfo((_P, _P), _P),
    "pnot": OpInfo((_P,), _P),
    "iadd": OpInfo((_I, _I), _I),
    "isub": OpInfo((_I, _I), _I),
    "imul": OpInfo((_I, _I), _I),
    "imin": OpInfo((_I, _I), _I),
    "imax": OpInfo((_I, _I), _I),
    "ishl": OpInfo((_I, _I), _I),
    "ishr": OpInfo((_I, _I), _I),
    # arithmetic shift to the right by an immediate
    "iasr": OpInfo((_I, _I), _I),
    "iand": OpInfo((_I, _I), _I),
    "ior": OpInfo((_I, _I), _I),
    "imov": OpInfo((_I,), _I),
    "itof": OpInfo((_I,), _F),
    # to the next integer towards 0, downwards; saturates
    "ftoi": OpInfo((_F,), _I),
    "ftoi_down": OpInfo((_F,), _I),
    # bit casts
    "bits": OpInfo((_F,), _I, vpu=0),
    "unbits": OpInfo((_I,), _F, vpu=0),
    # rounds to bf16 or f16, value stays f32
    "round_bf16": OpInfo((_F,), _F, vpu=2),
    "round_f16": OpInfo((_F,), _F, vpu=2),
    # bf16 or f16 vector to f32 pair and back, in the kernel's lane order; f16 not on gaudi
    "widen": OpInfo((_B,), _F),
    "narrow": OpInfo((_F,), _B),
    "widen_f16": OpInfo((VType.F16,), _F),
    "narrow_f16": OpInfo((_F,), VType.F16),
    # widened and added to a pair, rounded once; not on gaudi
    "widen_add": OpInfo((_B, _F), _F),
    # of bf16 vectors as they are
    "bmax": OpInfo((_B, _B), _B),
    "bmov": OpInfo((_B,), _B),
    "bmin": OpInfo((_B, _B), _B),
    "babs": OpInfo((_B,), _B),
    "bneg": OpInfo((_B,), _B),
    **{f"bsel_{c}": OpInfo((_B, _B, _B, _B), _B) for c in ("less", "leq", "grt", "geq", "eq")},
    **{f"bcmp_{c}": OpInfo((_B, _B), _H) for c in ("less", "leq", "grt", "geq", "eq", "neq")},
    # lanes of 16 bits: the number of each, compared; predicates of them
    "lane_id_16": OpInfo((), VType.I16),
    **{f"hcmp_{c}": OpInfo((VType.I16, VType.I16), _H) for c in ("less", "leq", "grt", "geq", "eq", "neq")},
    "hand": OpInfo((_H, _H), _H),
    "hor": OpInfo((_H, _H), _H),
    "hnot": OpInfo((_H,), _H),
    # the product of bf16 vectors as a pair, exact: even lanes to the first part, odd ones to the second; bmac adds
    # it to the destination, rounded once
    "bmul": OpInfo((_B, _B), _F),
    "bmac": OpInfo((_B, _B, _F), _F),
    # the two parts of a pair combined
    "part1": OpInfo((_F,), _F, vpu=0),
    "part2": OpInfo((_F,), _F, vpu=0),
    # butterflies across lanes: dual groups 0-1 2-3, then 0-2 1-3, then groups, then the 8 lanes of a group
    "swap_dual_groups_near": OpInfo((_F,), _F),
    "swap_dual_groups_far": OpInfo((_F,), _F),
    "swap_groups": OpInfo((_F,), _F),
    # of two registers one, to reduce both at once: the first and the second half of each in the places of the first
    # half for the first register, of the second half for the second; halves of a pair of dual groups, of all, of one
    **{f"{half}_{step}": OpInfo((_F, _F), _F) for half in ("first", "second") for step in ("near", "far", "groups")},
    # one dual group, by an immediate, in all of them
    "pick_dual_group": OpInfo((_F, _I), _F),
    "shuffle": OpInfo((_F, VType.CTRL), _F),
    # of SHUFFLE: lanes of a group at a distance exchanged; the first lane of a group in all of the dual group
    "shuffle_control": OpInfo((_I,), VType.CTRL),
    "group_control": OpInfo((_I,), VType.CTRL),
    "lane_id": OpInfo((), _I),
}


@dataclass(frozen=True, slots=True)
class Narrow:
    """A dtype of 16 bits that is computed with in f32: its vectors, the operations that make a pair of f32 of one, one
    of a pair, and round f32 to it; how registers of it are named.
    """

    kind: VType
    widen: str
    narrow: str
    round: str
    suffix: str


NARROW: Mapping[DType, Narrow] = {
    DType.BF16: Narrow(VType.BF16, "widen", "narrow", "round_bf16", "b"),
    DType.F16: Narrow(VType.F16, "widen_f16", "narrow_f16", "round_f16", "h"),
}
WIDENING = tuple(n.widen for n in NARROW.values())
NARROWING = tuple(n.narrow for n in NARROW.values())
ROUNDING = {n.round: n.kind for n in NARROW.values()}


def on_both_parts(s: VectorOp, target: str) -> bool:
    """Whether one instruction does both parts of a pair: the x2 forms of gaudi2. The first factor or term must be one,
    what is added a pair or an immediate, and no lane may be left out.
    """
    if target == "gaudi" or not OPS[s.op].x2 or s.dest.parts != 2 or s.pred is not None:
        return False
    first = s.args[:1] if s.op == "sub" else s.args[:2]
    if not any(isinstance(a, Reg) and a.parts == 2 for a in first):
        return False
    if len(s.args) == 2:
        return True
    added = s.args[2]
    return added.parts == 2 if isinstance(added, Reg) else isinstance(added, Imm) and s.op != "mac"


def issued(s: VectorOp, target: str) -> int:
    """Operations of the vector unit."""
    return 1 if on_both_parts(s, target) or s.op in ("bmul", "bmac") else OPS[s.op].vpu * s.dest.parts


def registers_read(s: Statement) -> list[str]:
    """Names of the registers that a statement takes values from; those of a loop's body are not among them."""
    match s:
        case VectorOp():
            return [a.name for a in (*s.args, s.pred) if isinstance(a, Reg)]
        case Invoke():
            return [a.name for a in s.arguments]
        case Store() | LocalStore():
            return [s.value.name]
        case _:
            return []


def at(s: Statement, var: str, value: Expr) -> Statement:
    """The statement, which is no loop, where `var` has this value."""

    def valued(e: Expr) -> Expr:
        return affine.normal(substitute(e, {var: value})) if var in free_indices(e) else e

    match s:
        case Load() | Broadcast() | ScalarLoad() | Store():
            return replace(s, coords=tuple(map(valued, s.coords)))
        case LocalLoad() | LocalStore():
            return replace(s, at=valued(s.at))
        case ScalarLet():
            return replace(s, value=valued(s.value))
        case VectorOp():
            return replace(s, args=tuple(Scalar(valued(a.value)) if isinstance(a, Scalar) else a for a in s.args))
        case Loop():
            raise AssertionError("a loop is not moved")
        case Invoke() | Note():
            return s


def innermost_replaced(
    statements: Sequence[Statement], made_of: Callable[[Loop], Iterable[Statement]]
) -> tuple[Statement, ...]:
    """The statements with `made_of` each loop that has no loop inside in its place."""
    made: list[Statement] = []
    for s in statements:
        if not isinstance(s, Loop):
            made.append(s)
        elif any(isinstance(x, Loop) for x in s.body):
            made.append(replace(s, body=innermost_replaced(s.body, made_of)))
        else:
            made += made_of(s)
    return tuple(made)


def walk(statements: tuple[Statement, ...]) -> Iterator[Statement]:
    """All statements in text order, bodies of loops after the loop itself."""
    for s in statements:
        yield s
        if isinstance(s, Loop):
            yield from walk(s.body)
