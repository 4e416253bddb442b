"""CPU tensors as NumPy arrays and back, sharing memory; bf16, which NumPy lacks, is ml_dtypes' there."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch

from tpcgen.host.launch import Array

NUMPY = {
    torch.float64: np.dtype(np.float64),
    torch.float32: np.dtype(np.float32),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.float16: np.dtype(np.float16),
    torch.int32: np.dtype(np.int32),
    torch.int16: np.dtype(np.int16),
    torch.int8: np.dtype(np.int8),
    torch.uint8: np.dtype(np.uint8),
    torch.bool: np.dtype(np.bool_),
}
"""The dtype of a tensor's array."""


def array(tensor: torch.Tensor) -> Array:
    """A view of a contiguous CPU tensor."""
    raw: Array = tensor.view(torch.int16).numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()
    return np.ndarray(raw.shape, NUMPY[tensor.dtype], buffer=raw)


def tensor(array: Array) -> torch.Tensor:
    """A tensor on the memory of an array; on a copy where that is not contiguous."""
    held = np.ascontiguousarray(array)
    if array.dtype == NUMPY[torch.bfloat16]:
        return torch.as_tensor(np.ndarray(held.shape, np.int16, buffer=held)).view(torch.bfloat16)
    return torch.as_tensor(held)
