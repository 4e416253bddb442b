"""The gradient of a scan: its steps in reverse, with a state of its own for the cotangent of each state.

    S[d,e] := g[t] * S[d,e] + K[t,d] * V[t,e]         dS[d,e] := dS[d,e] + dO[t,e] * Q[t,d]
    O[t,e] = sum[d](Q[t,d] * S[d,e])                  dS_at[t,d,e] = dS[d,e]
                                                      dS[d,e] := g[t] * dS[d,e]

    dQ[t,d] = sum[e](dO[t,e] * S_at_2[t,d,e])         dK[t,d] = sum[e](dS_at[t,d,e] * V[t,e])
    dg[t] = sum[d, e](dS_at[t,d,e] * S_at[t,d,e])

runs t downward. States are computed again and kept for every step, as their cotangents are, so that what the scan hands
out is matmuls and sums over all steps at once; what they take is N times the memory of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.substitute import rewrite
from tpcgen.rewrite.edit import Definition, Recurrence, conjunction, mentioned, reading
from tpcgen.rewrite.support import Supports
from tpcgen.rewrite.vjp.cotangents import Contribution, Cotangents
from tpcgen.rewrite.vjp.draft import Draft, read
from tpcgen.rewrite.vjp.places import Places
from tpcgen.rewrite.vjp.terms import Term

Step = ir.Equation | ir.Update
Place = TypeVar("Place")
_ZERO = ir.Literal(0.0, DType.F32)


@dataclass
class ScanGradient:
    """`outer`: the cotangents of tensors that outlive the scan, and of last values of states, where something read
    them. What is handed to tensors from outside the scan is handed to `hand`.
    """

    draft: Draft
    cotangents: Cotangents
    scan: ir.Scan
    outer: Mapping[str, ir.Tensor]
    hand: Callable[[Contribution], None]
    forward: dict[int, list[Definition]] = field(default_factory=dict[int, "list[Definition]"])
    saved: dict[tuple[str, int], ir.Tensor] = field(default_factory=dict[tuple[str, int], ir.Tensor])
    inner: dict[str, list[ir.Expr]] = field(default_factory=dict[str, "list[ir.Expr]"])
    body: list[Step] = field(default_factory=list[Step])
    made: list[ir.Tensor] = field(default_factory=list[ir.Tensor])

    def write(self) -> None:
        program = self.draft.program
        self.states = {s.state: s for s in self.scan.states}
        self.targets = {s.target for s in self.scan.body if isinstance(s, ir.Equation)}
        self.again = {n: replace(program.tensor(n), name=self.draft.names.fresh(f"{n}_again")) for n in self._local()}
        active = [s for s in self.scan.states if s.state in self.cotangents.varied]
        self.adjoint = {
            s.state: replace(program.tensor(s.state), name=self.draft.names.fresh(f"d{s.state}_t")) for s in active
        }
        for at in range(len(self.scan.body) - 1, -1, -1):
            self._step(at, self.scan.body[at])
        self._write_forward()
        inits = tuple(self._init(s) for s in active)
        scan = ir.Scan(self.scan.index, not self.scan.reverse, inits, tuple(self.body))
        self.draft.parts.append(Recurrence((*self.adjoint.values(), *dict.fromkeys(self.made)), scan))
        for s in active:
            last = read(self.adjoint[s.state], s.indices)
            for found in self.cotangents.handed(s.initial, Term(s.indices, (last,))):
                self.hand(found)

    def _local(self) -> list[str]:
        """States, and tensors that live one step."""
        t = self.scan.index
        short = [s.target for s in self.scan.body if isinstance(s, ir.Equation) and t not in s.indices]
        return list(dict.fromkeys([*self.states, *short]))

    def _init(self, s: ir.StateInit) -> ir.StateInit:
        last = self.outer.get(s.state)
        initial = read(last, s.indices) if last is not None else _ZERO
        return ir.StateInit(self.adjoint[s.state].name, s.indices, initial)

    # --- one step, backwards ------------------------------------------------------------------------------------------

    def _step(self, at: int, step: Step) -> None:
        if isinstance(step, ir.Equation):
            cotangent = self._of_equation(step)
            if cotangent is not None:
                self._shared(at, self.cotangents.equation(self._at_t(step), cotangent, step.domain), None)
        elif step.state in self.adjoint:
            self._update(at, step)

    def _at_t(self, e: ir.Equation) -> ir.Equation:
        """The equation at one t: no index of the points that its terms run over."""
        return replace(e, indices=_without(e.indices, self.scan.index))

    def _of_equation(self, e: ir.Equation) -> ir.Read | None:
        parts = list(self.inner.get(e.target, []))
        outer = self.outer.get(e.target)
        if outer is not None and not parts:
            return read(outer, e.indices)
        if not parts:
            return None
        if outer is not None:
            parts.insert(0, read(outer, e.indices))
        indices = _without(e.indices, self.scan.index)
        tensor = self.draft.tensor(f"d{e.target}_t", indices)
        total = parts[0]
        for p in parts[1:]:
            total = ir.Binary("+", total, p)
        self._add(Definition(tensor, ir.Equation(tensor.name, indices, total, None)))
        return read(tensor, indices)

    def _update(self, at: int, step: ir.Update) -> None:
        own = read(self.adjoint[step.state], step.indices)
        domain = conjunction([step.domain, self._present(step.value)])
        found = list(self.cotangents.handed(step.value, Term(step.indices, (own,))))
        others = [(r, term.only(domain)) for r, term in found if r.tensor != step.state]
        self._shared(at, others, step.state)
        with _Apart(self.draft) as apart:
            values = [self._to_state(r, term, step.indices) for r, term in found if r.tensor == step.state]
        self._take(at, apart.parts)
        total: ir.Expr = _ZERO
        for number, v in enumerate(values):
            total = v if number == 0 else ir.Binary("+", total, v)
        if values and not self._always(total):
            total = ir.Binary("+", total, _ZERO)  # where the factor of the state is absent it is lost, not kept
        tensor = self.adjoint[step.state]
        kept = self._kept_values(at, domain) if domain is not None else None
        self.body.append(ir.Update(tensor.name, step.indices, self._kept_values(at, total), kept))

    def _present(self, value: ir.Expr) -> ir.Expr | None:
        return Supports(self.draft.program).of(value).where

    def _always(self, e: ir.Expr) -> bool:
        """Whether a value is present at every point: nothing in it was made for the gradient under a condition."""
        program = self.draft.program
        known = {t.name for t in program.tensors} | {t.name for t in self.adjoint.values()}
        return all(x.tensor in known for x in ir.walk(e) if isinstance(x, ir.Read)) and self._present(e) is None

    def _to_state(self, r: ir.Read, term: Term, indices: Sequence[str]) -> ir.Expr:
        """What a read of a state hands to the state's own indices."""
        places = Places(self.draft, self.adjoint[r.tensor].name)
        found = places.summed(term, tuple(zip(r.indices, indices, strict=True)))
        if found.where is None:
            return found.value
        if not mentioned(found.where):
            return ir.Call("select", (found.where, found.value, _ZERO))
        tensor = self.draft.tensor(f"{self.adjoint[r.tensor].name}_part", indices)
        return self.draft.define(tensor, indices, found.value, found.where)

    def _shared(self, at: int, found: Iterable[Contribution], updated: str | None) -> None:
        """Contributions to other states, to tensors of the step, and to what is outside the scan."""
        with _Apart(self.draft) as apart:
            contributions = list(found)
        self._take(at, apart.parts)
        for r, term in contributions:
            if r.tensor in self.adjoint:
                assert r.tensor != updated
                self._add_to_state(at, r, term)
            elif r.tensor in self.targets:
                self._to_tensor(at, r, term)
            elif r.tensor not in self.states:
                self._outwards(at, r, term)

    def _add_to_state(self, at: int, r: ir.Read, term: Term) -> None:
        indices = self.states[r.tensor].indices
        with _Apart(self.draft) as apart:
            value = self._to_state(r, term, indices)
        self._take(at, apart.parts)
        own = read(self.adjoint[r.tensor], indices)
        total = ir.Binary("+", own, self._kept_values(at, value))
        self.body.append(ir.Update(self.adjoint[r.tensor].name, indices, total, None))

    def _to_tensor(self, at: int, r: ir.Read, term: Term) -> None:
        target = next(s for s in self.scan.body if isinstance(s, ir.Equation) and s.target == r.tensor)
        pairs = [(p, i) for p, i in zip(r.indices, target.indices, strict=True) if i != self.scan.index]
        indices = tuple(i for _, i in pairs)
        with _Apart(self.draft) as apart:
            summed = Places(self.draft, f"d{r.tensor}").summed(term, tuple(pairs))
            tensor = self.draft.tensor(f"d{r.tensor}_part", indices)
            part = self.draft.define(tensor, indices, summed.value, summed.where)
        self._take(at, apart.parts)
        self.inner.setdefault(r.tensor, []).insert(0, part)

    def _outwards(self, at: int, r: ir.Read, term: Term) -> None:
        """What the scan hands out at every t, as a term of what is kept for every t."""
        own = self._own_kept
        outside = replace(
            term,
            loops=(*term.loops, self.scan.index),
            factors=tuple(own(self._kept_values(at, e)) for e in term.factors),
            divisors=tuple(own(self._kept_values(at, e)) for e in term.divisors),
            where=tuple(own(self._kept_values(at, e)) for e in term.where),
        )
        self.hand((r, outside))

    # --- where it is computed -----------------------------------------------------------------------------------------

    def _take(self, at: int, parts: Sequence[Definition]) -> None:
        """Equations made for a step."""
        for p in parts:
            self._add(_mapped(p, lambda e: self._kept_values(at, e)))

    def _add(self, p: Definition) -> None:
        self.made.append(p.tensor)
        self.body.append(p.equation)

    def _kept_values(self, at: int, e: ir.Expr) -> ir.Expr:
        """Reads of states, and of tensors of one step, from where they are kept for every step."""

        def leaf(x: ir.Expr) -> ir.Expr:
            if not isinstance(x, ir.Read) or x.tensor not in self.again:
                return x
            kept = self._save(at, x.tensor)
            places = self._with_t(self._indices(x.tensor), x.indices, ir.Index(self.scan.index))
            return ir.Read(kept.name, places, kept.dtype, span=x.span)

        return rewrite(e, leaf)

    def _own_kept(self, e: ir.Expr) -> ir.Expr:
        """Reads of what the reverse scan makes, from where it is kept for every step."""
        own = {t.name: t for t in (*self.adjoint.values(), *self.made)}

        def leaf(x: ir.Expr) -> ir.Expr:
            if not isinstance(x, ir.Read) or x.tensor not in own or self.scan.index in ir.free_indices(x):
                return x
            version = sum(isinstance(s, ir.Update) and s.state == x.tensor for s in self.body)
            written = [s.indices for s in self.body if isinstance(s, ir.Equation) and s.target == x.tensor]
            state = next((n for n, t in self.adjoint.items() if t.name == x.tensor), None)
            indices = self.states[state].indices if state is not None else written[0]
            if (x.tensor, version) not in self.saved:
                along = self._with_t(indices, indices, self.scan.index)
                tensor = self.draft.tensor(f"{x.tensor.removesuffix('_t')}_at", along)
                self._add(Definition(tensor, ir.Equation(tensor.name, along, read(own[x.tensor], indices), None)))
                self.saved[x.tensor, version] = tensor
            kept = self.saved[x.tensor, version]
            places = self._with_t(indices, x.indices, ir.Index(self.scan.index))
            return ir.Read(kept.name, places, kept.dtype, span=x.span)

        return rewrite(e, leaf)

    def _save(self, at: int, name: str) -> ir.Tensor:
        before = self.scan.body[:at]
        version = sum(isinstance(s, ir.Update) and s.state == name for s in before)
        if (name, version) not in self.saved:
            own = self._indices(name)
            indices = self._with_t(own, own, self.scan.index)
            tensor = self.draft.tensor(f"{name}_at", indices)
            equation = ir.Equation(tensor.name, indices, read(self.again[name], own), None)
            self.forward.setdefault(at if name in self.states else len(self.scan.body), []).append(
                Definition(tensor, equation)
            )
            self.saved[name, version] = tensor
        return self.saved[name, version]

    def _with_t(self, own: tuple[str, ...], places: Sequence[Place], t: Place) -> tuple[Place, ...]:
        """Places of what is kept for every step, of `own` indices at one: t is where the text has it beside these,
        else first.
        """
        written = [s.indices for s in self.scan.body if isinstance(s, ir.Equation) and self.scan.index in s.indices]
        at = next((w.index(self.scan.index) for w in written if _without(w, self.scan.index) == own), 0)
        return (*places[:at], t, *places[at:])

    def _indices(self, name: str) -> tuple[str, ...]:
        if name in self.states:
            return self.states[name].indices
        return next(s.indices for s in self.scan.body if isinstance(s, ir.Equation) and s.target == name)

    def _write_forward(self) -> None:
        """The states again, with what is computed beside them."""
        if not self.forward:
            return
        names = {n: t.name for n, t in self.again.items()}
        body: list[Step] = []
        for at, step in enumerate((*self.scan.body, None)):
            body += [p.equation for p in self.forward.get(at, [])]
            if step is None or (isinstance(step, ir.Equation) and step.target not in names):
                continue
            value = reading(step.value, names)
            domain = reading(step.domain, names) if step.domain is not None else None
            if isinstance(step, ir.Update):
                body.append(ir.Update(names[step.state], step.indices, value, domain))
            else:
                body.append(ir.Equation(names[step.target], step.indices, value, domain))
        body = _needed(body, {p.tensor.name for parts in self.forward.values() for p in parts})
        inits = tuple(ir.StateInit(names[s.state], s.indices, s.initial) for s in self.scan.states)
        written = {s.target for s in body if isinstance(s, ir.Equation)}
        new = dict.fromkeys(p.tensor for parts in self.forward.values() for p in parts)
        local = [t for n, t in self.again.items() if n in self.states or t.name in written]
        scan = ir.Scan(self.scan.index, self.scan.reverse, inits, tuple(body))
        self.draft.parts.append(Recurrence((*local, *new), scan))


