"""A tile: part of a square of queries and keys, at indices of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.rewrite.support import facts


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and columns of the square at indices of their own, or as many blocks of them as `block` counts.

    `extents` has one for `row`, `column` and `block`. `q` and `k`: the point of the square, in these indices. `home`:
    where query `band.q` is to be found, for those with `domain`.
    """

    suffix: str
    extents: Mapping[str, ir.Expr]
    row: str
    column: str
    q: Polynomial
    k: Polynomial
    home: Mapping[str, ir.Expr]
    block: str | None = None
    domain: ir.Expr | None = None


def extent(program: ir.Program, length: Polynomial) -> ir.Expr:
    """A length as an extent, which is 1 at least."""
    if facts(program).prove(affine.subtract(length, affine.constant(1))):
        return affine.expression(length)
    return ir.Call("max", (affine.expression(length), ir.Literal(1, DType.I32)))
