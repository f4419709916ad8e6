"""The client whose methods are awaited."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, closing
from types import TracebackType
from typing import Self, Unpack

from rewardserve_client._base_client import BaseClient
from rewardserve_client._in_order import in_order
from rewardserve_client._plan import (
    Part,
    ScoreOptions,
    candidates_inputs,
    conversation_inputs,
    parts,
    request_for,
)
from rewardserve_client._results import Ranking, Rewards, regrouped
from rewardserve_client._types import Conversation, Prompt, Reward, ServedModel


class AsyncRewardClient(BaseClient):
    """Asks a cluster what responses are worth; like `RewardClient`, awaited.

        async with AsyncRewardClient("http://127.0.0.1:8000") as client:
            reward = await client.score(conversation, model="armorm")

    It may be shared by tasks, used in several event loops, and pickled.
    """

    async def score(self, messages: Conversation, **options: Unpack[ScoreOptions]) -> Reward:
        """The reward of one conversation; its last turn is the response."""
        request = request_for(conversation_inputs([messages]), options)
        return (await self._cluster.rewards(request))[0]

    async def score_many(
        self,
        conversations: Iterable[Conversation],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> Rewards:
        """The rewards of many conversations, in their order: all of them, or an error."""
        work = parts(conversation_inputs(conversations), options)
        async with aclosing(self._stream(work, stall_s)) as stream:
            return Rewards([reward async for rewards in stream for reward in rewards])

    async def score_stream(
        self,
        conversations: Iterable[Conversation],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> AsyncIterator[Reward]:
        """Like `score_many` for input of any length; reads it a little ahead of what it yields."""
        work = parts(conversation_inputs(conversations), options)
        async with aclosing(self._stream(work, stall_s)) as stream:
            async for rewards in stream:
                for reward in rewards:
                    yield reward

    async def score_responses(
        self, prompt: Prompt, responses: Sequence[str], **options: Unpack[ScoreOptions]
    ) -> Rewards:
        """The rewards of responses to one prompt, in their order."""
        request = request_for(candidates_inputs([(prompt, responses)]), options)
        return await self._cluster.rewards(request)

    async def score_groups(
        self,
        groups: Sequence[tuple[Prompt, Sequence[str]]],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> list[Rewards]:
        """The rewards of many prompts' responses, one list per prompt."""
        work = parts(candidates_inputs(groups), options)
        async with aclosing(self._stream(work, stall_s)) as stream:
            return regrouped([reward async for rewards in stream for reward in rewards], groups)

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

    async def _stream(self, work: Iterable[Part], stall_s: float) -> AsyncGenerator[Rewards]:
        """The rewards of each part, in order, running a bounded number of parts ahead."""

        def start(part: Part) -> asyncio.Task[Rewards]:
            return asyncio.create_task(self._cluster.rewards_in_stream(part, stall_s))

        with closing(in_order(work, start, self._cluster.ahead)) as answers:
            for answer in answers:
                yield await self._cluster.finished(answer, stall_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
