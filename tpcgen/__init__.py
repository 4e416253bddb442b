"""tpcgen: attention operators for Intel Gaudi from mathematics.

attn = tpcgen.load("examples/causal.dsl")
o = attn.causal(q, k, v)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpcgen.version import VERSION

if TYPE_CHECKING:
    from tpcgen.torch.load import load

__version__ = VERSION
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from tpcgen.torch.load import load
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError("tpcgen.load needs PyTorch 2.6 or later: pip install torch", name="torch") from None
    return load
