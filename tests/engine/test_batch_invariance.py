"""With `batch_invariant`, a conversation's reward has the same bits whatever shares its packs."""

from pathlib import Path

import numpy as np
import pytest

from rewardserve.engine.scorer import Scorer, load_scorer
from rewardserve.families.base import Encoded

PACKINGS = 125
"""For each of two models and four pack sizes: 1,000 in all."""


def corpus(scorer: Scorer) -> list[Encoded]:
    """Shared prompts, shared histories, duplicates and lone texts, short to several blocks long."""
    random = np.random.default_rng(3)

    def text(words: int) -> str:
        return " ".join(f"{number:x}" for number in random.integers(0, 999, words))

    conversations = []
    for turns in (1, 3):
        history = [
            {"role": ("user", "assistant")[turn % 2], "content": text(30)} for turn in range(turns)
        ]
        for words in (1, 2, 20, 60):
            answer = {"role": "assistant", "content": text(words)}
            conversations.append([*history, answer])
    conversations += [conversations[0], conversations[5]]
    return [scorer.encode(conversation) for conversation in conversations]


@pytest.mark.parametrize("name", ["armorm", "skywork-gemma2-27b"])
def test_a_thousand_packings_give_the_same_bits(zoo: Path, name: str) -> None:
    scorers = [
        load_scorer(str(zoo / name), pack_tokens=pack_tokens, batch_invariant=True)
        for pack_tokens in (1, 200, 600, 4096)
    ]
    encoded = corpus(scorers[0])
    alone = [scorers[0].score_encoded([item]).rewards[0] for item in encoded]
    random = np.random.default_rng(4)
    for scorer in scorers:
        for _ in range(PACKINGS):
            chosen = random.permutation(len(encoded))[: random.integers(1, len(encoded) + 1)]
            batch = scorer.score_encoded([encoded[index] for index in chosen])
            for index, reward in zip(chosen, batch.rewards, strict=True):
                assert reward == alone[index]
