"""Reward functions for TRL's trainers (GRPO, RLOO and others).

    from trl import GRPOTrainer
    from rewardserve_client.integrations.trl import reward_function

    trainer = GRPOTrainer(
        reward_funcs=[reward_function(model="armorm"), reward_function(model="skywork-27b")], ...
    )

The functions are coroutines, so that TRL asks several models at the same time. TRL itself is not
imported.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any, TypeAlias, Unpack

from rewardserve_client._async_client import AsyncRewardClient
from rewardserve_client._client import RewardClient
from rewardserve_client._errors import InvalidConversation
from rewardserve_client._plan import ScoreOptions
from rewardserve_client._results import Rewards
from rewardserve_client._types import Message, Prompt

RewardFunction: TypeAlias = Callable[..., Awaitable[list[float]]]
Group: TypeAlias = tuple[Prompt, list[str]]


def reward_function(
    client: RewardClient | AsyncRewardClient | None = None, **options: Unpack[ScoreOptions]
) -> RewardFunction:
    """A reward function that gives the score of every completion.

    Without `client` it is the cluster that the environment names. In TRL's logs it has the name of
    the model; the means of attributes and of uncertainty are logged as `<model>/<attribute>`. The
    completions of one prompt are scored together. A failure ends the training step with a
    `RewardClientError`, and is never a reward.
    """
    awaited = client.awaited() if isinstance(client, RewardClient) else client
    cluster = awaited or AsyncRewardClient()
    name = options.get("model", "default")

    async def reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **_: object,
    ) -> list[float]:
        groups = _groups(prompts, completions)
        rewards = Rewards(
            reward
            for together in await cluster.score_groups(groups, **options)
            for reward in together
        )
        if log_metric is not None:
            for part, mean in _means(rewards).items():
                log_metric(f"{name}/{part}", mean)
        return rewards.scores

    reward.__name__ = name
    return reward


def _groups(prompts: Sequence[Any], completions: Sequence[Any]) -> list[Group]:
    """Neighbouring completions of the same prompt, together."""
    pairs = [_split(*pair) for pair in zip(prompts, completions, strict=True)]
    return [
        (prompt, [response for _, response in same])
        for prompt, same in groupby(pairs, key=lambda pair: pair[0])
    ]


def _split(prompt: Any, completion: Any) -> tuple[Prompt, str]:
    """What the last response answers, and that response; TRL has texts and lists of messages."""
    if isinstance(completion, str):
        return prompt, completion
    *before, last = completion
    if last["role"] != "assistant" or not isinstance(last["content"], str):
        raise InvalidConversation(
            "a completion must end with a text of the assistant; a tool call cannot be scored"
        )
    turns = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    return [*turns, *before], last["content"]


def _means(rewards: Rewards) -> dict[str, float]:
    """The mean of each attribute and uncertainty over all rewards that have it."""
    values: dict[str, list[float]] = {}
    for reward in rewards:
        for name, value in {**(reward.attributes or {}), **_uncertainty(reward)}.items():
            values.setdefault(name, []).append(value)
    return {name: fmean(each) for name, each in values.items()}


def _uncertainty(reward: Any) -> dict[str, float]:
    return {f"uncertainty/{name}": value for name, value in (reward.uncertainty or {}).items()}
