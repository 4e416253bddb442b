"""examples/train: its operators beside the same attention in plain PyTorch, its loop, and what it predicts.

Kernels run on the strict device here, every access audited: g++ builds them for that in a fraction of the time. The
`full` test trains as the example does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from click.testing import CliRunner  # noqa: E402
from rich.progress import Progress  # noqa: E402

from tests.torch.test_operators import draw  # noqa: E402
from tpcgen.compiler import Options, compile_spec  # noqa: E402

FOLDER = Path(__file__).parents[2] / "examples" / "train"
KINDS = ("softmax", "window", "linear", "gformer")


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The modules gpt, training and vit, as `python examples/train/vit.py` finds them."""
    sys.path.insert(0, str(FOLDER))
    try:
        return {name: __import__(name) for name in ("gpt", "training", "vit")}
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def short(scripts: dict[str, ModuleType], strictly: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of one layer, every launch audited."""
    for name in ("gpt", "vit"):
        monkeypatch.setattr(scripts[name], "LAYERS", 1)


def plain(kind: str, causal: bool, window: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The four kinds of attention in torch ops."""
    tokens = torch.arange(q.shape[2])
    behind = tokens[:, None] - tokens
    seen = behind >= 0 if causal else torch.ones_like(behind, dtype=torch.bool)

    def softmax(mask: torch.Tensor) -> torch.Tensor:
        scores = (q @ k.transpose(2, 3)) / q.shape[3] ** 0.5
        return scores.masked_fill(~mask, -torch.inf).softmax(3) @ v

    def linear() -> torch.Tensor:
        features = [torch.nn.functional.elu(x) + 1 for x in (q, k)]
        weights = features[0] @ features[1].transpose(2, 3) * seen
        return weights @ v / (weights.sum(3, keepdim=True) + 1e-6)

    near = seen & (behind.abs() < window)
    match kind:
        case "softmax":
            return softmax(seen)
        case "window":
            return softmax(near)
        case "linear":
            return linear()
        case _:
            half = q.shape[1] // 2
            return torch.cat([softmax(near)[:, :half], linear()[:, half:]], 1)


def gradients(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """The loss and its gradient by each parameter."""
    loss = torch.nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


# Every kind and both scripts, at 17 characters and at the digits' 16 patches; other pairs would build as many kernels
# again.
PAIRS = [("gpt", "softmax"), ("gpt", "gformer"), ("vit", "window"), ("vit", "linear")]


def small(scripts: dict[str, ModuleType], script: str, operator: object) -> tuple[torch.nn.Module, torch.Tensor, ...]:
    """A model of the script with that attention, always the same weights, and a small batch."""
    torch.manual_seed(0)
    if script == "vit":
        (x, y), _ = scripts["vit"].digits()
        return scripts["vit"].ViT(operator), x[:8], y[:8]
    text = scripts["gpt"].Text(FOLDER / "genesis.txt")
    pieces = text.parts[0][: 4 * 18].view(4, 18)
    return scripts["gpt"].GPT(operator, len(text.alphabet)), pieces[:, :-1], pieces[:, 1:]


@pytest.mark.parametrize(("script", "kind"), PAIRS)
def test_the_first_loss_and_its_gradients_are_plain_pytorchs(
    scripts: dict[str, ModuleType], short: None, script: str, kind: str
) -> None:
    """The error against float64 is at most 4 times that of plain PyTorch in f32, or 8 ulp of a tensor's largest."""
    attention = scripts[script].ATTENTION
    model, x, y = small(scripts, script, attention.operator(kind))
    found = gradients(model, x, y)
    plainly, _, _ = small(scripts, script, lambda *qkv: plain(kind, script == "gpt", attention.window, *qkv))
    usual = gradients(plainly, x, y)
    plainly.double()
    truth = gradients(plainly, x.double() if x.is_floating_point() else x, y)
    for ours, theirs, true in zip(found, usual, truth, strict=True):
        error, other = ((g.double() - true).abs().max().item() for g in (ours, theirs))
        assert error <= 4 * other + 8 * 2**-24 * true.abs().max().item()
    assert abs(truth[0].item()) > 1 and all(g.abs().max() > 0 for g in truth)


@pytest.mark.parametrize(("script", "kind"), PAIRS)
def test_a_few_steps_learn(scripts: dict[str, ModuleType], short: None, script: str, kind: str, tmp_path: Path) -> None:
    training = scripts["training"]
    model, x, y = small(scripts, script, scripts[script].ATTENTION.operator(kind))
    run = training.Run(kind, 0)
    with Progress(disable=True) as progress:
        training.train(model, [(x, y)] * 4, lambda: 1.5, run, steps=4, rate=2e-2, score_every=3, progress=progress)
    assert len(run.losses) == len(run.seconds) == 4 and run.losses[-1] < 0.8 * run.losses[0]
    assert run.scores == [(3, 1.5), (4, 1.5)]
    training.plot([run], "score", tmp_path / "new" / "plot.svg")
    assert kind in training.results([run], "score") and "</svg>" in (tmp_path / "new" / "plot.svg").read_text()


def test_the_times_are_those_of_the_plans_that_compile_makes(scripts: dict[str, ModuleType]) -> None:
    attention = scripts["gpt"].ATTENTION
    options = Options(target="gaudi", binds=({**attention.sizes, "W": attention.window},), dtypes=("f32",))
    compiled = next(op for op in compile_spec(FOLDER / "window.dsl", options).ops if "causal" in op.artifact.name)
    expected = tuple(choice.price.seconds for choices in compiled.choices for choice in choices)
    assert scripts["training"].predicted(attention, "window", "gaudi", "f32") == expected


def test_no_steps_only_predict(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    command = ["--attention", "softmax", "--steps", "0", "--out", str(tmp_path)]
    done = CliRunner().invoke(scripts["vit"].main, command)
    assert done.exit_code == 0, done.output
    assert "f32 at B=64" in done.output and "bf16 at B=8 H=12 N=1024" in done.output and "gaudi2" in done.output
    assert not list(tmp_path.iterdir())


def test_the_digits_and_the_text_are_split_without_overlap(scripts: dict[str, ModuleType]) -> None:
    (x, y), (held_x, held_y) = scripts["vit"].digits()
    assert (len(x), len(held_x)) == (len(y), len(held_y)) == (1347, 450) and x.shape[1:] == (16, 4)
    text = scripts["gpt"].Text(FOLDER / "genesis.txt")
    kept, held = text.parts
    assert "".join(text.alphabet[i] for i in torch.cat([kept, held]).tolist()) == text.text
    assert len(held) == -(-len(text.text) // 10)


def test_patches_are_squares_of_neighbours(scripts: dict[str, ModuleType]) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    patches = torch.cat([part[0] for part in scripts["vit"].digits()])
    image = torch.tensor(data.images[0] / 8 - 1, dtype=torch.float32)
    wanted = torch.stack([image[r : r + 2, c : c + 2].flatten() for r in range(0, 8, 2) for c in range(0, 8, 2)])
    assert (patches == wanted).all(2).all(1).any()


@pytest.mark.full
def test_gformer_is_within_a_point_of_softmax(scripts: dict[str, ModuleType]) -> None:
    """What docs/training.md says: the mean accuracy of three seeds."""
    with Progress(disable=True) as progress:
        reached = {
            kind: [scripts["vit"].learn(kind, seed, 500, progress).scores[-1][1] for seed in range(3)]
            for kind in ("softmax", "gformer")
        }
    softmax, gformer = (sum(reached[kind]) / 3 for kind in ("softmax", "gformer"))
    assert gformer >= softmax - 1 and softmax > 95, reached


def test_plain_attention_is_not_the_operators(scripts: dict[str, ModuleType]) -> None:
    """The reference tells the four kinds apart, so that an operator that is another one would be seen."""
    qkv = draw((1, 2, 9, 4), (1, 2, 9, 4), (1, 2, 9, 4))
    made = [plain(kind, causal, 3, *qkv) for kind in KINDS for causal in (True, False)]
    distances = [(a - b).abs().max().item() for i, a in enumerate(made) for b in made[:i]]
    assert min(distances) > 1e-2
