"""Small tokenizers in the layouts of Gemma and Llama-3, both from one set of learned merges.

Any text can be encoded: what the merges do not cover falls back to bytes. Special tokens keep
their published ids (Gemma) or their published distances from the end of the base vocabulary
(Llama-3). Knows nothing of models.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

BASE_VOCABULARY: Final = 1920
"""Bytes and merges; special tokens come on top."""

GEMMA_SPECIALS: Final = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<2mass>", "[@BOS@]",
    *(f"<unused{i}>" for i in range(99)),
    "<start_of_turn>", "<end_of_turn>",
)  # fmt: skip
"""Ids 0 to 107; the newline follows as 108."""

_LLAMA_NAMED: Final = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    9: "<|eot_id|>",
}
LLAMA_SPECIALS: Final = (
    *(_LLAMA_NAMED.get(i, f"<|reserved_special_token_{i}|>") for i in range(256)),
    "[PAD]",
)
"""The 256 special tokens of Llama-3, and the padding token that reward models add."""

LLAMA_VOCABULARY: Final = BASE_VOCABULARY + len(LLAMA_SPECIALS)

GEMMA_VOCABULARY: Final = len(GEMMA_SPECIALS) + 1 + 256 + 95 + BASE_VOCABULARY - 256
"""Special tokens, newline, bytes, ▁ with the printable ASCII characters, merges."""

_WORDS: Final = Regex(r" ?\p{L}+|\p{N}|\n+| ?[^\s\p{L}\p{N}]+|\s")
"""Digits stand alone, so that numbers are cut the same way wherever they occur."""


@dataclass(frozen=True, slots=True)
class Merges:
    """What byte-pair encoding learned, written in the byte alphabet (a space is Ġ)."""

    tokens: list[str]
    """Bytes first, then merged tokens in the order learned."""
    merges: list[tuple[str, str]]


def learn_merges(texts: Iterable[str]) -> Merges:
    """Byte-pair merges of `texts`, `BASE_VOCABULARY` tokens in all.

    Raises ValueError when the texts have too few different words for that many.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _byte_level_words()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) < BASE_VOCABULARY:
        raise ValueError(f"the texts gave {len(vocabulary)} tokens of {BASE_VOCABULARY}; add text")
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return Merges(sorted(vocabulary, key=vocabulary.__getitem__), [(a, b) for a, b in merges])


def llama_tokenizer(learned: Merges) -> Tokenizer:
    """Byte-level BPE, with the special tokens from id `BASE_VOCABULARY` on."""
    vocabulary = {token: i for i, token in enumerate(learned.tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=learned.merges))
    tokenizer.pre_tokenizer = _byte_level_words()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_special(token) for token in LLAMA_SPECIALS])
    return _with_bos(tokenizer, "<|begin_of_text|>")


def gemma_tokenizer(learned: Merges) -> Tokenizer:
    """BPE over whole texts with byte fallback, spaces written as ▁, as SentencePiece made it."""
    vocabulary = {token: i for i, token in enumerate(_gemma_tokens(learned))}
    merges = [(_gemma_spelling(a), _gemma_spelling(b)) for a, b in learned.merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([_special(token) for token in GEMMA_SPECIALS])
    return _with_bos(tokenizer, "<bos>")


def save_gemma(learned: Merges, chat_template: str, folder: Path) -> None:
    """A Gemma tokenizer's files, laid out as published."""
    named = {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    settings = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False}
    _save(gemma_tokenizer(learned), chat_template, folder, named, settings)


def save_llama(learned: Merges, chat_template: str, folder: Path) -> None:
    """A Llama-3 tokenizer's files, laid out as published."""
    named = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "[PAD]",
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    _save(llama_tokenizer(learned), chat_template, folder, named, settings)


def _save(
    tokenizer: Tokenizer,
    chat_template: str,
    folder: Path,
    named: dict[str, str],
    settings: dict[str, Any],
) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(token_id): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
    }
    config = {
        "added_tokens_decoder": added,
        **named,
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        **settings,
    }
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", named)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _byte_level_words() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(_WORDS, "isolated")
    return pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def _with_bos(tokenizer: Tokenizer, bos: str) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )
    return tokenizer


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _gemma_tokens(learned: Merges) -> Iterator[str]:
    yield from GEMMA_SPECIALS
    yield "\n"
    yield from (f"<0x{byte:02X}>" for byte in range(256))
    yield "▁"
    yield from (chr(code) for code in range(ord("!"), ord("~") + 1))
    yield from (_gemma_spelling(token) for token in learned.tokens[256:])


def _gemma_spelling(token: str) -> str:
    """`token` in Gemma's alphabet; the corpus is ASCII, so only space and newline differ."""
    return token.replace("Ġ", "▁").replace("Ċ", "\n")
