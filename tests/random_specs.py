"""Random specs as texts: attention, scans, and ops of pieces; each with small sizes that its contract allows.

Rows of an output are judged whole, and a row of one number by the luck of one rounding: rows run along e or q.
`specs()` draws (text, sizes) where the op is called f. Sizes M and N of attention may be any; a scan has N alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

Drawn = tuple[str, Mapping[str, int]]
Extents = Mapping[str, str]

DOMAINS = [
    "k <= q",
    "k <= q + N - M",
    "q - W < k",
    "q - W < k <= q",
    "q - W <= k <= q + 2",
    "k < q - N - M",
    "k < len[b]",
    "k % 3 != 0",
    "k // 2 <= q",
    "k >= q or k < 2",
    "ok[b,k] > 0",
    "doc[b,k] <= len[b]",
    "abs(k - q) < W or k == 0",
    "own[b,q] == doc[b,k]",
    "rank[k](pad[b,k]) < 4",
    "k <= q and layout[q // 3, k // 3] > 0",
]
SCORES = [
    "rsqrt(D) * {dot}",
    "{dot} + slope[h] * (k - q)",
    "c * tanh({dot} / c)",
    "rsqrt(D) * {dot} + bias[h,q,k]",
    "{dot} / f32(D) - pad[b,k]",
    "{dot} + table[bucket[k - q + M - 1], h]",
]
WEIGHTS = [
    "softmax[k{where}]({s})",
    "softmax[k{where} sink snk[h]]({s})",
    "softmax[k{where}]({s}) * gate[b,k]",
    "sigmoid({s})",
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
OPTIONAL = {
    "len[": "len: i32[B]",
    "ok[": "ok: i32[B, N]",
    "doc[": "doc: i32[B, N]",
    "own[": "own: i32[B, M]",
    "layout[": "layout: i32[(M + 2) // 3, (N + 2) // 3]",
    "slope[": "slope: f32[H]",
    "bias[": "bias: f32[H, M, N]",
    "pad[": "pad: f32[B, N]",
    "table[": "table: f32[R, H]",
    "bucket[": "bucket: i32[M + N - 1]",
    "snk[": "snk: f32[H]",
    "gate[": "gate: f32[B, N]",
    "g[": "g: f32[B, H, M, E]",
    "V0[": "V0: f32[E]",
    "c * tanh": "c: f32 = 2.0",
    "q - W": "W: int = 3",
    "< W": "W: int = 3",
}


@st.composite
def attention(draw_: Any) -> Drawn:
    """Layouts, heads, masks, biases, gathers, sinks, normalisations."""
    pick: Callable[[Any], Any] = lambda options: draw_(st.sampled_from(options))  # noqa: E731
    dtype = pick(["bf16", "f32"])
    heads, head = pick(HEADS)
    q_axes = draw_(st.permutations(["b", "h", "q", "d"]))
    k_axes = draw_(st.permutations(["b", "h", "k", "d"]))
    v_axes = draw_(st.permutations(["b", "h", "k", "e"]))
    first, last = pick([("q", "e"), ("q", "e"), ("e", "q")])
    o_axes = [*draw_(st.permutations(["b", "h", first])), last]
    extents = {"b": "B", "q": "M", "k": "N", "d": "D", "e": "E", "h": "H"}

    def declared(name: str, axes: list[str], grouped: bool) -> str:
        shape = [(heads if grouped else "H") if a == "h" else extents[a] for a in axes]
        return f"{name}: {dtype}[{', '.join(s for s in shape if s is not None)}]"

    def read(name: str, axes: list[str], grouped: bool) -> str:
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
    positive = "exp(" in weights or ("softmax" in weights and "gate" not in weights and "sink" not in weights)
    results = [r for r in RESULTS if positive or "/" not in r]  # other weights may add up to 0, in f32 at least
    body.append(f"O[{', '.join(o_axes)}] = {pick(results).format(pv=pv)}")
    if extra:
        left, shape_and_value = extra.split(": ", 1)
        shape, value = shape_and_value.split(" = ", 1)
        outputs += f", {left.split('[')[0]}: {shape}"
        body.append(f"{left} = {value}")
    parameters = [declared("Q", q_axes, False), declared("K", k_axes, True), declared("V", v_axes, True)]
    parameters += _used(OPTIONAL, body)
    contracts = ["M <= N"] if draw_(st.booleans()) else []
    contracts += ["H % G == 0"] if heads == "G" else []
    gathers = any("bucket[" in line for line in body)
    contracts += ["M >= 1", "N >= 1", "0 <= bucket[j] < R"] if gathers else []
    contract = f"\n    where {', '.join(contracts)}" if contracts else ""
    values = {"B": pick([1, 2]), "M": pick([1, 3, 5]), "N": pick([5, 7]), "D": pick([1, 4]), "E": pick([1, 3])}
    groups, ratio = pick([1, 2]), pick([1, 3])
    values |= {"H": groups * ratio} | ({"G": groups} if heads == "G" else {}) | ({"R": 4} if gathers else {})
    return _op(parameters, outputs, contract, body), values


# --- scans ------------------------------------------------------------------------------------------------------------

GATES = ["", "0.75 * ", "r[h] * ", "g[b,h,t] * ", "r[h] * g[b,h,t] * ", "a[b,h,t,d] * ", "exp(-dt[b,h,t] * u[h,d]) * "]
FIRST = ["0", "0", "S0[b,h,d,e]"]
CHANGES = ["", "", " where ok[b,t] > 0", " where t % 3 != 0", " where t < len[b]"]
TAKEN = ["K[b,h,t,d] * V[b,h,t,e]", "w[b,h,t] * K[b,h,t,d] * V[b,h,t,e]", "K[b,h,t,d] + V[b,h,t,e]"]
SECOND = ["", "", "Z", "apart"]
KEPT = {"S1[b,h,d,e] = S[b,h,d,e]": "S1: f32[B, H, D, E]", "S1[b,h,e] = S[b,h,0,e] where e > 0": "S1: f32[B, H, E]"}
SCAN_OPTIONAL = {
    "r[": "r: f32[H]",
    "g[": "g: f32[B, H, N]",
    "a[": "a: f32[B, H, N, D]",
    "dt[": "dt: f32[B, H, N]",
    "u[": "u: f32[H, D]",
    "w[": "w: f32[B, H, N]",
    "S0[": "S0: f32[B, H, D, E]",
    "ok[": "ok: i32[B, N]",
    "len[": "len: i32[B]",
}
SCAN_CONTRACTS = {
    "r[": "0 < r[h] <= 1",
    "g[": "0 < g[b,h,t] <= 1",
    "a[": "0 < a[b,h,t,d] <= 1",
    "dt[": "0 <= dt[b,h,t]",
    "u[": "0 <= u[h,d]",
}


@st.composite
def scans(draw_: Any) -> Drawn:
    """Linear recurrences: gates of every kind, either direction, updates with a domain, one state or two."""
    pick: Callable[[Any], Any] = lambda options: draw_(st.sampled_from(options))  # noqa: E731
    dtype = pick(["bf16", "f32"])
    gate, change, second = pick(GATES), pick(CHANGES), pick(SECOND)
    states = [f"state S[b,h,d,e]: f32 = {pick(FIRST)}"]
    updates = [f"S[b,h,d,e] := {gate}S[b,h,d,e] + {pick(TAKEN)}{change}"]
    result = "sum[d](Q[b,h,t,d] * S[b,h,d,e])"
    outputs = f"O: {dtype}[{pick(['B, H, N, E', 'N, B, H, E'])}]"
    o_axes = "b,h,t,e" if "[B" in outputs else "t,b,h,e"
    if second == "Z":
        states.append("state Z[b,h,d]: f32 = 0")
        updates.append(f"Z[b,h,d] := {gate}Z[b,h,d] + K[b,h,t,d]{change}")
        result = f"{result} / (1.0 + abs(sum[d](Q[b,h,t,d] * Z[b,h,d])))"
    if second == "apart":
        states.append("state Y[b,h,e]: f32 = 1")
        updates.append(f"Y[b,h,e] := {pick(['', '0.5 * '])}Y[b,h,e] + V[b,h,t,e]{pick(CHANGES)}")
        result = f"{result} + Y[b,h,e]"
    steps = [*updates, f"O[{o_axes}] = {result}"]
    if draw_(st.booleans()):
        steps = [steps[-1], *steps[:-1]]
    body = [f"scan t in 0 .. N{pick(['', ' reverse'])} {{", *(f"    {line}" for line in (*states, *steps)), "}"]
    if last := pick([None, *KEPT]):
        body.append(last)
        outputs += f", {KEPT[last]}"
    if last and second == "Z":
        body.append("Z1[b,h,d] = Z[b,h,d]")
        outputs += ", Z1: f32[B, H, D]"
    parameters = [f"Q: {dtype}[B, H, N, D]", f"K: {dtype}[B, H, N, D]", f"V: {dtype}[B, H, N, E]"]
    parameters += _used(SCAN_OPTIONAL, body)
    contracts = _used(SCAN_CONTRACTS, body)
    contract = f"\n    where {', '.join(contracts)}" if contracts else ""
    values = {"B": pick([1, 2]), "H": pick([1, 3]), "N": pick([1, 4, 7]), "D": pick([1, 4]), "E": pick([1, 3])}
    return _op(parameters, outputs, contract, body), values


# --- pieces -----------------------------------------------------------------------------------------------------------

LINEAR = "(sum[d](relu(Q[b,h,q,d]) * relu(K[b,h,k,d])))"
PIECES = ["h < Hs|h >= Hs", "q < M // 2|q >= M // 2", "h == 0|h > 0", "h % 2 == 0|h % 2 == 1", "h < Hs|h > Hs"]


@st.composite
def pieces(draw_: Any) -> Drawn:
    """Outputs put together of a softmax over one domain and weights without one over another."""
    pick: Callable[[Any], Any] = lambda options: draw_(st.sampled_from(options))  # noqa: E731
    dtype = pick(["bf16", "f32"])
    first, second = pick(PIECES).split("|")
    domain = pick(["k <= q", "q - W < k <= q", "k < len[b]", "q - W < k <= q and ok[b,k] > 0"])
    sink = pick(["", " sink snk[h]"])
    body = [
        "index q in 0 .. M",
        "index k in 0 .. N",
        "S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])",
        f"P[b,h,q,k] = softmax[k where {domain}{sink}](S[b,h,q,k])",
        f"A[b,h,q,k] = {LINEAR} where {pick(['k <= q', 'k >= 0', 'k <= q + N - M'])}",
        f"O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e]) where {first}",
        "O[b,h,q,e] = "
        + pick(["sum[k](A[b,h,q,k] * V[b,h,k,e])", "sum[k](A[b,h,q,k] * V[b,h,k,e]) / (sum[k](A[b,h,q,k]) + 0.5)"])
        + f" where {second}",
    ]
    parameters = [f"Q: {dtype}[B, H, M, D]", f"K: {dtype}[B, H, N, D]", f"V: {dtype}[B, H, N, E]"]
    parameters += _used({**OPTIONAL, "Hs": "Hs: int = 1"}, body)
    values = {"B": pick([1, 2]), "H": pick([1, 3]), "M": pick([1, 3, 5]), "N": pick([5, 7]), "D": 4, "E": pick([1, 3])}
    return _op(parameters, f"O: {dtype}[B, H, M, E]", "", body), values


def specs() -> st.SearchStrategy[Drawn]:
    return st.one_of(attention(), attention(), scans(), pieces())


def attributes(names: list[str]) -> dict[str, int | float]:
    """Values of the attributes that random specs have."""
    known: dict[str, int | float] = {"W": 3, "Hs": 1, "c": 2.0}
    return {name: known[name] for name in names}


def _op(parameters: list[str], outputs: str, contract: str, body: list[str]) -> str:
    text = "\n    ".join(body)
    return f"op f({', '.join(parameters)}) -> {outputs}{contract}\n{{\n    {text}\n}}\n"


def _used(optional: Mapping[str, str], body: list[str]) -> list[str]:
    return list(dict.fromkeys(d for used, d in optional.items() if any(_uses(line, used) for line in body)))


def _uses(line: str, text: str) -> bool:
    """Whether `text` occurs where no longer name ends with it."""
    before = [at for at in range(len(line)) if line.startswith(text, at)]
    return any(at == 0 or not (line[at - 1].isalnum() or line[at - 1] == "_") for at in before)
