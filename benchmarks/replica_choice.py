"""Which replica gets the next call: seconds in the queue by policy, on simulated replicas, no Ray.

    python -m benchmarks.replica_choice

Calls arrive at random (Poisson) with lengths of a heavy tail. A replica runs packs, first come,
first served; a call waits until its pack starts. Two routers choose. Each knows the replicas'
outstanding calls and tokens as they were up to `age_s` ago and what it sent itself since, or only
what is outstanding of its own calls. Every policy sees the same calls.
"""

import argparse
import heapq
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import save, table

TOKENS_PER_S = 20_000.0
"""Of one replica."""
PACK_TOKENS = 4096
SHORTEST, MEDIAN, LONGEST, SPREAD = 64, 500, 8192, 1.2
"""Tokens of one conversation: lognormal, cut off at both ends."""
GROUPS = (1, 1, 1, 1, 1, 1, 1, 4, 16, 64)
"""Conversations in one call, where groups come, too: each as likely as the others."""
ROUTERS = 2
REPLICAS = (2, 4, 8)
LOADS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Part of all replicas' tokens a second that arrives."""
CALLS, QUICK_CALLS = 60_000, 2_000
SEED = 7

Choose = Callable[[random.Random, Sequence[int], Sequence[int]], int]
"""Known outstanding calls and tokens of each replica -> which one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a router chooses, and how old what it knows may be."""

    choose: Choose
    age_s: float = 0.0
    own: bool = False
    """Only the router's own calls are known, and those at once."""


@dataclass(frozen=True, slots=True)
class Call:
    """Work that arrives."""

    at_s: float
    tokens: int
    router: int


def none_yet() -> list[int]:
    return [0] * ROUTERS


@dataclass(slots=True)
class Replica:
    """One device and its queue."""

    waiting: deque[Call] = field(default_factory=deque)
    running: list[Call] = field(default_factory=list)
    calls: list[int] = field(default_factory=none_yet)
    """Waiting or running, of each router."""
    tokens: list[int] = field(default_factory=none_yet)

    def accept(self, call: Call) -> None:
        self.waiting.append(call)
        self.calls[call.router] += 1
        self.tokens[call.router] += call.tokens

    def finish(self) -> None:
        for call in self.running:
            self.calls[call.router] -= 1
            self.tokens[call.router] -= call.tokens
        self.running = []

    def start(self) -> float:
        """Seconds that the next pack takes, which runs then; a call that is longer runs alone."""
        room = PACK_TOKENS
        while self.waiting and (not self.running or self.waiting[0].tokens <= room):
            self.running.append(self.waiting.popleft())
            room -= self.running[-1].tokens
        return sum(call.tokens for call in self.running) / TOKENS_PER_S


class View:
    """What one router knows of the replicas."""

    def __init__(self, replicas: Sequence[Replica], policy: Policy, router: int) -> None:
        self._replicas = replicas
        self._policy = policy
        self._router = router
        self._read_at = float("-inf")
        self.calls: list[int] = []
        self.tokens: list[int] = []

    def refresh(self, now: float) -> None:
        if self._policy.own:
            self.calls = [replica.calls[self._router] for replica in self._replicas]
            self.tokens = [replica.tokens[self._router] for replica in self._replicas]
        elif now - self._read_at >= self._policy.age_s:
            self._read_at = now
            self.calls = [sum(replica.calls) for replica in self._replicas]
            self.tokens = [sum(replica.tokens) for replica in self._replicas]

    def sent(self, index: int, call: Call) -> None:
        self.calls[index] += 1
        self.tokens[index] += call.tokens


def anyone(rng: random.Random, calls: Sequence[int], _tokens: Sequence[int]) -> int:
    return rng.randrange(len(calls))


def fewer_calls_of_two(rng: random.Random, calls: Sequence[int], _tokens: Sequence[int]) -> int:
    """Serve's own."""
    return min(rng.sample(range(len(calls)), 2), key=calls.__getitem__)


def fewer_tokens_of_two(rng: random.Random, _calls: Sequence[int], tokens: Sequence[int]) -> int:
    return min(rng.sample(range(len(tokens)), 2), key=tokens.__getitem__)


