"""Gradients by source transformation: an op -> the op that computes its vector-Jacobian product.

program_of_window_vjp = vjp(program_of_window, ("Q", "K", "V"))
"""

from __future__ import annotations

from tpcgen.rewrite.vjp.gradient import differentiable_inputs, vjp

__all__ = ["differentiable_inputs", "vjp"]
