"""The names of one op: one namespace of sizes, attributes, lets, params, tensors and indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from tpcgen.diagnostics import Diagnostics, Label, Span
from tpcgen.program import ir
from tpcgen.program.astwalk import walk
from tpcgen.program.dtypes import DType
from tpcgen.program.files import DTYPES, FileScope
from tpcgen.program.hints import did_you_mean
from tpcgen.program.places import Places
from tpcgen.syntax import ast

_FOREIGN = (
    {
        other: f"write {ours}"
        for ours, others in {
            "f32": "float float32 fp32 single",
            "f16": "half float16 fp16",
            "bf16": "bfloat16 bfloat",
            "f8_143": "fp8 f8 float8 e4m3 fp8_143 float8_e4m3 float8_e4m3fn",
            "f8_152": "e5m2 bf8 fp8_152 float8_e5m2",
            "i32": "int int32",
            "i16": "int16 short",
            "i8": "int8 char",
            "u8": "uint8 byte",
            "bool": "boolean",
        }.items()
        for other in others.split()
    }
    | dict.fromkeys(("f64", "float64", "double", "fp64"), "TPC has no f64: write f32")
    | dict.fromkeys(("i64", "int64", "long"), "index arithmetic is i32: write i32")
)
"""What other systems call our dtypes."""


class Kind(Enum):
    SIZE = "size"
    ATTRIBUTE = "attribute"
    LET = "let"
    PARAM = "param"
    TENSOR = "tensor"
    INDEX = "index"


@dataclass(frozen=True)
class Declared:
    kind: Kind
    span: Span


Position = tuple[int, int]
"""Statement of the op, statement within the scan (-1 outside one)."""


@dataclass
class TensorInfo:
    """What is known of a tensor while the op is being resolved.

    An extent is None until the ranges of its indices are known, `dtype` until its value's type is.
    `last` is the position of its last equation; a tensor is readable at later positions only. `definition` is its first
    equation, state or application. `scan` is the position of the scan it is written in, `scan_axis` the axis of the
    scan's index there; a tensor without one lives one step.
    """

    name: str
    role: ir.Role
    span: Span
    rank: int
    shape: tuple[ir.Expr | None, ...]
    dtype: DType | None = None
    annotated: bool = False
    definition: ast.Node | None = None
    first: Position = (-1, -1)
    last: Position = (-1, -1)
    scan: int | None = None
    scan_axis: int | None = None
    broken: bool = False

    @property
    def temporary(self) -> bool:
        """Lives one step of a scan."""
        return self.scan is not None and self.scan_axis is None and self.role is ir.Role.INTERMEDIATE


@dataclass
class OpScope:
    """Everything the passes over one op share: what is declared, what is known of it, where to report."""

    op: ast.Op
    file: FileScope
    dtypes: Mapping[str, DType]
    all_params: Mapping[str, Mapping[str, ir.Literal | None]]
    found: Diagnostics
    places: Places
    names: dict[str, Declared] = field(default_factory=dict[str, Declared])
    sizes: dict[str, Span] = field(default_factory=dict[str, Span])
    attributes: dict[str, ir.Attribute] = field(default_factory=dict[str, ir.Attribute])
    lets: dict[str, ir.Expr | None] = field(default_factory=dict[str, "ir.Expr | None"])
    tensors: dict[str, TensorInfo] = field(default_factory=dict[str, TensorInfo])
    inlined_calls: int = 0
    ranges: dict[str, ir.IndexRange | None] = field(default_factory=dict[str, "ir.IndexRange | None"])

    def declare(self, name: str, kind: Kind, span: Span) -> bool:
        """False, with an error, when the name is taken."""
        known = self.names.get(name)
        if known is None:
            self.names[name] = Declared(kind, span)
            return True
        message = f"{name} is both {article(known.kind)} and {article(kind)}"
        if known.kind is kind:
            message = f"the {kind.value} {name} is defined twice"
        hint = "sizes, attributes, lets, params, tensors and indices of an op share one namespace: rename one"
        self.found.error("E202", message, span, hint, (Label(known.span, f"{known.kind.value} here"),))
        return False

    @property
    def params(self) -> Mapping[str, ir.Literal | None]:
        """The params of the op's file, None where the value is wrong. `all_params` has those of every file, by path."""
        return self.all_params[self.file.file.path]

    def kind_of(self, name: str) -> Kind | None:
        declared = self.names.get(name)
        return declared.kind if declared is not None else None

    def dtype(self, name: str, span: Span) -> DType | None:
        """The dtype a name stands for, dtype variables chosen; None with an error."""
        if name in self.dtypes:
            return self.dtypes[name]
        if name in DTYPES:
            return DTYPES[name]
        known = [*DTYPES, *self.dtypes]
        hint = _FOREIGN.get(name.lower()) or did_you_mean(name, known) or f"dtypes are {', '.join(known)}"
        self.found.error("E205", f"{name} is not a dtype", self.places.word(span, name, after=":"), hint)
        return None

    def defined_at(self, info: TensorInfo) -> Span:
        """The name on the left side of a tensor's first equation; for an input, its declaration."""
        return self.places.word(info.definition.span, info.name) if info.definition is not None else info.span

    def named(self, *kinds: Kind) -> list[str]:
        return [name for name, declared in self.names.items() if declared.kind in kinds]


def index_mentions(op: ast.Op) -> Iterator[tuple[str, ast.Node, int]]:
    """Names that stand where only an index can: left sides, reductions, declarations, scans.

    Yields the name, the node it stands in, and how often the name was there before within the node's brackets.
    """
    for node in walk(op):
        match node:
            case ast.Equation() | ast.Update() | ast.State() | ast.Reduce():
                for i, name in enumerate(node.indices):
                    yield name, node, node.indices[:i].count(name)
            case ast.IndexDeclaration():
                yield node.name, node, 0
            case ast.Scan():
                yield node.index, node, 0
            case _:
                pass


def index_place(places: Places, name: str, node: ast.Node, nth: int = 0) -> Span:
    """The exact place of what `index_mentions` yields."""
    bracketed = isinstance(node, ast.Equation | ast.Update | ast.State | ast.Reduce)
    return places.word(node.span, name, after="[" if bracketed else "", nth=nth)


def article(kind: Kind) -> str:
    return ("an " if kind.value[0] in "ai" else "a ") + kind.value
