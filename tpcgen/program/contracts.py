"""The conditions on the caller: resolved and classified by the indices that stand free in them."""

from __future__ import annotations

from dataclasses import dataclass

from tpcgen.diagnostics import Label
from tpcgen.program import affine, domains, ir
from tpcgen.program.dtypes import DType
from tpcgen.program.expressions import Expressions, finish
from tpcgen.program.scope import OpScope
from tpcgen.syntax import ast


@dataclass(frozen=True)
class _InputReader:
    scope: OpScope

    def read(self, e: ast.Subscript, indices: tuple[ir.Expr, ...]) -> ir.Expr | None:
        info = self.scope.tensors[e.tensor]
        if info.role is not ir.Role.INPUT:
            message = f"a contract is a condition on the caller, who does not know {e.tensor}"
            label = Label(info.span, f"{info.role.value} here")
            self.scope.found.error("E304", message, e.span, "it may read inputs only", (label,))
            return None
        if info.broken or info.dtype is None or len(indices) < info.rank:
            return None
        return ir.Read(e.tensor, indices, info.dtype, span=e.span)

    def has_written_dtype(self, read: ir.Read) -> bool:
        return True


def resolve_contracts(scope: OpScope) -> list[ir.Contract]:
    """The contracts of the op itself, those of applied ops not included."""
    contracts: list[ir.Contract] = []
    reader = _InputReader(scope)
    for node in scope.op.contracts:
        condition = Expressions(scope, "a contract", reader, bound=None).of_type(node, DType.BOOL, "a contract")
        if condition is None:
            continue
        contract = contract_of(finish(condition))
        if contract.indices and not contract.on_values:
            hint = "with an index it must read a tensor, whose axes say which values the index takes"
            scope.found.error("E305", f"the contract leaves {contract.indices[0]} open", node.span, hint)
        elif is_false(contract.condition):
            scope.found.error("E306", "the contract never holds", node.span)
        else:
            contracts.append(contract)
    return contracts


def contract_of(condition: ir.Expr) -> ir.Contract:
    """Free indices in the order in which they appear in the text."""
    free = ir.free_indices(condition)
    mentioned = dict.fromkeys(e.name for e in ir.walk(condition) if isinstance(e, ir.Index) and e.name in free)
    return ir.Contract(condition, tuple(mentioned), span=condition.span)


def is_true(condition: ir.Expr) -> bool:
    """Whether a condition without reads holds for all sizes."""
    return _never(condition, positive=False)


def is_false(condition: ir.Expr) -> bool:
    """Whether a condition without reads holds for no sizes."""
    return _never(condition, positive=True)


def _never(condition: ir.Expr, positive: bool) -> bool:
    if any(isinstance(e, ir.Read | ir.Reduce) for e in ir.walk(condition)):
        return False
    cases = domains.cases(condition, positive)
    return cases is not None and all(domains.contradicts(case, affine.Facts()) for case in cases)
