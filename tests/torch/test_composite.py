"""Batched matmuls of a plan as torch code, against einsum over the factors."""

from __future__ import annotations

import itertools
import math

import pytest

from tpcgen.emit.composite import function
from tpcgen.emit.pytext import expression, identifier
from tpcgen.partition.plan import Buffer, Factor, MmeStage, Operand, Plan
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Call, Expr, Literal, Program, Role, Size, Tensor, Unary

torch = pytest.importorskip("torch")

B, H, G, M, N, D = (Size(s) for s in "BHGMND")
R = Binary("//", H, G)
SIZES = {"B": 2, "H": 6, "G": 2, "M": 5, "N": 7, "D": 3}


def grouped_scores(out_order: tuple[int, ...], rhs_axes: tuple[Expr, ...] | None = None) -> Plan:
    """out[b,h,m,n] = sum[d] q[b,h,m,d] * k[b,h // R,n,d]; `rhs_axes` replaces k's shape (then without b: broadcast)."""
    shapes = {"q": (B, H, M, D), "k": rhs_axes or (B, G, N, D), "out": (B, H, M, N)}
    roles = {"q": Role.INPUT, "k": Role.INPUT, "out": Role.OUTPUT}
    tensors = tuple(Tensor(n, s, DType.F32, roles[n]) for n, s in shapes.items())
    program = Program("scores", tuple(SIZES), (), tensors, (), (), ())
    extents = {"b": B, "g": G, "r": R, "m": M, "n": N, "d": D}
    batch_of_k = (("b",), ("g",)) if rhs_axes is None else (("g",),)
    stage = MmeStage(
        "scores",
        program,
        tuple(Factor(n, e) for n, e in extents.items()),
        batch=("b", "g"),
        m=("r", "m"),
        n=("n",),
        k=("d",),
        lhs=Operand("q", (("b",), ("g", "r"), ("m",), ("d",))),
        rhs=Operand("k", (*batch_of_k, ("n",), ("d",))),
        out=Operand("out", (("b",), ("g", "r"), ("m",), ("n",))),
    )
    orders = {"q": (0, 1, 2, 3), "k": tuple(range(len(shapes["k"]))), "out": out_order}
    buffers = tuple(Buffer(t.name, t.shape, t.dtype, orders[t.name], t.role) for t in tensors)
    return Plan(program, "gaudi2", "test", buffers, (stage,))


def run(plan: Plan, **inputs: object) -> object:
    def mme_matmul(a: object, b: object, dtype: object) -> object:
        return torch.matmul(a, b).to(dtype)

    scope: dict[str, object] = {"torch": torch, "math": math, "mme_matmul": mme_matmul}
    exec(function(plan, "op", lambda stage: stage.name), scope)
    return scope["op"](**inputs)  # type: ignore[operator]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_memory_order_of_the_result(order: tuple[int, ...]) -> None:
    q, k = torch.randn(2, 6, 5, 3), torch.randn(2, 2, 7, 3)
    expected = torch.einsum("bgrmd,bgnd->bgrmn", q.reshape(2, 2, 3, 5, 3), k).reshape(2, 6, 5, 7)
    torch.testing.assert_close(run(grouped_scores(order), q=q, k=k), expected.permute(order))


def test_operand_without_a_batch_factor_is_broadcast() -> None:
    plan = grouped_scores((0, 1, 2, 3), (G, N, D))
    q, k = torch.randn(2, 6, 5, 3), torch.randn(2, 7, 3)
    expected = torch.einsum("bgrmd,gnd->bgrmn", q.reshape(2, 2, 3, 5, 3), k).reshape(2, 6, 5, 7)
    torch.testing.assert_close(run(plan, q=q, k=k), expected)


@pytest.mark.parametrize(
    ("e", "expected"),
    [
        (Binary("-", N, Binary("-", M, D)), 7 - (5 - 3)),
        (Binary("*", Binary("+", N, M), D), 36),
        (Unary("-", Binary("%", N, M)), -2),
        (Binary("//", Binary("*", N, M), Binary("*", D, D)), 3),
        (Binary("and", Binary("<=", M, N), Unary("not", Binary("==", D, N))), True),
        (Call("clamp", (Literal(9, DType.I32), M, N)), 7),
    ],
)
def test_size_expressions_keep_their_value(e: Expr, expected: int | bool) -> None:
    assert eval(expression(e), {"math": math, **SIZES}) == expected


@pytest.mark.parametrize("name", ["class", "torch", "match", "print", "require", "class_", "_x"])
def test_identifiers_hide_nothing(name: str) -> None:
    assert identifier(name) != name
    assert identifier(identifier(name)) != identifier(name)
    assert identifier(name).isidentifier()


def test_plain_names_stay() -> None:
    assert identifier("S_dot") == "S_dot"
