"""The matrix product every layer is made of, by the fastest way each device has.

On CPU that is oneDNN, which torch reaches by an operator without a public name: where torch's
default library leaves AVX-512 unused it runs at more than twice that library's rate in float32
(benchmarks/README.md). A row's product is the same bits whatever rows are beside it, which
`batch_invariant` relies on. A shape that is new costs 0.3 ms once: callers round their shapes.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import linear as default_linear

_ONEDNN: Final = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - it has no other name


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`rows @ weight.T + bias` for rows [m, k], and weight [n, k] or a transposed view."""
    if not keeps_bits(rows.device, rows.dtype):
        return default_linear(rows, weight, bias)
    if len(rows) == 1:
        # Alone, a row meets another kernel than beside others, and rounds otherwise.
        return linear(torch.cat([rows, rows]), weight, bias)[:1]
    product: Tensor = _ONEDNN(rows, weight, bias, "none", [], "")
    return product


def keeps_bits(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `linear` is oneDNN's, whose products keep a row's bits beside other rows.

    Most CPUs have no float16 product in oneDNN; torch's own is slow there, and works.
    """
    return device.type == "cpu" and dtype != torch.float16
