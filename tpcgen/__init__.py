"""tpcgen: attention operators for Intel Gaudi from mathematics.

attn = tpcgen.load("examples/causal.dsl")
o = attn.causal(q, k, v)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpcgen.version import VERSION

if TYPE_CHECKING:
    from tpcgen.torch.load import load
    from tpcgen.torch.transformers import register_attention

__version__ = VERSION
__all__ = ["__version__", "load", "register_attention"]

_NEEDS = {
    "torch": "PyTorch 2.6 or later: pip install torch",
    "transformers": "transformers 5: pip install transformers",
}


def __getattr__(name: str) -> Any:
    try:
        match name:
            case "load":
                from tpcgen.torch.load import load

                return load
            case "register_attention":
                from tpcgen.torch.transformers import register_attention

                return register_attention
            case _:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    except ModuleNotFoundError as error:
        if error.name not in _NEEDS:
            raise
        raise ModuleNotFoundError(f"tpcgen.{name} needs {_NEEDS[error.name]}", name=error.name) from None
