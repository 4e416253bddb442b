"""What each rank of test_distributed.py does: import emitted packages, run cases in a gloo group, keep results."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tpcgen.torch import stages
from tpcgen.torch.distributed import share_heads, share_sequence


def run(rank: int, count: int, folder: str, store: str) -> None:
    """`folder` has cases.pt, made by the parent; RANK.pt is what this rank got: outputs and gradients of each case.

    Every kernel runs strictly, each time.
    """
    stages.has_passed = lambda fingerprint: False
    torch.set_num_threads(1)
    init = f"file://{store}"
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=count, timeout=timedelta(seconds=240))
    cases = torch.load(Path(folder) / "cases.pt")
    torch.save([_case(rank, count, case) for case in cases], Path(folder) / f"{count}-{rank}.pt")
    dist.barrier()
    os._exit(0)  # without gloo's own end, which now and then aborts ("terminate called without an active exception")


def part(x: torch.Tensor, axis: int | None, rank: int, count: int) -> torch.Tensor:
    return x if axis is None else x.chunk(count, axis)[rank].clone()


def _case(rank: int, count: int, case: dict[str, Any]) -> dict[str, list[torch.Tensor]]:
    ops = [imported(*package) for package in case["packages"]]
    shared = share_heads(*ops) if case["share"] == "heads" else share_sequence(*ops)
    given = [part(x, axis, rank, count) for x, axis in zip(case["inputs"], case["axes"], strict=True)]
    cotangents = [part(c, axis, rank, count) for c, axis in zip(case["cotangents"], case["out_axes"], strict=False)]
    for i, axis in enumerate(case["out_axes"]):
        if axis is None:  # the ranks' losses are added up: each has another part of what one process has
            cotangents[i] = cotangents[i] * 2.0 ** -min(rank + 1, count - 1)
    return results(shared, given, cotangents, case["attributes"])


def results(
    function: Any, given: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor], attributes: dict[str, Any]
) -> dict[str, list[torch.Tensor]]:
    """Outputs, and gradients of the real inputs; none without cotangents."""
    leaves = [x.detach().clone().requires_grad_(bool(cotangents) and x.is_floating_point()) for x in given]
    found = function(*leaves, **attributes)
    outputs = found if isinstance(found, tuple) else (found,)
    if cotangents:
        sum((o * c).sum() for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad).backward()
    return {"outputs": [o.detach() for o in outputs], "gradients": [x.grad for x in leaves if x.requires_grad]}


def imported(name: str, init: str, function: str) -> Any:
    """A function of an emitted package, as a client of its folder imports it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, init)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return getattr(sys.modules[name], function)
