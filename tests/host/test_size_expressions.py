"""Expressions of sizes and attributes in C++, against the evaluator that the rest of the compiler uses."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tpcgen.emit.cpptext import C_TYPE, expression, field
from tpcgen.emit.templates import render
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Attr, Binary, Call, Cast, Expr, Literal, Size, Unary, type_of
from tpcgen.program.sizes import EvaluationError, Value, evaluate

TYPES = {"M": DType.I32, "N": DType.I32, "W": DType.I32, "cap": DType.F32}
VALUES: list[dict[str, Value]] = [
    {"M": 1, "N": 1, "W": 0, "cap": 0.0},
    {"M": 7, "N": 296, "W": -3, "cap": 30.0},
    {"M": 2**31 - 1, "N": 65_536, "W": -(2**31), "cap": -1.5},
    {"M": 46_341, "N": 46_341, "W": 128, "cap": 1e-3},
]
UNARY = (
    "sqrt",
    "rsqrt",
    "recip",
    "log",
    "exp2",
    "tanh",
    "floor",
    "sin",
    "exp",
    "sigmoid",
    "gelu",
    "silu",
    "relu",
    "elu",
    "softplus",
)


def integer(r: random.Random, depth: int) -> Expr:
    if depth == 0:
        return r.choice([Size("M"), Size("N"), Attr("W", DType.I32), Literal(r.choice([0, 1, 3, 64]), DType.I32)])
    part = lambda: integer(r, depth - 1)  # noqa: E731
    match r.randrange(6):
        case 0 | 1 | 2:
            return Binary(r.choice(["+", "-", "*", "//", "%"]), part(), part())
        case 3:
            return Call(r.choice(["min", "max"]), tuple(part() for _ in range(r.choice([2, 3]))))
        case 4:
            return r.choice([Unary("-", part()), Call("abs", (part(),)), Call("clamp", (part(), part(), part()))])
        case _:
            return r.choice(
                [Call("select", (truth(r, depth - 1), part(), part())), Cast(DType.I32, real(r, depth - 1))]
            )


def real(r: random.Random, depth: int) -> Expr:
    if depth == 0:
        return r.choice([Attr("cap", DType.F32), Literal(0.5, DType.F32), Literal(-2.0, DType.F32)])
    part = lambda: r.choice([real, integer])(r, depth - 1)  # noqa: E731
    match r.randrange(5):
        case 0:
            return Binary("/", part(), part())
        case 1:
            return Binary(r.choice(["+", "-", "*"]), real(r, depth - 1), part())
        case 2:
            return Call(r.choice(UNARY), (part(),))
        case 3:
            return Cast(r.choice([DType.F32, DType.BF16]), part())
        case _:
            return Call("select", (truth(r, depth - 1), real(r, depth - 1), part()))


def truth(r: random.Random, depth: int) -> Expr:
    if depth < 2 or r.random() < 0.6:
        sides = [r.choice([real, integer])(r, max(0, depth - 1)) for _ in range(2)]
        return Binary(r.choice(["<", "<=", ">", ">=", "==", "!="]), *sides)
    if r.random() < 0.3:
        return Unary("not", truth(r, depth - 1))
    return Binary(r.choice(["and", "or"]), truth(r, depth - 1), truth(r, depth - 1))


def expected(e: Expr, values: dict[str, Value]) -> Value | None:
    try:
        return evaluate(e, values)
    except EvaluationError:
        return None


def test_cpp_has_the_same_values(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    r = random.Random(20)
    expressions = [r.choice([integer, real, truth])(r, r.randrange(1, 4)) for _ in range(240)]
    (tmp_path / "sizes.h").write_text(render("sizes.h.j2", version="0"))
    source = tmp_path / "values.cpp"
    source.write_text(program(expressions))
    flags = ["-std=c++11", "-O0", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover"]
    flags += ["-Wno-int-in-bool-context", "-Wno-tautological-compare", "-Wno-div-by-zero"]
    binary = tmp_path / "values"
    done = subprocess.run([compiler, *flags, "-o", str(binary), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = [(e, v, expected(e, v)) for v in VALUES for e in expressions]
    assert len(lines) == len(wanted)
    assert 100 < sum(value is None for _, _, value in wanted) < len(wanted) // 2
    for line, (e, values, value) in zip(lines, wanted, strict=True):
        assert same(line, value), f"{expression(e)} at {values}: {line}, not {value}"


def same(line: str, value: Value | None) -> bool:
    if value is None or line == "none":
        return (value is None) == (line == "none")
    return math.isclose(float(line), float(value), rel_tol=1e-12) or (math.isnan(float(line)) and math.isnan(value))


def program(expressions: list[Expr]) -> str:
    fields = "".join(f"    {C_TYPE[t]} {field(name)};\n" for name, t in TYPES.items())
    rows = ",\n".join(
        "    {" + ", ".join(f"{C_TYPE[t]}({values[name]!r})" for name, t in TYPES.items()) + "}" for values in VALUES
    )
    prints = "".join(f"        print([&] {{ return {as_double(e)}; }});\n" for e in expressions)
    return f"""#include <cstdio>
#include "sizes.h"
using namespace tpcgen_sizes;
struct NoValue {{}};
inline void tpcgen_sizes::no_value(const char*) {{ throw NoValue(); }}
struct Values {{
{fields}}};
template <class F> void print(F f)
{{
    try {{
        std::printf("%.17g\\n", f());
    }} catch (const NoValue&) {{
        std::puts("none");
    }}
}}
int main()
{{
    const Values all[] = {{
{rows}}};
    for (const Values& v : all) {{
{prints}    }}
}}
"""


def as_double(e: Expr) -> str:
    return f"double({expression(e, type_of(e))})"
