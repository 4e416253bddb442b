"""Element types: what a tensor may hold."""

from __future__ import annotations

from enum import Enum

import ml_dtypes
import numpy as np


class DType(Enum):
    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"
    F8_143 = "f8_143"
    F8_152 = "f8_152"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    BOOL = "bool"

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return not self.is_float and self is not DType.BOOL

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @property
    def numpy(self) -> np.dtype:
        return _NUMPY[self]

    def __str__(self) -> str:
        return self.value


_FLOATS = frozenset({DType.F32, DType.BF16, DType.F16, DType.F8_143, DType.F8_152})

# fp8 1-4-3 on Gaudi is the e4m3 form with inf (ml_dtypes.float8_e4m3), 1-5-2 is IEEE e5m2.
_NUMPY = {
    DType.F32: np.dtype(np.float32),
    DType.BF16: np.dtype(ml_dtypes.bfloat16),
    DType.F16: np.dtype(np.float16),
    DType.F8_143: np.dtype(ml_dtypes.float8_e4m3),
    DType.F8_152: np.dtype(ml_dtypes.float8_e5m2),
    DType.I32: np.dtype(np.int32),
    DType.I16: np.dtype(np.int16),
    DType.I8: np.dtype(np.int8),
    DType.U8: np.dtype(np.uint8),
    DType.BOOL: np.dtype(np.bool_),
}
