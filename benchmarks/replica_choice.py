"""Which replica gets the next call: seconds in the queue by policy, on simulated replicas, no Ray.

    python -m benchmarks.replica_choice

Calls arrive at random (Poisson) with lengths of a heavy tail. A replica runs packs, first come,
first served; a call waits until its pack starts. Two routers choose. Each knows the replicas'
outstanding calls and tokens as they were up to `age_s` ago and what it sent itself since, or only
what is outstanding of its own calls. Where a call is one response to a prompt that others have, a
replica that keeps the prompt computes the rest alone. Every policy sees the same calls.
"""

import argparse
import heapq
import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
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

RESPONSES = 8
"""Calls with one prompt, where prompts come back."""
PROMPT_SHARE = 0.6
"""Of a call's tokens, the prompt's."""
RESPONSE_SPREAD_S = 2.0
"""A prompt's responses are ready so long after it on average (exponential)."""
CACHE_TOKENS = 65_536
"""Prefixes that a replica keeps."""


@dataclass(frozen=True, slots=True)
class Call:
    """Work that arrives."""

    at_s: float
    tokens: int
    router: int
    prompt: int
    """Which prompt it has."""
    prompt_tokens: int = 0


Choose = Callable[[random.Random, Sequence[int], Sequence[int], Call], int]
"""Known outstanding calls and tokens of each replica, and a call -> which one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a router chooses, and how old what it knows may be."""

    choose: Choose
    age_s: float = 0.0
    own: bool = False
    """Only the router's own calls are known, and those at once."""


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
    kept: OrderedDict[int, int] = field(default_factory=OrderedDict)
    """Prompts whose keys and values are here, the one used last at the end, and their tokens."""
    computed: int = 0

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
        while self.waiting and (not self.running or self._new_tokens(self.waiting[0]) <= room):
            call = self.waiting.popleft()
            self.running.append(call)
            room -= self._new_tokens(call)
            self._keep(call)
        self.computed += PACK_TOKENS - room
        return (PACK_TOKENS - room) / TOKENS_PER_S

    def _new_tokens(self, call: Call) -> int:
        return call.tokens - (call.prompt_tokens if call.prompt in self.kept else 0)

    def _keep(self, call: Call) -> None:
        if not call.prompt_tokens:
            return
        self.kept[call.prompt] = call.prompt_tokens
        self.kept.move_to_end(call.prompt)
        while sum(self.kept.values()) > CACHE_TOKENS:
            self.kept.popitem(last=False)


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


def anyone(rng: random.Random, calls: Sequence[int], _tokens: Sequence[int], _: Call) -> int:
    return rng.randrange(len(calls))


def fewer_calls_of_two(
    rng: random.Random, calls: Sequence[int], _tokens: Sequence[int], _: Call
) -> int:
    """Serve's own."""
    return min(rng.sample(range(len(calls)), 2), key=calls.__getitem__)


def fewer_tokens_of_two(
    rng: random.Random, _calls: Sequence[int], tokens: Sequence[int], _: Call
) -> int:
    return min(rng.sample(range(len(tokens)), 2), key=tokens.__getitem__)


def fewest_calls(rng: random.Random, calls: Sequence[int], _tokens: Sequence[int], _: Call) -> int:
    return _least(rng, calls)


def fewest_tokens(rng: random.Random, _calls: Sequence[int], tokens: Sequence[int], _: Call) -> int:
    return _least(rng, tokens)


def near_prompt(slack: int) -> Choose:
    """The prompt's own replica while it has at most `slack` tokens more than the least."""

    def choose(rng: random.Random, _calls: Sequence[int], tokens: Sequence[int], call: Call) -> int:
        own = random.Random(call.prompt).randrange(len(tokens))
        return own if tokens[own] <= min(tokens) + slack else _least(rng, tokens)

    return choose


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
    "the same, or the prompt's replica within a quarter pack": Policy(
        near_prompt(PACK_TOKENS // 4), own=True
    ),
    "the same, or the prompt's replica within half a pack": Policy(
        near_prompt(PACK_TOKENS // 2), own=True
    ),
    "the same, or the prompt's replica within a pack": Policy(near_prompt(PACK_TOKENS), own=True),
    "the prompt's replica, whatever is out": Policy(near_prompt(sys.maxsize), own=True),
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
    for prompt, size in enumerate(tokens):
        now += rng.expovariate(per_s)
        calls.append(Call(now, size, rng.randrange(ROUTERS), prompt))
    return calls


def arrivals_by_prompt(count: int, *, replicas: int, load: float, seed: int = SEED) -> list[Call]:
    """The same, one response a call and RESPONSES calls a prompt, as each response is ready."""
    rng = random.Random(seed)
    sizes = [_tokens(rng) for _ in range(count // RESPONSES)]
    per_s = load * replicas * TOKENS_PER_S / (RESPONSES * sum(sizes) / len(sizes))
    now, calls = 0.0, []
    for prompt, size in enumerate(sizes):
        now += rng.expovariate(per_s)
        shared = round(size * PROMPT_SHARE)
        for _ in range(RESPONSES):
            at_s = now + rng.expovariate(1 / RESPONSE_SPREAD_S)
            calls.append(Call(at_s, size, rng.randrange(ROUTERS), prompt, shared))
    return sorted(calls, key=lambda call: call.at_s)


def _tokens(rng: random.Random) -> int:
    drawn = MEDIAN * rng.lognormvariate(0, SPREAD)
    return round(min(max(drawn, SHORTEST), LONGEST))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one policy."""

    waits_s: list[float]
    """Seconds that each call waited until its pack started, sorted."""
    computed_share: float
    """Of all calls' tokens."""


def simulate(calls: Sequence[Call], policy: Policy, *, replicas: int, seed: int = SEED) -> Outcome:
    """Every call run on one of the replicas."""
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
        index = policy.choose(rng, view.calls, view.tokens, call)
        view.sent(index, call)
        cluster[index].accept(call)
        if not cluster[index].running:
            start(call.at_s, index)
    end_packs(float("inf"))
    computed = sum(replica.computed for replica in cluster)
    return Outcome(sorted(waited), computed / sum(call.tokens for call in calls))


def cases(count: int, replicas: int, load: float) -> dict[str, list[Call]]:
    """What may arrive."""
    return {
        "one conversation": arrivals(count, replicas=replicas, load=load),
        "1 to 64 conversations": arrivals(count, replicas=replicas, load=load, groups=GROUPS),
        f"one of {RESPONSES} responses to a prompt": arrivals_by_prompt(
            count, replicas=replicas, load=load
        ),
    }


def rows(count: int) -> list[dict[str, object]]:
    """Median and 99th percentile of the seconds waited, for every case and policy."""
    found = []
    for replicas, load in product(REPLICAS, LOADS):
        for name, calls in cases(count, replicas, load).items():
            for policy, chosen in POLICIES.items():
                outcome = simulate(calls, chosen, replicas=replicas)
                seconds = outcome.waits_s
                found.append(
                    {
                        "a call is": name,
                        "replicas": replicas,
                        "load": load,
                        "policy": policy,
                        "p50_s": seconds[len(seconds) // 2],
                        "p99_s": seconds[int(0.99 * len(seconds))],
                        "computed": outcome.computed_share,
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
