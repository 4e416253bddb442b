"""The blocks a kernel is written into, and what is already known in each of them.

Block 0 is the kernel's setup, 1 the body of a member, those beyond are loops, the innermost last. Names are unique here
(`hint#3`); names.py makes them readable.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tpcgen.kernel.ir import NARROWING, OPS, WIDENING, Operand, Reg, Statement, VectorOp, VType
from tpcgen.program.ir import Expr, free_indices

SEPARATOR = "#"


@dataclass(frozen=True, slots=True)
class Bound:
    """The value of an index: an integer expression of kernel variables, known from block `level` on."""

    value: Expr
    level: int


Env = Mapping[str, Bound]
"""A point: its indices by name. The lane index stands for the first element of a vector."""


@dataclass
class _Block:
    statements: list[Statement] = field(default_factory=list[Statement])
    known: dict[tuple[object, ...], Operand] = field(default_factory=dict[tuple[object, ...], Operand])


class Scopes:
    def __init__(self) -> None:
        self._blocks = [_Block(), _Block()]
        self._names = 0
        self._free: dict[int, tuple[Expr, tuple[str, ...]]] = {}

    @property
    def level(self) -> int:
        """Of the innermost open block."""
        return len(self._blocks) - 1

    def statements(self, level: int) -> tuple[Statement, ...]:
        return tuple(self._blocks[level].statements)

    def open(self) -> int:
        """A new innermost block; its level."""
        self._blocks.append(_Block())
        return self.level

    def close(self) -> tuple[Statement, ...]:
        """What the innermost block holds."""
        return tuple(self._blocks.pop().statements)

    @contextmanager
    def outside(self, level: int) -> Generator[None]:
        """Blocks beyond `level` are set aside: loops can be put there, in front of what is being written."""
        inner = self._blocks[level + 1 :]
        del self._blocks[level + 1 :]
        yield
        self._blocks += inner

    def unique(self, hint: str) -> str:
        self._names += 1
        return f"{hint}{SEPARATOR}{self._names}"

    def register(self, hint: str, type: VType, parts: int, *, uniform: bool = False) -> Reg:
        return Reg(self.unique(hint), type, parts, uniform)

    def append(self, level: int, statement: Statement) -> None:
        self._blocks[level].statements.append(statement)

    def prepend(self, level: int, statement: Statement) -> None:
        self._blocks[level].statements.insert(0, statement)

    def emit(self, level: int, op: str, args: Sequence[Operand], hint: str = "t") -> Reg:
        """One operation; registers it reads live in that block or further out."""
        registers = [a for a in args if isinstance(a, Reg)]
        wide = op in WIDENING or (op not in ("part1", "part2", *NARROWING) and any(a.parts == 2 for a in registers))
        dest = self.register(hint, OPS[op].result, 2 if wide else 1, uniform=all(a.uniform for a in registers))
        self.append(level, VectorOp(dest, op, tuple(args)))
        return dest

    def update(self, level: int, dest: Reg, op: str, args: Sequence[Operand], pred: Reg | None = None) -> None:
        self.append(level, VectorOp(dest, op, tuple(args), pred, fresh=False))

    def recall(self, level: int, key: tuple[object, ...], make: Callable[[], Operand]) -> Operand:
        """What the block knows by `key`, made first where it does not."""
        known = self._blocks[level].known
        if key not in known:
            known[key] = make()
        return known[key]

    def knows(self, level: int, key: tuple[object, ...]) -> bool:
        return key in self._blocks[level].known

    def learn(self, level: int, key: tuple[object, ...], operand: Operand) -> None:
        self._blocks[level].known[key] = operand

    def free(self, e: Expr) -> tuple[str, ...]:
        """Free indices in order; remembered, as every use of an expression asks for them."""
        found = self._free.get(id(e))
        if found is None:
            found = self._free[id(e)] = (e, tuple(sorted(free_indices(e))))
        return found[1]

    def level_of(self, e: Expr, env: Env) -> int:
        """The outermost block where all indices of the expression are known."""
        return max((env[i].level for i in self.free(e) if i in env), default=0)

    def point(self, e: Expr, env: Env) -> tuple[tuple[str, Expr], ...]:
        """What tells two uses of an expression apart."""
        return tuple((i, env[i].value) for i in self.free(e))
