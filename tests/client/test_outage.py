"""Outages: a server that went away is asked for, once at a time, until it is back."""

import asyncio

import pytest

from rewardserve_client import _outage
from rewardserve_client._outage import Outage


class Server:
    """Dead for the first `dead` probes."""

    def __init__(self, dead: int) -> None:
        self.dead = dead
        self.probes = 0

    async def alive(self) -> bool:
        self.probes += 1
        await asyncio.sleep(0)
        return self.probes > self.dead


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outage, "_PROBE_EVERY_S", 0.0)


async def test_a_server_that_never_answered_is_not_waited_for() -> None:
    server = Server(dead=10**9)
    outage = Outage(server.alive)
    outage.noticed(failed=True)
    await asyncio.wait_for(outage.over(), timeout=5)
    assert server.probes == 0


async def test_a_server_that_answered_before_is_waited_for_by_one_caller_for_all() -> None:
    server = Server(dead=3)
    outage = Outage(server.alive)
    outage.noticed(failed=False)
    outage.noticed(failed=True)
    await asyncio.gather(*(outage.over() for _ in range(20)))
    assert server.probes == 4


async def test_a_caller_that_gives_up_leaves_the_asking_to_the_next() -> None:
    server = Server(dead=20)
    outage = Outage(server.alive)
    outage.noticed(failed=False)
    outage.noticed(failed=True)
    first = asyncio.create_task(outage.over())
    await asyncio.sleep(0)
    second = asyncio.create_task(outage.over())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, timeout=5)
    assert server.probes == 21


async def test_after_an_outage_nobody_waits() -> None:
    server = Server(dead=0)
    outage = Outage(server.alive)
    outage.noticed(failed=False)
    outage.noticed(failed=True)
    await outage.over()
    await outage.over()
    assert server.probes == 1
