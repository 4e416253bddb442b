"""Checks that a program is well formed: what the resolver guarantees and every rewrite must keep.

A failure is a bug of whoever made the program, never of the user: `MalformedProgramError`, not a diagnostic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.program.sizes import I32_MAX, equal
from tpcgen.program.typerules import ARITIES, TAKES_SINK, VARIADIC, is_identity_cast, problem, storable

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KINDS = frozenset({"sum", "max", "min", "softmax", "logsumexp", "rank", "any", "all"})
_OPERATORS = ir.COMPARISONS | {"+", "-", "*", "/", "//", "%", "and", "or"}
_ROLE_ORDER = {ir.Role.INPUT: 0, ir.Role.OUTPUT: 1, ir.Role.INTERMEDIATE: 2, ir.Role.STATE: 2}


class MalformedProgramError(Exception):
    """A program that no text of the language resolves to; the message lists everything wrong."""


def verify(program: ir.Program) -> ir.Program:
    """The program itself.

    MalformedProgramError unless names are unique and known, ranks and types fit, left sides bind what right sides use,
    every tensor is defined once (or by equations of one shape) and read below its last equation, states are updated in
    their own scan, and shapes and ranges are integers of sizes and attributes.
    """
    problems = list(_Verifier(program).problems())
    if problems:
        raise MalformedProgramError(f"{program.name}: " + "; ".join(dict.fromkeys(problems)))
    return program


@dataclass
class _Verifier:
    program: ir.Program
    tensors: dict[str, ir.Tensor] = field(default_factory=dict[str, ir.Tensor])
    indices: dict[str, ir.IndexRange] = field(default_factory=dict[str, ir.IndexRange])
    attributes: dict[str, ir.Attribute] = field(default_factory=dict[str, ir.Attribute])
    last: dict[str, tuple[int, int]] = field(default_factory=dict[str, "tuple[int, int]"])
    scan_of: dict[str, tuple[int, int | None]] = field(default_factory=dict[str, "tuple[int, int | None]"])

    def problems(self) -> Iterator[str]:
        p = self.program
        self.tensors = {t.name: t for t in p.tensors}
        self.indices = {r.name: r for r in p.indices}
        self.attributes = {a.name: a for a in p.attributes}
        yield from self._names()
        self._positions()
        yield from self._signature()
        for number, statement in enumerate(p.body):
            if isinstance(statement, ir.Scan):
                yield from self._scan(statement, number)
            else:
                yield from self._equation(statement, (number, -1), None)
        for tensor in p.tensors:
            if tensor.role is not ir.Role.INPUT and tensor.name not in self.last:
                yield f"no equation defines {tensor.name}"
        for contract in p.contracts:
            yield from self._contract(contract)

    def _names(self) -> Iterator[str]:
        p = self.program
        names = [*p.sizes, *(a.name for a in p.attributes), *(t.name for t in p.tensors), *(r.name for r in p.indices)]
        for name in names:
            if not _IDENTIFIER.fullmatch(name):
                yield f"{name!r} is no identifier"
        yield from (f"{name} is declared twice" for name in dict.fromkeys(names) if names.count(name) > 1)
        roles = [_ROLE_ORDER[t.role] for t in p.tensors]
        if roles != sorted(roles):
            yield "tensors are not in order: inputs, outputs, the rest"

    def _positions(self) -> None:
        for number, statement in enumerate(self.program.body):
            if isinstance(statement, ir.Equation):
                self.last[statement.target] = (number, -1)
                continue
            for init in statement.states:
                self.last[init.state], self.scan_of[init.state] = (number, -1), (number, None)
            for step, s in enumerate(statement.body):
                if isinstance(s, ir.Equation):
                    axis = s.indices.index(statement.index) if statement.index in s.indices else None
                    self.last[s.target], self.scan_of[s.target] = (number, step), (number, axis)

    def _signature(self) -> Iterator[str]:
        bare = {e.name for t in self.program.inputs for e in t.shape if isinstance(e, ir.Size)}
        yield from (f"no input binds the size {size}" for size in self.program.sizes if size not in bare)
        for tensor in self.program.tensors:
            for e in tensor.shape:
                yield from self._of_sizes(e, f"the shape of {tensor.name}")
        for r in self.program.indices:
            yield from self._of_sizes(r.low, f"the range of {r.name}")
            yield from self._of_sizes(r.high, f"the range of {r.name}")
        for a in self.program.attributes:
            if a.type not in (DType.I32, DType.F32):
                yield f"the attribute {a.name} is {a.type}"
            if a.default is not None:
                yield from self._of_sizes(a.default, f"the default of {a.name}", a.type)

    def _of_sizes(self, e: ir.Expr, where: str, wanted: DType = DType.I32) -> Iterator[str]:
        if any(isinstance(x, ir.Index | ir.Read | ir.Reduce) for x in ir.walk(e)):
            yield f"{where} uses more than sizes and attributes: {text(e)}"
            return
        yield from self._nodes(e, where, (-1, -1), None)
        kind = ir.type_of(e)
        if kind is not wanted and (wanted, kind) != (DType.F32, DType.I32):
            yield f"{where} is {kind}, not {wanted}"

    def _equation(self, e: ir.Equation, at: tuple[int, int], scan: ir.Scan | None) -> Iterator[str]:
        yield from self._target(e.target, e.indices, (ir.Role.OUTPUT, ir.Role.INTERMEDIATE))
        tensor = self.tensors.get(e.target)
        if tensor is not None and tensor.role is ir.Role.INTERMEDIATE:
            yield from self._shape(tensor, e.indices)
        if tensor is not None and tensor.role is ir.Role.OUTPUT and scan is not None and scan.index not in e.indices:
            yield f"the output {e.target} is written at every step of a scan"
        if scan is None and self.scan_of.get(e.target, (0, 0))[1] is None and e.target in self.scan_of:
            yield f"{e.target} lives one step of a scan and is written outside it"
        bound = {*e.indices} | ({scan.index} if scan is not None else set[str]())
        yield from self._value(e.target, e.value, e.domain, bound, at, scan)

    def _shape(self, tensor: ir.Tensor, indices: tuple[str, ...]) -> Iterator[str]:
        for extent, name in zip(tensor.shape, indices, strict=False):
            r = self.indices.get(name)
            if r is not None and not equal(r.high, extent):
                yield f"{tensor.name} has extent {text(extent)} where {name} ends at {text(r.high)}"

    def _target(self, name: str, indices: tuple[str, ...], roles: tuple[ir.Role, ...]) -> Iterator[str]:
        tensor = self.tensors.get(name)
        if tensor is None:
            yield f"{name} is no tensor"
            return
        if tensor.role not in roles:
            yield f"{name} is an {tensor.role.value}, it cannot be assigned here"
        if len(indices) != len(tensor.shape):
            yield f"{name} has rank {len(tensor.shape)}, its left side {len(indices)} indices"
        if len(set(indices)) < len(indices):
            yield f"the left side of {name} repeats an index"
        yield from (f"the index {i} has no range" for i in indices if i not in self.indices)

    def _value(
        self,
        target: str,
        value: ir.Expr,
        domain: ir.Expr | None,
        bound: Iterable[str],
        at: tuple[int, int],
        scan: ir.Scan | None,
    ) -> Iterator[str]:
        for part in (value, domain) if domain is not None else (value,):
            free = ir.free_indices(part) - set(bound)
            if free:
                yield f"{target}: {', '.join(sorted(free))} free on the right side only"
            yield from self._nodes(part, target, at, scan)
        if domain is not None and ir.type_of(domain) is not DType.BOOL:
            yield f"the domain of {target} is {ir.type_of(domain)}"
        tensor = self.tensors.get(target)
        if tensor is not None and not storable(ir.type_of(value), tensor.dtype):
            yield f"{target} is {tensor.dtype}, its value {ir.type_of(value)}"

    def _scan(self, scan: ir.Scan, number: int) -> Iterator[str]:
        if scan.index not in self.indices:
            yield f"the index {scan.index} has no range"
        own = {s.state for s in scan.states}
        for init in scan.states:
            yield from self._target(init.state, init.indices, (ir.Role.STATE,))
            if init.state in self.tensors:
                yield from self._shape(self.tensors[init.state], init.indices)
            if scan.index in init.indices:
                yield f"the state {init.state} is indexed by {scan.index}"
            yield from self._value(init.state, init.initial, None, init.indices, (number, -1), None)
        for step, s in enumerate(scan.body):
            if isinstance(s, ir.Equation):
                yield from self._equation(s, (number, step), scan)
                continue
            yield from self._target(s.state, s.indices, (ir.Role.STATE,))
            if s.state not in own:
                yield f"{s.state} is no state of the scan that updates it"
            yield from self._value(s.state, s.value, s.domain, {*s.indices, scan.index}, (number, step), scan)

    def _contract(self, contract: ir.Contract) -> Iterator[str]:
        e = contract.condition
        yield from self._nodes(e, "a contract", (len(self.program.body), 0), None)
        if ir.type_of(e) is not DType.BOOL:
            yield "a contract is no condition"
        if frozenset(contract.indices) != ir.free_indices(e):
            yield f"a contract's indices are {sorted(ir.free_indices(e))}, not {contract.indices}"
        for x in ir.walk(e):
            if isinstance(x, ir.Read) and x.tensor in self.tensors and self.tensors[x.tensor].role is not ir.Role.INPUT:
                yield f"a contract reads {x.tensor}, which is no input"

    def _nodes(self, e: ir.Expr, where: str, at: tuple[int, int], scan: ir.Scan | None) -> Iterator[str]:
        for x in ir.walk(e):
            wrong = self._node(x, at, scan) or self._types(x)
            if wrong:
                yield f"{where}: {wrong}"

    def _node(self, e: ir.Expr, at: tuple[int, int], scan: ir.Scan | None) -> str:
        match e:
            case ir.Literal():
                return _literal(e)
            case ir.Index() if e.name not in self.indices:
                return f"the index {e.name} has no range"
            case ir.Size() if e.name not in self.program.sizes:
                return f"{e.name} is no size"
            case ir.Attr() if e.name not in self.attributes or self.attributes[e.name].type is not e.type:
                return f"{e.name} is no attribute of type {e.type}"
            case ir.Read():
                return self._read(e, at, scan)
            case ir.Unary() if e.operator not in ("-", "not"):
                return f"unknown operator {e.operator}"
            case ir.Unary(operator="-", operand=ir.Literal()):
                return "a minus before a literal belongs into the literal"
            case ir.Binary() if e.operator not in _OPERATORS:
                return f"unknown operator {e.operator}"
            case ir.Call():
                wanted = ARITIES.get(e.function)
                given = len(e.arguments)
                if wanted is None or (given != wanted and not (e.function in VARIADIC and given > wanted)):
                    return f"{e.function} with {given} arguments"
                return ""
            case ir.Reduce():
                return self._reduce(e)
            case _:
                return ""

    def _types(self, e: ir.Expr) -> str:
        if isinstance(e, ir.Cast) and is_identity_cast(e):
            return f"a cast of a real to f32: {text(e)}"
        wrong = problem(e)
        return f"{wrong.message}: {text(e)}" if wrong is not None else ""

    def _reduce(self, e: ir.Reduce) -> str:
        if e.kind not in _KINDS:
            return f"unknown reduction {e.kind}"
        if not e.indices or len(set(e.indices)) < len(e.indices):
            return f"{e.kind} over {e.indices}"
        missing = [i for i in e.indices if i not in self.indices]
        if missing:
            return f"the index {missing[0]} has no range"
        if e.sink is not None and (e.kind not in TAKES_SINK or ir.free_indices(e.sink) & set(e.indices)):
            return f"the sink of {text(e)}"
        return ""

    def _read(self, e: ir.Read, at: tuple[int, int], scan: ir.Scan | None) -> str:
        tensor = self.tensors.get(e.tensor)
        if tensor is None:
            return f"{e.tensor} is no tensor"
        if len(e.indices) != len(tensor.shape):
            return f"{e.tensor} has rank {len(tensor.shape)}, read with {len(e.indices)} indices"
        if e.dtype is not tensor.dtype:
            return f"{e.tensor} is {tensor.dtype}, read as {e.dtype}"
        if tensor.role is ir.Role.INPUT or e.tensor not in self.last:
            return ""
        number, axis = self.scan_of.get(e.tensor, (-1, None))
        here = scan is not None and number == at[0]
        if tensor.role is ir.Role.STATE:
            return "" if here or number < at[0] else f"the state {e.tensor} is read before its scan"
        if self.last[e.tensor] >= at:
            return f"{e.tensor} is read before its last equation"
        if number >= 0 and axis is None and not here:
            return f"{e.tensor} lives one step of a scan and is read after it"
        if here and axis is not None and scan is not None and e.indices[axis] != ir.Index(scan.index):
            return f"{e.tensor} is read at another step than {scan.index} in the scan that writes it"
        return ""


def _literal(e: ir.Literal) -> str:
    match e.type:
        case DType.BOOL:
            right = isinstance(e.value, bool)
        case DType.I32:
            right = isinstance(e.value, int) and not isinstance(e.value, bool) and -I32_MAX <= e.value <= I32_MAX
        case DType.F32:
            right = isinstance(e.value, float) and not math.isnan(e.value)
        case _:
            right = False
    return "" if right else f"the literal {e.value!r} of type {e.type}"
