"""How many requests a client has in flight: as many as the server keeps up with.

The number starts small and grows by one with every answer until the server first says that it is
busy; from then on it is halved at each refusal and grows slowly. Refusals to requests that were in
flight together count once. Knows nothing of what a request is.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rewardserve_client._errors import Busy

_FIRST: Final = 4
_SLOWLY: Final = 8
"""Rounds of answers for one more request in flight, once the server has been found busy."""


class Pace:
    """The number of requests in flight, between 1 and `most`; for one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(_FIRST, most))
        self._in_flight = 0
        self._refusals = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return int(self._limit)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits, first come first served, until one more request may be sent: the block."""
        await self._enter()
        refusals_before = self._refusals
        try:
            yield
            self._answered()
        except Busy:
            if self._refusals == refusals_before:
                self._refused()
            raise
        finally:
            self._leave()

    async def _enter(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # admitted and cancelled at the same time
                self._leave()
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._in_flight < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._in_flight += 1
                place.set_result(None)

    def _answered(self) -> None:
        step = 1.0 if self._refusals == 0 else 1 / (_SLOWLY * self._limit)
        self._limit = min(self._limit + step, float(self._most))

    def _refused(self) -> None:
        self._refusals += 1
        self._limit = max(1.0, self._limit / 2)
