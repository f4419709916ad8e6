"""Weights in 8 bits: each projection rounded once at load, multiplied in the rows' own dtype.

One scale per output row, symmetric: w = s q with s = max|w| / the largest q. Halves the memory of
bfloat16 weights; norms, embeddings and heads stay as they are. Knows projections, not scores.
"""

from typing import Final

import torch
from torch import Tensor, nn

from rewardserve.engine.backbone import PackedBackbone, Projection
from rewardserve.engine.linear import linear
from rewardserve.settings import Quantization

STORED: Final = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
LARGEST: Final = {"int8": 127.0, "fp8": 448.0}


class QuantizedProjection(nn.Module):
    """A projection whose weights are 8-bit numbers and one float32 scale per output row."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, exact: Projection, how: Quantization) -> None:
        super().__init__()
        rows = exact.weight.float()
        largest = rows.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        scale = largest / LARGEST[how]
        scaled = rows / scale[:, None]
        self.register_buffer(
            "weight", (scaled.round() if how == "int8" else scaled).to(STORED[how])
        )
        self.register_buffer("scale", scale)
        self.register_buffer("bias", exact.bias)
        self.activation = exact.activation

    def forward(self, rows: Tensor) -> Tensor:
        product = (linear(rows, self.weight.to(rows.dtype)) * self.scale).to(rows.dtype)
        if self.bias is not None:
            product.add_(self.bias)
        return product if self.activation is None else self.activation(product)


def quantize(backbone: PackedBackbone, how: Quantization) -> None:
    """Replace every projection of `backbone`, one at a time, so that memory only falls."""
    for layer in backbone.layers:
        for name, child in list(layer.named_children()):
            if isinstance(child, Projection):
                setattr(layer, name, QuantizedProjection(child, how))
