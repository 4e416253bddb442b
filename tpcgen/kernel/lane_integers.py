"""Integers that differ from lane to lane, as I32 registers: multiples of the lane number, what is read, arithmetic."""

from __future__ import annotations

from collections.abc import Callable

from tpcgen.kernel.errors import not_lowered
from tpcgen.kernel.inside import is_count
from tpcgen.kernel.integers import Integers, spelled_out
from tpcgen.kernel.ir import OPS, Function, Imm, Invoke, Operand, Reg, Scalar, VectorOp, VType
from tpcgen.kernel.loads import Loads
from tpcgen.kernel.scopes import Env, Scopes
from tpcgen.kernel.shape import Shape
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Cast, Expr, Literal, Read, Reduce, Unary, free_indices, type_of
from tpcgen.program.print import expression as text

_ARITHMETIC = {"+": "iadd", "-": "isub", "*": "imul"}
_ONE = Literal(1.0, DType.F32)
_INTEGER_ONE, _INTEGER_MINUS_ONE = Literal(1, DType.I32), Literal(-1, DType.I32)


class LaneIntegers:
    """`real` and `condition` are those of who computes floats and predicates (values.py), `functions` the kernel's."""

    def __init__(
        self,
        shape: Shape,
        scopes: Scopes,
        integers: Integers,
        loads: Loads,
        real: Callable[[Expr, Env], Operand],
        condition: Callable[[Expr, Env], bool | Reg],
        functions: dict[str, Function],
        choose: Callable[[int, bool | Reg, Operand, Operand], Operand],
    ) -> None:
        self.shape = shape
        self.scopes = scopes
        self.integers = integers
        self.loads = loads
        self.real = real
        self.condition = condition
        self.functions = functions
        self._choose = choose

    def lane_factor(self, e: Expr, env: Env) -> int | None:
        """What an integer expression grows by from one lane to the next; None where that differs."""
        return affine.coefficient_of(affine.polynomial(e), self.shape.lane) if self.shape.lane in env else 0

    def operand(self, e: Expr, env: Env, level: int) -> Operand:
        """A scalar where all lanes have the same value."""
        if self.lane_factor(e, env) == 0 and not _needs_lanes(e):
            return Scalar(self.integers.scalar(e, env))
        return self.vector(e, env, level)

    def vector(self, e: Expr, env: Env, level: int) -> Reg:
        """A multiple of the lane number plus a scalar, or arithmetic on such and on loaded vectors. E421 for others."""
        factor = self.lane_factor(e, env)
        if factor == 0 and not _needs_lanes(e):
            return self.scopes.emit(level, "imov", (Scalar(self.integers.scalar(e, env)),))
        if factor is None or factor == 0:
            return self._recall("lanes", e, env, level, lambda: self._irregular(e, env, level))
        first, lane = Scalar(self.integers.scalar(e, env)), self.integers.lane_numbers()
        if factor == -1:
            return self.scopes.emit(level, "isub", (first, lane))
        scaled = lane if factor == 1 else self.scopes.emit(level, "imul", (lane, Imm(factor)))
        return self.scopes.emit(level, "iadd", (scaled, first))

    def _recall(self, what: str, e: Expr, env: Env, level: int, make: Callable[[], Reg]) -> Reg:
        found = self.scopes.recall(level, (what, e, self.scopes.point(e, env)), make)
        assert isinstance(found, Reg)
        return found

    def _irregular(self, e: Expr, env: Env, level: int) -> Reg:
        match e:
            case Read(dtype=DType.I32):
                return self.loads.load(e, env, level)
            case Unary(operator="-"):
                return self.scopes.emit(level, "isub", (Imm(0), self.vector(e.operand, env, level)))
            case Binary(operator="+" | "-" | "*"):
                sides = (self.vector(e.left, env, level), self.vector(e.right, env, level))
                return self.scopes.emit(level, _ARITHMETIC[e.operator], sides)
            case Binary(operator="//" | "%") if not free_indices(e.right) and not _needs_lanes(e.right):
                return self._divided(e, env, level)
            case Call(function="min" | "max", arguments=(_, _)):
                return self.scopes.emit(level, f"i{e.function}", [self.vector(a, env, level) for a in e.arguments])
            case Call(function="abs" | "clamp"):
                return self.vector(spelled_out(e), env, level)
            case Call(function="select", arguments=(condition, then, otherwise)):
                sides = (self.vector(then, env, level), self.vector(otherwise, env, level))
                chosen = self._choose(level, self.condition(condition, env), *sides)
                assert isinstance(chosen, Reg)
                return chosen
            case Reduce(kind="sum", body=Literal()):
                return self._from_real(self.real(e, env), level)  # a count: exact in f32
            case Cast(dtype=DType.I32):
                if type_of(e.operand) is DType.I32:
                    return self.vector(e.operand, env, level)
                return self._from_real(self.real(e.operand, env), level)
            case _:
                message = f"{text(e)} differs from lane to lane in a way that is not lowered yet"
                raise not_lowered("E421", message, e.span)

    def _from_real(self, x: Operand, level: int) -> Reg:
        """Towards zero, NaN to 0, as the language casts."""
        finite = self.scopes.emit(level, "sel_eq", (x, x, x, Imm(0.0)))
        return self.scopes.emit(level, "ftoi", (finite,))

    # --- division ---------------------------------------------------------------------------------------------------

    def _divided(self, e: Binary, env: Env, level: int) -> Reg:
        """Rounded down, the remainder of the divisor's sign."""
        shift = _power_of_two(e.right)
        x = self.vector(e.left, env, level)
        if shift is not None:
            op, by = ("iasr", shift) if e.operator == "//" else ("iand", (1 << shift) - 1)
            return self.scopes.emit(level, op, (x, Imm(by)))
        if is_count(e.right):
            return self._by_count(e, x, env, level)
        return self._signed(e, x, env, level)

    def _signed(self, e: Binary, x: Reg, env: Env, level: int) -> Reg:
        """By a divisor of either sign: x // d = -x // -d, x % d = -(-x % -d)."""
        size = Call("max", (e.right, Unary("-", e.right)))
        sign = Call("min", (Call("max", (e.right, _INTEGER_MINUS_ONE)), _INTEGER_ONE))
        by = self._uniform(sign, "sign")
        turned = Binary("*", e.left, sign)
        x = self._recall("turned", turned, env, level, lambda: self.scopes.emit(level, "imul", (x, by), "turned"))
        found = self._by_count(Binary(e.operator, turned, size), x, env, level)
        return found if e.operator == "//" else self.scopes.emit(level, "imul", (found, by))

    def _by_count(self, e: Binary, x: Reg, env: Env, level: int) -> Reg:
        """x // d or x % d for any i32 x and 0 < d < 2^30; x is what the left side is."""
        divisor = self._uniform(e.right, "divisor")
        whole = Binary("//", e.left, e.right)
        quotient = self._recall("lanes by", whole, env, level, lambda: self._quotient(e.right, x, divisor, level))
        if e.operator == "//":
            return quotient
        product = self.scopes.emit(level, "imul", (quotient, divisor))
        return self.scopes.emit(level, "isub", (x, product), "remainder")

    def _quotient(self, right: Expr, x: Reg, divisor: Reg, level: int) -> Reg:
        inverse = self.real(Binary("/", _ONE, right), {})
        assert isinstance(inverse, Reg)
        name = "divide" if x.parts == 1 else "divide_pair"
        if name not in self.functions:
            self.functions[name] = self._function(name, x.parts)
        quotient = self.scopes.register("quotient", VType.I32, x.parts, uniform=x.uniform)
        self.scopes.append(level, Invoke(quotient, name, (x, inverse, divisor)))
        return quotient

    def _function(self, name: str, parts: int) -> Function:
        """x // d by the reciprocal of d in f32.

        x, 1 / d and their product are off by 2^-24 each, so that the first quotient is off by 1 + 3 * 2^-24 |x| / d and
        what is left of x by d + 384 at most; the second quotient is off by 1, which what is left then shows.
        """
        x = self.scopes.register("x", VType.I32, parts)
        inverse, divisor = self.scopes.register("inverse", VType.F32, 1), self.scopes.register("divisor", VType.I32, 1)
        body: list[VectorOp] = []

        def op(name: str, *args: Operand, hint: str = "t") -> Reg:
            wide = max(a.parts for a in args if isinstance(a, Reg))
            dest = self.scopes.register(hint, OPS[name].result, wide)
            body.append(VectorOp(dest, name, args))
            return dest

        left, near = x, list[Reg]()
        for _ in range(2):
            near.append(op("ftoi_down", op("mul", op("itof", left), inverse)))
            left = op("isub", left, op("imul", near[-1], divisor), hint="left")
        quotient = op("iadd", *near, hint="quotient")
        below = op("icmp_less", left, Imm(0), hint="below")
        above = op("icmp_geq", left, divisor, hint="above")
        for change, where in (("isub", below), ("iadd", above)):
            body.append(VectorOp(quotient, change, (quotient, Imm(1)), where, fresh=False))
        return Function(name, (x, inverse, divisor), tuple(body), quotient)

    def _uniform(self, e: Expr, hint: str) -> Reg:
        value = Scalar(self.integers.scalar(e, {}))
        return self._recall("uniform", e, {}, 0, lambda: self.scopes.emit(0, "imov", (value,), hint))


def _needs_lanes(e: Expr) -> bool:
    """Whether a scalar cannot hold it: a cast, or a choice, somewhere outside of what is read."""
    match e:
        case Cast() | Reduce() | Call(function="select"):
            return True
        case Unary(operand=operand):
            return _needs_lanes(operand)
        case Binary():
            return _needs_lanes(e.left) or _needs_lanes(e.right)
        case Call():
            return any(_needs_lanes(a) for a in e.arguments)
        case _:
            return False


def _power_of_two(e: Expr) -> int | None:
    if isinstance(e, Literal) and int(e.value) > 0 and int(e.value) & (int(e.value) - 1) == 0:
        return int(e.value).bit_length() - 1
    return None
