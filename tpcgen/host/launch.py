"""One launch of a kernel library's GUID: what is handed to glue and device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpcgen.host import abi
from tpcgen.host.glue import TensorSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Launch:
    """Inputs by value, outputs by shape and dtype, both in torch order (last axis fastest, becomes dim 0).

    `params` is the node's parameter struct as the glue expects it, byte for byte.
    """

    guid: str
    target: str
    inputs: tuple[Array, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    params: bytes = b""

    def input_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(spec_of(array.shape, array.dtype) for array in self.inputs)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(spec_of(shape, dtype) for shape, dtype in self.outputs)


def spec_of(shape: Sequence[int], dtype: np.typing.DTypeLike) -> TensorSpec:
    """The tensor of a torch-order shape. Raises ValueError if TPC cannot hold it (rank above 5, dtype, size)."""
    if len(shape) > abi.MAX_RANK:
        raise ValueError(f"a TPC tensor has at most {abi.MAX_RANK} dims, not {len(shape)}: merge axes")
    if any(not 0 <= size < 2**31 for size in shape):
        raise ValueError(f"sizes {tuple(shape)} do not fit a TPC tensor")
    spec = TensorSpec.of(shape, dtype)
    abi.data_type(spec.dtype)
    return spec
