"""One replica without Ray: what it answers, what it reports, and when it says that it is ill."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from tests.serve.fakes import FakeScorer

from rewardserve.errors import Busy, ConversationTooLong, ModelFailed
from rewardserve.serving import reward_model
from rewardserve.serving.reward_model import RewardModel
from rewardserve.settings import ModelSettings


@pytest.fixture
def scorer() -> FakeScorer:
    scorer = FakeScorer(pack_tokens=20)
    scorer.gate.set()
    return scorer


@pytest_asyncio.fixture
async def model(scorer: FakeScorer) -> AsyncIterator[RewardModel]:
    settings = ModelSettings(source="fake", queue_tokens=20)
    model = RewardModel(settings, lambda _: scorer)  # type: ignore[arg-type, return-value]
    yield model
    scorer.gate.set()
    await model._batcher.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110, the batcher tells nobody
        await asyncio.sleep(0)


def score(model: RewardModel, *items: str, truncate: bool = False, deadline_s: float = 10) -> Any:
    return model.score(list(items), truncate, "interactive", deadline_s, alone=False)


async def test_rewards_come_with_tokens_and_the_time_each_part_took(model: RewardModel) -> None:
    answer = await score(model, "one", "three")
    assert [reward.score for reward in answer.rewards] == [3, 5]
    assert answer.tokens == 8
    assert min(answer.render_s, answer.queue_s, answer.forward_s) >= 0


async def test_an_error_of_encoding_names_the_item_by_its_index(model: RewardModel) -> None:
    with pytest.raises(ConversationTooLong) as refused:
        await score(model, "fine", "much too long")
    assert refused.value.param == "1"
    assert (await score(model, "fine", "much too long", truncate=True)).tokens == 14


async def test_a_full_replica_refuses_before_it_encodes(
    model: RewardModel, scorer: FakeScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.gate.clear()
    running = [asyncio.create_task(score(model, "x" * 10))]
    await until(lambda: model._batcher.forward_running_s > 0)
    running += [asyncio.create_task(score(model, "x" * 10)) for _ in range(2)]
    await until(lambda: model._batcher.queued_tokens == 20)
    monkeypatch.setattr(scorer, "encode", None)
    with pytest.raises(Busy):
        await score(model, "x")
    scorer.gate.set()
    await asyncio.gather(*running)


async def test_it_describes_what_is_loaded(model: RewardModel) -> None:
    description = await model.describe()
    assert (description.family, description.source) == ("fake", "hub/fake")
    assert (description.revision, description.max_tokens) == ("abc", 10)
    assert (description.attention, description.pack_tokens) == ("sdpa", 20)


async def test_autoscaling_is_told_of_backlog_and_busy_share(
    model: RewardModel, scorer: FakeScorer
) -> None:
    scorer.gate.clear()
    running = asyncio.create_task(score(model, "x"))
    await until(lambda: model._batcher.forward_running_s > 0)
    waiting = asyncio.create_task(score(model, "xyz"))
    await until(lambda: model._batcher.queued_tokens > 0)
    stats = await model.record_autoscaling_stats()
    assert stats["queued_tokens"] == 3
    assert 0 < stats["busy"] <= 1
    scorer.gate.set()
    await asyncio.gather(running, waiting)


async def test_a_hanging_device_is_ill(
    model: RewardModel, scorer: FakeScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.check_health()
    monkeypatch.setattr(reward_model, "LONGEST_FORWARD_S", 0.0)
    scorer.gate.clear()
    running = asyncio.create_task(score(model, "x"))
    await until(lambda: model._batcher.forward_running_s > 0)
    with pytest.raises(RuntimeError, match="running"):
        model.check_health()
    scorer.gate.set()
    await running
    model.check_health()


async def test_a_device_that_fails_again_and_again_is_ill(
    model: RewardModel, scorer: FakeScorer
) -> None:
    scorer.broken = True
    for _ in range(3):
        model.check_health()
        with pytest.raises(ModelFailed):
            await score(model, "x")
    with pytest.raises(RuntimeError, match="failed"):
        model.check_health()
