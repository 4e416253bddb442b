"""What text means, construct by construct, and where its nodes say they stand."""

from __future__ import annotations

import pytest

from tpcgen.diagnostics import DiagnosticError, Span
from tpcgen.syntax import ast
from tpcgen.syntax.parser import DEEPEST, parse, parse_expression
from tpcgen.syntax.print import print_expression
from tpcgen.syntax.table import GRAMMAR, build


def name(id: str) -> ast.Name:
    return ast.Name(id=id)


def integer(value: int) -> ast.Number:
    return ast.Number(value=value, text=str(value))


def item(text: str) -> ast.Item:
    (only,) = parse(text, "spec.dsl").items
    return only


def body(text: str) -> tuple[ast.Statement, ...]:
    op = item(f"op f(x: f32[N]) -> y: f32[N] {{ {text} }}")
    assert isinstance(op, ast.Op)
    return op.body


def test_the_grammar_has_no_conflicts() -> None:
    build(GRAMMAR.read_text(), strict=True)


def test_strict_building_sees_a_conflict() -> None:
    with pytest.raises(Exception, match=r"(?i)shift/reduce"):
        build(
            GRAMMAR.read_text().replace("| NOT negation -> unary", "| NOT negation -> unary | negation NOT"),
            strict=True,
        )


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a / b // c % d * e", "(((a / b) // c) % d) * e"),
        ("-a * b", "(-a) * b"),
        ("-a + b", "(-a) + b"),
        ("--a", "-(-a)"),
        ("a - -b", "a - (-b)"),
        ("not a < b", "not (a < b)"),
        ("not a and b", "(not a) and b"),
        ("a or b and c", "a or (b and c)"),
        ("a and b and c", "(a and b) and c"),
        ("a or b or c", "(a or b) or c"),
        ("a + 1 < b * 2 and c", "((a + 1) < (b * 2)) and c"),
        ("-x[i] % 2 == 0", "((-x[i]) % 2) == 0"),
    ],
)
def test_precedence(text: str, grouped: str) -> None:
    assert parse_expression(text) == parse_expression(grouped)
    assert print_expression(parse_expression(grouped)) == text


def test_parentheses_that_matter_stay_different() -> None:
    assert parse_expression("a - (b - c)") != parse_expression("a - b - c")
    assert parse_expression("(a < b) < c") != parse_expression("a < b < c")
    assert parse_expression("-(a * b)") != parse_expression("-a * b")


def test_a_chain_is_one_comparison() -> None:
    assert parse_expression("q - W < k <= q") == ast.Compare(
        operators=("<", "<="),
        operands=(ast.Binary(operator="-", left=name("q"), right=name("W")), name("k"), name("q")),
    )


def test_numbers() -> None:
    assert parse_expression("0") == ast.Number(value=0, text="0")
    assert isinstance(parse_expression("2147483647"), ast.Number)
    assert parse_expression("1e-3") == ast.Number(value=0.001, text="1e-3")
    assert parse_expression("inf") == ast.Number(value=float("inf"), text="inf")
    assert parse_expression("0007") == ast.Number(value=7, text="0007")


def test_reductions() -> None:
    assert parse_expression("softmax[u, v where u < v sink s[h]](x[u,v])") == ast.Reduce(
        kind="softmax",
        indices=("u", "v"),
        domain=ast.Compare(operators=("<",), operands=(name("u"), name("v"))),
        sink=ast.Subscript(tensor="s", indices=(name("h"),)),
        body=ast.Subscript(tensor="x", indices=(name("u"), name("v"))),
    )
    assert parse_expression("max[k](1)") == ast.Reduce(
        kind="max", indices=("k",), domain=None, sink=None, body=integer(1)
    )
    assert parse_expression("logsumexp[k sink 0](y[])") == ast.Reduce(
        kind="logsumexp", indices=("k",), domain=None, sink=integer(0), body=ast.Subscript(tensor="y", indices=())
    )


def test_max_is_a_function_too() -> None:
    arguments = tuple(ast.Argument(name=None, value=name(id)) for id in "ab")
    assert parse_expression("max(a, b)") == ast.Call(function="max", arguments=arguments)


def test_statements_need_no_terminator() -> None:
    first, second, third, fourth = body("A, L = g(x, W = 3) y[i] = x[i] where i < 7 lam[]: bf16 = -1 let R = N // 2")
    assert first == ast.Application(
        targets=("A", "L"),
        callee="g",
        arguments=(ast.Argument(name=None, value=name("x")), ast.Argument(name="W", value=integer(3))),
    )
    assert isinstance(second, ast.Equation)
    assert second.domain == ast.Compare(operators=("<",), operands=(name("i"), integer(7)))
    assert third == ast.Equation(
        target="lam", indices=(), dtype="bf16", value=ast.Unary(operator="-", operand=integer(1)), domain=None
    )
    assert fourth == ast.Let(name="R", value=ast.Binary(operator="//", left=name("N"), right=integer(2)))


def test_newlines_are_space_and_comments_nothing() -> None:
    assert body("y\n[ # an index\ni]\n=\n\n2\n*\n# twice\nx[i]") == body("y[i] = 2 * x[i]")


