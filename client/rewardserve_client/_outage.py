"""Waiting for a server that answered before and went away, without spending attempts on it.

After a failed connection one caller asks whether the server is alive until it is; all others
wait for that caller. A server that never answered is not waited for: its address may be wrong.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

_PROBE_EVERY_S: Final = 0.5


class Outage:
    """Whether the server is away; for one event loop."""

    def __init__(self, alive: Callable[[], Awaitable[bool]]) -> None:
        self._alive = alive
        self._met = False
        self._away = False
        self._one_asks = asyncio.Lock()

    def noticed(self, *, failed: bool) -> None:
        """A request was answered, with whatever status, or its connection failed."""
        if failed:
            self._away = self._met
        else:
            self._met = True

    async def over(self) -> None:
        """Returns at once while the server is there, else when it is back."""
        if not self._away:
            return
        async with self._one_asks:
            while self._away:
                if await self._alive():
                    self._away = False
                else:
                    await asyncio.sleep(_PROBE_EVERY_S * random.uniform(0.5, 1.5))  # noqa: S311
