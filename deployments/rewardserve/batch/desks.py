"""Where an actor works on units: the next one is read, or the last one written, while one is
scored; and a unit that may have ended a worker before is alone.

Knows threads, and nothing of what is done at a desk.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock
from typing import Generic, TypeVar

Desk = TypeVar("Desk")


class Desks(Generic[Desk]):
    """Hands out each desk to one thread at a time."""

    def __init__(self, desks: Sequence[Desk]) -> None:
        self._count = len(desks)
        self._free: SimpleQueue[Desk] = SimpleQueue()
        for desk in desks:
            self._free.put(desk)
        # Two threads that each want all desks would wait for each other's.
        self._door = Lock()

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[Desk]:
        """One desk, as soon as it is free; with `alone`, while all others are empty."""
        with self._door:
            mine = [self._free.get() for _ in range(self._count if alone else 1)]
        try:
            yield mine[0]
        finally:
            for desk in mine:
                self._free.put(desk)
