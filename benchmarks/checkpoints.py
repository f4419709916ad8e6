"""Reward models with random weights, written as any checkpoint: a folder that every peer loads.

Random weights cost what trained ones do. Knows sizes, tokenizers and files; measures nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    Gemma2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from rewardserve.zoo import templates

logging.disable_progress_bar()  # type: ignore[no-untyped-call]

Backbone = Literal["llama", "gemma2"]

MAX_TOKENS: Final = 4096


@dataclass(frozen=True, slots=True)
class Size:
    """The dimensions of a backbone."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int
    vocabulary: int
    """Rows of the embedding; the tokenizer uses as many or fewer."""
    merges: int
    """Tokens the tokenizer learns from the texts, special ones not counted."""


SMALL: Final = Size(512, 8, 8, 2, 3584, 32_000, 12_000)
"""65.7 million parameters as a Llama, 49.3 million of them in the layers."""

TINY: Final = Size(64, 2, 2, 1, 128, 2_048, 1_000)
"""Runs in milliseconds; measures overheads and nothing else."""


@dataclass(frozen=True, slots=True)
class Turns:
    """How a model family writes conversations."""

    pad: str
    bos: str
    eos: str
    marks: tuple[str, ...]
    """The first opens a turn."""
    template: str


TURNS: Final[dict[Backbone, Turns]] = {
    "llama": Turns(
        pad="[PAD]",
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        marks=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        template=templates.LLAMA3,
    ),
    "gemma2": Turns(
        pad="<pad>",
        bos="<bos>",
        eos="<eos>",
        marks=("<start_of_turn>", "<end_of_turn>"),
        template=templates.GEMMA,
    ),
}


@dataclass(frozen=True, slots=True)
class Written:
    """A checkpoint on disk."""

    folder: Path
    turns: Turns
    tokenizer: PreTrainedTokenizerFast
    layer_parameters: int
    """Parameters outside the embedding: what every computed token is multiplied with."""


def write_checkpoint(
    folder: Path, backbone: Backbone, size: Size, texts: Iterable[str], *, seed: int = 0
) -> Written:
    """A `*ForSequenceClassification` checkpoint with one score, float32, and its tokenizer."""
    tokenizer = train_tokenizer(TURNS[backbone], size.merges, texts)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
        config(backbone, size, tokenizer)
    )
    # Scores spread like those of real reward models, so that differences between peers show.
    nn.init.normal_(model.score.weight, std=size.hidden**-0.5)
    model.save_pretrained(folder)
    embedding = model.get_input_embeddings().weight.numel()
    return Written(folder, TURNS[backbone], tokenizer, model.num_parameters() - embedding)


def config(backbone: Backbone, size: Size, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The transformers config of a reward model of that size."""
    shared: dict[str, Any] = {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_heads,
        "head_dim": size.hidden // size.heads,
        "intermediate_size": size.intermediate,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": MAX_TOKENS,
        "num_labels": 1,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "dtype": "float32",
    }
    if backbone == "llama":
        return LlamaConfig(**shared)
    return Gemma2Config(
        query_pre_attn_scalar=size.hidden // size.heads,
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        **shared,
    )


def train_tokenizer(turns: Turns, merges: int, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that has learned `texts` and adds one BOS, as the families' do."""
    special = [turns.pad, turns.bos, turns.eos, *turns.marks]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=merges + len(special),
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{turns.bos} $A",
        pair=f"{turns.bos} $A $B",
        special_tokens=[(turns.bos, special.index(turns.bos))],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=turns.pad,
        bos_token=turns.bos,
        eos_token=turns.eos,
        chat_template=turns.template,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )
