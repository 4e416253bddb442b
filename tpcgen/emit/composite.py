"""A plan as the text of one Python function of torch tensors: moves, batched matmuls and calls of the TPC custom ops.

The same text runs on every device. A buffer is a contiguous torch tensor in its memory order, so a buffer whose order
is not the program's has permuted axes here.

A gradient's function is told by `output_mask`, as PyTorch's own backward ops are, which of its outputs are wanted:
stages of the others alone do not run, and an output that is not wanted is returned without elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

from tpcgen.diagnostics import file_label
from tpcgen.emit.copytext import copy_lines
from tpcgen.emit.pytext import TORCH_DTYPE, expression, identifier
from tpcgen.partition.plan import Buffer, CopyStage, MmeStage, MoveStage, Operand, Plan, Stage, TpcStage
from tpcgen.partition.price import touched, written
from tpcgen.program import print as text
from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Binary, Expr, Program, Size, type_of

_INDENT = "    "
Factors = tuple[str, ...]


MASK = "output_mask"
MASK_PARAMETER = f"{MASK}: Optional[Sequence[bool]] = None"
"""None where every output is wanted."""


def function(plan: Plan, name: str, stage_op: Callable[[TpcStage], str], *, masked: bool = False) -> str:
    """Text of `def name(inputs..., attributes...)` returning the op's outputs (a tuple when there are several).

    `stage_op` names the callable of a TPC stage. `masked`: with MASK_PARAMETER after the attributes. The text needs
    `torch`, `math`, `mme_matmul`, and with a mask `Optional` and `Sequence` in scope.
    """
    outputs = [t.name for t in plan.program.outputs]
    own = parameters(plan.program) + ([MASK_PARAMETER] if masked else [])
    lines = [f"def {name}({', '.join(own)}) -> {result_type(plan.program)}:"]
    lines += [_INDENT + line for line in size_lines(plan.program)]
    if masked:
        lines += [f"{_INDENT}# of {', '.join(outputs)}", f"{_INDENT}{MASK} = {MASK} or [True] * {len(outputs)}"]
    before = frozenset(range(len(outputs)))
    for stage, wanted in zip(plan.stages, _served(plan), strict=True):
        guarded = masked and len(wanted) < len(outputs)
        if guarded and wanted != before:
            lines.append(f"{_INDENT}if {' or '.join(f'{MASK}[{n}]' for n in sorted(wanted))}:")
        before = wanted
        lines += [_INDENT * (2 if guarded else 1) + line for line in _stage_lines(plan, stage, stage_op)]
    made = [identifier(name) for name in outputs]
    if masked:
        first = identifier(plan.program.inputs[0].name)
        made = [f"{one} if {MASK}[{n}] else {first}.new_empty(0)" for n, one in enumerate(made)]
    lines.append(f"{_INDENT}return {', '.join(made)}")
    return "\n".join(lines) + "\n"


def _served(plan: Plan) -> list[frozenset[int]]:
    """Per stage, the outputs of the plan that need it."""
    needed: dict[str, frozenset[int]] = {t.name: frozenset([n]) for n, t in enumerate(plan.program.outputs)}
    served: list[frozenset[int]] = []
    for stage in reversed(plan.stages):
        made = written(stage)
        served.append(frozenset[int]().union(*(needed.get(name, frozenset[int]()) for name in made)))
        for name in touched(stage):
            needed[name] = needed.get(name, frozenset[int]()) | served[-1]
    return served[::-1]


def size_sources(program: Program) -> Iterator[tuple[str, str, int]]:
    """(size, tensor, axis) for each size: the first input axis whose extent is the bare name."""
    for size in program.sizes:
        yield next((size, t.name, a) for t in program.inputs for a, e in enumerate(t.shape) if e == Size(size))


def stage_arguments(stage: TpcStage) -> list[str]:
    """Arguments of a TPC stage's op: its input buffers, then its attributes, as Python text."""
    tensors = [identifier(t.name) for t in stage.program.inputs]
    return tensors + [identifier(a.name) for a in stage.program.attributes]


def parameters(program: Program) -> list[str]:
    """Python parameters of the op: its inputs, then its attributes."""
    tensors = [f"{identifier(t.name)}: torch.Tensor" for t in program.inputs]
    return tensors + [f"{identifier(a.name)}: {'int' if a.type is DType.I32 else 'float'}" for a in program.attributes]


def result_type(program: Program) -> str:
    """Return annotation: a tensor, or a tuple where there are several outputs."""
    outputs = ["torch.Tensor"] * len(program.outputs)
    return outputs[0] if len(outputs) == 1 else f"tuple[{', '.join(outputs)}]"


def size_lines(program: Program) -> Iterator[str]:
    """Python statements that bind the sizes of a program from the shapes of its inputs."""
    for size, tensor, axis in size_sources(program):
        yield f"{identifier(size)} = {identifier(tensor)}.shape[{axis}]"


