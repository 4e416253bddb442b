"""Kernel IR: one TPC kernel as a loop nest over the index space whose body is typed vector operations.

The TPC-C text (`tpc_c.py`), the access pattern in the glue (`access.py`) and the predicted cycles (`cycles.py`) all come
from this one structure. Tensor dims are in TPC order here: dim 0 is the FCD, torch's last axis.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Expr


@dataclass(frozen=True, slots=True)
class AxisAccess:
    """What member i of index-space dim `index_dim` touches along one tensor dim: elements [a*i + start, a*i + end].

    `all_required`: any member may touch the whole dim; then the other fields are 0.
    """

    index_dim: int
    a: int
    start: int
    end: int
    all_required: bool = False


@dataclass(frozen=True, slots=True)
class TensorParam:
    """A tensor of the kernel: position among `Kernel.tensors` is its descriptor number. `sizes` in TPC order."""

    name: str
    dtype: DType
    sizes: tuple[Expr, ...]
    is_output: bool


@dataclass(frozen=True, slots=True)
class ScalarParam:
    """A scalar argument of main: C type int or float; the glue evaluates `value` (sizes and attributes of the stage)."""

    name: str
    type: DType
    value: Expr


@dataclass(frozen=True, slots=True)
class IndexDim:
    """One dim of the index space: `extent` members, an integer expression of sizes; member i covers `step` elements."""

    name: str
    extent: Expr
    step: int
