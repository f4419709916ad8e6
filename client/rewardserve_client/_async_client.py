"""The client whose methods are awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self, Unpack

from rewardserve_client._base_client import BaseClient
from rewardserve_client._in_order import in_order
from rewardserve_client._plan import (
    Part,
    ScoreOptions,
    candidates_request,
    conversation_request,
    parts,
)
from rewardserve_client._results import Ranking, Rewards
from rewardserve_client._types import Conversation, Prompt, Reward, ServedModel


class AsyncRewardClient(BaseClient):
    """Asks a cluster what responses are worth; like `RewardClient`, awaited.

        async with AsyncRewardClient("http://127.0.0.1:8000") as client:
            reward = await client.score(conversation, model="armorm")

    It may be shared by tasks, used in several event loops, and pickled.
    """

    async def score(self, messages: Conversation, **options: Unpack[ScoreOptions]) -> Reward:
        """The reward of one conversation; its last turn is the response."""
        request = conversation_request(messages, options)
        return (await self._cluster.rewards(request))[0]

    async def score_many(
        self,
        conversations: Iterable[Conversation],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> Rewards:
        """The rewards of many conversations, in their order: all of them, or an error."""
        stream = self.score_stream(conversations, stall_s=stall_s, **options)
        return Rewards([reward async for reward in stream])

    async def score_stream(
        self,
        conversations: Iterable[Conversation],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> AsyncIterator[Reward]:
        """Like `score_many` for input of any length; reads it a little ahead of what it yields."""

        def start(part: Part) -> asyncio.Task[Rewards]:
            return asyncio.create_task(self._cluster.rewards_in_stream(part, stall_s))

        with closing(
            in_order(parts(conversations, options), start, self._cluster.ahead)
        ) as answers:
            for answer in answers:
                for reward in await self._cluster.finished(answer, stall_s):
                    yield reward

    async def score_responses(
        self, prompt: Prompt, responses: Sequence[str], **options: Unpack[ScoreOptions]
    ) -> Rewards:
        """The rewards of responses to one prompt, in their order."""
        return await self._cluster.rewards(candidates_request(prompt, responses, options))

    async def best_of_n(
        self, prompt: Prompt, responses: Sequence[str], **options: Unpack[ScoreOptions]
    ) -> Ranking:
        """The responses to one prompt, ranked by reward."""
        rewards = await self.score_responses(prompt, responses, **options)
        return Ranking(tuple(responses), rewards)

    async def models(self) -> list[ServedModel]:
        """The models and routes that a call may name."""
        return (await self._cluster.models()).data

    async def aclose(self) -> None:
        """Closes the connections of this event loop; a later call opens new ones."""
        await self._cluster.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
