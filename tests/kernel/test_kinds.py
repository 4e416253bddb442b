"""Every kind of stage on the strict host device against NumPy, at odd sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.kernel.cases import CASES, Case
from tests.kernel.device import compile_kernels, run
from tests.kernel.stages import stage_of
from tpcgen.host.api import HostLibrary, Session
from tpcgen.kernel.ir import Kernel
from tpcgen.kernel.lower import lower
from tpcgen.program.dtypes import DType
from tpcgen.program.sizes import evaluate


@pytest.fixture(scope="module")
def kernels() -> dict[str, Kernel]:
    return {c.name: lower(stage_of(c.text, c.lane), target="gaudi2", name=c.name) for c in CASES}


@pytest.fixture(scope="module")
def library(kernels: dict[str, Kernel], tmp_path_factory: pytest.TempPathFactory) -> HostLibrary:
    return compile_kernels(list(kernels.values()), "gaudi2", tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session() as s:
        yield s


def draw(case: Case, kernel: Kernel, values: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(len(case.name))
    result: dict[str, np.ndarray[Any, Any]] = {}
    for t in kernel.tensors:
        if t.is_output:
            continue
        shape = tuple(int(evaluate(s, values)) for s in reversed(t.sizes))
        if t.name in case.integers:
            result[t.name] = rng.integers(0, values["N"] + 1, shape).astype(np.int32)
        elif t.name in case.positive:
            result[t.name] = rng.uniform(0.1, 2, shape).astype(np.float32)
        else:
            result[t.name] = rng.normal(size=shape).astype(ml_dtypes.bfloat16 if t.dtype is DType.BF16 else np.float32)
    return result


@pytest.mark.parametrize(("name", "position"), [(c.name, n) for c in CASES for n in range(len(c.sizes))])
def test_against_numpy(
    name: str, position: int, kernels: dict[str, Kernel], library: HostLibrary, session: Session
) -> None:
    (case,) = (c for c in CASES if c.name == name)
    kernel, values = kernels[name], case.sizes[position]
    inputs = draw(case, kernel, values)
    outputs, _ = run(session, library, kernel, inputs, values)
    exact = {n: a if a.dtype == np.int32 else a.astype(np.float64) for n, a in inputs.items()}
    for output, truth in case.truth(exact, values).items():
        largest = np.abs(truth).max()
        step = 2.0**-8 if kernel.tensor(output).dtype is DType.BF16 else 2.0**-20
        assert outputs[output].shape == truth.shape
        np.testing.assert_allclose(outputs[output], truth, rtol=0, atol=step * max(largest, 1e-30))