def test_scan() -> None:
    (scan,) = body("scan t in 1 .. N - 1 reverse { state S[d]: f32 = 0 S[d] := S[d] where t > 2 y[t] = S[0] }")
    assert isinstance(scan, ast.Scan)
    assert (scan.index, scan.reverse) == ("t", True)
    assert scan.high == ast.Binary(operator="-", left=name("N"), right=integer(1))
    assert [type(step) for step in scan.body] == [ast.State, ast.Update, ast.Equation]
    (forward,) = body("scan t in 0 .. N { }")
    assert isinstance(forward, ast.Scan)
    assert not forward.reverse


def test_schedule() -> None:
    (schedule,) = body("schedule { tile q 64; place S mme; }")
    assert schedule == ast.Schedule(
        entries=(
            ast.ScheduleEntry(verb="tile", words=("q", "64")),
            ast.ScheduleEntry(verb="place", words=("S", "mme")),
        )
    )


def test_index_declaration() -> None:
    assert body("index k in 0..N") == (ast.IndexDeclaration(name="k", low=integer(0), high=name("N")),)


def test_op_signature() -> None:
    op = item("op f(Q: T[B, 2 * C], s: f32[], W: int = 2 * C, cap: f32,) -> O: T[B], L: f32[] where B > 0, C > 0 {}")
    twice = ast.Binary(operator="*", left=integer(2), right=name("C"))
    assert isinstance(op, ast.Op)
    assert op.parameters == (
        ast.TensorParameter(name="Q", dtype="T", shape=(name("B"), twice)),
        ast.TensorParameter(name="s", dtype="f32", shape=()),
        ast.Attribute(name="W", dtype="int", default=twice),
        ast.Attribute(name="cap", dtype="f32", default=None),
    )
    assert op.outputs == (
        ast.TensorParameter(name="O", dtype="T", shape=(name("B"),)),
        ast.TensorParameter(name="L", dtype="f32", shape=()),
    )
    assert len(op.contracts) == 2


def test_other_items() -> None:
    assert item('use "a/b.dsl"') == ast.Use(path="a/b.dsl")
    assert item("param x: f32 = 0.5") == ast.Param(name="x", dtype="f32", value=ast.Number(value=0.5, text="0.5"))
    assert item("dtype T in bf16, f32") == ast.DtypeVariable(name="T", choices=("bf16", "f32"))
    assert item("fn one() = 1") == ast.Function(name="one", parameters=(), body=integer(1))
    assert item("vjp f wrt Q, V") == ast.Vjp(op="f", inputs=("Q", "V"))
    assert item("check s { N = 7, W = 2, }") == ast.Check(name="s", values=(("N", integer(7)), ("W", integer(2))))
    assert item("check s {}") == ast.Check(name="s", values=())


def test_spans_count_lines_and_characters_from_one() -> None:
    file = parse("\ufeff# é\r\nfn f(x) =\r\n\tx *\r\n  (1 + x)\r\n", "spec.dsl")
    (function,) = file.items
    assert isinstance(function, ast.Function)
    assert function.span == Span("spec.dsl", 2, 1, 4, 10)
    assert isinstance(function.body, ast.Binary)
    assert function.body.left.span == Span("spec.dsl", 3, 2, 3, 3)
    assert function.body.right.span == Span("spec.dsl", 4, 3, 4, 10)
    assert parse("fn f(x) = 1\rfn g(x) = 2", "p").items[1].span == Span("p", 2, 1, 2, 12)


def test_an_empty_file_has_no_items() -> None:
    assert parse("", "spec.dsl").items == ()
    assert parse("\ufeff\r\n# nothing", "spec.dsl").items == ()


def test_expressions_at_the_limit_of_depth() -> None:
    parse_expression("-" * (DEEPEST - 1) + "x")
    with pytest.raises(DiagnosticError, match="E124"):
        parse_expression("-" * DEEPEST + "x")


@pytest.mark.parametrize(
    "text",
    ["(" * 10000 + "x" + ")" * 10000, "x" * 100000, "f(" + "1, " * 10000 + "1)"],
    ids=["parentheses", "name", "arguments"],
)
def test_long_texts_that_are_fine(text: str) -> None:
    parse_expression(text)


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("(" * 10000, "E104"),
        ("-" * 10000 + "x", "E124"),
        ("not " * 10000 + "x", "E124"),
        ("x + " * 10000 + "x", "E124"),
        ("f(" * 10000 + "x" + ")" * 10000, "E124"),
        ("x[" * 10000 + "1" + "]" * 10000, "E124"),
        ("9" * 100000, "E123"),
        ("9" * 10000 + ".5", "E123"),
        ("1e999", "E123"),
        ("x" * 1_000_001, "E125"),
        ("€" * 100000, "E102"),
        ("\0", "E102"),
        ("\ud800", "E102"),
    ],
    ids=lambda value: value[:8].encode("ascii", "backslashreplace").decode().replace("\0", "NUL"),
)
def test_hostile_texts_are_refused(text: str, id: str) -> None:
    for whole in (text, f"fn f(x) = {text}", f"op f(x: f32[N]) -> y: f32[N] {{ y[i] = {text}\n }}"):
        with pytest.raises(DiagnosticError, match=id):
            (parse_expression if whole is text else lambda text: parse(text, "spec.dsl"))(whole)


def test_lines_that_look_like_statements_do_not_take_quadratic_time() -> None:
    with pytest.raises(DiagnosticError):
        parse("op f(x: f32[N]) -> y: f32[N] {\n )\n" + "x[\n" * 20000, "spec.dsl")
