"""The matrix product every layer is made of, by the fastest way each device has.

On CPU that is oneDNN, which torch reaches by an operator without a public name: where torch's
default library leaves AVX-512 unused it runs at more than twice that library's rate in float32
(benchmarks/README.md). A row's product is the same bits whatever rows are beside it, which
`batch_invariant` relies on. A shape that is new costs 0.3 ms once: callers round their shapes.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as default_linear
from transformers.activations import GELUTanh, SiLUActivation

_ONEDNN: Final = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - it has no other name
_LAY_OUT: Final = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001

_IN_PRODUCT: Final[dict[type, tuple[str, str]]] = {
    nn.SiLU: ("swish", ""),
    SiLUActivation: ("swish", ""),
    GELUTanh: ("gelu", "tanh"),
    nn.Tanh: ("tanh", ""),
}
"""Activations that oneDNN applies to a product before it is written: its names for them."""


def linear(
    rows: Tensor, weight: Tensor, bias: Tensor | None = None, activation: nn.Module | None = None
) -> Tensor:
    """`activation(rows @ weight.T + bias)` for rows [m, k].

    Takes weight [n, k], a transposed view of one, or what `laid_out` gave.
    """
    if not keeps_bits(rows.device, rows.dtype):
        product = default_linear(rows, weight, bias)
        return product if activation is None else activation(product)
    if len(rows) == 1:
        # Alone, a row meets another kernel than beside others, and rounds otherwise.
        return linear(torch.cat([rows, rows]), weight, bias, activation)[:1]
    name, algorithm = _IN_PRODUCT.get(type(activation), ("none", ""))
    product = _ONEDNN(rows, weight, bias, name, [], algorithm)
    return product if activation is None or name != "none" else activation(product)  # type: ignore[no-any-return]


def laid_out(weight: Tensor, rows: int) -> Tensor:
    """`weight` in the order its products read it; only `linear` can use it then.

    The order suits products of `rows` rows best; any other count works.
    """
    if not keeps_bits(weight.device, weight.dtype):
        return weight
    ordered: Tensor = _LAY_OUT(weight, rows)
    return ordered


def keeps_bits(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `linear` is oneDNN's, whose products keep a row's bits beside other rows.

    Most CPUs have no float16 product in oneDNN; torch's own is slow there, and works.
    """
    return device.type == "cpu" and dtype != torch.float16
