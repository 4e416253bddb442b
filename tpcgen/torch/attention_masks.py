"""Masks of transformers without the square: what the rows of a batch see, in a tensor that models hand on as a mask.

A model makes its mask once per forward and gives it to every layer, so that it must be a tensor. This one holds three
integers per sequence; whether it is causal and how wide its window is are in its shape, where a compiled graph can
branch on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import masking_utils

_masks: Any = masking_utils  # untyped
_torch: Any = torch
_COLUMNS = 3


@dataclass(frozen=True)
class Visible:
    """What the queries of a batch see: all keys, or where `causal` those up to their own position, `window` of them
    where that is not 0.

    `bounds` is i32 (B, 3) or None: the first and the end of a sequence's keys that are no padding, and the key at which
    its first query stands. None: no padding, and the queries are the last of the keys.
    """

    causal: bool
    window: int
    bounds: torch.Tensor | None


def visible_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = _masks.causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
    **_: object,
) -> torch.Tensor:
    """A mask function for transformers' registry, with its parameters: `attention_mask` is (B, keys), true where a key
    is no padding. ValueError for a pattern that `Visible` cannot say and for padding amid a sequence.
    """
    causal, window = _pattern(mask_function)
    last = not isinstance(q_offset, torch.Tensor) and q_offset + q_length == kv_offset + kv_length
    if attention_mask is not None:
        attention_mask = _of_keys(attention_mask, kv_length, kv_offset)
    if (last or not causal) and _all_true(attention_mask):
        return _written(Visible(causal, window, None), device)
    start = q_offset - kv_offset if causal else kv_length
    starts = torch.as_tensor(start, dtype=torch.int32, device=device).expand(batch_size)
    first, end = _extent(attention_mask, batch_size, kv_length, device)
    return _written(Visible(causal, window, torch.stack([first, end, starts], dim=1)), device)


def read(mask: torch.Tensor) -> Visible:
    """What was written. ValueError for a mask that is not from `visible_mask`: a square of the user's own."""
    if mask.dtype != torch.int32 or mask.dim() != 4 or mask.shape[3] != _COLUMNS:
        raise ValueError(
            f"tpcgen: a mask of shape {tuple(mask.shape)} and {mask.dtype} was made elsewhere; give attention_mask as "
            "(batch, keys), or use another attn_implementation"
        )
    bounds = mask[:, 0, 0] if mask.shape[0] else None
    return Visible(causal=mask.shape[2] == 2, window=mask.shape[1] - 1, bounds=bounds)


def _written(visible: Visible, device: torch.device | str) -> torch.Tensor:
    bounds = (
        visible.bounds if visible.bounds is not None else torch.empty(0, _COLUMNS, dtype=torch.int32, device=device)
    )
    return bounds[:, None, None].expand(-1, 1 + visible.window, 1 + visible.causal, -1)


def _pattern(function: Callable[..., Any]) -> tuple[bool, int]:
    """Whether it is causal, and its window."""
    if function is _masks.causal_mask_function:
        return True, 0
    if function is _masks.bidirectional_mask_function:
        return False, 0
    return _outside_graphs(function)


def _composed(function: Callable[..., Any]) -> tuple[bool, int]:
    for part in _parts_of_and(function):
        if part.__code__ is _WINDOW and _parts_of_and(function)[1:] == (_masks.causal_mask_function,):
            return True, _closure(part)["sliding_window"]
    raise ValueError(
        "tpcgen: this model's mask is neither causal, nor a causal window, nor everything (packed sequences, chunks "
        "and blocks of images are not supported; torch.compile takes sequences for packed where no attention_mask is "
        "given): use another attn_implementation"
    )


_outside_graphs: Any = _torch.compiler.disable(_composed)  # none can read what a function was made of
_AND = _masks.and_masks(_masks.causal_mask_function).__code__
_WINDOW = _masks.sliding_window_overlay(1).__code__


def _parts_of_and(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The functions a mask function of transformers is the intersection of, none where it is no intersection."""
    return _closure(function)["mask_functions"] if function.__code__ is _AND else ()


def _closure(function: Any) -> dict[str, Any]:
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}


def _of_keys(padding: torch.Tensor, kv_length: int, kv_offset: int) -> torch.Tensor:
    """Of the keys at hand: a cache may have room for more, a window has dropped some."""
    missing = kv_offset + kv_length - padding.shape[-1]
    padded = torch.nn.functional.pad(padding, (0, missing)) if missing > 0 else padding
    return padded[:, kv_offset : kv_offset + kv_length]


def _all_true(seen: torch.Tensor | None) -> bool:
    """What a compiled graph cannot know is taken as false."""
    return seen is None or (not torch.compiler.is_compiling() and bool(seen.all()))


def _extent(
    seen: torch.Tensor | None, batch: int, keys: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """i32 (B,) each: the first key of a sequence that is no padding, and the one after the last."""
    if seen is None:
        zeros = torch.zeros(batch, dtype=torch.int32, device=device)
        return zeros, zeros + keys
    place = torch.arange(keys, dtype=torch.int32, device=device)
    first = torch.where(seen, place, keys).amin(1)
    end = torch.where(seen, place + 1, 0).amax(1)
    if not torch.compiler.is_compiling() and bool((seen.sum(1) < end - first).any()):
        raise ValueError(
            "tpcgen: attention_mask hides keys amid a sequence; only padding before and after it is supported"
        )
    return first.int(), end.int()
