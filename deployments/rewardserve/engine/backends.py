"""Which attention runs where: chosen once, at load.

| backend | where | how |
|---|---|---|
| `sdpa` | CPU, and any device | torch's fused attention and matrix products, span by span |
| `flash` | CUDA with flash-attn >= 2.6, half precision | its kernel, keys gathered path by path |
| `flex` | CUDA otherwise | one compiled kernel, masked by ancestry |

All of them softcap and window natively or explicitly, so that every backbone runs on each.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from rewardserve.engine.attention import AttentionSettings, SpanAttention
from rewardserve.engine.spans import node_spans, readout_spans
from rewardserve.engine.tree import Pack

Backend = Literal["sdpa", "flash", "flex"]


class PackAttention(Protocol):
    """Attention of one pack; made once, used by every layer."""

    def to(self, device: torch.device) -> "PackAttention":
        """The same for layers that lie on `device`."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: AttentionSettings) -> Tensor:
        """[queries, heads * dim]; see `SpanAttention.attend`."""
        ...


def available_backends(device: torch.device, dtype: torch.dtype) -> tuple[Backend, ...]:
    """The backends that `device` has for states of `dtype`, the one to choose first."""
    if device.type != "cuda":
        return ("sdpa",)
    flash = dtype in {torch.bfloat16, torch.float16} and _has_flash_attention(device)
    return ("flash", "flex", "sdpa") if flash else ("flex", "sdpa")


def _has_flash_attention(device: torch.device) -> bool:
    """Whether flash-attn is there, fits this torch, and has kernels for the device."""
    try:
        from flash_attn import flash_attn_varlen_func  # noqa: F401, PLC0415 - optional
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def pack_attention(
    backend: Backend,
    pack: Pack,
    rows: Sequence[int] | None,
    *,
    like: Tensor,
    batch_invariant: bool = False,
) -> PackAttention:
    """Attention of all tokens of `pack`, or of its tokens `rows`, for hidden states `like`."""
    if backend == "flex":
        from rewardserve.engine.flex import FlexAttention  # noqa: PLC0415 - slow to import

        return FlexAttention(pack, rows, like.device)
    spans = node_spans(pack) if rows is None else readout_spans(pack, rows)
    if backend == "flash":
        from rewardserve.engine.flash import FlashAttention  # noqa: PLC0415 - optional

        return FlashAttention(spans, like.device)
    return SpanAttention(spans, like.dtype, like.device, batch_invariant=batch_invariant)
