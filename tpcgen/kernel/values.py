"""Expressions at a point as registers: floats and conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.functions import (
    EXP_IN_REACH,
    EXP_NONPOSITIVE,
    EXP_SCALED,
    FUNCTIONS,
    INLINE,
    LOG2E,
    LOWEST,
    RECIP_POSITIVE,
    Precision,
)
from tpcgen.kernel.integers import Integers
from tpcgen.kernel.ir import NARROW, OPS, Function, Imm, Invoke, Operand, Reg, Scalar, VectorOp, VType
from tpcgen.kernel.lane_integers import LaneIntegers
from tpcgen.kernel.loads import Loads
from tpcgen.kernel.scopes import Env, Scopes
from tpcgen.kernel.shape import Shape
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    COMPARISONS,
    Attr,
    Binary,
    Call,
    Cast,
    Expr,
    Literal,
    Read,
    Reduce,
    Unary,
    type_of,
    walk,
)
from tpcgen.program.print import expression as text

_RESULTS = {
    EXP_NONPOSITIVE: "weight",
    EXP_SCALED: "weight",
    EXP_IN_REACH: "weight",
    RECIP_POSITIVE: "inverse",
    "max": "largest",
    "min": "smallest",
}
_PARAMETERS = {EXP_SCALED: ("x", "lowest", "log2e")}
_ARGUMENTS = {
    **dict.fromkeys((EXP_NONPOSITIVE, EXP_SCALED, EXP_IN_REACH), "below_max"),
    RECIP_POSITIVE: "total",
}
_CONSTANTS = ("lowest", "scale_log2e")
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul"}
_COMPARE = {"<": "less", "<=": "leq", ">": "grt", ">=": "geq", "==": "eq", "!=": "neq"}
_FLIPPED = {"less": "grt", "leq": "geq", "grt": "less", "geq": "leq", "eq": "eq", "neq": "neq"}


@dataclass(frozen=True)
class InPlace:
    """Operations of a function written where it is called (functions.Builder)."""

    scopes: Scopes
    level: int
    hint: str

    def op(self, name: str, *args: Operand, hint: str = "") -> Operand:
        return self.scopes.emit(self.level, name, args, hint or self.hint)


@dataclass
class _Body:
    """Operations of a function of the kernel's text (functions.Builder)."""

    scopes: Scopes
    operations: list[VectorOp] = field(default_factory=list[VectorOp])

    def op(self, name: str, *args: Operand, hint: str = "") -> Operand:
        parts = max((a.parts for a in args if isinstance(a, Reg)), default=1)
        dest = self.scopes.register(hint or "t", OPS[name].result, parts)
        self.operations.append(VectorOp(dest, name, args))
        return dest


