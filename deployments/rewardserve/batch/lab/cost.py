"""What routes cost in tokens, from what they asked of whom.

The bulk job measured each model's computed tokens on the whole corpus. A route that asks a model
about a part of it is charged a share: of each prompt, counted once per call, and of each response,
by their characters. The shares of the whole corpus add up to what was measured.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rewardserve_client import Conversation, Reward


def estimated_tokens(conversations: Sequence[Conversation], rewards: Sequence[Reward]) -> float:
    """Computed tokens of one call about responses of one prompt, which is computed once.

    The prompt's share of a conversation's tokens is taken to be its share of the characters.
    """
    prompts, responses = [], 0.0
    for conversation, reward in zip(conversations, rewards, strict=True):
        lengths = [len(turn["content"]) for turn in conversation]
        prompt = reward.tokens * sum(lengths[:-1]) / max(1, sum(lengths))
        prompts.append(prompt)
        responses += reward.tokens - prompt
    return max(prompts, default=0.0) + responses


class Cost:
    """Tokens that one route asked for, by model."""

    def __init__(self) -> None:
        self.tokens = 0
        self.estimated: dict[str, float] = defaultdict(float)

    def add(
        self, model: str, conversations: Sequence[Conversation], rewards: Sequence[Reward]
    ) -> None:
        """Charge one call."""
        self.tokens += sum(reward.tokens for reward in rewards)
        self.estimated[model] += estimated_tokens(conversations, rewards)

    def computed_tokens(self, rates: Mapping[str, float]) -> int:
        """Computed tokens, from each model's measured ones for one that is estimated."""
        return round(sum(rates[model] * part for model, part in self.estimated.items()))
