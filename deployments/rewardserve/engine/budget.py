"""How many computed tokens one forward takes: what a GPU's free memory holds, up to a limit.

A forward's memory is that of its widest layer, since each layer's states are gone when the next
begins; logits over the vocabulary do not exist here. Knows shapes and free bytes, not packs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from rewardserve.errors import SettingsError

if TYPE_CHECKING:
    from rewardserve.engine.backbone import PackedBackbone

CPU_TOKENS: Final = 4096
"""On a CPU, where larger packs are no faster."""
MOST_TOKENS: Final = 16_384
"""On a GPU: products of so many rows run at the full rate, and callers wait for longer ones."""
LEAST_TOKENS: Final = 256
"""With memory for less, a pack would not even hold one usual conversation."""
USED: Final = 0.85
"""Of the free memory. The rest is for what no formula sees: workspaces of cuBLAS and of attention
kernels, compiled kernels, and the gaps between an allocator's blocks."""
MOST_CACHED_TOKENS: Final = 65_536
"""In a prefix cache, however small the model."""
GIB: Final = 2**30
CPU_CACHE_BYTES: Final = 2 * GIB
"""Of a prefix cache, where nobody said how large."""
GPU_CACHE_SHARE: Final = 0.25
"""The same, of the memory beside the weights: a GPU's packs are large, and some must fit."""
PATH_TOKENS: Final = 65_536
"""Keys and values that attention copies at once, path by path; more only for one longer path."""
FLOAT32: Final = 4
INDEX_BYTES: Final = 64
"""For each token: its id, position, place among the keys, and the same for masks."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The sizes of a decoder layer that its memory follows from."""

    hidden: int
    intermediate: int
    query_heads: int
    key_heads: int
    head_dim: int
    number_bytes: int
    """Of one number in a weight or state."""
    quantized: bool = False
    """Whether products are scaled in float32, and weights widened for each."""


def bytes_per_token(shape: LayerShape) -> int:
    """What one more token in a pack costs at the peak of a layer: in its MLP, or in a norm there.

    Alive there: the layer's input and output, the sum after attention, its norm, and the update;
    the queries, keys and values; what attention gave; sines and cosines.
    """
    heads = 2 * shape.query_heads + 2 * shape.key_heads
    numbers = 5 * shape.hidden + (heads + 2) * shape.head_dim
    # The gate, and beside it its product before activation, or the other factor.
    mlp = 2 * shape.intermediate * shape.number_bytes
    if shape.quantized:
        mlp += shape.intermediate * FLOAT32
    norm = 3 * shape.hidden * FLOAT32
    return numbers * shape.number_bytes + max(mlp, norm) + INDEX_BYTES


def fixed_bytes(shape: LayerShape, max_tokens: int) -> int:
    """What a forward costs whatever its size: gathered paths, and one widened weight."""
    paths = 2 * shape.key_heads * shape.head_dim * max(PATH_TOKENS, max_tokens)
    widened = shape.hidden * shape.intermediate if shape.quantized else 0
    return (paths + widened) * shape.number_bytes


def affordable_tokens(free: int, shape: LayerShape, max_tokens: int) -> int:
    """The largest pack that `free` bytes hold, MOST_TOKENS at most.

    Raises SettingsError when that is under LEAST_TOKENS.
    """
    left = int(free * USED) - fixed_bytes(shape, max_tokens)
    tokens = left // bytes_per_token(shape)
    if tokens < LEAST_TOKENS:
        raise SettingsError(
            f"the GPU has {free / GIB:.1f} GiB beside the weights, too little for packs of "
            f"{LEAST_TOKENS} tokens; give the model more gpus, or set pack_tokens",
            "pack_tokens",
        )
    return min(tokens, MOST_TOKENS)


def cache_tokens(backbone: "PackedBackbone", gib: float | None) -> int:
    """Tokens whose keys and values a prefix cache holds, in `gib` or, if None, in what is fit."""
    if gib is not None:
        memory = int(gib * GIB)
    else:
        free = _free_beside(backbone)
        memory = CPU_CACHE_BYTES if free is None else int(free * GPU_CACHE_SHARE)
    return min(memory // _cached_bytes(backbone), MOST_CACHED_TOKENS)


def pack_budget(backbone: "PackedBackbone", max_tokens: int, cached_tokens: int = 0) -> int:
    """Computed tokens in one forward of `backbone`, on the devices where its layers lie.

    Leaves a prefix cache of so many tokens its memory.

    Raises SettingsError when their memory is too small.
    """
    free = _free_beside(backbone)
    if free is None:
        return CPU_TOKENS
    free -= cached_tokens * _cached_bytes(backbone)
    return affordable_tokens(free, layer_shape(backbone), max_tokens)


def _cached_bytes(backbone: "PackedBackbone") -> int:
    """Of one token's keys and values in all layers."""
    shape = layer_shape(backbone)
    states = 2 * shape.key_heads * shape.head_dim * shape.number_bytes
    return states * len(backbone.layers)


def _free_beside(backbone: "PackedBackbone") -> int | None:
    """Bytes free on the fullest of the GPUs where the layers lie; None where one is on a CPU."""
    devices = {layer.attention_norm.weight.device for layer in backbone.layers}
    if any(device.type != "cuda" for device in devices):
        return None
    return min(map(_free, devices))


def layer_shape(backbone: "PackedBackbone") -> LayerShape:
    """The sizes of the layers, which are all alike."""
    layer = backbone.layers[0]
    intermediate, hidden = layer.gate.weight.shape
    dtype = backbone.embed_tokens.weight.dtype
    return LayerShape(
        hidden=hidden,
        intermediate=intermediate,
        query_heads=layer.query_heads,
        key_heads=(layer.heads - layer.query_heads) // 2,
        head_dim=layer.head_dim,
        number_bytes=dtype.itemsize,
        quantized=layer.gate.weight.dtype != dtype,
    )


def _free(device: torch.device) -> int:
    """Bytes that a forward may take: unused ones, and those that torch keeps for reuse."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
