"""The public types as a user's checker sees them. Never run; checked by mypy and pyright."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from rewardserve_client import (
    AsyncRewardClient,
    Busy,
    Conversation,
    Message,
    Ranking,
    Reward,
    RewardClient,
    RewardClientError,
    Rewards,
    ServedModel,
    Timeout,
)
from rewardserve_client.integrations.trl import reward_function
from rewardserve_client.pairs import Pair, PairRules, mine_pairs
from rewardserve_client.sampling import RejectionSampler, SamplingReport, best
from rewardserve_client.testing import FakeCluster

conversation: Conversation = [
    {"role": "user", "content": "Why?"},
    Message(role="assistant", content="Because."),
]


def blocking() -> None:
    with RewardClient("http://127.0.0.1:8000", timeout=Timeout(30, connect=2)) as client:
        assert_type(client, RewardClient)
        assert_type(client.score(conversation), Reward)
        assert_type(client.score(conversation, model="armorm", truncate=True), Reward)
        assert_type(client.score_many([conversation], tags={"domain": "code"}), Rewards)
        assert_type(client.score_stream(iter([conversation])), Iterator[Reward])
        assert_type(client.score_responses("Why?", ["Because."]), Rewards)
        assert_type(client.score_groups([("Why?", ["Because."])]), list[Rewards])
        assert_type(client.best_of_n([{"role": "user", "content": "Why?"}], ["a"]), Ranking)
        assert_type(client.models(), list[ServedModel])
        assert_type(client.awaited(), AsyncRewardClient)


async def awaited() -> None:
    async with AsyncRewardClient.from_handle("router") as client:
        assert_type(client, AsyncRewardClient)
        assert_type(await client.score(conversation, priority="bulk"), Reward)
        assert_type(await client.score_many([conversation]), Rewards)
        assert_type(client.score_stream([conversation]), AsyncIterator[Reward])
        assert_type(await client.best_of_n("Why?", ["a", "b"]), Ranking)


def results(ranking: Ranking, reward: Reward) -> None:
    assert_type(ranking.best, str)
    assert_type(ranking.order, list[int])
    assert_type(ranking.rewards[0], Reward)
    assert_type(ranking.rewards.scores, list[float])
    assert_type(reward.attributes, dict[str, float] | None)
    assert_type(reward.to_dict(), dict[str, Any])


def errors(error: RewardClientError) -> None:
    assert_type(error.code, str | None)
    if isinstance(error, Busy):
        assert_type(error.retry_after_s, float | None)


def loops(client: RewardClient) -> None:
    def generate(prompt: str | list[Message], n: int) -> list[str]:
        return [str(prompt)] * n

    async def generate_later(prompt: str | list[Message], n: int) -> list[str]:
        return [str(prompt)] * n

    sampler = RejectionSampler(generate, client, 8, keep=best(2))
    assert_type(sampler.run(["Why?"], "samples.jsonl"), SamplingReport)
    RejectionSampler(generate_later, client.awaited(), 8, stop_at=1.0)
    assert_type(mine_pairs("Why?", ["a", "b"], [1.0, None], PairRules(min_margin=0.1)), list[Pair])
    reward_function(client, model="armorm")
    assert_type(FakeCluster(score=lambda turns: float(len(turns))).client(), RewardClient)
