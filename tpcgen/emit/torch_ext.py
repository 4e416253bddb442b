"""The HPU side of an artifact's torch ops: one C++ file for Habana's custom op API, and the setup.py that builds it.

Sizes and attributes are worked out by the glue's own formulas; the parameter struct is the glue's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tpcgen.emit.cpptext import expression, field
from tpcgen.emit.glue import GlueKernel, bindings, equations, param_fields, size_checks, value_fields
from tpcgen.emit.names import comment, plain
from tpcgen.emit.templates import render
from tpcgen.kernel.ir import TensorParam
from tpcgen.program.dtypes import DType

# hpu_backend keeps a custom op in its graph only in this namespace; from another one it falls back to eager
# (gaudi-pytorch-bridge 1.19, dynamo/compile_backend/shared_layer.py).
NAMESPACE = "custom_op"

_SCALAR_TYPE: Mapping[DType, str] = {
    DType.F32: "at::kFloat",
    DType.BF16: "at::kBFloat16",
    DType.F16: "at::kHalf",
    DType.F8_143: "at::kFloat8_e4m3fn",
    DType.F8_152: "at::kFloat8_e5m2",
    DType.I32: "at::kInt",
    DType.I16: "at::kShort",
    DType.I8: "at::kChar",
    DType.U8: "at::kByte",
    DType.BOOL: "at::kBool",
}
# C++ types of a schema's int and float.
_ARGUMENT = {"int32_t": "int64_t", "float": "double"}
_READ = {"int32_t": "int_attribute", "float": "float_attribute"}


def files(name: str, source: str, kernels: Sequence[GlueKernel], version: str) -> dict[str, str]:
    """Text of the files of `torch_ext/`, by name. `name` is that of the library, `source` the spec's file name."""
    values = {
        "name": plain(name),
        "source": comment(source),
        "version": version,
        "namespace": NAMESPACE,
        "kernels": [_kernel(k) for k in kernels],
    }
    return {
        f"{plain(name)}_hpu.cpp": render("torch_ext/ops.cpp.j2", **values),
        "sizes.h": render("sizes.h.j2", version=version),
        "setup.py": render("torch_ext/setup.py.j2", **values),
        "MANIFEST.in": "include sizes.h\n",
    }


def _kernel(k: GlueKernel) -> dict[str, object]:
    inputs = [t for t in k.tensors if not t.is_output]
    outputs = [t for t in k.tensors if t.is_output]
    attributes = [
        {**a, "position": len(inputs) + i, "read": _READ[a["type"]]} for i, a in enumerate(param_fields(k.program))
    ]
    results = ["at::Tensor"] * len(outputs)
    return {
        "guid": plain(k.guid),
        "op": f"{NAMESPACE}::{plain(k.guid)}",
        "comments": [comment(line) for line in equations(k.program)],
        "fields": value_fields(k.program),
        "attributes": attributes,
        "inputs": [_tensor(t) for t in inputs],
        "outputs": [_tensor(t) for t in outputs],
        "bindings": [
            {
                "field": field(size),
                "tensor": at,
                "axis": -1 - dim,
                "what": comment(f"{size}: axis {-1 - dim} of {name}"),
            }
            for size, at, dim, name in bindings(k)
        ],
        "size_checks": [
            {"tensor": at, "axis": -1 - dim, "value": expression(size), "what": f"axis {-1 - dim} of {plain(name)}"}
            for size, at, dim, name in size_checks(k)
        ],
        "parameters": [f"const at::Tensor& {_variable(t)}" for t in inputs]
        + [f"{_ARGUMENT[a['type']]} {a['field']}" for a in param_fields(k.program)],
        "result": results[0] if len(results) == 1 else f"std::tuple<{', '.join(results)}>",
    }


def _tensor(t: TensorParam) -> dict[str, object]:
    """Axes in torch's order, the reverse of TPC's."""
    return {
        "name": plain(t.name),
        "field": _variable(t),
        "type": _SCALAR_TYPE[t.dtype],
        "dims": len(t.sizes),
        "sizes": [f"size_of({expression(e)})" for e in reversed(t.sizes)],
    }


def _variable(t: TensorParam) -> str:
    return f"t_{plain(t.name)}"
