"""vjp: the forward as far as the gradient needs it, then its equations in reverse, each handing its cotangent down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpcgen.diagnostics import Diagnostic, DiagnosticError, Label, Span
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.verify import verify
from tpcgen.rewrite.drop_dead import drop_dead
from tpcgen.rewrite.edit import Definition, Part, Recurrence, conjunction, parts_of, reads_of, rebuilt, steps_of
from tpcgen.rewrite.support import UndeterminedError
from tpcgen.rewrite.vjp.cotangents import Contribution, Cotangents
from tpcgen.rewrite.vjp.draft import Draft, read
from tpcgen.rewrite.vjp.paths import varied
from tpcgen.rewrite.vjp.places import Places, Summed
from tpcgen.rewrite.vjp.primal import primal
from tpcgen.rewrite.vjp.scans import ScanGradient


def vjp(program: ir.Program, inputs: Sequence[str], span: Span | None = None) -> ir.Program:
    """`NAME_vjp(inputs of the op..., dO...) -> dQ, dV...`: gradients of the real outputs' product with dO.

    Absent points pass nothing on: where a row has no point its gradients are 0. An input that no equation reads has
    gradient 0. DiagnosticError: E412 for an input that only conditions, indices or integers read, E413 and E414 for
    conditions that cannot be written. `span`: where the gradient is asked for.
    """
    forward = primal(drop_dead(program))
    where = span if span is not None else program.span
    _has_gradients(program, forward, inputs, where)
    try:
        return verify(_Gradient(forward, tuple(inputs)).run())
    except UndeterminedError as problem:
        message = f"{program.name} has no gradient yet: {problem} decides where a value is present"
        raise _error("E414", message, problem.expr.span, "write select with the condition itself") from problem


def differentiable_inputs(program: ir.Program) -> tuple[str, ...]:
    """Real inputs that some real output depends on by arithmetic."""
    forward = drop_dead(program)
    real = [t.name for t in program.inputs if t.dtype.is_float]
    return tuple(name for name in real if _reaches(forward, name))


def _reaches(forward: ir.Program, name: str) -> bool:
    found = varied(forward, [name])
    return any(t.name in found and t.dtype.is_float for t in forward.outputs)


def _has_gradients(program: ir.Program, forward: ir.Program, inputs: Sequence[str], where: Span) -> None:
    found: list[Diagnostic] = []
    for name in inputs:
        reads = [x.span for x in _reads_of(forward) if x.tensor == name]
        if reads and not _reaches(forward, name):
            message = f"{name} has no gradient: conditions, indices and integers read it, and nothing else does"
            labels = tuple(Label(s, "read here") for s in dict.fromkeys(reads))
            found.append(Diagnostic("E412", message, where, "leave it out of the vjp", labels))
    if found:
        raise DiagnosticError(tuple(found))


def _reads_of(program: ir.Program) -> list[ir.Read]:
    return [x for step in steps_of(parts_of(program)) for x in reads_of(step)]


@dataclass
class _Gradient:
    program: ir.Program
    inputs: tuple[str, ...]
    pending: dict[str, list[Contribution]] = field(default_factory=dict[str, "list[Contribution]"])

    def run(self) -> ir.Program:
        self.draft = Draft(self.program)
        given = {t.name: self._cotangent(t) for t in self.program.outputs if t.dtype.is_float}
        self.draft.cotangents += given.values()
        outputs = [self._output(self.program.tensor(name)) for name in self.inputs]
        self.cotangents = Cotangents(self.draft, varied(self.program, self.inputs))
        parts = parts_of(self.program)
        pieces: dict[str, list[Definition]] = {}
        last: dict[str, Definition] = {}
        for p in parts:
            if isinstance(p, Definition):
                pieces.setdefault(p.tensor.name, []).append(p)
                last[p.tensor.name] = p
        for p in reversed(parts):
            if isinstance(p, Recurrence):
                self._scan(p, given)
            elif p is last[p.tensor.name] and p.tensor.name in self.cotangents.varied:
                self._hand_down(pieces[p.tensor.name], given.get(p.tensor.name))
        for name, output in zip(self.inputs, outputs, strict=True):
            self._write(output, self._input_axes(self.program.tensor(name)), self.pending.get(name, []), None)
        return self._assembled(outputs)

    def _cotangent(self, t: ir.Tensor) -> ir.Tensor:
        return replace(t, name=self.draft.names.fresh(f"d{t.name}"), role=ir.Role.INPUT)

    def _output(self, t: ir.Tensor) -> ir.Tensor:
        return replace(t, name=self.draft.names.fresh(f"d{t.name}"), role=ir.Role.OUTPUT)

    def _hand_down(self, pieces: list[Definition], given: ir.Tensor | None) -> None:
        """The cotangent of a tensor, whose readers have all handed theirs down, and what its equations make of it."""
        name, first = pieces[0].tensor.name, pieces[0].equation
        terms = self.pending.get(name, [])
        if not terms and given is None:
            return
        domain = _support(first) if len(pieces) == 1 else None
        if terms:
            tensor = self.draft.tensor(f"d{name}", first.indices)
            self._write(tensor, first.indices, terms, domain, read(given, first.indices) if given is not None else None)
        else:
            assert given is not None
            tensor = given
        for p in pieces:
            masked = bool(terms) and len(pieces) == 1
            where = None if masked else conjunction([p.equation.domain, self._inside(p) if not terms else None])
            cotangent = read(tensor, p.equation.indices)
            for at, term in self.cotangents.equation(p.equation, cotangent, where):
                self.pending.setdefault(at.tensor, []).append((at, term))

    def _scan(self, p: Recurrence, given: Mapping[str, ir.Tensor]) -> None:
        """The cotangents of what outlives a scan, then the scan in reverse."""
        scan = p.scan
        lasting: dict[str, tuple[str, ...]] = {s.state: s.indices for s in scan.states}
        lasting |= {s.target: s.indices for s in scan.body if isinstance(s, ir.Equation) and scan.index in s.indices}
        outer: dict[str, ir.Tensor] = {}
        for name, indices in lasting.items():
            terms, own = self.pending.get(name, []), given.get(name)
            if terms and name in self.cotangents.varied:
                outer[name] = self.draft.tensor(f"d{name}", indices)
                self._write(outer[name], indices, terms, None, read(own, indices) if own is not None else None)
            elif own is not None:
                outer[name] = own
        if any(name in self.cotangents.varied for name in outer):
            ScanGradient(self.draft, self.cotangents, scan, outer, self._hand).write()

    def _hand(self, found: Contribution) -> None:
        self.pending.setdefault(found[0].tensor, []).append(found)

    def _inside(self, p: Definition) -> ir.Expr | None:
        """Where a left side's point is one of the output itself."""
        extents = zip(p.equation.indices, p.tensor.shape, strict=True)
        beyond = [(i, n) for i, n in extents if not self.draft.runs_over(i, n)]
        return conjunction(ir.Binary("<", ir.Index(i), n) for i, n in beyond)

    def _write(
        self,
        tensor: ir.Tensor,
        indices: tuple[str, ...],
        terms: Sequence[Contribution],
        domain: ir.Expr | None,
        given: ir.Expr | None = None,
    ) -> None:
        """The equation of a gradient: the sum of its terms."""
        places = Places(self.draft, tensor.name)
        sums = [places.summed(term, tuple(zip(at.indices, indices, strict=True))) for at, term in terms]
        if given is not None:
            sums.insert(0, Summed(given, None))
        where = sums[0].where if len({s.where for s in sums}) == 1 else None
        total: ir.Expr | None = None
        for s in sums:
            value = s.value
            if s.where is not None and s.where != where:
                part = self.draft.tensor(f"{tensor.name}_part", indices)
                value = self.draft.define(part, indices, s.value, s.where)
            total = value if total is None else _sum(total, value)
        value = total if total is not None else ir.Literal(0.0, DType.F32)
        self.draft.define(tensor, indices, value, conjunction([domain, where]))

    def _input_axes(self, t: ir.Tensor) -> tuple[str, ...]:
        """Indices for the axes of an input: those it is read at where they run over all of it, else new ones."""
        chosen: list[str] = []
        reads = [x for x in _reads_of(self.program) if x.tensor == t.name]
        for axis, extent in enumerate(t.shape):
            places = [x.indices[axis] for x in reads]
            alone = [p.name for p in places if isinstance(p, ir.Index) and self.draft.runs_over(p.name, extent)]
            free = [i for i in alone if i not in chosen]
            wanted = extent.name.lower() if isinstance(extent, ir.Size) else f"{t.name.lower()}_{axis}"
            chosen.append(free[0] if free else self.draft.index(wanted, extent))
        return tuple(chosen)

    def _assembled(self, outputs: list[ir.Tensor]) -> ir.Program:
        forward = [self._kept(p) for p in parts_of(self.program)]
        signature = (*self.program.inputs, *self.draft.cotangents, *outputs)
        name = f"{self.program.name}_vjp"
        whole = replace(
            self.program,
            name=name,
            tensors=signature,
            indices=tuple(self.draft.indices.values()),
            pins=(),
        )
        return _used_indices(drop_dead(rebuilt(whole, [*forward, *self.draft.parts])))

    def _kept(self, p: Part) -> Part:
        """A part of the forward; what was an output is an intermediate now."""
        if isinstance(p, Recurrence):
            of = {s.target: s.indices for s in p.scan.body if isinstance(s, ir.Equation)}
            return replace(p, tensors=tuple(self._inner(t, of.get(t.name, ())) for t in p.tensors))
        return replace(p, tensor=self._inner(p.tensor, p.equation.indices))

    def _inner(self, t: ir.Tensor, indices: tuple[str, ...]) -> ir.Tensor:
        if t.role is not ir.Role.OUTPUT:
            return t
        return replace(t, role=ir.Role.INTERMEDIATE, shape=tuple(self.draft.indices[i].high for i in indices))


