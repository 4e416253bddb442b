"""What a backend of torch.compile is given, and which ops run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode


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


class Called(TorchDispatchMode):
    """The names of the custom ops of one namespace that run, or of those whose namespace starts so."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self.namespace = namespace
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace.startswith(self.namespace):
            self.names.append(func._schema.name.partition("::")[2])
        return func(*args, **(kwargs or {}))
