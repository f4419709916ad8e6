"""The way of a forward on a GPU: the host never waits in it, and copies through `staged` alone."""

import sys
from typing import get_args

import pytest
import torch
from tests.engine import dataless

from rewardserve.engine import flex
from rewardserve.engine.backends import Backend


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", dataless.flash_attn())
    monkeypatch.setattr(flex, "_kernel", dataless.flex_kernel)


@pytest.mark.parametrize("backend", get_args(Backend))
@pytest.mark.parametrize("name", dataless.SHAPES)
@torch.inference_mode()
def test_a_forward_asks_the_device_for_no_value(name: str, backend: Backend) -> None:
    pack, rows = dataless.pairs(3)
    with dataless.DeviceWork() as work:
        hidden = dataless.packed(name, backend)(pack, rows)
    assert hidden.shape == (6, dataless.SHAPES[name].hidden_size)
    assert work.unstaged == []


@torch.inference_mode()
def test_the_check_sees_what_it_is_for() -> None:
    values = torch.ones(3, device="meta")
    with pytest.raises(RuntimeError):
        values.sum().item()
    with pytest.raises(RuntimeError):
        values[values > 0]
    with dataless.DeviceWork() as work:
        torch.ones(3).to("meta")
    assert work.unstaged