def _stage_lines(plan: Plan, stage: Stage, stage_op: Callable[[TpcStage], str]) -> list[str]:
    match stage:
        case MmeStage():
            return [*_comments(stage.program), *_matmul(plan, stage)]
        case TpcStage():
            outputs = ", ".join(identifier(t.name) for t in stage.program.outputs)
            call = f"{stage_op(stage)}({', '.join(stage_arguments(stage))})"
            return [*_comments(stage.program), f"{outputs} = {call}"]
        case MoveStage():
            source, target = plan.buffer(stage.source), plan.buffer(stage.target)
            axes = [source.order.index(axis) for axis in target.order]
            return [f"{identifier(target.name)} = {_permute(identifier(source.name), axes)}.contiguous()"]
        case CopyStage():
            return [*_comments(stage.program), *copy_lines(plan, stage)]


def _comments(program: Program) -> Iterator[str]:
    for statement in program.body:
        place = f"{file_label(statement.span.file)}:{statement.span.line}  " if statement.span.line else ""
        first, *others = text.statement(statement, program).splitlines()
        yield f"# {place}{first}"
        yield from (f"# {line}" for line in others)


def _matmul(plan: Plan, stage: MmeStage) -> list[str]:
    extent = {f.name: f.extent for f in stage.factors}
    out = plan.buffer(stage.out.buffer)
    out_order = _memory_factors(stage.out, out)
    swapped = out_order == [*stage.batch, *stage.n, *stage.m] and out_order != [*stage.batch, *stage.m, *stage.n]
    m, n, lhs, rhs = (stage.n, stage.m, stage.rhs, stage.lhs) if swapped else (stage.m, stage.n, stage.lhs, stage.rhs)

    operands = [_memory_factors(o, plan.buffer(o.buffer)) for o in (lhs, rhs)]
    merged = all(f in have for have in operands for f in stage.batch)

    def matrix(operand: Operand, rows: tuple[str, ...], columns: tuple[str, ...]) -> str:
        have = _memory_factors(operand, plan.buffer(operand.buffer))
        view = _View(identifier(operand.buffer), have, extent)
        return view.merged(stage.batch, rows, columns) if merged else view.broadcast(stage.batch, rows, columns)

    product = [
        f"{identifier(out.name)} = mme_matmul(",
        f"{_INDENT}{matrix(lhs, m, stage.k)},",
        f"{_INDENT}{matrix(rhs, stage.k, n)},",
        f"{_INDENT}{TORCH_DTYPE[out.dtype]},",
    ]
    shape = [text_of(out.shape[axis]) for axis in out.order]
    wanted = [*stage.batch, *m, *n]
    if out_order == wanted:
        return [*product, f").reshape({', '.join(shape)})"]
    axes = [wanted.index(f) for f in out_order]
    factors = f").reshape({', '.join(text_of(extent[f]) for f in wanted)})"
    return [*product, f"{_permute(factors, axes)}.reshape({', '.join(shape)})"]


def _memory_factors(operand: Operand, buffer: Buffer) -> list[str]:
    return [f for axis in buffer.order for f in operand.axes[axis]]


@dataclass(frozen=True, slots=True)
class _View:
    """A buffer whose memory order is that of the factors `have`, as a matrix: a view where it can be."""

    name: str
    have: list[str]
    extent: dict[str, Expr]

    def merged(self, batch: Factors, rows: Factors, columns: Factors) -> str:
        """(batch, rows, columns), every group one axis."""
        if self.have == [*batch, *rows, *columns]:
            return self._reshape(self.name, [self._product(g) for g in (batch, rows, columns)])
        if self.have == [*batch, *columns, *rows]:
            return self._reshape(self.name, [self._product(g) for g in (batch, columns, rows)]) + ".transpose(1, 2)"
        return self._reshape(self._split(batch, rows, columns), [self._product(g) for g in (batch, rows, columns)])

    def broadcast(self, batch: Factors, rows: Factors, columns: Factors) -> str:
        """(batch..., rows, columns), one axis per batch factor, of extent 1 where the buffer lacks it."""
        own = tuple(f for f in batch if f in self.have)
        axes = [text_of(self.extent[f]) if f in own else "1" for f in batch]
        return self._reshape(self._split(own, rows, columns), [*axes, self._product(rows), self._product(columns)])

    def _split(self, *groups: Factors) -> str:
        axes = [self.have.index(f) for group in groups for f in group]
        if axes == sorted(axes):
            return self.name
        return _permute(self._reshape(self.name, [text_of(self.extent[f]) for f in self.have]), axes)

    def _reshape(self, tensor: str, shape: list[str]) -> str:
        return f"{tensor}.reshape({', '.join(shape)})"

    def _product(self, group: Factors) -> str:
        extents = [self.extent[f] for f in group]
        return text_of(reduce(lambda a, b: Binary("*", a, b), extents)) if extents else "1"


def _permute(name: str, axes: list[int]) -> str:
    return name if axes == sorted(axes) else f"{name}.permute({', '.join(map(str, axes))})"


def tuple_text(items: Iterable[str]) -> str:
    """`(a, b)`, `(a,)`, `()`."""
    held = list(items)
    return f"({held[0]},)" if len(held) == 1 else f"({', '.join(held)})"


def text_of(e: Expr) -> str:
    """Python text of an extent. ValueError when it is not an integer."""
    if type_of(e) is not DType.I32:
        raise ValueError(f"not an extent: {e}")
    return expression(e)
