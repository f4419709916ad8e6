"""Overload, rolling updates and dying routers on a real cluster. Minutes long."""

import asyncio
import copy
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
import yaml
from ray import cloudpickle, serve
from tests.serve.conftest import Served, cluster_of, free_port, replica_processes
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
    attention = "sdpa"
    pack_tokens = 3

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
    settings = ModelSettings(source="slow", queue_tokens=int(2 * CAPACITY))
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


async def test_callers_who_hang_up_cost_no_forward(overloaded: str) -> None:
    body = {"model": "slow", "inputs": [{"messages": conversation()}], "deadline_s": 20}
    async with httpx2.AsyncClient(base_url=overloaded, timeout=60) as client:
        await client.post("/v1/rewards", json=body)

        async def hang_up() -> None:
            with pytest.raises(httpx2.ReadTimeout):
                await client.post("/v1/rewards", json={**body, "inputs": MANY}, timeout=0.3)

        await asyncio.gather(*(hang_up() for _ in range(5)))
        began = time.monotonic()
        response = await client.post("/v1/rewards", json=body)
    assert response.status_code == 200
    # What hung up would have kept the device busy for several times as long.
    assert time.monotonic() - began < 0.5 * 5 * len(MANY) / CAPACITY


MANY = [{"messages": conversation()}] * 5


def test_a_stopped_member_is_named_by_the_deadline_and_left_out(served: Served) -> None:
    body: dict[str, Any] = {"inputs": [{"messages": conversation()}], "deadline_s": 3}
    (stopped,) = replica_processes("skywork-llama-8b")
    stopped.suspend()
    try:
        began = time.monotonic()
        lenient = httpx2.post(
            f"{served.url}/v1/rewards", json={**body, "model": "either"}, timeout=60
        )
        took = time.monotonic() - began
        strict = httpx2.post(f"{served.url}/v1/rewards", json=body, timeout=60)
    finally:
        stopped.resume()
    (reward,) = lenient.json()["data"][0]["rewards"]
    assert reward["failed_members"] == ["skywork-llama-8b"]
    assert reward["score"] == reward["members"]["armorm"]["score"]
    assert took < 3 * 1.1 + 0.5
    assert strict.status_code == 504
    assert "skywork-llama-8b" in strict.json()["error"]["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_everything_it_started(zoo: Path, tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "cluster.yaml"
    port = free_port()
    file = cluster_of(zoo, port)
    file["applications"] = [file["applications"][0], file["applications"][2]]
    file["applications"][1]["args"] = {"models": ["skywork-llama-8b"], "cpus": 0.1, "replicas": 1}
    path.write_text(yaml.safe_dump(file))
    command = [sys.executable, "-c", "from rewardserve.cli import main; main()", "up", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "ready at" in line:
                break
        assert httpx2.get(f"http://127.0.0.1:{port}/ready").status_code == 200
        started = psutil.Process(process.pid).children(recursive=True)
        assert started
        process.send_signal(number)
        assert process.wait(timeout=90) == 0
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
