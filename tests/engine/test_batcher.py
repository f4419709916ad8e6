"""What the batcher promises its callers, with a device the test opens and closes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rewardserve.engine.batcher import Batcher, PackReport
from rewardserve.errors import Busy, DeadlineExceeded, ModelFailed, NonFiniteScore
from rewardserve_client._types import Reward


@dataclass(frozen=True)
class FakeEncoded:
    token_ids: Any


@dataclass(frozen=True)
class FakeScored:
    rewards: list[Reward]
    tokens: int
    computed_tokens: int


def conversation(value: int, tokens: int = 10) -> Any:
    """A fake conversation whose score is `value`."""
    return FakeEncoded(np.full(tokens, value, np.int32))


@dataclass
class FakeScorer:
    """Scores a conversation with its first token id; the test may hold the device or break it."""

    fails: Callable[[int], Exception | None] = lambda value: None
    packs: list[list[int]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    running: threading.Event = field(default_factory=threading.Event)

    def score_encoded(self, batch: Sequence[Any]) -> Any:
        self.running.set()
        assert self.gate.wait(timeout=30)
        values = [int(item.token_ids[0]) for item in batch]
        self.packs.append(values)
        for value in values:
            if error := self.fails(value):
                raise error
        rewards = [Reward(score=value, model="fake") for value in values]
        tokens = sum(len(item.token_ids) for item in batch)
        return FakeScored(rewards, tokens, tokens)


@asynccontextmanager
async def batching(scorer: FakeScorer, **options: Any) -> AsyncIterator[Batcher]:
    batcher = Batcher(scorer, **{"pack_tokens": 100, "queue_tokens": 10_000, **options})
    try:
        yield batcher
    finally:
        scorer.gate.set()
        await batcher.close()


async def first_forward_of(scorer: FakeScorer) -> None:
    await asyncio.to_thread(scorer.running.wait, 30)


async def waiting_tokens(batcher: Batcher, tokens: int) -> None:
    while batcher.queued_tokens != tokens:  # noqa: ASYNC110, the batcher tells nobody
        await asyncio.sleep(0)


async def test_each_caller_gets_its_own_scores_in_its_own_order() -> None:
    scorer = FakeScorer()
    scorer.gate.set()
    async with batching(scorer) as batcher:
        calls = [[conversation(10 * i + j) for j in range(i + 1)] for i in range(20)]
        answers = await asyncio.gather(*(batcher.score(call) for call in calls))
    for i, answer in enumerate(answers):
        assert [reward.score for reward in answer.rewards] == [10 * i + j for j in range(i + 1)]
        assert answer.tokens == answer.computed_tokens == 10 * (i + 1)


async def test_callers_who_wait_for_the_device_share_the_next_pack() -> None:
    scorer = FakeScorer()
    async with batching(scorer) as batcher:
        first = asyncio.create_task(batcher.score([conversation(0)]))
        await first_forward_of(scorer)
        others = [asyncio.create_task(batcher.score([conversation(i)])) for i in range(1, 9)]
        await waiting_tokens(batcher, 80)
        scorer.gate.set()
        await asyncio.gather(first, *others)
    assert scorer.packs == [[0], list(range(1, 9))]


async def test_a_cancelled_caller_never_reaches_the_device() -> None:
    scorer = FakeScorer()
    async with batching(scorer) as batcher:
        first = asyncio.create_task(batcher.score([conversation(0)]))
        await first_forward_of(scorer)
        leaver = asyncio.create_task(batcher.score([conversation(1)]))
        stayer = asyncio.create_task(batcher.score([conversation(2)]))
        await waiting_tokens(batcher, 20)
        leaver.cancel()
        await waiting_tokens(batcher, 10)
        scorer.gate.set()
        await asyncio.gather(first, stayer)
    assert scorer.packs == [[0], [2]]


async def test_a_passed_deadline_is_an_error_and_costs_no_forward() -> None:
    scorer = FakeScorer()
    async with batching(scorer) as batcher:
        first = asyncio.create_task(batcher.score([conversation(0)]))
        await first_forward_of(scorer)
        with pytest.raises(DeadlineExceeded):
            await batcher.score([conversation(1)], deadline_s=0.01)
        assert batcher.queued_tokens == 0
        scorer.gate.set()
        await first
    assert scorer.packs == [[0]]


async def test_a_full_queue_answers_busy_at_once() -> None:
    scorer = FakeScorer()
    async with batching(scorer, queue_tokens=20) as batcher:
        first = asyncio.create_task(batcher.score([conversation(0)]))
        await first_forward_of(scorer)
        second = asyncio.create_task(batcher.score([conversation(1), conversation(2)]))
        await waiting_tokens(batcher, 20)
        with pytest.raises(Busy):
            await batcher.score([conversation(3)])
        scorer.gate.set()
        await asyncio.gather(first, second)


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(NonFiniteScore("NaN"), NonFiniteScore), (RuntimeError("secret"), ModelFailed)],
)
async def test_one_bad_conversation_fails_its_own_caller_alone(
    raised: Exception, seen: type[Exception]
) -> None:
    scorer = FakeScorer(fails=lambda value: raised if value == 3 else None)
    async with batching(scorer) as batcher:
        first = asyncio.create_task(batcher.score([conversation(99)]))
        await first_forward_of(scorer)
        calls = [asyncio.create_task(batcher.score([conversation(i)])) for i in range(8)]
        await waiting_tokens(batcher, 80)
        scorer.gate.set()
        answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        await first
    failed = answers.pop(3)
    assert isinstance(failed, seen)
    assert "secret" not in str(failed)
    assert [answer.rewards[0].score for answer in answers] == [0, 1, 2, 4, 5, 6, 7]


async def test_unexpected_failures_in_a_row_are_counted_until_a_forward_succeeds() -> None:
    scorer = FakeScorer(fails=lambda value: RuntimeError() if value == 1 else None)
    scorer.gate.set()
    async with batching(scorer) as batcher:
        for count in (1, 2):
            with pytest.raises(ModelFailed):
                await batcher.score([conversation(1)])
            assert batcher.consecutive_failures == count
        await batcher.score([conversation(0)])
        assert batcher.consecutive_failures == 0


async def test_a_forward_that_hangs_is_seen_from_outside() -> None:
    scorer = FakeScorer()
    async with batching(scorer) as batcher:
        assert batcher.forward_running_s == 0
        call = asyncio.create_task(batcher.score([conversation(0)]))
        await first_forward_of(scorer)
        assert batcher.forward_running_s > 0
        scorer.gate.set()
        await call
        assert batcher.forward_running_s == 0


async def test_every_pack_is_reported() -> None:
    scorer = FakeScorer()
    scorer.gate.set()
    reports: list[PackReport] = []
    async with batching(scorer, on_pack=reports.append) as batcher:
        await batcher.score([conversation(1), conversation(2)])
    (report,) = reports
    assert (report.conversations, report.calls, report.tokens) == (2, 1, 20)


async def test_an_empty_call_is_answered_without_the_device() -> None:
    scorer = FakeScorer()
    async with batching(scorer) as batcher:
        assert (await batcher.score([])).rewards == []
    assert scorer.packs == []
