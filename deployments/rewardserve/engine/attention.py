"""Attention over packs: every token sees its ancestors' tokens and, causally, its own node's.

Knows spans of a pack and torch's attention. Knows nothing of weights, text or scores.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rewardserve.engine.tree import Node, Pack

SOFTCAP_ROWS: Final = 512
"""Queries whose softcapped logits are held at once; bounds memory at [heads, rows, path]."""


@dataclass(frozen=True, slots=True)
class AttentionSettings:
    """What a layer's attention is, beside its weights."""

    scaling: float
    softcap: float | None = None
    """Gemma-2: logits become softcap * tanh(logits / softcap)."""
    window: int | None = None
    """Positions a token sees along its path, its own included; None for all."""


@dataclass(frozen=True, slots=True)
class Span:
    """Queries that are the last tokens of one path, and the pieces of the pack that path is."""

    queries: slice
    """Rows of the query tensor."""
    keys: tuple[slice, ...]
    """Rows of the key tensor, from the root on; neighbouring pieces are joined."""
    length: int
    """Tokens on the path."""

    @property
    def rows(self) -> int:
        return int(self.queries.stop - self.queries.start)


class Spans:
    """All spans of a pack's queries, with the masks they share; made once, used by every layer."""

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self.rows = sum(span.rows for span in spans)
        self._spans = spans
        self._device = device
        self._masks: dict[tuple[int, int, int | None, torch.dtype], Tensor] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        """Attention of every query over its path.

        Takes `query` [1, heads, rows, dim], `key` and `value` [1, key heads, tokens, dim]; gives
        [rows, heads * dim]. A window counts positions along the path.
        """
        output = query.new_empty(query.shape[2], query.shape[1], query.shape[3])
        for span in self._spans:
            attended = self._span(
                span, query[:, :, span.queries], _path(key, span), _path(value, span), how
            )
            output[span.queries] = attended[0].transpose(0, 1)
        return output.flatten(1)

    def _span(
        self, span: Span, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings
    ) -> Tensor:
        window = how.window if how.window is not None and how.window < span.length else None
        if how.softcap is not None:
            mask = self._mask(span, window, torch.float32)
            return _softcapped(query, key, value, mask, how.scaling, how.softcap)
        if span.rows == span.length and window is None:
            return scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=how.scaling, enable_gqa=True
            )
        mask = self._mask(span, window, query.dtype)
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=how.scaling, enable_gqa=True
        )

    def _mask(self, span: Span, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """Additive mask [rows, path], or None where the only query sees the whole path."""
        if span.rows == 1 and window is None:
            return None
        key = (span.rows, span.length, window, dtype)
        if key not in self._masks:
            keys = torch.arange(span.length, device=self._device)
            queries = keys[-span.rows :, None]
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            mask = torch.zeros(span.rows, span.length, dtype=dtype, device=self._device)
            self._masks[key] = mask.masked_fill_(hidden, -torch.inf)
        return self._masks[key]


def node_spans(pack: Pack, device: torch.device) -> Spans:
    """Every token of the pack as a query, one span a node."""
    spans = [
        Span(slice(node.start, node.end), _pieces(pack, node, node.end), _depth(node, node.end))
        for node in pack.nodes
    ]
    return Spans(spans, device)


def readout_spans(pack: Pack, rows: Sequence[int], device: torch.device) -> Spans:
    """The pack's tokens `rows` alone as queries, in that order."""
    spans = []
    starts = [node.start for node in pack.nodes]
    for index, row in enumerate(rows):
        node = pack.nodes[bisect_right(starts, row) - 1]
        spans.append(
            Span(slice(index, index + 1), _pieces(pack, node, row + 1), _depth(node, row + 1))
        )
    return Spans(spans, device)


def _depth(node: Node, end: int) -> int:
    """Tokens on the path up to index `end` of the pack, which is in `node`."""
    return node.depth + end - node.start


def _pieces(pack: Pack, node: Node, end: int) -> tuple[slice, ...]:
    pieces = [slice(node.start, end)]
    while node.parent >= 0:
        node = pack.nodes[node.parent]
        if node.end == pieces[-1].start:
            pieces[-1] = slice(node.start, pieces[-1].stop)
        else:
            pieces.append(slice(node.start, node.end))
    return tuple(reversed(pieces))


def _path(states: Tensor, span: Span) -> Tensor:
    if len(span.keys) == 1:
        return states[:, :, span.keys[0]]
    return torch.cat([states[:, :, piece] for piece in span.keys], dim=2)


def _softcapped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float
) -> Tensor:
    """softmax(softcap * tanh(q.k * scaling / softcap) + mask) @ value, softmax in float32."""
    _, heads, rows, dim = query.shape
    key_heads, length = key.shape[1], key.shape[2]
    # The query heads that share a key head are rows of one product, so that keys are not copied.
    grouped = query.reshape(key_heads, heads // key_heads, rows, dim) * (scaling / softcap)
    output = torch.empty_like(grouped)
    for piece in (slice(at, at + SOFTCAP_ROWS) for at in range(0, rows, SOFTCAP_ROWS)):
        folded = grouped[:, :, piece].reshape(key_heads, -1, dim)
        logits = torch.bmm(folded, key[0].transpose(1, 2)).float().tanh_().mul_(softcap)
        if mask is not None:
            logits.view(heads, -1, length).add_(mask[piece])
        weights = logits.softmax(-1).to(value.dtype)
        output[:, :, piece] = torch.bmm(weights, value[0]).view_as(output[:, :, piece])
    return output.view(1, heads, rows, dim)