def fewest_calls(rng: random.Random, calls: Sequence[int], _tokens: Sequence[int]) -> int:
    return _least(rng, calls)


def fewest_tokens(rng: random.Random, _calls: Sequence[int], tokens: Sequence[int]) -> int:
    return _least(rng, tokens)


def _least(rng: random.Random, counts: Sequence[int]) -> int:
    least = min(counts)
    return rng.choice([index for index, count in enumerate(counts) if count == least])


POLICIES = {
    "random": Policy(anyone),
    "Serve: fewer calls of two": Policy(fewer_calls_of_two),
    "fewest calls": Policy(fewest_calls),
    "fewer tokens of two": Policy(fewer_tokens_of_two),
    "fewer tokens of two, 100 ms old": Policy(fewer_tokens_of_two, 0.1),
    "fewer tokens of two, 2 s old": Policy(fewer_tokens_of_two, 2.0),
    "fewest tokens": Policy(fewest_tokens),
    "fewest of the router's own tokens": Policy(fewest_tokens, own=True),
    "fewest tokens, 100 ms old": Policy(fewest_tokens, 0.1),
    "fewest tokens, 2 s old": Policy(fewest_tokens, 2.0),
}


def arrivals(
    count: int, *, replicas: int, load: float, groups: Sequence[int] = (1,), seed: int = SEED
) -> list[Call]:
    """Calls whose tokens come to `load` of what the replicas compute."""
    rng = random.Random(seed)
    tokens = [sum(_tokens(rng) for _ in range(rng.choice(groups))) for _ in range(count)]
    per_s = load * replicas * TOKENS_PER_S * count / sum(tokens)
    now, calls = 0.0, []
    for size in tokens:
        now += rng.expovariate(per_s)
        calls.append(Call(now, size, rng.randrange(ROUTERS)))
    return calls


def _tokens(rng: random.Random) -> int:
    drawn = MEDIAN * rng.lognormvariate(0, SPREAD)
    return round(min(max(drawn, SHORTEST), LONGEST))


def waits(calls: Sequence[Call], policy: Policy, *, replicas: int, seed: int = SEED) -> list[float]:
    """Seconds that each call waited until its pack started, sorted."""
    rng = random.Random(seed)
    cluster = [Replica() for _ in range(replicas)]
    views = [View(cluster, policy, router) for router in range(ROUTERS)]
    ends: list[tuple[float, int]] = []
    waited: list[float] = []

    def start(now: float, index: int) -> None:
        replica = cluster[index]
        heapq.heappush(ends, (now + replica.start(), index))
        waited.extend(now - call.at_s for call in replica.running)

    def end_packs(until: float) -> None:
        while ends and ends[0][0] <= until:
            now, index = heapq.heappop(ends)
            cluster[index].finish()
            if cluster[index].waiting:
                start(now, index)

    for call in calls:
        end_packs(call.at_s)
        view = views[call.router]
        view.refresh(call.at_s)
        index = policy.choose(rng, view.calls, view.tokens)
        view.sent(index, call)
        cluster[index].accept(call)
        if not cluster[index].running:
            start(call.at_s, index)
    end_packs(float("inf"))
    return sorted(waited)


def rows(count: int) -> list[dict[str, object]]:
    """Median and 99th percentile of the seconds waited, for every case and policy."""
    found = []
    for name, groups in (("one conversation", (1,)), ("1 to 64 conversations", GROUPS)):
        for replicas in REPLICAS:
            for load in LOADS:
                calls = arrivals(count, replicas=replicas, load=load, groups=groups)
                for policy, chosen in POLICIES.items():
                    seconds = waits(calls, chosen, replicas=replicas)
                    found.append(
                        {
                            "a call is": name,
                            "replicas": replicas,
                            "load": load,
                            "policy": policy,
                            "p50_s": seconds[len(seconds) // 2],
                            "p99_s": seconds[int(0.99 * len(seconds))],
                        }
                    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, and keep it where `--results` says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replica_choice", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="few calls")
    parser.add_argument("--results", type=Path, help="keep the figures in this folder")
    options = parser.parse_args(arguments)
    found = rows(QUICK_CALLS if options.quick else CALLS)
    print(table(found))
    if options.results:
        print(f"kept in {save('replica-choice', {'rows': found}, folder=options.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
