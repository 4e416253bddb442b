"""Checks a kernel's structure; a failure is a bug of lowering, never the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpcgen.kernel.ir import (
    NARROW,
    NARROWING,
    OPS,
    PIECE,
    Broadcast,
    Imm,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Loop,
    Note,
    Operand,
    Reg,
    Scalar,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
    VectorOp,
    VType,
    walk,
)
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Expr, Index, Size
from tpcgen.program.ir import walk as walk_expr

_STORED = {DType.F32: VType.F32, DType.I32: VType.I32, **{dtype: n.kind for dtype, n in NARROW.items()}}


class KernelError(AssertionError):
    """What is wrong, and in which statement."""


def verify(kernel: Kernel) -> Kernel:
    """The kernel itself; KernelError for an unknown or reused name, a wrong type or rank, an output not written."""
    _Verifier(kernel).run()
    return kernel


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.scalars = {s.name for s in kernel.scalars}

    def run(self) -> None:
        k = self.kernel
        outside = _Verifier(replace(k, scalars=()))  # functions see no parameter of main: its names are free there
        for f in k.functions:
            registers = outside._block(f.body, {p.name: p for p in f.parameters}, frozenset())
            outside._known(f.result, registers, f.name)
        setup = self._block(k.setup, {}, frozenset())
        scalars = {s.name for s in k.setup if isinstance(s, ScalarLet | ScalarLoad)}
        dims = {k.index_space[n].name for n in k.outer_dims}
        self._block(k.body, setup, frozenset(scalars | dims | ({*PIECE} if k.member is not None else set())))
        written = {s.tensor for s in walk(k.body) if isinstance(s, Store)}
        for t in k.tensors:
            if t.is_output != (t.name in written):
                raise KernelError(f"{t.name} is {'never' if t.is_output else 'an input and'} written")

    def _block(self, statements: Sequence[Statement], outer: dict[str, Reg], names: frozenset[str]) -> dict[str, Reg]:
        registers = dict(outer)
        variables = set(names)
        for s in statements:
            match s:
                case Note():
                    pass
                case ScalarLet():
                    self._integer(s.value, variables, s)
                    self._declare(s.name, registers, variables, s)
                    variables.add(s.name)
                case ScalarLoad():
                    self._coords(s.tensor, s.coords, variables, s)
                    self._declare(s.name, registers, variables, s)
                    variables.add(s.name)
                case Load(fresh=False) | Broadcast(fresh=False):
                    self._coords(s.tensor, s.coords, variables, s)
                    self._known(s.dest, registers, s)
                case Load() | Broadcast():
                    self._coords(s.tensor, s.coords, variables, s)
                    self._declare(s.dest.name, registers, variables, s)
                    registers[s.dest.name] = s.dest
                case Store():
                    self._coords(s.tensor, s.coords, variables, s)
                    self._known(s.value, registers, s)
                    expected = _STORED[self.kernel.tensor(s.tensor).dtype]
                    if s.value.type is not expected:
                        raise KernelError(f"{s} stores {s.value.type} to {expected}")
                case LocalLoad():
                    self._array(s)
                    self._integer(s.at, variables, s)
                    self._declare(s.dest.name, registers, variables, s)
                    registers[s.dest.name] = s.dest
                case LocalStore():
                    self._array(s)
                    self._integer(s.at, variables, s)
                    self._known(s.value, registers, s)
                case Invoke():
                    for argument in s.arguments:
                        self._known(argument, registers, s)
                    wanted = [p.parts for p in self.kernel.function(s.function).parameters]
                    if wanted != [a.parts for a in s.arguments]:
                        raise KernelError(f"{s} calls a function of other parts")
                    self._declare(s.dest.name, registers, variables, s)
                    registers[s.dest.name] = s.dest
                case VectorOp():
                    self._vector(s, registers, variables)
                case Loop():
                    self._integer(s.low, variables, s)
                    self._integer(s.high, variables, s)
                    self._declare(s.var, registers, variables, s)
                    self._block(s.body, registers, frozenset(variables | {s.var}))
        return registers

    def _array(self, s: LocalLoad | LocalStore) -> None:
        register = s.dest if isinstance(s, LocalLoad) else s.value
        fits = register.type is VType.BF16 or register.parts == s.array.parts
        if s.array not in self.kernel.arrays or not fits:
            raise KernelError(f"{s} has no such array, or a register of other parts")

    def _vector(self, s: VectorOp, registers: dict[str, Reg], variables: set[str]) -> None:
        info = OPS[s.op]
        if len(info.args) != len(s.args):
            raise KernelError(f"{s} has {len(s.args)} operands")
        for operand, wanted in zip(s.args, info.args, strict=True):
            self._operand(operand, wanted, registers, variables, s)
        if s.dest.type is not info.result:
            raise KernelError(f"{s} makes {info.result}")
        if s.pred is not None:
            self._known(s.pred, registers, s)
            wanted = VType.PRED16 if s.dest.type is VType.BF16 else VType.PRED
            if s.fresh or s.pred.type is not wanted or s.pred.parts > s.dest.parts:
                raise KernelError(f"{s} has a wrong predicate")
        widest = max((a.parts for a in s.args if isinstance(a, Reg)), default=1)
        if s.op not in ("part1", "part2", *NARROWING) and widest > s.dest.parts:
            raise KernelError(f"{s} loses a part")
        if s.fresh:
            self._declare(s.dest.name, registers, variables, s)
            registers[s.dest.name] = s.dest
        else:
            self._known(s.dest, registers, s)

    def _operand(
        self, o: Operand, wanted: VType, registers: dict[str, Reg], variables: set[str], where: Statement
    ) -> None:
        match o:
            case Reg():
                self._known(o, registers, where)
                if o.type is not wanted:
                    raise KernelError(f"{where}: {o.name} is {o.type}, not {wanted}")
            case Imm():
                pass
            case Scalar(value=Attr(type=DType.F32)):
                if o.value.name not in self.scalars:  # type: ignore[union-attr]
                    raise KernelError(f"{where}: no scalar {o.value}")
            case Scalar():
                self._integer(o.value, variables, where)

    def _known(self, r: Reg, registers: dict[str, Reg], where: object) -> None:
        found = registers.get(r.name)
        if found is None or (found.type, found.parts) != (r.type, r.parts):
            raise KernelError(f"{where}: {r.name} is not defined like that here")

    def _declare(self, name: str, registers: dict[str, Reg], variables: set[str], where: Statement) -> None:
        if name in registers or name in variables or name in self.scalars:
            raise KernelError(f"{where}: {name} is in use")

    def _integer(self, e: Expr, variables: set[str], where: Statement) -> None:
        for x in walk_expr(e):
            known = x.name in variables if isinstance(x, Index) else True
            if isinstance(x, Size | Attr):
                known = x.name in self.scalars
            if not known:
                raise KernelError(f"{where}: {x} is unknown")

    def _coords(self, tensor: str, coords: tuple[Expr, ...], variables: set[str], where: Statement) -> None:
        if len(coords) != len(self.kernel.tensor(tensor).sizes):
            raise KernelError(f"{where}: rank of {tensor} differs")
        for c in coords:
            self._integer(c, variables, where)
