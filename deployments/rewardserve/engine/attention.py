"""Attention over the spans of a pack: every query over its path, by torch's own operators.

Knows spans and torch. Knows nothing of weights, text or scores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rewardserve.engine.linear import linear
from rewardserve.engine.spans import Span

ROWS: Final = 128
"""Queries whose logits are held at once: [ROWS, path] of a few heads stays in cache."""
ROUND_ROWS: Final = 32
"""Queries are rounded up to this and keys to ROWS, so that the products meet few shapes."""
SPARE_ROWS: Final = ROWS
"""Finite rows that rounding may read behind the last token of a query, key or value tensor."""
SMALL: Final = 8192
"""Query-key pairs below which one fused call beats four rounded ones."""
_TANH: Final = nn.Tanh()


@dataclass(frozen=True, slots=True)
class AttentionSettings:
    """What a layer's attention is, beside its weights and its scaling of queries."""

    softcap: float | None = None
    """Gemma-2: logits become softcap * tanh(logits / softcap)."""
    window: int | None = None
    """Positions a token sees along its path, its own included; None for all."""


class SpanAttention:
    """Attention of one pack's spans; made once, used by every layer.

    Long spans run as matrix products of rounded shapes: what rounding adds is masked, or thrown
    away. Short ones run in torch's fused attention, unless logits are softcapped, which it lacks,
    or the result must be `batch_invariant`: the same bits wherever on the path a span begins.
    """

    def __init__(
        self,
        spans: Sequence[Span],
        dtype: torch.dtype,
        device: torch.device,
        *,
        batch_invariant: bool = False,
    ) -> None:
        self._spans = spans
        self._batch_invariant = batch_invariant
        self._later = torch.full((2 * ROWS, ROWS), -torch.inf, dtype=dtype, device=device).triu_(1)

    def to(self, device: torch.device) -> "SpanAttention":
        """The same spans for layers that lie on `device`."""
        if device == self._later.device:
            return self
        return SpanAttention(
            self._spans, self._later.dtype, device, batch_invariant=self._batch_invariant
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        """Attention of all spans: [queries, heads * dim].

        Takes scaled `query` [heads, queries + SPARE_ROWS, dim], and `key` and `value`
        [key heads, tokens + SPARE_ROWS, dim]. A window counts positions along the path.
        """
        key_heads, _, dim = key.shape
        rows = query.shape[1] - SPARE_ROWS
        # The query heads that share a key head side by side.
        query = query.view(key_heads, -1, query.shape[1], dim)
        output = query.new_empty(rows, *query.shape[:2], dim)
        for span in self._spans:
            keys, values = _path(key, span), _path(value, span)
            window = how.window if how.window is not None and how.window < span.length else None
            if self._fits_fused(span) and how.softcap is None:
                output[span.queries] = self._fused(span, query, keys, values, window)
            else:
                self._in_products(span, query, keys, values, how.softcap, window, output)
        return output.flatten(1)

    def _fits_fused(self, span: Span) -> bool:
        return span.rows * span.length < SMALL and not self._batch_invariant

    def _fused(
        self, span: Span, query: Tensor, key: Tensor, value: Tensor, window: int | None
    ) -> Tensor:
        first = span.length - span.rows
        alone = span.rows == 1 and window is None
        attended = scaled_dot_product_attention(
            query[:, :, span.queries].flatten(0, 1)[None],
            key[None, :, : span.length],
            value[None, :, : span.length],
            attn_mask=None if alone else self._mask(first, span.rows, 0, span.length, window),
            scale=1.0,
            enable_gqa=True,
        )
        return attended.view(*query.shape[:2], span.rows, -1).permute(2, 0, 1, 3)

    def _in_products(
        self,
        span: Span,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        softcap: float | None,
        window: int | None,
        output: Tensor,
    ) -> None:
        for first, rows in _blocks(span.length - span.rows, span.length):
            # A block's keys follow from where it lies on the path alone: a token's logits, and
            # the order they are summed in, are the same wherever its node begins.
            start = first - first % ROWS
            low = 0 if window is None else _down(max(0, start - window + 1))
            high = start + ROWS
            # Before the edge every query sees every key.
            edge = start if window is None else low
            taken = _up(rows, ROUND_ROWS)
            mask = self._mask(first, taken, edge, high, window)
            row = span.queries.start + first - (span.length - span.rows)
            for head in range(key.shape[0]):
                # One product for the query heads that share a key head.
                folded = query[head, :, row : row + taken].flatten(0, 1)
                logits = _logits(folded, key[head, low:high], softcap)
                logits.view(-1, taken, high - low)[:, :, edge - low :].add_(mask)
                attended = linear(logits.softmax(-1), value[head, low:high].t())
                kept = attended.view(-1, taken, attended.shape[-1])[:, :rows]
                output[row : row + rows, head] = kept.transpose(0, 1)

    def _mask(self, first: int, rows: int, low: int, high: int, window: int | None) -> Tensor:
        """Additive mask of keys [low, high) for `rows` queries at positions from `first` on."""
        offset = first - low
        if window is None and high - low <= ROWS:
            return self._later[offset : offset + rows, : high - low]
        keys = torch.arange(low, high, device=self._later.device)
        queries = torch.arange(first, first + rows, device=self._later.device)[:, None]
        hidden = keys > queries
        if window is not None:
            hidden |= keys <= queries - window
        mask = torch.zeros(hidden.shape, dtype=self._later.dtype, device=self._later.device)
        return mask.masked_fill_(hidden, -torch.inf)


def _logits(query: Tensor, key: Tensor, softcap: float | None) -> Tensor:
    if softcap is None:
        return linear(query, key)
    # Within the product: on its own, tanh takes longer than both of attention's products.
    return linear(query / softcap, key, activation=_TANH).mul_(softcap)


def _path(states: Tensor, span: Span) -> Tensor:
    """A span's path in keys or values [heads, tokens, dim], and what rounding reads behind it."""
    last = span.keys[-1]
    extended = slice(last.start, last.stop + _up(span.length, ROWS) - span.length)
    if len(span.keys) == 1:
        return states[:, extended]
    return torch.cat([*(states[:, piece] for piece in span.keys[:-1]), states[:, extended]], dim=1)


def _blocks(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """First position and count of the pieces of [begin, end) between multiples of ROWS."""
    while begin < end:
        count = min(ROWS - begin % ROWS, end - begin)
        yield begin, count
        begin += count


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _down(count: int) -> int:
    return count - count % ROWS
