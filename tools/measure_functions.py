"""Measures the special functions of tpcgen/kernel/functions.py on the host device and writes docs/functions.md.

    python -m tools.measure_functions [SAMPLES]

Every function runs as an emitted kernel for gaudi2. f32: SAMPLES arguments (default 10^7) of all exponents and signs,
a part of them in runs of consecutive numbers; bf16: all 2^16 arguments. The truth is float64.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tests.kernel.device import compile_kernels, run
from tpcgen.host.api import HostLibrary, Session
from tpcgen.kernel.functions import EXP_NONPOSITIVE, LOG_AT_LEAST_ONE, RECIP_POSITIVE, SIGMOID_SLOPE
from tpcgen.kernel.ir import OPS, Kernel, VectorOp
from tpcgen.kernel.lower import lower
from tpcgen.partition.plan import TpcStage
from tpcgen.program import load_text
from tpcgen.program.ir import Call, Equation
from tpcgen.program.substitute import rewrite

Array = NDArray[Any]
PAGE = Path(__file__).parents[1] / "docs" / "functions.md"
TINY = 2.0**-126
LARGEST = float(np.finfo(np.float32).max)
HALF_ULP = {"f32": 2.0**-24, "bf16": 2.0**-8}
_RUN = 64
_CHUNK = 1 << 19


@dataclass(frozen=True)
class Function:
    """`truth` in float64; `low` to `high`: the arguments that are judged. `rising`: +1 where the function never falls,
    -1 where it never rises (on each side of 0), 0 for neither. `inner`: no word of the language; softmax and its like
    are made of it.
    """

    name: str
    truth: Callable[[Array], Array]
    low: float = -LARGEST
    high: float = LARGEST
    rising: int = 1
    inner: bool = False


def _each(f: Callable[[float], float]) -> Callable[[Array], Array]:
    return np.vectorize(f, otypes=[np.float64])


def _gelu(x: Array) -> Array:
    return np.maximum(x, 0) - np.abs(x) / 2 * _each(math.erfc)(np.abs(x) / math.sqrt(2))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


FUNCTIONS = (
    Function("exp", np.exp),
    Function("exp2", np.exp2),
    Function("log", np.log, low=TINY),
    Function("sqrt", np.sqrt, low=TINY),
    Function("rsqrt", lambda x: 1 / np.sqrt(x), low=TINY, rising=-1),
    Function("recip", lambda x: 1 / x, rising=-1),
    Function("tanh", np.tanh),
    Function("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    Function("silu", lambda x: x / (1 + np.exp(-x)), rising=0),
    Function("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    Function("softplus", _softplus),
    Function("erf", _each(math.erf)),
    Function("gelu", _gelu, rising=0),
    Function(EXP_NONPOSITIVE, np.exp, high=0.0, inner=True),
    Function(RECIP_POSITIVE, lambda x: 1 / x, low=TINY, high=2.0**126, rising=-1, inner=True),
    Function(LOG_AT_LEAST_ONE, np.log, low=1.0, inner=True),
    Function(SIGMOID_SLOPE, lambda x: 1 / (2 + np.exp(x) + np.exp(-x)), rising=0, inner=True),
)


@dataclass(frozen=True)
class Measured:
    """`error`: the largest, relative, in half ulps; `at` its argument. `back`: the largest step against the function's
    direction between neighbouring arguments, in half ulps. `flushed`: the largest true value whose result is 0."""

    name: str
    dtype: str
    error: float
    at: float
    back: float
    flushed: float
    samples: int


def kernels_of(dtype: str) -> tuple[Kernel, ...]:
    """All functions; the language's and the inner ones apart, as one kernel has no room for so many outputs."""
    return tuple(_kernel(dtype, inner, [f for f in FUNCTIONS if f.inner is inner]) for inner in (False, True))


