"""One event loop's conversation with the cluster: attempts, pace, outages, progress.

Knows how to get a request answered. Knows nothing of where requests come from or what their
answers are for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from rewardserve_client._errors import (
    ConnectionFailed,
    DeadlineExceeded,
    RewardClientError,
    Stalled,
)
from rewardserve_client._outage import Outage
from rewardserve_client._pace import Pace
from rewardserve_client._plan import rewards_of
from rewardserve_client._results import Rewards
from rewardserve_client._retry import attempts
from rewardserve_client._settings import ClientSettings
from rewardserve_client._types import RewardsRequest, ServedModels

_LONGEST_DEADLINE_S: Final = 3600.0
"""The longest deadline that the protocol knows."""

Answer = TypeVar("Answer")


class Session:
    """An open transport, and what was learnt about the server through it."""

    def __init__(self, settings: ClientSettings) -> None:
        self._transport = settings.address.open()
        self._most_attempts = settings.max_retries + 1
        self._pace = Pace(settings.max_concurrency)
        self._outage = Outage(self._transport.alive)
        self._last_answer = 0.0

    async def rewards(self, request: RewardsRequest, *, within_s: float) -> Rewards:
        """The rewards of one request; the server hears how much of the time is left."""

        async def send(left_s: float) -> Rewards:
            return await self._send(request, deadline_s=left_s)

        return await self._in_time(send, within_s)

    async def rewards_in_stream(self, request: RewardsRequest, *, stall_s: float) -> Rewards:
        """The rewards of one request among many, watched by `finished` and not timed itself."""
        return await self._retried(lambda: self._send(request, deadline_s=stall_s))

    async def models(self, *, within_s: float) -> ServedModels:
        """What the cluster serves."""
        return await self._in_time(lambda _: self._transport.models(), within_s)

    async def finished(self, answer: "asyncio.Future[Rewards]", *, stall_s: float) -> Rewards:
        """The result of `answer`, however long it takes as long as answers keep coming.

        Raises `Stalled` when this session has had no answer at all for `stall_s`.
        """
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not answer.done():
            quiet_s = loop.time() - max(since, self._last_answer)
            if quiet_s >= stall_s:
                raise Stalled(f"no request finished for {stall_s:g} s; is the server stuck?")
            await asyncio.wait({answer}, timeout=stall_s - quiet_s)
        return answer.result()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _in_time(self, ask: Callable[[float], Awaitable[Answer]], within_s: float) -> Answer:
        """`ask`, retried, told before each attempt how many seconds are left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        try:
            async with asyncio.timeout_at(end):
                return await self._retried(lambda: ask(end - loop.time()))
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer within {within_s:g} s; allow more time, or send less at once"
            ) from None

    async def _retried(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        async for attempt in attempts(self._most_attempts):
            with attempt:
                return await ask()
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, request: RewardsRequest, *, deadline_s: float) -> Rewards:
        """One attempt, sent when the pace allows it and the server is there."""
        within_protocol = min(max(deadline_s, 0.001), _LONGEST_DEADLINE_S)
        timed = request.model_copy(update={"deadline_s": within_protocol})
        async with self._pace.turn():
            await self._outage.over()
            try:
                response = await self._transport.rewards(timed)
            except RewardClientError as error:
                self._outage.noticed(failed=isinstance(error, ConnectionFailed))
                raise
        self._outage.noticed(failed=False)
        self._last_answer = asyncio.get_running_loop().time()
        return rewards_of(response, request)
