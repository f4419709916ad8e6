"""Running ahead of a reader by a bounded number of jobs, and reading them in order: pure."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar


class Cancellable(Protocol):
    """A started job: a future of asyncio or of threads."""

    def cancel(self) -> Any: ...


Job = TypeVar("Job")
Started = TypeVar("Started", bound=Cancellable)


def in_order(
    jobs: Iterable[Job], start: Callable[[Job], Started], ahead: int
) -> Generator[Started]:
    """Gives back the started jobs in the jobs' order, at most `ahead` of them unread.

    Closing the iterator cancels those not read, the one being read included.
    """
    running: deque[Started] = deque()
    try:
        for job in jobs:
            running.append(start(job))
            if len(running) == ahead:
                yield running[0]
                running.popleft()  # only now: the one being read is cancelled too
        while running:
            yield running[0]
            running.popleft()
    finally:
        for started in running:
            started.cancel()
