"""Running ahead: bounded, in order, and cancelled when the reader leaves."""

from concurrent.futures import Future

from rewardserve_client._in_order import in_order


def test_jobs_are_started_ahead_and_read_in_order() -> None:
    started: list[int] = []

    def start(job: int) -> Future[int]:
        started.append(job)
        future: Future[int] = Future()
        future.set_result(job)
        return future

    read = []
    for future in in_order(range(10), start, ahead=3):
        read.append(future.result())
        assert len(started) <= len(read) + 2
    assert read == list(range(10))


def test_leaving_cancels_what_is_not_read_and_starts_nothing_more() -> None:
    futures: list[Future[int]] = [Future() for _ in range(10)]
    started: list[Future[int]] = []

    def start(job: int) -> Future[int]:
        started.append(futures[job])
        return futures[job]

    reading = in_order(range(10), start, ahead=3)
    next(reading)
    reading.close()
    assert [future.cancelled() for future in futures] == [True] * 3 + [False] * 7
    assert started == futures[:3]
