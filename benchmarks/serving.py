"""What serving costs: many one-sample callers against the same replica scoring offline.

    python -m benchmarks.serving [--callers 64] [--prompts 48] [--repeats 3]

One cluster on this machine serves a random-weight model and a deployment that does nothing. In
turns, so that a slow minute hits all: the replica scores every conversation in one call (offline),
then `callers` concurrent callers send one conversation at a time, by handle and by HTTP.
Afterwards single calls: a no-op, the model by handle, the same through the router. Clients share
the cores with the cluster, as they would not in production.
"""

import argparse
import asyncio
import random
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx2
import ray
from ray import serve

from benchmarks import checkpoints, workloads
from benchmarks.measure import Sample, interleave, median_of, save, table, timed, versions
from rewardserve.serving.cluster_file import check_cluster
from rewardserve.serving.up import deploy
from rewardserve_client import Conversation

SIZE: Final = checkpoints.Size(384, 8, 6, 2, 1536, 32_000, 12_000)
"""Large enough that the forward, and not the request, is most of the work."""
SINGLE_CALLS: Final = 200
MODEL: Final = "bench"
ROUTER: Final = "router"

Score = Callable[[Conversation], Awaitable[object]]


class NoOp:
    """Answers at once."""

    async def score(self, items: object) -> object:
        return items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    load = workloads.load("gsm8k_best_of_4", options.prompts)
    with (
        tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as folder,
        cluster(Path(folder), load) as url,
    ):
        throughput = throughput_rows(load, url, options.callers, options.repeats)
        latency = latency_rows(load.conversations[0], url)
    print(table(throughput))
    print(table(latency))
    record = {"callers": options.callers, "conversations": len(load.conversations)}
    packages = versions(["ray", "torch", "transformers", "rewardserve"])
    save("serving", record | {"throughput": throughput, "latency": latency, "versions": packages})


@contextmanager
def cluster(folder: Path, load: workloads.Workload) -> Iterator[str]:
    """A served model, the router and the no-op on a Ray of their own; gives the URL."""
    checkpoints.write_checkpoint(folder / "model", "llama", SIZE, workloads.texts([load]))
    port = free_port()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder / "ray"),
    )
    try:
        deploy(check_cluster(applications(folder / "model", port)), print)
        noop = serve.deployment(name="NoOp", max_ongoing_requests=1000)(NoOp).bind()
        serve.run(noop, name="noop", route_prefix=None)
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def applications(model: Path, port: int) -> dict[str, Any]:
    shared = {"cpus": 0.5}
    return {
        "http_options": {"port": port},
        "applications": [
            {
                "name": MODEL,
                "route_prefix": None,
                "import_path": "rewardserve.app:model",
                "args": {"source": str(model), **shared},
            },
            {
                "name": ROUTER,
                "import_path": "rewardserve.app:router",
                "args": {"models": [MODEL], "replicas": 1, **shared},
            },
        ],
    }


def throughput_rows(
    load: workloads.Workload, url: str, callers: int, repeats: int
) -> list[dict[str, object]]:
    """Tokens a second of each way in, and its share of the offline rate."""
    shuffled = load.conversations.copy()
    random.Random(0).shuffle(shuffled)
    model = handle("RewardModel", MODEL)
    gateway = handle("Gateway", ROUTER)
    tokens = sum(reward.tokens for reward in offline(model, shuffled).rewards)
    samples = interleave(
        {
            "offline, one call": lambda: timed(lambda: offline(model, shuffled))[1],
            f"{callers} callers by handle": lambda: concurrent(
                shuffled, callers, lambda item: gateway.score.remote(MODEL, [item])
            ),
            f"{callers} callers by HTTP": lambda: over_http(shuffled, callers, url),
        },
        repeats=repeats,
    )
    best = median_of(samples["offline, one call"])
    return [
        {
            "way in": name,
            "runs": len(runs),
            "tokens/s": tokens / median_of(runs),
            "requests/s": len(shuffled) / median_of(runs),
            "of offline": best / median_of(runs),
        }
        for name, runs in samples.items()
    ]


def offline(model: Any, conversations: list[Conversation]) -> Any:
    return model.score.remote(conversations, False, "bulk", 3600.0, False).result()


def over_http(conversations: list[Conversation], callers: int, url: str) -> Sample:
    limits = httpx2.Limits(max_connections=callers)
    client = httpx2.AsyncClient(base_url=url, limits=limits, timeout=600)

    async def score(item: Conversation) -> None:
        body = {"model": MODEL, "inputs": [{"messages": item}]}
        (await client.post("/v1/rewards", json=body)).raise_for_status()

    return concurrent(conversations, callers, score)


def concurrent(conversations: list[Conversation], callers: int, score: Score) -> Sample:
    """Every conversation once, by callers who each send the next when theirs is answered."""

    async def call(waiting: Iterator[Conversation]) -> None:
        for item in waiting:
            await score(item)

    async def everybody() -> None:
        waiting = iter(conversations)
        await asyncio.gather(*(call(waiting) for _ in range(callers)))

    return timed(lambda: asyncio.run(everybody()))[1]


def latency_rows(conversation: Conversation, url: str) -> list[dict[str, object]]:
    """Milliseconds of single calls, one after the other."""
    noop, model = handle("NoOp", "noop"), handle("RewardModel", MODEL)
    gateway = handle("Gateway", ROUTER)
    client = httpx2.Client(base_url=url, timeout=60)
    body = {"model": MODEL, "inputs": [{"messages": conversation}]}
    ways: dict[str, Callable[[], object]] = {
        "no-op by handle": lambda: noop.score.remote([conversation]).result(),
        "model by handle": lambda: offline(model, [conversation]),
        "router by handle": lambda: gateway.score.remote(MODEL, [conversation]).result(),
        "router by HTTP": lambda: client.post("/v1/rewards", json=body).raise_for_status(),
    }
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(SINGLE_CALLS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(1000 * (time.perf_counter() - began))
    return [
        {"call": name, "median ms": median(took), "99% ms": sorted(took)[int(0.99 * len(took))]}
        for name, took in times.items()
    ]


def handle(deployment: str, application: str) -> Any:
    found = serve.get_deployment_handle(deployment, app_name=application)
    return found.options(_by_reference=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
