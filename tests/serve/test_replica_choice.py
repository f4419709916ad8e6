"""Calls go where the least work is out, and nothing that ends is counted on."""

import asyncio
import sys
import time
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from ray import cloudpickle, serve
from ray.serve.config import RequestRouterConfig
from tests.serve.conftest import Served
from tests.serve.fakes import conversation
from tests.serve.test_under_load import Encoded, SlowScorer

from rewardserve import app
from rewardserve.serving.model_states import running_model
from rewardserve.serving.replica_choice import (
    ROUTING_S,
    LeastWorkRouter,
    OutstandingWork,
    work_of,
)
from rewardserve.serving.reward_model import RewardModel
from rewardserve.settings import ModelSettings


@pytest.fixture
def work() -> OutstandingWork:
    return OutstandingWork()


def test_work_counts_from_the_choice_until_the_end(work: OutstandingWork) -> None:
    work.choose("one", "a", 5, 0.0)
    work.choose("two", "a", 7, 0.0)
    assert work.of("a") == 12
    work.confirm("one", "a")
    work.end("two")
    assert work.of("a") == 5
    work.end("one")
    work.end("one")
    assert work.of("a") == 0


def test_work_follows_its_call_to_the_replica_that_took_it(work: OutstandingWork) -> None:
    work.choose("one", "a", 5, 0.0)
    work.confirm("one", "b")
    assert (work.of("a"), work.of("b")) == (0, 5)


def test_a_call_that_is_chosen_for_again_counts_once(work: OutstandingWork) -> None:
    work.choose("one", "a", 5, 0.0)
    work.choose("one", "b", 5, 0.1)
    assert (work.of("a"), work.of("b")) == (0, 5)


def test_a_caller_who_left_before_any_replica_took_the_call_is_forgotten(
    work: OutstandingWork,
) -> None:
    work.choose("gone", "a", 5, 0.0)
    work.choose("kept", "a", 7, 0.0)
    work.confirm("kept", "a")
    work.choose("new", "b", 1, 2 * ROUTING_S)
    assert (work.of("a"), work.of("b")) == (7, 1)


def test_an_end_that_comes_before_its_confirmation_leaves_nothing(work: OutstandingWork) -> None:
    work.choose("one", "a", 5, 0.0)
    work.end("one")
    work.confirm("one", "a")
    assert work.of("a") == 0


def test_the_work_of_a_call_is_its_characters() -> None:
    assert work_of([[conversation("12345", prompt="123")], False]) == 8
    assert work_of([["1234567", [1, 2]]]) == 7 + 2 * 4
    assert work_of([]) == work_of([[]]) == 0


def pending(call: str, text: str) -> Any:
    return SimpleNamespace(
        args=[[text]],
        metadata=SimpleNamespace(internal_request_id=call),
        routing_context=SimpleNamespace(should_backoff=False),
    )


def test_the_router_ranks_replicas_by_what_is_out() -> None:
    router: Any = object.__new__(LeastWorkRouter)
    router.initialize_state()
    replicas = [SimpleNamespace(replica_id=name) for name in "abc"]

    def chosen(call: str, text: str) -> str:
        request = pending(call, text)
        ranks = asyncio.run(router.choose_replicas(replicas, request))
        assert sorted(rank[0].replica_id for rank in ranks) == list("abc")
        assert request.routing_context.should_backoff
        router.on_request_routed(request, ranks[0][0].replica_id, None)
        return str(ranks[0][0].replica_id)

    first = [chosen("long", "x" * 100), chosen("short", "x"), chosen("middle", "x" * 10)]
    assert sorted(first) == list("abc")
    assert chosen("next", "x") == first[1]
    router.on_request_completed(first[0], "long")
    assert chosen("last", "x") == first[0]


@pytest.mark.parametrize("haproxy", [True, False])
def test_ray_allows_no_choice_of_ours_behind_its_haproxy(
    monkeypatch: pytest.MonkeyPatch, haproxy: bool
) -> None:
    monkeypatch.setattr(app, "RAY_SERVE_ENABLE_HA_PROXY", haproxy)
    config = RequestRouterConfig(**app.replica_choice())
    assert config.is_default_request_router() == haproxy


class UnlikeScorer(SlowScorer):
    """The slow device, with conversations that share nothing and so stay in line."""

    def encode(self, item: Any, *, truncate: bool = False) -> Encoded:
        return Encoded(np.array([crc32(repr(item).encode()) >> 1], np.int32))


def unlike_model(settings: ModelSettings) -> Any:
    return UnlikeScorer()


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_small_calls_do_not_wait_behind_a_large_one(served: Served) -> None:
    # Replicas cannot import the tests.
    for module in (SlowScorer.__module__, __name__):
        cloudpickle.register_pickle_by_value(sys.modules[module])
    deployment = serve.deployment(
        name="RewardModel",
        num_replicas=2,
        ray_actor_options={"num_cpus": 0.1},
        request_router_config=app.replica_choice(),
        **app.COMMON,
    )
    settings = ModelSettings(source="slow", pack_tokens=3)
    model = deployment(RewardModel).bind(settings, unlike_model)
    serve.run(model, name="slow-pair", route_prefix=None)
    handle: Any = running_model("slow-pair")

    async def seconds(name: str, conversations: int = 1) -> float:
        began = time.monotonic()
        items = [conversation(f"{name} {number}") for number in range(conversations)]
        await handle.score.remote(items, False, "interactive", 60.0, False)
        return time.monotonic() - began

    await seconds("first")
    large = asyncio.create_task(seconds("large", 120))
    await asyncio.sleep(0.5)
    small = await asyncio.gather(*(seconds(f"small {number}") for number in range(12)))
    # Twelve on the free replica take less than a second; by the number of calls that are out, half
    # of them would be sent to the other.
    assert max(small) < 0.5 * await large
