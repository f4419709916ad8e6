"""A private event loop in a thread, for callers that do not await.

It starts at first use, so that clients can be pickled and forked: a child process gets its own.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Running:
    loop: asyncio.AbstractEventLoop
    end: asyncio.Event
    thread: threading.Thread
    pid: int

    def stop(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.end.set)


class BackgroundLoop:
    """Runs coroutines for threads that wait; safe to use from several threads."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._running: _Running | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts `work`; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._here().loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; an interrupt of the waiting thread cancels it."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ends the thread after `farewell`, if one runs; a later call starts a new one."""
        running = self._running
        if running is None or running.pid != os.getpid():
            return
        self.run(farewell())
        self._running = None
        running.stop()
        running.thread.join()

    def _here(self) -> _Running:
        """The loop of this process."""
        with self._starting:
            if self._running is None or self._running.pid != os.getpid():
                self._running = _begin()
                weakref.finalize(self, self._running.stop)
            return self._running


def _begin() -> _Running:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def until_stopped() -> None:
        end = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), end))
        await end.wait()

    def serve() -> None:
        asyncio.run(until_stopped())  # cancels what is still under way when it ends

    thread = threading.Thread(target=serve, name="rewardserve-client", daemon=True)
    thread.start()
    return _Running(*started.result(), thread, os.getpid())
