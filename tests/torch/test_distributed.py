"""Operators on 2 and 4 ranks of a gloo group beside the same operators in one process: outputs and gradients.

The parent compiles and computes; the ranks (ranks.py) import what it compiled. They run once per number of ranks. All
kernels run strictly.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

import tpcgen

torch = pytest.importorskip("torch")
pytest.importorskip("torch.distributed")

import torch.multiprocessing as processes  # noqa: E402

from tests.torch import ranks  # noqa: E402
from tests.torch.test_operators import draw  # noqa: E402
from tpcgen.diagnostics import DiagnosticError  # noqa: E402
from tpcgen.interpreter.compare import judge  # noqa: E402
from tpcgen.machine import MACHINES  # noqa: E402
from tpcgen.partition.cards import Cards, Share, own_sizes, transfers  # noqa: E402
from tpcgen.program import load, sizes  # noqa: E402
from tpcgen.torch.arrays import array  # noqa: E402
from tpcgen.torch.distributed import share_heads, share_sequence  # noqa: E402

ROOT = Path(__file__).parents[2]
COUNTS = (2, 4)


@pytest.fixture(scope="module")
def shared():
    return tpcgen.load(Path(__file__).parent / "specs" / "shared.dsl", prefix="tpcgen_shared")


@pytest.fixture(scope="module")
def gated():
    return tpcgen.load(ROOT / "examples" / "gated_linear_cards.dsl", dtypes="f32")


def attend(op, heads, groups, m, n):
    """All of Q, K, V and O along heads and the sequence."""
    shapes = [(2, heads, m, 8), (2, groups, n, 8), (2, groups, n, 5)]
    return case("heads", [op], list(draw(*shapes)), [2, 2, 2], [2])


def windowed(op, backward):
    """One logit per head."""
    inputs = draw(*[(1, 4, 36, 16)] * 3, (4,))
    return case("heads", [op], inputs, [2, 2, 2, None], [2], backward=backward, W=5)


def kinds(op):
    x, gain, shift, scale = draw((1, 12, 4, 5), (4,), (12, 5), (5,))
    doc = (torch.arange(12) % 5 - 1).int()[None]
    return case("heads", [op], [x, gain, shift, scale, doc], [1, None, 0, None, 1], [1, None, 0, 1, None])


def recurrent(share, ops, n=20, heads=4):
    q, k, v, s = draw((1, heads, n, 8), (1, heads, n, 8), (1, heads, n, 5), (1, heads, 8, 5))
    (g,) = draw((1, heads, n), seed=3)
    return case(share, ops, [q, k, v, torch.sigmoid(2 * g), s], [2, 2, 2, 2, None], [2])


def case(share, ops, inputs, axes, out_axes, *, backward=True, **attributes):
    """`axes`: along which each input and output is divided, None where every rank has all of it.

    The op runs here first, so that its kernels are built once.
    """
    made = ops[0](*inputs, **attributes)
    outputs = made if isinstance(made, tuple) else (made,)
    drawn = draw(*(tuple(o.shape) for o in outputs), seed=7) if backward else []
    cotangents = [c.to(o.dtype if o.is_floating_point() else c.dtype) for c, o in zip(drawn, outputs, strict=backward)]
    wide = [x.double() if x.is_floating_point() else x for x in inputs]
    return {
        "share": share,
        "packages": [(op.__module__, sys.modules[op.__module__].__file__, op.__name__) for op in ops],
        "inputs": inputs,
        "axes": axes,
        "out_axes": out_axes,
        "cotangents": cotangents,
        "attributes": attributes,
        "alone": ranks.results(ops[0], inputs, cotangents, attributes),
        "truth": ranks.results(ops[0].reference, wide, cotangents, attributes),
    }


@pytest.fixture(scope="module")
def cases(shared, gated, window, strict_module):
    ops = [gated.gated_linear_from, gated.gated_linear_part, gated.gated_linear_carry]
    return {
        "grouped heads, causal": attend(shared.attend, 8, 4, 28, 36),
        "fewer groups than ranks": attend(shared.attend, 4, 1, 4, 4),
        "groups that the ranks do not divide": attend(shared.attend, 12, 3, 4, 12),
        "a window, a sink": windowed(window.window, backward=False),
        "every kind of tensor": kinds(shared.kinds),
        "a recurrence by heads": recurrent("heads", ops[:1]),
        "a recurrence by state": recurrent("sequence", ops),
        "parts of one token": recurrent("sequence", ops, n=4, heads=1),
    }


def found(count, cases, folder):
    """What every rank got, of every case, by name."""
    torch.save(list(cases.values()), folder / "cases.pt")
    processes.spawn(ranks.run, (count, str(folder), str(folder / f"store{count}")), nprocs=count)
    made = [torch.load(folder / f"{count}-{rank}.pt") for rank in range(count)]
    return {name: [m[i] for m in made] for i, name in enumerate(cases)}


@pytest.mark.parametrize("count", COUNTS)
def test_ranks_compute_what_one_process_does(count, cases, tmp_path):
    got = found(count, cases, tmp_path)
    for name, wanted in cases.items():
        agree(name, wanted, got[name])


@pytest.mark.full
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_gradients_of_a_window_with_sinks(dtype, count, tmp_path, strict_module):
    """Grouped heads, which 2 ranks divide and 4 share."""
    op = tpcgen.load(Path(__file__).parent / "specs" / "shared_window.dsl", dtypes=dtype, prefix=f"shared_{dtype}")
    shapes = [(1, 8, 36, 16), (1, 2, 36, 16), (1, 2, 36, 7)]
    inputs = draw(*shapes, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)
    cases = {"window": case("heads", [op.window], [*inputs, *draw((8,), seed=5)], [2, 2, 2, None], [2], W=5)}
    agree("window", cases["window"], found(count, cases, tmp_path)["window"])


def agree(name, wanted, got):
    real = [axis for x, axis in zip(wanted["inputs"], wanted["axes"], strict=True) if x.is_floating_point()]
    for what, axes in (("outputs", wanted["out_axes"]), ("gradients", real if wanted["cotangents"] else [])):
        for i, axis in enumerate(axes):
            given = [rank[what][i] for rank in got]
            if axis is None:
                assert all(torch.equal(x, given[0]) for x in given), f"{name}: {what} {i} differs from rank to rank"
            together = given[0] if axis is None else torch.cat(given, axis)
            verdict = judge(*(array(x) for x in (together, *(wanted[k][what][i] for k in ("truth", "alone")))))
            assert verdict.passed, f"{name}: {what} {i}: {verdict.reason}"


@pytest.fixture
def four_ranks():
    """A group of four of which this is one; nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield
    torch.distributed.destroy_process_group()


