"""Random programs against the language read literally: point by point, on demand, one Python number at a time.

`Literal` below is language.md's section on presence turned into code without a thought for speed. It shares nothing
with the interpreter but the program. Every program is also run in blocks of every size: nothing may change.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpcgen.interpreter import InterpreterError, run
from tpcgen.interpreter.evaluate import Evaluator
from tpcgen.interpreter.visits import visited
from tpcgen.program import ir, sizes
from tpcgen.program.dtypes import DType
from tpcgen.program.print import program as text_of

F32, I32, BOOL = DType.F32, DType.I32, DType.BOOL


class OutsideError(Exception):
    """A read outside its tensor was visited."""


ABSENT = object()


class Pointwise:
    """The value of a program at one point: a number, ABSENT, or OutsideError; `seen` are the inputs visited for it."""

    def __init__(self, program, inputs, extents):
        self.program, self.inputs, self.extents = program, inputs, extents
        self.memo, self.seen = {}, set()

    def tensor(self, name, at):
        if name in self.inputs:
            self.seen.add((name, at))
            return self.inputs[name][at].item()
        if (name, at) not in self.memo:
            self.memo[name, at] = self.apart(lambda: self.defined(name, at))
        found, seen = self.memo[name, at]
        self.seen |= seen
        return found

    def apart(self, compute):
        """A value, and what is visited for it, not yet counted as visited."""
        outer, self.seen = self.seen, set()
        try:
            return compute(), self.seen
        finally:
            self.seen = outer

    def defined(self, name, at):
        for s in self.program.body:
            if s.target == name:
                env = dict(zip(s.indices, at, strict=True))
                if s.domain is None or self.holds(s.domain, env):
                    return self.value(s.value, env)
        return ABSENT

    def holds(self, domain, env):
        return self.value(domain, env) is True

    def value(self, e, env):
        match e:
            case ir.Literal():
                return e.value
            case ir.Index():
                return env[e.name]
            case ir.Size():
                return self.extents[e.name]
            case ir.Read():
                at = tuple(self.value(i, env) for i in e.indices)
                if ABSENT in at:
                    return ABSENT
                shape = [self.extents[x.name] for x in self.program.tensor(e.tensor).shape]
                if not all(0 <= i < n for i, n in zip(at, shape, strict=True)):
                    raise OutsideError
                return self.tensor(e.tensor, at)
            case ir.Unary(operator="not"):
                x = self.value(e.operand, env)
                return x if x is ABSENT else not x
            case ir.Unary():
                x = self.value(e.operand, env)
                return x if x is ABSENT else -x
            case ir.Binary(operator="and" | "or" | "*"):
                return self.symmetric(e, env)
            case ir.Binary():
                return self.binary(e.operator, self.value(e.left, env), self.value(e.right, env))
            case ir.Call(function="select"):
                condition = self.value(e.arguments[0], env)
                return ABSENT if condition is ABSENT else self.value(e.arguments[1 if condition else 2], env)
            case ir.Call(function="default"):
                x = self.value(e.arguments[0], env)
                return self.value(e.arguments[1], env) if x is ABSENT else x
            case ir.Call():
                arguments = [self.value(a, env) for a in e.arguments]
                return ABSENT if ABSENT in arguments else FUNCTIONS[e.function](*arguments)
            case ir.Reduce():
                return self.reduce(e, env)

    def symmetric(self, e, env):
        """The side that decides leaves the other unvisited, in any order."""
        found = []
        for side in (e.left, e.right):
            try:
                found.append(self.apart(lambda side=side: self.value(side, env)))
            except OutsideError:
                found.append((OutsideError, set()))
        deciding = {"and": False, "or": True, "*": ABSENT}[e.operator]
        deciders = [seen for value, seen in found if value is deciding]
        if deciders:
            self.seen |= set.intersection(*deciders)
            return deciding
        self.seen |= found[0][1] | found[1][1]
        sides = [value for value, _ in found]
        if OutsideError in sides:
            raise OutsideError
        if ABSENT in sides:
            return ABSENT
        return sides[0] * sides[1] if e.operator == "*" else not deciding

    def binary(self, operator, a, b):
        if operator in "+-":
            if b is ABSENT:
                return a
            if a is ABSENT:
                return b if operator == "+" else -b
            return a + b if operator == "+" else a - b
        if a is ABSENT or b is ABSENT:
            return ABSENT
        return COMPARE[operator](a, b)

    def points(self, e, env):
        ranges = [range(self.extents[self.program.range_of(i).high.name]) for i in e.indices]
        for at in itertools.product(*ranges):
            inner = env | dict(zip(e.indices, at, strict=True))
            yield at, inner

    def reduce(self, e, env):
        if e.kind in ("any", "all"):
            return self.quantified(e, env)
        here = tuple(env[i] for i in e.indices) if e.kind in ir.KEEPS_INDICES else None
        if here is not None and e.domain is not None and not self.holds(e.domain, env):
            return ABSENT
        if here is not None and self.value(e.body, env) is ABSENT:
            return ABSENT
        found = {}
        for at, inner in self.points(e, env):
            if e.domain is None or self.holds(e.domain, inner):
                x = self.value(e.body, inner)
                if x is not ABSENT:
                    found[at] = x
        sink = ABSENT if e.sink is None else self.value(e.sink, env)
        values = list(found.values())
        if e.kind == "rank":
            mine = found[here]
            return sum(before(at, x, here, mine) for at, x in found.items() if at != here)
        logits = [*values, *([] if sink is ABSENT else [sink])]
        if e.kind == "logsumexp":
            return logsumexp(logits) if logits else ABSENT
        if e.kind == "softmax":
            return math.exp(found[here] - logsumexp(logits)) if not math.isnan(logsumexp(logits)) else math.nan
        if not values:
            return ABSENT
        if e.kind != "sum" and any(math.isnan(x) for x in values):
            return math.nan
        return {"sum": sum, "max": max, "min": min}[e.kind](values)

    def quantified(self, e, env):
        decided, failed = e.kind == "any", False
        for _, inner in self.points(e, env):
            try:
                inside = e.domain is None or self.holds(e.domain, inner)
                if inside and self.value(e.body, inner) is decided:
                    return decided
            except OutsideError:
                failed = True
        if failed:
            raise OutsideError
        return not decided


def before(at, x, here, mine):
    if math.isnan(mine):
        return not math.isnan(x) or at < here
    return x > mine or (x == mine and at < here)


def logsumexp(logits):
    top = max(logits)
    if any(math.isnan(x) for x in logits) or math.isinf(top):
        return math.nan
    return top + math.log(sum(math.exp(x - top) for x in logits))


def floating(f):
    return lambda *a: math.nan if any(math.isnan(x) for x in a) else f(*a)


FUNCTIONS = {"min": floating(min), "max": floating(max), "abs": abs, "relu": floating(lambda x: max(float(x), 0.0))}
COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    ">": lambda a, b: a > b,
}

# Programs


def index(name):
    return ir.Index(name)


def whole(x):
    return ir.Literal(x, I32)


@st.composite
def integers(draw, scope, depth):
    """An index expression, often outside the tensor."""
    kinds = ["index", "index", "literal"] + (["sum", "table"] if depth else [])
    match draw(st.sampled_from(kinds)):
        case "index":
            return index(draw(st.sampled_from(scope)))
        case "literal":
            return whole(draw(st.integers(-1, 3)))
        case "sum":
            a, b = draw(integers(scope, depth - 1)), draw(integers(scope, depth - 1))
            return ir.Binary(draw(st.sampled_from("+-")), a, b)
        case _:
            return ir.Read("at", (draw(integers(scope, 0)),), I32)


@st.composite
def conditions(draw, scope, tensors, depth):
    match draw(
        st.sampled_from(["integers", "integers", "reals", "and", "or", "not", "any"] if depth else ["integers"])
    ):
        case "integers":
            pair = draw(integers(scope, 1)), draw(integers(scope, 1))
            return ir.Binary(draw(st.sampled_from(["<", "<=", "==", ">"])), *pair)
        case "reals":
            pair = draw(reals(scope, tensors, depth - 1)), draw(reals(scope, tensors, 0))
            return ir.Binary(draw(st.sampled_from(["<", "<=", "==", ">"])), *pair)
        case "not":
            return ir.Unary("not", draw(conditions(scope, tensors, depth - 1)))
        case "any":
            inner, domain = draw(st.sampled_from(["m", "n"])), None
            if draw(st.booleans()):
                domain = draw(conditions([*scope, inner], tensors, 0))
            body = draw(conditions([*scope, inner], tensors, depth - 1))
            return ir.Reduce(draw(st.sampled_from(["any", "all"])), (inner,), domain, None, body)
        case operator:
            pair = draw(conditions(scope, tensors, depth - 1)), draw(conditions(scope, tensors, depth - 1))
            return ir.Binary(operator, *pair)


@st.composite
def reads(draw, scope, tensors):
    name, rank = draw(st.sampled_from(sorted(tensors.items())))
    plain = st.sampled_from([index(i) for i in scope])
    indices = tuple(draw(st.one_of(plain, plain, integers(scope, 1))) for _ in range(rank))
    return ir.Read(name, indices, F32)


@st.composite
def reals(draw, scope, tensors, depth):
    if depth == 0:
        return draw(st.one_of(reads(scope, tensors), st.integers(-2, 3).map(lambda x: ir.Literal(float(x), F32))))
    arithmetic = ["+", "-", "*", "*", "-x", "min", "abs", "select", "default", "relu"]
    match draw(st.sampled_from([*arithmetic, "reduce", "reduce", "reduce", "keep"])):
        case ("+" | "-" | "*") as operator:
            pair = draw(reals(scope, tensors, depth - 1)), draw(reals(scope, tensors, depth - 1))
            return ir.Binary(operator, *pair)
        case "-x":
            return ir.Unary("-", draw(reals(scope, tensors, depth - 1)))
        case ("min" | "default") as function:
            pair = draw(reals(scope, tensors, depth - 1)), draw(reals(scope, tensors, depth - 1))
            return ir.Call(function, pair)
        case ("abs" | "relu") as function:
            return ir.Call(function, (draw(reals(scope, tensors, depth - 1)),))
        case "select":
            condition = draw(conditions(scope, tensors, depth - 1))
            return ir.Call("select", (condition, *(draw(reals(scope, tensors, depth - 1)) for _ in "ab")))
        case "keep":
            return draw(kept(scope, tensors, depth))
        case _:
            indices = draw(st.sampled_from([("m",), ("n",), ("m", "n"), ("n",)]))
            inner = list(dict.fromkeys([*scope, *indices]))
            kind = draw(st.sampled_from(["sum", "sum", "sum", "max", "min", "logsumexp"]))
            sink = draw(reals(sorted(set(scope) - set(indices)) or ["z"], tensors, 0)) if kind == "logsumexp" else None
            sink = sink if sink is not None and "z" not in ir.free_indices(sink) and draw(st.booleans()) else None
            return ir.Reduce(
                kind, indices, *draw(domains(inner, tensors)), sink, draw(reals(inner, tensors, depth - 1))
            )


@st.composite
def domains(draw, scope, tensors):
    return (draw(st.one_of(st.none(), conditions(scope, tensors, 1))),)


@st.composite
def kept(draw, scope, tensors, depth):
    """softmax or rank over an index of the scope."""
    over = tuple(draw(st.sampled_from([[i] for i in scope] + ([list(scope)] if len(scope) > 1 else []))))
    kind = draw(st.sampled_from(["softmax", "rank"]))
    rest = [i for i in scope if i not in over]
    sink = None
    if kind == "softmax" and rest and draw(st.booleans()):
        sink = draw(reals(rest, tensors, 0))
    body = draw(reals(scope, tensors, depth - 1))
    result = ir.Reduce(kind, over, *draw(domains(scope, tensors)), sink, body)
    return result if kind == "softmax" else ir.Binary("*", ir.Literal(1.0, F32), result)


AXES = {"m": "M", "n": "N"}


@st.composite
def programs(draw):
    tensors = {"x": 2, "z": 1}
    found = [
        ir.Tensor("x", (ir.Size("M"), ir.Size("N")), F32, ir.Role.INPUT),
        ir.Tensor("z", (ir.Size("N"),), F32, ir.Role.INPUT),
        ir.Tensor("at", (ir.Size("N"),), I32, ir.Role.INPUT),
    ]
    body = []
    for number in range(draw(st.integers(1, 4))):
        indices = draw(st.sampled_from([("m", "n"), ("n", "m"), ("n",), ("m",), ("m", "n")]))
        role = ir.Role.OUTPUT if number == 0 else ir.Role.INTERMEDIATE
        name = f"t{number}"
        found.append(ir.Tensor(name, tuple(ir.Size(AXES[i]) for i in indices), F32, role))
        body.append((name, indices))
    equations = []
    for name, indices in reversed(body):
        value = draw(reals(list(indices), tensors, draw(st.integers(1, 3))))
        equations.append(ir.Equation(name, indices, value, *draw(domains(list(indices), tensors))))
        tensors[name] = len(indices)
    ranges = tuple(ir.IndexRange(i, whole(0), ir.Size(n)) for i, n in AXES.items())
    return ir.Program("t", ("M", "N"), (), tuple(found), ranges, (), tuple(equations))


numbers = st.one_of(*[st.integers(-3, 3).map(float)] * 6, st.sampled_from([math.nan, math.inf, -math.inf]))


@st.composite
def cases(draw):
    m, n = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    plain = draw(st.booleans())
    number = st.integers(-3, 3).map(float) if plain else numbers
    x = draw(st.lists(number, min_size=m * n, max_size=m * n))
    z = draw(st.lists(number, min_size=n, max_size=n))
    at = draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    inputs = {
        "x": np.array(x, np.float32).reshape(m, n),
        "z": np.array(z, np.float32),
        "at": np.array(at, np.int32),
    }
    return Case(draw(programs()), inputs, {"M": m, "N": n})


class Case:
    """Shown as text of the language when a test fails."""

    def __init__(self, program, inputs, extents):
        self.program, self.inputs, self.extents = program, inputs, extents

    def __repr__(self):
        return f"{text_of(self.program)}\n{self.inputs} {self.extents}"


def literally(program, inputs, extents):
    """The outputs, and the elements of inputs that were visited."""
    points = Pointwise(program, inputs, extents)
    name = program.outputs[0].name
    shape = [extents[e.name] for e in program.tensor(name).shape]
    result = np.zeros(shape)
    for at in np.ndindex(*shape):
        found = points.tensor(name, at)
        result[at] = 0 if found is ABSENT else found
    return result, points.seen


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_blocks_and_arrays_give_what_the_language_says_point_by_point(case):
    compare(case)


@pytest.mark.full
@settings(max_examples=5000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_many_more_random_programs(case):
    compare(case)


def compare(case):
    program, inputs, extents = case.program, case.inputs, case.extents
    try:
        expected, seen = literally(program, inputs, extents)
    except OutsideError:
        for block in (1 << 22, 1):
            with pytest.raises(InterpreterError) as caught:
                run(program, inputs, {}, block=block)
            assert caught.value.diagnostics[0].id == "E351"
        return
    for block in (1 << 22, 7, 1):
        found = run(program, inputs, {}, block=block)[program.outputs[0].name]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    masks = visited(Evaluator(sizes.bind(program, extents), inputs, "exact", 1 << 62))
    assert {(name, at) for name, mask in masks.items() for at in map(tuple, np.argwhere(mask).tolist())} >= seen
