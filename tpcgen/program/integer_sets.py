"""Integer points under inequalities, by isl. Imported only where the prover of `affine.py` does not settle a case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import islpy as isl

from tpcgen.program import affine
from tpcgen.program.affine import Polynomial
from tpcgen.program.ir import Attr, Binary, Expr, Index, Size

_MAX_OPERATIONS = 200_000
"""Of isl, per question: it may take exponential time."""


@dataclass(frozen=True)
class Point:
    """Values of indices, sizes and attributes by name."""

    values: dict[str, int]


@dataclass(frozen=True)
class Unknown:
    """There may be a point: the inequalities hold terms isl does not take, or it took too long."""


def find_point(inequalities: Iterable[Polynomial]) -> Point | Unknown | None:
    """A point where all polynomials are >= 0 and sizes at least 1; None if there is provably none.

    Reads, calls, products of names and quotients by names are unknowns of their own: a proof that there is no point
    holds for them too, a point does not.
    """
    translation = _Translation()
    rows = [translation.affine(p) for p in inequalities]
    rows += [f"{variable} >= 1" for atom, variable in translation.variables.items() if isinstance(atom, Size)]
    conditions = " and ".join([*(r if ">=" in r else f"{r} >= 0" for r in rows), *translation.definitions])
    names = [*translation.variables.values(), *translation.fresh]
    context = isl.Context()
    context.set_max_operations(_MAX_OPERATIONS)
    try:
        points = isl.Set.read_from_str(context, f"{{ [{', '.join(names)}] : {conditions or 'true'} }}")
        if points.is_empty():
            return None
        if translation.inexact:
            return Unknown()
        point = points.sample_point()
        values = [point.get_coordinate_val(isl.dim_type.set, i).to_python() for i in range(len(names))]
    except isl.Error:
        return Unknown()
    named = dict(zip(names, values, strict=True))
    return Point({a.name: named[v] for a, v in translation.variables.items() if isinstance(a, Index | Size | Attr)})


@dataclass
class _Translation:
    variables: dict[Expr, str] = field(default_factory=dict[Expr, str])
    fresh: list[str] = field(default_factory=list[str])
    definitions: list[str] = field(default_factory=list[str])
    inexact: bool = False
    _known: dict[affine.Monomial, str] = field(default_factory=dict[affine.Monomial, str])

    def affine(self, p: Polynomial) -> str:
        return " + ".join(f"{c}*{self._term(m)}" if m else str(c) for m, c in p.items()) or "0"

    def _term(self, monomial: affine.Monomial) -> str:
        if monomial not in self._known:
            self._known[monomial] = self._new_term(monomial)
        return self._known[monomial]

    def _new_term(self, monomial: affine.Monomial) -> str:
        if len(monomial) != 1:
            self.inexact = True
            return self._fresh()
        match atom := monomial[0]:
            case Index() | Size() | Attr():
                self.variables[atom] = f"v{len(self.variables)}"
                return self.variables[atom]
            case Binary(operator="//" | "%"):
                divisor = affine.as_constant(affine.polynomial(atom.right))
                if divisor is not None and divisor > 0:
                    return self._quotient(atom, divisor)
            case _:
                pass
        self.inexact = True
        return self._fresh()

    def _quotient(self, e: Binary, divisor: int) -> str:
        numerator = self.affine(affine.polynomial(e.left))
        quotient = self._fresh()
        self.definitions.append(f"0 <= {numerator} - {divisor}*{quotient} <= {divisor - 1}")
        if e.operator == "//":
            return quotient
        rest = self._fresh()
        self.definitions.append(f"{rest} = {numerator} - {divisor}*{quotient}")
        return rest

    def _fresh(self) -> str:
        self.fresh.append(f"w{len(self.fresh)}")
        return self.fresh[-1]
