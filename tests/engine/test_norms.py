"""Fused norms give what the stock norms give, and only a GPU gets them."""

import pytest
import torch
from tests.engine import dataless
from torch import nn

from rewardserve.engine.norms import PLAIN, SHIFTED, FusedNorm, fuse_norms


@pytest.mark.parametrize("stock_class", PLAIN + SHIFTED)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-7)])
@torch.inference_mode()
def test_fused_norms_differ_from_stock_by_rounding(
    stock_class: type[nn.Module], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    stock = stock_class(64, eps=1e-5)
    stock.weight.normal_()
    stock.to(dtype)
    rows = torch.randn(7, 3, 64).to(dtype) * 3
    fused = FusedNorm(stock)(rows)
    assert fused.dtype == dtype
    torch.testing.assert_close(fused, stock(rows), atol=tolerance, rtol=tolerance)


def test_a_backbone_on_a_device_has_no_stock_norms_left() -> None:
    backbone = dataless.packed("gemma-2-27b", "sdpa")
    fuse_norms(backbone)
    kinds = {type(module) for module in backbone.modules() if "Norm" in type(module).__name__}
    assert kinds == {FusedNorm}
    pack, rows = dataless.pairs(2)
    with torch.inference_mode():
        assert backbone(pack, rows).dtype == torch.bfloat16


def test_a_cpu_keeps_its_norms() -> None:
    layers = nn.ModuleList([PLAIN[0](8)])
    fuse_norms(layers)
    assert isinstance(layers[0], PLAIN[0])