class Values:
    """`functions` collects those of the kernel's text. `reduction` gives the value of a reduction at a point; it is set
    by who owns the loops. `held` gives what a kernel keeps itself instead of reading it from a tensor.
    """

    reduction: Callable[[Reduce, Env], Operand]
    held: Callable[[Read, Env, int], Reg | None]

    def __init__(self, shape: Shape, scopes: Scopes, integers: Integers, target: str) -> None:
        self.shape = shape
        self.scopes = scopes
        self.integers = integers
        self.loads = Loads(shape, scopes, integers, target)
        self.held = _nothing
        bf16 = all(o.tensor.dtype is DType.BF16 for o in shape.outputs)
        self.precision = Precision.BF16 if bf16 else Precision.F32
        self.functions: dict[str, Function] = {}
        self.lanes = LaneIntegers(
            shape, scopes, integers, self.loads, self.value, self.predicate, self.functions, self.choose
        )
        self.loads.lane_integer = self.lanes.vector

    # --- floats -----------------------------------------------------------------------------------------------------

    def value(self, e: Expr, env: Env, hint: str = "t") -> Operand:
        """Imm for literals, else an F32 register of the outermost block where the indices are known.

        `hint`: what it is called when it is computed here for the first time.
        """
        if isinstance(e, Literal):
            return Imm(float(e.value))
        if not self.scopes.free(e) and not any(isinstance(x, Read | Reduce) for x in walk(e)):
            return self._constant(e, hint)
        if isinstance(e, Reduce):
            return self.reduction(e, env)
        return self._recall("value", e, env, lambda level: self._compute(e, env, level, hint))

    def register(self, value: Operand, level: int) -> Reg:
        """An operand as a register; constants once per kernel."""
        if isinstance(value, Reg):
            return value
        home = 0 if isinstance(value, Imm) else level
        copy = "imov" if isinstance(value, Imm) and isinstance(value.value, int) else "mov"
        hint = "zero" if value == Imm(0.0) else "c"
        return _reg(
            self.scopes.recall(home, ("constant", copy, value), lambda: self.scopes.emit(home, copy, (value,), hint))
        )

    def choose(self, level: int, condition: bool | Reg, then: Operand, otherwise: Operand, hint: str = "t") -> Operand:
        if isinstance(condition, bool):
            return then if condition else otherwise
        registers = [x for x in (condition, then, otherwise) if isinstance(x, Reg)]
        parts = max(r.parts for r in registers)
        kind = next((r.type for r in registers[1:]), VType.F32)
        copy = "imov" if kind is VType.I32 else "mov"
        dest = self.scopes.register(hint, kind, parts, uniform=all(r.uniform for r in registers))
        self.scopes.append(level, VectorOp(dest, copy, (otherwise,)))
        self.scopes.update(level, dest, copy, (then,), condition)
        return dest

    def _recall(self, what: str, e: Expr, env: Env, make: Callable[[int], Operand]) -> Operand:
        level = self.scopes.level_of(e, env)
        return self.scopes.recall(level, (what, e, self.scopes.point(e, env)), lambda: make(level))

    def _constant(self, e: Expr, hint: str) -> Operand:
        """A real number made of sizes and attributes: computed by the glue, splat once."""

        def make(level: int) -> Operand:
            name = self._parameter_name(hint if hint in _CONSTANTS else text(e))
            self.integers.parameter(name, DType.F32, e)
            return self.scopes.emit(level, "mov", (Scalar(Attr(name, DType.F32)),), f"{name}_v")

        return self._recall("value", e, {}, make)

    def _parameter_name(self, meaning: str) -> str:
        words = "".join(c if c.isalnum() else " " for c in meaning).split()
        stem = "_".join(words)[:24].strip("_")
        stem = stem if stem and stem[0].isalpha() else f"c_{stem}"
        program = self.shape.program
        taken = {*self.integers.scalars, *program.sizes, *(a.name for a in program.attributes)}
        taken |= {t.name for t in program.tensors}
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        return name

    def _compute(self, e: Expr, env: Env, level: int, hint: str) -> Operand:
        b = InPlace(self.scopes, level, hint)
        if type_of(e) is DType.I32:
            return b.op("itof", self.lanes.vector(e, env, level))
        match e:
            case Read():
                return self.held(e, env, level) or self.loads.load(e, env, level)
            case Unary(operator="-"):
                return b.op("mul", self.value(e.operand, env), Imm(-1.0))
            case Binary(operator="+" | "-" | "*"):
                return b.op(_ARITHMETIC[e.operator], self.value(e.left, env), self.value(e.right, env))
            case Binary(operator="/"):
                inverse = self.value(Call("recip", (e.right,)), env)
                return inverse if e.left == Literal(1.0, DType.F32) else b.op("mul", self.value(e.left, env), inverse)
            case Call(function="select", arguments=(condition, then, otherwise)):
                chosen = self.predicate(condition, env)
                return self.choose(level, chosen, self.value(then, env), self.value(otherwise, env), hint)
            case Call() if e.function in FUNCTIONS:
                return self._function(e, env, level, hint)
            case Call():
                raise not_lowered("E427", f"{e.function} is not lowered to the TPC yet", e.span)
            case Cast(dtype=DType.F32):
                return self.value(e.operand, env)
            case Cast() if e.dtype in NARROW:
                return b.op(NARROW[e.dtype].round, self.value(e.operand, env))
            case _:
                raise not_lowered("E427", f"{text(e)} is not lowered to the TPC yet", e.span)

    def _function(self, e: Call, env: Env, level: int, hint: str) -> Operand:
        args = tuple(self.value(a, env, _ARGUMENTS.get(e.function, "t")) for a in e.arguments[:1])
        name = _RESULTS.get(e.function, hint)
        match e:
            case Call(function="exp_scaled", arguments=(_, factor)):
                lowest = Binary("/", Literal(LOWEST, DType.F32), factor)
                log2e = Binary("*", factor, Literal(LOG2E, DType.F32))
                args = (*args, self.value(lowest, env, "lowest"), self.value(log2e, env, "scale_log2e"))
            case _:
                args = (*args, *(self.value(a, env) for a in e.arguments[1:]))
        if e.function in INLINE:
            return FUNCTIONS[e.function](InPlace(self.scopes, level, name), self.precision, args)
        return self._invoke(e.function, tuple(self.register(a, level) for a in args), level, name)

    def _invoke(self, function: str, arguments: tuple[Reg, ...], level: int, hint: str) -> Reg:
        argument = arguments[0]
        name = function if argument.parts == 1 else f"{function}_pair"
        if name not in self.functions:
            hints = _PARAMETERS.get(function, ("x",))
            parameters = tuple(
                self.scopes.register(hint, VType.F32, a.parts) for hint, a in zip(hints, arguments, strict=True)
            )
            body = _Body(self.scopes)
            result = _reg(FUNCTIONS[function](body, self.precision, parameters))
            self.functions[name] = Function(name, parameters, tuple(body.operations), result)
        dest = self.scopes.register(hint, VType.F32, argument.parts, uniform=argument.uniform)
        self.scopes.append(level, Invoke(dest, name, arguments))
        return dest

    # --- conditions -------------------------------------------------------------------------------------------------

    def predicate(self, e: Expr | None, env: Env) -> bool | Reg:
        """A predicate register, or the value of a condition that is the same at all points; None is true."""
        match e:
            case None:
                return True
            case Literal():
                return bool(e.value)
            case Binary(operator="and" | "or"):
                a, b = self.predicate(e.left, env), self.predicate(e.right, env)
                if isinstance(a, bool) or isinstance(b, bool):
                    known, other = (a, b) if isinstance(a, bool) else (b, a)
                    return other if known == (e.operator == "and") else bool(known)
                return self._predicate_op("pand" if e.operator == "and" else "por", e, env, a, b)
            case Unary(operator="not"):
                a = self.predicate(e.operand, env)
                return not a if isinstance(a, bool) else self._predicate_op("pnot", e, env, a)
            case Binary() if e.operator in COMPARISONS:
                return _reg(self._recall("predicate", e, env, lambda level: self._compare(e, env, level)))
            case _:
                raise not_lowered("E427", f"the condition {text(e)} is not lowered to the TPC yet", e.span)

    def _predicate_op(self, op: str, e: Expr, env: Env, *args: Reg) -> Reg:
        return _reg(self._recall("predicate", e, env, lambda level: self.scopes.emit(level, op, args, "p")))

    def _compare(self, e: Binary, env: Env, level: int) -> Operand:
        name = _COMPARE[e.operator]
        if type_of(e.left) is not DType.I32 or type_of(e.right) is not DType.I32:
            return self.scopes.emit(level, f"cmp_{name}", (self.value(e.left, env), self.value(e.right, env)), "p")
        difference = Binary("-", e.left, e.right)
        match self.lanes.lane_factor(difference, env):
            case 1:  # lane + rest OP 0
                rest = self.integers.scalar(Binary("-", e.right, e.left), env)
                return self.scopes.emit(level, f"icmp_{name}", (self.integers.lane_numbers(), Scalar(rest)), "p")
            case -1:  # rest - lane OP 0
                rest = self.integers.scalar(difference, env)
                op = f"icmp_{_FLIPPED[name]}"
                return self.scopes.emit(level, op, (self.integers.lane_numbers(), Scalar(rest)), "p")
            case 0:
                compared = self.lanes.vector(difference, env, level)
                return self.scopes.emit(level, f"icmp_{name}", (compared, Imm(0)), "p")
            case _:
                sides = [self.lanes.operand(x, env, level) for x in (e.left, e.right)]
                if isinstance(sides[0], Scalar):
                    sides, name = sides[::-1], _FLIPPED[name]
                return self.scopes.emit(level, f"icmp_{name}", sides, "p")


def _nothing(read: Read, env: Env, level: int) -> Reg | None:
    return None


def _reg(operand: Operand) -> Reg:
    assert isinstance(operand, Reg)
    return operand
