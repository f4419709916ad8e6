"""Callers who hang up or run out of time: they cost no forward and leave nothing behind."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest_asyncio
from tests.serve.fakes import FakeModel, FakeResponse, FakeScorer, conversation, gateway, http

from rewardserve.serving.gateway import Gateway
from rewardserve.serving.reward_model import RewardModel
from rewardserve.serving.router_settings import RouterSettings
from rewardserve.settings import ModelSettings

BODY = {"model": "a", "inputs": [{"messages": conversation()}]}


@dataclass
class Cluster:
    """A gateway in front of one replica whose device waits for the test."""

    replica: RewardModel
    device: FakeScorer
    client: httpx2.AsyncClient


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    device = FakeScorer(pack_tokens=4)
    settings = ModelSettings(source="fake", queue_tokens=10_000)
    replica = RewardModel(settings, lambda _: device)  # type: ignore[arg-type, return-value]

    def remote(*arguments: Any) -> FakeResponse:
        # As with Serve, the call goes on when nobody awaits it any more, until it is cancelled.
        call = asyncio.ensure_future(replica.score(*arguments))
        return FakeResponse(asyncio.shield(call), call.cancel)

    handle = SimpleNamespace(score=SimpleNamespace(remote=remote))
    service = Gateway(RouterSettings(models=["a"]), {"a": handle}.__getitem__)
    async with http(service) as client:
        yield Cluster(replica, device, client)
    device.gate.set()
    await replica._batcher.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110, nobody tells
            await asyncio.sleep(0)


async def hang_up(calls: "list[asyncio.Task[Any]]") -> None:
    for call in calls:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)


async def test_500_callers_who_hang_up_leave_no_task_and_no_work(cluster: Cluster) -> None:
    def call() -> "asyncio.Task[Any]":
        return asyncio.create_task(cluster.client.post("/v1/rewards", json=BODY))

    batcher = cluster.replica._batcher
    first = call()
    await until(lambda: batcher.forward_running_s > 0)
    before = asyncio.all_tasks()
    # Half of them at any moment between sending and waiting, half while they wait.
    for moment in range(250):
        early = call()
        for _ in range(moment % 50):
            await asyncio.sleep(0)
        await hang_up([early])
    calls = [call() for _ in range(250)]
    await until(lambda: len(batcher._calls) == 251)
    await hang_up(calls)
    await until(lambda: asyncio.all_tasks() == before)
    assert (await cluster.replica.record_autoscaling_stats())["queued_tokens"] == 0
    assert len(batcher._calls) == 1
    cluster.device.gate.set()
    assert (await first).status_code == 200
    assert cluster.device.scored == 1


async def test_300_requests_out_of_time_never_reach_a_busy_model(cluster: Cluster) -> None:
    answers = await asyncio.gather(
        *(cluster.client.post("/v1/rewards", json={**BODY, "deadline_s": 0.2}) for _ in range(300))
    )
    assert {answer.status_code for answer in answers} == {504}
    assert cluster.replica._batcher.queued_tokens == 0
    cluster.device.gate.set()
    assert (await cluster.client.post("/v1/rewards", json=BODY)).status_code == 200
    assert cluster.device.scored <= 0.05 * 300


async def test_a_caller_who_leaves_before_the_end_of_the_body_asks_for_nothing() -> None:
    model = FakeModel("a")
    app = gateway(model).__serve_build_asgi_app__()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/rewards",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    received = [
        {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return received.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert model.calls == []
    assert sent == []
