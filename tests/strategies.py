"""Hypothesis strategies of the language: ASTs that can be written as text, whether or not they mean anything."""

from __future__ import annotations

from string import ascii_letters, digits

from hypothesis import strategies as st

from tpcgen.syntax import ast

RESERVED = frozenset(
    "use param dtype fn op vjp check wrt let index scan in reverse state schedule where sink and or not inf "
    "sum max min softmax logsumexp rank any all".split()
)
REDUCTIONS = ("sum", "max", "min", "softmax", "logsumexp", "rank", "any", "all")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")

names = st.one_of(
    st.sampled_from(["B", "H", "N", "Q", "K", "b", "q", "k", "updates", "int", "f32", "T", "_", "in_", "sums"]),
    st.text(ascii_letters + digits + "_", min_size=1, max_size=12).filter(lambda name: not name[0].isdigit()),
).filter(lambda name: name not in RESERVED)

integers = st.integers(0, 2**31 - 1).map(lambda value: ast.Number(value=value, text=str(value)))
reals = st.sampled_from(["0.5", "1e-3", "2.5E8", "1e+5", "007.25", "3.4e38"]).map(
    lambda text: ast.Number(value=float(text), text=text)
)
numbers = st.one_of(integers, reals, st.just(ast.Number(value=float("inf"), text="inf")))


def tuples_of(element: st.SearchStrategy[object], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple]:
    return st.lists(element, min_size=least, max_size=most).map(tuple)


def arguments_of(value: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[tuple]:
    return tuples_of(st.builds(ast.Argument, name=st.none() | names, value=value))


def _compare(operands: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Compare]:
    return st.lists(st.tuples(st.sampled_from(COMPARISONS), operands), min_size=1, max_size=3).flatmap(
        lambda pairs: operands.map(
            lambda first: ast.Compare(
                operators=tuple(operator for operator, _ in pairs), operands=(first, *(operand for _, operand in pairs))
            )
        )
    )


def _larger(part: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    return st.one_of(
        st.builds(ast.Subscript, tensor=names, indices=tuples_of(part)),
        st.builds(ast.Call, function=names | st.sampled_from(["max", "min"]), arguments=arguments_of(part)),
        st.builds(ast.Unary, operator=st.sampled_from(["-", "not"]), operand=part),
        st.builds(ast.Binary, operator=st.sampled_from(["+", "-", "*", "/", "//", "%"]), left=part, right=part),
        _compare(part),
        st.builds(ast.Logical, operator=st.sampled_from(["and", "or"]), left=part, right=part),
        st.builds(
            ast.Reduce,
            kind=st.sampled_from(REDUCTIONS),
            indices=tuples_of(names, 1),
            domain=st.none() | part,
            sink=st.none() | part,
            body=part,
        ),
    )


expressions: st.SearchStrategy[ast.Expr] = st.recursive(numbers | st.builds(ast.Name, id=names), _larger, max_leaves=12)

lets = st.builds(ast.Let, name=names, value=expressions)
index_declarations = st.builds(ast.IndexDeclaration, name=names, low=expressions, high=expressions)
equations = st.builds(
    ast.Equation,
    target=names,
    indices=tuples_of(names),
    dtype=st.none() | names,
    value=expressions,
    domain=st.none() | expressions,
)
applications = st.builds(
    ast.Application, targets=tuples_of(names, 1), callee=names, arguments=arguments_of(expressions)
)
states = st.builds(ast.State, name=names, indices=tuples_of(names), dtype=st.none() | names, initial=expressions)
updates = st.builds(
    ast.Update, target=names, indices=tuples_of(names), value=expressions, domain=st.none() | expressions
)
scans = st.builds(
    ast.Scan,
    index=names,
    low=expressions,
    high=expressions,
    reverse=st.booleans(),
    body=tuples_of(st.one_of(states, updates, equations, lets, index_declarations)),
)
schedules = st.builds(
    ast.Schedule,
    entries=tuples_of(
        st.builds(ast.ScheduleEntry, verb=names, words=tuples_of(names | st.integers(0, 2**31 - 1).map(str)))
    ),
)
statements = st.one_of(lets, index_declarations, equations, applications, scans, schedules)

tensors = st.builds(ast.TensorParameter, name=names, dtype=names, shape=tuples_of(expressions))
attributes = st.builds(ast.Attribute, name=names, dtype=names, default=st.none() | expressions)
ops = st.builds(
    ast.Op,
    name=names,
    parameters=tuples_of(tensors | attributes, most=5),
    outputs=tuples_of(tensors, 1),
    contracts=tuples_of(expressions),
    body=tuples_of(statements, most=4),
)
paths = st.text(ascii_letters + "/.#' \t\\é\u2028\ufeff\0", max_size=20)
items = st.one_of(
    ops,
    st.builds(ast.Use, path=paths),
    st.builds(ast.Param, name=names, dtype=names, value=expressions),
    st.builds(ast.DtypeVariable, name=names, choices=tuples_of(names, 1)),
    st.builds(ast.Function, name=names, parameters=tuples_of(names), body=expressions),
    st.builds(ast.Vjp, op=names, inputs=tuples_of(names, 1)),
    st.builds(ast.Check, name=names, values=tuples_of(st.tuples(names, expressions), most=6)),
)
files = st.builds(ast.File, path=st.just("spec.dsl"), items=tuples_of(items, most=4))
