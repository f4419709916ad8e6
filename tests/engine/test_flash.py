"""Flash attention gathers no more keys at once than it says, and gives the same either way."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.engine import flash_attn_stand_in

from rewardserve.engine.attention import SPARE_ROWS, AttentionSettings, SpanAttention
from rewardserve.engine.spans import node_spans, readout_spans
from rewardserve.engine.tree import Pack, plan_packs

CPU = torch.device("cpu")


@pytest.fixture
def flash() -> Iterator[ModuleType]:
    """The module, with flash-attn's documented behaviour under it."""
    with flash_attn_stand_in.installed(flash_attn_stand_in.module()) as module:
        yield module


def many_answers() -> Pack:
    random = np.random.default_rng(1)
    prompt = random.integers(1, 99, 200)
    sequences = [
        np.concatenate([prompt, random.integers(1, 99, length)]).astype(np.int32)
        for length in range(5, 25)
    ]
    (pack,) = plan_packs(sequences, pack_tokens=10**6)
    return pack


@pytest.mark.parametrize(
    "how", [AttentionSettings(), AttentionSettings(20.0, 50), AttentionSettings(window=50)]
)
def test_attention_in_several_calls_is_the_same(
    flash: ModuleType, monkeypatch: pytest.MonkeyPatch, how: AttentionSettings
) -> None:
    pack = many_answers()
    torch.manual_seed(0)
    tokens = len(pack.token_ids)
    query, key, value = (torch.randn(heads, tokens + SPARE_ROWS, 16) for heads in (4, 2, 2))
    for spans in (node_spans(pack), readout_spans(pack, range(0, tokens, 9))):
        asked = query[:, : spans[-1].queries.stop + SPARE_ROWS]
        expected = SpanAttention(spans, torch.float32, CPU).attend(asked, key, value, how)
        for limit in (10**6, 1000, 1):
            monkeypatch.setattr(flash, "PATH_TOKENS", limit)
            attended = flash.FlashAttention(spans, CPU).attend(asked, key, value, how)
            torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-5)


def test_no_call_gathers_more_than_the_limit_or_one_path(
    flash: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flash, "PATH_TOKENS", 500)
    spans = node_spans(many_answers())
    groups = list(flash._groups(spans))
    assert [span for group in groups for span in group] == spans
    assert len(groups) > 1
    assert all(sum(span.length for span in group) <= 500 for group in groups)
    monkeypatch.setattr(flash, "PATH_TOKENS", 1)
    assert [len(group) for group in flash._groups(spans)] == [1] * len(spans)
