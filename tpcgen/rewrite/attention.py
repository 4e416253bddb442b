"""Finds attention that one kernel can compute: scores, a softmax over a band of them, and its values.

    S_dot[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where q - W < k <= q](rsqrt(D) * S_dot[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])

Queries are the lanes of such a kernel, so that a row of the softmax needs nothing of another lane.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tpcgen.diagnostics import DiagnosticError
from tpcgen.program import affine, ir
from tpcgen.program.contractions import Contraction
from tpcgen.program.dtypes import DType
from tpcgen.program.print import expression as text
from tpcgen.rewrite.band import find_band
from tpcgen.rewrite.edit import conjuncts, reads
from tpcgen.rewrite.normalise import normalise
from tpcgen.rewrite.outcome import Refused, RefusedError
from tpcgen.rewrite.split_contractions import matmul_of
from tpcgen.rewrite.support import at_least_zero


@dataclass(frozen=True, slots=True)
class Attention:
    """`vector` and `element` are the factors of the scores: the one of a query and the one of a key; `value` is the one
    of the values that is not a weight. Indices: `query`, `key`, `depth` (summed in a score), `column` (of a value).
    """

    scores: ir.Equation
    weights: ir.Equation
    values: ir.Equation
    vector: ir.Read
    element: ir.Read
    value: ir.Read
    query: str
    key: str
    depth: str
    column: str

    @property
    def equations(self) -> tuple[ir.Equation, ...]:
        return self.scores, self.weights, self.values

    @property
    def softmax(self) -> ir.Reduce:
        assert isinstance(self.weights.value, ir.Reduce)
        return self.weights.value


def fused_index(program: ir.Program) -> str | Refused:
    """The keys that a kernel of the whole attention goes through."""
    found = find_band(program)
    if isinstance(found, Refused):
        return Refused(found.reason, program.span)
    try:
        attention = attention_in(normalise(program))
    except DiagnosticError as error:
        return Refused(error.diagnostics[0].message, program.span)
    if isinstance(attention, Refused):
        return attention
    made = {e.target for e in attention.equations}
    placed = [p for p in program.pins if p.verb == "place" and any(_made_from(t, p.words[0]) for t in made)]
    return Refused(f"{placed[0].words[0]} has a place of its own", placed[0].span) if placed else attention.key


def _made_from(target: str, name: str) -> bool:
    return target == name or target.startswith(f"{name}_")


def attention_in(program: ir.Program) -> Attention | Refused:
    """The first of a normalised program."""
    band = find_band(program)
    if isinstance(band, Refused):
        return band
    try:
        return _Finder(program, band.q, band.k).attention(band.tensor)
    except RefusedError as problem:
        return problem.reason


@dataclass(frozen=True)
class _Finder:
    program: ir.Program
    query: str
    key: str

    def attention(self, weights_name: str) -> Attention:
        weights = self._definition(weights_name)
        softmax = weights.value
        if not isinstance(softmax, ir.Reduce) or softmax.kind != "softmax" or softmax.indices != (self.key,):
            raise RefusedError(f"{weights.target} is no softmax over {self.key} alone", weights)
        if weights.domain is not None:
            raise RefusedError(f"{weights.target} is defined on a part of its rows", weights)
        scores, factors = self._scores(weights, softmax)
        values, product = self._values(weights)
        vector, element = self._sides(factors, scores)
        value = self._value(product, weights, values)
        self._check_domain(softmax)
        column = [i for i in values.indices if i not in weights.indices]
        if len(factors.summed) != 1 or len(column) != 1 or set(values.indices) - {*column} != self._rows(weights):
            raise RefusedError(f"{values.target} is not a sum of rows of {value.tensor} per query", values)
        if set(scores.indices) != set(weights.indices):
            raise RefusedError(f"{weights.target} has other indices than its scores", weights)
        found = Attention(
            scores, weights, values, vector, element, value, self.query, self.key, factors.summed[0], column[0]
        )
        self._check_dtypes(found)
        return found

    def _definition(self, name: str) -> ir.Equation:
        made = [s for s in self.program.body if isinstance(s, ir.Equation) and s.target == name]
        if len(made) != 1:
            raise RefusedError(f"{name} is put together of pieces", self.program)
        return made[0]

    def _readers(self, name: str) -> list[ir.Statement]:
        return [s for s in self.program.body if name in reads(s)]

    def _rows(self, weights: ir.Equation) -> set[str]:
        return {*weights.indices} - {self.key}

    def _scores(self, weights: ir.Equation, softmax: ir.Reduce) -> tuple[ir.Equation, Contraction]:
        """The contraction that the logits are made of, read where it is written."""
        sides = [x for x in (softmax.body, softmax.domain, softmax.sink) if x is not None]
        reduced = [x for side in sides for x in ir.walk(side) if isinstance(x, ir.Reduce)]
        if reduced:
            raise RefusedError("the logits of the softmax reduce something themselves", reduced[0])
        made = [
            (e, c)
            for e in self.program.body
            if isinstance(e, ir.Equation) and e.target in reads(weights)
            if (c := matmul_of(e, self.program)) is not None
        ]
        if len(made) != 1 or not {self.query, self.key} <= {*made[0][0].indices}:
            raise RefusedError("the logits of the softmax are not made of one product of queries and keys", softmax)
        ((scores, contraction),) = made
        self._own(scores, weights)
        return scores, contraction

    def _values(self, weights: ir.Equation) -> tuple[ir.Equation, Contraction]:
        readers = self._readers(weights.target)
        values = readers[0] if len(readers) == 1 else None
        product = matmul_of(values, self.program) if isinstance(values, ir.Equation) else None
        if not isinstance(values, ir.Equation) or product is None or set(product.summed) != {self.key}:
            raise RefusedError(f"{weights.target} is for more than one sum of values over {self.key}", weights)
        self._own(weights, values)
        return values, product

    def _own(self, made: ir.Equation, reader: ir.Equation) -> None:
        """Nobody else reads it, and the reader reads it where it is written."""
        tensor = self.program.tensor(made.target)
        if tensor.role is not ir.Role.INTERMEDIATE or self._readers(made.target) != [reader]:
            raise RefusedError(f"{made.target} is for others, too", made)
        there = tuple(ir.Index(i) for i in made.indices)
        sides = [s for s in (reader.value, reader.domain) if s is not None]
        found = [x for s in sides for x in ir.walk(s) if isinstance(x, ir.Read) and x.tensor == made.target]
        if any(x.indices != there for x in found):
            raise RefusedError(f"{made.target} is read at another place than it is written", reader)

    def _sides(self, c: Contraction, scores: ir.Equation) -> tuple[ir.Read, ir.Read]:
        sides = [x for x in (c.left, c.right) if isinstance(x, ir.Read)]
        vectors = [x for x in sides if self.query in ir.free_indices(x)]
        elements = [x for x in sides if self.key in ir.free_indices(x)]
        if len(vectors) != 1 or len(elements) != 1 or vectors == elements:
            raise RefusedError(f"{scores.target} is no product of a query's and a key's factor", scores)
        return vectors[0], elements[0]

    def _value(self, c: Contraction, weights: ir.Equation, values: ir.Equation) -> ir.Read:
        (value,) = (x for x in (c.left, c.right) if isinstance(x, ir.Read) and x.tensor != weights.target)
        if self.query in ir.free_indices(value):
            raise RefusedError(f"{value.tensor} differs from query to query", values)
        return value

    def _check_domain(self, softmax: ir.Reduce) -> None:
        """Keys from a bound to a bound: then some query of a block visits each key in between."""
        for c in conjuncts(softmax.domain):
            bounds = at_least_zero(c) or []
            along = [affine.coefficient_of(p, self.key) for p in bounds]
            known = not any(isinstance(x, ir.Read) for x in ir.walk(c))
            if not bounds or not known or any(n not in (1, -1) for n in along):
                raise RefusedError(f"`{text(c)}` is no bound of {self.key}", c if c.span.line else softmax)

    def _check_dtypes(self, a: Attention) -> None:
        """One dtype of the operands: in it, elements are in the same order in the lanes everywhere."""
        output = self.program.tensor(a.values.target)
        dtypes = {a.vector.dtype, a.element.dtype, a.value.dtype, output.dtype}
        dtypes |= {self.program.tensor(a.weights.target).dtype}
        if len(dtypes) != 1:
            raise RefusedError(f"{', '.join(sorted(d.value for d in dtypes))} are mixed in it", a.values)
        if not dtypes <= {DType.F32, DType.BF16}:
            raise RefusedError(f"it multiplies {a.vector.dtype}: f32 and bf16 only, yet", a.values)
        along = [x for x in _reads(a.softmax) if a.query in ir.free_indices(x) and x.tensor != a.scores.target]
        other = [x for x in along if x.dtype is not a.vector.dtype]
        if a.vector.dtype is DType.BF16 and other:
            raise RefusedError(f"{other[0].tensor} is {other[0].dtype.value}, the operands are bf16", a.weights)


def _reads(e: ir.Expr) -> Iterable[ir.Read]:
    return (x for x in ir.walk(e) if isinstance(x, ir.Read))
