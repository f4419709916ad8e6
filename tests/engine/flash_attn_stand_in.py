"""flash-attn's `flash_attn_varlen_func` written out from its documentation, for machines without.

Queries and keys are many sequences side by side, [tokens, heads, dim]; causal is aligned to the
bottom right; a window (left, right) reaches so many keys before and behind a query's own place.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import pytest
import torch
from torch import Tensor


@contextmanager
def installed(flash_attn: ModuleType) -> Iterator[ModuleType]:
    """`rewardserve.engine.flash` upon this flash-attn; without a trace afterwards."""
    name = "rewardserve.engine.flash"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "flash_attn", flash_attn)
        patch.delitem(sys.modules, name, raising=False)
        yield import_module(name)
        sys.modules.pop(name, None)


def module() -> ModuleType:
    stand_in = ModuleType("flash_attn")
    stand_in.flash_attn_varlen_func = flash_attn_varlen_func  # type: ignore[attr-defined]
    return stand_in


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Tensor:
    assert dropout_p == 0.0
    assert alibi_slopes is None
    assert block_table is None
    assert not return_attn_probs
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert cu_seqlens_q.is_contiguous()
    assert cu_seqlens_k.is_contiguous()
    assert max_seqlen_q == int(cu_seqlens_q.diff().max())
    assert max_seqlen_k == int(cu_seqlens_k.diff().max())
    assert len(q) == cu_seqlens_q[-1]
    assert len(k) == len(v) == cu_seqlens_k[-1]
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
    groups, left_over = divmod(q.shape[1], k.shape[1])
    assert left_over == 0
    assert q.shape[2] <= 256
    scale = q.shape[2] ** -0.5 if softmax_scale is None else softmax_scale
    outputs = []
    for index in range(len(cu_seqlens_q) - 1):
        rows = q[cu_seqlens_q[index] : cu_seqlens_q[index + 1]]
        path = slice(int(cu_seqlens_k[index]), int(cu_seqlens_k[index + 1]))
        keys, values = (each[path].repeat_interleave(groups, 1) for each in (k, v))
        logits = torch.einsum("qhd,khd->hqk", rows, keys) * scale
        if softcap:
            logits = softcap * torch.tanh(logits / softcap)
        seen = _seen(len(rows), len(keys), causal, window_size)
        weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights, values))
    return torch.cat(outputs)


def _seen(queries: int, keys: int, causal: bool, window_size: tuple[int, int]) -> Tensor:
    left, right = window_size
    place = torch.arange(queries)[:, None] + keys - queries
    key = torch.arange(keys)
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if causal:
        seen &= key <= place
    if left >= 0:
        seen &= key >= place - left
    if right >= 0:
        seen &= key <= place + right
    return seen
