"""Many callers, one device: an asyncio queue in front of a Scorer.

Every call's conversations wait in one `TokenQueue`; whenever the device is free, the next pack of
whoever waits goes to its one thread, while callers keep arriving and encoding. Knows nothing of
Ray, HTTP or models beyond `score_encoded`.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rewardserve.engine.token_queue import TokenQueue, Waiting
from rewardserve.errors import DeadlineExceeded, ModelFailed, RewardServeError
from rewardserve_client._types import Priority, Reward

if TYPE_CHECKING:
    from rewardserve.engine.scorer import ScoredBatch
    from rewardserve.families.base import Encoded

logger = logging.getLogger(__name__)

RATE_MEMORY = 0.9
"""How much of the measured token rate each pack leaves in place."""


class PackScorer(Protocol):
    """The part of a Scorer that a batcher needs."""

    def score_encoded(self, batch: "Sequence[Encoded]") -> "ScoredBatch":
        """Rewards in order; called from one thread."""


@dataclass(frozen=True, slots=True)
class ScoredCall:
    """The rewards of one call, in order, and what they cost."""

    rewards: list[Reward]
    tokens: int
    computed_tokens: int
    """The call's share of its packs' tokens after prefix sharing."""
    queue_s: float
    """Until the call's first conversation reached the device."""
    forward_s: float
    """From there until its last reward."""


@dataclass(frozen=True, slots=True)
class PackReport:
    """What one forward did, for whoever watches."""

    conversations: int
    calls: int
    tokens: int
    computed_tokens: int
    queue_s: float
    """How long its oldest conversation waited."""
    forward_s: float
    scores: list[float]


@dataclass(eq=False)
class _Call:
    """One caller, until the last of its conversations is scored."""

    waiting: list[Waiting]
    answered: asyncio.Future[None]
    rewards: dict[Waiting, Reward] = field(default_factory=dict)
    computed_tokens: float = 0.0
    started_at: float = math.inf

    def fail(self, error: RewardServeError) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)

    def add(self, waiting: Waiting, reward: Reward, computed_tokens: float) -> None:
        self.rewards[waiting] = reward
        self.computed_tokens += computed_tokens
        if len(self.rewards) == len(self.waiting) and not self.answered.done():
            self.answered.set_result(None)


