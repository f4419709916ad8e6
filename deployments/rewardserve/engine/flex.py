"""Attention over a pack by torch's flex_attention: one call, masked by ancestry.

Knows the blocks of a pack and flex_attention. Meant for CUDA without flash-attn, where the kernel
is compiled once for all shapes; uncompiled it runs anywhere, slowly, for tests.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch._dynamo import config as compile_settings
from torch.fx.experimental import _config as shape_settings
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

from rewardserve.engine.ancestry import BLOCK, Ancestry, padded
from rewardserve.engine.attention import AttentionSettings
from rewardserve.engine.staging import staged
from rewardserve.engine.tree import Pack

KERNELS: Final = 64
"""At most: a few for each model and dtype. Beyond its limit, 8 unless told, torch runs the operator
uncompiled without a word, in memory quadratic in the pack."""


class FlexAttention:
    """Attention of a pack's tokens, or of its tokens `rows` alone, over their paths."""

    def __init__(self, pack: Pack, rows: Sequence[int] | None, device: torch.device) -> None:
        self._pack, self._given_rows, self._device = pack, rows, device
        places = np.arange(len(pack.token_ids)) if rows is None else np.array(rows)
        self._ancestry = Ancestry(pack)
        self._queries = len(places)
        self._rows = staged(padded(places), device, torch.int32)
        # In one tensor: the compiler's names for more sizes than ten run into each other.
        keys = self._ancestry.begins, self._ancestry.ends, self._ancestry.positions
        self._keys = staged(np.stack([padded(each) for each in keys]), device, torch.int32)
        self._masks: dict[int | None, BlockMask] = {}
        self._elsewhere: dict[torch.device, FlexAttention] = {}

    def to(self, device: torch.device) -> "FlexAttention":
        """The same pack for layers that lie on `device`."""
        if device == self._device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = FlexAttention(self._pack, self._given_rows, device)
        return self._elsewhere[device]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        """As `SpanAttention.attend`."""
        attended = _kernel(
            _whole_blocks(query, len(self._rows)),
            _whole_blocks(key, self._keys.shape[1]),
            _whole_blocks(value, self._keys.shape[1]),
            score_mod=None if how.softcap is None else _softcap(how.softcap, query.device),
            block_mask=self._mask(how.window),
        )
        output: Tensor = attended[0, :, : self._queries].transpose(0, 1).flatten(1)
        return output

    def _mask(self, window: int | None) -> BlockMask:
        if window not in self._masks:
            blocks = (
                self._ancestry.token_blocks(window)
                if self._given_rows is None
                else self._ancestry.readout_blocks(self._queries)
            )
            self._masks[window] = BlockMask.from_kv_blocks(
                *self._ordered(blocks.partial),
                *self._ordered(blocks.full),
                BLOCK_SIZE=BLOCK,
                mask_mod=self._visible(window),
                seq_lengths=(len(self._rows), self._keys.shape[1]),
                compute_q_blocks=False,  # for gradients
            )
        return self._masks[window]

    def _visible(self, window: int | None) -> Any:
        """flex_attention's mask: the query's row is one of those that see the key, if near."""
        # The compiler takes tensors, not the object that has them.
        rows, keys = self._rows, self._keys

        def on_path(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            row = rows[query]
            return (keys[0, key] <= row) & (row < keys[1, key])

        if window is None:
            return on_path
        # In a tensor, read at the only batch: what a plain number is compiled to depends on torch.
        reach = staged([window], rows.device)

        def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            distance = keys[2, rows[query]] - keys[2, key]
            return on_path(batch, head, query, key) & (distance < reach[batch])

        return near

    def _ordered(self, visited: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Tensor, Tensor]:
        """For each block of queries, how many blocks of keys are visited, and these first."""
        order = np.argsort(~visited, axis=1, kind="stable")
        return (
            staged(visited.sum(1)[None, None], self._device, torch.int32),
            staged(order[None, None], self._device, torch.int32),
        )


def _whole_blocks(states: Tensor, length: int) -> Tensor:
    """[1, heads, length, dim] of states [heads, rows + SPARE_ROWS, dim], finite throughout.

    Contiguous: with a stride of its own for heads, the compiler could not know that rows are
    aligned, and the kernel would read two bytes at a time.
    """
    return pad(states, (0, 0, 0, length - states.shape[1]))[None]


def _kernel(query: Tensor, key: Tensor, value: Tensor, **masks: Any) -> Tensor:
    run = _compiled() if query.is_cuda else flex_attention
    # Two dimensions that are equal in the first pack need not be in the next.
    shapes = shape_settings.patch(use_duck_shape=False)  # type: ignore[attr-defined]
    with shapes, compile_settings.patch(recompile_limit=KERNELS):
        attended: Tensor = run(query, key, value, scale=1.0, enable_gqa=True, **masks)
    return attended


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)


@cache
def _softcap(softcap: float, device: torch.device) -> Callable[..., Tensor]:
    # As with windows; a captured float is not compiled at all.
    bound = staged([softcap], device, torch.float32)

    def capped(score: Tensor, batch: Tensor, *_: Tensor) -> Tensor:
        return bound[batch] * torch.tanh(score / bound[batch])

    return capped
