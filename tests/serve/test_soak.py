"""Ten minutes of good, bad, late and vanishing callers leave nothing behind."""

import asyncio
import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx2
import psutil
import pytest
import ray
from tests.serve.conftest import MODELS, Served
from tests.serve.fakes import conversation

from rewardserve.serving.model_states import running_model

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]

SOAK_S = 600.0
WARM_UP_REQUESTS = 4000
"""At once, before anything is measured: what oneDNN compiles for each size of a product takes some
hundred MB until its cache is full."""
PER_SECOND = 5.0
GROWTH_BYTES = {"RewardModel": 192 * 2**20, "Gateway": 32 * 2**20, "ProxyActor": 32 * 2**20}
"""That a process may grow by after the warm-up, in 3,000 requests. oneDNN's cache moves a model's
by 150 MB either way as the sizes of packs change; one Scorer alone stands still after 4,000."""


@dataclass(frozen=True)
class Kind:
    """One kind of caller, and what it may be answered with."""

    path: str
    body: Any
    statuses: frozenset[int]
    hangs_up_after_s: float | None = None


def one_of(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


def kinds(rng: random.Random) -> list[Kind]:
    """One of each, with new text."""
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(5, 60)))
    good: dict[str, Any] = {"inputs": [{"prompt": text, "responses": ["Yes.", text, text[:20]]}]}
    late = {**good, "deadline_s": 0.001 * rng.randrange(1, 40)}
    hang_up = rng.uniform(0.001, 0.05)
    return [
        Kind("/v1/rewards", good, one_of(200)),
        Kind("/v1/rewards", {**good, "model": "armorm", "priority": "bulk"}, one_of(200)),
        Kind("/v1/rewards", {**good, "model": "cascade"}, one_of(200)),
        Kind("/get_reward?model=skywork-llama-8b", {"query": [text]}, one_of(200)),
        Kind("/rerank", {"query": text, "texts": [text, "No."]}, one_of(200)),
        Kind("/v1/rewards", late, one_of(200, 504)),
        Kind("/v1/rewards", good, one_of(200), hang_up),
        Kind("/v1/rewards", {**good, "model": "nobody"}, one_of(404)),
        Kind("/v1/rewards", {"inputs": [{"messages": conversation()[:1]}]}, one_of(422)),
        Kind("/v1/rewards", {"inputs": [{"messages": conversation("word " * 2000)}]}, one_of(422)),
        Kind("/classify", {"input": []}, one_of(400)),
        Kind("/v1/rewards", "\x00" * 100, one_of(422)),
    ]


WORDS = "reward model prompt answer seven river 42 because never of and the".split()  # noqa: SIM905


def servers() -> dict[int, psutil.Process]:
    """The processes that requests pass through, of this session's own Ray."""
    mine = psutil.Process().children(recursive=True)
    return {p.pid: p for p in mine if any(name in "".join(p.cmdline()) for name in GROWTH_BYTES)}


async def answer_of(client: httpx2.AsyncClient, kind: Kind) -> int | None:
    """The status, or None for a caller who left."""
    timeout = kind.hangs_up_after_s or 60.0
    try:
        return (await client.post(kind.path, json=kind.body, timeout=timeout)).status_code
    except httpx2.TimeoutException:
        assert kind.hangs_up_after_s, kind.path
        return None


async def test_ten_minutes_of_everybody_leave_nothing_behind(served: Served) -> None:
    rng = random.Random(1)
    processes = servers()
    seen: Counter[tuple[str, int | None]] = Counter()
    unexpected: Counter[tuple[str, int | None]] = Counter()
    tasks: set[asyncio.Task[None]] = set()

    async def ask(kind: Kind) -> None:
        status = await answer_of(client, kind)
        seen[kind.path, status] += 1
        if status is not None and status not in kind.statuses:
            unexpected[kind.path, status] += 1

    async with httpx2.AsyncClient(base_url=served.url) as client:
        await warm_up(client, rng)
        warm = {pid: process.memory_info().rss for pid, process in processes.items()}
        began = time.monotonic()
        for place in cycle(range(len(kinds(rng)))):
            elapsed = time.monotonic() - began
            if elapsed > SOAK_S:
                break
            task = asyncio.create_task(ask(kinds(rng)[place]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / PER_SECOND)
        await asyncio.gather(*tasks)
    assert not unexpected
    assert servers().keys() == processes.keys()
    for pid, process in processes.items():
        (limit,) = [most for name, most in GROWTH_BYTES.items() if name in process.cmdline()[0]]
        assert process.memory_info().rss - warm[pid] < limit, process
    await nothing_is_left()


async def warm_up(client: httpx2.AsyncClient, rng: random.Random) -> None:
    requests = iter(range(WARM_UP_REQUESTS))

    async def some() -> None:
        for _ in requests:
            await answer_of(client, kinds(rng)[0])

    await asyncio.gather(*(some() for _ in range(8)))


async def nothing_is_left() -> None:
    for name in MODELS:
        stats = await running_model(name).record_autoscaling_stats.remote()
        assert stats["queued_tokens"] == stats["backlog_s"] == 0
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    pattern = r"^ray_serve_replica_processing_queries\{.*\} ([\d.]+)$"
    async with asyncio.timeout(60), httpx2.AsyncClient() as client:
        while any(  # noqa: ASYNC110, gauges are reported every few seconds
            map(float, re.findall(pattern, (await client.get(url)).text, re.MULTILINE))
        ):
            await asyncio.sleep(2)
