"""What gpt.py and vit.py share: attention by a spec's operator, the transformer around it, the training loop, what is
drawn and printed. Times of a Gaudi are predictions of tpcgen's cost model; nothing was measured on one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

import matplotlib
import torch
from rich.console import Console
from rich.progress import Progress, TextColumn
from torch import Tensor, nn

import tpcgen
from tpcgen.kernel.cycles import stage_cost
from tpcgen.partition.choose import choose
from tpcgen.partition.table import duration
from tpcgen.program import load, sizes
from tpcgen.report.tables import bindings, table
from tpcgen.rewrite.vjp import vjp

matplotlib.use("svg")
from matplotlib import pyplot

KINDS = ("softmax", "window", "linear", "gformer")
DEVICES = ("gaudi", "gaudi2")
GPT2_SMALL = {"B": 8, "H": 12, "N": 1024, "D": 64, "E": 64}
HERE = Path(__file__).parent

# The host device's kernels bring threads of their own; torch's would only wait for each other in matmuls this small.
torch.set_num_threads(1)

Operator = Callable[..., Tensor]


@dataclass(frozen=True)
class Attention:
    """The operators of a task: `mask` is "causal" or "both", `sizes` those of a training step (B, H, N, D, E).

    `window`: tokens that windowed heads see to each side, the own one included. Half of GFormer's heads are windowed.
    """

    mask: str
    sizes: Mapping[str, int]
    window: int

    def attributes(self, kind: str) -> dict[str, int]:
        """Those of the operator that have no size of a tensor."""
        match kind:
            case "window":
                return {"W": self.window}
            case "gformer":
                return {"W": self.window, "Hs": self.sizes["H"] // 2}
            case _:
                return {}

    def operator(self, kind: str) -> Operator:
        """(Q, K, V) -> O in f32, from the spec of that kind, with its gradient."""
        binds = {**self.sizes, **self.attributes(kind)}
        module = tpcgen.load(HERE / f"{kind}.dsl", binds=binds, dtypes="f32", prefix=f"train_{kind}")
        operator = getattr(module, f"{kind}_{self.mask}")
        return lambda q, k, v: operator(q, k, v, **self.attributes(kind))


class Block(nn.Module):
    """A transformer's layer, normalised before each half, whose attention is `operator`. [B, N, width] -> the same."""

    def __init__(self, operator: Operator, width: int, heads: int) -> None:
        super().__init__()
        self.operator, self.heads = operator, heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(self.before_attention(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        seen = self.operator(*split.permute(2, 0, 3, 1, 4))
        x = x + self.out(seen.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.before_mlp(x))


@dataclass
class Run:
    """One training: loss and seconds of every step, (step, score) of every evaluation."""

    kind: str
    seed: int
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)


def train(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    score: Callable[[], float],
    run: Run,
    *,
    steps: int,
    rate: float,
    score_every: int,
    progress: Progress,
) -> Run:
    """`steps` of AdamW on the cross entropy of `model(x)` [.., classes] and y [..]; the rate rises, then falls to 0."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(steps, 1), pct_start=0.1)
    task = progress.add_task(f"{run.kind}, seed {run.seed}", total=steps, loss="compiling kernels")
    for step, (x, y) in zip(range(1, steps + 1), batches, strict=False):
        began = time.perf_counter()
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        run.seconds.append(time.perf_counter() - began)
        run.losses.append(loss.item())
        progress.update(task, advance=1, loss=f"loss {run.losses[-1]:.3f}")
        if step % score_every == 0 or step == steps:
            with torch.no_grad():
                run.scores.append((step, score()))
    return run


def progress_bar() -> Progress:
    return Progress(*Progress.get_default_columns(), TextColumn("{task.fields[loss]}"), console=Console(stderr=True))


def plot(runs: Sequence[Run], score: str, path: Path) -> None:
    """Losses (means of 20 steps) and scores over steps, a colour per kind, a thin line per seed, as an SVG."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    colours = dict(zip(KINDS, pyplot.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for run in runs:
        first = run.seed == min(r.seed for r in runs if r.kind == run.kind)
        style = {"color": colours[run.kind], "linewidth": 1, "label": run.kind if first else None}
        middles = range(0, len(run.losses), 20)
        left.plot([m + 10 for m in middles], [fmean(run.losses[m : m + 20]) for m in middles], **style)
        right.plot(*zip(*run.scores, strict=True), **style)
    for axes, name in ((left, "training loss"), (right, score)):
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context({"svg.hashsalt": "tpcgen"}):
        figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def results(runs: Sequence[Run], score: str) -> str:
    """A table: per kind, over its seeds, the loss of the last 20 steps, the last score and how long it took."""
    rows: list[tuple[str, ...]] = []
    for kind in dict.fromkeys(r.kind for r in runs):
        own = [r for r in runs if r.kind == kind]
        last = [r.scores[-1][1] for r in own]
        loss = fmean(fmean(r.losses[-20:]) for r in own)
        step = median(x for r in own for x in r.seconds)
        minutes = fmean(sum(r.seconds) for r in own) / 60
        each = ", ".join(f"{x:.4g}" for x in last)
        rows.append((kind, f"{loss:.3f}", f"{fmean(last):.4g}", each, duration(step), f"{minutes:.1f} min"))
    return table(("attention", "training loss", score, "by seed", "a step", "a run"), rows)


def predictions(attention: Attention, kinds: Sequence[str]) -> str:
    """Tables of one layer's attention on each device: at the sizes trained, and at those of GPT-2 small."""
    large = Attention(attention.mask, GPT2_SMALL, GPT2_SMALL["N"] // 4)
    parts = [
        "One layer's attention, forward + backward: predictions of the cost model, nothing was measured on Gaudi\n"
    ]
    for case, dtype in ((attention, "f32"), (large, "bf16")):
        rows = [(kind, *(_both(*predicted(case, kind, device, dtype)) for device in DEVICES)) for kind in kinds]
        given = bindings({**case.sizes, **case.attributes("gformer")})
        parts.append(f"{dtype} at {given}:\n" + table(("attention", *DEVICES), rows))
    return "\n".join(parts)


def predicted(attention: Attention, kind: str, device: str, dtype: str) -> tuple[float, float]:
    """Seconds of the forward and the backward operator by the plans of those sizes, where the forward keeps nothing."""
    module = load(HERE / f"{kind}.dsl")
    forward = module.program(f"{kind}_{attention.mask}", T=dtype)
    wanted = next(v for v in module.vjps if v.op == forward.name)
    values = {**attention.sizes, **attention.attributes(kind)}
    both = (forward, vjp(forward, wanted.inputs, wanted.span))
    bound = [(p, sizes.bind(p, values)) for p in both]
    one, other = (choose(p, device, binding, cost=stage_cost).price.seconds for p, binding in bound)
    return one, other


def _both(forward: float, backward: float) -> str:
    return f"{duration(forward)} + {duration(backward)} = {duration(forward + backward)}"
