"""What a backend of torch.compile is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch._dynamo.backends.common import aot_autograd


def lowered(function: Callable[..., object], inputs: Sequence[torch.Tensor]) -> list[str]:
    """The operators of the one graph of a call, in order."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    torch.compile(function, fullgraph=True, backend=aot_autograd(fw_compiler=keep), dynamic=False)(*inputs)
    (graph,) = graphs
    return [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]
