"""What serving costs: many one-sample callers against the same replica scoring offline.

    python -m benchmarks.serving             # minutes
    python -m benchmarks.serving --quick     # few callers and prompts, one run each
    python -m benchmarks.serving --tiny      # does it run at all?

One cluster on this machine serves a random-weight model and a deployment that does nothing. In
turns, so that a slow minute hits all: the replica scores every conversation in one call (offline),
then `callers` concurrent callers send one conversation at a time, by handle and by HTTP, and to
every peer's server by HTTP. One thread each for the model. Afterwards single calls: a no-op, the
model by handle, the same through the router. Clients share the cores with the servers, as they
would not in production: the replica's own CPU seconds say what one-sample calls cost the model, the
clock what this machine makes of it.
"""

import argparse
import asyncio
import random
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx2
import psutil
import ray
from ray import serve

from benchmarks import checkpoints, workloads
from benchmarks.measure import (
    ROOT,
    Sample,
    interleave,
    median_of,
    save,
    summary,
    table,
    timed,
    versions,
)
from benchmarks.peers.process import PeerFailed
from benchmarks.peers.servers import SERVERS, Server, started, versions_of
from benchmarks.workloads import Conversation
from rewardserve.serving.cluster_file import check_cluster
from rewardserve.serving.up import deploy

SIZE: Final = checkpoints.Size(384, 8, 6, 2, 1536, 32_000, 12_000)
"""Large enough that the forward, and not the request, is most of the work."""
THREADS: Final = 1
"""Of each peer's model; Ray gives a replica of less than two CPUs one."""
WARM_UP: Final = 4
"""Conversations that each way in scores before the clock counts."""
SINGLE_CALLS: Final = 200
MODEL: Final = "bench"
ROUTER: Final = "router"

OFFLINE: Final = "offline, one call"
OURS: Final = "rewardserve by HTTP"

Send = Callable[[int, Conversation], Awaitable[object]]
"""Sends one conversation, given its index too."""


class NoOp:
    """Answers at once."""

    async def score(self, items: object) -> object:
        return items


