"""Gradients in chunks where the gradient as it is written has none: those of the forward over chunks.

The gradient of a scan keeps every state and every cotangent of one. That of the same op over chunks of 64 steps keeps
those before each chunk, N / 64 of them; within a chunk it has matmuls, whose gradients are matmuls.
"""

from __future__ import annotations

from collections.abc import Sequence

from tpcgen.diagnostics import Span
from tpcgen.program import ir
from tpcgen.rewrite.alternatives import CHUNKS, Alternative
from tpcgen.rewrite.chunk import chunk
from tpcgen.rewrite.outcome import Refused
from tpcgen.rewrite.split_scans import split_scans
from tpcgen.rewrite.vjp.gradient import vjp


def gradients_in_chunks(
    program: ir.Program, gradient: ir.Program, inputs: Sequence[str], span: Span
) -> tuple[Alternative, ...]:
    """Besides an op's `vjp`, one for each length of chunks; none where it has no chunks or its gradient has its own.

    `gradient`: the vjp, of `inputs`; arguments and errors as of `vjp`. No schedule can ask for one: the text of a
    gradient does not say whose it is.
    """
    if not isinstance(chunk(gradient, CHUNKS[0]), Refused):
        return ()
    apart = split_scans(program)
    chunked = {length: chunk(apart, length) for length in CHUNKS}
    return tuple(
        Alternative(f"gradient of chunks of {length}", vjp(made, inputs, span), length=length)
        for length, made in chunked.items()
        if not isinstance(made, Refused)
    )
