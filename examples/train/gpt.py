"""A small GPT that learns the characters of Genesis (King James Version, genesis.txt) on the CPU.

    python examples/train/gpt.py --attention gformer --attention softmax

It predicts every character of pieces of 64 from those before it; the last tenth of the text is kept for the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import click
import torch
from rich.progress import Progress
from torch import Tensor, nn
from training import HERE, KINDS, Attention, Block, Operator, Run, plot, predictions, progress_bar, results, train

BATCH, HEADS, WIDTH, LAYERS, TOKENS = 16, 4, 64, 2, 64
SIZES = {"B": BATCH, "H": HEADS, "N": TOKENS, "D": WIDTH // HEADS, "E": WIDTH // HEADS}
ATTENTION = Attention("causal", SIZES, window=16)


class Text:
    """The characters of a file as integers, and what of it is for training and for the test."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.alphabet = sorted(set(self.text))

    @cached_property
    def parts(self) -> tuple[Tensor, Tensor]:
        numbers = torch.tensor([self.alphabet.index(c) for c in self.text])
        return numbers[: -len(numbers) // 10], numbers[-len(numbers) // 10 :]


class GPT(nn.Module):
    """[B, N] characters, N <= 64 -> [B, N, alphabet] logits of each one's successor."""

    def __init__(self, operator: Operator, alphabet: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(alphabet, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(TOKENS, WIDTH))
        self.blocks = nn.Sequential(*(Block(operator, WIDTH, HEADS) for _ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, alphabet))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x) + self.place[: x.shape[1]]))


def batches(part: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        starts = torch.randint(len(part) - TOKENS, (BATCH, 1))
        yield part[starts + torch.arange(TOKENS)], part[starts + torch.arange(1, TOKENS + 1)]


def learn(kind: str, seed: int, steps: int, progress: Progress) -> Run:
    """One training; its scores are losses on the test's text, in nats a character."""
    torch.manual_seed(seed)
    text = Text(HERE / "genesis.txt")
    kept, held = text.parts
    model = GPT(ATTENTION.operator(kind), len(text.alphabet))
    whole = (len(held) - 1) // TOKENS * TOKENS
    x, y = held[:whole].view(-1, TOKENS), held[1 : whole + 1]

    def loss() -> float:
        logits = torch.cat([model(part) for part in x.split(BATCH)])
        return nn.functional.cross_entropy(logits.flatten(0, 1), y).item()

    run = Run(kind, seed)
    return train(model, batches(kept), loss, run, steps=steps, rate=3e-3, score_every=100, progress=progress)


@click.command(help=__doc__)
@click.option("--attention", "kinds", multiple=True, type=click.Choice(KINDS), default=KINDS, help="All unless given.")
@click.option("--seeds", default=1, type=click.IntRange(1), show_default=True)
@click.option("--steps", default=1000, type=click.IntRange(0), show_default=True, help="0: only predict the times.")
@click.option("--out", default=Path("build/train"), type=click.Path(path_type=Path), show_default=True)
def main(kinds: tuple[str, ...], seeds: int, steps: int, out: Path) -> None:
    if steps:
        with progress_bar() as progress:
            runs = [learn(kind, seed, steps, progress) for kind in kinds for seed in range(seeds)]
        plot(runs, "loss on the test's text, nats a character", out / "gpt.svg")
        click.echo(results(runs, "test loss"))
        click.echo(f"wrote {out / 'gpt.svg'}\n")
    click.echo(predictions(ATTENTION, kinds), nl=False)


if __name__ == "__main__":
    main()