def _support(e: ir.Equation) -> ir.Expr | None:
    """Where an equation's value may be present, as far as its text says so."""
    own = e.value.domain if isinstance(e.value, ir.Reduce) and e.value.kind == "softmax" else None
    return conjunction([e.domain, own])


def _sum(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    if isinstance(b, ir.Unary) and b.operator == "-":
        return ir.Binary("-", a, b.operand)
    return ir.Binary("+", a, b)


def _used_indices(program: ir.Program) -> ir.Program:
    used = {i for c in program.contracts for i in c.indices}
    for s in program.body:
        used |= {s.index, *(i for x in s.states for i in x.indices)} if isinstance(s, ir.Scan) else set()
        for step in (s,) if isinstance(s, ir.Equation) else s.body:
            sides = [x for x in (step.value, step.domain) if x is not None]
            used |= {*step.indices, *(i for x in sides for i in _named(x))}
    return replace(program, indices=tuple(r for r in program.indices if r.name in used))


def _named(e: ir.Expr) -> set[str]:
    bound = {i for x in ir.walk(e) if isinstance(x, ir.Reduce) for i in x.indices}
    return bound | {x.name for x in ir.walk(e) if isinstance(x, ir.Index)}


def _error(id: str, message: str, span: Span, hint: str) -> DiagnosticError:
    return DiagnosticError((Diagnostic(id, message, span, hint),))
