"""What a forward may keep for its gradient: the row maxima and sums of its softmaxes, which a gradient without them
computes again.

    P[h,q,k] = softmax[k where k <= q sink snk[h]](S[h,q,k])

becomes, in a forward that returns P_max and P_sum beside its own outputs,

    P_max[h,q]: f32 = max(default(max[k where k <= q](S[h,q,k]), snk[h]), snk[h])
    P_sum[h,q]: f32 = default(sum[k where k <= q](exp(S[h,q,k] - P_max[h,q])), 0.0) + exp(snk[h] - P_max[h,q])
    P[h,q,k] = exp(S[h,q,k] - P_max[h,q]) * recip(P_sum[h,q]) where k <= q

and the last line in the gradient, which takes the two as inputs. Maximum and sum, not the logarithm of both: at logits
of 1e5 an f32 holds that to 0.008, and no weight better than to a hundredth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tpcgen.diagnostics import Diagnostics
from tpcgen.program import ir
from tpcgen.program.dtypes import DType
from tpcgen.program.verify import verify
from tpcgen.rewrite.drop_dead import drop_dead
from tpcgen.rewrite.edit import Definition, definitions, intermediate, names_in_use, parts_of, rebuilt
from tpcgen.rewrite.support import ZERO
from tpcgen.rewrite.vjp.primal import primal


@dataclass(frozen=True, slots=True)
class Saving:
    """`forward` returns the tensors `saved`, f32, after the op's own outputs; `gradient` takes them after the op's own
    inputs. `weights`: the softmaxes that they are of.
    """

    forward: ir.Program
    gradient: ir.Program
    weights: tuple[str, ...]
    saved: tuple[str, ...]


def saving_name(op: str) -> str:
    """The name of the op that returns what its gradient takes, too."""
    return f"{op}_saving"


def saving(program: ir.Program, gradient: ir.Program) -> Saving | None:
    """The pair for an op and its `vjp`; None where the gradient computes no softmax of the op again, or none that the
    op's schedule leaves. DiagnosticError E410 for a pin of what is no such softmax.
    """
    forward = primal(drop_dead(program))
    again = {d.tensor.name: d.equation.value for d in definitions(gradient)}
    found = [
        d for d in definitions(forward) if _softmax(d) is not None and again.get(d.tensor.name) == d.equation.value
    ]
    found = _pinned(program, found)
    if not found:
        return None
    names = names_in_use(gradient)
    names.reserve(t.name for t in forward.tensors)
    rows = [_Rows.of(forward, d, names.fresh) for d in found]
    saved = tuple(t for r in rows for t in (r.greatest, r.total))
    signature = (*program.inputs, *program.outputs, *(replace(t, role=ir.Role.OUTPUT) for t in saved))
    kept = _with_rows(forward, rows, True)
    whole = replace(kept, name=saving_name(program.name), tensors=(*signature, *_inner(kept, saved)), pins=())
    taken = _with_rows(gradient, rows, False)
    own = {t.name for t in program.inputs}
    inputs = [t for t in gradient.inputs if t.name in own] + [replace(t, role=ir.Role.INPUT) for t in saved]
    inputs += [t for t in gradient.inputs if t.name not in own]
    reading = replace(taken, tensors=(*inputs, *gradient.outputs, *_inner(taken, saved)))
    return Saving(
        verify(whole), verify(drop_dead(reading)), tuple(d.tensor.name for d in found), tuple(t.name for t in saved)
    )


def kept_by_pin(program: ir.Program) -> bool:
    """Whether the op's schedule asks for rows to be kept."""
    return any(pin.verb == "save" and pin.words[1] == "rows" for pin in program.pins)


def _pinned(program: ir.Program, found: list[Definition]) -> list[Definition]:
    """Those pinned to keep their rows where some are, else those not pinned to keep nothing."""
    pins = {pin.words[0]: pin for pin in program.pins if pin.verb == "save"}
    wrong = Diagnostics()
    for name, pin in pins.items():
        if name not in {d.tensor.name for d in found}:
            known = ", ".join(d.tensor.name for d in found) or "none"
            wrong.error("E410", f"the gradient computes no softmax {name} again", pin.span, f"it does of: {known}")
    wrong.raise_if_errors()
    rows = [d for d in found if d.tensor.name in pins and pins[d.tensor.name].words[1] == "rows"]
    return rows or [d for d in found if d.tensor.name not in pins]


