"""A bursty day in a minute: the autoscaling policy on a simulated cluster, without Ray.

    python -m benchmarks.autoscaling

Prints backlog and replicas over time. Replicas take `START_S` to load; Ray's delays are applied as
Ray applies them: a wish counts once it has been held for the whole delay.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import save, table
from rewardserve.serving.autoscaling import replicas_for
from rewardserve.settings import Replicas

START_S = 60.0
"""From a wish granted to a replica that scores."""
TICK_S = 1.0
BURSTS = [(0, 0.0), (60, 0.5), (300, 6.0), (600, 0.5), (900, 3.0), (1200, 0.0)]
"""Second -> device seconds of work that arrive each second from then on."""
LENGTH_S = 2400
PRINTED_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Moment:
    """The simulated cluster at one second."""

    at_s: float
    arriving: float
    backlog_s: float
    """Seconds of one device's work that wait."""
    replicas: int
    """Running ones."""
    target: int


def simulate(bounds: Replicas, bursts: Sequence[tuple[float, float]] = BURSTS) -> Iterator[Moment]:
    """The policy second by second, on work that arrives in bursts."""
    target = bounds.min
    ready_at = [0.0] * target
    backlog = now = 0.0
    wish_since: float | None = None
    while now < LENGTH_S:
        arriving = [rate for start, rate in bursts if start <= now][-1]
        running = sum(at <= now for at in ready_at)
        work = backlog + arriving * TICK_S
        done = min(work, running * TICK_S)
        backlog = work - done
        wanted = replicas_for(busy=done / TICK_S, backlog_s=backlog, ongoing=backlog + done)
        wanted = min(max(wanted, bounds.min), bounds.max)
        wish_since = None if wanted == target else (now if wish_since is None else wish_since)
        if wish_since is not None and now - wish_since >= _delay(bounds, wanted, target):
            step = max(wanted, 1) if wanted < target and target > 1 else wanted
            ready_at = sorted(ready_at)[:step] + [now + START_S] * (step - len(ready_at))
            target, wish_since = step, None
        yield Moment(now, arriving, backlog, running, target)
        now += TICK_S


def _delay(bounds: Replicas, wanted: int, target: int) -> float:
    if wanted > target:
        # Ray wakes a model that has no replica at once.
        return bounds.up_after_s if target else 0.0
    return bounds.zero_after_s if target == 1 else bounds.down_after_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line a minute, and keep them where `--results` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoscaling", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="the same: it takes no time")
    parser.add_argument("--results", type=Path, help="keep the figures in this folder")
    options = parser.parse_args(arguments)
    minutes = [
        asdict(moment)
        for moment in simulate(Replicas(min=0, max=12))
        if moment.at_s % PRINTED_EVERY_S == 0
    ]
    print(table(minutes))
    if options.results:
        print(f"kept in {save('autoscaling', {'rows': minutes}, folder=options.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
