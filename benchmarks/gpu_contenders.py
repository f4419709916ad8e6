"""What `benchmarks.gpu` measures: real shapes with random weights, plain transformers and ours.

Knows models. Knows nothing of clocks, tables or results.
"""

import copy
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    Gemma2Config,
    LlamaConfig,
    PreTrainedConfig,
)

from benchmarks.peers.batches import chosen, padded
from benchmarks.peers.protocol import Outcome
from rewardserve.engine.backends import Backend
from rewardserve.engine.scorer import Scorer
from rewardserve.families.base import Encoded
from rewardserve.families.linear import LinearHead
from rewardserve.families.loading import LoadedModel
from rewardserve.families.text import TextPolicy

Contender: TypeAlias = Callable[[list[list[int]]], Outcome]

PAD: Final = 0
ONE_SCORE: Final[dict[str, Any]] = {"num_labels": 1, "pad_token_id": PAD}

MODELS: Final[dict[str, Callable[[], PreTrainedConfig]]] = {
    "llama-3.1-8b": lambda: _llama(4096, 32, 32, 8, 14336, 128_257),
    "gemma-2-2b": lambda: _gemma2(2304, 26, 8, 4, 256, 9216, 256),
    "gemma-2-27b": lambda: _gemma2(4608, 46, 32, 16, 128, 36_864, 144),
}
TINY_MODELS: Final[dict[str, Callable[[], PreTrainedConfig]]] = {
    "tiny gemma-2": lambda: _gemma2(64, 3, 2, 1, 32, 128, 32, vocabulary=500),
    "tiny llama": lambda: _llama(64, 3, 2, 1, 128, 500),
}


def _llama(
    hidden: int, layers: int, heads: int, key_heads: int, intermediate: int, vocabulary: int
) -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        **ONE_SCORE,
    )


def _gemma2(
    hidden: int,
    layers: int,
    heads: int,
    key_heads: int,
    head_dim: int,
    intermediate: int,
    scalar: int,
    *,
    vocabulary: int = 256_000,
) -> PreTrainedConfig:
    return Gemma2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=head_dim,
        intermediate_size=intermediate,
        query_pre_attn_scalar=scalar,
        vocab_size=vocabulary,
        **ONE_SCORE,
    )


class Stock:
    """Plain transformers, in one of the ways `chosen` knows."""

    def __init__(self, model: nn.Module, way: str) -> None:
        self._model = model
        self._way = way

    @torch.inference_mode()
    def __call__(self, sequences: list[list[int]]) -> Outcome:
        scores = [0.0] * len(sequences)
        computed = 0
        device = next(self._model.parameters()).device
        for indices in chosen(self._way, [len(row) for row in sequences]):
            inputs = padded([sequences[index] for index in indices], PAD)
            computed += inputs["input_ids"].numel()
            moved = {name: value.to(device) for name, value in inputs.items()}
            logits = self._model(**moved, use_cache=False).logits[:, 0].float().tolist()
            for index, score in zip(indices, logits, strict=True):
                scores[index] = score
        return Outcome(scores, computed)


class Ours:
    """A `Scorer` that shares the stock model's weights but q, k and v, fed with token ids."""

    def __init__(self, model: Any, attention: Backend) -> None:
        head = LinearHead(model.config.hidden_size)
        head.load_state_dict({"score.weight": model.score.weight.float()})
        base = model.base_model
        # To a copy, what is in the memo is copied already: modules are new, tensors are not.
        tensors = [*base.parameters(), *base.buffers()]
        backbone = copy.deepcopy(base, {id(tensor): tensor for tensor in tensors})
        weight = model.score.weight
        loaded = LoadedModel(
            name="random",
            source="random",
            revision=None,
            family="linear",
            backbone=backbone,
            head=head.to(weight.device).requires_grad_(False),
            text=cast("TextPolicy", None),  # never asked: everything is token ids already
            max_tokens=8192,
            dtype=weight.dtype,
            device=weight.device,
        )
        self._scorer = Scorer(loaded, attention=attention)

    def __call__(self, sequences: list[list[int]]) -> Outcome:
        encoded = [Encoded(np.array(row, np.int32), (len(row) - 1,)) for row in sequences]
        scored = self._scorer.score_encoded(encoded)
        return Outcome([reward.score for reward in scored.rewards], scored.computed_tokens)


def random_model(config: PreTrainedConfig, device: str, dtype: torch.dtype) -> Any:
    """A reward model with random weights, made on the device; eager attention where it caps."""
    torch.manual_seed(0)
    capped = getattr(config, "attn_logit_softcapping", None)
    with torch.device(device):
        model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, attn_implementation="eager" if capped else "sdpa"
        )
    nn.init.normal_(model.score.weight, std=config.hidden_size**-0.5)
    return model.eval().requires_grad_(False)
