"""Readable names: `hint#3` becomes the hint, numbered where a name that is seen there has it already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tpcgen.kernel.ir import (
    PIECE,
    Broadcast,
    Function,
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
from tpcgen.kernel.scopes import SEPARATOR
from tpcgen.program.ir import Expr, Index, free_indices
from tpcgen.program.substitute import substitute

Names = Mapping[str, str]
_KEYWORDS = frozenset(
    """alignas alignof and asm auto bitand bitor bool break case catch char class compl concept const constexpr continue
    decltype default delete do double else enum explicit export extern false float for friend goto if inline int long
    mutable namespace new noexcept not nullptr operator or private protected public register requires restrict return
    short signed sizeof static struct switch template this throw true try typedef typeid typename union unsigned using
    virtual void volatile while xor""".split()  # noqa: SIM905
)
"""Of C, which tpc-clang reads, and of C++, which the host reads: an element of `dO` is no `do`."""


def readable(kernel: Kernel) -> Kernel:
    """The same kernel; no name hides one further out, blocks side by side use the same names again."""
    fixed = {t.name: t.name for t in kernel.tensors} | {s.name: s.name for s in kernel.scalars}
    fixed |= {a.name: a.name for a in kernel.arrays}
    fixed |= {kernel.index_space[n].name: kernel.index_space[n].name for n in kernel.outer_dims}
    fixed |= {f.name: f.name for f in kernel.functions} | ({name: name for name in PIECE})
    setup_names = _declared(kernel.setup, fixed)
    body_names = _declared(kernel.body, setup_names)
    return replace(
        kernel,
        functions=tuple(_function(f, {s.name: s.name for s in kernel.scalars}) for f in kernel.functions),
        setup=_block(kernel.setup, setup_names),
        body=_block(kernel.body, body_names),
    )


def _function(f: Function, scalars: Names) -> Function:
    """Its variables are named apart from the kernel's scalars: an attribute may be called like one of them."""
    names = _declared(f.body, {**scalars, **{p.name: _free(_stem(p.name), set()) for p in f.parameters}})
    body = tuple(_vector(s, names) for s in f.body)
    return replace(f, parameters=_regs(f.parameters, names), body=body, result=_reg(f.result, names))


def _declared(statements: Sequence[Statement], outer: Names) -> dict[str, str]:
    """Names seen in a block: those further out and its own, not those of loops in it."""
    names = dict(outer)
    taken = set(names.values())
    for s in statements:
        name = _declares(s)
        if name is not None:
            if name in outer:  # that register is declared again here: what it is called further out stays taken
                names[SEPARATOR + outer[name]] = outer[name]
            names[name] = _free(_stem(name), taken)
            taken.add(names[name])
    return names


def _declares(s: Statement) -> str | None:
    match s:
        case VectorOp() | Load() | Broadcast():
            return s.dest.name if s.fresh else None
        case Invoke() | LocalLoad():
            return s.dest.name
        case ScalarLoad() | ScalarLet():
            return s.name
        case Store() | LocalStore() | Loop() | Note():
            return None


def _stem(name: str) -> str:
    return name.split(SEPARATOR)[0]


def _free(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name in taken or name in _KEYWORDS:
        number += 1
        name = f"{stem}_{number}"
    return name


def _block(statements: Sequence[Statement], names: Names) -> tuple[Statement, ...]:
    return tuple(_statement(s, names) for s in statements)


def _statement(s: Statement, names: Names) -> Statement:
    match s:
        case VectorOp():
            return _vector(s, names)
        case Invoke():
            return replace(s, dest=_reg(s.dest, names), arguments=_regs(s.arguments, names))
        case Load():
            return replace(s, dest=_reg(s.dest, names), coords=_exprs(s.coords, names))
        case Broadcast():
            left = _expr(s.left, names) if s.left is not None else None
            return replace(s, dest=_reg(s.dest, names), coords=_exprs(s.coords, names), left=left)
        case ScalarLoad():
            return replace(s, name=names[s.name], coords=_exprs(s.coords, names))
        case ScalarLet():
            return replace(s, name=names[s.name], value=_expr(s.value, names))
        case Store():
            return replace(s, value=_reg(s.value, names), coords=_exprs(s.coords, names))
        case LocalLoad():
            return replace(s, dest=_reg(s.dest, names), at=_expr(s.at, names))
        case LocalStore():
            return replace(s, value=_reg(s.value, names), at=_expr(s.at, names))
        case Loop():
            return _loop(s, names)
        case Note():
            return s


def _loop(s: Loop, names: Names) -> Loop:
    var = _free(_stem(s.var), set(names.values()))
    inner = _declared(s.body, {**names, s.var: var})
    body = _block(s.body, inner)
    return replace(s, var=var, low=_expr(s.low, names), high=_expr(s.high, names), body=body)


def _vector(s: VectorOp, names: Names) -> VectorOp:
    pred = _reg(s.pred, names) if s.pred is not None else None
    return replace(s, dest=_reg(s.dest, names), args=tuple(_operand(a, names) for a in s.args), pred=pred)


def _operand(o: Operand, names: Names) -> Operand:
    match o:
        case Reg():
            return _reg(o, names)
        case Scalar():
            return Scalar(_expr(o.value, names))
        case Imm():
            return o


def _reg(r: Reg, names: Names) -> Reg:
    return replace(r, name=names[r.name])


def _regs(registers: Sequence[Reg], names: Names) -> tuple[Reg, ...]:
    return tuple(_reg(r, names) for r in registers)


def _exprs(expressions: Sequence[Expr], names: Names) -> tuple[Expr, ...]:
    return tuple(_expr(e, names) for e in expressions)


def _expr(e: Expr, names: Names) -> Expr:
    changed: dict[str, Expr] = {i: Index(names[i]) for i in sorted(free_indices(e)) if names[i] != i}
    return substitute(e, changed)
