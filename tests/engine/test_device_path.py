"""The way of a forward on a GPU: the host never waits in it, and copies through `staged` alone."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch
from tests.engine import dataless, flash_attn_stand_in

from rewardserve.engine import flex
from rewardserve.engine.backends import Backend
from rewardserve.engine.prefix_cache import PrefixCache


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(flex, "_kernel", dataless.flex_kernel)
    with flash_attn_stand_in.installed(dataless.flash_attn()):
        yield


@pytest.mark.parametrize("backend", get_args(Backend))
@pytest.mark.parametrize("name", dataless.SHAPES)
@torch.inference_mode()
def test_a_forward_asks_the_device_for_no_value(name: str, backend: Backend) -> None:
    pack, rows = dataless.pairs(3)
    with dataless.DeviceWork() as work:
        hidden = dataless.packed(name, backend)(pack, rows)
    assert hidden.shape == (6, dataless.SHAPES[name].hidden_size)
    assert work.unstaged == []


@pytest.mark.parametrize("backend", ["sdpa", "flash"])
@torch.inference_mode()
def test_known_prefixes_ask_for_none_either(backend: Backend) -> None:
    pack, _ = dataless.pairs(3)
    backbone = dataless.packed("gemma-2-2b", backend)
    sequences = {
        index: pack.token_ids[np.r_[tuple(pack.pieces(leaf, 0, 650))]]
        for index, leaf in zip(pack.sequences, pack.leaves, strict=True)
    }
    cache = PrefixCache(10**5)
    with dataless.DeviceWork() as work:
        for _ in range(2):
            states = cache.states(pack, sequences, dict.fromkeys(sequences, 649))
            rows = [states.pack.locate(leaf, 649) for leaf in states.pack.leaves]
            hidden = backbone(states.pack, rows, states)
            cache.keep(states, sequences)
    assert len(states.pack.token_ids) < len(pack.token_ids) / 10
    assert hidden.shape == (6, 2304)
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
