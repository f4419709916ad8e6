"""Counts units that took their worker down, so that such a unit is given up and not tried for ever.

Ray starts a unit again when its worker dies, as it should when a node goes; a unit that kills every
worker would never end. The count lives in an actor of the run, since the workers do not survive.
A unit that was in a worker that died may be innocent: from then on nothing else is open beside it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import ray

from rewardserve.batch.desks import Desk, Desks
from rewardserve.errors import ModelFailed

MOST_CRASHES: Final = 4
"""Workers that one unit may cost; a node that goes takes one at most."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class CrashCounter:
    """Which units were begun and not ended."""

    def __init__(self) -> None:
        self._open: Counter[Any] = Counter()

    def crashes(self, unit: Any) -> int:
        """How often the unit was begun and never ended."""
        return self._open[unit]

    def begin(self, unit: Any) -> None:
        """The unit's work starts."""
        self._open[unit] += 1

    def end(self, unit: Any) -> None:
        """The unit was finished, or failed with an error that its worker survived."""
        del self._open[unit]


@contextmanager
def guarded(counter: Any, unit: Any, desks: Desks[Desk]) -> Iterator[Desk]:
    """A desk for the unit, which counts as open inside the block.

    Raises ModelFailed for a unit that crashed too often. Without a counter (in one's own process)
    nothing is counted.
    """
    if counter is None:
        with desks.taken(alone=False) as desk:
            yield desk
        return
    crashes = ray.get(counter.crashes.remote(unit))
    if crashes >= MOST_CRASHES:
        raise ModelFailed(f"it ended {crashes} workers, as a crash or lack of memory does")
    with desks.taken(alone=crashes > 0) as desk:
        ray.get(counter.begin.remote(unit))
        try:
            yield desk
        finally:
            counter.end.remote(unit)
