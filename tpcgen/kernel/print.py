"""Kernel IR as text, for `--emit kernel` and golden tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpcgen.kernel.ir import (
    Broadcast,
    Imm,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Loop,
    Note,
    Operand,
    Reg,
    Scalar,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
    VectorOp,
)
from tpcgen.program.print import expression


def kernel(k: Kernel) -> str:
    """The whole kernel, ends in a newline."""
    lines = [f"kernel {k.name} for {k.target}, {k.lanes.step} elements in {k.lanes.value} lanes {{"]
    for t in k.tensors:
        sizes = ", ".join(expression(s) for s in t.sizes)
        lines.append(f"    {'out' if t.is_output else 'in'} {t.name}: {t.dtype}[{sizes}]")
    lines += [f"    scalar {s.name}: {s.type} = {expression(s.value)}" for s in k.scalars]
    lines += [f"    member {d.name}: {expression(d.extent)} step {d.step}" for d in k.index_space]
    lines += [f"    local {a.name}: {a.rows} x {a.parts} vectors, {expression(a.used)} used" for a in k.arrays]
    for f in k.functions:
        lines.append(f"    function {f.name}({', '.join(map(_register, f.parameters))}) -> {f.result.name} {{")
        lines += _block(f.body, 2)
        lines.append("    }")
    lines.append("    setup {")
    lines += _block(k.setup, 2)
    lines += ["    }", "    body {"]
    lines += _block(k.body, 2)
    return "\n".join([*lines, "    }", "}"]) + "\n"


def _block(statements: Sequence[Statement], depth: int) -> Iterator[str]:
    pad = "    " * depth
    for s in statements:
        match s:
            case Loop():
                bounds = f"{expression(s.low)} .. {expression(s.high)} step {s.step}"
                yield f"{pad}for {s.var} in {bounds} {{"
                yield from _block(s.body, depth + 1)
                yield f"{pad}}}"
            case _:
                yield pad + _line(s)


def _line(s: Statement) -> str:
    match s:
        case Note():
            return f"# {s.span.line}: {s.text}" if s.span.line else f"# {s.text}"
        case ScalarLet():
            return f"{s.name} = {expression(s.value)}"
        case ScalarLoad():
            return f"{s.name} = scalar {s.tensor}[{_coords(s.coords)}]"
        case Load():
            dest = _register(s.dest) if s.fresh else s.dest.name
            return f"{dest} = load {s.tensor}[{_coords(s.coords)}]"
        case Broadcast():
            known = f" where {expression(s.left)} > 0" if s.left is not None else ""
            dest = _register(s.dest) if s.fresh else s.dest.name
            return f"{dest} = broadcast {s.tensor}[{_coords(s.coords)}]{known}"
        case Store():
            return f"{'store one' if s.single else 'store'} {s.tensor}[{_coords(s.coords)}] = {s.value.name}"
        case LocalLoad():
            return f"{_register(s.dest)} = {s.array.name}[{expression(s.at)}]"
        case LocalStore():
            return f"{s.array.name}[{expression(s.at)}] = {s.value.name}"
        case Invoke():
            return f"{_register(s.dest)} = {s.function} {' '.join(a.name for a in s.arguments)}"
        case VectorOp():
            where = f" where {s.pred.name}" if s.pred is not None else ""
            dest = _register(s.dest) if s.fresh else s.dest.name
            return f"{dest} = {' '.join([s.op, *map(_operand, s.args)])}{where}"
        case Loop():
            raise AssertionError("loops are printed by _block")


def _coords(coords: tuple[object, ...]) -> str:
    return ", ".join(expression(c) for c in coords)  # type: ignore[arg-type]


def _register(r: Reg) -> str:
    shape = "uniform" if r.uniform else f"x{r.parts}" if r.parts > 1 else ""
    return f"{r.name}: {r.type.value}{' ' if shape else ''}{shape}"


def _operand(o: Operand) -> str:
    match o:
        case Reg():
            return o.name
        case Imm():
            return repr(o.value)
        case Scalar():
            return f"({expression(o.value)})"