class TokenRate:
    """Tokens a second while the device is busy, as a moving average."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        self._tokens = RATE_MEMORY * self._tokens + tokens
        self._seconds = RATE_MEMORY * self._seconds + seconds

    def seconds_for(self, tokens: int) -> float:
        """How long so many tokens take; 0 while nothing has been measured."""
        return tokens * self._seconds / self._tokens if self._tokens else 0.0


class Batcher:
    """Scores the conversations of many concurrent callers in shared packs.

    Lives in one event loop, which its first call finds. `on_pack` is told of every forward,
    `on_drop` how many conversations left the queue unscored because their caller had.
    """

    def __init__(
        self,
        scorer: PackScorer,
        *,
        pack_tokens: int,
        queue_tokens: int,
        on_pack: Callable[[PackReport], None] | None = None,
        on_drop: Callable[[int], None] | None = None,
    ) -> None:
        self._scorer = scorer
        self._queue = TokenQueue(pack_tokens=pack_tokens, queue_tokens=queue_tokens)
        self._on_pack = on_pack
        self._on_drop = on_drop
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._rate = TokenRate()
        self._calls: dict[Waiting, _Call] = {}
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._forward_began: float | None = None
        self._busy_s = 0.0
        self._failures = 0

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait, before prefix sharing."""
        return self._queue.tokens

    @property
    def backlog_s(self) -> float:
        """Seconds of work that wait, at the measured rate."""
        return self._rate.seconds_for(self._queue.tokens)

    @property
    def forward_running_s(self) -> float:
        """How long the forward that runs now has been running; 0 between forwards."""
        return 0.0 if self._forward_began is None else time.monotonic() - self._forward_began

    @property
    def busy_s(self) -> float:
        """Seconds the device has spent on forwards since the start."""
        return self._busy_s + self.forward_running_s

    @property
    def consecutive_failures(self) -> int:
        """Forwards that ended in an unexpected error, since the last that did not."""
        return self._failures

    @property
    def stopped(self) -> bool:
        """Whether the loop that feeds the device has ended, and nothing will be scored any more."""
        return self._loop is not None and self._loop.done()

    async def score(
        self,
        batch: "Sequence[Encoded]",
        *,
        priority: Priority = "interactive",
        deadline_s: float | None = None,
        alone: bool = False,
    ) -> ScoredCall:
        """Rewards in the order of `batch`; `alone`, each in a forward that nobody shares.

        Raises Busy at once when the queue is full, DeadlineExceeded after `deadline_s` seconds,
        NonFiniteScore, and ModelFailed. A caller that is cancelled or past its deadline takes its
        waiting conversations out of the queue.
        """
        if not batch:
            return ScoredCall([], 0, 0, 0.0, 0.0)
        arrived = time.monotonic()
        expires = math.inf if deadline_s is None else arrived + deadline_s
        waiting = [Waiting(encoded, priority, arrived, expires, alone) for encoded in batch]
        self._queue.put(waiting, retry_after_s=self.backlog_s)
        call = _Call(waiting, asyncio.get_running_loop().create_future())
        await self._answered(call, deadline_s)
        return ScoredCall(
            rewards=[call.rewards[entry] for entry in waiting],
            tokens=sum(entry.tokens for entry in waiting),
            computed_tokens=round(call.computed_tokens),
            queue_s=call.started_at - arrived,
            forward_s=time.monotonic() - call.started_at,
        )

    def refuse_if_full(self, priority: Priority) -> None:
        """Raises Busy when not one more token may wait; saves encoding what will be refused."""
        self._queue.check_room(1, priority, retry_after_s=self.backlog_s)

    async def between_forwards(self, act: Callable[[], None]) -> None:
        """Run `act` on the device's thread, while no forward runs."""
        await asyncio.get_running_loop().run_in_executor(self._device, act)

    async def close(self) -> None:
        """Stop the loop and the device thread; whoever still waits is cancelled."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        for call in set(self._calls.values()):
            call.answered.cancel()
        self._device.shutdown(wait=True, cancel_futures=True)

    async def _answered(self, call: _Call, deadline_s: float | None) -> None:
        self._calls.update(dict.fromkeys(call.waiting, call))
        self._ensure_loop()
        self._arrived.set()
        try:
            async with asyncio.timeout(deadline_s):
                await call.answered
        except TimeoutError:
            raise DeadlineExceeded(
                f"not scored within the deadline of {deadline_s:.3g} s: "
                "allow more time or send fewer conversations"
            ) from None
        finally:
            self._forget(call)

    def _forget(self, call: _Call) -> None:
        dropped = self._queue.discard(call.waiting)
        if dropped and self._on_drop:
            self._on_drop(dropped)
        for waiting in call.waiting:
            del self._calls[waiting]

    def _ensure_loop(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop().create_task(self._feed_device())

    async def _feed_device(self) -> None:
        while True:
            pack = self._queue.take(time.monotonic())
            if pack:
                await self._forward(pack)
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _forward(self, pack: list[Waiting]) -> None:
        """Run one pack; one that fails is halved until the culprit stands alone."""
        began = self._forward_began = time.monotonic()
        batch = [waiting.encoded for waiting in pack]
        running = asyncio.get_running_loop().run_in_executor(
            self._device, self._scorer.score_encoded, batch
        )
        await asyncio.wait([running])
        self._forward_began = None
        self._busy_s += time.monotonic() - began
        error = running.exception()
        if error is None:
            self._deliver(pack, running.result(), began)
        elif len(pack) > 1:
            middle = len(pack) // 2
            await self._forward(pack[:middle])
            await self._forward(pack[middle:])
        else:
            self._fail(pack[0], error)

    def _deliver(self, pack: list[Waiting], scored: "ScoredBatch", began: float) -> None:
        took = time.monotonic() - began
        self._failures = 0
        self._rate.add(scored.tokens, took)
        calls = {call for waiting in pack if (call := self._calls.get(waiting))}
        if self._on_pack:
            report = PackReport(
                conversations=len(pack),
                calls=len(calls),
                tokens=scored.tokens,
                computed_tokens=scored.computed_tokens,
                queue_s=began - min(waiting.arrived_at for waiting in pack),
                forward_s=took,
                scores=[reward.score for reward in scored.rewards],
            )
            self._on_pack(report)
        for call in calls:
            call.started_at = min(call.started_at, began)
        shared = scored.computed_tokens / scored.tokens
        for waiting, reward in zip(pack, scored.rewards, strict=True):
            if call := self._calls.get(waiting):
                call.add(waiting, reward, waiting.tokens * shared)

    def _fail(self, waiting: Waiting, error: BaseException) -> None:
        if not isinstance(error, RewardServeError):
            logger.error("the model raised %s", type(error).__name__, exc_info=error)
            self._failures += 1
            error = ModelFailed(f"the model raised {type(error).__name__} instead of scoring")
        if call := self._calls.get(waiting):
            call.fail(error)
            self._queue.discard(call.waiting)