def _without(indices: tuple[str, ...], t: str) -> tuple[str, ...]:
    return tuple(i for i in indices if i != t)


def _needed(body: Sequence[Step], wanted: set[str]) -> list[Step]:
    """Without tensors of one step that nothing reads."""
    needed, kept = set(wanted), list[Step]()
    for s in reversed(body):
        if isinstance(s, ir.Equation) and s.target not in needed:
            continue
        kept.append(s)
        sides = [s.value] if s.domain is None else [s.value, s.domain]
        needed |= {x.tensor for side in sides for x in ir.walk(side) if isinstance(x, ir.Read)}
    return kept[::-1]


class _Apart:
    """What is defined meanwhile, instead of in the draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft, self.parts = draft, list[Definition]()

    def __enter__(self) -> _Apart:
        self.before = self.draft.parts
        self.draft.parts = []
        return self

    def __exit__(self, *_: object) -> None:
        self.parts = [p for p in self.draft.parts if isinstance(p, Definition)]
        self.draft.parts = self.before


def _mapped(p: Definition, change: Callable[[ir.Expr], ir.Expr]) -> Definition:
    e = p.equation
    domain = change(e.domain) if e.domain is not None else None
    return Definition(p.tensor, replace(e, value=change(e.value), domain=domain))
