"""A plan: which engine computes what, over which buffers, in which order.

Every stage holds the piece of the tensor program it computes as a program of its own (`program`), so that any stage can
be checked against the interpreter alone. Buffers are logical tensors of the program or values between stages; `order`
is a buffer's layout in memory.

What a stage's program looks like, so that lowering and emission can rely on it:

* TPC stages declare every tensor in MEMORY order: the last axis is the FCD, whatever `Buffer.order` says. A stage is
  lowered from its program alone; buffers of a plan are contiguous tensors in memory order for everybody.
* A TPC stage has inputs and outputs only (no intermediates): whatever lies between them is inlined, shared parts appear
  as equal subexpressions. One equation per output; outputs share their row indices (the indices of an output that no
  reduction in its value binds). Causal attention, f32 scores, softmax along lanes (`lane` "k"):

      op softmax(S_dot: f32[B, H, M, N], D: int) -> P_r: bf16[B, H, M, N] where M <= N
          P_r[b,h,q,k] = softmax[k where k <= q + N - M](rsqrt(D) * S_dot[b,h,q,k])

  and along queries (`lane` "q"), where S_dot and P_r are stored [B, H, N, M]:

      op softmax(S_dot: f32[B, H, N, M], D: int) -> P_r: bf16[B, H, N, M] where M <= N
          P_r[b,h,k,q] = softmax[k where k <= q + N - M](rsqrt(D) * S_dot[b,h,k,q])

  With f32 operands the output is P: f32. `slope[h]`, `snk[h]` are further inputs; a tensor without the lane is
  broadcast along it. An output stores 0 where its equation is absent: outside a softmax's domain, for example.
* Every tensor of a stage that has the lane among its indices has it as its FCD.
* A TPC stage may hold one scan instead of equations; the tensors that outlive it are its outputs, states and the
  temporaries of a step stay in the kernel:

      op scan_s_in(G: f32[B, H, Nc], U: f32[B, H, Nc, D, E]) -> S_in: f32[B, H, Nc, D, E]
          scan n in 0 .. Nc {
              state S[b,h,d,e]: f32 = 0
              S_in[b,h,n,d,e] = S[b,h,d,e]
              S[b,h,d,e] := G[b,h,n] * S[b,h,d,e] + U[b,h,n,d,e]
          }

* MME and copy stages keep program order; layouts come from the buffers. An MME stage's program is one equation
  `out[..] = sum[..](lhs[..] * rhs[..])` without a domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from tpcgen.program.dtypes import DType
from tpcgen.program.ir import Expr, Program, Role
from tpcgen.rewrite.copies import Copy


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor in global memory.

    `shape` is in the axis order of the program. `order` lists those axes from slowest to fastest in memory:
    `order[-1]` is the FCD (dim 0 of the TPC); (0, 1, .., n-1) is torch's contiguous layout. Inputs and outputs of the
    op always have that one.
    """

    name: str
    shape: tuple[Expr, ...]
    dtype: DType
    order: tuple[int, ...]
    role: Role


@dataclass(frozen=True, slots=True)
class Factor:
    """One loop of a matrix multiply: a whole axis of an operand or a part of one (h = g * R + r has factors g, r)."""

    name: str
    extent: Expr


@dataclass(frozen=True, slots=True)
class Operand:
    """A buffer seen by the MME. `axes` has, per axis of the buffer, the factors it is made of, outer to inner.

    An operand that lacks a batch factor is broadcast along it (grouped queries whose group cannot join the rows).
    """

    buffer: str
    axes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class MmeStage:
    """out[batch, m, n] = sum[k] lhs[batch, m, k] * rhs[batch, k, n], accumulated in f32, one batched matmul.

    `batch`, `m`, `n`, `k` are factor names, outer to inner. The out buffer's memory is exactly (batch, m, n); each
    operand's is its batch factors, then m and k (n and k) in either order, each of them one run: all views. Operands
    are read at their buffers' dtypes; the result has the dtype of the out buffer. `m` or `n` may be empty (one row, one
    column).
    """

    name: str
    program: Program
    factors: tuple[Factor, ...]
    batch: tuple[str, ...]
    m: tuple[str, ...]
    n: tuple[str, ...]
    k: tuple[str, ...]
    lhs: Operand
    rhs: Operand
    out: Operand


@dataclass(frozen=True, slots=True)
class TpcStage:
    """One TPC kernel. Tensors of `program` carry the names of the buffers; `lane` is the index along vector lanes.

    Tensors are declared in memory order (module docstring). Sizes that no input of the stage binds by a bare name are
    attributes of `program` and become scalar parameters.

    `tile`: of attention that one kernel computes, how many keys it takes at a time; 0 for any other stage.
    """

    name: str
    program: Program
    lane: str
    tile: int = 0


@dataclass(frozen=True, slots=True)
class MoveStage:
    """Copies `source` to `target`: same logical shape, another memory order. A torch op on HPU."""

    name: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class CopyStage:
    """Brings elements to other places without computing: blocks, windows, slices, parts side by side (copies.py).

    `copy` says how in terms of the buffers; `program` is the same as equations. A torch op on HPU.
    """

    name: str
    program: Program
    copy: Copy


Stage = Union[MmeStage, TpcStage, MoveStage, CopyStage]


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in execution order. `label` names the alternative ("softmax along k", ...), for reports.

    `notes`: where the plan keeps less than the language promises, one sentence each. `pins`: entries of a `schedule`
    block that keep exactly this plan.
    """

    program: Program
    target: str
    label: str
    buffers: tuple[Buffer, ...]
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()

    def buffer(self, name: str) -> Buffer:
        """KeyError when there is none of that name."""
        for buffer in self.buffers:
            if buffer.name == name:
                return buffer
        raise KeyError(name)
