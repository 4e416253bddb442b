"""The glue library of an artifact as C++ text, from the kernels' own index spaces and access patterns.

A node's parameter struct holds the attributes of the kernel's program in order, 4 bytes each: int32 or float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tpcgen.diagnostics import file_label
from tpcgen.emit.cpptext import C_TYPE, expression, field
from tpcgen.emit.names import comment, plain
from tpcgen.emit.templates import render
from tpcgen.kernel.ir import AxisAccess, IndexDim, ScalarParam, TensorParam
from tpcgen.program import print as text
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Equation, Expr, Literal, Program, Size

MAX_TENSORS = 16
MAX_SCALARS = 32
MAX_AXES = 5

DEVICE_ID: Mapping[str, str] = {
    "gaudi": "DEVICE_ID_GAUDI",
    "gaudi2": "DEVICE_ID_GAUDI2",
    "gaudi3": "DEVICE_ID_GAUDI3",
}

_DATA_TYPE: Mapping[DType, str] = {
    DType.F32: "DATA_F32",
    DType.BF16: "DATA_BF16",
    DType.F16: "DATA_F16",
    DType.F8_143: "DATA_F8_143",
    DType.F8_152: "DATA_F8_152",
    DType.I32: "DATA_I32",
    DType.I16: "DATA_I16",
    DType.I8: "DATA_I8",
    DType.U8: "DATA_U8",
    DType.BOOL: "DATA_I8",
}

_SCALAR_AXIS = (AxisAccess(0, 0, 0, 0, all_required=True),)


@dataclass(frozen=True, slots=True)
class GlueKernel:
    """What the glue says of one kernel. `guid` is also the kernel's file and symbol name.

    `accesses` holds, for each of `tensors` (inputs, then outputs), one entry per dim in TPC order.
    """

    guid: str
    program: Program
    tensors: tuple[TensorParam, ...]
    scalars: tuple[ScalarParam, ...]
    index_space: tuple[IndexDim, ...]
    accesses: tuple[tuple[AxisAccess, ...], ...]

    def __post_init__(self) -> None:
        limits = (
            ("tensors", len(self.tensors), MAX_TENSORS),
            ("scalar parameters", len(self.scalars), MAX_SCALARS),
            ("index-space dims", len(self.index_space), MAX_AXES),
            *((f"axes of {t.name}", len(t.sizes), MAX_AXES) for t in self.tensors),
        )
        for what, count, limit in limits:
            if count > limit:
                raise ValueError(f"{self.guid}: {count} {what}, at most {limit} fit")


def files(
    name: str, target: str, source: str, kernels: Sequence[GlueKernel], version: str, lib_version: int
) -> dict[str, str]:
    """glue.cpp, its headers and CMakeLists.txt: file name to text. `lib_version` (64 bit) is GetLibVersion's answer."""
    values = {
        "name": plain(name),
        "target": target,
        "source": comment(source),
        "kernels": [_kernel(k) for k in kernels],
        "version": version,
        "lib_version": lib_version,
        "device": DEVICE_ID[target],
        "max_tensors": MAX_TENSORS,
    }
    return {
        "CMakeLists.txt": render("glue/CMakeLists.txt.j2", **values),
        "glue.cpp": render("glue/glue.cpp.j2", **values),
        "sizes.h": render("sizes.h.j2", **values),
        "support.h": render("glue/support.h.j2", **values),
    }


def _kernel(k: GlueKernel) -> dict[str, object]:
    program = k.program
    tensors = [
        {
            "name": plain(t.name),
            "type": _DATA_TYPE[t.dtype],
            "is_output": t.is_output,
            "sizes": [expression(e) for e in _sizes(t)],
            "accesses": accesses or _SCALAR_AXIS,
        }
        for t, accesses in zip(k.tensors, k.accesses, strict=True)
    ]
    return {
        "guid": plain(k.guid),
        "stem": plain(k.guid),
        "comments": [comment(line) for line in equations(program)],
        "inputs": [t for t in tensors if not t["is_output"]],
        "outputs": [t for t in tensors if t["is_output"]],
        "attributes": param_fields(program),
        "fields": value_fields(program),
        "bindings": [
            {"field": field(size), "tensor": tensor, "dim": dim, "what": comment(f"{size}: dim {dim} of {name}")}
            for size, tensor, dim, name in bindings(k)
        ],
        "size_checks": [
            {
                "tensor": tensor,
                "dim": dim,
                "value": expression(size),
                "what": comment(f"dim {dim} of {name} is {text.expression(size)}"),
            }
            for size, tensor, dim, name in size_checks(k)
        ],
        "contracts": [
            {"condition": expression(c.condition), "what": comment(text.expression(c.condition))}
            for c in program.contracts
            if not c.on_values and not c.indices
        ],
        "index_space": [expression(d.extent) for d in k.index_space],
        "scalars": [
            {
                "name": comment(f"{s.name} = {text.expression(s.value)}"),
                "bits": "int_bits" if s.type is DType.I32 else "float_bits",
                "value": expression(s.value, s.type),
            }
            for s in k.scalars
        ],
    }


def param_fields(program: Program) -> list[dict[str, str]]:
    """The members of a node's parameter struct, in order: name, type there, type among `Values`."""
    types = {DType.I32: ("int32_t", C_TYPE[DType.I32]), DType.F32: ("float", C_TYPE[DType.F32])}
    return [
        {"field": field(a.name), "type": types[a.type][0], "value_type": types[a.type][1]} for a in program.attributes
    ]


def value_fields(program: Program) -> list[dict[str, str]]:
    """The members of `Values`: sizes, then attributes."""
    sizes = [{"field": field(s), "type": C_TYPE[DType.I32]} for s in program.sizes]
    return sizes + [{"field": a["field"], "type": a["value_type"]} for a in param_fields(program)]


def _sizes(t: TensorParam) -> tuple[Expr, ...]:
    return t.sizes or (Literal(1, DType.I32),)


def equations(program: Program) -> Iterator[str]:
    """What a kernel computes, each equation with its spec line."""
    for statement in program.body:
        if isinstance(statement, Equation):
            place = f"{file_label(statement.span.file)}:{statement.span.line}  " if statement.span.line else ""
            yield f"{place}{text.equation(statement, program)}"


def bindings(k: GlueKernel) -> Iterator[tuple[str, int, int, str]]:
    """(size, input, dim, input's name) of the place that binds each size: the first dim with the bare name."""
    bound: set[str] = set()
    for position, tensor in enumerate(t for t in k.tensors if not t.is_output):
        for dim, size in enumerate(_sizes(tensor)):
            if isinstance(size, Size) and size.name not in bound:
                bound.add(size.name)
                yield size.name, position, dim, tensor.name


def size_checks(k: GlueKernel) -> Iterator[tuple[Expr, int, int, str]]:
    """(extent, input, dim, input's name) of every other dim of an input: it must agree with what the sizes say."""
    binding = {(position, dim) for _, position, dim, _ in bindings(k)}
    for position, tensor in enumerate(t for t in k.tensors if not t.is_output):
        for dim, size in enumerate(_sizes(tensor)):
            if (position, dim) not in binding:
                yield size, position, dim, tensor.name
