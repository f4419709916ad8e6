"""RMS norms in one pass over memory, for GPUs.

Stock norms are written out in float32, six to eight passes that take a GPU longer than a tenth of
a layer's products. Knows the two conventions of weights, not layers.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import rms_norm
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

PLAIN = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)
"""Normed values are rounded to the rows' dtype and multiplied by the weight."""
SHIFTED = (GemmaRMSNorm, Gemma2RMSNorm)
"""Normed values are multiplied by 1 + weight in float32, and rounded then."""


class FusedNorm(nn.Module):
    """Takes a stock norm's place; the result differs by rounding alone."""

    weight: Tensor

    def __init__(self, stock: Any) -> None:
        super().__init__()
        shifted = isinstance(stock, SHIFTED)
        weight = stock.weight.detach()
        # Close to 1, the shifted weight would lose its last bits in half precision.
        self.register_buffer("weight", 1.0 + weight.float() if shifted else weight)
        self.eps: float = stock.eps if shifted else stock.variance_epsilon

    def forward(self, rows: Tensor) -> Tensor:
        # The fused kernel wants rows and weight of one dtype.
        same = rows.to(self.weight.dtype)
        return rms_norm(same, self.weight.shape, self.weight, self.eps).to(rows.dtype)


def fuse_norms(module: nn.Module) -> None:
    """Replace every stock RMS norm in `module` that lies on a GPU."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, PLAIN + SHIFTED) and child.weight.device.type != "cpu":
                setattr(parent, name, FusedNorm(child))