def _kernel(dtype: str, inner: bool, functions: Sequence[Function]) -> Kernel:
    """Functions of one input, an output each; the precision is that of the outputs' dtype."""
    outputs = ", ".join(f"Y_{f.name}: {dtype}[N, D]" for f in functions)
    body = "  ".join(f"Y_{f.name}[n,d] = exp(X[n,d])" for f in functions)
    module = load_text(f"op every(X: {dtype}[N, D]) -> {outputs} {{ {body} }}", "functions.dsl")
    program = module.program("every")
    names = [f.name for f in functions]
    equations = [e for e in program.body if isinstance(e, Equation)]
    changed = tuple(
        replace(e, value=rewrite(e.value, lambda x, n=n: Call(n, x.arguments) if isinstance(x, Call) else x))
        for e, n in zip(equations, names, strict=True)
    )
    stage = TpcStage("every", replace(program, body=changed), "d")
    return lower(stage, target="gaudi2", name=f"{'inner' if inner else 'functions'}_{dtype}")


def apply(session: Session, library: HostLibrary, kernels: Sequence[Kernel], x: Array) -> dict[str, Array]:
    """Results by function, float64."""
    width = 512
    padded = np.concatenate([x, np.zeros(-len(x) % width, x.dtype)]).reshape(-1, width)
    made: dict[str, Array] = {}
    for kernel in kernels:
        made |= run(session, library, kernel, {"X": padded}, {"N": padded.shape[0], "D": width})[0]
    return {name.removeprefix("Y_"): y.ravel()[: len(x)] for name, y in made.items()}


