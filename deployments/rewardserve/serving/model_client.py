"""One model's replicas, as the router calls them: found by name, with a deadline, sent again when
a replica dies.

Serve itself neither cancels a call whose caller stopped waiting nor repeats one whose replica died;
both are done here. Knows nothing of routes, HTTP or what is in a conversation.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from rewardserve.errors import Busy, DeadlineExceeded, ModelFailed, RewardServeError
from rewardserve.routing.evaluate import Item
from rewardserve.serving.answers import ModelAnswer, ModelDescription
from rewardserve.serving.quarantine import Quarantine
from rewardserve_client._types import Priority

Resolver = Callable[[str], Any]
"""Model name -> a Serve handle of its deployment, or anything that can be called like one."""

REPEATS = 2
"""How often a call whose replica died is sent again."""

DIED = (
    f"{REPEATS + 1} replicas of `{{name}}` died while they had this request; "
    "it is not sent again for a while"
)

PAUSE_S = 0.1
"""Longest pause before the first repeat; doubled before the second."""


class ModelClient:
    """Calls one model, whichever replica answers."""

    def __init__(self, name: str, resolve: Resolver, *, on_death: Callable[[str], None]) -> None:
        self.name = name
        self._resolve = resolve
        self._on_death = on_death
        self._quarantine = Quarantine()

    async def score(
        self,
        items: Sequence[Item],
        *,
        truncate: bool,
        priority: Priority,
        deadline: float,
    ) -> ModelAnswer:
        """Rewards of `items` before `deadline`, a time of the event loop's clock.

        Raises the model's own RewardServeError, Busy, DeadlineExceeded, or ModelFailed.
        """
        now = asyncio.get_running_loop().time
        if self._quarantine.holds(items, now()):
            raise ModelFailed(DIED.format(name=self.name), param=self.name)
        for repeat in range(REPEATS + 1):
            # Whatever kills replicas shall not take its neighbours along a third time.
            alone = repeat == REPEATS
            arguments = (items, truncate, priority, deadline - now(), alone)
            try:
                answer: ModelAnswer = await self._before(deadline, "score", *arguments)
            except RayActorError:
                self._on_death(self.name)
                await asyncio.sleep(random.uniform(0, PAUSE_S * 2**repeat))  # noqa: S311
            else:
                return answer
        self._quarantine.add(items, now())
        raise ModelFailed(DIED.format(name=self.name), param=self.name)

    async def describe(self, deadline: float) -> ModelDescription:
        """What is loaded; raises like `score`."""
        try:
            description: ModelDescription = await self._before(deadline, "describe")
        except RayActorError:
            raise ModelFailed(f"a replica of `{self.name}` died", param=self.name) from None
        else:
            return description

    async def _before(self, deadline: float, method: str, *arguments: Any) -> Any:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._call(method, *arguments)
        except TimeoutError:
            raise DeadlineExceeded(
                f"`{self.name}` gave no answer before the deadline", param=self.name
            ) from None

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            response = getattr(self._resolve(self.name), method).remote(*arguments)
            return await _cancelled_with_caller(response)
        except BackPressureError as error:
            raise Busy(
                f"every replica of `{self.name}` has all the calls it takes",
                param=self.name,
                retry_after_s=error.retry_after_s or 1.0,
            ) from None
        except RayTaskError as error:
            raise self._as_ours(error.cause) from None
        except (RayServeException, KeyError):
            raise ModelFailed(f"`{self.name}` is not running", param=self.name) from None

    def _as_ours(self, cause: Exception) -> Exception:
        if isinstance(cause, RewardServeError | RayActorError):
            return cause
        return ModelFailed(f"`{self.name}` raised {type(cause).__name__}", param=self.name)


async def _cancelled_with_caller(response: Any) -> Any:
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
