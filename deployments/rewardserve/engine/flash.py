"""Attention over the spans of a pack by flash-attn's kernel for sequences of many lengths.

Knows spans and flash-attn (2.6 or newer: softcap and window native). CUDA alone, in half precision.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from flash_attn import flash_attn_varlen_func
from torch import Tensor

from rewardserve.engine.attention import SPARE_ROWS, AttentionSettings
from rewardserve.engine.budget import PATH_TOKENS
from rewardserve.engine.spans import Span
from rewardserve.engine.staging import staged


class FlashAttention:
    """Attention of one pack's spans: queries as they lie, keys gathered path by path."""

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self._spans = spans
        self._device = device
        self._calls = [_Call(group, device) for group in _groups(spans)]
        self._elsewhere: dict[torch.device, FlashAttention] = {}

    def to(self, device: torch.device) -> "FlashAttention":
        """The same spans for layers that lie on `device`."""
        if device == self._device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = FlashAttention(self._spans, device)
        return self._elsewhere[device]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        """As `SpanAttention.attend`."""
        if len(self._calls) == 1:
            return self._calls[0](query, key, value, how)
        output = query.new_empty(query.shape[1] - SPARE_ROWS, query.shape[0] * query.shape[2])
        for call in self._calls:
            output[call.queries] = call(query, key, value, how)
        return output


class _Call:
    """One call of the kernel, for spans whose queries are neighbours.

    Its causal mask is aligned to the bottom right, so that a span's queries are the last tokens of
    its path.
    """

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self.queries = slice(spans[0].queries.start, spans[-1].queries.stop)
        pieces = [piece for span in spans for piece in span.keys]
        gather = np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces])
        self._gather = staged(gather, device)
        self._query_ends = staged(_ends([span.rows for span in spans]), device, torch.int32)
        self._key_ends = staged(_ends([span.length for span in spans]), device, torch.int32)
        self._most_queries = max(span.rows for span in spans)
        self._most_keys = max(span.length for span in spans)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        attended = flash_attn_varlen_func(
            query[:, self.queries].transpose(0, 1),
            key.index_select(1, self._gather).transpose(0, 1),
            value.index_select(1, self._gather).transpose(0, 1),
            self._query_ends,
            self._key_ends,
            self._most_queries,
            self._most_keys,
            softmax_scale=1.0,
            causal=True,
            # The left bound is how many keys before its own a query sees.
            window_size=(-1, -1) if how.window is None else (how.window - 1, 0),
            softcap=how.softcap or 0.0,
        )
        output: Tensor = attended.flatten(1)
        return output


def _groups(spans: Sequence[Span]) -> Iterator[Sequence[Span]]:
    """The spans in order, in runs that gather PATH_TOKENS keys at most, or are one span."""
    first = gathered = 0
    for index, span in enumerate(spans):
        if index > first and gathered + span.length > PATH_TOKENS:
            yield spans[first:index]
            first, gathered = index, 0
        gathered += span.length
    yield spans[first:]


def _ends(lengths: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(lengths).tolist()]
