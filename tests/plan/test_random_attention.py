"""Random attention specs: layouts, heads, masks, biases, sinks, normalisations. Every plan computes each of them."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpcgen.interpreter import run
from tpcgen.interpreter.inputs import draw, families
from tpcgen.partition.enumerate import enumerate_plans
from tpcgen.program import load_text

DOMAINS = [
    "k <= q",
    "k <= q + N - M",
    "q - W < k",
    "k < len[b]",
    "k % 3 != 0",
    "k // 2 <= q",
    "k >= q or k < 2",
    "ok[b,k] > 0",
]
SCORES = [
    "rsqrt(D) * {dot}",
    "{dot} + slope[h] * (k - q)",
    "c * tanh({dot} / c)",
    "rsqrt(D) * {dot} + bias[h,q,k]",
    "{dot} / f32(D) - pad[b,k]",
]
WEIGHTS = [
    "softmax[k{where}]({s})",
    "softmax[k{where} sink snk[h]]({s})",
    "softmax[k{where}]({s}) * gate[b,k]",
    "relu({s})",
    "exp({s} - max[k{where}]({s}))",
]
RESULTS = ["{pv}", "{pv} * sigmoid(g[b,h,q,e])", "{pv} / sum[k](P[b,h,q,k])", "default({pv}, 1.0)", "{pv} + V0[e]"]
EXTRA = [
    "",
    "L[b,h,q]: f32[B, H, M] = default(logsumexp[k{where}](S[b,h,q,k]), 0.0)",
    "S2[b,h,q,k]: f32[B, H, M, N] = S[b,h,q,k]",
]
HEADS = [("H", "h"), ("G", "h // (H // G)"), (None, None)]


@st.composite
def specs(draw_):
    pick = lambda options: draw_(st.sampled_from(options))  # noqa: E731
    dtype = pick(["bf16", "f32"])
    heads, head = pick(HEADS)
    q_axes = draw_(st.permutations(["b", "h", "q", "d"]))
    k_axes = draw_(st.permutations(["b", "h", "k", "d"]))
    v_axes = draw_(st.permutations(["b", "h", "k", "e"]))
    o_axes = draw_(st.permutations(["b", "h", "q", "e"]))
    extents = {"b": "B", "q": "M", "k": "N", "d": "D", "e": "E", "h": "H"}

    def declared(name, axes, grouped):
        shape = [(heads if grouped else "H") if a == "h" else extents[a] for a in axes]
        return f"{name}: {dtype}[{', '.join(s for s in shape if s is not None)}]"

    def read(name, axes, grouped):
        items = [(head if grouped else "h") if a == "h" else a for a in axes]
        return f"{name}[{', '.join(i for i in items if i is not None)}]"

    conditions = draw_(st.lists(st.sampled_from(DOMAINS), max_size=2, unique=True))
    where = " where " + " and ".join(f"({c})" for c in conditions) if conditions else ""
    dot = f"sum[d]({read('Q', q_axes, False)} * {read('K', k_axes, True)})"
    weights = pick(WEIGHTS).format(where=where, s="S[b,h,q,k]")
    own_domain = where if "softmax" not in weights else ""
    pv = f"sum[k](P[b,h,q,k] * {read('V', v_axes, True)})"
    extra = pick(EXTRA).format(where=where)
    outputs = f"O: {dtype}[{', '.join(extents[a] for a in o_axes)}]"
    body = ["index q in 0 .. M", "index k in 0 .. N", f"S[b,h,q,k] = {pick(SCORES).format(dot=dot)}"]
    body.append(f"P[b,h,q,k] = {weights}{own_domain}")
    body.append(f"O[{', '.join(o_axes)}] = {pick(RESULTS).format(pv=pv)}")
    if extra:
        left, shape_and_value = extra.split(": ", 1)
        shape, value = shape_and_value.split(" = ", 1)
        outputs += f", {left.split('[')[0]}: {shape}"
        body.append(f"{left} = {value}")
    text = "\n    ".join(body)
    parameters = [declared("Q", q_axes, False), declared("K", k_axes, True), declared("V", v_axes, True)]
    optional = {
        "len[": "len: i32[B]",
        "ok[": "ok: i32[B, N]",
        "slope[": "slope: f32[H]",
        "bias[": "bias: f32[H, M, N]",
        "pad[": "pad: f32[B, N]",
        "snk[": "snk: f32[H]",
        "gate[": "gate: f32[B, N]",
        "g[": "g: f32[B, H, M, E]",
        "V0[": "V0: f32[E]",
        "c * tanh": "c: f32 = 2.0",
        "q - W": "W: int = 3",
    }
    parameters += [declaration for used, declaration in optional.items() if any(_uses(line, used) for line in body)]
    contracts = ["M <= N"] if draw_(st.booleans()) else []
    if heads == "G":
        contracts.append("H % G == 0")
    contract = f"\n    where {', '.join(contracts)}" if contracts else ""
    values = {"B": pick([1, 2]), "M": pick([1, 3, 5]), "N": pick([5, 7]), "D": pick([1, 4]), "E": pick([1, 3])}
    groups, ratio = pick([1, 2]), pick([1, 3])
    values |= {"H": groups * ratio} | ({"G": groups} if heads == "G" else {})
    return f"op f({', '.join(parameters)}) -> {outputs}{contract}\n{{\n    {text}\n}}\n", values


def _uses(line, text):
    before = line.find(text)
    return before >= 0 and (before == 0 or not (line[before - 1].isalnum() or line[before - 1] == "_"))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(spec=specs(), choice=st.integers(0, 5))
def test_every_plan_of_a_random_spec_computes_it(execute, spec, choice):
    text, values = spec
    program = load_text(text).program("f")
    values = {**values, **{a.name: 3 if a.name == "W" else 2.0 for a in program.attributes}}
    possible = families(program)
    family = possible[choice % len(possible)]
    inputs = draw(program, values, np.random.default_rng(1), family)
    wide = {t.name: inputs[t.name].astype(np.float64) if t.dtype.is_float else inputs[t.name] for t in program.inputs}
    attributes = {a.name: values[a.name] for a in program.attributes}
    truth = run(program, wide, attributes)
    for plan in enumerate_plans(program, "gaudi2"):
        result = execute(plan, wide, values, "exact")
        for name, expected in truth.items():
            scale = np.nanmax(np.abs(expected[np.isfinite(expected)]), initial=1.0)
            np.testing.assert_allclose(
                result[name], expected, rtol=1e-9, atol=1e-12 * scale, err_msg=f"{plan.label}, {family} inputs\n{text}"
            )
