"""Attention over a pack by torch's flex_attention: one call, masked by ancestry.

Knows packs in depth-first order and flex_attention. Meant for CUDA without flash-attn, where the
kernel is compiled once for all shapes; uncompiled it runs anywhere, slowly, for tests.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from rewardserve.engine.attention import SPARE_ROWS, AttentionSettings
from rewardserve.engine.tree import Pack


class FlexAttention:
    """Attention of a pack's tokens, or of its tokens `rows` alone, over their paths.

    In depth-first order a token's ancestors are the earlier tokens whose subtree has not ended.
    """

    def __init__(self, pack: Pack, rows: Sequence[int] | None, device: torch.device) -> None:
        self._arguments = (pack, rows)
        tokens = len(pack.token_ids)
        self._rows = torch.as_tensor(range(tokens) if rows is None else rows, device=device)
        self._subtree_ends = torch.from_numpy(_subtree_ends(pack)).to(device)
        self._positions = torch.from_numpy(pack.position_ids).to(device, torch.long)
        self._masks: dict[int | None, BlockMask] = {}

    def to(self, device: torch.device) -> "FlexAttention":
        """The same pack for layers that lie on `device`."""
        return self if device == self._rows.device else FlexAttention(*self._arguments, device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        """As `SpanAttention.attend`."""
        attended = _kernel(query.device.type)(
            *(states[None, :, :-SPARE_ROWS] for states in (query, key, value)),
            score_mod=None if how.softcap is None else _softcap(how.softcap),
            block_mask=self._mask(how.window),
            scale=1.0,
            enable_gqa=True,
        )
        output: Tensor = attended[0].transpose(0, 1).flatten(1)
        return output

    def _mask(self, window: int | None) -> BlockMask:
        if window not in self._masks:
            rows, ends, positions = self._rows, self._subtree_ends, self._positions

            def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                row = rows[query]
                on_path = (key <= row) & (row < ends[key])
                if window is None:
                    return on_path
                return on_path & (positions[row] - positions[key] < window)

            self._masks[window] = create_block_mask(
                visible, None, None, len(rows), len(ends), device=rows.device
            )
        return self._masks[window]


def _subtree_ends(pack: Pack) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each token, the index behind the last token of its node's subtree."""
    ends = [node.end for node in pack.nodes]
    for index in range(len(pack.nodes) - 1, -1, -1):
        parent = pack.nodes[index].parent
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[index])
    return np.repeat(ends, [node.end - node.start for node in pack.nodes])


@cache
def _kernel(device: str) -> Callable[..., Any]:
    # Once for all packs: shapes are dynamic, and a mask is data.
    if device != "cuda":
        return flex_attention
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=True)
    return compiled


@cache
def _softcap(softcap: float) -> Callable[..., Tensor]:
    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return capped
