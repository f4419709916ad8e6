"""The pack budget: its formula against the memory that forwards of real shapes take."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from tests.engine import dataless, flash_attn_stand_in

from rewardserve.engine import budget, flex
from rewardserve.engine.backends import Backend
from rewardserve.engine.budget import LayerShape
from rewardserve.engine.norms import fuse_norms
from rewardserve.engine.quantize import quantize
from rewardserve.engine.scorer import load_scorer
from rewardserve.errors import SettingsError

LLAMA_8B = LayerShape(4096, 14336, 32, 8, 128, number_bytes=2)
GIB = 2**30


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(flex, "_kernel", dataless.flex_kernel)
    with flash_attn_stand_in.installed(dataless.flash_attn()):
        yield


@torch.inference_mode()
def peaks(name: str, backend: Backend, *, quantized: bool) -> tuple[LayerShape, list[int], int]:
    """The layer's shape, the most bytes of two packs, and by how many tokens they differ."""
    backbone = dataless.packed(name, backend)
    if quantized:
        quantize(backbone, "int8")
    fuse_norms(backbone)
    measured = []
    sizes = []
    for prompts in (4, 8):
        pack, rows = dataless.pairs(prompts)
        sizes.append(len(pack.token_ids))
        with dataless.DeviceWork() as work:
            backbone(pack, rows)
        measured.append(work.peak)
    return budget.layer_shape(backbone), measured, sizes[1] - sizes[0]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("backend", get_args(Backend))
@pytest.mark.parametrize("name", dataless.SHAPES)
@pytest.mark.parametrize("quantized", [False, True])
def test_a_token_costs_what_the_formula_says(name: str, backend: Backend, quantized: bool) -> None:
    shape, (small, large), tokens = peaks(name, backend, quantized=quantized)
    formula = budget.bytes_per_token(shape)
    assert formula >= (large - small) / tokens
    assert formula <= 1.1 * (large - small) / tokens


def test_sizes_are_read_from_the_layers() -> None:
    assert budget.layer_shape(dataless.packed("llama-3.1-8b", "sdpa")) == LLAMA_8B
    gemma = dataless.packed("gemma-2-2b", "sdpa")
    fuse_norms(gemma)
    assert budget.layer_shape(gemma) == LayerShape(2304, 9216, 8, 4, 256, number_bytes=2)


def test_a_pack_and_what_is_fixed_fit_into_the_free_memory() -> None:
    for free in (int(1.5 * GIB), 2 * GIB):
        tokens = budget.affordable_tokens(free, LLAMA_8B, 8192)
        used = tokens * budget.bytes_per_token(LLAMA_8B) + budget.fixed_bytes(LLAMA_8B, 8192)
        assert 0 <= free * budget.USED - used < budget.bytes_per_token(LLAMA_8B)


def test_much_memory_makes_no_larger_packs() -> None:
    assert budget.affordable_tokens(100 * GIB, LLAMA_8B, 8192) == budget.MOST_TOKENS


def test_longer_paths_and_wider_weights_leave_less() -> None:
    def tokens(shape: LayerShape, max_tokens: int) -> int:
        return budget.affordable_tokens(2 * GIB, shape, max_tokens)

    assert tokens(LLAMA_8B, 131_072) < tokens(LLAMA_8B, 8192)
    assert tokens(replace(LLAMA_8B, quantized=True), 8192) < tokens(LLAMA_8B, 8192)


def test_a_gpu_without_room_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match="more gpus, or set pack_tokens"):
        budget.affordable_tokens(GIB // 4, LLAMA_8B, 8192)


def test_a_prefix_cache_takes_its_share_and_leaves_the_rest_to_packs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = dataless.packed("llama-3.1-8b", "sdpa")
    token = 2 * 8 * 128 * 2 * len(model.layers)  # keys and values, heads, dim, bytes
    assert budget.cache_tokens(model, 0.5) == GIB // 2 // token
    assert budget.cache_tokens(model, None) == min(2 * GIB // token, budget.MOST_CACHED_TOKENS)
    for free, expected in ((GIB // 2, GIB // 8 // token), (60 * GIB, budget.MOST_CACHED_TOKENS)):
        monkeypatch.setattr(budget, "_free_beside", lambda _, free=free: free)
        assert budget.cache_tokens(model, None) == expected
    monkeypatch.setattr(budget, "_free_beside", lambda _: 3 * GIB)
    cached = budget.cache_tokens(model, None)
    left = 3 * GIB - cached * token
    assert budget.pack_budget(model, 8192, cached) == budget.affordable_tokens(left, LLAMA_8B, 8192)


def test_a_number_that_is_given_wins(zoo: Path) -> None:
    folder = str(zoo / "skywork-llama-8b")
    assert load_scorer(folder).pack_tokens == budget.CPU_TOKENS
    assert load_scorer(folder, pack_tokens=77).pack_tokens == 77
