"""Attention over the spans of a pack by flash-attn's kernel for sequences of many lengths.

Knows spans and flash-attn (2.6 or newer: softcap and window native). CUDA alone.
"""

from collections.abc import Sequence

import torch
from flash_attn import flash_attn_varlen_func
from torch import Tensor

from rewardserve.engine.attention import SPARE_ROWS, AttentionSettings
from rewardserve.engine.spans import Span


class FlashAttention:
    """Attention of one pack's spans: queries as they lie, keys gathered path by path.

    The kernel's causal mask is aligned to the bottom right, so that a span's queries are the last
    tokens of its path.
    """

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self._spans = spans
        pieces = [piece for span in spans for piece in span.keys]
        self._gather = torch.cat([torch.arange(piece.start, piece.stop) for piece in pieces])
        self._gather = self._gather.to(device, non_blocking=True)
        self._query_ends = _ends([span.rows for span in spans], device)
        self._key_ends = _ends([span.length for span in spans], device)
        self._most_queries = max(span.rows for span in spans)
        self._most_keys = max(span.length for span in spans)

    def to(self, device: torch.device) -> "FlashAttention":
        """The same spans for layers that lie on `device`."""
        return self if device == self._gather.device else FlashAttention(self._spans, device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        """As `SpanAttention.attend`."""
        attended = flash_attn_varlen_func(
            query[:, : query.shape[1] - SPARE_ROWS].transpose(0, 1).contiguous(),
            key.transpose(0, 1)[self._gather],
            value.transpose(0, 1)[self._gather],
            self._query_ends,
            self._key_ends,
            self._most_queries,
            self._most_keys,
            softmax_scale=1.0,
            causal=True,
            window_size=(-1, -1) if how.window is None else (how.window - 1, 0),
            softcap=how.softcap or 0.0,
        )
        output: Tensor = attended.flatten(1)
        return output


def _ends(lengths: Sequence[int], device: torch.device) -> Tensor:
    ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return ends.to(device, non_blocking=True)