def _inner(program: ir.Program, but: tuple[ir.Tensor, ...]) -> Iterator[ir.Tensor]:
    others = {t.name for t in but}
    return (t for t in program.tensors if t.role in (ir.Role.INTERMEDIATE, ir.Role.STATE) and t.name not in others)


def _softmax(d: Definition) -> ir.Reduce | None:
    """The softmax that an equation is, all of it."""
    value = d.equation.value
    whole = d.equation.domain is None and isinstance(value, ir.Reduce) and value.kind == "softmax"
    return value if whole and isinstance(value, ir.Reduce) else None


@dataclass(frozen=True, slots=True)
class _Rows:
    """Maximum and sum of each row of a softmax. `logits`: the logarithm of the sum of exp that some gradients need."""

    target: str
    softmax: ir.Reduce
    indices: tuple[str, ...]
    greatest: ir.Tensor
    total: ir.Tensor

    @staticmethod
    def of(program: ir.Program, d: Definition, fresh: Callable[[str], str]) -> _Rows:
        value = _softmax(d)
        assert value is not None
        indices = tuple(i for i in d.equation.indices if i not in value.indices)
        made = (
            intermediate(program, fresh(f"{d.tensor.name}_{n}"), indices, DType.F32, d.tensor) for n in ("max", "sum")
        )
        return _Rows(d.tensor.name, value, indices, *made)

    def definitions(self) -> list[Definition]:
        """The equations of both."""
        s = self.softmax
        greatest: ir.Expr = ir.Reduce("max", s.indices, s.domain, None, s.body, span=s.span)
        total: ir.Expr = ir.Reduce("sum", s.indices, s.domain, None, self._exp(s.body), span=s.span)
        if s.sink is not None:
            greatest = ir.Call("max", (ir.Call("default", (greatest, s.sink)), s.sink))
            total = ir.Binary("+", ir.Call("default", (total, ZERO)), self._exp(s.sink))
        return [
            Definition(t, ir.Equation(t.name, self.indices, value, None, span=s.span))
            for t, value in ((self.greatest, greatest), (self.total, total))
        ]

    def weight(self) -> ir.Expr:
        share = ir.Call("recip", (self._read(self.total),))
        return ir.Binary("*", self._exp(self.softmax.body), share, span=self.softmax.span)

    def logsumexp(self) -> ir.Expr:
        return ir.Binary("+", self._read(self.greatest), ir.Call("log", (self._read(self.total),)))

    def _exp(self, x: ir.Expr) -> ir.Expr:
        return ir.Call("exp", (ir.Binary("-", x, self._read(self.greatest)),))

    def _read(self, t: ir.Tensor) -> ir.Read:
        return ir.Read(t.name, tuple(ir.Index(i) for i in self.indices), DType.F32)


def _with_rows(program: ir.Program, rows: list[_Rows], define: bool) -> ir.Program:
    """The program with its softmaxes, and their logarithms of sums, made of the rows' maxima and sums."""
    of = {r.target: r for r in rows}
    made = list(parts_of(program))
    for at in range(len(made) - 1, -1, -1):
        part = made[at]
        if not isinstance(part, Definition):
            continue
        e = part.equation
        if part.tensor.name in of:
            own = of[part.tensor.name]
            equation = replace(e, value=own.weight(), domain=own.softmax.domain)
            made[at : at + 1] = [*(own.definitions() if define else ()), replace(part, equation=equation)]
        elif isinstance(e.value, ir.Reduce) and e.value.kind == "logsumexp":
            same = next((r for r in rows if replace(r.softmax, kind="logsumexp") == e.value), None)
            if same is not None:
                made[at] = replace(part, equation=replace(e, value=same.logsumexp()))
    return rebuilt(program, made)
