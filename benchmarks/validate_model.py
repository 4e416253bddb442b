"""The cost model beside other people's measurements: writes docs/validation.md.

    python benchmarks/validate_model.py            # rewrite the page
    python benchmarks/validate_model.py --check    # status 1 where the page is stale or a bound is broken

Rows T1 to T17 are published timings, none of them ours. The model has no constant taken from them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import ceil
from pathlib import Path

from tpcgen.machine import GAUDI2
from tpcgen.machine.dma import traffic_seconds
from tpcgen.machine.mme import Matmul, mme_cost
from tpcgen.machine.tpc import FUNCTIONS, LANE_REDUCTION, TpcCost, tpc_time
from tpcgen.partition.baseline import FUSED
from tpcgen.partition.choose import choose
from tpcgen.partition.simulate import Node, Span, busy, makespan, overlap, simulate
from tpcgen.program import load, sizes
from tpcgen.program.dtypes import DType

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "validation.md"
GEMM_BOUND = 0.15

BF16, F32, F8 = DType.BF16, DType.F32, DType.F8_143


@dataclass(frozen=True)
class Row:
    """`published` and `predicted` in seconds unless `unit` says otherwise; None where there is no number.

    `known_by`: how the model knows. `why`: what the difference comes from, "" where there is nothing to explain.
    """

    id: str
    workload: str
    grade: str
    published: float | None
    said: str
    predicted: float | None
    known_by: str
    gemm: bool = False
    unit: str = "s"
    why: str = ""

    @property
    def error(self) -> float | None:
        """Relative to the published value."""
        return None if self.published is None or self.predicted is None else self.predicted / self.published - 1


@dataclass(frozen=True)
class Order:
    """Alternatives of one workload from the fastest published to the slowest: (name, published, predicted) seconds."""

    id: str
    choice: str
    alternatives: tuple[tuple[str, float, float], ...]

    @property
    def kept(self) -> bool:
        predicted = [p for _, _, p in self.alternatives]
        return all(a < b for a, b in pairwise(predicted))


def gemm(batch: int, m: int, n: int, k: int, inputs: DType, output: DType) -> float:
    """Engine time against memory time, as a stage of a plan is priced, without the launch."""
    engine = formula(batch, m, n, k, inputs, output)
    traffic = batch * ((m * k + k * n) * inputs.size + m * n * output.size)
    return max(engine, traffic_seconds(GAUDI2, traffic, 0))


def formula(batch: int, m: int, n: int, k: int, inputs: DType, output: DType) -> float:
    """Engine time alone."""
    return mme_cost(GAUDI2, Matmul(batch, m, n, k, inputs, output)).seconds


def elementwise(elements: int, dtype: DType, tensors: int, words: float) -> float:
    """A TPC pass over `tensors` tensors of `elements`, `words` VPU words per vector of 64 lanes."""
    vectors = ceil(elements / 64)
    accesses = tensors * ceil(elements * dtype.size / 256)
    time = tpc_time(GAUDI2, TpcCost(words * vectors, accesses, max(vectors // 16, 1), "slot estimate"))
    return max(time.seconds, traffic_seconds(GAUDI2, tensors * elements * dtype.size, 0))


# Gated delta rule of T9 to T11 and T17: 48 value heads, Dk = Dv = 128, 256 chunks of 64 tokens.
HEADS, HEAD, CHUNK, CHUNKS = 48, 128, 64, 256


@dataclass
class Graph:
    """Nodes as the cost model's schedule takes them; a tensor that fits half the SRAM moves no HBM bytes."""

    nodes: list[Node] = field(default_factory=list[Node])

    def mme(self, name: str, batch: int, m: int, n: int, k: int, *after: int) -> int:
        """A bf16 matmul; returns the node's position, for those that wait for it."""
        moved = [2 * batch * size for size in (m * k, k * n, m * n)]
        return self._add(name, "MME", formula(batch, m, n, k, BF16, BF16), moved, after)

    def tpc(self, name: str, elements: int, dtype: DType, tensors: int, words: float, *after: int) -> int:
        """An element-wise pass over `tensors` tensors, `words` VPU words per vector of 64 lanes."""
        vectors = ceil(elements / 64)
        accesses = tensors * ceil(elements * dtype.size / 256)
        cost = TpcCost(words * vectors, accesses, max(vectors // 16, 1), "slot estimate")
        return self._add(name, "TPC", tpc_time(GAUDI2, cost).seconds, [elements * dtype.size] * tensors, after)

    def _add(self, name: str, engine: str, seconds: float, moved: Sequence[int], after: tuple[int, ...]) -> int:
        half = GAUDI2.memory.sram_bytes // 2
        hbm = sum(size for size in moved if size > half)
        self.nodes.append(Node(name, engine, seconds, GAUDI2.tpc.launch_seconds, hbm, after))
        return len(self.nodes) - 1

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        return simulate(self.nodes, GAUDI2.memory.hbm_rate)

    @property
    def seconds(self) -> float:
        return makespan(self.spans)

    @property
    def tpc_share(self) -> float:
        """Of the time that engines are held."""
        held = busy(self.spans)
        return held["TPC"] / sum(held.values())

    @property
    def tpc_overlap(self) -> float:
        """Share of the TPC's time during which the MME is held too."""
        return overlap(self.spans) / busy(self.spans)["TPC"]


def delta_rule(rewritten: bool) -> Graph:
    """The chunked gated delta rule as matmuls and element-wise passes, from the mathematics.

    Per chunk: T = inverse of the unit lower triangle I - A of decayed K K^T as a product (I + A)(I + A^2)(I + A^4)..,
    U = T V, W = T K, local scores Q K^T. Per step of the scan: V' = U - W S, S = decay S + K^T V', and the outputs
    Q S + scores V'. `rewritten`: decays become scales of rows (no matrix of exponentials), passes are bf16 and the
    outputs leave the scan, as the published rewriting did.
    """
    n = HEADS * CHUNKS
    square, tall = n * CHUNK * CHUNK, n * CHUNK * HEAD
    dtype, form = (BF16, 2) if rewritten else (F32, 3)
    g = Graph()
    decay = () if rewritten else (g.tpc("decay", square, F32, 1, FUNCTIONS["exp"].vpu + 3),)
    power = g.tpc("A", square, dtype, form, 3, g.mme("K K^T", n, CHUNK, CHUNK, HEAD), *decay)
    scores = g.tpc("scores", square, dtype, form, 3, g.mme("Q K^T", n, CHUNK, CHUNK, HEAD), *decay)
    scaled = [g.tpc(f"{name} scaled", tall, dtype, 2, 1) for name in ("V", "K", "Q", "K to the end")]
    inverse = g.tpc("I + A", square, dtype, 2, 1, power)
    for exponent in (2, 4, 8, 16, 32):
        power = g.mme(f"A^{exponent}", n, CHUNK, CHUNK, CHUNK, power)
        factor = g.tpc(f"I + A^{exponent}", square, dtype, 2, 1, power)
        inverse = g.mme(f"T to {exponent}", n, CHUNK, CHUNK, CHUNK, inverse, factor)
    u = g.mme("U", n, CHUNK, HEAD, CHUNK, inverse, scaled[0])
    w = g.mme("W", n, CHUNK, HEAD, CHUNK, inverse, scaled[1])
    state, last = (u, w), 0
    for _ in range(CHUNKS):
        product = g.mme("W S", HEADS, CHUNK, HEAD, HEAD, *state)
        values = g.tpc("V'", HEADS * CHUNK * HEAD, dtype, 3, 1, product)
        update = g.mme("K^T V'", HEADS, HEAD, HEAD, CHUNK, values, scaled[3])
        if not rewritten:
            last = _outputs(g, HEADS, dtype, (*state, values, scores, scaled[2]))
        state = (g.tpc("S", HEADS * HEAD * HEAD, F32, 3, 2, update),)
    if rewritten:
        _outputs(g, n, dtype, (*state, last, scores, scaled[2]))
    return g


def _outputs(g: Graph, batch: int, dtype: DType, after: tuple[int, ...]) -> int:
    inter = g.mme("Q S", batch, CHUNK, HEAD, HEAD, *after)
    intra = g.mme("scores V'", batch, CHUNK, HEAD, CHUNK, *after)
    return g.tpc("O", batch * CHUNK * HEAD, dtype, 3, 1, inter, intra)


def recurrence_on_tpc() -> float:
    """One TPC kernel, a member per head and 16 rows of the state: per token and row two dot products across lanes.

    VPU words of a row of two vectors: decay 2, dot 2 + reduction, correction 3, update 2, dot 2 + reduction + scale 1;
    the output goes out one element an access.
    """
    rows = HEADS * HEAD * CHUNK * CHUNKS
    words = 2 + 2 + LANE_REDUCTION.vpu + 3 + 2 + 2 + LANE_REDUCTION.vpu + 1
    return tpc_time(GAUDI2, TpcCost(words * rows, rows, HEADS * HEAD // 16, "slot estimate")).seconds


def kkt() -> tuple[float, float]:
    """12,288 products of 64 x 128 x 64 and the decayed triangle: products on the MME; products on the TPC."""
    n = HEADS * CHUNKS
    form = elementwise(n * CHUNK * CHUNK, BF16, 2, FUNCTIONS["exp"].vpu + 6)
    macs = n * CHUNK * CHUNK * HEAD
    products = tpc_time(GAUDI2, TpcCost(macs / 128, macs / 128 / 8, n, "slot estimate")).seconds
    return gemm(n, CHUNK, CHUNK, HEAD, BF16, BF16) + form, products + form


def rows() -> tuple[Row, ...]:
    fused = _fused_attention()
    graph, rewritten = delta_rule(False), delta_rule(True)
    share = graph.tpc_share
    vendor = "vendor formula"
    return (
        Row(
            "T1",
            "GEMM 8192^3, bf16",
            "S",
            2563e-6,
            "429 TFLOP/s",
            formula(1, 8192, 8192, 8192, BF16, BF16),
            vendor,
            True,
        ),
        _mlp("T2", "MLP gate/up GEMM, fp8, 16,384 x 34,816 x 5,120", 34816, 5120, 849),
        _mlp("T3", "MLP down GEMM, fp8, 16,384 x 5,120 x 17,408", 5120, 17408, 802),
        Row(
            "T4",
            "grouped GEMM 8 x (1024 x 512 x 6144), bf16 -> f32",
            "R",
            133.1e-6,
            "387 TFLOP/s",
            formula(8, 1024, 512, 6144, BF16, F32),
            vendor,
            True,
        ),
        Row(
            "T5",
            "grouped GEMM 8 x (1024 x 6144 x 256), bf16 -> f32",
            "R",
            130.7e-6,
            "197 TFLOP/s",
            formula(8, 1024, 6144, 256, BF16, F32),
            vendor,
            True,
        ),
        Row(
            "T6",
            "causal FusedSDPA, bf16, 24 heads of 256, 16,384 tokens",
            "R",
            15.14e-3,
            "15.14 ms",
            fused,
            "vendor formula over the whole square (assumption)",
            why="the model takes both products over the whole square and nothing else: how the vendor's kernel spends "
            "the time it saves on the masked half is not public",
        ),
        Row(
            "T7",
            "T6 with an explicit bf16 mask",
            "R",
            None,
            "more than 2 x T6",
            None,
            "not modelled",
            why="FusedSDPA with a mask tensor is never a baseline here: it is slower than the causal one, by how much "
            "is published for this shape only",
        ),
        Row(
            "T8",
            "T6 in fp8",
            "R",
            15.14e-3,
            "no gain over T6",
            _fused_fp8(),
            vendor,
            why="the formula keeps Q K^T at the minimum common dimension (no gain, as published) but halves P V; casts "
            "and scaling to fp8 are not in it",
        ),
        Row(
            "T9",
            "gated delta rule as one MME + TPC graph",
            "R",
            11.545e-3,
            "11.545 ms",
            graph.seconds,
            "vendor formula, slot estimate, schedule, assumed launches",
            why="a graph made by hand from the mathematics (see the script) in the model's own schedule; its inverse "
            "is in product form, which the report does not say of the published graph",
        ),
        Row(
            "T9",
            "the same after rewriting the algebra",
            "R",
            9.437e-3,
            "9.437 ms",
            rewritten.seconds,
            "vendor formula, slot estimate, schedule, assumed launches",
            why="as above",
        ),
        Row(
            "T10",
            "the same recurrence as one TPC kernel",
            "R",
            589.9e-3,
            "589.9 ms",
            recurrence_on_tpc(),
            "slot estimate",
            why="slots only, a lower bound: a row's chain of two lane reductions and scalar loads from global memory "
            "stalls the exposed pipeline, which the estimate does not see",
        ),
        Row(
            "T11",
            "KKT form, products on the MME",
            "R",
            2.087e-3,
            "2.087 ms",
            kkt()[0],
            "vendor formula, slot estimate",
            why="what the source's benchmark times is the decayed triangle alone, as the graph compiler's own kernels; "
            "the products of the row's description are in the model's value and not in the published one",
        ),
        Row(
            "T11",
            "KKT form, products on the TPC",
            "R",
            2.443e-3,
            "2.443 ms",
            kkt()[1],
            "slot estimate",
            why="as above, as one custom kernel",
        ),
        Row(
            "T12",
            "LM-head GEMV, 0.331 GB of weights",
            "R",
            0.145e-3,
            "2.28 TB/s",
            traffic_seconds(GAUDI2, 331 * 10**6, 0),
            "published bandwidth",
            why="the model plans with what the vendor's compiler plans with, 1945 GB/s; the slides say 2460 and this "
            "run reached 2280. Changing the number for this row would be fitting it",
        ),
        Row(
            "T13",
            "STREAM ADD, SCALE on the TPCs, share of the vector peak",
            "S",
            0.50,
            "about 50 %",
            _stream(1),
            "slot estimate",
            unit="share",
            why="one operation a slot against two of a MAC; the clock is inferred from the peak",
        ),
        Row(
            "T13",
            "STREAM TRIAD, share of the vector peak",
            "S",
            0.99,
            "about 99 %",
            _stream(2),
            "slot estimate",
            unit="share",
        ),
        Row(
            "T14",
            "vector gather, rows of 256 B or more, share of HBM",
            "S",
            0.64,
            "64 %",
            _gather(256),
            "published access rate",
            unit="share",
            why="random rows miss open HBM pages; the model has no term for that",
        ),
        Row(
            "T14",
            "vector gather, rows of 128 B, share of HBM",
            "S",
            0.15,
            "15 % (rows under 256 B)",
            _gather(128),
            "published access rate",
            unit="share",
            why="as above; a row takes a whole 256-byte access, and that alone is in the model",
        ),
        Row(
            "T15",
            "GFormer against softmax attention on Gaudi 1, speed-up",
            "A",
            None,
            "up to 2",
            None,
            "not modelled yet",
            why="an end-to-end figure of whole models; head splits alone are in docs/balance.md",
        ),
        Row(
            "T16",
            "GFormer on Gaudi 1 against a V100",
            "S",
            None,
            "1.5 (GPT), 1.2 (ViT)",
            None,
            "not modelled",
            why="no model of a V100 here",
        ),
        Row(
            "T17",
            "linear-attention layer, TPC share of engine time",
            "R",
            0.796,
            "79.6 %",
            share,
            "vendor formula, slot estimate",
            unit="share",
            why="the model's share is that of T9's core; convolution, gates and norms of the layer, all "
            "of them TPC work, are not in it",
        ),
    )


def orders() -> tuple[Order, ...]:
    graph, rewritten = delta_rule(False), delta_rule(True)
    on_mme, on_tpc = kkt()
    tpc = recurrence_on_tpc()
    return (
        Order(
            "T9",
            "the algebra",
            (("rewritten", 9.437e-3, rewritten.seconds), ("as published first", 11.545e-3, graph.seconds)),
        ),
        Order(
            "T10", "the recurrence", (("MME + TPC graph", 11.545e-3, graph.seconds), ("one TPC kernel", 589.9e-3, tpc))
        ),
        Order("T11", "the KKT products", (("on the MME", 2.087e-3, on_mme), ("on the TPC", 2.443e-3, on_tpc))),
    )


def _mlp(id: str, workload: str, n: int, k: int, tflops: float) -> Row:
    m = 16384
    predicted = formula(1, m, n, k, F8, BF16)
    return Row(
        id,
        workload,
        "R",
        2 * m * n * k / (tflops * 1e12),
        f"about {tflops:g} TFLOP/s",
        predicted,
        "vendor formula",
        True,
    )


def _fused_attention() -> float:
    """T6 through the compiler's own path: the FusedSDPA baseline of examples/causal.dsl."""
    program = load(str(ROOT / "examples" / "causal.dsl")).program("causal", T="bf16")
    bound = {"B": 1, "H": 24, "G": 24, "M": 16384, "N": 16384, "D": 256, "E": 256}
    choice = choose(program, "gaudi2", sizes.bind(program, bound))
    return next(b.seconds for b in choice.baselines if b.label == FUSED)


def _fused_fp8() -> float:
    n = 16384
    shapes = (Matmul(24, n, n, 256, F8, BF16, rhs_common_last=True), Matmul(24, n, 256, n, F8, BF16))
    return sum(mme_cost(GAUDI2, s).seconds for s in shapes)


def _stream(operations: int) -> float:
    """Share of the published peak that one bf16 instruction of `operations` FLOP per lane a cycle reaches."""
    lanes = GAUDI2.tpc.vector_bytes // BF16.size
    return GAUDI2.tpc.engines * lanes * operations * GAUDI2.tpc.clock_hz / 11e12


def _gather(row: int) -> float:
    """Useful bytes of one row per access against HBM."""
    rate = GAUDI2.tpc.engines * min(row, 256) / GAUDI2.tpc.access_cycles * GAUDI2.tpc.clock_hz
    return min(rate, GAUDI2.memory.hbm_rate * min(row, 256) / 256) / 2460e9


def _t5_memory() -> float:
    return traffic_seconds(GAUDI2, 8 * ((1024 + 6144) * 256 * 2 + 1024 * 6144 * 4), 0)


def page() -> str:
    return "\n".join(_page())


def broken() -> list[str]:
    """What the issue asks of the model and the model does not keep."""
    found = [
        f"{r.id} {r.workload}: {r.error:+.1%}"
        for r in rows()
        if r.gemm and r.error is not None and abs(r.error) > GEMM_BOUND
    ]
    return found + [f"{o.id} {o.choice}: the published order is not kept" for o in orders() if not o.kept]


def _page() -> Iterator[str]:
    yield "# The cost model beside published timings"
    yield ""
    yield "Written by `python benchmarks/validate_model.py`; a test regenerates and compares it. All measurements are"
    yield "other people's, on Gaudi 2 unless said; none was made by us and no constant of the model comes from them."
    yield "Grades: R read in the report of those who measured, S in a secondary text, A an abstract. Rates are turned"
    yield "into times. An error below zero says that the model is too fast: what it does not know costs nothing."
    yield ""
    yield from _table(
        ("row", "workload", "grade", "published", "model", "error", "known by"),
        [
            (r.id, r.workload, r.grade, r.said + _derived(r), _number(r.predicted, r.unit), _percent(r), r.known_by)
            for r in rows()
        ],
    )
    yield ""
    yield "## Engine choices"
    yield ""
    yield "Alternatives in the order of the measurements; the model keeps an order when its times rise too."
    yield ""
    yield from _table(
        ("row", "choice", "alternative", "published", "model", "order"),
        [
            (o.id, o.choice, name, _number(published, "s"), _number(predicted, "s"), "kept" if o.kept else "NOT KEPT")
            for o in orders()
            for name, published, predicted in o.alternatives
        ],
    )
    yield ""
    overlapped = delta_rule(True).tpc_overlap
    yield f"In the model's schedule of the rewritten graph {overlapped:.0%} of the TPC's time overlaps the MME; the"
    yield "report says 65 % (2.886 of 4.445 ms). T9 agrees better than the model deserves: passes that the mathematics"
    yield "does not need are not in it, and the published inverse may be another one. The order is what it shows."
    yield "The ratios are far less certain than the order: T10 measures 51 times, the model gives"
    tpc, graph = recurrence_on_tpc(), delta_rule(False).seconds
    yield f"{tpc / graph:.1f} times, because slots say nothing of stalls."
    yield ""
    yield f"## Rows more than {GEMM_BOUND:.0%} off, or without a number, and why"
    yield ""
    for r in rows():
        if r.error is None or abs(r.error) > GEMM_BOUND:
            yield f"* {r.id}, {r.workload} ({_percent(r)}): {r.why}."
    yield ""
    yield "## GEMM rows"
    yield ""
    worst = max((abs(r.error), r.id) for r in rows() if r.gemm and r.error is not None)
    yield f"The vendor's formula alone, without memory. Bound {GEMM_BOUND:.0%}; worst: {worst[1]}, {worst[0]:.1%} off."
    yield "T5 (K = 256 with f32 results) needs the minimum common dimension of 512 that the vendor's tables give for"
    yield "bf16 -> f32; with 256 the formula would be off by two. But the tensors of T5 alone take"
    yield f"{_number(_t5_memory(), 's')} of HBM at the planned bandwidth, so T5 by itself does not prove the minimum."
    yield "Shapes of T2 and T3 (hidden 5,120, intermediate 17,408) are those of the benchmark scripts of the report."
    yield ""


def _derived(r: Row) -> str:
    needs = r.published is not None and r.unit == "s" and " ms" not in r.said
    return f" = {_number(r.published, 's')}" if needs else ""


def _percent(r: Row) -> str:
    return "-" if r.error is None else f"{r.error:+.1%}"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "share":
        return f"{value:.0%}"
    return f"{value * 1e3:.3f} ms" if value >= 1e-3 else f"{value * 1e6:.1f} us"


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for cells in body:
        yield f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> int:
    text = page()
    problems = broken()
    if "--check" in arguments:
        if not PAGE.exists() or PAGE.read_text() != text:
            problems.append(f"{PAGE.name} is stale")
    else:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
