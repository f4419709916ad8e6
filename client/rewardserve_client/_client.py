"""The blocking client: the same work in a background event loop, while the caller waits."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from itertools import chain
from types import TracebackType
from typing import Self, Unpack

from rewardserve_client._async_client import AsyncRewardClient
from rewardserve_client._background import BackgroundLoop
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
from rewardserve_client._settings import ClientSettings
from rewardserve_client._types import Conversation, Prompt, Reward, ServedModel


class RewardClient(BaseClient):
    """Asks a cluster what responses are worth.

        with RewardClient("http://127.0.0.1:8000") as client:
            reward = client.score(conversation, model="armorm")

    Every scoring method takes the options of `ScoreOptions`: `model`, `truncate` and so on. A busy
    server, a failed connection and a lost replica are retried; every other failure is a
    `RewardClientError`, never a score. A client may be shared by threads, forked and pickled
    (its API key goes along).
    """

    def __setstate__(self, settings: ClientSettings) -> None:
        super().__setstate__(settings)
        self._loop = BackgroundLoop()

    def score(self, messages: Conversation, **options: Unpack[ScoreOptions]) -> Reward:
        """The reward of one conversation; its last turn is the response."""
        request = request_for(conversation_inputs([messages]), options)
        return self._loop.run(self._cluster.rewards(request))[0]

    def score_many(
        self,
        conversations: Iterable[Conversation],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> Rewards:
        """The rewards of many conversations, in their order: all of them, or an error.

        They are sent some dozens to a request, and as many requests at a time as the server keeps
        up with. The whole may take as long as it needs: it fails with `Stalled` when nothing has
        come back for `stall_s` seconds.
        """
        return Rewards(self.score_stream(conversations, stall_s=stall_s, **options))

    def score_stream(
        self,
        conversations: Iterable[Conversation],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> Iterator[Reward]:
        """Like `score_many` for input of any length; reads it a little ahead of what it yields.

        The input is read in the caller's thread. Leaving the loop early cancels what is under way.
        """
        for rewards in self._stream(parts(conversation_inputs(conversations), options), stall_s):
            yield from rewards

    def score_responses(
        self, prompt: Prompt, responses: Sequence[str], **options: Unpack[ScoreOptions]
    ) -> Rewards:
        """The rewards of responses to one prompt, in their order."""
        request = request_for(candidates_inputs([(prompt, responses)]), options)
        return self._loop.run(self._cluster.rewards(request))

    def score_groups(
        self,
        groups: Sequence[tuple[Prompt, Sequence[str]]],
        *,
        stall_s: float = 600.0,
        **options: Unpack[ScoreOptions],
    ) -> list[Rewards]:
        """The rewards of many prompts' responses, one list per prompt, as `score_many` sends them.

        The responses to one prompt are always sent together.
        """
        streamed = self._stream(parts(candidates_inputs(groups), options), stall_s)
        return regrouped(chain.from_iterable(streamed), groups)

    def best_of_n(
        self, prompt: Prompt, responses: Sequence[str], **options: Unpack[ScoreOptions]
    ) -> Ranking:
        """The responses to one prompt, ranked by reward."""
        return Ranking(tuple(responses), self.score_responses(prompt, responses, **options))

    def models(self) -> list[ServedModel]:
        """The models and routes that a call may name."""
        return self._loop.run(self._cluster.models()).data

    def awaited(self) -> AsyncRewardClient:
        """An awaited client of the same cluster, with the same settings."""
        return AsyncRewardClient.from_settings(self._cluster.settings)

    def close(self) -> None:
        """Closes the connections; a later call opens new ones."""
        self._loop.close(self._cluster.aclose)

    def _stream(self, work: Iterable[Part], stall_s: float) -> Iterator[Rewards]:
        """The rewards of each part, in order, running a bounded number of parts ahead."""

        def start(part: Part) -> Future[Rewards]:
            return self._loop.start(self._cluster.rewards_in_stream(part, stall_s))

        async def finished(answer: Future[Rewards]) -> Rewards:
            return await self._cluster.finished(asyncio.wrap_future(answer), stall_s)

        with closing(in_order(work, start, self._cluster.ahead)) as answers:
            for answer in answers:
                yield self._loop.run(finished(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
