"""Overload, rolling updates and dying routers on a real cluster. Minutes long."""

import asyncio
import copy
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx2
import numpy as np
import pytest
from ray import cloudpickle, serve
from tests.serve.conftest import Served
from tests.serve.fakes import conversation

from rewardserve.app import COMMON, router
from rewardserve.serving.cluster_file import check_cluster
from rewardserve.serving.reward_model import RewardModel
from rewardserve.serving.router_settings import RouterSettings
from rewardserve.serving.up import deploy
from rewardserve.settings import ModelSettings
from rewardserve_client._types import Reward

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

CAPACITY = 15.0
"""Conversations a second that the slow model scores."""
OVERLOAD_S = 60.0


@dataclass(frozen=True)
class Encoded:
    token_ids: Any


@dataclass(frozen=True)
class Scored:
    rewards: list[Reward]
    tokens: int
    computed_tokens: int


class SlowScorer:
    """A device that takes its time and counts one token for each conversation."""

    name = source = family = "slow"
    revision = None
    max_tokens = 10

    def encode(self, item: Any, *, truncate: bool = False) -> Encoded:
        return Encoded(np.zeros(1, np.int32))

    def score(self, conversations: Any) -> list[Reward]:
        return []

    def score_encoded(self, batch: Sequence[Any]) -> Scored:
        time.sleep(len(batch) / CAPACITY)
        return Scored([Reward(score=1.0, model="slow") for _ in batch], len(batch), len(batch))


def slow_model(settings: ModelSettings) -> Any:
    return SlowScorer()


@pytest.fixture(scope="module")
def overloaded(served: Served) -> str:
    """URL of a router in front of a slow model whose queue holds two seconds of work."""
    # Replicas cannot import the tests.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    settings = ModelSettings(source="slow", pack_tokens=3, queue_tokens=int(2 * CAPACITY))
    model = serve.deployment(name="RewardModel", ray_actor_options={"num_cpus": 0.1}, **COMMON)
    serve.run(model(RewardModel).bind(settings, slow_model), name="slow", route_prefix=None)
    settings_of_router = RouterSettings(models=["slow"], replicas=1, cpus=0.1)
    serve.run(router(settings_of_router), name="router-slow", route_prefix="/slow")
    return f"{served.url}/slow"


async def open_loop(
    send: Callable[[], Awaitable[Any]], *, per_second: float, seconds: float
) -> list[Any]:
    """Sends at a fixed rate, however slow the answers are."""
    tasks = []
    for number in range(int(per_second * seconds)):
        tasks.append(asyncio.create_task(send()))
        await asyncio.sleep(1 / per_second if number else 0)
    return await asyncio.gather(*tasks)


async def answered_within(client: httpx2.AsyncClient) -> tuple[Any, float]:
    body = {"model": "slow", "inputs": [{"messages": conversation()}], "deadline_s": 20}
    began = time.monotonic()
    response = await client.post("/v1/rewards", json=body)
    return response, time.monotonic() - began


async def test_four_times_too_much_is_answered_with_200_or_429_and_forgotten_soon(
    overloaded: str,
) -> None:
    limits = httpx2.Limits(max_connections=1000)
    async with httpx2.AsyncClient(base_url=overloaded, limits=limits, timeout=60) as client:

        async def send() -> tuple[Any, float]:
            return await answered_within(client)

        idle = [(await send())[1] for _ in range(20)]
        answers = await open_loop(send, per_second=4 * CAPACITY, seconds=OVERLOAD_S)
        await asyncio.sleep(10)
        after = [(await send())[1] for _ in range(20)]
    statuses = Counter(response.status_code for response, _ in answers)
    assert statuses.keys() == {200, 429}
    assert statuses[200] / OVERLOAD_S >= 0.7 * CAPACITY
    for response, _ in answers:
        if response.status_code == 429:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "busy"
    assert median(after) <= 1.2 * median(idle) + 0.02


@pytest.mark.parametrize("change", ["model", "route"])
async def test_a_rolling_update_fails_no_request(served: Served, change: str) -> None:
    file = copy.deepcopy(served.file)
    if change == "model":
        file["applications"][1]["args"]["max_tokens"] = 500
    else:
        file["applications"][2]["args"]["routes"]["other"] = {"single": "armorm"}
    body = {"model": "armorm", "inputs": [{"messages": conversation()}]}
    limits = httpx2.Limits(max_connections=1000)
    async with httpx2.AsyncClient(base_url=served.url, limits=limits, timeout=60) as client:
        updating = asyncio.create_task(
            asyncio.to_thread(deploy, check_cluster(file), lambda line: None)
        )
        statuses: Counter[int] = Counter()

        async def send() -> None:
            statuses[(await client.post("/v1/rewards", json=body)).status_code] += 1

        while not updating.done():
            await open_loop(send, per_second=20, seconds=1)
        await updating
    deploy(check_cluster(served.file), lambda line: None)
    assert statuses.keys() == {200}