@dataclass(slots=True)
class Way:
    """A server's URL and protocol, and the scores of its last run."""

    url: str
    body: Callable[[Conversation], dict[str, Any]]
    score: Callable[[Any], float]
    forget: str | None = None
    scores: dict[int, float] = field(default_factory=dict)

    def run(self, conversations: Sequence[Conversation], callers: int) -> Sample:
        """Every conversation once, from so many callers."""
        if self.forget:
            httpx2.post(self.forget, timeout=60).raise_for_status()
        limits = httpx2.Limits(max_connections=callers)
        client = httpx2.AsyncClient(limits=limits, timeout=600)

        async def send(index: int, item: Conversation) -> None:
            answer = await client.post(self.url, json=self.body(item))
            self.scores[index] = self.score(answer.raise_for_status().json())

        return concurrent(conversations, callers, send)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and keep them where `--results` says."""
    options = _options(arguments)
    load = workloads.load("gsm8k_best_of_4", options.prompts, tiny=options.tiny)
    checkpoint = ROOT / "build" / "benchmarks" / f"serving-{'tiny' if options.tiny else 'small'}"
    size = checkpoints.TINY if options.tiny else SIZE
    checkpoints.write_checkpoint(checkpoint, "llama", size, workloads.texts([load]))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp")))
        url = stack.enter_context(cluster(folder, checkpoint))
        ways = {OURS: our_way(url)}
        peers, absent = peer_ways(stack, checkpoint)
        throughput = throughput_rows(load, ways | peers, options.callers, options.repeats)
        latency = latency_rows(load.conversations[0], url)
    print(table(throughput))
    print(table(latency))
    print(*(f"- {name}: {reason}" for name, reason in absent.items()), sep="\n")
    record: dict[str, object] = {
        "callers": options.callers,
        "conversations": len(load.conversations),
        "text": load.origin,
        "throughput": throughput,
        "latency": latency,
        "absent": absent,
        "versions": {"rewardserve": versions(["ray", "torch", "transformers", "rewardserve"])}
        | {
            server.peer.name: versions_of(server) for server in SERVERS if server.peer.name in peers
        },
    }
    if options.results:
        print(f"kept in {save('serving', record, folder=options.results)}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--callers", type=int)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true", help="8 callers, 8 prompts, one run each")
    parser.add_argument("--tiny", action="store_true", help="as quick, a tiny model besides")
    parser.add_argument("--results", type=Path, help="keep the figures in this folder")
    options = parser.parse_args(arguments)
    short = options.quick or options.tiny
    options.callers = options.callers or (8 if short else 64)
    options.prompts = options.prompts or (8 if short else 160)
    options.repeats = options.repeats or (1 if short else 3)
    return options


def our_way(url: str) -> Way:
    return Way(
        f"{url}/v1/rewards",
        body=lambda conversation: {"model": MODEL, "inputs": [{"messages": conversation}]},
        score=lambda answer: float(answer["data"][0]["rewards"][0]["score"]),
    )


def peer_ways(stack: ExitStack, checkpoint: Path) -> tuple[dict[str, Way], dict[str, str]]:
    """The servers that are installed and start, and why the others do not take part."""
    ways, absent = {}, {}
    for server in SERVERS:
        name = server.peer.name
        if reason := server.peer.missing():
            absent[name] = reason
            continue
        try:
            url = stack.enter_context(started(server, checkpoint, free_port(), THREADS))
        except PeerFailed as failure:
            absent[name] = f"failed to start: {failure.reason}"
        else:
            ways[name] = _way(server, url)
    return ways, absent


def _way(server: Server, url: str) -> Way:
    forget = f"{url}{server.forget}" if server.forget else None
    return Way(f"{url}{server.path}", server.body, server.score, forget)


@contextmanager
def cluster(folder: Path, checkpoint: Path) -> Iterator[str]:
    """A served model, the router and the no-op on a Ray of their own; gives the URL."""
    port = free_port()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder / "ray"),
    )
    try:
        deploy(check_cluster(applications(checkpoint, port)), print)
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
    load: workloads.Workload, ways: dict[str, Way], callers: int, repeats: int
) -> list[dict[str, object]]:
    """Tokens a second of each way in, and its share of the offline rate."""
    shuffled = load.conversations.copy()
    random.Random(0).shuffle(shuffled)
    model = handle("RewardModel", MODEL)
    gateway = handle("Gateway", ROUTER)
    answer = offline(model, shuffled)
    for way in ways.values():
        way.run(shuffled[:WARM_UP], callers)
    replica = process_of(f"ray::ServeReplica:{MODEL}:")
    own: dict[str, Callable[[], Sample]] = {
        OFFLINE: lambda: timed(lambda: offline(model, shuffled))[1],
        "rewardserve by handle": lambda: concurrent(
            shuffled, callers, lambda _, item: gateway.score.remote(MODEL, [item])
        ),
        OURS: partial(ways[OURS].run, shuffled, callers),
    }
    peers = {
        name: partial(way.run, shuffled, callers) for name, way in ways.items() if name != OURS
    }
    samples = interleave(
        {name: partial(afresh, model, replica, run) for name, run in own.items()} | peers,
        repeats=repeats,
    )
    best = median_of(samples[OFFLINE])
    least = median_of(samples[OFFLINE], "cpu_s")
    tokens = sum(reward.tokens for reward in answer.rewards)
    expected = [reward.score for reward in answer.rewards]
    return [
        {
            "way in": name,
            "callers": 1 if name == OFFLINE else callers,
            "tokens/s": tokens / median_of(runs),
            "requests/s": len(shuffled) / median_of(runs),
            "of offline": best / median_of(runs),
            "in the replica's CPU": least / median_of(runs, "cpu_s") if name in own else None,
            "max difference": _difference(ways[name].scores, expected) if name in ways else None,
            **summary(runs),
        }
        for name, runs in samples.items()
    ]


def _difference(scores: dict[int, float], expected: Sequence[float]) -> float:
    return max(abs(scores[index] - score) for index, score in enumerate(expected))


def afresh(model: Any, replica: psutil.Process, run: Callable[[], Sample]) -> Sample:
    """A run for which our replica remembers nothing of the runs before; CPU seconds are its own."""
    model.forget_prefixes.remote().result()
    before = sum(replica.cpu_times()[:2])
    sample = run()
    return Sample(sample.wall_s, sum(replica.cpu_times()[:2]) - before)


def process_of(title: str) -> psutil.Process:
    """The one process under this one whose title begins so."""
    (found,) = [
        process
        for process in psutil.Process().children(recursive=True)
        if "".join(process.cmdline()).startswith(title)
    ]
    return found


def offline(model: Any, conversations: list[Conversation]) -> Any:
    return model.score.remote(conversations, False, "bulk", 3600.0, False).result()


def concurrent(conversations: Sequence[Conversation], callers: int, send: Send) -> Sample:
    """Every conversation once, by callers who each send the next when theirs is answered."""

    async def call(waiting: Iterator[tuple[int, Conversation]]) -> None:
        for index, item in waiting:
            await send(index, item)

    async def everybody() -> None:
        waiting = iter(enumerate(conversations))
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
    sys.exit(main())
