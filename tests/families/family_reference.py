"""What every family's test compares with: conversations, card token ids, and closeness."""

from pathlib import Path

import torch
from tiny_checkpoints import hidden_states
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rewardserve.families.base import RewardParts
from rewardserve.families.loading import LoadedModel

CONVERSATIONS = [
    [
        {"role": "user", "content": "What is two and two?"},
        {"role": "assistant", "content": "Four."},
    ],
    [
        {"role": "user", "content": "Name a fox."},
        {"role": "assistant", "content": "The quick brown one."},
        {"role": "user", "content": " And a dog? "},
        {"role": "assistant", "content": "The lazy one, über alles, 犬 \U0001f436."},
    ],
    [{"role": "user", "content": "Say nothing."}, {"role": "assistant", "content": ""}],
]


def rewards(model: LoadedModel) -> list[tuple[list[int], RewardParts]]:
    """Ids and reward of each conversation, computed as the engine does, one at a time."""
    results = []
    for conversation in CONVERSATIONS:
        ids, truncated = model.text.encode(conversation, max_tokens=model.max_tokens)
        assert not truncated
        states = hidden_states(model.backbone, ids)
        read = states[list(model.head.readouts(ids))]
        with torch.no_grad():
            results.append((ids.tolist(), model.head(read[None])[0]))
    return results


def card_ids(folder: Path, conversation: list[dict[str, str]], bos_tokens: int = 1) -> list[int]:
    """The template's text through the plain tokenizer, with `bos_tokens` BOS in front."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    text = tokenizer.apply_chat_template(conversation, tokenize=False)
    text = text.removeprefix(tokenizer.bos_token)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.bos_token_id] * bos_tokens + ids


def assert_close(found: dict[str, float] | float | None, expected: Tensor) -> None:
    values = list(found.values()) if isinstance(found, dict) else found
    torch.testing.assert_close(torch.tensor(values), expected, rtol=1e-5, atol=1e-5)
