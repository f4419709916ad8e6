"""Calls go where the least work is out, and nothing that ends is counted on."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from ray import cloudpickle, serve
from ray.serve.config import RequestRouterConfig
from tests.serve.conftest import Served
from tests.serve.fakes import conversation
from tests.serve.test_under_load import Encoded, Scored, SlowScorer

from rewardserve import app
from rewardserve.serving.model_states import running_model
from rewardserve.serving.replica_choice import (
    NEAR_CHARS,
    PROMPT_CHARS,
    ROUTING_S,
    LeastWorkRouter,
    OutstandingWork,
    prompt_of,
    ranked,
    work_of,
)
from rewardserve.serving.reward_model import RewardModel
from rewardserve.settings import ModelSettings
from rewardserve_client import Reward


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

    far = NEAR_CHARS + 1
    first = [chosen("long", "x" * 9 * far), chosen("short", "y" * far)]
    first.append(chosen("middle", "z" * 3 * far))
    assert sorted(first) == list("abc")
    assert chosen("next", "x" * far) == first[1]
    router.on_request_completed(first[0], "long")
    assert chosen("last", "x") == first[0]


def test_a_prompt_goes_home_until_hardly_more_is_a_lot_more() -> None:
    replicas = ["a", "b", "c"]
    idle = dict.fromkeys(replicas, 0)
    assert ranked(replicas, idle.__getitem__, "") == replicas
    home = ranked(replicas, idle.__getitem__, "prompt")[0]
    others = [replica for replica in replicas if replica != home]
    work = dict.fromkeys(replicas, 5) | {home: 5 + NEAR_CHARS}
    assert ranked(replicas, work.__getitem__, "prompt") == [home, *others]
    work[home] += 1
    assert ranked(replicas, work.__getitem__, "prompt") == [*others, home]


def test_homes_are_spread_evenly_and_hardly_move_when_replicas_come_or_go() -> None:
    def homes(replicas: Sequence[str]) -> list[str]:
        idle = dict.fromkeys(replicas, 0).__getitem__
        return [ranked(replicas, idle, f"prompt {number}")[0] for number in range(2000)]

    four = homes("abcd")
    assert four == homes("dbca")
    assert all(count == pytest.approx(500, rel=0.15) for count in Counter(four).values())
    five = homes("abcde")
    moved = [after for before, after in zip(four, five, strict=True) if before != after]
    assert set(moved) == {"e"}
    assert len(moved) == pytest.approx(400, rel=0.2)


def test_a_prompts_responses_and_later_turns_have_one_home() -> None:
    short = conversation("yes", prompt="Is it?")
    other = conversation("no, " * 99, prompt="Is it?")
    longer = [*other, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "."}]
    assert prompt_of([[short]]) == prompt_of([[other, short]]) == prompt_of([[longer], True])
    assert prompt_of([[short]]) != prompt_of([[conversation("yes", prompt="Was it?")]])
    system = [{"role": "system", "content": "Be kind."}, *short]
    assert prompt_of([[system]]) != prompt_of([[short]])
    text, ids = "t" * PROMPT_CHARS, list(range(100))
    assert prompt_of([[text + "one"]]) == prompt_of([[text + "two"]]) != prompt_of([["t"]])
    assert prompt_of([[ids]]) == prompt_of([[[*ids, 7]]]) != prompt_of([[ids[1:]]])
    assert prompt_of([]) == prompt_of([[]]) == prompt_of([[""]]) == prompt_of([[[]]]) == ""


@pytest.mark.parametrize("haproxy", [True, False])
def test_ray_allows_no_choice_of_ours_behind_its_haproxy(
    monkeypatch: pytest.MonkeyPatch, haproxy: bool
) -> None:
    monkeypatch.setattr(app, "RAY_SERVE_ENABLE_HA_PROXY", haproxy)
    config = RequestRouterConfig(**app.replica_choice())
    assert config.is_default_request_router() == haproxy


def two_replicas(name: str, settings: ModelSettings, load: Callable[[ModelSettings], Any]) -> Any:
    """A handle of a model that runs twice."""
    for module in (SlowScorer.__module__, __name__):  # replicas cannot import the tests
        cloudpickle.register_pickle_by_value(sys.modules[module])
    deployment = serve.deployment(
        name="RewardModel",
        num_replicas=2,
        ray_actor_options={"num_cpus": 0.1},
        request_router_config=app.replica_choice(),
        **app.COMMON,
    )
    serve.run(deployment(RewardModel).bind(settings, load), name=name, route_prefix=None)
    return running_model(name)


class NamedScorer(SlowScorer):
    """Its score is the process it runs in."""

    def score_encoded(self, batch: Sequence[Any]) -> Scored:
        rewards = [Reward(score=float(os.getpid()), model="named") for _ in batch]
        return Scored(rewards, len(batch), len(batch))


def named_model(settings: ModelSettings) -> Any:
    return NamedScorer()


@pytest.mark.usefixtures("served")
async def test_a_prompts_responses_meet_on_one_replica_and_prompts_on_all() -> None:
    handle = two_replicas("named-pair", ModelSettings(source="slow"), named_model)

    async def replica(prompt: int, response: int) -> float:
        item = conversation(f"response {response}", prompt=f"prompt {prompt}")
        answer = await handle.score.remote([item], False, "interactive", 60.0, False)
        return float(answer.rewards[0].score)

    found = [{await replica(prompt, each) for each in range(4)} for prompt in range(16)]
    assert all(len(replicas) == 1 for replicas in found)
    assert len(set.union(*found)) == 2
    serve.delete("named-pair")


class UnlikeScorer(SlowScorer):
    """The slow device, with conversations that share nothing and so stay in line."""

    def encode(self, item: Any, *, truncate: bool = False) -> Encoded:
        return Encoded(np.array([crc32(repr(item).encode()) >> 1], np.int32))


def unlike_model(settings: ModelSettings) -> Any:
    return UnlikeScorer()


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_small_calls_do_not_wait_behind_a_large_one(served: Served) -> None:
    handle = two_replicas("slow-pair", ModelSettings(source="slow", pack_tokens=3), unlike_model)

    async def seconds(name: str, conversations: int = 1) -> float:
        began = time.monotonic()
        # Long enough that the large call is far more than a prompt's home may have.
        items = [conversation(f"{name} {number} " * 30) for number in range(conversations)]
        await handle.score.remote(items, False, "interactive", 60.0, False)
        return time.monotonic() - began

    await seconds("first")
    large = asyncio.create_task(seconds("large", 120))
    await asyncio.sleep(0.5)
    small = await asyncio.gather(*(seconds(f"small {number}") for number in range(12)))
    # Twelve on the free replica take less than a second; by the number of calls that are out, half
    # of them would be sent to the other.
    assert max(small) < 0.5 * await large
