"""The cluster as seen from any event loop: one session for each loop, opened at first use.

A connection belongs to the loop it was opened in; clients do not, so that they can be shared,
pickled and forked.
"""

import asyncio
from weakref import WeakKeyDictionary

from rewardserve_client._errors import InvalidRequest, TooLarge
from rewardserve_client._plan import Part
from rewardserve_client._results import Rewards
from rewardserve_client._session import Session
from rewardserve_client._settings import ClientSettings
from rewardserve_client._types import RewardsRequest, ServedModels


class Cluster:
    """Requests in, rewards out, in whatever event loop its coroutines run."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, Session] = WeakKeyDictionary()

    @property
    def ahead(self) -> int:
        """How many requests of a stream are started before the first is read."""
        return 2 * self.settings.max_concurrency

    async def rewards(self, request: RewardsRequest) -> Rewards:
        """The rewards of one request, within the client's total timeout."""
        return await self._session().rewards(request, within_s=self.settings.timeout.total)

    async def rewards_in_stream(self, part: Part, stall_s: float) -> Rewards:
        """The rewards of one part of a large input; `finished` keeps the time.

        A part that is over the server's limits is sent in halves.
        """
        try:
            return await self._session().rewards_in_stream(part.request, stall_s=stall_s)
        except TooLarge as error:
            if len(part.request.inputs) == 1:
                raise part.placed(error) from error
        except InvalidRequest as error:
            raise part.placed(error) from error
        front, back = part.halves()
        rewards = await self.rewards_in_stream(front, stall_s)
        return Rewards(rewards + await self.rewards_in_stream(back, stall_s))

    async def finished(self, answer: "asyncio.Future[Rewards]", stall_s: float) -> Rewards:
        """The result of a started `rewards_in_stream`; `Stalled` if nothing moves for `stall_s`."""
        return await self._session().finished(answer, stall_s=stall_s)

    async def models(self) -> ServedModels:
        """What the cluster serves, within the client's total timeout."""
        return await self._session().models(within_s=self.settings.timeout.total)

    async def aclose(self) -> None:
        """Closes the connections of this event loop; a later call opens new ones."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.aclose()

    def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = Session(self.settings)
        return self._sessions[loop]
