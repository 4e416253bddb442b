"""A small vision transformer that learns scikit-learn's digits (8 x 8 pixels, 1,797 of them) on the CPU.

    python examples/train/vit.py --attention gformer --seeds 3

Each digit is 16 tokens, patches of 2 x 2 pixels; a quarter of the digits is kept for the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import torch
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from training import KINDS, Attention, Block, Operator, Run, plot, predictions, progress_bar, results, train

BATCH, HEADS, WIDTH, LAYERS, TOKENS = 64, 4, 64, 2, 16
# A window of 5 to each side reaches the patch above and the one below.
ATTENTION = Attention("both", {"B": BATCH, "H": HEADS, "N": TOKENS, "D": WIDTH // HEADS, "E": WIDTH // HEADS}, window=5)


class ViT(nn.Module):
    """[B, 16, 4] pixels of patches -> [B, 10] logits, from the mean of the tokens."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(TOKENS, WIDTH))
        self.blocks = nn.Sequential(*(Block(operator, WIDTH, HEADS) for _ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x) + self.place).mean(1))


def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(patches, labels) to train on and to test on; always the same split."""
    data = load_digits()
    patches = torch.tensor(data.images / 8 - 1, dtype=torch.float32).view(-1, 4, 2, 4, 2).transpose(2, 3)
    kept, held = train_test_split(range(len(data.target)), test_size=0.25, random_state=0, stratify=data.target)
    x, y = patches.reshape(-1, TOKENS, 4), torch.tensor(data.target)
    return (x[kept], y[kept]), (x[held], y[held])


def batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        for chosen in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            yield x[chosen], y[chosen]


def learn(kind: str, seed: int, steps: int, progress: Progress) -> Run:
    """One training; its scores are accuracies on the test's digits, in percent."""
    torch.manual_seed(seed)
    (x, y), (held_x, held_y) = digits()
    model = ViT(ATTENTION.operator(kind))

    def accuracy() -> float:
        return 100 * (model(held_x).argmax(1) == held_y).double().mean().item()

    run = Run(kind, seed)
    return train(
        model, batches(x, y), accuracy, run, steps=steps, rate=3e-3, score_every=len(x) // BATCH, progress=progress
    )


@click.command(help=__doc__)
@click.option("--attention", "kinds", multiple=True, type=click.Choice(KINDS), default=KINDS, help="All unless given.")
@click.option("--seeds", default=1, type=click.IntRange(1), show_default=True)
@click.option("--steps", default=500, type=click.IntRange(0), show_default=True, help="0: only predict the times.")
@click.option("--out", default=Path("build/train"), type=click.Path(path_type=Path), show_default=True)
def main(kinds: tuple[str, ...], seeds: int, steps: int, out: Path) -> None:
    if steps:
        with progress_bar() as progress:
            runs = [learn(kind, seed, steps, progress) for kind in kinds for seed in range(seeds)]
        plot(runs, "accuracy on the test's digits, %", out / "vit.svg")
        click.echo(results(runs, "accuracy, %"))
        click.echo(f"wrote {out / 'vit.svg'}\n")
    click.echo(predictions(ATTENTION, kinds), nl=False)


if __name__ == "__main__":
    main()
