"""Attention over packs: every token sees its ancestors' tokens and, causally, its own node's.

Registered with transformers under `SDPA`, so that stock backbones reach it by name; the pack's
layout travels to it as the keyword argument `pack` of the backbone's forward. Knows nothing of
text, heads or scores.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from rewardserve.engine.tree import Node, Pack

SDPA: Final = "rewardserve_packs"

SOFTCAP_ROWS: Final = 512
"""Queries whose softcapped logits are held at once; bounds memory at [heads, rows, path]."""


@dataclass(frozen=True, slots=True)
class Span:
    """One node's attention: its queries, and the pieces of the pack that make up its path."""

    queries: slice
    keys: tuple[slice, ...]
    """From the root to the node itself; neighbouring pieces are joined."""
    length: int
    """Tokens on the path."""

    @property
    def rows(self) -> int:
        return int(self.queries.stop - self.queries.start)


class PackLayout:
    """A pack as attention needs it: paths and masks, made once and used by every layer."""

    def __init__(self, pack: Pack, device: torch.device) -> None:
        self.input_ids = torch.from_numpy(pack.token_ids).to(device, torch.long)[None]
        self.position_ids = torch.from_numpy(pack.position_ids).to(device, torch.long)[None]
        self.spans = [_span(pack, node) for node in pack.nodes]
        self._device = device
        self._masks: dict[tuple[int, int, int | None, torch.dtype], Tensor] = {}

    def mask(self, span: Span, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """Additive mask [rows, path] of a span, or None where every query sees the whole path."""
        if window is not None and span.length <= window:
            window = None
        if span.rows == 1 and window is None:
            return None
        key = (span.rows, span.length, window, dtype)
        if key not in self._masks:
            self._masks[key] = self._causal(span, window, dtype)
        return self._masks[key]

    def _causal(self, span: Span, window: int | None, dtype: torch.dtype) -> Tensor:
        keys = torch.arange(span.length, device=self._device)
        queries = keys[-span.rows :, None]
        hidden = keys > queries
        if window is not None:
            hidden |= keys <= queries - window
        mask = torch.zeros(span.rows, span.length, dtype=dtype, device=self._device)
        return mask.masked_fill_(hidden, -torch.inf)


def _span(pack: Pack, node: Node) -> Span:
    pieces = [slice(node.start, node.end)]
    parent = node.parent
    while parent >= 0:
        above = pack.nodes[parent]
        if above.end == pieces[-1].start:
            pieces[-1] = slice(above.start, pieces[-1].stop)
        else:
            pieces.append(slice(above.start, above.end))
        parent = above.parent
    return Span(
        queries=slice(node.start, node.end),
        keys=tuple(reversed(pieces)),
        length=node.depth + node.end - node.start,
    )


def sdpa_attention(  # noqa: PLR0913 - the signature is transformers'
    module: nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - the layout makes its own masks
    *,
    pack: PackLayout,
    scaling: float,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer over one pack with torch's SDPA, node by node.

    Takes `query` [1, heads, tokens, dim], `key` and `value` [1, key heads, tokens, dim]; gives
    [1, tokens, heads, dim]. Logit softcapping (Gemma-2), which SDPA cannot do, is computed
    explicitly. A sliding window counts positions along the path.
    """
    output = query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])
    for span in pack.spans:
        rows = query[:, :, span.queries]
        keys, values = _path(key, span), _path(value, span)
        if softcap is not None:
            mask = pack.mask(span, sliding_window, torch.float32)
            attended = _softcapped(rows, keys, values, mask, scaling, softcap)
        elif len(span.keys) == 1 and span.rows == span.length and _unwindowed(span, sliding_window):
            attended = scaled_dot_product_attention(
                rows, keys, values, is_causal=True, scale=scaling, enable_gqa=True
            )
        else:
            mask = pack.mask(span, sliding_window, query.dtype)
            attended = scaled_dot_product_attention(
                rows, keys, values, attn_mask=mask, scale=scaling, enable_gqa=True
            )
        output[:, span.queries] = attended.transpose(1, 2)
    return output, None


def _unwindowed(span: Span, window: int | None) -> bool:
    return window is None or span.length <= window


def _path(states: Tensor, span: Span) -> Tensor:
    if len(span.keys) == 1:
        return states[:, :, span.keys[0]]
    return torch.cat([states[:, :, piece] for piece in span.keys], dim=2)


def _softcapped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float
) -> Tensor:
    """softmax(softcap * tanh(q.k * scaling / softcap) + mask) @ value, softmax in float32."""
    _, heads, rows, dim = query.shape
    groups = heads // key.shape[1]
    grouped = query.reshape(1, key.shape[1], groups, rows, dim) * (scaling / softcap)
    output = torch.empty_like(grouped)
    for first in range(0, rows, SOFTCAP_ROWS):
        piece = slice(first, min(first + SOFTCAP_ROWS, rows))
        logits = grouped[:, :, :, piece] @ key[:, :, None].transpose(-1, -2)
        logits = logits.float().tanh_().mul_(softcap)
        if mask is not None:
            logits += mask[piece]
        output[:, :, :, piece] = logits.softmax(-1).to(value.dtype) @ value[:, :, None]
    return output.view(1, heads, rows, dim)


AttentionInterface.register(SDPA, sdpa_attention)
