"""What a reviewer would send back: dead variables, hidden names, crooked lines, blocks without their spec line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest

from tests.kernel.examples import SPECS, every_kernel
from tpcgen.kernel.ir import (
    Broadcast,
    Invoke,
    Kernel,
    Load,
    LocalLoad,
    LocalStore,
    Loop,
    Note,
    Reg,
    Scalar,
    ScalarLet,
    ScalarLoad,
    Statement,
    Store,
    VectorOp,
    walk,
)
from tpcgen.kernel.tpc_c import render
from tpcgen.program.ir import Expr, free_indices

CHOICES = [(op, dtype, target) for op in SPECS for dtype in ("f32", "bf16") for target in ("gaudi", "gaudi2")]


@pytest.fixture(params=CHOICES, ids="-".join)
def kernels(request: pytest.FixtureRequest) -> list[Kernel]:
    return [kernel for _, kernel in every_kernel(*request.param)]


def declared(s: Statement) -> str | None:
    match s:
        case VectorOp() | Load():
            return s.dest.name if s.fresh else None
        case Broadcast() | Invoke():
            return s.dest.name
        case ScalarLoad() | ScalarLet():
            return s.name
        case _:
            return None


def read(s: Statement) -> Iterator[str]:
    """Names a statement reads; what an accumulator adds to itself is no use of it."""
    expressions: Sequence[Expr] = ()
    match s:
        case VectorOp():
            operands = [a for a in (*s.args, s.pred) if isinstance(a, Reg)]
            yield from (a.name for a in operands if s.fresh or a.name != s.dest.name)
            expressions = [a.value for a in s.args if isinstance(a, Scalar)]
        case Invoke():
            yield from (a.name for a in s.arguments)
        case ScalarLet():
            expressions = [s.value]
        case Load() | Broadcast() | ScalarLoad():
            expressions = s.coords
        case LocalLoad():
            expressions = [s.at]
        case LocalStore():
            yield s.value.name
            expressions = [s.at]
        case Store():
            yield s.value.name
            expressions = s.coords
        case Loop():
            expressions = [s.low, s.high]
        case Note():
            pass
    for e in expressions:
        yield from free_indices(e)


def test_nothing_is_computed_in_vain(kernels: list[Kernel]) -> None:
    for k in kernels:
        statements = [*walk(k.setup), *walk(k.body)]
        used = {name for s in statements for name in read(s)}
        assert {d for s in statements if (d := declared(s)) is not None} <= used
        for f in k.functions:
            inside = {name for s in f.body for name in read(s)} | {f.result.name}
            assert {s.dest.name for s in f.body} <= inside
        assert {f.name for f in k.functions} == {s.function for s in statements if isinstance(s, Invoke)}


def test_every_parameter_is_used(kernels: list[Kernel]) -> None:
    for k in kernels:
        text = render(k)
        body = text[text.index("\n{", text.index("void main(")) :]
        for name in (*(t.name for t in k.tensors), *(s.name for s in k.scalars)):
            assert re.search(rf"\b{name}\b", body), name


def test_no_name_hides_another(kernels: list[Kernel]) -> None:
    for k in kernels:
        _check_names(k.body, {n for s in k.setup if (n := declared(s)) is not None})


def _check_names(statements: Sequence[Statement], outer: set[str]) -> None:
    mine = [n for s in statements if (n := declared(s)) is not None]
    assert len(set(mine)) == len(mine)
    assert not outer & set(mine)
    for s in statements:
        if isinstance(s, Loop):
            assert s.var not in outer | set(mine)
            _check_names(s.body, outer | set(mine) | {s.var})


def test_layout(kernels: list[Kernel]) -> None:
    for k in kernels:
        text = render(k)
        lines = text.splitlines()
        assert text.endswith("}\n")
        assert all(len(line) <= 120 and line == line.rstrip() for line in lines)
        assert "\n\n\n" not in text
        depth = 0
        for line in filter(None, lines):
            closes = line.strip().startswith("}")
            depth -= closes
            indent = len(line) - len(line.lstrip())
            assert indent in (4 * depth, 4 * depth + 8) or line.startswith(("#", "        ")), line
            depth += line.count("{") - line.count("}") + closes
        assert depth == 0


def test_blocks_name_the_lines_of_the_spec(kernels: list[Kernel]) -> None:
    for k in kernels:
        notes = re.findall(r"^ *// (\w+)\.dsl:(\d+)  (.*)$", render(k), re.M)
        titles = [re.sub(r"\[.*| over \w+$", "", text).removesuffix("_r") for _, _, text in notes]
        output = k.tensors[-1].name.removesuffix("_r")
        assert titles in (["row maximum", "sum", output], ["S_dot, a tile of keys", "P", output, output])
        assert len({line for _, line, _ in notes}) >= 1