def test_heads_that_the_ranks_do_not_divide(shared, four_ranks):
    op = share_heads(shared.attend)
    with pytest.raises(
        ValueError, match=r"attend: 6 heads \(H of Q\) among 4 ranks: the number of ranks must divide 6"
    ):
        op(*draw((1, 6, 4, 8), (1, 2, 4, 8), (1, 2, 4, 5)))
    with pytest.raises(TypeError, match=r"attend: K must be a tensor \[B, G, N, D\], got shape \(4, 8\)"):
        op(*draw((1, 4, 4, 8), (4, 8), (1, 2, 4, 5)))
    with pytest.raises(TypeError, match="missing a required argument: 'V'"):
        op(*draw((1, 4, 4, 8), (1, 2, 4, 8)))


def test_the_shared_op_looks_like_the_op(shared):
    op = share_heads(shared.attend)
    assert inspect.signature(op) == inspect.signature(shared.attend)
    assert (op.__name__, op.__doc__) == ("attend", shared.attend.__doc__)


def test_what_is_no_operator_is_refused(shared):
    for wrong in (torch.matmul, lambda q: q, shared.attend.reference, share_heads(shared.attend)):
        with pytest.raises(TypeError, match="is not an operator emitted by tpcgen"):
            share_heads(wrong)


def test_sizes_that_an_operator_does_not_have(shared):
    with pytest.raises(DiagnosticError, match=r"E542.*has no size heads"):
        share_heads(shared.attend, heads="heads")
    with pytest.raises(DiagnosticError, match=r"E542.*no tensor of kinds.* has an axis T beside H"):
        share_heads(shared.kinds, sequence=["T"])


def test_operators_that_do_not_fit_together(gated, shared):
    step, part, carry = gated.gated_linear_from, gated.gated_linear_part, gated.gated_linear_carry
    with pytest.raises(ValueError, match="part takes Q, which step does not have"):
        share_sequence(shared.kinds, shared.attend, carry)
    with pytest.raises(ValueError, match=r"carry takes Q: f32\[B, H, M, D\], step has Q: f32\[B, H, N, D\]"):
        share_sequence(step, part, shared.attend)
    with pytest.raises(ValueError, match=r"carry takes 5 states .* and gives 1"):
        share_sequence(step, part, step)
    with pytest.raises(ValueError, match="the state S0 has an axis D"):
        share_sequence(step, part, carry, sequence=["D"])


@pytest.mark.parametrize("name", ["fewer groups than ranks", "every kind of tensor", "a recurrence by state"])
def test_what_is_sent_is_what_is_priced(name, cases, four_ranks, monkeypatch):
    given = cases[name]
    ops = [getattr(sys.modules[module], op) for module, _, op in given["packages"]]
    share = Share(given["share"])
    sent = _counted(monkeypatch)
    shared_op = (share_heads if share is Share.HEADS else share_sequence)(*ops)
    parts = [ranks.part(x, axis, 0, 4) for x, axis in zip(given["inputs"], given["axes"], strict=True)]
    cotangents = [ranks.part(x, axis, 0, 4) for x, axis in zip(given["cotangents"], given["out_axes"], strict=True)]
    ranks.results(shared_op, parts, cotangents, given["attributes"])
    priced = 0
    for op in ops[:2]:  # a carry sends nothing
        reference = load(Path(sys.modules[op.__module__].__file__).with_name("reference.dsl"))
        program = reference.program(reference.ops[0])
        names = [t.name for t in program.inputs if t.dtype.is_float]
        inputs = dict(zip(inspect.signature(ops[0]).parameters, given["inputs"], strict=False))
        whole = sizes.bind_shapes(program, {t.name: tuple(inputs[t.name].shape) for t in program.inputs}, {})
        cards = Cards(4, share)
        own = sizes.bind(program, own_sizes(program, whole.values, cards))
        priced += sum(t.sent for t in transfers(own, cards, MACHINES["gaudi2"], names))
    assert sum(sent) == priced


def _counted(monkeypatch):
    """Bytes that leave this rank, of each collective."""
    sent = []
    dist, others = torch.distributed, 3

    exchange, gather, reduce = dist.all_to_all_single, dist.all_gather, dist.all_reduce

    def all_to_all_single(out, x, **named):
        sent.append(x.nbytes * others / 4)
        return exchange(out, x, **named)

    def all_gather(out, x, **named):
        sent.append(x.nbytes * others)
        return gather(out, x, **named)

    def all_reduce(x, **named):
        sent.append(-(-x.nbytes // 4) * 2 * others)
        return reduce(x, **named)

    for function in (all_to_all_single, all_gather, all_reduce):
        monkeypatch.setattr(dist, function.__name__, function)
    return sent
