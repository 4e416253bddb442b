"""Operators of a spec as an attention implementation of Hugging Face's transformers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from tpcgen.compiler import Values, wanted_ops
from tpcgen.diagnostics import NOWHERE, Diagnostic, DiagnosticError
from tpcgen.emit.pytext import identifier
from tpcgen.program import load as load_module
from tpcgen.torch.attention_forms import PADDING, Form, Wanted, choose, forms
from tpcgen.torch.attention_masks import Visible, read, visible_mask
from tpcgen.torch.load import load, names

__all__ = ["register_attention"]

Function = Callable[..., torch.Tensor]

_NO_WINDOW = 1 << 30
"""No sequence fills it, and an index plus it fits in i32."""
_DTYPES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
_HARMLESS = frozenset(
    {"cache_position", "logits_to_keep", "output_hidden_states", "position_ids", "return_dict", "use_cache"}
)
"""Keywords of layers that change nothing about the attention."""


def register_attention(
    name: str,
    path: str | os.PathLike[str],
    *,
    ops: str | Sequence[str] = (),
    target: str = "gaudi2",
    binds: Values | Sequence[Values] = (),
    defines: Values | None = None,
    prefix: str = "tpcgen",
) -> str:
    """Register the ops of a spec with transformers; returns the name for `attn_implementation`, "tpcgen:NAME".

    Each layer gets the op that has what it asks for and least else (`attention_forms` says by which names), among
    `ops` where any are given. An op is compiled for the model's dtype when a layer first needs it, with its gradient
    when a layer in training mode first does; in eval mode when a backward first goes through it, and that backward
    computes the forward again. The other options are those of `tpcgen.load`.

    Raises DiagnosticError for a spec that does not compile, E531 where none of its ops is such an attention.
    """
    registered = f"tpcgen:{name}"
    module = load_module(Path(path), params=defines or {})
    wanted = wanted_ops(module, names(ops))
    known, reasons = forms(module, wanted)
    if not known:
        raise DiagnosticError((Diagnostic("E531", f"{path} has no op for a layer", NOWHERE, "; ".join(reasons)),))

    def compiled(op: str, dtype: str, trained: bool) -> Function:
        choices = {c for own in module.dtype_variables(op).values() for c in own}
        if choices and dtype not in choices:
            raise TypeError(f"{registered}: the model is {dtype}; op {op} is written for {', '.join(sorted(choices))}")
        only = (dtype,) if choices else ()
        made = load(
            path,
            ops=op,
            dtypes=only,
            target=target,
            binds=binds,
            defines=defines,
            prefix=prefix,
            gradients=trained,
        )
        return getattr(made, identifier(op))

    interfaces: Any = (AttentionInterface, AttentionMaskInterface)  # untyped
    _registered[registered] = Attention(registered, known, compiled)
    for interface, function in zip(interfaces, (_registered[registered], visible_mask), strict=True):
        interface.register(registered, function)
    return registered


class Attention:
    """An attention function of transformers: queries (B, H, M, D), keys and values (B, G, N, D) -> (B, M, H, E)."""

    def __init__(self, name: str, known: Sequence[Form], compiled: Callable[[str, str, bool], Function]) -> None:
        self.name = name
        self._known = known
        self._compiled = compiled
        self.functions: dict[tuple[str, str, bool], Function] = {}

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        is_causal: bool | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        **others: object,
    ) -> tuple[torch.Tensor, None]:
        self._refuse(dropout, others)
        if attention_mask is None:
            causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
            visible = Visible(causal, sliding_window or 0, None)
        else:
            visible = read(attention_mask)
        given: dict[str, Any] = {}
        if s_aux is not None:
            given["snk"] = s_aux.float()
        if softcap is not None:
            given["cap"] = softcap
        form = self._form(frozenset(given), visible, query.shape[2] == key.shape[2])
        given |= _rows(form, visible, query, key)
        query = self._scaled(form, query, scaling, given)
        if not form.grouped:
            key, value = (_for_every_head(x, query.shape[1]) for x in (key, value))
        asking = [query, key, value] if s_aux is None else [query, key, value, s_aux]
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in asking)
        # torch.compile traces forward and backward together.
        trained = wanted and (module.training or torch.compiler.is_compiling())
        attend = self._function(form.op, query.dtype, trained)
        if wanted and not trained:
            attend = partial(_with_gradient_later, attend, partial(self._function, form.op, query.dtype, True))
        return attend(query, key, value, **given).transpose(1, 2).contiguous(), None

    def _refuse(self, dropout: float, others: dict[str, object]) -> None:
        if dropout:
            raise ValueError(f"{self.name}: attention dropout of {dropout} is not supported: set it to 0 in the config")
        unknown = sorted(n for n, v in others.items() if n not in _HARMLESS and v is not None and v is not False)
        if unknown:
            raise TypeError(f"{self.name}: the model gives its attention {', '.join(unknown)}, which no op here takes")

    def _form(self, given: frozenset[str], visible: Visible, square: bool) -> Form:
        window = frozenset({"W"} if visible.window else ())
        padding: frozenset[str] = PADDING if visible.bounds is not None else frozenset()
        parameters = given | window | padding
        form = choose(self._known, Wanted(parameters, square, visible.causal))
        if form is not None:
            return form
        rows = "causal rows" if visible.causal else "rows that see everything"
        lengths = "as many queries as keys" if square else "fewer queries than keys"
        asked = f"{rows}, {lengths}" + "".join(f", {p}" for p in sorted(parameters))
        ops = "; ".join(f"{f.op} has {', '.join(sorted(f.parameters)) or 'none of them'}" for f in self._known)
        raise ValueError(f"{self.name}: no op for {asked} ({ops}); std/hf.dsl has what transformers' models ask for")

    def _scaled(self, form: Form, query: torch.Tensor, scaling: float | None, given: dict[str, Any]) -> torch.Tensor:
        usual = query.shape[3] ** -0.5
        factor = usual if scaling is None else float(scaling)
        if "scale" in form.parameters:
            given["scale"] = factor
            return query
        if math.isclose(factor, usual, rel_tol=1e-6):
            return query
        raise ValueError(
            f"{self.name}: the layer scales by {factor}, op {form.op} has no `scale: f32` and does by {usual}"
        )

    def _function(self, op: str, dtype: torch.dtype, trained: bool) -> Function:
        label = _DTYPES.get(dtype, str(dtype))
        _ensured(self.name, op, label, trained)
        return self.functions[op, label, trained]

    def ensure(self, op: str, dtype: str, trained: bool) -> None:
        """Compile an op for a dtype, with its gradient where it is trained, once."""
        if (op, dtype, trained) not in self.functions:
            self.functions[op, dtype, trained] = self._compiled(op, dtype, trained)


class _GradientLater(torch.autograd.Function):
    """An op as inference computes it. Its backward computes it again, by the function that `trained` gives and that
    has a gradient, and goes through that.
    """

    @staticmethod
    def forward(
        ctx: Any, attend: Function, trained: Callable[[], Function], names: Sequence[str], *given: Any
    ) -> torch.Tensor:
        ctx.trained, ctx.names = trained, names
        ctx.others = [None if isinstance(x, torch.Tensor) else x for x in given]
        ctx.save_for_backward(*(x for x in given if isinstance(x, torch.Tensor)))
        return attend(**dict(zip(names, given, strict=True)))

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        names, saved, asked = ctx.names, iter(ctx.saved_tensors), ctx.needs_input_grad[-len(ctx.names) :]
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            given = [_alias(next(saved)) if x is None else x for x in ctx.others]
            output = ctx.trained()(**dict(zip(names, given, strict=True)))
        wrt = [x for x, wanted in zip(given, asked, strict=True) if wanted]
        found = iter(torch.autograd.grad(output, wrt, cotangents, create_graph=again, allow_unused=True))
        return (None, None, None, *(next(found) if wanted else None for wanted in asked))


def _alias(x: torch.Tensor) -> torch.Tensor:
    return x.view_as(x)


def _with_gradient_later(
    attend: Function, trained: Callable[[], Function], *inputs: torch.Tensor, **others: Any
) -> torch.Tensor:
    given = dict(zip("QKV", inputs, strict=True)) | others
    later: Any = _GradientLater
    return later.apply(attend, trained, tuple(given), *given.values())


def _ensure(name: str, op: str, dtype: str, trained: bool) -> bool:
    _registered[name].ensure(op, dtype, trained)
    return True


_registered: dict[str, Attention] = {}
_torch: Any = torch
_ensured: Any = _torch.compiler.assume_constant_result(_ensure)
"""Called while torch.compile traces, not traced itself."""


def _rows(form: Form, visible: Visible, query: torch.Tensor, key: torch.Tensor) -> dict[str, Any]:
    """What says which keys a row sees, for the parameters that the op has."""
    given: dict[str, Any] = {}
    if "W" in form.parameters:
        given["W"] = visible.window or _NO_WINDOW
    if form.parameters >= PADDING:
        batch, (queries, keys) = query.shape[0], (query.shape[2], key.shape[2])
        bounds = visible.bounds
        if bounds is None:
            start = keys - queries if visible.causal else keys
            bounds = torch.tensor([[0, keys, start]], dtype=torch.int32, device=query.device).expand(batch, 3)
        given |= dict(zip(("first", "length", "start"), bounds.unbind(1), strict=True))
    return given


def _for_every_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, G, N, D) -> (B, H, N, D), each key head as often as queries share it."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)
