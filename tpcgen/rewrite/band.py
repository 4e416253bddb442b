"""Attention whose domain is a band of the square, over blocks of queries: the square is never computed or stored.

    P[b,h,q,k] = softmax[k where q - W < k <= q](rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]))
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])

with blocks of 64 queries, each of which sees a window of 64 + W - 1 keys (q = 64*n + i, k = 64*n + j + 1 - W):

    Q_b[b,h,n,i,d] = Q[b,h,64*n + i,d] where 64*n + i < N
    K_b[b,h,n,j,d] = K[b,h,64*n + j + 1 - W,d] where 0 <= 64*n + j + 1 - W < N
    P_b[b,h,n,i,j] = softmax[j where ...](rsqrt(D) * sum[d](Q_b[b,h,n,i,d] * K_b[b,h,n,j,d]))
    O_b[b,h,n,i,e] = sum[j](P_b[b,h,n,i,j] * V_b[b,h,n,j,e])
    O[b,h,q,e] = O_b[b,h,q // 64,q % 64,e]

Memory for a window W at length N is O(N (W + 64)), and the program's size depends on neither.
"""

from __future__ import annotations

from tpcgen.program import affine, ir
from tpcgen.program.affine import Polynomial
from tpcgen.program.dtypes import DType
from tpcgen.rewrite.diagonal import Band, bands, either_or
from tpcgen.rewrite.edit import names_in_use
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.split_contractions import split_contractions
from tpcgen.rewrite.tile import Tile, extent
from tpcgen.rewrite.tile_square import tile_square


def band(program: ir.Program, tile: int = 64) -> ir.Program | Refused:
    """The program over blocks of `tile` queries, for the first band of its reductions; Refused where there is none."""
    split = split_contractions(program)
    found = find_band(split)
    if isinstance(found, Refused) or found.low is None or found.high is None:
        return found if isinstance(found, Refused) else Refused("no band", program.span)
    return tile_square(split, found, [_blocks(split, found.q, found.low, found.high, tile)])


def banded_index(program: ir.Program) -> str | Refused:
    """The index whose blocks `band` makes."""
    found = find_band(split_contractions(program))
    return found if isinstance(found, Refused) else found.q


def find_band(program: ir.Program) -> Band | Refused:
    """The first two-sided band between an index of an equation and one it reduces over."""
    one_sided: Refused | None = None
    for e, found in bands(program):
        if found.low is not None and found.high is not None:
            return found
        one_sided = one_sided or Refused(f"nothing bounds {found.k} - {found.q} on both sides", e.span)
    return one_sided or either_or(program) or Refused("no domain ties a reduced index to a query", program.span)


def _blocks(program: ir.Program, q: str, low: Polynomial, high: Polynomial, size: int) -> Tile:
    """Blocks of `size` queries with the keys that the queries of one block see: size + high - low."""
    names = names_in_use(program)
    block, row, column = (names.fresh(n) for n in ("n", "i", "j"))
    query, length = ir.Index(q), ir.Literal(size, DType.I32)
    blocks = affine.blocks(affine.polynomial(program.range_of(q).high), size)
    start = affine.scale(affine.polynomial(ir.Index(block)), size)
    at = affine.add(start, affine.polynomial(ir.Index(row)))
    width = affine.add(affine.subtract(high, low), affine.constant(size))
    return Tile(
        suffix="b",
        extents={block: blocks, row: length, column: extent(program, width)},
        block=block,
        row=row,
        column=column,
        q=at,
        k=affine.add(affine.add(start, affine.polynomial(ir.Index(column))), low),
        home={block: ir.Binary("//", query, length), row: ir.Binary("%", query, length)},
    )
