"""Hidden states of a pack equal the plain model's, one conversation at a time."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch
from tests.engine import flash_attn_stand_in
from transformers import (
    AutoModel,
    Gemma2Config,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from rewardserve.engine import prefix_cache
from rewardserve.engine.backbone import PackedBackbone
from rewardserve.engine.backends import Backend
from rewardserve.engine.tree import TokenIds, plan_packs

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
BACKBONES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE),
    "gemma": GemmaConfig(**SIZES),
    "gemma2": Gemma2Config(**SIZES, sliding_window=4096, query_pre_attn_scalar=24),
    "gemma2-window-16": Gemma2Config(**SIZES, sliding_window=16, query_pre_attn_scalar=24),
    "mistral-window-16": MistralConfig(**SIZES, sliding_window=16),
    "qwen3": Qwen3Config(**SIZES),
}
CORPORA = [
    "single turns",
    "multi-turn pairs",
    "best of 16",
    "duplicates",
    "one-token response",
    "long",
]


def corpus(name: str) -> list[TokenIds]:
    random = np.random.default_rng(7)

    def text(length: int) -> TokenIds:
        return random.integers(1, 128, length).astype(np.int32)

    def extend(prompt: TokenIds, *lengths: int) -> list[TokenIds]:
        return [np.concatenate([prompt, text(length)]) for length in lengths]

    history = text(50)
    match name:
        case "single turns":
            return [text(length) for length in (5, 90, 33, 17)]
        case "multi-turn pairs":
            later = extend(history, 20)[0]
            return [*extend(history, 12, 30), *extend(later, 25, 8)]
        case "best of 16":
            return extend(history, *range(5, 21))
        case "duplicates":
            return [history, history, *extend(history, 9), history]
        case "long":
            return extend(text(170), 40, 150, 33)
        case _:
            return [*extend(history, 1, 1, 1), history]


def backbone(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModel.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Large weights, so that softcaps bend and every attended token shows in the result.
            parameter.normal_(0, 0.3)
    return model


@pytest.fixture(autouse=True)
def flash_attn() -> Iterator[None]:
    """flash-attn needs a GPU: its documented behaviour, written out, stands in for it."""
    with flash_attn_stand_in.installed(flash_attn_stand_in.module()):
        yield


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("shape", CORPORA)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.inference_mode()
def test_packed_hidden_states_equal_the_plain_model(name: str, shape: str) -> None:
    sequences = corpus(shape)
    stock = backbone(BACKBONES[name])
    alone = [
        stock(input_ids=torch.from_numpy(sequence).long()[None], use_cache=False).last_hidden_state
        for sequence in sequences
    ]
    for backend in get_args(Backend):
        packed = PackedBackbone(backbone(BACKBONES[name]), backend)
        packed.lay_out()
        for pack in plan_packs(sequences, pack_tokens=200, min_shared=4):
            lengths = [len(sequences[sequence]) for sequence in pack.sequences]
            rows = [
                pack.locate(leaf, position)
                for leaf, length in zip(pack.leaves, lengths, strict=True)
                for position in range(length)
            ]
            expected = torch.cat([alone[sequence][0] for sequence in pack.sequences])
            torch.testing.assert_close(
                packed(pack, rows), expected, atol=1e-5, rtol=1e-5, msg=backend
            )


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("backend", get_args(Backend))
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.inference_mode()
def test_what_is_known_need_not_be_computed(
    name: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "BLOCK", 5)
    cache = prefix_cache.PrefixCache(10**5)
    stock, packed = backbone(BACKBONES[name]), PackedBackbone(backbone(BACKBONES[name]), backend)
    packed.lay_out()
    computed = {}
    for shape in (*CORPORA, *reversed(CORPORA)):
        sequences = corpus(shape)
        limits = [len(sequence) - 1 for sequence in sequences]
        for pack in plan_packs(sequences, pack_tokens=200):
            given = dict(enumerate(sequences))
            states = cache.states(pack, given, dict(enumerate(limits)))
            rows = [
                states.pack.locate(leaf, limits[sequence])
                for sequence, leaf in zip(states.pack.sequences, states.pack.leaves, strict=True)
            ]
            actual = packed(states.pack, rows, states)
            cache.keep(states, given)
            computed[shape] = len(states.pack.token_ids), len(pack.token_ids)
            expected = [
                stock(torch.from_numpy(sequences[index]).long()[None], use_cache=False)[0][0, -1]
                for index in pack.sequences
            ]
            torch.testing.assert_close(actual, torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert all(now < whole / 2 for now, whole in computed.values())


def test_the_corpora_share_what_they_are_meant_to_share() -> None:
    sequences = corpus("best of 16")
    (pack,) = plan_packs(sequences, pack_tokens=10_000, min_shared=4)
    assert len(pack.token_ids) == 50 + sum(range(5, 21))
