"""Derivatives of the built-in functions: one expression per argument, in the arguments.

Where a function has a corner it takes the value PyTorch's autograd takes: 0 for relu and abs at 0, half to each of two
equal arguments of min and max, 1 for clamp at its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tpcgen.program import ir
from tpcgen.program.dtypes import DType

Derivative = Callable[[ir.Expr], ir.Expr]


def real(value: float) -> ir.Literal:
    return ir.Literal(value, DType.F32)


def call(function: str, *arguments: ir.Expr) -> ir.Call:
    return ir.Call(function, arguments)


def _binary(operator: str) -> Callable[[ir.Expr, ir.Expr], ir.Expr]:
    return lambda a, b: ir.Binary(operator, a, b)


plus, minus, times, over = (_binary(operator) for operator in "+-*/")


def _tanh(x: ir.Expr) -> ir.Expr:
    """Not 1 - tanh^2, which has no digits left where tanh is next to 1."""
    return times(real(4.0), _sigmoid(times(real(2.0), x)))


def _sigmoid(x: ir.Expr) -> ir.Expr:
    return call("recip", plus(plus(real(2.0), call("exp", x)), call("exp", ir.Unary("-", x))))


def _silu(x: ir.Expr) -> ir.Expr:
    return times(call("sigmoid", x), plus(real(1.0), times(x, call("sigmoid", ir.Unary("-", x)))))


def _erf(x: ir.Expr) -> ir.Expr:
    return times(real(2 / math.sqrt(math.pi)), call("exp", ir.Unary("-", times(x, x))))


def _gelu(x: ir.Expr) -> ir.Expr:
    """The normal distribution's function, gelu(x) / x, and x times its density. (1 + erf) / 2 has no digits left far
    below 0.
    """
    near = ir.Binary("<", call("abs", x), real(1e-20))
    y = call("select", near, real(1e-20), x)
    density = times(real(1 / math.sqrt(2 * math.pi)), call("exp", times(real(-0.5), times(x, x))))
    return plus(over(call("gelu", y), y), times(x, density))


def _above_zero(x: ir.Expr, then: ir.Expr, otherwise: ir.Expr) -> ir.Expr:
    return call("select", ir.Binary(">", x, real(0.0)), then, otherwise)


_OF_ONE: dict[str, Derivative] = {
    "exp": lambda x: call("exp", x),
    "exp2": lambda x: times(real(math.log(2)), call("exp2", x)),
    "log": lambda x: call("recip", x),
    "sqrt": lambda x: times(real(0.5), call("rsqrt", x)),
    "rsqrt": lambda x: over(times(real(-0.5), call("rsqrt", x)), x),
    "recip": lambda x: ir.Unary("-", times(call("recip", x), call("recip", x))),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "erf": _erf,
    "gelu": _gelu,
    "relu": lambda x: _above_zero(x, real(1.0), real(0.0)),
    "elu": lambda x: call("exp", call("min", x, real(0.0))),
    "softplus": lambda x: call("sigmoid", x),
    "sin": lambda x: call("cos", x),
    "cos": lambda x: ir.Unary("-", call("sin", x)),
    "abs": lambda x: _above_zero(x, real(1.0), call("select", ir.Binary("<", x, real(0.0)), real(-1.0), real(0.0))),
}
"""All strict functions of one argument but floor, whose derivative is 0 everywhere."""


def derivative(function: str, x: ir.Expr) -> ir.Expr | None:
    """Of a function of one argument; None where it is 0 everywhere."""
    return _OF_ONE[function](x) if function in _OF_ONE else None


def shares(function: str, a: ir.Expr, b: ir.Expr) -> tuple[ir.Expr, ir.Expr]:
    """How much of a cotangent of min or max goes to each of two arguments."""
    a_is_greater, b_is_greater = _share_of_greater(a, b), _share_of_greater(b, a)
    return (a_is_greater, b_is_greater) if function == "max" else (b_is_greater, a_is_greater)


def _share_of_greater(x: ir.Expr, y: ir.Expr) -> ir.Expr:
    """1 where x is greater, 0 where it is less, half where they are equal."""
    not_greater = call("select", ir.Binary("<", x, y), real(0.0), real(0.5))
    return call("select", ir.Binary(">", x, y), real(1.0), not_greater)
