"""Updates of states must be affine in all states of their scan jointly.

Each expression has a degree: 0 reads no state, 1 is affine in states, 2 is anything else. Temporaries of the scan carry
the degree of their right sides, so that a delta rule's `sum[d](k[t,d] * S[d,e])` counts as a read of S.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tpcgen.diagnostics import Diagnostics, Label
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text

_MAXIMA = frozenset({"max", "min", "logsumexp"})


@dataclass(frozen=True)
class _Use:
    """How an expression uses states; `culprit` and `why` say what makes it not affine."""

    degree: int
    culprit: ir.Expr | None = None
    why: str = ""


_NONE = _Use(0)
_AFFINE = _Use(1)


def check_scans(program: ir.Program, found: Diagnostics) -> None:
    for statement in program.body:
        if isinstance(statement, ir.Scan):
            _Scan(program, statement, found).check()


@dataclass
class _Scan:
    program: ir.Program
    scan: ir.Scan
    found: Diagnostics
    uses: dict[str, _Use] = field(default_factory=dict[str, _Use])

    def check(self) -> None:
        self.uses = {init.state: _AFFINE for init in self.scan.states}
        for step in self.scan.body:
            if isinstance(step, ir.Equation):
                self.uses[step.target] = self._joined([self._stored(step), self.uses.get(step.target, _NONE)])
                continue
            use = self._use(step.value)
            if step.domain is not None and self._use(step.domain).degree:
                use = _Use(2, step.domain, "its domain reads a state")
            if use.degree == 2:
                self._report(step, use)

    def _report(self, update: ir.Update, use: _Use) -> None:
        assert use.culprit is not None
        culprit = use.culprit
        kind = (
            culprit.kind if isinstance(culprit, ir.Reduce) else culprit.function if isinstance(culprit, ir.Call) else ""
        )
        label = (Label(update.span, f"the update of {update.state}"),) if culprit.span.line != update.span.line else ()
        if kind in _MAXIMA:
            message = f"{kind} of a state is a (max, +) recurrence, which is reserved for later"
            self.found.error("E242", message, culprit.span, "updates are affine in the states", label)
            return
        message = f"the update of {update.state} is not affine in the states: {use.why}"
        hint = "an update may add states and multiply them by what reads no state"
        self.found.error("E241", message, culprit.span, hint, label)

    def _stored(self, equation: ir.Equation) -> _Use:
        use = self._use(equation.value)
        if equation.domain is not None and self._use(equation.domain).degree:
            return _Use(2, equation.domain, f"the domain of {equation.target} reads a state")
        dtype = self.program.tensor(equation.target).dtype
        if use.degree == 1 and dtype is not DType.F32:
            return _Use(2, equation.value, f"{equation.target} rounds a state to {dtype}")
        return use

    def _use(self, e: ir.Expr) -> _Use:
        match e:
            case ir.Read():
                if any(self._use(i).degree for i in e.indices):
                    return _Use(2, e, "an index reads a state")
                return self.uses.get(e.tensor, _NONE)
            case ir.Unary(operator="-"):
                return self._use(e.operand)
            case ir.Binary(operator="+" | "-"):
                return self._joined([self._use(e.left), self._use(e.right)])
            case ir.Binary(operator="*"):
                return self._product(e)
            case ir.Binary(operator="/"):
                return self._opaque(e.right, e, "it divides by a state", self._use(e.left))
            case ir.Call(function="select"):
                branches = self._joined([self._use(a) for a in e.arguments[1:]])
                return self._opaque(e.arguments[0], e, "select asks a state", branches)
            case ir.Reduce(kind="sum"):
                use = self._use(e.body)
                return self._opaque(e.domain, e, "a domain reads a state", use) if e.domain is not None else use
            case _:
                return self._not_affine(e)

    def _product(self, e: ir.Binary) -> _Use:
        left, right = self._use(e.left), self._use(e.right)
        if left.degree == right.degree == 1:
            return _Use(2, e, f"{text(e)} multiplies two states")
        return self._joined([left, right])

    def _opaque(self, part: ir.Expr, whole: ir.Expr, why: str, use: _Use) -> _Use:
        return _Use(2, whole, why) if self._use(part).degree else use

    def _not_affine(self, e: ir.Expr) -> _Use:
        inner = self._joined([self._use(c) for c in ir.children(e)])
        if inner.degree != 1:
            return inner
        match e:
            case ir.Cast():
                return _Use(2, e, f"a cast of a state to {e.dtype} rounds it")
            case ir.Call():
                return _Use(2, e, f"{e.function} of a state")
            case ir.Reduce():
                return _Use(2, e, f"{e.kind} over a state")
            case _:
                return _Use(2, e, f"{text(e)} reads a state")

    def _joined(self, uses: list[_Use]) -> _Use:
        return max(uses, key=lambda u: u.degree, default=_NONE)
