"""From a TPC stage to a kernel.

Row indices (those of the outputs that no reduction binds) make the index space. A member covers one step of vector
lanes where the lane index is a row index, else `ROWS` rows in flight; it evaluates every reduction as a loop of its
own, at the outermost place where what it depends on is known, then writes its outputs. Each pass computes its
expressions anew.

Along the lane index a reduction goes through whole vectors and ends with a butterfly across lanes; along any other
index it goes element by element, `UNROLL` at a time, and needs no work across lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpcgen.diagnostics import Diagnostic, DiagnosticError, Span
from tpcgen.kernel import bounds as ranges
from tpcgen.kernel.bounds import Bounds, integer, plus
from tpcgen.kernel.functions import EXP_NONPOSITIVE, FUNCTIONS, INLINE, RECIP_POSITIVE, Precision
from tpcgen.kernel.ir import (
    OPS,
    Broadcast,
    Function,
    Imm,
    IndexDim,
    Invoke,
    Kernel,
    Lanes,
    Load,
    Loop,
    Note,
    Operand,
    Reg,
    Scalar,
    ScalarLet,
    ScalarLoad,
    ScalarParam,
    Statement,
    Store,
    TensorParam,
    VectorOp,
    VType,
)
from tpcgen.kernel.presence import ROW_MAX, both, bound_by_reductions, domain, explicit
from tpcgen.kernel.verify import verify
from tpcgen.partition.plan import TpcStage
from tpcgen.program import affine
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import (
    COMPARISONS,
    Attr,
    Binary,
    Call,
    Cast,
    Equation,
    Expr,
    Index,
    Literal,
    Program,
    Read,
    Reduce,
    Size,
    Tensor,
    Unary,
    free_indices,
    type_of,
    walk,
)
from tpcgen.program.print import expression as text
from tpcgen.program.substitute import rewrite, substitute

ROWS = 4
UNROLL = 4
MAX_AXES = 5
MAX_TENSORS = 16
MAX_SCALARS = 32
_LANE = "lane"
_PRED = VType.PRED


def lower(stage: TpcStage, *, target: str, name: str) -> Kernel:
    """The kernel of a stage; `target` is gaudi, gaudi2 or gaudi3.

    DiagnosticError with an E4xx for what is not lowered: rank, gathers, tensors of more than 5 axes, more than 16
    tensors or 32 scalars, dtypes without arithmetic here.
    """
    return verify(_Lowering(stage, target, name).kernel())


def fail(id: str, message: str, span: Span, hint: str = "") -> DiagnosticError:
    return DiagnosticError((Diagnostic(id, message, span, hint),))


@dataclass(frozen=True, slots=True)
class _Output:
    """One equation, its presence explicit; `loops` are the indices a member runs through, lane last."""

    tensor: Tensor
    indices: tuple[str, ...]
    value: Expr
    where: Expr | None
    loops: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class _Bound:
    """The value of an index: an integer expression of kernel variables, known from scope `level` on."""

    value: Expr
    level: int


_Env = Mapping[str, _Bound]
_MemoKey = tuple[object, ...]


@dataclass
class _Scope:
    out: list[Statement] = field(default_factory=list[Statement])
    memo: dict[_MemoKey, Operand] = field(default_factory=dict[_MemoKey, Operand])
    names: set[str] = field(default_factory=set[str])


@dataclass(frozen=True)
class _Emitter:
    """Appends vector operations to one scope (functions.Builder)."""

    lowering: _Lowering
    level: int
    hint: str = "t"

    def op(self, name: str, *args: Operand) -> Operand:
        return self.lowering.emit(self.level, name, args, self.hint)


@dataclass
class _Body:
    """Collects the operations of a function (functions.Builder)."""

    operations: list[VectorOp] = field(default_factory=list[VectorOp])

    def op(self, name: str, *args: Operand) -> Operand:
        info = OPS[name]
        parts = max((a.parts for a in args if isinstance(a, Reg)), default=1)
        dest = Reg(f"t{len(self.operations)}", info.result, parts, uniform=False)
        self.operations.append(VectorOp(dest, name, args))
        return dest


class _Lowering:
    def __init__(self, stage: TpcStage, target: str, name: str) -> None:
        self.program: Program = stage.program
        self.lane = stage.lane
        self.target = target
        self.name = name
        self.reserved = {t.name for t in self.program.tensors} | {*self.program.sizes}
        self.reserved |= {a.name for a in self.program.attributes} | {_LANE}
        self.ranges = {r.name: r for r in self.program.indices}
        self.outputs = self._outputs()
        self.row_indices = self._row_indices()
        self.lanes = self._choose_lanes()
        self.precision = Precision.BF16 if all(o.tensor.dtype is DType.BF16 for o in self.outputs) else Precision.F32
        self.scopes = [_Scope()]
        self.suspended: list[_Scope] = []
        self.ever: set[str] = set()
        self.known_free: dict[int, tuple[Expr, tuple[str, ...]]] = {}
        self.scalars: dict[str, ScalarParam] = {}
        self.functions: dict[str, Function] = {}
        self.row_index = self._row_in_flight()
        self.rows: list[_Env] = []

    # --- shape of the kernel -------------------------------------------------------------------------------------

    def kernel(self) -> Kernel:
        self._check_limits()
        dims = self._index_space()
        self.scopes.append(_Scope())
        self._bind_members(dims)
        for output in self.outputs:
            self._write(output)
        setup, body = self.scopes[0].out, self.scopes[1].out
        if len(self.scalars) > MAX_SCALARS:
            message = f"{len(self.scalars)} scalar parameters, a TPC kernel takes {MAX_SCALARS}"
            raise fail("E425", message, self.program.span)
        title = "; ".join(f"{o.tensor.name}[{', '.join(o.indices)}]" for o in self.outputs)
        return Kernel(
            self.name, self.target, self.lanes, self._tensor_params(), tuple(self.scalars.values()), dims,
            tuple(self.functions.values()), tuple(setup), tuple(body), title,
        )  # fmt: skip

    def _outputs(self) -> tuple[_Output, ...]:
        equations: list[Equation] = []
        for statement in self.program.body:
            if not isinstance(statement, Equation):
                raise fail("E422", "scan is not lowered to the TPC yet", statement.span)
            equations.append(statement)
        looped = frozenset[str]().union(*(bound_by_reductions(e.value) for e in equations))
        shared = frozenset(equations[0].indices).intersection(*(e.indices for e in equations))
        result: list[_Output] = []
        for e in equations:
            present = explicit(e.value)
            where = both(domain(e.domain), present.where)
            if isinstance(present.value, Reduce) and present.value.kind == "sum":
                where = domain(e.domain)  # a sum over no point is 0, which is what is stored for absent
            loops = [i for i in e.indices if i in looped or i not in shared]
            loops.sort(key=lambda i: i == self.lane)
            tensor = self.program.tensor(e.target)
            result.append(_Output(tensor, e.indices, present.value, where, tuple(loops), e.span))
        return tuple(result)

    def _row_indices(self) -> tuple[str, ...]:
        first = self.outputs[0]
        return tuple(i for i in first.indices if i not in first.loops)

    def _choose_lanes(self) -> Lanes:
        dtypes = {t.dtype for t in self.program.tensors if self._varies_along_lanes(t)}
        for t in self.program.tensors:
            if t.dtype not in (DType.F32, DType.BF16, DType.I32):
                raise fail("E426", f"{t.name} is {t.dtype}: only f32, bf16 and i32 are lowered to the TPC yet", t.span)
            if t.dtype is DType.I32 and any(o.tensor is t for o in self.outputs):
                raise fail("E426", f"the output {t.name} is i32: only f32 and bf16 are lowered to the TPC yet", t.span)
        if DType.BF16 not in dtypes:
            return Lanes.SINGLE
        return Lanes.EVEN_ODD if dtypes == {DType.BF16} else Lanes.LINEAR

    def _varies_along_lanes(self, tensor: Tensor) -> bool:
        for o in self.outputs:
            if o.tensor is tensor and self.lane in o.indices:
                return True
            reads = [x for part in (o.value, o.where) if part is not None for x in walk(part) if isinstance(x, Read)]
            if any(r.tensor == tensor.name and any(self.lane in free_indices(i) for i in r.indices) for r in reads):
                return True
        return False

    def _row_in_flight(self) -> str | None:
        """The row index of which a member takes several values at once."""
        if self.lane in self.row_indices and any(o.loops or bound_by_reductions(o.value) for o in self.outputs):
            return None  # loops along other indices are unrolled instead
        others = [i for i in self.row_indices if i != self.lane]
        return others[-1] if others else None

    def _index_space(self) -> tuple[IndexDim, ...]:
        order = list(reversed(self.row_indices))
        dims: list[IndexDim] = []
        for i in order:
            step = self.lanes.step if i == self.lane else ROWS if i == self.row_index else 1
            r = self.ranges[i]
            if r.low != integer(0):
                raise fail("E423", f"index {i} of an output starts at {text(r.low)}, not at 0", r.span)
            extent = r.high if step == 1 else Binary("//", Binary("+", r.high, integer(step - 1)), integer(step))
            dims.append(IndexDim(i, extent, step))
        if len(dims) > MAX_AXES:
            raise fail("E423", f"{len(dims)} parallel indices, an index space has {MAX_AXES} dims", self.program.span)
        return tuple(dims) or (IndexDim("member", integer(1), 1),)

    def _check_limits(self) -> None:
        tensors = self.program.tensors
        if len(tensors) > MAX_TENSORS:
            raise fail("E424", f"{len(tensors)} tensors, a TPC kernel takes {MAX_TENSORS}", self.program.span)
        for t in tensors:
            if len(t.shape) > MAX_AXES:
                raise fail("E423", f"{t.name} has {len(t.shape)} axes, a TPC tensor has {MAX_AXES}", t.span)

    def _tensor_params(self) -> tuple[TensorParam, ...]:
        ordered = [*self.program.inputs, *self.program.outputs]
        return tuple(
            TensorParam(t.name, t.dtype, tuple(reversed(t.shape)) or (integer(1),), t in self.program.outputs)
            for t in ordered
        )

    def _bind_members(self, dims: Sequence[IndexDim]) -> None:
        self.scopes[1].names.update(d.name for d in dims)
        base: dict[str, _Bound] = {i: _Bound(Index(i), 1) for i in self.row_indices}
        if self.row_index is None:
            self.rows = [base]
            return
        row = self.row_index
        self.rows = [{**base, row: _Bound(plus(Index(row), u), 1)} for u in range(ROWS)]

    # --- names and statements -----------------------------------------------------------------------------------

    def fresh(self, level: int, hint: str) -> str:
        """A name that no open scope uses, not even one further in; outside the innermost scope one never used before,
        as scopes closed by now follow in the text."""
        hoisted = bool(self.suspended) or level < len(self.scopes) - 1
        taken = self.reserved.union(*(s.names for s in (*self.scopes, *self.suspended)), self.scalars)
        if hoisted:
            taken |= self.ever
        name, number = hint, 1
        while name in taken:
            number += 1
            name = f"{hint}_{number}"
        self.scopes[level].names.add(name)
        self.ever.add(name)
        return name

    def append(self, level: int, statement: Statement) -> None:
        self.scopes[level].out.append(statement)

    def emit(self, level: int, op: str, args: Sequence[Operand], hint: str = "t") -> Operand:
        """One operation in the scope of that level; registers it reads live there or further out."""
        info = OPS[op]
        wide = any(isinstance(a, Reg) and a.parts == 2 for a in args) or op == "widen"
        varying = any(isinstance(a, Reg) and not a.uniform for a in args)
        if op in ("part1", "part2", "narrow"):
            wide = False
        dest = Reg(self.fresh(level, hint), info.result, 2 if wide else 1, not varying)
        self.append(level, VectorOp(dest, op, tuple(args)))
        return dest

    def update(self, level: int, dest: Reg, op: str, args: Sequence[Operand], pred: Reg | None) -> None:
        self.append(level, VectorOp(dest, op, tuple(args), pred, fresh=False))

    def free(self, e: Expr) -> tuple[str, ...]:
        """Free indices in order; remembered, as every use of an expression asks for them."""
        known = self.known_free.get(id(e))
        if known is None:
            known = self.known_free[id(e)] = (e, tuple(sorted(free_indices(e))))
        return known[1]

    def level_of(self, e: Expr, env: _Env) -> int:
        return max((env[i].level for i in self.free(e)), default=0)

    def remembered(self, what: str, e: Expr, env: _Env, make: Callable[[int], Operand]) -> Operand:
        level = self.level_of(e, env)
        key: _MemoKey = (what, e, tuple((i, env[i].value) for i in self.free(e)))
        memo = self.scopes[level].memo
        if key not in memo:
            memo[key] = make(level)
        return memo[key]

    # --- integers ------------------------------------------------------------------------------------------------

    def scalar(self, e: Expr, env: _Env) -> Expr:
        """An integer expression in kernel variables. The lane index stands for its first element."""
        loaded = rewrite(e, lambda x: self._load_scalar(x, env) if isinstance(x, Read) else x)
        for x in walk(loaded):
            match x:
                case Size() | Attr():
                    self._scalar_param(x.name, DType.I32, x)
                case Cast() | Reduce():
                    raise fail("E421", "an index computed from values is not lowered to the TPC yet", e.span)
                case _:
                    pass
        values = {i: env[i].value for i in free_indices(loaded) if i in env}
        return affine.expression(affine.polynomial(substitute(loaded, values)))

    def _load_scalar(self, read: Read, env: _Env) -> Expr:
        """`read` after its own indices were handled: indices in it may already be kernel variables."""
        if read.dtype is not DType.I32:
            raise fail("E421", f"an index computed from {read.tensor} is not lowered to the TPC yet", read.span)
        if self.lane in free_indices(read):
            raise fail("E421", f"{read.tensor} is read at a different place in each lane", read.span)
        level = max((env[i].level for i in free_indices(read) if i in env), default=0)
        coords = self._coords(read, env)
        memo_key: _MemoKey = ("scalar", read.tensor, coords)
        scope = self.scopes[level]
        if memo_key not in scope.memo:
            name = self.fresh(level, read.tensor.lower() + "_here")
            self.append(level, ScalarLoad(name, read.tensor, coords))
            scope.memo[memo_key] = Scalar(Index(name))
        found = scope.memo[memo_key]
        assert isinstance(found, Scalar)
        return found.value

    def _scalar_param(self, name: str, type: DType, value: Expr) -> None:
        self.scalars.setdefault(name, ScalarParam(name, type, value))

    def _coords(self, read: Read, env: _Env) -> tuple[Expr, ...]:
        """In TPC order; rows beyond the tensor stay inside it where an element must exist."""
        shape = self.program.tensor(read.tensor).shape
        coords = [self.scalar(i, env) for i in read.indices]
        if self.row_index is not None and self.lane not in free_indices(read):
            for axis, i in enumerate(read.indices):
                if self.row_index in free_indices(i) and env[self.row_index].value != Index(self.row_index):
                    last = self.scalar(plus(shape[axis], -1), {})
                    coords[axis] = Call("min", (coords[axis], last))
        return tuple(reversed(coords)) or (integer(0),)

    def _lane_ids(self) -> Reg:
        scope = self.scopes[0]
        key: _MemoKey = (_LANE,)
        if key not in scope.memo:
            reg = Reg(_LANE, VType.I32, self.lanes.parts, uniform=False)
            scope.out.insert(0, VectorOp(reg, "lane_id", ()))
            scope.memo[key] = reg
        found = scope.memo[key]
        assert isinstance(found, Reg)
        return found

    def _integer_vector(self, e: Expr, env: _Env, level: int) -> Operand:
        """Lanes of an integer expression: a multiple of the lane number plus a scalar, or arithmetic on such."""
        poly = affine.polynomial(e)
        factor = affine.coefficient_of(poly, self.lane)
        if self.lane not in env or factor == 0:
            return self.emit(level, "imov", (Scalar(self.scalar(e, env)),))
        if factor is not None:
            rest = self.scalar(e, env)
            lane = self._lane_ids()
            if factor == -1:
                return self.emit(level, "isub", (Scalar(rest), lane))
            scaled = lane if factor == 1 else self.emit(level, "imul", (lane, Imm(factor)))
            return self.emit(level, "iadd", (scaled, Scalar(rest)))
        match e:
            case Binary(operator="+" | "-" | "*"):
                op = {"+": "iadd", "-": "isub", "*": "imul"}[e.operator]
                a, b = self._integer_vector(e.left, env, level), self._integer_vector(e.right, env, level)
                return self.emit(level, op, (a, b))
            case Call(function="min" | "max") if len(e.arguments) == 2:
                op = "imin" if e.function == "min" else "imax"
                a, b = (self._integer_vector(x, env, level) for x in e.arguments)
                return self.emit(level, op, (a, b))
            case Read(dtype=DType.I32):
                return self._load_integers(e, env, level)
            case _:
                raise fail("E421", f"{text(e)} differs from lane to lane in a way that is not lowered yet", e.span)

    # --- values --------------------------------------------------------------------------------------------------

    def value(self, e: Expr, env: _Env) -> Operand:
        """A float expression at a point; Imm for literals, else a register of the scope its indices are known in."""
        if isinstance(e, Literal):
            return Imm(float(e.value))
        if not self.free(e) and not any(isinstance(x, Read | Reduce) for x in walk(e)):
            return self._constant(e)
        if isinstance(e, Reduce):
            return self._reduction(e, env)
        return self.remembered("value", e, env, lambda level: self._compute(e, env, level))

    def _constant(self, e: Expr) -> Operand:
        """A real number made of sizes and attributes: computed by the glue, splat once."""

        def make(level: int) -> Operand:
            param = self.fresh(0, _identifier(e))
            self._scalar_param(param, DType.F32, e)
            return self.emit(level, "mov", (Scalar(Attr(param, DType.F32)),), f"{param}_v")

        return self.remembered("value", e, {}, make)

    def _compute(self, e: Expr, env: _Env, level: int) -> Operand:
        b = _Emitter(self, level)
        if type_of(e) is DType.I32 and not isinstance(e, Read):
            return b.op("itof", self._integer_vector(e, env, level))
        match e:
            case Read():
                return self._load(e, env, level)
            case Unary(operator="-"):
                return b.op("mul", self.value(e.operand, env), Imm(-1.0))
            case Binary(operator="+" | "-" | "*"):
                op = {"+": "add", "-": "sub", "*": "mul"}[e.operator]
                return b.op(op, self.value(e.left, env), self.value(e.right, env))
            case Binary(operator="/"):
                inverse = self.value(Call("recip", (e.right,)), env)
                return inverse if e.left == Literal(1.0, DType.F32) else b.op("mul", self.value(e.left, env), inverse)
            case Call(function="select"):
                condition, then, otherwise = e.arguments
                chosen = self.predicate(condition, env)
                return self._choose(level, chosen, self.value(then, env), self.value(otherwise, env))
            case Call() if e.function in FUNCTIONS:
                args = tuple(self.value(a, env) for a in e.arguments)
                if e.function in INLINE:
                    return FUNCTIONS[e.function](b, self.precision, args)
                return self._invoke(e.function, self._register(args[0], level), level)
            case Call():
                raise fail("E427", f"{e.function} is not lowered to the TPC yet", e.span)
            case Cast(dtype=DType.F32):
                return self.value(e.operand, env)
            case Cast(dtype=DType.BF16):
                return b.op("round_bf16", self.value(e.operand, env))
            case _:
                raise fail("E427", f"{text(e)} is not lowered to the TPC yet", e.span)

    def _invoke(self, function: str, argument: Reg, level: int) -> Reg:
        name = function if argument.parts == 1 else f"{function}_pair"
        if name not in self.functions:
            parameter = Reg("x", VType.F32, argument.parts, uniform=False)
            body = _Body()
            result = FUNCTIONS[function](body, self.precision, (parameter,))
            assert isinstance(result, Reg)
            self.functions[name] = Function(name, parameter, tuple(body.operations), result)
        dest = Reg(self.fresh(level, _RESULTS.get(function, "t")), VType.F32, argument.parts, argument.uniform)
        self.append(level, Invoke(dest, name, argument))
        return dest

    def _choose(self, level: int, condition: bool | Reg, then: Operand, otherwise: Operand) -> Operand:
        if isinstance(condition, bool):
            return then if condition else otherwise
        operands = (condition, then, otherwise)
        varying = any(isinstance(x, Reg) and not x.uniform for x in operands)
        wide = any(isinstance(x, Reg) and x.parts == 2 for x in operands)
        dest = Reg(self.fresh(level, "t"), VType.F32, 2 if wide else 1, not varying)
        self.append(level, VectorOp(dest, "mov", (otherwise,)))
        self.update(level, dest, "mov", (then,), condition)
        return dest

    def _load(self, read: Read, env: _Env, level: int) -> Operand:
        coords = self._coords(read, env)
        hint = read.tensor.lower()
        if self.lane not in free_indices(read):
            return self._broadcast(read, coords, level, hint)
        if read.dtype is DType.I32:
            return self.emit(level, "itof", (self._load_integers(read, env, level),))
        self._contiguous(read)
        if read.dtype is DType.BF16:
            raw = Reg(self.fresh(level, f"{hint}_b"), VType.BF16, 1, uniform=False)
            self.append(level, Load(raw, read.tensor, coords))
            return self.emit(level, "widen", (raw,), hint)
        dest = Reg(self.fresh(level, hint), VType.F32, self.lanes.parts, uniform=False)
        self.append(level, Load(dest, read.tensor, coords))
        return dest

    def _load_integers(self, read: Read, env: _Env, level: int) -> Reg:
        """Along the lane index."""
        self._contiguous(read)
        dest = Reg(self.fresh(level, read.tensor.lower()), VType.I32, self.lanes.parts, uniform=False)
        self.append(level, Load(dest, read.tensor, self._coords(read, env)))
        return dest

    def _contiguous(self, read: Read) -> None:
        """DiagnosticError E421 unless the elements of a vector of lanes lie side by side."""
        axes = tuple(reversed(read.indices))
        along = [n for n, i in enumerate(axes) if self.lane in free_indices(i)]
        fastest = affine.coefficient_of(affine.polynomial(axes[0]), self.lane)
        if along != [0] or fastest != 1:
            raise fail(
                "E421",
                f"{text(read)} is not contiguous along {self.lane}, the index of the vector lanes",
                read.span,
                f"an access whose last index is {self.lane} plus something that does not depend on it is lowered",
            )

    def _broadcast(self, read: Read, coords: tuple[Expr, ...], level: int, hint: str) -> Operand:
        if read.dtype is DType.I32:
            name = self.fresh(level, hint)
            self.append(level, ScalarLoad(name, read.tensor, coords))
            return self.emit(level, "itof", (self.emit(level, "imov", (Scalar(Index(name)),)),), hint)
        if read.dtype is DType.BF16:
            raw = Reg(self.fresh(level, f"{hint}_b"), VType.BF16, 1, uniform=True)
            self.append(level, Broadcast(raw, read.tensor, coords))
            return self.emit(level, "part1", (self.emit(level, "widen", (raw,), hint),), hint)
        dest = Reg(self.fresh(level, hint), VType.F32, 1, uniform=True)
        self.append(level, Broadcast(dest, read.tensor, coords))
        return dest

    # --- conditions -------------------------------------------------------------------------------------------------

    def predicate(self, e: Expr | None, env: _Env) -> bool | Reg:
        """A condition as a predicate register, or its value where it is the same at all points."""
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
                made = self.remembered("predicate", e, env, lambda level: self._compare(e, env, level))
                assert isinstance(made, Reg)
                return made
            case _:
                raise fail("E427", f"the condition {text(e)} is not lowered to the TPC yet", e.span)

    def _predicate_op(self, op: str, e: Expr, env: _Env, *args: Reg) -> Reg:
        made = self.remembered("predicate", e, env, lambda level: self.emit(level, op, args, "p"))
        assert isinstance(made, Reg)
        return made

    def _compare(self, e: Binary, env: _Env, level: int) -> Operand:
        name = {"<": "less", "<=": "leq", ">": "grt", ">=": "geq", "==": "eq", "!=": "neq"}[e.operator]
        if type_of(e.left) is not DType.I32 or type_of(e.right) is not DType.I32:
            return self.emit(level, f"cmp_{name}", (self.value(e.left, env), self.value(e.right, env)), "p")
        difference = Binary("-", e.left, e.right)
        factor = affine.coefficient_of(affine.polynomial(difference), self.lane) if self.lane in env else 0
        if factor in (1, -1):
            # lane + rest OP 0, or rest - lane OP 0
            rest = self.scalar(difference if factor == -1 else Binary("-", e.right, e.left), env)
            flipped = {"less": "grt", "leq": "geq", "grt": "less", "geq": "leq"}
            op = name if factor == 1 else flipped.get(name, name)
            return self.emit(level, f"icmp_{op}", (self._lane_ids(), Scalar(rest)), "p")
        return self.emit(level, f"icmp_{name}", (self._integer_vector(difference, env, level), Imm(0)), "p")

    # --- reductions -------------------------------------------------------------------------------------------------

    def _reduction(self, e: Reduce, env: _Env) -> Operand:
        level = self.level_of(e, env)
        outer = {i: b for i, b in env.items() if b.level <= level}
        bundle = self._bundle(e, outer)

        def key(point: _Env) -> _MemoKey:
            return ("value", e, tuple((i, point[i].value) for i in self.free(e)))

        memo = self.scopes[level].memo
        if key(env) not in memo:
            inner = self.scopes[level + 1 :]
            self.scopes, self.suspended = self.scopes[: level + 1], [*inner, *self.suspended]
            results = self._reduce(e, bundle, level)
            self.scopes, self.suspended = [*self.scopes, *inner], self.suspended[len(inner) :]
            for point, result in zip(bundle, results, strict=True):
                memo[key(point)] = result
        return memo[key(env)]

    def _bundle(self, e: Expr, env: _Env) -> list[_Env]:
        """The points that are evaluated together with this one: all rows in flight where they differ in `e`."""
        row = self.row_index
        if row is None or row not in free_indices(e) or env[row].level != 1:
            return [env]
        return [{**env, row: r[row]} for r in self.rows]

    def _reduce(self, e: Reduce, points: list[_Env], level: int) -> list[Operand]:
        order = sorted(e.indices, key=lambda i: i == self.lane)
        scalar_loop = order[-1] != self.lane
        if e.span.line:
            self.append(level, Note(f"{_TITLE[e.kind]} over {', '.join(order)}", e.span))
        width = self._width(e)
        chains = UNROLL if scalar_loop and len(points) == 1 and len(order) == 1 else 1
        accumulators = [[self._accumulator(e.kind, level, width) for _ in range(chains)] for _ in points]

        def body(inner: list[list[_Env]], conditions: tuple[Expr, ...]) -> None:
            for row, instances in enumerate(inner):
                for chain, point in enumerate(instances):
                    self._accumulate(e, accumulators[row][chain % chains], point, conditions)

        self._nest(order, e.domain, points, level, chains, body, stores=False)
        return [self._finish(level, chain, e.kind, not scalar_loop) for chain in accumulators]

    def _width(self, e: Reduce) -> tuple[int, bool]:
        """Parts of an accumulator and whether its lanes agree."""
        varies = any(self.lane in free_indices(x) for x in (e.body, *([e.domain] if e.domain is not None else [])))
        return (self.lanes.parts, False) if varies or self.lane in e.indices else (1, True)

    def _accumulator(self, kind: str, level: int, width: tuple[int, bool]) -> Reg:
        reg = Reg(self.fresh(level, _HINT[kind]), VType.F32, *width)
        self.append(level, VectorOp(reg, "mov", (Imm(_IDENTITY[kind]),)))
        return reg

    def _accumulate(self, e: Reduce, into: Reg, point: _Env, conditions: tuple[Expr, ...]) -> None:
        level = len(self.scopes) - 1
        condition = self.predicate(_conjunction(conditions), point)
        if condition is False:
            return
        pred = condition if isinstance(condition, Reg) else None
        match e.kind, e.body:
            case "sum", Binary(operator="*") if type_of(e.body) is DType.F32:
                a, b = self.value(e.body.left, point), self.value(e.body.right, point)
                if isinstance(a, Reg) or isinstance(b, Reg):
                    self.update(level, into, "mac", (a, b, into), pred)
                    return
            case _:
                pass
        self._merge(e.kind, level, into, self.value(e.body, point), pred)

    def _merge(self, kind: str, level: int, into: Reg, x: Operand, pred: Reg | None) -> None:
        match kind:
            case "sum":
                self.update(level, into, "add", (into, x), pred)
            case "row max":
                self.update(level, into, "max", (into, x), pred)
            case _:
                # keeps a NaN in `into`, takes one from x: both comparisons are false for NaN
                select = "sel_geq" if kind == "max" else "sel_leq"
                kept = self.emit(level, select, (into, x, into, x))
                self.update(level, into, "sel_eq", (into, into, kept, into), pred)

    def _finish(self, level: int, chains: list[Reg], kind: str, across_lanes: bool) -> Operand:
        first = chains[0]
        for other in chains[1:]:
            self._merge(kind, level, first, other, None)
        if not across_lanes:
            return first
        result = first
        if first.parts == 2:
            one, two = self.emit(level, "part1", (first,)), self.emit(level, "part2", (first,))
            assert isinstance(one, Reg)
            result = Reg(self.fresh(level, _HINT[kind]), VType.F32, 1, uniform=False)
            self.append(level, VectorOp(result, "mov", (one,)))
            self._merge(kind, level, result, two, None)
        for step in ("swap_dual_groups_near", "swap_dual_groups_far", "swap_groups"):
            self._merge(kind, level, result, self.emit(level, step, (result,)), None)
        for distance in (1, 2, 4):
            moved = self.emit(level, "shuffle", (result, self._shuffle_control(distance)))
            self._merge(kind, level, result, moved, None)
        return replace(result, uniform=True)

    def _shuffle_control(self, distance: int) -> Reg:
        """Control of SHUFFLE that exchanges lanes of a group at a distance (toolchain.md 2.5, without LUT)."""
        scope = self.scopes[0]
        key: _MemoKey = ("shuffle", distance)
        if key not in scope.memo:
            dest = Reg(self.fresh(0, f"exchange_{distance}"), VType.CTRL, 1, uniform=False)
            self.append(0, VectorOp(dest, "shuffle_control", (Imm(distance),)))
            scope.memo[key] = dest
        found = scope.memo[key]
        assert isinstance(found, Reg)
        return found

    # --- loops ------------------------------------------------------------------------------------------------------

    def _nest(
        self,
        order: Sequence[str],
        where: Expr | None,
        points: list[_Env],
        level: int,
        unroll: int,
        body: Callable[[list[list[_Env]], tuple[Expr, ...]], None],
        *,
        stores: bool,
        absent: Callable[[list[_Env]], None] | None = None,
    ) -> None:
        """Loops over `order`, outermost first; the innermost follows the bounds of the domain.

        `body` gets, per point, the points of one iteration and the conditions that are not known to hold in it;
        `absent` is called for the iterations of the innermost loop that lie outside the bounds.
        """
        if len(self.scopes) - 1 != level:
            raise AssertionError("a loop must be placed in the innermost open scope")
        index = order[0]
        r = self.ranges[index]
        low, high = self.scalar(r.low, points[0]), self.scalar(r.high, points[0])
        if len(order) > 1:
            step = self.lanes.step if index == self.lane else 1

            def next_level(inner: list[list[_Env]], _conditions: tuple[Expr, ...]) -> None:
                self._nest(
                    order[1:], where, [i[0] for i in inner], len(self.scopes) - 1, 1, body, stores=stores, absent=absent
                )

            self._loop(index, low, high, step, 1, points, (), next_level)
            return
        self._innermost(index, where, points, unroll, body, stores, absent)

    def _innermost(
        self,
        index: str,
        where: Expr | None,
        points: list[_Env],
        unroll: int,
        body: Callable[[list[list[_Env]], tuple[Expr, ...]], None],
        stores: bool,
        absent: Callable[[list[_Env]], None] | None,
    ) -> None:
        env = points[0]
        r = self.ranges[index]
        varying: dict[str, int] = {}
        if self.row_index is not None and len(points) > 1:
            varying[self.row_index] = len(points)
        if self.lane in env and index != self.lane:
            varying[self.lane] = self.lanes.step
        b = ranges.bounds(where, index, r.low, r.high, varying)
        self._pieces(index, b, env, points, unroll, body, stores, absent)

    def _pieces(
        self,
        index: str,
        b: Bounds,
        env: _Env,
        points: list[_Env],
        unroll: int,
        body: Callable[[list[list[_Env]], tuple[Expr, ...]], None],
        stores: bool,
        absent: Callable[[list[_Env]], None] | None,
    ) -> None:
        r = self.ranges[index]
        lanes = index == self.lane
        low, high = self.scalar(r.low, env), self.scalar(r.high, env)
        bounded_low = b.begin != r.low
        bounded_high = b.end != r.high
        begin = self._let(f"{index}_begin", self.scalar(b.begin, env)) if bounded_low else low
        end = self.scalar(b.end, env)
        if bounded_high or bounded_low:
            end = self._let(f"{index}_end", ranges.largest([begin, end]))
        all_begin = self.scalar(b.all_begin, env)
        all_end = self.scalar(b.all_end, env)
        always, masked = b.everywhere, (*b.everywhere, *b.mask)
        if not lanes:
            self._scalar_pieces(
                index, (low, begin, all_begin, all_end, end, high), b, points, unroll, body, absent, always, masked
            )
            return
        step = self.lanes.step
        inside = Binary("<", Index(index), r.high)
        if stores and not bounded_low and not bounded_high:
            self._loop(index, low, end, step, 1, points, always, body)
            return
        if not stores:
            masked = (*masked, inside)
        grid = begin
        if bounded_low:
            grid = self._let(f"{index}_first", _round_down(begin, step))
            if absent is not None:
                self._absent_loop(index, low, grid, step, points, absent)
            full = self._let(f"{index}_full", _round_up(ranges.largest([all_begin, begin]), step))
            self._loop(index, grid, ranges.smallest([full, end]), step, 1, points, masked, body)
        else:
            full = grid
        full_end = _round_down(ranges.smallest([all_end, end]), step)
        if bounded_low or bounded_high:
            full_end = ranges.largest([full, full_end])
        full_end = self._let(f"{index}_full_end", full_end)
        self._loop(index, full, full_end, step, 1, points, always, body)
        self._loop(index, full_end, end, step, 1, points, masked, body)
        if absent is not None and bounded_high:
            self._absent_loop(index, _round_up(end, step), high, step, points, absent)

    def _scalar_pieces(
        self,
        index: str,
        edges: tuple[Expr, Expr, Expr, Expr, Expr, Expr],
        b: Bounds,
        points: list[_Env],
        unroll: int,
        body: Callable[[list[list[_Env]], tuple[Expr, ...]], None],
        absent: Callable[[list[_Env]], None] | None,
        always: tuple[Expr, ...],
        masked: tuple[Expr, ...],
    ) -> None:
        low, begin, all_begin, all_end, end, high = edges
        if absent is not None and begin != low:
            self._absent_loop(index, low, begin, 1, points, absent)
        full = begin
        if b.varies_low:
            full = self._let(f"{index}_full", ranges.smallest([ranges.largest([all_begin, begin]), end]))
            self._loop(index, begin, full, 1, 1, points, masked, body)
        full_end = end
        if b.varies_high:
            full_end = self._let(f"{index}_full_end", ranges.largest([full, ranges.smallest([all_end, end])]))
        main_end = full_end
        if unroll > 1:
            length = plus(full_end, Unary("-", full))
            main_end = self._let(f"{index}_main_end", plus(full, _round_down(length, unroll)))
            self._loop(index, full, main_end, unroll, unroll, points, always, body)
            self._loop(index, main_end, full_end, 1, 1, points, always, body)
        else:
            self._loop(index, full, full_end, 1, 1, points, always, body)
        if b.varies_high:
            self._loop(index, full_end, end, 1, 1, points, masked, body)
        if absent is not None and end != high:
            self._absent_loop(index, end, high, 1, points, absent)

    def _let(self, hint: str, e: Expr) -> Expr:
        """A name for a scalar that loops use more than once."""
        simple = affine.expression(affine.polynomial(e))
        if isinstance(simple, Literal | Index | Size | Attr):
            return simple
        level = len(self.scopes) - 1
        key: _MemoKey = ("let", simple)
        scope = self.scopes[level]
        if key not in scope.memo:
            name = self.fresh(level, hint)
            self.append(level, ScalarLet(name, simple))
            scope.memo[key] = Scalar(Index(name))
        found = scope.memo[key]
        assert isinstance(found, Scalar)
        return found.value

    def _loop(
        self,
        index: str,
        low: Expr,
        high: Expr,
        step: int,
        instances: int,
        points: list[_Env],
        conditions: tuple[Expr, ...],
        body: Callable[[list[list[_Env]], tuple[Expr, ...]], None],
    ) -> None:
        if low == high:
            return
        level = len(self.scopes)
        scope = _Scope()
        self.scopes.append(scope)
        var = self.fresh(level, index)
        inner: list[list[_Env]] = [
            [{**p, index: _Bound(plus(Index(var), u), level)} for u in range(instances)] for p in points
        ]
        body(inner, conditions)
        self.scopes.pop()
        if scope.out:
            self.append(level - 1, Loop(var, low, high, step, tuple(scope.out)))

    def _absent_loop(
        self, index: str, low: Expr, high: Expr, step: int, points: list[_Env], absent: Callable[[list[_Env]], None]
    ) -> None:
        def body(inner: list[list[_Env]], _conditions: tuple[Expr, ...]) -> None:
            absent([i[0] for i in inner])

        self._loop(index, low, high, step, 1, points, (), body)

    # --- outputs ----------------------------------------------------------------------------------------------------

    def _write(self, output: _Output) -> None:
        if output.span.line:
            self.append(1, Note(f"{output.tensor.name}[{', '.join(output.indices)}]", output.span))
        if not output.loops:
            for point in self.rows:
                self._store(output, point, (output.where,) if output.where is not None else ())
            return

        def body(inner: list[list[_Env]], conditions: tuple[Expr, ...]) -> None:
            for instances in inner:
                for point in instances:
                    self._store(output, point, conditions)

        def absent(inner: list[_Env]) -> None:
            for point in inner:
                self._put(output, point, Imm(0.0))

        unroll = UNROLL if len(self.rows) == 1 and len(output.loops) == 1 and output.loops[0] != self.lane else 1
        self._nest(output.loops, output.where, self.rows, 1, unroll, body, stores=True, absent=absent)

    def _store(self, output: _Output, point: _Env, conditions: tuple[Expr, ...]) -> None:
        condition = self.predicate(_conjunction(conditions), point)
        value = self.value(output.value, point)
        level = len(self.scopes) - 1
        self._put(output, point, self._choose(level, condition, value, Imm(0.0)))

    def _put(self, output: _Output, point: _Env, value: Operand) -> None:
        level = len(self.scopes) - 1
        tensor = output.tensor
        coords = tuple(reversed([self.scalar(Index(i), point) for i in output.indices])) or (integer(0),)
        along = self.lane in output.indices
        if along and output.indices[-1] != self.lane:
            raise fail(
                "E421", f"{tensor.name} is not contiguous along {self.lane}, the index of the vector lanes", output.span
            )
        stored = self._register(value, level)
        if tensor.dtype is DType.BF16:
            narrowed = self.emit(level, "narrow", (stored,), f"{tensor.name.lower()}_b")
            assert isinstance(narrowed, Reg)
            stored = narrowed
        self.append(level, Store(tensor.name, coords, stored, single=not along))

    def _register(self, value: Operand, level: int) -> Reg:
        if isinstance(value, Reg):
            return value
        home = 0 if isinstance(value, Imm) else level
        key: _MemoKey = ("constant", value)
        memo = self.scopes[home].memo
        if key not in memo:
            memo[key] = self.emit(home, "mov", (value,), "zero" if value == Imm(0.0) else "c")
        found = memo[key]
        assert isinstance(found, Reg)
        return found


_RESULTS = {EXP_NONPOSITIVE: "weight", RECIP_POSITIVE: "inverse"}
_IDENTITY = {"sum": 0.0, "max": -float("inf"), "min": float("inf"), ROW_MAX: -float("inf")}
_HINT = {"sum": "sum", "max": "largest", "min": "smallest", ROW_MAX: "row_max"}
_TITLE = {"sum": "sum", "max": "max", "min": "min", ROW_MAX: "row maximum"}


def _conjunction(conditions: Sequence[Expr]) -> Expr | None:
    result: Expr | None = None
    for c in conditions:
        result = both(result, c)
    return result


def _round_down(e: Expr, step: int) -> Expr:
    if isinstance(e, Literal):
        return integer(int(e.value) // step * step)
    return Binary("*", Binary("//", e, integer(step)), integer(step))


def _round_up(e: Expr, step: int) -> Expr:
    return _round_down(plus(e, step - 1), step)


def _identifier(e: Expr) -> str:
    words = "".join(c if c.isalnum() else " " for c in text(e)).split()
    name = "_".join(words)[:24].strip("_")
    return name if name and name[0].isalpha() else f"c_{name}"
