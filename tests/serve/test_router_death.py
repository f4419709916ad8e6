"""Routers and proxies that are killed under load lose nothing that the client asked for."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx2
import psutil
import pytest
from ray import serve
from tests.serve.conftest import Served
from tests.serve.fakes import conversation

from rewardserve.app import router
from rewardserve.serving.router_settings import RouterSettings
from rewardserve_client import AsyncRewardClient

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

ITEMS = [conversation(f"The number is {n}.") for n in range(600)]
KILLED_AFTER = 100
BACK_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def two_routers(served: Served) -> str:
    """URL of a router with two replicas, as clusters have by default."""
    settings = RouterSettings(models=["armorm"], replicas=2, cpus=0.1)
    serve.run(router(settings), name="two", route_prefix="/two")
    return f"{served.url}/two"


def processes(title: str) -> list[psutil.Process]:
    """Of this session's own Ray."""
    mine = psutil.Process().children(recursive=True)
    return [process for process in mine if title in "".join(process.cmdline())]


@pytest.mark.parametrize(("title", "count"), [("two:Gateway", 2), ("ProxyActor", 1)])
async def test_what_dies_in_front_of_the_models_loses_nothing(
    two_routers: str, title: str, count: int
) -> None:
    victims = processes(title)
    assert len(victims) == count
    answered = 0

    async def score(client: AsyncRewardClient, item: Any) -> float:
        nonlocal answered
        reward = await client.score(item, model="armorm")
        answered += 1
        if answered == KILLED_AFTER:
            victims[0].kill()
        return reward.score

    async with AsyncRewardClient(two_routers, max_concurrency=16) as client:
        expected = [reward.score for reward in await client.score_many(ITEMS, model="armorm")]
        scores = await asyncio.gather(*(score(client, item) for item in ITEMS))
    assert not victims[0].is_running()
    assert scores == pytest.approx(expected, abs=1e-5)
    await until_steady(two_routers, title, count)
    assert len(processes(title)) == count


async def until_steady(url: str, title: str, count: int) -> None:
    """Until the dead one is replaced, and 50 plain requests in a row succeed, each sent once.

    Those may be through before Serve has started another router: one of two is enough for them.
    """
    began, in_a_row = time.monotonic(), 0
    body = {"model": "armorm", "inputs": [{"messages": ITEMS[0]}]}
    seen: Counter[int | str] = Counter()
    async with httpx2.AsyncClient(timeout=30) as client:
        while in_a_row < 50 or len(processes(title)) < count:
            assert time.monotonic() - began < BACK_WITHIN_S, seen
            try:
                status: int | str = (await client.post(f"{url}/v1/rewards", json=body)).status_code
            except httpx2.TransportError as error:
                status = type(error).__name__
            seen[status] += 1
            in_a_row = in_a_row + 1 if status == 200 else 0
