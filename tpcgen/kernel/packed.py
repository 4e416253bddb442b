"""What a member computes of each row's statistic alone, computed once for all rows.

A reduction across the lanes leaves the results of the rows in flight in one register (across.py). As long as all rows
go on with the same operations, these are done on that register, and only what each row needs by itself is spread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tpcgen.kernel.ir import Imm, Invoke, Kernel, Operand, Reg, Scalar, Statement, VectorOp, VType

_PICK = "pick_dual_group"
_BETWEEN = frozenset({_PICK, "shuffle", "mov"})
"""Operations that are no statistics: what spreads them."""

_ANY = Reg("any", VType.F32, 1, uniform=False)


@dataclass(frozen=True)
class _Place:
    """Where in a register that rows share one of them is: the number of the dual group, and what picks the group."""

    dual_group: int
    group: Operand | None


def statistics_packed(kernel: Kernel) -> Kernel:
    """The same kernel; statistics that nobody reads any more are still in it (unused.py)."""
    return replace(kernel, body=_Packing(kernel).block())


@dataclass
class _Packing:
    """`places`: the shared register of a row's, by its name, and the place there; `groups`: those of which a group was
    picked. `made`: what was done on shared registers, whatever its result is called, and that result; `picked`: groups
    of them. `steady`: registers with the same value in all lanes.
    """

    kernel: Kernel
    places: dict[str, tuple[Reg, _Place]] = field(default_factory=dict[str, tuple[Reg, _Place]])
    groups: dict[str, tuple[Reg, Operand]] = field(default_factory=dict[str, tuple[Reg, Operand]])
    picked: dict[tuple[str, Operand], Reg] = field(default_factory=dict[tuple[str, Operand], Reg])
    made: dict[VectorOp | Invoke, Reg] = field(default_factory=dict["VectorOp | Invoke", Reg])

    def __post_init__(self) -> None:
        statements = [*self.kernel.setup, *self.kernel.body]
        registers = [s.dest for s in statements if isinstance(s, VectorOp | Invoke)]
        written = [r.name for r in registers]
        self.steady = {r.name for r in registers if r.uniform and written.count(r.name) == 1}
        self.times = {name: written.count(name) for name in written}
        self.controls = {s.dest for s in self.kernel.setup if isinstance(s, VectorOp) and s.op == "group_control"}

    def block(self) -> tuple[Statement, ...]:
        result: list[Statement] = []
        for s in self.kernel.body:
            if isinstance(s, VectorOp) and s.op == _PICK:
                source, dual_group = s.args
                assert isinstance(source, Reg) and isinstance(dual_group, Imm)
                shared, group = self.groups.get(source.name, (source, None))
                self.places[s.dest.name] = (shared, _Place(int(dual_group.value), group))
                result.append(s)
            elif isinstance(s, VectorOp) and s.op == "shuffle" and s.args[1] in self.controls:
                source, group = s.args
                assert isinstance(source, Reg)
                self.groups[s.dest.name] = (source, group)
                result.append(s)
            elif isinstance(s, VectorOp | Invoke) and (at := self._place(s)) is not None:
                result += self._shared(s, *at)
            else:
                result.append(s)
        return tuple(result)

    def _place(self, s: VectorOp | Invoke) -> tuple[Mapping[str, Reg], _Place] | None:
        """The shared registers behind the operands of one row, and its place; None where it is no such operation."""
        operands: Sequence[Operand] = s.args if isinstance(s, VectorOp) else s.arguments
        if isinstance(s, VectorOp) and (s.op in _BETWEEN or s.pred is not None or not s.fresh):
            return None
        if s.dest.type is not VType.F32 or s.dest.parts != 1 or self.times[s.dest.name] != 1:
            return None
        found = {a.name: self.places[a.name] for a in operands if isinstance(a, Reg) and a.name in self.places}
        others = [a for a in operands if isinstance(a, Scalar) or (isinstance(a, Reg) and a.name not in found)]
        steady = all(isinstance(a, Reg) and a.name in self.steady for a in others)
        if len({at for _, at in found.values()}) != 1 or not steady:
            return None
        return {name: shared for name, (shared, _) in found.items()}, next(iter(found.values()))[1]

    def _shared(self, s: VectorOp | Invoke, shared: Mapping[str, Reg], at: _Place) -> list[Statement]:
        """The operation on the shared register, where no row before did it, and what spreads its result."""

        def now(o: Operand) -> Operand:
            return shared.get(o.name, o) if isinstance(o, Reg) else o

        dest = replace(s.dest, name=f"{s.dest.name}s", uniform=False)
        match s:
            case VectorOp():
                once: VectorOp | Invoke = replace(s, dest=dest, args=tuple(map(now, s.args)))
            case Invoke():
                once = replace(s, dest=dest, arguments=tuple(shared.get(a.name, a) for a in s.arguments))
        key = replace(once, dest=_ANY)
        known = key in self.made
        made = self.made.setdefault(key, dest)
        self.places[s.dest.name] = (made, at)
        return [*(() if known else (once,)), *self._spread(s.dest, made, at)]

    def _spread(self, dest: Reg, shared: Reg, at: _Place) -> Iterator[Statement]:
        if at.group is not None:
            key = (shared.name, at.group)
            if key not in self.picked:
                self.picked[key] = replace(shared, name=f"{shared.name}g{len(self.picked)}")
                yield VectorOp(self.picked[key], "shuffle", (shared, at.group))
            shared = self.picked[key]
        yield VectorOp(dest, _PICK, (shared, Imm(at.dual_group)))
