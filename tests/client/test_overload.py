"""Ten thousand items through a server that is overloaded and dies twice on the way."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.client.conftest import conversation

from rewardserve_client import AsyncRewardClient, Conversation
from rewardserve_client._http import HttpAddress, HttpTransport
from rewardserve_client._settings import ClientSettings, Timeout
from rewardserve_client._types import RewardsRequest, RewardsResponse, as_conversations

SERVER = Path(__file__).with_name("scoring_server.py")
LIVES = [
    {"--capacity": 6, "--die-after": 60},
    {"--capacity": 2, "--die-after": 90},
    {"--capacity": 5},
]
"""What each server process can take, and after how many requests it dies."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Supervisor:
    """Starts the server, and starts it again whenever it has died, until it is stopped."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.deaths = 0
        self._stopping = False
        self._process = begin(port, LIVES[0], stdout=subprocess.PIPE)
        with self._process.stdout as output:  # type: ignore[union-attr] # it was asked for
            output.readline()  # it listens
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._process.kill()
        self._thread.join()

    def _watch(self) -> None:
        for life in LIVES[1:]:
            self._process.wait()
            if self._stopping:
                return
            self.deaths += 1
            self._process = begin(self.port, life)
        self._process.wait()


def begin(port: int, life: dict[str, int], stdout: int | None = None) -> subprocess.Popen[bytes]:
    options = [str(word) for option in life.items() for word in option]
    command = [sys.executable, str(SERVER), "--port", str(port), *options]
    return subprocess.Popen(command, stdout=stdout or subprocess.DEVNULL)


@contextmanager
def supervised() -> Iterator[Supervisor]:
    supervisor = Supervisor(free_port())
    try:
        yield supervisor
    finally:
        supervisor.stop()


@dataclass(frozen=True)
class CountingAddress:
    """An HTTP address that counts how often each item is sent."""

    address: HttpAddress
    attempts: Counter[str] = field(default_factory=Counter)

    def open(self) -> "CountingTransport":
        return CountingTransport(self)


class CountingTransport(HttpTransport):
    def __init__(self, counting: CountingAddress) -> None:
        super().__init__(counting.address)
        self._attempts = counting.attempts

    async def rewards(self, request: RewardsRequest) -> RewardsResponse:
        self._attempts.update(
            turns[-1]["content"] for item in request.inputs for turns in as_conversations(item)
        )
        return await super().rewards(request)


def items(start: int, stop: int) -> list[Conversation]:
    return [conversation(str(number)) for number in range(start, stop)]


@pytest.mark.timeout(120)
async def test_each_item_is_scored_exactly_once_with_at_most_three_attempts() -> None:
    with supervised() as supervisor:
        address = HttpAddress(f"http://127.0.0.1:{supervisor.port}")
        counting = CountingAddress(address)
        settings = ClientSettings(counting, Timeout(total=100))
        async with AsyncRewardClient.from_settings(settings) as client:
            await client.models()
            singles = asyncio.gather(*(client.score(item) for item in items(9_600, 10_000)))
            many = await client.score_many(items(0, 9_600))
            scores = [*many.scores, *(reward.score for reward in await singles)]
    assert scores == [float(number) for number in range(10_000)]
    assert supervisor.deaths == 2
    assert set(counting.attempts) == {str(number) for number in range(10_000)}
    assert max(counting.attempts.values()) <= 3
    assert sum(counting.attempts.values()) > 10_000, "nothing was ever refused or lost"
