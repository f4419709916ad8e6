"""Reward functions for verl, by the path of this file.

    reward.custom_reward_function.path=<this file>
    reward.custom_reward_function.name=compute_score          # or compute_score_batch
    +reward.custom_reward_function.reward_kwargs.model=armorm

verl gives a reward function the response alone; the prompt must be in the data's `extra_info`,
under `prompt` or the name given as `prompt_key`. The cluster is the one that `REWARDSERVE_URL`
names, or the keyword `url`. verl itself is not imported.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from rewardserve_client._async_client import AsyncRewardClient
from rewardserve_client._client import RewardClient
from rewardserve_client._errors import InvalidConversation
from rewardserve_client._types import Conversation, Prompt, Reward, join_turns


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    model: str = "default",
    truncate: bool = False,
    prompt_key: str = "prompt",
    url: str | None = None,
    **_: object,
) -> dict[str, float]:
    """The score of one response, and its attributes as further keys.

    For the reward managers that ask for one sample at a time; verl awaits it, so that many are
    under way together. A failure is a `RewardClientError`, never a reward.
    """
    conversation = _conversation(extra_info or {}, solution_str, prompt_key)
    reward = await _awaited(url).score(conversation, model=model, truncate=truncate)
    return _as_dict(reward)


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any]],
    *,
    model: str = "default",
    truncate: bool = False,
    prompt_key: str = "prompt",
    url: str | None = None,
    **_: object,
) -> list[dict[str, float]]:
    """The scores of a whole batch, in order; for the `batch` reward manager."""
    conversations = [
        _conversation(info, response, prompt_key)
        for info, response in zip(extra_infos, solution_strs, strict=True)
    ]
    rewards = _blocking(url).score_many(conversations, model=model, truncate=truncate)
    return [_as_dict(reward) for reward in rewards]


def _conversation(info: Mapping[str, Any], response: str, prompt_key: str) -> Conversation:
    if prompt_key not in info:
        raise InvalidConversation(
            f"extra_info has no {prompt_key!r}: put the prompt there when the data is made, or "
            "name its key with reward_kwargs.prompt_key"
        )
    return join_turns(_prompt(info[prompt_key]), response)


def _prompt(prompt: Any) -> Prompt:
    """Text, or a list of messages; Parquet gives an array of them."""
    return prompt if isinstance(prompt, str) else list(prompt)


def _as_dict(reward: Reward) -> dict[str, float]:
    return {"score": reward.score, **(reward.attributes or {})}


@cache
def _awaited(url: str | None) -> AsyncRewardClient:
    return AsyncRewardClient(url)


@cache
def _blocking(url: str | None) -> RewardClient:
    return RewardClient(url)
