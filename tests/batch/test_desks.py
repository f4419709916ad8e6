"""Desks of an actor: so many units at once, one alone on demand, one scored at a time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread
from typing import Any

import pytest
import ray

from rewardserve.batch.crashes import CrashCounter, guarded
from rewardserve.batch.desks import Desks
from rewardserve.batch.unit_scoring import InTurn
from rewardserve.errors import ModelFailed

SECONDS = 10
"""No step here takes milliseconds; a test that would wait for ever fails by then."""


def test_each_desk_is_one_threads_and_two_threads_work_at_once() -> None:
    desks, both = Desks(["left", "right"]), Barrier(2)

    def work(_: int) -> str:
        with desks.taken(alone=False) as desk:
            both.wait(SECONDS)
            return desk

    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(work, range(2))) == {"left", "right"}


def test_who_must_be_alone_waits_for_the_others_and_lets_nobody_in() -> None:
    desks, seen = Desks([1, 2]), []
    entered, leave = Event(), Event()

    def alone() -> None:
        with desks.taken(alone=True):
            seen.append("alone enters")
            entered.set()
            leave.wait(SECONDS)
            seen.append("alone leaves")

    def later() -> None:
        with desks.taken(alone=False):
            seen.append("later")

    with desks.taken(alone=False):
        first = Thread(target=alone)
        first.start()
        assert not entered.wait(0.05)
        seen.append("earlier leaves")
    assert entered.wait(SECONDS)
    second = Thread(target=later)
    second.start()
    leave.set()
    first.join(SECONDS)
    second.join(SECONDS)
    assert seen == ["earlier leaves", "alone enters", "alone leaves", "later"]


def test_many_that_want_all_desks_never_wait_for_each_other() -> None:
    desks = Desks([1, 2, 3])

    def work(index: int) -> int:
        with desks.taken(alone=index % 2 == 0):
            return index

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(200), timeout=SECONDS)) == list(range(200))


def test_a_desk_is_free_again_after_an_error() -> None:
    desks = Desks([1])
    with pytest.raises(ValueError, match="broken"), desks.taken(alone=False):
        raise ValueError("broken")
    with desks.taken(alone=True) as desk:
        assert desk == 1


class CountingScorer:
    """Notes how many score at once, and cannot end a batch before something else is encoded."""

    def __init__(self) -> None:
        self.encoded = Event()
        self.scoring = self.most = 0

    def encode(self, item: Any, *, truncate: bool = False) -> Any:
        self.encoded.set()
        return item, truncate

    def score_encoded(self, batch: Sequence[Any]) -> Any:
        self.scoring += 1
        self.most = max(self.most, self.scoring)
        assert self.encoded.wait(SECONDS)
        self.scoring -= 1
        return batch


def test_one_batch_is_scored_at_a_time_while_others_are_encoded() -> None:
    inner = CountingScorer()
    scorer = InTurn(inner)  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as threads:
        batches = [threads.submit(scorer.score_encoded, [index]) for index in range(3)]  # type: ignore[list-item]
        threads.submit(scorer.encode, []).result(SECONDS)
        assert [each.result(SECONDS) for each in batches] == [[0], [1], [2]]
    assert inner.most == 1


@pytest.fixture
def crash_counter(ray_cluster: Any) -> Any:
    return CrashCounter.remote()  # type: ignore[attr-defined]


def test_a_unit_whose_worker_died_is_alone_from_then_on_and_given_up_in_the_end(
    crash_counter: Any,
) -> None:
    desks = Desks([1, 2])

    def free_beside(unit: str) -> int:
        with guarded(crash_counter, unit, desks):
            return desks._free.qsize()

    assert free_beside("fresh") == 1
    ray.get(crash_counter.begin.remote("suspect"))  # and its worker is gone
    assert free_beside("suspect") == 0
    assert free_beside("suspect") == 1  # it ended well: the crash was not its doing
    for _ in range(4):
        ray.get(crash_counter.begin.remote("deadly"))
    with pytest.raises(ModelFailed, match="it ended 4 workers"):
        free_beside("deadly")
