"""Attention whose domain is bounded above along the diagonal (causal), in a few steps of queries, each with the keys
that its queries may see: what lies above the stairs is neither computed nor stored.

    P[b,h,q,k] = softmax[k where k <= q](rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]))
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])

in 4 steps of L = 64*((M + 255)//256) queries, of which the second is

    Q_2[b,h,i,d] = Q[b,h,L + i,d] where L + i < M
    K_2[b,h,j,d] = K[b,h,j,d] where j < N                                        # j in 0 .. min(2*L, M, N)
    P_2[b,h,i,j] = softmax[j where ...](rsqrt(D) * sum[d](Q_2[b,h,i,d] * K_2[b,h,j,d]))
    O_2[b,h,i,e] = sum[j](P_2[b,h,i,j] * V_2[b,h,j,e])
    O[b,h,q,e] = O_2[b,h,q - L,e] where L <= q < 2*L

Keys that every query sees (`k <= q or k < C`) are in each step. n steps compute (n + 1) / 2n of the square, a whole
number of 64 rows each. The program's size depends on n alone; of the copies, none moves anything where the sizes
divide.

`rows` makes many steps of any softmax, with all keys where nothing bounds them, and one step after the other: the
scores of one are gone before those of the next are there. Nothing is computed faster so, but what HBM could not hold is
computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.substitute import FreshNames
from tpcgen.rewrite.diagonal import Band, bands
from tpcgen.rewrite.edit import conjunction, definitions, depth_first, integer, names_in_use, parts_of, rebuilt
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.split_contractions import split_contractions
from tpcgen.rewrite.tile import Tile
from tpcgen.rewrite.tile_square import tile_square

ROWS = 64
"""Queries of a step are a multiple of this: rows of an MME tile (gaudi.md, section 2)."""


def stairs(program: ir.Program, steps: int = 4) -> ir.Program | Refused:
    """The program in `steps` steps of queries, for the first weights that are bounded above; Refused without."""
    split = split_contractions(program)
    return _in_steps(split, _find(split), steps)


def rows(program: ir.Program, steps: int = 32) -> ir.Program | Refused:
    """The program in `steps` steps of queries for its first weights, one step after the other; Refused without any."""
    split = split_contractions(program)
    made = _in_steps(split, _weights(split), steps)
    return made if isinstance(made, Refused) else rebuilt(made, depth_first(parts_of(made)))


def _in_steps(program: ir.Program, found: Band | Refused, steps: int) -> ir.Program | Refused:
    if isinstance(found, Refused):
        return found
    names = names_in_use(program)
    return tile_square(program, found, [_step(program, found, n, steps, names) for n in range(steps)])


def stepped_index(program: ir.Program) -> str | Refused:
    """The index that `stairs` cuts."""
    found = _find(split_contractions(program))
    return found if isinstance(found, Refused) else found.q


def rows_index(program: ir.Program) -> str | Refused:
    """The index that `rows` cuts."""
    found = _weights(split_contractions(program))
    return found if isinstance(found, Refused) else found.q


def _weights(program: ir.Program) -> Band | Refused:
    """The first weights that are bounded above, else those of the first softmax of queries of any number."""
    bounded = _find(program)
    if not isinstance(bounded, Refused):
        return bounded
    for d in definitions(program):
        for e in ir.walk(d.equation.value):
            if not isinstance(e, ir.Reduce) or e.kind != "softmax" or len(e.indices) != 1:
                continue
            queries = [i for i in d.equation.indices if i not in e.indices]
            if queries and affine.as_constant(affine.polynomial(program.range_of(queries[-1]).high)) is None:
                return Band(queries[-1], e.indices[0], None, None, d.tensor.name)
    return bounded


def _find(program: ir.Program) -> Band | Refused:
    """Of the weights of a square of any size: one that blocks or chunks made is small enough."""
    for e, found in bands(program):
        if found.high is None or not _weighs(e, found, program):
            continue
        if found.low is not None:
            return Refused(f"{found.k} - {found.q} is bounded on both sides: a band", e.span)
        if affine.as_constant(affine.polynomial(program.range_of(found.q).high)) is None:
            return found
    return Refused("no weights over k are kept below a k that grows with the query", program.span)


def _weighs(e: ir.Reduce, band: Band, program: ir.Program) -> bool:
    """Whether it is a softmax, the sum of one written out, a gradient's sum of a row's weights and cotangents, or a sum
    of values by weights that are a function of scores: of products of queries and keys alone, chunks may be summed.
    """
    if e.kind != "sum":
        return e.kind == "softmax"
    reads = [x for x in ir.walk(e.body) if isinstance(x, ir.Read)]
    over = [x for x in reads if {ir.Index(band.q), ir.Index(band.k)} <= {*x.indices}]
    if len(reads) == 2 and len(over) == 1:
        return _of_scores(over[0].tensor, band, program)
    return len(reads) == len(over) > 1 or (isinstance(e.body, ir.Call) and e.body.function == "exp")


def _of_scores(tensor: str, band: Band, program: ir.Program) -> bool:
    """Whether it is a function of what a query has with each key alone, of no maximum or sum over all of them."""
    value = next((d.equation.value for d in definitions(program) if d.tensor.name == tensor), None)
    if not isinstance(value, ir.Call) or value.function in ("select", "default"):
        return False
    reads = [ir.free_indices(x) for x in ir.walk(value) if isinstance(x, ir.Read)]
    return all(band.k in free for free in reads if band.q in free)


def _step(program: ir.Program, band: Band, number: int, steps: int, names: FreshNames) -> Tile:
    """Step `number` (from 0): its queries, and the keys up to that of the last of them; all without a `high`."""
    high = band.high
    queries, keys = (affine.polynomial(program.range_of(i).high) for i in (band.q, band.k))
    length = affine.scale(affine.polynomial(affine.blocks(queries, ROWS * steps)), ROWS)
    start, end = affine.scale(length, number), affine.scale(length, number + 1)
    seen = [] if high is None else [_greatest(affine.add(last, high), band.first) for last in (end, queries)]
    row, column = names.fresh("i"), names.fresh("j")
    query = affine.polynomial(ir.Index(band.q))
    return Tile(
        suffix=str(number + 1),
        # every key of the step is seen by a query of it, so that no value is masked
        extents={row: affine.expression(length), column: _least((*seen, keys)) if seen else affine.expression(keys)},
        row=row,
        column=column,
        q=affine.add(start, affine.polynomial(ir.Index(row))),
        k=affine.polynomial(ir.Index(column)),
        home={row: affine.expression(affine.subtract(query, start))},
        domain=conjunction(
            [
                ir.Binary("<=", affine.expression(start), ir.Index(band.q)) if number > 0 else None,
                ir.Binary("<", ir.Index(band.q), affine.expression(end)) if number < steps - 1 else None,
            ]
        ),
    )


def _greatest(a: Polynomial, b: Polynomial | None) -> Polynomial:
    return a if b is None else affine.polynomial(ir.Call("max", (affine.expression(a), affine.expression(b))))


def _least(bounds: Iterable[Polynomial]) -> ir.Expr:
    """The least of the bounds, 0 at least."""
    least = reduce(lambda a, b: ir.Call("min", (a, b)), dict.fromkeys(map(affine.expression, bounds)))
    return ir.Call("max", (least, integer(0)))
