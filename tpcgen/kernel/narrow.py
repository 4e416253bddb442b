"""Values of bf16 that are only chosen among stay bf16, 128 lanes to an operation; products of two such are made in f32
by the operation that multiplies bf16, which rounds nothing.

A register of f32 is exactly bf16 where a bf16 vector was widened to it, where it is one of several such or of constants
that bf16 has, and where its sign was changed. What is stored as bf16 or multiplied is then taken from bf16 registers
made by the same operations; those of f32 that nobody reads any more are dropped (unused.py).

A product of bf16 vectors comes in even and odd lanes. Where vectors are f32 in the order of memory, one that several
elements multiply, each the same in all lanes, is made bf16 again so that its products come in that order: the elements
need not be widened then.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

from tpcgen.kernel.bounds import integer
from tpcgen.kernel.ir import (
    Imm,
    Invoke,
    Kernel,
    Lanes,
    LocalStore,
    Loop,
    Operand,
    Reg,
    Scalar,
    Statement,
    Store,
    VectorOp,
    VType,
    registers_read,
    walk,
)
from tpcgen.program.ir import Call, Expr

_CHOICES = {op: f"b{op}" for op in ("max", "min", "abs", *(f"sel_{c}" for c in ("less", "leq", "grt", "geq", "eq")))}
_COMPARISONS = ("less", "leq", "grt", "geq", "eq", "neq")
_PREDICATES = {f"cmp_{c}": f"bcmp_{c}" for c in _COMPARISONS} | {"pand": "hand", "por": "hor", "pnot": "hnot"}


def narrowed(kernel: Kernel) -> Kernel:
    """The same kernel; in `Lanes.EVEN_ODD` with all of this, in `Lanes.LINEAR` with products by elements."""
    if kernel.lanes is Lanes.SINGLE:
        return kernel
    work = _Narrowing(kernel)
    body = work.block(kernel.body)
    return replace(kernel, setup=(*kernel.setup, *work.setup), body=body)


@dataclass
class _Narrowing:
    """`made`: the bf16 register of one of f32, `known` how f32 registers and predicates are made, `chosen` those that
    a condition chooses: what they are without and with it, and the condition; `renamed`: what is another register now.
    """

    kernel: Kernel
    setup: list[Statement] = field(default_factory=list[Statement])
    made: dict[str, Reg] = field(default_factory=dict[str, Reg])
    known: dict[str, VectorOp] = field(default_factory=dict[str, VectorOp])
    chosen: dict[str, tuple[Operand, VectorOp]] = field(default_factory=dict[str, tuple[Operand, VectorOp]])
    renamed: dict[str, Reg] = field(default_factory=dict[str, Reg])

    def __post_init__(self) -> None:
        statements = [*walk(self.kernel.setup), *walk(self.kernel.body)]
        self.reads = Counter(name for s in statements for name in registers_read(s))
        self.writes = Counter(s.dest.name for s in statements if isinstance(s, VectorOp))
        for s in self.kernel.setup:
            self._learn(s)

    def block(self, statements: Sequence[Statement]) -> tuple[Statement, ...]:
        """What is made in a block is forgotten behind it."""
        outer = dict(self.made)
        result: list[Statement] = []
        for s in statements:
            if isinstance(s, Loop):
                result.append(replace(s, body=self.block(s.body)))
                continue
            now = _with(s, self.renamed)
            result += self._statement(now)
            self._learn(now)
        self.made = outer
        return tuple(result)

    def _learn(self, s: Statement) -> None:
        if not isinstance(s, VectorOp):
            return
        name = s.dest.name
        if s.fresh and (self.writes[name] == 1 or (s.op == "mov" and self.writes[name] == 2)):
            self.known[name] = s
        elif s.op == "mov" and s.pred is not None and name in self.known and self.writes[name] == 2:
            self.chosen[name] = (self.known.pop(name).args[0], s)

    # --- what is exactly bf16 ---------------------------------------------------------------------------------------

    def _is_exact(self, o: Operand) -> bool:
        if self.kernel.lanes is Lanes.LINEAR:
            return isinstance(o, Reg) and self._is_widened(o)
        if isinstance(o, Imm):
            return _fits(o.value)
        if not isinstance(o, Reg) or o.type is not VType.F32:
            return False
        if o.name in self.made:
            return True
        if o.name in self.chosen:
            otherwise, s = self.chosen[o.name]
            assert s.pred is not None
            return self._is_exact(otherwise) and self._is_exact(s.args[0]) and self._is_known(s.pred)
        match self.known.get(o.name):
            case VectorOp(op="widen"):
                return True
            case VectorOp(op="part1", args=(Reg() as source,)):
                return source.uniform and self._is_exact(source)
            case VectorOp(op="mul", args=(x, Imm(value=-1.0))):
                return self._is_exact(x)
            case VectorOp(op=op, args=args) if op in _CHOICES and self.writes[o.name] == 1:
                return all(map(self._is_exact, args))
            case _:
                return False

    def _is_widened(self, r: Reg) -> bool:
        match self.known.get(r.name):
            case VectorOp(op="widen"):
                return True
            case VectorOp(op="part1", args=(Reg() as source,)):
                return source.uniform and self._is_widened(source)
            case _:
                return False

    def _is_known(self, pred: Reg) -> bool:
        match self.known.get(pred.name):
            case VectorOp(op=op, args=(Reg(name=lane), Scalar())) if op.startswith("icmp_"):
                return lane in self.known and self.known[lane].op == "lane_id"
            case VectorOp(op="pand" | "por" | "pnot", args=args):
                return all(isinstance(a, Reg) and self._is_known(a) for a in args)
            case VectorOp(op=op, args=args) if op.startswith("cmp_"):
                return all(map(self._is_exact, args)) and any(isinstance(a, Reg) for a in args)
            case _:
                return False

    # --- made of bf16 -----------------------------------------------------------------------------------------------

    def _bf16(self, o: Operand, into: list[Statement]) -> Operand:
        if not isinstance(o, Reg):
            return o
        if o.name not in self.made:
            self.made[o.name] = self._make(o, into)
        return self.made[o.name]

    def _make(self, o: Reg, into: list[Statement]) -> Reg:
        dest = Reg(_named(o, "b"), VType.BF16, 1, o.uniform)
        if o.name in self.chosen:
            otherwise, s = self.chosen[o.name]
            assert s.pred is not None
            into.append(VectorOp(dest, "bmov", (self._bf16(otherwise, into),)))
            then, pred = self._bf16(s.args[0], into), self._pred(s.pred, into)
            into.append(VectorOp(dest, "bmov", (then,), pred, fresh=False))
            return dest
        match self.known[o.name]:
            case VectorOp(op="widen", args=(Reg() as source,)) if self._is_in_order(source):
                return source
            case VectorOp(op="widen"):
                into.append(VectorOp(dest, "narrow", (o,)))
            case VectorOp(op="part1", args=(Reg() as source,)):
                made = self._bf16(source, into)
                assert isinstance(made, Reg)
                return made
            case VectorOp(op="mul", args=(x, _)):
                into.append(VectorOp(dest, "bneg", (self._bf16(x, into),)))
            case VectorOp(op=op, args=args):
                into.append(VectorOp(dest, _CHOICES[op], tuple(self._bf16(a, into) for a in args)))
        return dest

    def _is_in_order(self, vector: Reg) -> bool:
        """Whether its even and odd lanes are the parts of the pair it widens to."""
        return self.kernel.lanes is Lanes.EVEN_ODD or vector.uniform

    def _pred(self, pred: Reg, into: list[Statement]) -> Reg:
        if pred.name not in self.made:
            dest = Reg(_named(pred, "h"), VType.PRED16, 1, uniform=False)
            s = self.known[pred.name]
            if s.op.startswith("icmp_"):
                (_, compared) = s.args
                assert isinstance(compared, Scalar)
                into.append(VectorOp(dest, f"h{s.op[1:]}", (self._lanes(), Scalar(_within(compared.value)))))
            elif s.op.startswith("cmp_"):
                into.append(VectorOp(dest, _PREDICATES[s.op], tuple(self._bf16(a, into) for a in s.args)))
            else:
                args = tuple(self._pred(a, into) for a in s.args if isinstance(a, Reg))
                into.append(VectorOp(dest, _PREDICATES[s.op], args))
            self.made[pred.name] = dest
        return self.made[pred.name]

    def _lanes(self) -> Reg:
        lanes = Reg("lane16", VType.I16, 1, uniform=False)
        if not self.setup:
            self.setup.append(VectorOp(lanes, "lane_id_16", ()))
        return lanes

    # --- statements -------------------------------------------------------------------------------------------------

    def _statement(self, s: Statement) -> Iterator[Statement]:
        made: list[Statement] = []
        match s:
            case VectorOp(op="narrow", args=(Reg() as x,)) if (
                self.kernel.lanes is Lanes.EVEN_ODD and x.parts == 2 and self._is_exact(x)
            ):
                value = self._bf16(x, made)
                assert isinstance(value, Reg)
                self.renamed[s.dest.name] = value
                yield from made
            case VectorOp(op="mul" | "mac", args=(Reg() as a, Reg() as b, *added), pred=None) if (
                s.dest.parts == 2 and self._is_exact(a) and self._is_exact(b) and self._is_worth_it(a, b)
            ):
                operands = (self._bf16(a, made), self._bf16(b, made), *added)
                yield from made
                yield replace(s, op=f"b{s.op}", args=operands)
            case VectorOp(op="add", args=(Reg() as a, Reg() as b), pred=None, fresh=True) if self._is_product(
                b
            ) and self._may_grow(a):
                yield from self._added(s, a, b)
            case VectorOp(op="add", args=(Reg() as a, Reg() as b), pred=None, fresh=True) if self._is_product(
                a
            ) and self._may_grow(b):
                yield from self._added(s, b, a)
            case VectorOp(fresh=True) if self._is_rounded(s):
                self.made[s.dest.name] = Reg(_named(s.dest, "b"), VType.BF16, 1, s.dest.uniform)
                yield s
                yield VectorOp(self.made[s.dest.name], "narrow", s.args if s.op == "round_bf16" else (s.dest,))
            case VectorOp(pred=None, fresh=True) if self._is_choice_of_vectors(s):
                self._learn(s)
                value = self._bf16(s.dest, made)
                yield from made
                yield replace(s, op="widen", args=(value,))
            case _:
                yield s

    def _is_rounded(self, s: VectorOp) -> bool:
        """To bf16, or moved among lanes what was: made bf16 where it is known, not where it is read."""
        if self.kernel.lanes is not Lanes.EVEN_ODD:
            return False
        moved = s.op in ("pick_dual_group", "shuffle") and isinstance(s.args[0], Reg) and s.args[0].name in self.made
        return s.op == "round_bf16" or moved

    def _is_choice_of_vectors(self, s: VectorOp) -> bool:
        """Among exact ones, of which one is widened for it alone: widened behind the choice it takes less."""
        if s.op not in _CHOICES or s.dest.parts != 2 or self.kernel.lanes is not Lanes.EVEN_ODD:
            return False
        read = Counter(a.name for a in s.args if isinstance(a, Reg) and a.name in self.known)
        alone = any(self.known[n].op == "widen" and self.reads[n] == often for n, often in read.items())
        return alone and all(map(self._is_exact, s.args))

    def _is_worth_it(self, a: Reg, b: Reg) -> bool:
        if self.kernel.lanes is Lanes.EVEN_ODD:
            return True
        return a.uniform != b.uniform and self.reads[(b if a.uniform else a).name] > 1

    def _is_product(self, r: Reg) -> bool:
        """Of two bf16 vectors, read here only."""
        if self.kernel.lanes is Lanes.LINEAR:
            return False
        s = self.known.get(r.name)
        operands = () if s is None or s.op != "mul" or s.dest.parts != 2 else s.args
        return bool(operands) and all(isinstance(a, Reg) and self._is_exact(a) for a in operands) and self._is_ours(r)

    def _may_grow(self, r: Reg) -> bool:
        s = self.known.get(r.name)
        return s is not None and r.parts == 2 and s.dest.type is VType.F32 and s.op != "mov" and self._is_ours(r)

    def _is_ours(self, r: Reg) -> bool:
        return self.reads[r.name] == 1 and self.writes[r.name] == 1

    def _added(self, s: VectorOp, total: Reg, product: Reg) -> Iterator[Statement]:
        """The product added to the other term where that is; its own operation is not read any more."""
        a, b = (self._bf16(x, []) for x in self.known[product.name].args)
        self.renamed[s.dest.name] = total
        yield VectorOp(total, "bmac", (a, b, total), fresh=False)


def _with(s: Statement, renamed: dict[str, Reg]) -> Statement:
    def now(r: Reg) -> Reg:
        return renamed.get(r.name, r)

    match s:
        case VectorOp():
            return replace(s, args=tuple(now(a) if isinstance(a, Reg) else a for a in s.args))
        case Invoke():
            return replace(s, arguments=tuple(map(now, s.arguments)))
        case Store() | LocalStore():
            return replace(s, value=now(s.value))
        case _:
            return s


def _named(r: Reg, kind: str) -> str:
    stem, _, number = r.name.partition("#")
    return f"{stem}_{kind}#{number}{kind}"


def _fits(value: float | int) -> bool:
    """Whether bf16 has the value."""
    if isinstance(value, int) or not isfinite(value):
        return False
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return value == struct.unpack("<f", struct.pack("<I", bits))[0] and bits & 0xFFFF == 0


def _within(e: Expr) -> Expr:
    """What every number of the 128 lanes compares with as with `e`, and 16 bits hold."""
    return Call("max", (Call("min", (e, integer(128))), integer(-1)))