def arguments(samples: int) -> Iterator[Array]:
    """f32 of every exponent and both signs, every other run of 64 consecutive; then bounded ones, where most functions
    have their interesting part."""
    rng = np.random.default_rng(0)
    for start in range(0, samples, _CHUNK):
        runs = max(min(_CHUNK, samples - start) // (3 * _RUN), 1)
        exponents = np.arange(runs) % 254 + 1
        first = (rng.integers(0, 1 << 23, runs) | (exponents << 23)).astype(np.uint32)
        consecutive = (first[:, None] + np.arange(_RUN, dtype=np.uint32)).ravel()
        anywhere = rng.integers(1 << 23, 0x7F800000, runs * _RUN).astype(np.uint32)
        bits = np.concatenate([consecutive, anywhere])
        x = np.minimum(bits, 0x7F7FFFFF).view(np.float32)
        x = x * np.repeat(rng.choice([-1.0, 1.0], len(x) // _RUN), _RUN).astype(np.float32)
        usual = (rng.normal(size=runs * _RUN) * rng.choice([0.3, 3.0, 40.0], runs * _RUN)).astype(np.float32)
        yield np.concatenate([x, usual])


def every_bf16() -> Array:
    return np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)


def measure(
    session: Session, library: HostLibrary, kernels: Sequence[Kernel], dtype: str, xs: Iterator[Array]
) -> list[Measured]:
    result = {f.name: Measured(f.name, dtype, 0, 0, 0, 0, 0) for f in FUNCTIONS}
    for x in xs:
        made = apply(session, library, kernels, x)
        with np.errstate(invalid="ignore"):
            exact = x.astype(np.float64)
        for f in FUNCTIONS:
            result[f.name] = _worse(result[f.name], _judge(f, dtype, exact, made[f.name]))
    return list(result.values())


def _judge(f: Function, dtype: str, x: Array, y: Array) -> Measured:
    with np.errstate(all="ignore"):
        inside = (x >= f.low) & (x <= f.high) & ((np.abs(x) >= TINY) | (x == 0))
        x, y = x[inside], y[inside]
        expected = f.truth(x)
        size = np.abs(expected)
        normal = (size >= TINY) & (size <= LARGEST)
        zero = normal & (y == 0)
        error = np.where(normal & ~zero, np.abs(y / expected - 1), 0) / HALF_ULP[dtype]
    worst = int(np.nan_to_num(error, nan=np.inf).argmax())
    flushed = float(size[zero].max(initial=0))
    return Measured(f.name, dtype, float(error[worst]), float(x[worst]), _back(f, dtype, x, y), flushed, len(x))


def _back(f: Function, dtype: str, x: Array, y: Array) -> float:
    if f.rising == 0:
        return 0.0
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order] * f.rising
    with np.errstate(all="ignore"):
        step = (y[:-1] - y[1:]) / np.maximum(np.abs(y[1:]), TINY) / HALF_ULP[dtype]
    if f.rising < 0:
        step[(x[:-1] <= 0) & (x[1:] >= 0)] = 0
    return float(np.nan_to_num(step[(x[:-1] < x[1:]) & np.isfinite(y[:-1]) & np.isfinite(y[1:])]).max(initial=0))


def _worse(a: Measured, b: Measured) -> Measured:
    most = max(a, b, key=lambda m: m.error)
    return replace(most, back=max(a.back, b.back), flushed=max(a.flushed, b.flushed), samples=a.samples + b.samples)


def operations(kernels: Sequence[Kernel], name: str) -> int:
    """VPU slots of one call per register of 64 lanes, as if no instruction did two."""
    found = [f for k in kernels for f in k.functions if f.name in (name, f"{name}_pair")]
    return sum(OPS[s.op].vpu for f in found for s in f.body if isinstance(s, VectorOp))


def measure_all(samples: int) -> tuple[list[Measured], dict[str, tuple[int, int]]]:
    """Every function at both dtypes, and its operations at both precisions."""
    kernels = {dtype: kernels_of(dtype) for dtype in ("f32", "bf16")}
    with tempfile.TemporaryDirectory() as folder, Session() as session:
        library = compile_kernels([k for both in kernels.values() for k in both], "gaudi2", Path(folder))
        found = measure(session, library, kernels["f32"], "f32", arguments(samples))
        found += measure(session, library, kernels["bf16"], "bf16", iter([every_bf16()]))
    counts = {f.name: (operations(kernels["f32"], f.name), operations(kernels["bf16"], f.name)) for f in FUNCTIONS}
    return found, counts


_TEXT = """# Special functions

Sequences of vector operations without LOOKUP, so local memory stays at 80 KB. Formulas: tpcgen/kernel/functions.py;
coefficients: tools/fit_functions.py. This page is written by `python -m tools.measure_functions` and kept true by
tests/kernel/test_functions.py.

Errors are the largest ones measured, relative to float64, in half ulps: 2^-24 for f32, 2^-8 for bf16, so that 1.0 is a
correctly rounded result. f32: {samples} arguments of all exponents and both signs; bf16: all 65,536 arguments, bf16
stored. "Back": the largest step of a monotone function against its direction, in half ulps: 0 is monotone. Operations:
VPU slots per 64 lanes for f32 and bf16 outputs; x2 forms do most of them for 128 lanes at once on gaudi2.

| function | f32 error | at | f32 back | bf16 error | bf16 back | operations |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

The last four are no functions of the language. Softmax and logsumexp are made of three: `exp_nonpositive` sees a score
minus its row's maximum, `recip_positive` a row's sum, `log_at_least_one` such a sum. `sigmoid_slope` is the derivative
of sigmoid, `recip(2 + exp(x) + exp(-x))` in a text; that of tanh is 4 times it at 2 x. Where contracts bound the
scores, `exp_in_reach` is `exp_nonpositive` without its guard (tpcgen/kernel/ranges.py).

NaN gives NaN, infinities and zeros give what IEEE 754 says, exp(-inf) is 0 and exp(0) is 1. Results below 2^-126 are 0,
as the TPC flushes them; exp and exp2 give 0 below 2^-125.5 already, silu below 2^-119 and gelu below 2^-123, whose last
step is a product with what was flushed.
"""


def page(found: Sequence[Measured], counts: dict[str, tuple[int, int]], samples: int) -> str:
    rows: list[str] = []
    for f in FUNCTIONS:
        wide, narrow = (next(m for m in found if (m.name, m.dtype) == (f.name, d)) for d in ("f32", "bf16"))
        slots = " / ".join(map(str, dict.fromkeys(counts[f.name])))
        back = ["not monotone"] * 2 if f.rising == 0 else [f"{m.back:.1f}" for m in (wide, narrow)]
        rows.append(
            f"| {f.name} | {wide.error:.2f} | {wide.at:.7g} | {back[0]} | {narrow.error:.3f} | {back[1]} | {slots} |"
        )
    return _TEXT.format(samples=f"{samples:,}", rows="\n".join(rows))


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    found, counts = measure_all(samples)
    for m in found:
        print(m)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(found, counts, samples))


if __name__ == "__main__":
    main()
